"""Scores of galaxy measurements, alone and relative to the best possible score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import erf
from sklearn.metrics import make_scorer, mean_squared_error

from sklcae._compat import InvalidParameterError, import_optional, validate_params
from sklcae._inputs import target_names_of
from sklcae._typing import Errors, MultiOutput, Score
from sklcae._units import PlainNumber, check_no_unit, check_numbers
from sklcae.metrics._arrays import (
    check_like,
    check_predictions,
    check_true_targets,
)
from sklcae.metrics._multioutput import average_known

if TYPE_CHECKING:
    from pandas import DataFrame

# Fraction of the errors within one dispersion of the bias.
COVERAGE = 0.68


def _relative(y_true, y_pred):
    return (y_pred - y_true) / y_true


def _dex(y_true, y_pred):
    # A prediction that is not positive has an infinite error: it is an outlier.
    positive = np.where(y_pred > 0, y_pred, 1.0)
    return np.where(y_pred > 0, np.log10(positive / y_true), -np.inf)


def _absolute(y_true, y_pred):
    return y_pred - y_true


ERRORS = {"relative": _relative, "dex": _dex, "absolute": _absolute}

# Factors from small absolute errors to the errors of each kind.
_UNITS = {
    "relative": lambda y_true: 1 / y_true,
    "dex": lambda y_true: 1 / (np.log(10) * y_true),
    "absolute": np.ones_like,
}

_THRESHOLD = {"threshold": [PlainNumber("threshold", Real, 0, None, closed="neither")]}

#: Kind of error of each target, by name of the target.
TARGET_ERRORS = {
    "flux": "relative",
    "half_light_radius": "relative",
    "sersic_index": "dex",
    "ellipticity": "absolute",
    "e1": "absolute",
    "e2": "absolute",
    "x0": "absolute",
    "y0": "absolute",
}


@validate_params({"absolute": ["boolean"]}, prefer_skip_nested_validation=True)
def median_bias(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    target_names: str | Sequence[str] | None = None,
    errors: Errors = None,
    absolute: bool = False,
    multioutput: MultiOutput = "uniform_average",
) -> Score:
    """Compute the bias, the median error of the predictions.

    Together with :func:`dispersion` and :func:`outlier_share` it is a common measure of
    the quality of galaxy measurements, used for example in the Euclid Morphology
    Challenge [1]_.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
        True parameters. Missing entries, which are NaN, are left out.
    y_pred : array-like of the same shape
        Predicted parameters.
    target_names : str, list of str or None, default=None
        Names of the targets, which determine the kinds of error (see Notes). None uses
        the column names of `y_true` if it is a DataFrame or a named Series.
    errors : str, list of str, dict or None, default=None
        Kind of error, "relative", "dex" or "absolute": one for all targets, a list with
        one for each, or a dict from name to kind. For None, and for targets that are
        not in the dict, the names determine the kind.
    absolute : bool, default=False
        Whether to take the absolute value of each target's bias. A scorer needs it, and
        without it the biases of several targets can cancel in the average.
    multioutput : {"raw_values", "uniform_average"} or array-like of shape \
(n_targets,), default="uniform_average"
        Return the score of each target, their mean, or their mean with these weights.

    Returns
    -------
    float or ndarray of shape (n_targets,)
        The bias; 0 is best.

    Raises
    ------
    ValueError
        If the arrays have inconsistent shapes, `y_true` has infinite entries, `y_pred`
        is not finite, a known true value with a relative error or an error in dex is
        not above 0, or the kind of an error is unknown.
    TypeError
        If an array is an astropy Quantity.

    Warns
    -----
    UndefinedMetricWarning
        If all true values of a target are missing. Its score is NaN and left out of
        the mean.

    See Also
    --------
    field_scorers : These scores as scikit-learn scorers.

    Notes
    -----
    An error is

    - relative, ``(y_pred - y_true) / y_true``, for flux and half_light_radius;
    - in dex, ``log10(y_pred / y_true)``, for sersic_index. The error of a prediction
      that is not above 0 is minus infinity;
    - absolute, ``y_pred - y_true``, for ellipticity, e1 and e2, and for x0 and y0 in
      pixels.

    This table is :data:`TARGET_ERRORS`. A position angle is circular and has
    no kind of error: use e1 and e2 instead.

    References
    ----------
    .. [1] Euclid Collaboration: H. Bretonniere et al., "Euclid preparation XXVI. The
       Euclid Morphology Challenge: Towards structural parameters for billions of
       galaxies", Astronomy & Astrophysics 671, A102 (2023).

    Examples
    --------
    >>> from sklcae.metrics import median_bias
    >>> median_bias([100.0, 200.0, 400.0], [110.0, 204.0, 500.0], target_names="flux")
    0.1
    """
    error = _errors(y_true, y_pred, target_names, errors)
    score = _absolute_median if absolute else np.median
    return average_known(score, error, multioutput=multioutput)


def dispersion(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    target_names: str | Sequence[str] | None = None,
    errors: Errors = None,
    multioutput: MultiOutput = "uniform_average",
) -> Score:
    """Compute the distance from the median error that contains 68 % of the errors.

    For Gaussian errors it is 0.994 standard deviations. A few catastrophic errors do
    not change it.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
        True parameters. Missing entries, which are NaN, are left out.
    y_pred : array-like of the same shape
        Predicted parameters.
    target_names : str, list of str or None, default=None
        Names of the targets, see :func:`median_bias`.
    errors : str, list of str, dict or None, default=None
        Kinds of error, see :func:`median_bias`.
    multioutput : {"raw_values", "uniform_average"} or array-like of shape \
