"""Cosmic rays on a stamp: pixels sharper than the PSF lets light be.

All light has passed the PSF, so that the neighbours of a pixel limit its brightness.
Let a pixel have the value I above the sky, and let m be the mean of two pixels on
opposite sides of it. With the PSF P(0) in its centre and P(d) in those two pixels,

    P(d) / P(0) * I <= m

holds exactly for a Gaussian PSF: it holds for a point source at any place, and it is
linear in the light. A pixel that violates this by many times its noise, for any pair of
neighbours, is a hit. SDSS uses a test of this form [1]_. The pair of pixels across a
track finds it where the pair along the track does not.

L.A.Cosmic (the package astroscrappy) compares a pixel with the median of its neighbours
and does not use the PSF.

References
----------
.. [1] R. H. Lupton et al., "The SDSS Imaging Pipelines", ASP Conference Series 238, 269
   (2001).
"""

import numpy as np
from scipy import ndimage

from sklcae._detection import clean, smoothed
from sklcae._noise import NoiseModel

# From a pixel to one of the two neighbours on opposite sides, in rows and columns.
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (2, 2), (2, -2))
REACH = 2
# The least excess of a hit over its noise, and that of a pixel beside a hit.
LEAST_EXCESS = 6.0
LEAST_EXCESS_BESIDE = 2.0
# Pixels beside a hit are at most this many steps from a pixel with the full excess.
FARTHEST_BESIDE = 3
SQUARE = np.ones((3, 3), dtype=bool)
# The PSF may be sharper than the given one: its ratios are lowered by this share.
PSF_ERROR = 0.1
# Passes through the stamp: each finds tracks next to pixels that were hit.
N_PASSES = 8
# The sky around a pixel is the least smoothed value in a square window, in pixels.
SKY_SIGMA = 2.0
SKY_WINDOW = 15
# In stamps with a shorter side the galaxy may leave no sky.
LEAST_SIDE = 24
# Width in pixels of the Gaussian that fills pixels that were hit.
FILLING_SIGMA = 1.0


def find_cosmic_rays(image, variance, counts, psf, gain=None):
    """Find the pixels of one stamp that cosmic rays have hit.

    Parameters
    ----------
    image : ndarray of shape (H, W)
        The image. The sky need not be subtracted.
    variance : ndarray of shape (H, W)
        Variance of each pixel, in the unit of the image squared.
    counts : bool ndarray of shape (H, W)
        False where a pixel is masked. Pixels with a value that is not finite or a
        variance that is not positive do not count either.
    psf : ndarray of shape (h, w)
        The effective PSF in pixels of the same size, its centre in pixel
        ``(h // 2, w // 2)``.
    gain : float, default=None
        Electrons for each unit of the image, for the Poisson noise of the light; None
        if the variance includes it.

    Returns
    -------
    hit : bool ndarray of shape (H, W)
        True where a pixel was hit. Masked pixels are never hit.

    Notes
    -----
    Pixels in the corners are not tested, as no two neighbours are opposite each other.
    The more pixels the PSF covers, the fainter the hits that are found; with a FWHM
    below 2 pixels, stars and hits look alike.
    """
    pixels = clean(image, variance, counts)
    sky = _sky(pixels)
    light = np.where(pixels.counts, pixels.image - sky, np.nan)
    noise = NoiseModel(np.where(pixels.counts, pixels.variance, np.nan), gain)
    hit, strong = np.zeros((2, *light.shape), dtype=bool)
    for _ in range(N_PASSES):
        excess = _excess(light, _filled(light, hit), noise, psf)
        strong |= excess > LEAST_EXCESS
        beside = ndimage.binary_dilation(hit, SQUARE)
        # Weak hits do not spread far: noise beside noise would be a hit without end.
        beside &= ndimage.binary_dilation(strong, SQUARE, FARTHEST_BESIDE)
        new = (strong | beside & (excess > LEAST_EXCESS_BESIDE)) & ~hit
        if not new.any():
            break
        hit |= new
    return hit


def _sky(pixels):
    """Return a low estimate of the sky around each pixel, (H, W).

    A sky that is too low hides faint hits; one that is too high turns light into hits.
    """
    smooth = smoothed(pixels, SKY_SIGMA, fill=np.inf)
    sky = ndimage.minimum_filter(smooth, SKY_WINDOW, mode="nearest")
    if min(smooth.shape) < LEAST_SIDE:
        # The galaxy may fill the stamp: the sky is taken as subtracted.
        sky = np.minimum(sky, 0)
    return np.where(np.isfinite(sky), sky, 0)


def _filled(light, hit):
    """Return light with hit pixels filled from neighbours; NaN if there are none."""
    good = np.isfinite(light) & ~hit
    weight = ndimage.gaussian_filter(good.astype(np.float64), FILLING_SIGMA)
    sums = ndimage.gaussian_filter(np.where(good, light, 0), FILLING_SIGMA)
    return np.where(hit, sums / np.where(weight > 0, weight, np.nan), light)


def _excess(light, filled, noise, psf):
    """Return by how many times its noise each pixel is brighter than allowed, (H, W).

    It is the largest over the pairs of neighbours, and NaN where there is no pair.
    """
    variance = noise.variance(light)
    around = np.pad(filled, REACH, constant_values=np.nan)
    variance_around = np.pad(noise.variance(filled), REACH, constant_values=np.nan)
    largest = np.full(light.shape, np.nan)
    for step, ratio in zip(STEPS, _ratios(psf), strict=True):
        allowed = sum(_pair(around, step)) / 2
        error = np.sqrt(ratio**2 * variance + sum(_pair(variance_around, step)) / 4)
        largest = np.fmax(largest, (ratio * light - allowed) / error)
    return largest


def _pair(padded, step):
    """Return the neighbours at a step in both directions, each (H, W)."""
    return [
        np.roll(padded, (sign * step[0], sign * step[1]), axis=(0, 1))[
            REACH:-REACH, REACH:-REACH
        ]
        for sign in (-1, 1)
    ]


def _ratios(psf):
    """Return the PSF at each step from its centre over that in the centre.

    The geometric mean of both directions does not depend on the place of the centre
    within its pixel, for a Gaussian.
    """
    row, column = (side // 2 + REACH for side in psf.shape)
    psf = np.pad(psf.astype(np.float64).clip(min=0), REACH)
    center = max(psf[row, column], np.finfo(np.float64).tiny)
    means = [
        np.sqrt(psf[row + a, column + b] * psf[row - a, column - b]) for a, b in STEPS
    ]
    return (1 - PSF_ERROR) * np.array(means) / center
