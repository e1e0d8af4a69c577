"""How far single latents stand for single factors, and what setting one does."""

from numbers import Integral

import numpy as np
from scipy.stats import entropy, rankdata
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.metrics import mutual_info_score, r2_score
from sklearn.model_selection import KFold
from sklearn.utils import Bunch, check_array, check_random_state
from sklearn.utils.parallel import Parallel, delayed

from sklcae._compat import Interval, StrOptions, validate_params
from sklcae.metrics._field_scores import _average
from sklcae.metrics._photometry import sweep_slopes

__all__ = [
    "closure_scores",
    "dci_scores",
    "mutual_information_gap",
    "separated_attribute_predictability",
]


@validate_params(
    {
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "cv": [Interval(Integral, 2, None, closed="left")],
        "multioutput": [StrOptions({"raw_values", "uniform_average"})],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    },
    prefer_skip_nested_validation=True,
)
def dci_scores(
    Z,
    y,
    *,
    n_estimators=100,
    cv=5,
    multioutput="uniform_average",
    random_state=None,
    n_jobs=None,
):
    """Disentanglement, completeness and informativeness of latents.

    Gradient boosting reads each factor off all latents. Which latents it needs for
    that tells how far one latent serves one factor (disentanglement) and one factor
    sits in one latent (completeness); how well it succeeds is informativeness [1]_.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_latents)
        Latents, such as those that ``transform`` gives.
    y : array-like of shape (n_samples,) or (n_samples, n_factors)
        True factors, such as the parameters of simulated galaxies.
    n_estimators : int, default=100
        Number of trees for each factor.
    cv : int, default=5
        Number of parts, shuffled, each of which is predicted by trees that have seen
        the others.
    multioutput : {"raw_values", "uniform_average"}, default="uniform_average"
        Whether the scores are those of each latent and each factor, or their means.
    random_state : int, RandomState instance or None, default=None
        Parts the samples, and decides between splits that are equally good.
    n_jobs : int or None, default=None
        Number of jobs, as in scikit-learn.

    Returns
    -------
    scores : :class:`~sklearn.utils.Bunch`
        With the attributes

        disentanglement : float or ndarray of shape (n_latents,)
            One minus the entropy of the factors that a latent is important for, over
            its largest possible value: 1 if there is one, 0 if all are alike. The mean
            weights each latent by its importance. 0 for a latent of no importance, NaN
            if there is only one factor.
        completeness : float or ndarray of shape (n_factors,)
            The same of the latents that are important for a factor.
        informativeness : float or ndarray of shape (n_factors,)
            R2 of the predictions for samples that the trees have not seen. At most 1.
        importances : ndarray of shape (n_latents, n_factors)
            Impurity-based importances, means over the parts. Those for one factor add
            up to 1.

    Raises
    ------
    ValueError
        If `Z` or `y` is not finite, they do not fit each other, `Z` has less than two
        latents, a factor is the same everywhere, or another parameter is out of its
        range.

    See Also
    --------
    mutual_information_gap : Needs no model.
    separated_attribute_predictability : Looks at linear relations.

    Notes
    -----
    The original takes a lasso or random forests, and an error where R2 is taken here.
    Boosted trees give less importance to latents that have nothing to tell.

    Only the order of a latent's values counts. So the scores stay as they are if the
    latents are shifted, stretched or permuted, or increasing functions are applied to
    them.

    The costs grow with the number of latents, factors and parts; for 1,000 samples, 64
    latents and 7 factors they are about a minute of one core.

    References
    ----------
    .. [1] C. Eastwood and C. K. I. Williams, "A framework for the quantitative
       evaluation of disentangled representations", International Conference on
       Learning Representations (2018).

    Examples
    --------
    >>> import numpy as np
    >>> from sklcae.metrics import dci_scores
    >>> y = np.random.default_rng(0).uniform(size=(200, 2))
    >>> aligned = dci_scores(y, y, random_state=0)
    >>> rotated = dci_scores(y @ [[1, 1], [1, -1]], y, random_state=0)
    >>> round(aligned.disentanglement, 1), round(rotated.disentanglement, 1)
    (1.0, 0.0)
    """
    Z, y = _check_latents_and_factors(Z, y)
    if cv > len(Z):
        raise ValueError(f"cv must be at most the {len(Z)} samples of Z, got {cv}.")
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    ranks = np.column_stack([rankdata(z, method="dense") for z in Z.T])
    # Among equally good splits a tree takes the first that it looks at, so latents
    # come in an order that is their own.
    order = np.lexsort(ranks)
    fits = Parallel(n_jobs=n_jobs)(
        delayed(_fit_trees)(ranks[:, order], factor, n_estimators, cv, seed)
        for factor in y.T
    )
    importances = np.empty((Z.shape[1], y.shape[1]))
    importances[order] = np.column_stack([importance for importance, _ in fits])
    informativeness = np.array([r2 for _, r2 in fits])
    disentanglement = _concentration(importances)
    completeness = _concentration(importances.T)
    if multioutput == "uniform_average":
        disentanglement = _weighted_mean(disentanglement, importances.sum(axis=1))
        completeness = float(completeness.mean())
        informativeness = float(informativeness.mean())
    return Bunch(
        disentanglement=disentanglement,
        completeness=completeness,
        informativeness=informativeness,
        importances=importances,
    )