(n_targets,), default="uniform_average"
        Return the score of each target, their mean, or their mean with these weights.

    Returns
    -------
    float or ndarray of shape (n_targets,)
        The smallest d such that ``|error - median(error)| <= d`` for at least 68 % of
        the samples; 0 is best.

    Raises
    ------
    ValueError, TypeError
        As in :func:`median_bias`.

    Warns
    -----
    UndefinedMetricWarning
        As in :func:`median_bias`.

    See Also
    --------
    best_dispersion : The smallest possible dispersion.

    Examples
    --------
    >>> from sklcae.metrics import dispersion
    >>> y_true = [100.0, 100.0, 100.0, 100.0]
    >>> dispersion(y_true, [90.0, 100.0, 120.0, 900.0], target_names="flux")
    0.2
    """
    error = _errors(y_true, y_pred, target_names, errors)
    return average_known(_spread, error, multioutput=multioutput)


@validate_params(_THRESHOLD, prefer_skip_nested_validation=True)
def outlier_share(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    threshold: float = 0.5,
    target_names: str | Sequence[str] | None = None,
    errors: Errors = None,
    multioutput: MultiOutput = "uniform_average",
) -> Score:
    """Compute the fraction of samples with a large error.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
        True parameters. Missing entries, which are NaN, are left out.
    y_pred : array-like of the same shape
        Predicted parameters.
    threshold : float, default=0.5
        A sample is an outlier if ``|error| > threshold``.
    target_names : str, list of str or None, default=None
        Names of the targets, see :func:`median_bias`.
    errors : str, list of str, dict or None, default=None
        Kinds of error, see :func:`median_bias`.
    multioutput : {"raw_values", "uniform_average"} or array-like of shape \
(n_targets,), default="uniform_average"
        Return the score of each target, their mean, or their mean with these weights.

    Returns
    -------
    float or ndarray of shape (n_targets,)
        Fractions from 0 to 1; 0 is best.

    Raises
    ------
    ValueError
        As in :func:`median_bias`, or if `threshold` is not above 0.

    Warns
    -----
    UndefinedMetricWarning
        As in :func:`median_bias`.

    Examples
    --------
    >>> from sklcae.metrics import outlier_share
    >>> outlier_share([10.0, 10.0, 10.0, 10.0], [9, 11, 14, 16], target_names="flux")
    0.25
    """

    def share(error):
        return np.mean(np.abs(error) > threshold)

    error = _errors(y_true, y_pred, target_names, errors)
    return average_known(share, error, multioutput=multioutput)


def efficiency(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    variance: ArrayLike,
    *,
    multioutput: MultiOutput = "uniform_average",
) -> Score:
    """Compute the least possible mean squared error over the actual one.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
        True parameters. Missing entries, which are NaN, are left out.
    y_pred : array-like of the same shape
        Predicted parameters.
    variance : array-like of the same shape
        Least variance of each sample's targets, from
        :func:`sklcae.datasets.cramer_rao_bound`.
    multioutput : {"raw_values", "uniform_average"} or array-like of shape \
