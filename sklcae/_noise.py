"""The noise of a pixel: one formula for images, losses, simulations and bounds."""

from typing import Any, NamedTuple

import numpy as np

# The largest shift in pixels at which noise is correlated. A correlation below so many
# of its errors counts as 0.
LARGEST_SHIFT = 5
LEAST_CORRELATION = 3.0


class NoiseModel(NamedTuple):
    """Background noise of a pixel, and the Poisson noise of its light.

    Arrays belong to NumPy or PyTorch.

    Attributes
    ----------
    background : float or array that broadcasts with the light
        Variance of a pixel without light, in the unit of the light squared.
    gain : float, array that broadcasts with the light, or None
        Electrons for each unit of light. With None the background variance holds the
        noise of the light too.
    """

    background: Any
    gain: Any

    def variance(self, light):
        """Return the variance of pixels whose expected light is given.

        Light below zero adds no Poisson noise.
        """
        if self.gain is None:
            return self.background
        return self.background + light.clip(min=0) / self.gain


def measure_autocorrelation(residuals):
    """Return the autocorrelation of noise, (h, w) with 1 in the middle.

    It is the mean product of residuals (..., H, W), whose variance is about 1, at each
    shift, over the mean square. NaN is ignored.
    """
    sides = np.minimum(LARGEST_SHIFT, np.array(residuals.shape[-2:]) - 1)
    correlation = np.zeros(2 * sides + 1)
    filled = np.nan_to_num(residuals, nan=0.0).astype(np.float64)
    counts = ~np.isnan(residuals)
    square = (filled**2).sum() / counts.sum()
    for dy in range(sides[0] + 1):
        for dx in range(-sides[1], sides[1] + 1):
            n_pairs = (_from(counts, dy, dx) & _from(counts, -dy, -dx)).sum()
            products = _from(filled, dy, dx) * _from(filled, -dy, -dx)
            mean = products.sum() / max(n_pairs, 1) / square
            mean *= abs(mean) * np.sqrt(n_pairs) > LEAST_CORRELATION
            middle = sides + [dy, dx], sides - [dy, dx]
            for row, column in middle:
                correlation[row, column] = mean
    correlation[tuple(sides)] = 1
    return correlation


def is_correlation(correlation):
    """Return whether an array can be the autocorrelation of noise, or is None."""
    if correlation is None:
        return True
    if correlation.ndim != 2 or not all(side % 2 for side in correlation.shape):
        return False
    middle = tuple(side // 2 for side in correlation.shape)
    symmetric = np.allclose(correlation, correlation[::-1, ::-1], atol=1e-6)
    return bool(symmetric and np.isclose(correlation[middle], 1))


def _from(values, dy, dx):
    """Return values (..., H, W) whose partner at a shift is among the pixels."""
    height, width = values.shape[-2:]
    rows = slice(max(dy, 0), height + min(dy, 0))
    columns = slice(max(dx, 0), width + min(dx, 0))
    return values[..., rows, columns]
