"""The linear baselines of the paper's section 4.1 as scikit-learn pipelines."""

from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, r_regression
from sklearn.linear_model import LinearRegression
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline

__all__ = ["make_pca_baseline", "make_single_component_baseline"]


def make_pca_baseline(n_components: int = 64) -> Pipeline:
    """Make a linear regression on all principal components of the stamps.

    X must have flat stamps (n_samples, n_pixels); y has one or more targets.

    Parameters
    ----------
    n_components : int, default=64
        Number of principal components; 64 is the latent dimension of the paper.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Unfitted pipeline with the steps ``pca`` and ``regressor``. In a grid search the
        number of components is ``pca__n_components``.

    See Also
    --------
    make_single_component_baseline : One component for each target.

    Notes
    -----
    This is the paper's second baseline (section 4.1, bottom row of Fig. 5).

    Examples
    --------
    >>> import numpy as np
    >>> from sklcae.baselines import make_pca_baseline
    >>> X = np.random.default_rng(0).normal(size=(50, 16))
    >>> y = X[:, :2] + 3.0
    >>> make_pca_baseline(n_components=16).fit(X, y).score(X, y)
    1.0
    """
    return Pipeline(
        [("pca", _make_pca(n_components)), ("regressor", LinearRegression())]
    )


def make_single_component_baseline(n_components: int = 64) -> Pipeline:
    """Make a linear regression on the best single component for each target.

    For each target, a straight line is fitted to the component with the highest R2 on
    the training data. X must have flat stamps (n_samples, n_pixels).

    Parameters
    ----------
    n_components : int, default=64
        Number of principal components to select from.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Unfitted pipeline with the steps ``pca`` and ``regressor``. The regressor fits
        an inner pipeline with the steps ``select`` and ``regressor`` to each target. In
        a grid search the number of components is ``pca__n_components``, and the number
        selected for each target is ``regressor__estimator__select__k``.

    See Also
    --------
    make_pca_baseline : All components for every target.

    Notes
    -----
    This is the paper's first baseline (section 4.1, top row of Fig. 5). y must have the
    shape (n_samples, n_targets): use ``y.reshape(-1, 1)`` for a single target.

    Examples
    --------
    >>> import numpy as np
    >>> from sklcae.baselines import make_single_component_baseline
    >>> X = np.random.default_rng(0).normal(size=(50, 3)) * [5.0, 2.0, 1.0]
    >>> model = make_single_component_baseline(n_components=3).fit(X, X[:, [2, 0]])
    >>> [one[0].get_support(indices=True)[0] for one in model[-1].estimators_]
    [np.int64(2), np.int64(0)]
    """
    one_component = Pipeline(
        [("select", SelectKBest(_r_squared, k=1)), ("regressor", LinearRegression())]
    )
    return Pipeline(
        [
            ("pca", _make_pca(n_components)),
            ("regressor", MultiOutputRegressor(one_component)),
        ]
    )


def _make_pca(n_components):
    # The full solver is the fastest for about 1,000 stamps of 4,096 pixels, and unlike
    # the default it is deterministic.
    return PCA(n_components=n_components, svd_solver="full")


def _r_squared(X, y):
    # The same ranking as f_regression, which divides by zero if R2 is exactly 1.
    return r_regression(X, y) ** 2