(n_targets,), default="uniform_average"
        Return the score of each target, their mean, or their mean with these weights.

    Returns
    -------
    float or ndarray of shape (n_targets,)
        The mean of `variance` over the mean squared error; 1 is best. Infinite if all
        predictions are exact.

    Raises
    ------
    ValueError
        If the arrays have inconsistent shapes, `y_true` has infinite entries, `y_pred`
        or `variance` is not finite, or `variance` is below 0.

    Warns
    -----
    UndefinedMetricWarning
        As in :func:`median_bias`.

    See Also
    --------
    best_r2 : The same bound as an R2.

    Notes
    -----
    The mean squared error includes the bias: constant predictions have a variance of 0,
    but a low efficiency. The efficiency is equal to ``(1 - best_r2) / (1 - r2)``. Like
    R2, it is dominated by the samples that are hard to measure. To assess the others,
    use bins of signal-to-noise ratio with :func:`scores_by_signal_to_noise`.

    It can exceed 1, because the number of samples is finite and a bound with a prior is
    not strict.

    A scorer needs the bound of each sample, which scikit-learn's metadata routing
    provides: ``make_scorer(efficiency).set_score_request(variance=True)``.

    Examples
    --------
    >>> from sklcae.metrics import efficiency
    >>> efficiency([1.0, 2.0, 3.0], [1.5, 2.0, 2.5], variance=[0.1, 0.1, 0.1])
    0.6
    """
    y_true = check_true_targets(y_true)
    y_pred = check_predictions(y_pred, y_true)
    variance = _check_variance(variance, y_true)
    return average_known(_efficiency, y_true, y_pred, variance, multioutput=multioutput)


def best_r2(
    y_true: ArrayLike,
    variance: ArrayLike,
    *,
    multioutput: MultiOutput = "uniform_average",
) -> Score:
    """Compute the R2 of an estimator that reaches the bound for every sample.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
        True parameters. Missing entries, which are NaN, are left out.
    variance : array-like of the same shape
        Least variance of each sample's targets, from
        :func:`sklcae.datasets.cramer_rao_bound`.
    multioutput : {"raw_values", "uniform_average"} or array-like of shape \
(n_targets,), default="uniform_average"
        Return the score of each target, their mean, or their mean with these weights.

    Returns
    -------
    float or ndarray of shape (n_targets,)
        One minus the mean of `variance` over the variance of `y_true`, the denominator
        of :func:`sklearn.metrics.r2_score`. NaN for a constant target.

    Raises
    ------
    ValueError
        If the arrays have inconsistent shapes, `y_true` has infinite entries,
        `variance` is not finite, or `variance` is below 0.

    Warns
    -----
    UndefinedMetricWarning
        As in :func:`median_bias`.

    See Also
    --------
    efficiency : How close an estimator comes to the bound.

    Examples
    --------
    >>> from sklcae.metrics import best_r2
    >>> best_r2([1.0, 2.0, 3.0], variance=[0.1, 0.1, 0.1])
    0.85
    """
    y_true = check_true_targets(y_true)
    variance = _check_variance(variance, y_true)
    return average_known(_best_r2, y_true, variance, multioutput=multioutput)


def best_dispersion(
    y_true: ArrayLike,
    variance: ArrayLike,
    *,
    target_names: str | Sequence[str] | None = None,
    errors: Errors = None,
    multioutput: MultiOutput = "uniform_average",
) -> Score:
    """Compute the dispersion of an estimator that reaches the bound for every sample.

    The errors are assumed to be Gaussian and unbiased with the variances of the bound.
    Relative errors and errors in dex are assumed to be small.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
        True parameters. Missing entries, which are NaN, are left out.
    variance : array-like of the same shape
        Least variance of each sample's targets, from
        :func:`sklcae.datasets.cramer_rao_bound`.
    target_names : str, list of str or None, default=None
        Names of the targets, see :func:`median_bias`.
    errors : str, list of str, dict or None, default=None
        Kinds of error, see :func:`median_bias`.
    multioutput : {"raw_values", "uniform_average"} or array-like of shape \