@validate_params(
    {"n_bins": [Interval(Integral, 2, None, closed="left")]},
    prefer_skip_nested_validation=True,
)
def mutual_information_gap(Z, y, *, n_bins=10, multioutput="uniform_average"):
    """How much more the best latent knows of a factor than the second best (MIG).

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_latents)
        Latents, such as those that ``transform`` gives.
    y : array-like of shape (n_samples,) or (n_samples, n_factors)
        True factors, such as the parameters of simulated galaxies.
    n_bins : int, default=10
        Number of bins for each latent and each factor. They hold equally many samples,
        but equal values are never parted. What has `n_bins` different values or fewer
        has a bin for each.
    multioutput : {"raw_values", "uniform_average"} or array-like of shape \
(n_factors,), default="uniform_average"
        The gap of each factor, their mean, or their mean with these weights.

    Returns
    -------
    float or ndarray of shape (n_factors,)
        The difference of the two largest mutual informations between a factor and a
        latent, over the entropy of the factor [1]_. Between 0, if two latents know
        equally much, and 1, if one knows all and the others nothing.

    Raises
    ------
    ValueError
        If `Z` or `y` is not finite, they do not fit each other, `Z` has less than two
        latents, a factor is the same everywhere, or another parameter is out of its
        range.

    See Also
    --------
    dci_scores : Looks at all latents, not at the best two.

    Notes
    -----
    The mutual information of bins is above 0 also where there is none to be found, by
    about ``(n_bins - 1)**2 / (2 * n_samples)`` nats. With many bins and few samples
    latents that know nothing therefore narrow the gap: with 10 bins and 1,000 samples
    by some 0.03, with 20 bins by some 0.08.

    Increasing functions of latents or factors do not change the bins.

    References
    ----------
    .. [1] R. T. Q. Chen, X. Li, R. Grosse and D. Duvenaud, "Isolating sources of
       disentanglement in variational autoencoders", Advances in Neural Information
       Processing Systems 31 (2018).

    Examples
    --------
    >>> from sklcae.metrics import mutual_information_gap
    >>> y = [0, 1, 2, 3]
    >>> mutual_information_gap([[0, 5], [1, 5], [2, 6], [3, 6]], y)
    0.5
    """
    Z, y = _check_latents_and_factors(Z, y)
    latents = [_bin_numbers(z, n_bins) for z in Z.T]
    factors = [_bin_numbers(factor, n_bins) for factor in y.T]
    known = [[mutual_info_score(z, factor) for factor in factors] for z in latents]
    entropies = [mutual_info_score(factor, factor) for factor in factors]
    return _average(_gaps(np.array(known) / entropies), multioutput)


def separated_attribute_predictability(Z, y, *, multioutput="uniform_average"):
    """How much better the best latent predicts a factor than the second best (SAP).

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_latents)
        Latents, such as those that ``transform`` gives.
    y : array-like of shape (n_samples,) or (n_samples, n_factors)
        True factors, such as the parameters of simulated galaxies, which are taken as
        continuous.
    multioutput : {"raw_values", "uniform_average"} or array-like of shape \
(n_factors,), default="uniform_average"
        The gap of each factor, their mean, or their mean with these weights.

    Returns
    -------
    float or ndarray of shape (n_factors,)
        The difference of the two largest squared correlations of a factor with a
        latent, which are the R2 of linear fits [1]_. Between 0, if two latents predict
        equally well, and 1, if one predicts without error and the others nothing.

    Raises
    ------
    ValueError
        If `Z` or `y` is not finite, they do not fit each other, `Z` has less than two
        latents, a factor is the same everywhere, or `multioutput` does not fit.

    See Also
    --------
    mutual_information_gap : Sees relations that are not linear as well.

    References
    ----------
    .. [1] A. Kumar, P. Sattigeri and A. Balakrishnan, "Variational inference of
       disentangled latent concepts from unlabeled observations", International
       Conference on Learning Representations (2018).

    Examples
    --------
    >>> from sklcae.metrics import separated_attribute_predictability
    >>> y = [1.0, 2.0, 3.0, 4.0]
    >>> separated_attribute_predictability([[1, 0], [2, 0], [3, 0], [4, 1]], y)
    0.4
    """
    Z, y = _check_latents_and_factors(Z, y)
    correlations = _standardise(Z).T @ _standardise(y)
    return _average(_gaps(correlations**2), multioutput)


