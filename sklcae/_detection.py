"""Sources on a stamp: the places where the profiles of a joint fit begin.

A source is a peak of the contrast: the image smoothed by a Gaussian as wide as the PSF,
minus the image smoothed by a wider one [1]_. A constant sky has no contrast, and a
sloping one has little.
A neighbour on the slope of a large galaxy is a peak of the contrast even if it is not a
peak of the image. The noise of the contrast is known for each pixel. A peak must be
significant, and so must the valley between it and a higher peak: noise on a bright
galaxy makes peaks, but no deep valleys. Where the noise of adjacent pixels is
correlated, the noise of the contrast is measured instead.

Source Extractor (the package sep) separates sources by their share of the flux instead,
without the noise of each pixel.

References
----------
.. [1] T. Lindeberg, "Feature Detection with Automatic Scale Selection", International
   Journal of Computer Vision 30, 79 (1998).
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls
from scipy.stats import median_abs_deviation

from sklcae._noise import NoiseModel, is_correlated

# The widths of both Gaussians over the width of the PSF: for compact sources, then for
# extended ones.
SCALES = ((1.0, 1.5), (2.0, 4.0))
# The least contrast of a peak, and the least depth of the valley to a brighter one,
# over the noise.
LEAST_CONTRAST = 5.0
LEAST_DEPTH = 4.0
# The least depth of the valley over the contrast of the peak, for bright sources whose
# noise is tiny.
LEAST_DEPTH_SHARE = 0.1
# A peak is a place of a source that was found already within this many widths of the
# narrow Gaussian.
SAME_SOURCE = 2.0
# A Gaussian with less of its light in pixels that count shows nothing.
LEAST_COVERAGE = 0.5
# The least width of a PSF in pixels: a narrower one is a single pixel.
LEAST_SIGMA = 0.5
# The squared widths of the Gaussians that make up a source, over that of the PSF.
WIDTHS = (1.0, 2.5, 6.0, 16.0, 40.0)
# The largest ellipticity of measured moments, and the largest shift of a peak, over the
# width of the PSF.
LARGEST_ELLIPTICITY = 0.6
LARGEST_SHIFT = 1.0
# Keeps the fit of fluxes solvable where templates coincide.
RIDGE = 1e-9
# The error of a fitted model, as a share of its light. It is not noise: a galaxy is not
# quite a Sersic profile.
MODEL_ERROR = 0.05


class Sources(NamedTuple):
    """The n sources of a stamp, the one nearest to its centre first.

    Attributes
    ----------
    x, y : ndarray of shape (n,)
        Positions in pixels from the centre of the first pixel.
    flux : ndarray of shape (n,)
        Light of each source, in the unit of the image.
    xx, yy, xy : ndarray of shape (n,)
        Second moments in pixels squared, of the source as seen: those of the PSF are
        not subtracted.
    """

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    xx: np.ndarray
    yy: np.ndarray
    xy: np.ndarray


class Pixels(NamedTuple):
    """An image and its variance (H, W), 0 where a pixel does not count."""

    image: np.ndarray
    variance: np.ndarray
    counts: np.ndarray


def find_sources(image, variance, counts, psf, gain=None, *, center=None):
    """Find the sources on one stamp.

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
        The effective PSF, in pixels of the same size.
    gain : float, default=None
        Electrons for each unit of the image, for the Poisson noise of the light in the
        smoothed image; None if the variance includes it.
    center : tuple of float, default=None
        x and y in pixels of the expected place of the central source; the middle of the
        stamp if None.

    Returns
    -------
    sources : Sources
        The sources, the nearest to the centre first; none if no source is significant.

    Notes
    -----
    The result depends on this stamp only. No state is shared between calls, so that
    threads may call the function at the same time.
    """
    pixels = clean(image, variance, counts)
    sigma = psf_sigma(psf)
    noise = NoiseModel(pixels.variance, gain).variance(smoothed(pixels, sigma))
    noisy = pixels._replace(variance=np.where(pixels.counts, noise, 0))
    return _measure(noisy, _find_peaks(noisy, sigma), sigma, center)


def find_in_residual(
    residual, model, variance, counts, psf, known, gain=None, *, center=None
):
    """Find sources that a fitted model of a stamp has left out.

    Parameters
    ----------
    residual : ndarray of shape (H, W)
        The image minus the model.
    model : ndarray of shape (H, W)
        The light of the fitted sources, without the sky.
    variance, counts, psf, gain, center
        As in `find_sources`. The Poisson noise is that of the model. An error of 5 % of
        the model is added to the noise, as galaxies are not exactly of its form.
    known : array-like of shape (k, 2)
        x and y in pixels of the fitted sources. No source is found within twice the
        width (standard deviation) of the PSF of them.

    Returns
    -------
    sources : Sources
        The new sources alone, the nearest to the centre first.
    """
    noise = NoiseModel(variance, gain).variance(model) + (MODEL_ERROR * model) ** 2
    pixels = clean(residual, noise, counts)
    sigma = psf_sigma(psf)
    known = np.asarray(known, dtype=np.float64).reshape(-1, 2)
    return _measure(pixels, _find_peaks(pixels, sigma, known), sigma, center)


def psf_sigma(psf):
    """Return the width in pixels of the Gaussian with the noise of a PSF.

    Fluxes measured with the PSF and with this Gaussian as weights have the same noise.
    Wings of the PSF change it little.
    """
    n_pixels = psf.sum(dtype=np.float64) ** 2 / (psf.astype(np.float64) ** 2).sum()
    return max(LEAST_SIGMA, float(np.sqrt(n_pixels / (4 * np.pi))))


def clean(image, variance, counts):
    """Return the `Pixels` of a stamp in float64."""
    good = np.asarray(counts, dtype=bool) & np.isfinite(image) & np.isfinite(variance)
    good &= np.greater(variance, 0, where=good, out=np.zeros_like(good))
    image, variance = (
        np.where(good, a, 0).astype(np.float64) for a in (image, variance)
    )
    return Pixels(image, variance, good)


def smoothed(pixels, sigma, fill=0.0):
    """Return the mean of the pixels that count, weighted by a Gaussian.

    Where few pixels count it is ``fill``.
    """
    coverage = _gaussian(pixels.counts.astype(np.float64), sigma)
    usable = coverage > LEAST_COVERAGE
    return np.where(
        usable, _gaussian(pixels.image, sigma) / np.where(usable, coverage, 1), fill
    )


# Peaks of the contrast ---------------------------------------------------------------


def _find_peaks(pixels, sigma, known=()):
    """Return x and y of the peaks (n, 2), those of compact sources first.

    Peaks at ``known`` places are left out.
    """
    found = [tuple(place) for place in known]
    is_resampled = _has_correlated_noise(pixels)
    for narrow, wide in SCALES:
        contrast, noise = _contrast(pixels, narrow * sigma, wide * sigma)
        if is_resampled:
            noise = noise * _excess_of_noise(contrast, noise)
        for x, y in _local_maxima(contrast, LEAST_CONTRAST * noise):
            distances = (np.hypot(x - a, y - b) for a, b in found)
            is_new = all(d >= SAME_SOURCE * narrow * sigma for d in distances)
            if is_new and _stands_out(x, y, contrast, noise, found):
                found.append((x, y))
    return np.array(found[len(known) :], dtype=np.float64).reshape(-1, 2)


def _has_correlated_noise(pixels):
    """Return whether the noise of adjacent pixels is correlated."""
    if not pixels.counts.any():
        return False
    sky = np.median(pixels.image[pixels.counts])
    with np.errstate(divide="ignore", invalid="ignore"):
        residuals = (pixels.image - sky) / np.sqrt(pixels.variance)
    residuals = np.where(pixels.counts, residuals, np.nan)
    return is_correlated(residuals)


def _excess_of_noise(contrast, noise):
    """Return the noise of a contrast over that of independent pixels, at least 1."""
    usable = np.isfinite(noise)
    significance = contrast[usable] / noise[usable]
    return max(1.0, median_abs_deviation(significance, scale="normal"))


def _local_maxima(contrast, least):
    """Return x and y of local maxima above a least contrast, the highest first."""
    highest = ndimage.maximum_filter(contrast, 3, mode="nearest")
    rows, columns = np.nonzero((contrast == highest) & (contrast > least))
    order = np.argsort(-contrast[rows, columns], kind="stable")
    return list(zip(columns[order].tolist(), rows[order].tolist(), strict=True))


def _stands_out(x, y, contrast, noise, found):
    """Return whether valleys separate a peak from those found and from higher ones."""
    height = contrast[y, x]
    depth = max(LEAST_DEPTH * noise[y, x], LEAST_DEPTH_SHARE * height)
    regions, _ = ndimage.label(contrast > height - depth)
    own = regions == regions[y, x]
    if contrast[own].max() > height:
        return False
    rows, columns = own.shape
    places = ((round(a), round(b)) for a, b in found)
    inside = ((a, b) for a, b in places if 0 <= a < columns and 0 <= b < rows)
    return not any(own[b, a] for a, b in inside)


def _contrast(pixels, narrow, wide):
    """Return the contrast of Gaussians of two widths, and its noise, both (H, W).

    Both Gaussians are normalised over the pixels that count, so that a constant has no
    contrast at edges and masks either. Where few pixels count the contrast is 0.
    """
    counts = pixels.counts.astype(np.float64)
    coverages = [_gaussian(counts, sigma) for sigma in (narrow, wide)]
    usable = coverages[0] > LEAST_COVERAGE
    near, far = (np.where(usable, coverage, 1) for coverage in coverages)
    contrast = _gaussian(pixels.image, narrow) / near
    contrast -= _gaussian(pixels.image, wide) / far
    variance = (
        _through_product(pixels.variance, narrow, narrow) / near**2
        + _through_product(pixels.variance, wide, wide) / far**2
        - 2 * _through_product(pixels.variance, narrow, wide) / (near * far)
    )
    noise = np.sqrt(variance.clip(min=np.finfo(np.float64).tiny))
    return np.where(usable, contrast, 0), np.where(usable, noise, np.inf)


def _through_product(variance, sigma, other):
    """Smooth a variance by the product of two Gaussians."""
    total = sigma**2 + other**2
    return _gaussian(variance, sigma * other / np.sqrt(total)) / (2 * np.pi * total)


def _gaussian(values, sigma):
    return ndimage.gaussian_filter(values, sigma, mode="constant")


# Fluxes and moments ------------------------------------------------------------------


def _measure(pixels, places, sigma, center):
    """Measure sources at given places (n, 2), and sort them."""
    if not len(places):
        return Sources(*np.zeros((6, 0)))
    size = sigma**2 * np.array(WIDTHS)
    templates = np.stack([_rounds(pixels.image.shape, place, size) for place in places])
    fluxes, sky = _fit_fluxes(pixels, templates)
    light = np.einsum("nw,nwyx->nyx", fluxes, templates)
    flux = fluxes.sum(axis=1)
    mean = np.where(flux > 0, fluxes @ size, size[0]) / np.where(flux > 0, flux, 1)
    residual = pixels.image - sky - light.sum(axis=0)
    rows = [
        _moments((residual + one) * pixels.counts, place, width, sigma)
        for one, place, width in zip(light, places, mean, strict=True)
    ]
    x, y, *moments = np.array(rows).T
    return _sorted(Sources(x, y, flux, *moments), center, pixels.image.shape)


def _rounds(shape, place, size):
    """Return round Gaussians of flux 1 with some squared widths, (n, H, W)."""
    rows, columns = (
        np.exp(-((np.arange(side) - at) ** 2) / (2 * size[:, None]))
        for side, at in zip(shape, place[::-1], strict=True)
    )
    area = 2 * np.pi * size[:, None, None]
    return rows[:, :, None] * columns[:, None, :] / area


def _fit_fluxes(pixels, templates):
    """Return fluxes >= 0 of templates (n, m, H, W), and a constant sky.

    They have the least chi-square.
    """
    n, m, *_ = templates.shape
    counts = pixels.counts
    error = np.sqrt(pixels.variance[counts])
    light = templates[..., counts].reshape(n * m, -1)
    constant = np.ones((1, light.shape[1]))
    columns = np.concatenate([light, constant, -constant]) / error
    # einsum: the order of the sums does not depend on the number of threads.
    gram = np.einsum("ip,jp->ij", columns, columns)
    products = np.einsum("ip,p->i", columns, pixels.image[counts] / error)
    scale = np.sqrt(np.diagonal(gram).clip(min=np.finfo(np.float64).tiny))
    gram /= scale[:, None] * scale
    gram[np.diag_indices_from(gram)] += RIDGE
    factor = cholesky(gram, lower=True)
    solution, _ = nnls(factor.T, solve_triangular(factor, products / scale, lower=True))
    *fluxes, above, below = solution / scale
    return np.reshape(fluxes, (n, m)), above - below


def _moments(light, place, size, sigma):
    """Return x, y, xx, yy and xy of the light of one source around its peak.

    The size is that of the templates. Centre and ellipticity are read with a round
    Gaussian of this size as weight, which halves shifts and ellipticities.
    """
    rows, columns = np.indices(light.shape)
    dx, dy = columns - place[0], rows - place[1]
    weighted = light * np.exp(-(dx**2 + dy**2) / (2 * size))
    total = weighted.sum()
    if total <= 0:
        return *place, size, size, 0.0
    shift = 2 * np.array([(weighted * dx).sum(), (weighted * dy).sum()]) / total
    shift = _bounded(shift, LARGEST_SHIFT * sigma)
    dx, dy = dx - shift[0] / 2, dy - shift[1] / 2
    xx, yy, xy = ((weighted * a).sum() for a in (dx**2, dy**2, dx * dy))
    e1, e2 = 2 * np.array([xx - yy, 2 * xy]) / (xx + yy) if xx + yy > 0 else (0, 0)
    e1, e2 = _bounded(np.array([e1, e2]), LARGEST_ELLIPTICITY)
    x, y = place + shift
    return x, y, size * (1 + e1), size * (1 - e1), size * e2


def _bounded(vector, largest):
    return vector * min(1, largest / max(np.hypot(*vector), np.finfo(np.float64).tiny))


def _sorted(sources, center, shape):
    """Return sources in the order of their distance from a place."""
    if center is None:
        center = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    distance = np.hypot(sources.x - center[0], sources.y - center[1])
    order = np.argsort(distance, kind="stable")
    return Sources(*(values[order] for values in sources))