(n_targets,), default="uniform_average"
        Return the score of each target, their mean, or their mean with these weights.

    Returns
    -------
    float or ndarray of shape (n_targets,)
        The d such that 68 % of all errors are expected within d.

    Raises
    ------
    ValueError
        As in :func:`median_bias`, or if `variance` is below 0.

    Warns
    -----
    UndefinedMetricWarning
        As in :func:`median_bias`.

    See Also
    --------
    dispersion : The dispersion of an actual estimator.

    Examples
    --------
    >>> from sklcae.metrics import best_dispersion
    >>> y_true, variance = [100.0, 1000.0], [25.0, 2500.0]
    >>> best_dispersion(y_true, variance, target_names="flux")
    0.0497
    """
    y_true, kinds = _check_kinds(y_true, target_names, errors)
    variance = _check_variance(variance, y_true)
    sigma = np.sqrt(variance) * np.abs(_by_kind(_UNITS, kinds, y_true))
    return average_known(_mixture_quantile, sigma, multioutput=multioutput)


@validate_params(_THRESHOLD, prefer_skip_nested_validation=True)
def field_scorers(
    target_names: str | Sequence[str], *, errors: Errors = None, threshold: float = 0.5
) -> dict[str, Any]:
    """Make scikit-learn scorers from bias, dispersion and outlier share.

    Parameters
    ----------
    target_names : str or list of str
        Names of the targets, the columns of y.
    errors : str, list of str, dict or None, default=None
        Kinds of error, see :func:`median_bias`.
    threshold : float, default=0.5
        See :func:`outlier_share`.

    Returns
    -------
    dict of str to scorer
        "median_bias" (its absolute value), "dispersion" and "outlier_share", each the
        mean over the targets, and "dispersion_flux" and so on for single targets. The
        scores are negated, because scikit-learn expects that greater is better.

    Raises
    ------
    ValueError
        If the kind of a target's error is unknown, or `threshold` is not above 0.

    See Also
    --------
    sklearn.metrics.make_scorer : Makes single scorers.

    Notes
    -----
    The mean over the targets mixes errors of different kinds. To select a model by one
    target, use the scorer of this target.

    The scorers leave missing entries of y out, which are NaN. If all entries of a
    target are missing in a fold, the scores of this target are NaN there.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyRegressor
    >>> from sklearn.model_selection import cross_validate
    >>> from sklcae.metrics import field_scorers
    >>> X, y = np.zeros((6, 1)), np.array([[8.0, 1.0], [10.0, 1.0], [12.0, 1.0]] * 2)
    >>> scorers = field_scorers(["flux", "sersic_index"])
    >>> scores = cross_validate(DummyRegressor(), X, y, cv=2, scoring=scorers)
    >>> scores["test_dispersion_flux"].round(3)
    array([-0.25, -0.25])
    """
    names = _list(target_names)
    # No name at all is an error.
    kinds = _kinds_of(names, errors, len(names) or 1)
    keywords = {"target_names": names, "errors": kinds}
    scores = {
        "median_bias": (median_bias, {**keywords, "absolute": True}),
        "dispersion": (dispersion, keywords),
        "outlier_share": (outlier_share, {**keywords, "threshold": threshold}),
    }
    weights: dict[str, Any] = {"": "uniform_average"}
    for name, row in zip(names, np.eye(len(names)), strict=True):
        weights[f"_{name}"] = row
    return {
        f"{score}{suffix}": make_scorer(
            function, greater_is_better=False, multioutput=multioutput, **given
        )
        for score, (function, given) in scores.items()
        for suffix, multioutput in weights.items()
    }


@validate_params(_THRESHOLD, prefer_skip_nested_validation=True)
def scores_by_signal_to_noise(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    signal_to_noise: ArrayLike,
    *,
    bins: ArrayLike = 5,
    variance: ArrayLike | None = None,
    target_names: str | Sequence[str] | None = None,
    errors: Errors = None,
    threshold: float = 0.5,
) -> DataFrame:
    """Tabulate bias, dispersion and outlier share for faint and bright galaxies.

    The function needs pandas, which the extra ``simulate`` installs.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
        True parameters. Missing entries, which are NaN, are left out.
    y_pred : array-like of the same shape
        Predicted parameters.
    signal_to_noise : array-like of shape (n_samples,)
        Signal-to-noise ratios, from :func:`sklcae.datasets.signal_to_noise` or
        :func:`sklcae.datasets.cramer_rao_bound`.
    bins : int or array-like of increasing numbers, default=5
        The number of bins with equal numbers of samples, or the edges of the bins. A
        sample at an edge belongs to the upper bin, a sample at the last edge to the
        last bin. Samples outside the edges are ignored.
    variance : array-like of the shape of y_true or None, default=None
        Least variance of each sample's targets, from
        :func:`sklcae.datasets.cramer_rao_bound`.
    target_names : str, list of str or None, default=None
        Names of the targets, see :func:`median_bias`.
    errors : str, list of str, dict or None, default=None
        Kinds of error, see :func:`median_bias`.
    threshold : float, default=0.5
        See :func:`outlier_share`.

    Returns
    -------
    DataFrame
        One row for each bin and target. The columns are target (its name or number),
        low and high (the edges of the bin), n_samples (the known entries of the target
        in the bin), median_bias, dispersion and outlier_share; with `variance` also
        best_dispersion and efficiency. The scores of an empty bin are NaN.

    Raises
    ------
    ValueError
        If `signal_to_noise` has the wrong shape, `bins` is not valid, or as in
        :func:`median_bias`.
    ImportError
        If pandas is not installed.

    Examples
    --------
    >>> from sklcae.metrics import scores_by_signal_to_noise
    >>> scores = scores_by_signal_to_noise(
    ...     y_true=[100.0, 100.0, 1000.0, 1000.0],
    ...     y_pred=[80.0, 160.0, 990.0, 1020.0],
    ...     signal_to_noise=[5.0, 6.0, 50.0, 60.0],
    ...     bins=[0.0, 10.0, 100.0],
    ...     target_names="flux",
    ... )
    >>> scores[["low", "high", "n_samples", "dispersion", "outlier_share"]]
        low   high  n_samples  dispersion  outlier_share
    0   0.0   10.0          2       0.400            0.5
    1  10.0  100.0          2       0.015            0.0
    """
    pandas = import_optional(
        "pandas", extra="simulate", purpose="scores_by_signal_to_noise"
    )
    names = _names(y_true, target_names)
    y_true, kinds = _check_kinds(y_true, target_names, errors)
    y_pred = check_predictions(y_pred, y_true)
    if variance is not None:
        variance = _check_variance(variance, y_true)
    edges, bin_of = _bins(signal_to_noise, bins, len(y_true))
    rows = []
    for number, (low, high) in enumerate(pairwise(edges)):
        for target, kind in enumerate(kinds):
            inside = (bin_of == number) & ~np.isnan(y_true[:, target])
            true, predicted, variances = (
                None if values is None else values[inside, target]
                for values in (y_true, y_pred, variance)
            )
            rows.append(
                {
                    "target": names[target] if names else target,
                    "low": low,
                    "high": high,
                    "n_samples": int(inside.sum()),
                    **_all_scores(true, predicted, variances, kind, threshold),
                }
            )
    return pandas.DataFrame(rows)


def _all_scores(y_true, y_pred, variance, kind, threshold):
    """Return all scores of one target in one bin, NaN if it is empty."""
    names = ["median_bias", "dispersion", "outlier_share"]
    if variance is not None:
        names += ["best_dispersion", "efficiency"]
    if len(y_true) == 0:
        return dict.fromkeys(names, np.nan)
    scores = [
        median_bias(y_true, y_pred, errors=kind),
        dispersion(y_true, y_pred, errors=kind),
        outlier_share(y_true, y_pred, errors=kind, threshold=threshold),
    ]
    if variance is not None:
        scores += [
            best_dispersion(y_true, variance, errors=kind),
            efficiency(y_true, y_pred, variance),
        ]
    return dict(zip(names, scores, strict=True))


def _bins(signal_to_noise, bins, n_samples):
    """Return the edges of the bins, and the number of the bin of each sample."""
    ratio = check_numbers(signal_to_noise, "signal_to_noise")
    check_no_unit(bins, "bins")
    if ratio.shape != (n_samples,):
        raise ValueError(
            f"signal_to_noise must have the shape ({n_samples},), one ratio for each "
            f"sample, got {ratio.shape}."
        )
    if isinstance(bins, Integral) and 0 < bins <= n_samples and bins is not True:
        edges = np.quantile(ratio, np.linspace(0, 1, bins + 1))
    else:
        edges = np.asarray(bins)
    increasing = edges.ndim == 1 and edges.dtype.kind in "iuf" and len(edges) > 1
    if not (increasing and (np.diff(edges) > 0).all()):
        raise InvalidParameterError(
            "The 'bins' parameter of scores_by_signal_to_noise must be a positive "
            "number of bins, small enough for the number of different ratios, or at "
            f"least two increasing edges. Got {bins!r} instead."
        )
    number = np.searchsorted(edges, ratio, side="right") - 1
    number[ratio == edges[-1]] = len(edges) - 2
    return edges.astype(np.float64), number


def _errors(y_true, y_pred, target_names, errors):
    y_true, kinds = _check_kinds(y_true, target_names, errors)
    y_pred = check_predictions(y_pred, y_true)
    return _by_kind(ERRORS, kinds, y_true, y_pred)


def _by_kind(functions, kinds, y_true, *others):
    """Apply the function of each target's kind; missing entries of y_true give NaN."""
    columns = [
        functions[kind](*(values[:, target] for values in (y_true, *others)))
        for target, kind in enumerate(kinds)
    ]
    return np.where(np.isnan(y_true), np.nan, np.column_stack(columns))


