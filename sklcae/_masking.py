"""Masked pixels: NaN in X, or masked entries of a NumPy masked array."""

import numpy as np
from scipy.ndimage import gaussian_filter

# Widths in pixels of the Gaussians that fill masked pixels, and the least weight of
# the neighbours: below it only rounding is left.
FILLING_SIGMAS = (1.0, 4.0, 16.0)
LEAST_WEIGHT = 1e-3


def check_not_masked(array, name, hint="fill or drop them first"):
    """Raise ValueError if an array has masked entries, which would be used as data."""
    if np.ma.is_masked(array):
        raise ValueError(
            f"{name} must not have masked entries. Got a masked array with "
            f"{np.ma.count_masked(array)} of them; {hint}."
        )


def masked_to_nan(X):
    """Return X with NaN where it is masked; anything but a masked array unchanged."""
    if not np.ma.is_masked(X):
        return X
    kind = X.dtype if X.dtype.kind == "f" else np.result_type(X.dtype, np.float32)
    return X.astype(kind).filled(np.nan)


def fill_masked(images):
    """Fill masked pixels from their neighbours.

    A pixel becomes the mean of its neighbours, weighted by a Gaussian of 1 pixel. In
    large gaps the Gaussian is widened in steps. Where a whole channel is masked, the
    pixels become the mean of the stamp.

    astropy's ``interpolate_replace_nans`` does the same for one image and one width.
    It is not used because sklcae's estimator would then need astropy (with pyerfa and
    the IERS tables), and gaps wider than its kernel would stay NaN.

    Returns the images (n, C, H, W) without NaN, the given array if it has none, and a
    mask of the same shape, True where a pixel counts, or None if all pixels do.
    """
    if not np.isnan(images.min(initial=np.inf)):
        return images, None
    mask = ~np.isnan(images)
    filled = images.copy()
    for index in np.flatnonzero(~mask.all(axis=(1, 2, 3))):
        filled[index] = _fill_stamp(images[index], mask[index])
    return filled, mask


def _fill_stamp(stamp, mask):
    filled = np.where(mask, stamp, 0)
    still = ~mask
    for sigma in FILLING_SIGMAS:
        if not still.any():
            return filled
        sums = gaussian_filter(np.where(mask, stamp, 0), sigma, axes=(1, 2))
        weights = gaussian_filter(mask.astype(stamp.dtype), sigma, axes=(1, 2))
        near = still & (weights > LEAST_WEIGHT)
        filled[near] = sums[near] / weights[near]
        still &= ~near
    # An image without a pixel becomes 0.
    filled[still] = stamp[mask].mean() if mask.any() else 0
    return filled
