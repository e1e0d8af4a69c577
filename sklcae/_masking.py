"""Masked pixels: NaN in X, or masked entries of a NumPy masked array."""

import numpy as np
from scipy.ndimage import gaussian_filter

# Widths in pixels of the Gaussians that fill masked pixels, and the least weight of
# the neighbours: below it only rounding is left.
FILLING_SIGMAS = (1.0, 4.0, 16.0)
LEAST_WEIGHT = 1e-3


def check_not_masked(array, name):
    """Raise ValueError if an array has masked entries, which would be used as data."""
    if np.ma.is_masked(array):
        raise ValueError(
            f"{name} must not have masked entries. Got a masked array with "
            f"{np.ma.count_masked(array)} of them; fill or drop them first."
        )


def masked_to_nan(X):
    """Return X with NaN where it is masked; anything but a masked array unchanged."""
    if not np.ma.is_masked(X):
        return X
    kind = X.dtype if X.dtype.kind == "f" else np.float64
    return X.astype(kind).filled(np.nan)


def check_nan_pixels(X, allow_nan):
    """Raise ValueError for NaN in rows, unless it is allowed and leaves a pixel."""
    # The minimum is NaN if any pixel is, and needs no copy.
    if not np.isnan(X.min(initial=np.inf)):
        return
    if not allow_nan:
        raise ValueError(
            "Input X contains NaN. Set allow_nan=True if NaN stands for a masked "
            "pixel (a dead column, a cosmic ray), or fill the pixels first."
        )
    empty = np.flatnonzero(np.isnan(X).all(axis=1))
    if len(empty):
        raise ValueError(
            "X must have at least one pixel that is not NaN in each image. Got "
            f"{len(empty)} images without, the first in row {empty[0]}."
        )


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
    filled[still] = stamp[mask].mean()
    return filled