def _absolute_median(error):
    return abs(np.median(error))


def _spread(error):
    bias = np.median(error)
    finite = np.isfinite(error) & np.isfinite(bias)
    distance = np.full_like(error, np.inf)
    np.subtract(error, bias, out=distance, where=finite)
    # This method returns one of the values and does no arithmetic with infinities.
    return np.quantile(np.abs(distance), COVERAGE, method="inverted_cdf")


def _efficiency(y_true, y_pred, variance):
    with np.errstate(divide="ignore", invalid="ignore"):
        return variance.mean() / np.float64(mean_squared_error(y_true, y_pred))


def _best_r2(y_true, variance):
    return 1 - variance.mean() / y_true.var() if np.ptp(y_true) > 0 else np.nan


def _check_kinds(y_true, target_names, errors):
    """Return y_true as a matrix, and the kind of error of each of its columns."""
    names = _names(y_true, target_names)
    y_true = check_true_targets(y_true)
    kinds = _kinds_of(names, errors, y_true.shape[1])
    for column, kind in enumerate(kinds):
        # NaN, a missing entry, is not below 0.
        if kind != "absolute" and (y_true[:, column] <= 0).any():
            name = names[column] if names else column
            raise ValueError(
                f"y_true must be above 0 for target {name!r}, because the kind of "
                f"its error is {kind!r}. Got {np.nanmin(y_true[:, column]):g}."
            )
    return y_true, kinds