def closure_scores(asked, measured, *, other=None):
    """Whether images show what their latents were set to.

    One quantity is swept: a latent is set to one value after the other, each time the
    image is decoded, and the quantity is measured on it. Nothing else should change.

    Parameters
    ----------
    asked : array-like of shape (n_rows, n_steps) or (n_steps,)
        What the quantity ought to measure, above 0, for each galaxy (row) and each
        value of the sweep (step). Best is what is measured in the same way on the
        simulator's own stamp of the galaxy that was asked for: see Notes.
    measured : array-like of shape (n_rows, n_steps)
        What was measured on the decoded images, such as :func:`total_flux`.
    other : array-like of shape (n_rows, n_steps) or None, default=None
        Another quantity that was measured on the same images and should not change
        along the sweep, or its ratio to what it ought to be.

    Returns
    -------
    scores : :class:`~sklearn.utils.Bunch`
        With the attributes

        r2 : float
            R2 of `measured` against `asked`, over all entries that are finite, in
            their units. NaN if these have less than two different values of `asked`.
        slope : float
            Median of `slopes` over the usable rows; 1 is best. NaN if there are none.
        slopes : ndarray of shape (n_rows,)
            Logarithmic slope of each row, from :func:`sweep_slopes`. NaN for those
            that are not usable.
        change : float or None
            Median over the usable rows of the change of `other`, its largest value
            over its smallest one minus 1; 0 is best. None without `other`, NaN if no
            row is usable.
        change_of_median : float or None
            The same change of the median of `other` over the usable rows at each step:
            what all galaxies do alike, without the scatter of each.
        usable_share : float
            Part of the rows that are usable: all that was measured on them, `other`
            included, is finite and above 0.
        n_unusable : int
            Number of the rows that are not.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, `asked` is not finite or not above 0, or a
        row of it has less than two different values.

    See Also
    --------
    sweep_slopes : The slopes alone.

    Notes
    -----
    Compare with the simulator's own stamp of the galaxy that was asked for, without
    noise, and measured in the same way. What an image shows is not what the galaxy has
    before seeing: seeing widens small galaxies, and the edge of the stamp takes light,
    and with it size, from large ones. Against the bare values that were asked for even
    perfect images have a slope below 1, and change their flux with their size.

    Rows that are not usable are not just noise: a decoder that answers with empty
    images has them. So look at `usable_share` beside the slope.

    Examples
    --------
    >>> from sklcae.metrics import closure_scores
    >>> asked = [[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]]
    >>> measured = [[1.0, 2.0, 4.0], [2.0, 2.0, 2.0]]
    >>> radius = [[0.5, 0.5, 0.5], [0.5, 0.5, 0.6]]
    >>> scores = closure_scores(asked, measured, other=radius)
    >>> round(scores.slope, 2), round(scores.change, 2), scores.n_unusable
    (0.5, 0.1, 0)
    """
    measured = _check_sweep(measured, "measured")
    asked = _check_asked(asked, measured.shape)
    usable = _is_usable(measured)
    if other is not None:
        other = _check_sweep(other, "other", measured.shape)
        usable &= _is_usable(other)
    slopes = np.full(len(measured), np.nan)
    slopes[usable] = sweep_slopes(asked[usable], measured[usable])
    return Bunch(
        r2=_finite_r2(asked, measured),
        slope=_median(slopes[usable]),
        slopes=slopes,
        **_changes(other, usable),
        usable_share=float(usable.mean()),
        n_unusable=int(np.count_nonzero(~usable)),
    )


def _check_latents_and_factors(Z, y):
    Z, y = _check_numbers(Z, "Z"), _check_numbers(y, "y")
    if Z.ndim != 2 or Z.shape[1] < 2:
        raise ValueError(
            "Z must have the shape (n_samples, n_latents) with at least two latents, "
            f"got {Z.shape}."
        )
    if y.ndim not in (1, 2) or len(y) != len(Z):
        raise ValueError(
            f"y must have the shape ({len(Z)},) or ({len(Z)}, n_factors), a row for "
            f"each sample of Z, got {y.shape}."
        )
    y = y.reshape(len(Z), -1)
    constant = np.flatnonzero(np.ptp(y, axis=0) == 0)
    if len(constant):
        raise ValueError(
            "y must have at least two different values of each factor, got "
            f"{y[0, constant[0]]:g} everywhere in column {constant[0]}."
        )
    return Z, y


