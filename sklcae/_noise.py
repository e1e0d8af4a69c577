"""The noise of a pixel: one formula for images, losses, simulations and bounds."""

from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

# The largest shift in pixels at which noise is correlated. A correlation below so many
# of its errors counts as 0.
LARGEST_SHIFT = 5
CUT = 5.0
# The error of a median over that of a mean.
ERROR_OF_MEDIAN = 1.25
LEAST_CORRELATION = 3.0
# The correlation of adjacent pixels is measured after the residuals, smoothed by a
# narrow Gaussian, are subtracted. White noise then has a correlation of WHITE, and
# other noise has this share of its correlation more. Pixels are left out where the
# residuals, smoothed by a wide Gaussian, are larger than the largest mean.
NARROW, WIDE, LARGEST_MEAN = 1.0, 3.0, 0.3
WHITE, SHARE = -0.178, 0.75
# A larger correlation matters. Residuals with a smaller mean square are no noise.
LEAST_RELEVANT, LEAST_SQUARE = 0.2, 0.001
# With a smaller share of the pixels nothing is known of the noise.
LEAST_USED = 0.1
# The power spectrum of an autocorrelation may be as negative as this share of its peak.
LARGEST_NEGATIVE = 0.1


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

    It is the median over the stamps of the mean product of their residuals (n, ..., H,
    W), whose variance is about 1, at each shift, over the mean square. Larger residuals
    than five are cut to that, and NaN is ignored.
    """
    of_stamps = [_autocorrelation_of(one) for one in np.clip(residuals, -CUT, CUT)]
    correlation = np.median(of_stamps, axis=0).clip(-1, 1)
    n_pixels = (~np.isnan(residuals)).sum()
    error = ERROR_OF_MEDIAN / np.sqrt(max(n_pixels, 1))
    insignificant = abs(correlation) < LEAST_CORRELATION * error
    return np.where(insignificant & (correlation != 1), 0.0, correlation)


def _autocorrelation_of(residuals):
    """Return the autocorrelation (h, w) of the residuals (..., H, W) of a stamp."""
    sides = np.minimum(LARGEST_SHIFT, np.array(residuals.shape[-2:]) - 1)
    correlation = np.zeros(2 * sides + 1)
    filled = np.nan_to_num(residuals, nan=0.0).astype(np.float64)
    counts = ~np.isnan(residuals)
    square = max((filled**2).sum() / max(counts.sum(), 1), np.finfo(float).tiny)
    for dy in range(sides[0] + 1):
        for dx in range(-sides[1], sides[1] + 1):
            n_pairs = (_from(counts, dy, dx) & _from(counts, -dy, -dx)).sum()
            products = _from(filled, dy, dx) * _from(filled, -dy, -dx)
            mean = products.sum() / max(n_pairs, 1) / square
            middle = sides + [dy, dx], sides - [dy, dx]
            for row, column in middle:
                correlation[row, column] = mean
    correlation[tuple(sides)] = 1
    return correlation


def is_correlated(residuals):
    """Return whether the noise of adjacent pixels is correlated by more than about 0.2.

    Light without a model in the residuals (H, W) is left out, and NaN is ignored. It is
    False where too few pixels are left.
    """
    return adjacent_correlation(residuals) > LEAST_RELEVANT


def adjacent_correlation(residuals):
    """Return the correlation of the noise of adjacent pixels, about.

    It is the larger one of rows and columns, or 0 if it is below three of its errors.
    """
    seen = np.isfinite(residuals)
    filled = np.where(seen, residuals, 0).astype(np.float64)
    used = seen & (abs(_mean_around(filled, seen, WIDE)) < LARGEST_MEAN)
    noise = np.where(used, filled - _mean_around(filled, seen, NARROW), 0)
    square = (noise**2).sum() / max(used.sum(), 1)
    if square < LEAST_SQUARE or used.sum() < LEAST_USED * seen.sum():
        return 0.0
    shifts = (0, 1), (1, 0)
    return max(_clear_correlation(noise, used, square, *shift) for shift in shifts)


def _mean_around(values, seen, sigma):
    """Return the mean of the pixels that are seen, weighted by a Gaussian."""
    sums, weights = (
        ndimage.gaussian_filter(part, sigma, mode="constant")
        for part in (values, seen.astype(np.float64))
    )
    return sums / weights.clip(min=0.5)


def _clear_correlation(noise, used, square, dy, dx):
    """Return the correlation of pixels at a shift, 0 if it is below its errors."""
    products = _from(noise, dy, dx) * _from(noise, -dy, -dx)
    n_pairs = max((_from(used, dy, dx) & _from(used, -dy, -dx)).sum(), 1)
    excess = products.sum() / n_pairs / square - WHITE
    is_clear = excess > LEAST_CORRELATION / np.sqrt(n_pairs)
    return min(float(excess) / SHARE, 1.0) if is_clear else 0.0


def is_correlation(correlation):
    """Return whether an array can be the autocorrelation of noise, or is None."""
    if correlation is None:
        return True
    if correlation.ndim != 2 or not all(side % 2 for side in correlation.shape):
        return False
    middle = tuple(side // 2 for side in correlation.shape)
    if not np.isclose(correlation[middle], 1) or not (abs(correlation) <= 1.001).all():
        return False
    if not np.allclose(correlation, correlation[::-1, ::-1], atol=1e-6):
        return False
    # The power spectrum of noise is positive; a measured one is so about.
    padded = np.pad(correlation, [(0, side) for side in correlation.shape])
    power = np.fft.fft2(np.roll(padded, [-m for m in middle], (0, 1))).real
    return bool(power.min() >= -LARGEST_NEGATIVE * power.max())


def _from(values, dy, dx):
    """Return values (..., H, W) whose partner at a shift is among the pixels."""
    height, width = values.shape[-2:]
    rows = slice(max(dy, 0), height + min(dy, 0))
    columns = slice(max(dx, 0), width + min(dx, 0))
    return values[..., rows, columns]
