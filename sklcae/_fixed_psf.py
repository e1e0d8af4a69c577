"""One PSF for all stamps, given as a width or as a stamp."""

from numbers import Real

import numpy as np
from scipy.stats import norm

from sklcae._planes import check_psf

FWHM_OF_SIGMA = 2 * np.sqrt(2 * np.log(2))
# In stamps with a shorter side a PSF is cut too much for a width.
SHORTEST_SIDE = 5
# A Gaussian PSF with a larger FWHM, as a share of the side, does not fit into a stamp.
LARGEST_SHARE = 0.5


class FixedPSF:
    """The same PSF (1, n_bands, H, W) for each stamp, read as a plane is."""

    def __init__(self, psf):
        self.psf = psf.astype(np.float32)

    def __getitem__(self, which):
        n = len(which) if np.ndim(which) else which.stop - which.start
        return np.repeat(self.psf, n, axis=0)


def fixed_psf(psf, pixel_scale, layout, owner):
    """Return the PSF of all stamps, (1, n_bands, H, W) of sum 1.

    It is None for None, and if the stamps have PSFs of their own. A number is the FWHM
    of a Gaussian in the unit of the pixel scale. Several bands may have a PSF each: a
    list of numbers, or stamps (n_bands, h, w). ValueError names the owner.
    """
    if psf is None or layout.has_psf:
        return None
    shape = layout.band_shape
    if isinstance(psf, Real):
        check_fwhm(psf, pixel_scale, shape, owner)
        return gaussian_psf(psf / pixel_scale, shape)
    if np.ndim(psf) == 2:
        return check_psf(psf, 1, shape)
    if np.ndim(psf) not in (1, 3) or len(psf) != shape[0]:
        raise ValueError(
            f"The 'psf' parameter of {owner} must be a FWHM or one PSF (h, w), or one "
            f"of them for each of {shape[0]} bands: put the PSFs of single stamps into "
            f"a plane 'psf' of X. Got an array of the shape {np.shape(psf)}."
        )
    if np.ndim(psf) == 3:
        return check_psf(np.asarray(psf)[None], 1, shape)
    return _gaussian_psfs(psf, pixel_scale, shape, owner)


def _gaussian_psfs(fwhms, pixel_scale, shape, owner):
    """Return the PSFs (1, n_bands, H, W) of Gaussians, one for each band."""
    for fwhm in fwhms:
        if not (isinstance(fwhm, Real) and 0 < fwhm < np.inf):
            raise ValueError(
                f"The 'psf' parameter of {owner} must have a positive FWHM for each "
                f"band. Got {fwhm!r}."
            )
        check_fwhm(fwhm, pixel_scale, shape, owner)
    one_band = (1, *shape[1:])
    psfs = [gaussian_psf(fwhm / pixel_scale, one_band) for fwhm in fwhms]
    return np.concatenate(psfs, axis=1)


def check_fwhm(fwhm, scale, band_shape, owner):
    """Raise ValueError if a PSF does not fit into the stamps."""
    side = max(band_shape[1:])
    if side >= SHORTEST_SIDE and fwhm > LARGEST_SHARE * side * scale:
        raise ValueError(
            f"The 'psf' parameter of {owner} must be a FWHM of at most half a side of "
            f"the stamps, which have {side} pixels of {scale:g}, or a PSF (h, w). Got "
            f"{fwhm!r}, {fwhm / scale:.3g} pixels: check pixel_scale."
        )


def gaussian_psf(fwhm, band_shape):
    """Return the effective PSF (1, n_bands, H, W) of a Gaussian, FWHM in pixels."""
    sigma = fwhm / FWHM_OF_SIGMA
    along_y, along_x = (
        np.diff(norm.cdf((np.arange(length + 1) - length // 2 - 0.5) / sigma))
        for length in band_shape[1:]
    )
    return check_psf(np.outer(along_y, along_x), 1, band_shape)


def effective_fwhm(psf):
    """Return the FWHM in pixels of Gaussians as sharp as PSFs (..., H, W) of sum 1."""
    squares = np.square(psf, dtype=np.float64).sum(axis=(-2, -1))
    return FWHM_OF_SIGMA / np.sqrt(4 * np.pi * squares)