def _fit_trees(Z, factor, n_estimators, cv, seed):
    """Return each latent's importance for a factor, and R2 on what was held out."""
    # Trees stop at an absolute impurity, which a factor in small units would meet.
    factor = _standardise(factor)
    predicted, importances = np.empty_like(factor), []
    for train, test in KFold(cv, shuffle=True, random_state=seed).split(Z):
        model = GradientBoostingRegressor(n_estimators=n_estimators, random_state=seed)
        predicted[test] = model.fit(Z[train], factor[train]).predict(Z[test])
        importances.append(model.feature_importances_)
    return np.mean(importances, axis=0), r2_score(factor, predicted)


def _concentration(importances):
    """One minus the entropy of each row over its largest; 0 for a row of zeros."""
    n_columns = importances.shape[1]
    if n_columns == 1:
        return np.full(len(importances), np.nan)
    total = importances.sum(axis=1, keepdims=True)
    alike = np.full_like(importances, 1 / n_columns)
    shares = np.divide(importances, total, out=alike, where=total > 0)
    return np.clip(1 - entropy(shares, axis=1) / np.log(n_columns), 0, 1)


def _weighted_mean(scores, weights):
    return float(np.average(scores, weights=weights)) if weights.any() else 0.0


def _bin_numbers(values, n_bins):
    different, numbers = np.unique(values, return_inverse=True)
    if len(different) <= n_bins:
        return numbers
    return ((rankdata(values) - 0.5) * n_bins / len(values)).astype(int)


def _standardise(columns):
    """Columns with mean 0 and length 1; zeros where all values are the same."""
    width = np.ptp(columns, axis=0)
    # Before squares are taken, that they neither overflow nor vanish.
    scaled = (columns - columns.min(axis=0)) / np.where(width > 0, width, 1)
    centred = scaled - scaled.mean(axis=0)
    return centred / np.where(width > 0, np.linalg.norm(centred, axis=0), 1)


def _gaps(shares):
    """Best minus second best latent (row) for each factor (column)."""
    second, best = np.sort(shares, axis=0)[-2:]
    # Rounding may bring the best to just above 1.
    return np.clip(best - second, 0, 1)


def _check_numbers(values, name, *, finite=True):
    return check_array(
        values,
        dtype=np.float64,
        ensure_2d=False,
        allow_nd=True,
        ensure_all_finite=finite,
        input_name=name,
    )


def _check_sweep(values, name, shape=None):
    values = _check_numbers(values, name, finite=False)
    if values.ndim != 2 or (shape and values.shape != shape):
        wanted = f"{shape}, that of measured" if shape else "(n_rows, n_steps)"
        raise ValueError(f"{name} must have the shape {wanted}, got {values.shape}.")
    return values


def _check_asked(asked, shape):
    asked = _check_numbers(asked, "asked")
    if asked.shape not in [shape, shape[1:]]:
        raise ValueError(
            f"asked must have the shape {shape}, that of measured, or {shape[1:]}, got "
            f"{asked.shape}."
        )
    if (asked <= 0).any():
        raise ValueError(f"asked must be above 0, got {asked.min():g}.")
    asked = np.broadcast_to(asked, shape)
    constant = np.flatnonzero(np.ptp(asked, axis=1) == 0)
    if len(constant):
        raise ValueError(
            "asked must have at least two different values in each row, got "
            f"{asked[constant[0], 0]:g} everywhere in row {constant[0]}."
        )
    return asked


def _is_usable(values):
    return (np.isfinite(values) & (values > 0)).all(axis=1)


def _finite_r2(asked, measured):
    finite = np.isfinite(measured)
    if len(np.unique(asked[finite])) < 2:
        return np.nan
    return float(r2_score(asked[finite], measured[finite]))


def _median(values):
    return float(np.median(values)) if len(values) else np.nan


def _changes(other, usable):
    if other is None:
        return {"change": None, "change_of_median": None}
    if not usable.any():
        return {"change": np.nan, "change_of_median": np.nan}
    other = other[usable]
    return {
        "change": _median(_change(other)),
        "change_of_median": float(_change(np.median(other, axis=0))),
    }


def _change(values):
    return values.max(axis=-1) / values.min(axis=-1) - 1
