"""The gain: electrons for each unit of light, one number or one for each band."""

from numbers import Real

import numpy as np

from sklcae._array_likes import without_traps


def check_gain(gain, n_bands, owner):
    """Raise ValueError unless a gain is None, a number, or one for each band.

    The owner is the name of the estimator with the parameter `gain`, which has checked
    a single number. Raises TypeError for an array with a unit.
    """
    if gain is None or isinstance(gain, Real):
        return
    gain = without_traps(gain, "gain")
    try:
        values = np.asarray(gain, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _error(gain, n_bands, owner) from error
    positive = (values > 0) & np.isfinite(values)
    if values.shape != (n_bands,) or not positive.all():
        raise _error(gain, n_bands, owner)


def _error(gain, n_bands, owner):
    return ValueError(
        f"The 'gain' parameter of {owner} must be a positive number, or one for each "
        f"band: {n_bands} with this X. Got {gain!r:.100} instead."
    )


def as_gain(gain):
    """Return the gain as None, a float, or a tuple with one for each band."""
    if gain is None or isinstance(gain, Real):
        return None if gain is None else float(gain)
    return tuple(map(float, gain))


def gain_of_light(gain):
    """Return the gain as it broadcasts with light (n, n_bands, H, W)."""
    return np.reshape(gain, (-1, 1, 1)) if isinstance(gain, tuple) else gain
