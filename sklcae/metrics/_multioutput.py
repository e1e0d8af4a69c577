"""The multioutput parameter of scores."""

import numpy as np

from sklcae._compat import InvalidParameterError


def average(scores, multioutput):
    """Return the scores of all targets, their mean or their weighted mean."""
    if isinstance(multioutput, str) and multioutput == "raw_values":
        return scores
    if isinstance(multioutput, str) and multioutput == "uniform_average":
        return float(np.mean(scores))
    weights = _check_weights(multioutput, len(scores))
    # An infinite score with weight 0 would give NaN.
    counts = weights != 0
    return float(np.average(scores[counts], weights=weights[counts]))


def _check_weights(multioutput, n_targets):
    weights = np.asarray(multioutput)
    fits = weights.dtype.kind in "iuf" and weights.shape == (n_targets,)
    if fits and np.isfinite(weights).all() and (weights >= 0).all() and weights.any():
        return weights
    raise InvalidParameterError(
        "The 'multioutput' parameter must be 'raw_values', 'uniform_average' or "
        f"{n_targets} weights, one for each target and not all 0. Got {multioutput!r} "
        "instead."
    )
