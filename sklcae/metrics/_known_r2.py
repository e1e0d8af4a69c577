"""known_r2_score: R2 over the known entries of each target."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import r2_score

from sklcae._compat import _check_sample_weight
from sklcae._typing import MultiOutput, Score
from sklcae._units import check_numbers
from sklcae.metrics._arrays import check_predictions, check_true_targets
from sklcae.metrics._multioutput import average, average_known


def known_r2_score(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    multioutput: MultiOutput = "uniform_average",
) -> Score:
    """Compute R2 over the known entries of each target.

    Some entries of `y_true` may be missing, as NaN. Each target is scored by
    :func:`sklearn.metrics.r2_score` over its other entries.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
        True values, NaN where a value is missing.
    y_pred : array-like of the same shape
        Predicted values, without NaN.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Weights of the samples, at least 0.
    multioutput : {"raw_values", "uniform_average"} or array-like of shape \
(n_targets,), default="uniform_average"
        Return the score of each target, their mean, or their mean with these weights.

    Returns
    -------
    float or ndarray of shape (n_targets,)
        R2; 1 is best. The R2 of a target with fewer than two known entries of a weight
        above 0 is NaN. It is left out of the mean, which is NaN if no target remains.

    Raises
    ------
    ValueError
        If the arrays have inconsistent shapes, `y_true` has infinite entries, `y_pred`
        is not finite, or a weight is negative. A missing prediction is an error even
        if its true value is missing, too; the message names the rows.
    TypeError
        If an array is an astropy Quantity.

    Warns
    -----
    UndefinedMetricWarning
        If the R2 of a target is not defined.

    See Also
    --------
    sklearn.metrics.r2_score : R2 without missing entries.
    best_r2 : The largest possible R2.

    Notes
    -----
    If no entry is missing, the result is bitwise the same as from
    :func:`~sklearn.metrics.r2_score`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklcae.metrics import known_r2_score
    >>> y_true = [[1.0, 10.0], [2.0, np.nan], [3.0, 30.0]]
    >>> y_pred = [[1.5, 15.0], [2.0, 20.0], [3.0, 30.0]]
    >>> known_r2_score(y_true, y_pred, multioutput="raw_values")
    array([0.875, 0.875])

    R2 of the first target in cross-validation:

    >>> from sklearn.metrics import make_scorer
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklcae import ConditionalAutoencoderRegressor
    >>> first = make_scorer(known_r2_score, multioutput=[1, 0])
    >>> model = ConditionalAutoencoderRegressor(latent_dim=4, max_epochs=1)
    >>> X, y = np.random.default_rng(0).normal(size=(2, 12, 64))
    >>> y = y[:, :2]
    >>> y[::3, 0] = np.nan
    >>> cross_val_score(model, X, y, cv=2, scoring=first).shape
    (2,)
    """
    known = check_true_targets(y_true)
    predicted = check_predictions(y_pred, known)
    weights = _check_weights(sample_weight, known)
    if len(known) > 1 and not np.isnan(known).any():
        options = {"sample_weight": sample_weight, "multioutput": "raw_values"}
        return average(r2_score(y_true, y_pred, **options), multioutput)
    weights = np.broadcast_to(weights[:, np.newaxis], known.shape)
    counted = np.where(weights > 0, known, np.nan)
    return average_known(
        _r2, counted, predicted, weights, multioutput=multioutput, least=2
    )


def _check_weights(sample_weight, y_true):
    if sample_weight is not None:
        sample_weight = check_numbers(sample_weight, "sample_weight")
    return _check_sample_weight(sample_weight, y_true, ensure_non_negative=True)


def _r2(y_true, y_pred, weights):
    return r2_score(y_true, y_pred, sample_weight=weights)