def _names(y_true, target_names):
    return target_names_of(y_true) if target_names is None else _list(target_names)


def _list(values):
    try:
        return [values] if isinstance(values, str) else list(values)
    except TypeError:
        return [values]


def _kinds_of(names, errors, n_targets):
    """Return "relative", "dex" or "absolute" for each target."""
    if names is not None and not _are_names(names, n_targets):
        raise InvalidParameterError(
            f"The 'target_names' parameter must be the names of {n_targets} targets, "
            f"different strings. Got {names} instead."
        )
    if isinstance(errors, str):
        kinds = [errors] * n_targets
    elif errors is None or isinstance(errors, Mapping):
        kinds = _kinds_by_name(names, errors or {})
    else:
        kinds = _list(errors)
    if len(kinds) == n_targets and all(kind in list(ERRORS) for kind in kinds):
        return kinds
    raise InvalidParameterError(
        f"The 'errors' parameter must be one of {', '.join(ERRORS)}, a list with one "
        f"for each of {n_targets} targets, or a dict from target name to one of them. "
        f"Got {errors!r} instead."
    )


def _are_names(names, n_targets):
    strings = all(isinstance(name, str) for name in names)
    return strings and len(names) == len(set(names)) == n_targets


def _kinds_by_name(names, errors):
    known = {**TARGET_ERRORS, **errors}
    unknown = [name for name in names or () if name not in known]
    if names is None or unknown:
        got = "targets without names" if names is None else f"the targets {unknown}"
        raise InvalidParameterError(
            "The kind of error (relative, dex or absolute) is unknown for some "
            f"targets. Pass 'target_names' or a DataFrame y_true with names out of "
            f"{', '.join(TARGET_ERRORS)}, or pass 'errors'. Got {got}."
        )
    return [known[name] for name in names]


def _check_variance(variance, y_true):
    variance = check_like(variance, "variance", y_true)
    if (variance < 0).any():
        raise ValueError(f"variance must be at least 0, got {variance.min():g}.")
    return variance


def _mixture_quantile(sigma):
    """Return the distance that contains 68 % of Gaussian errors of these widths."""
    wanted = COVERAGE * len(sigma) - np.count_nonzero(sigma == 0)
    if wanted <= 0:
        return 0.0
    widest = sigma.max()
    ratio = widest / (np.sqrt(2) * sigma[sigma > 0])
    # One standard deviation of the widest contains at least 68.3 % of the others.
    return widest * brentq(lambda part: erf(part * ratio).sum() - wanted, 0.0, 1.0)
