"""Scores of several targets, each over its known entries, and their average."""

import warnings

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning

from sklcae._compat import InvalidParameterError

_EQUAL_WEIGHTS = ("raw_values", "uniform_average")


def average_known(score, columns, *others, multioutput, least=1):
    """Score each target over its known entries, and average the scores.

    An entry of ``columns`` (n_samples, n_targets) is missing if it is NaN. ``score``
    maps the known entries of a target, and the same entries of the other arrays, to a
    number. With fewer entries than ``least`` the score is NaN and has no weight.
    """
    weights = _target_weights(multioutput, columns.shape[1])
    known = ~np.isnan(columns)
    defined = np.count_nonzero(known, axis=0) >= least
    undefined = np.flatnonzero(~defined & (weights != 0))
    if len(undefined):
        warnings.warn(
            f"The score is not defined for the columns {undefined.tolist()} of y_true, "
            f"because they have fewer than {least} known entries. It is NaN, and left "
            "out of the mean.",
            UndefinedMetricWarning,
            stacklevel=3,
        )
    scores = np.full(len(defined), np.nan)
    for target in np.flatnonzero(defined):
        rows = known[:, target]
        arrays = (values[rows, target] for values in (columns, *others))
        scores[target] = score(*arrays)
    return average(scores, multioutput, defined)


def average(scores, multioutput, defined=True):
    """Return the scores of all targets, or the mean of those that are defined."""
    if isinstance(multioutput, str) and multioutput == "raw_values":
        return scores
    weights = _target_weights(multioutput, len(scores))
    # An infinite score with weight 0 would give NaN.
    counts = defined & (weights != 0)
    if not counts.any():
        return np.nan
    given = None if isinstance(multioutput, str) else weights[counts]
    return float(np.average(scores[counts], weights=given))


def _target_weights(multioutput, n_targets):
    if isinstance(multioutput, str) and multioutput in _EQUAL_WEIGHTS:
        return np.ones(n_targets)
    weights = np.asarray(multioutput)
    fits = weights.dtype.kind in "iuf" and weights.shape == (n_targets,)
    if fits and np.isfinite(weights).all() and (weights >= 0).all() and weights.any():
        return weights
    raise InvalidParameterError(
        "The 'multioutput' parameter must be 'raw_values', 'uniform_average' or "
        f"{n_targets} weights, one for each target and not all 0. Got {multioutput!r} "
        "instead."
    )
