"""Draw a chunk of real galaxies as another telescope sees them, and add noise.

This is the work of one parallel job. Like `sklcae.datasets._chunks` this module imports
neither scikit-learn nor `scipy.stats`.
"""

import math
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
from scipy import fft

from sklcae.datasets._galsim import import_galsim
from sklcae.datasets._noise import add_noise
from sklcae.datasets._psf import ModelPSF, effective_psf

_MAX_FLUX = 1e37
_MAX_ELECTRONS = 9e18
# Less light is folded back into the stamp than by GalSim's default, 0.005.
_FOLDING_THRESHOLD = 1e-3


class RealStamp(NamedTuple):
    """One stamp of a real galaxy.

    Parameters
    ----------
    row : int
        The row of the galaxy in its catalogue.
    factor : float
        ADU for each count of the original image. NaN scales the sum of the original
        image to `flux`.
    flux : float
        The sum in ADU if `factor` is NaN.
    rotation : float
        Angle in degrees, counterclockwise.
    origin : tuple of two floats
        The point of the original image, x and y in pixels from the outer corner of the
        first pixel, that is put at `center`. NaN is the middle of the image.
    center : tuple of two floats
        Its place in the stamp, in pixels from the outer corner of the first pixel.
    optics : dict
        The keyword arguments of `render_stamp`.
    detector : dict or None
        The keyword arguments of `add_noise`; None adds no noise.
    generator : numpy.random.Generator
        The source of the noise.
    """

    row: int
    factor: float
    flux: float
    rotation: float
    origin: tuple
    center: tuple
    optics: dict
    detector: Any
    generator: Any


class Drawn(NamedTuple):
    """The stamps of a chunk, their PSFs or None, and a number for each stamp.

    ``image_flux`` is the sum of the original image, ``original_noise`` the standard
    deviation of the noise of the original in a pixel of the stamp; both in ADU.
    """

    images: np.ndarray
    psfs: Any
    image_flux: np.ndarray
    original_noise: np.ndarray


def draw_chunk(path, stamps, with_psf):
    """Return the `Drawn` stamps of a list of `RealStamp`.

    ``path`` is the file of the catalogue. Images and PSFs are float32.
    """
    with closing(import_galsim().RealGalaxyCatalog(path)) as catalog:
        drawn = [_draw(catalog, stamp) for stamp in stamps]
    images, fluxes, noises = map(np.array, zip(*drawn, strict=True))
    psfs = None
    if with_psf:
        psfs = [effective_psf(s.optics["psf"], s.optics["image_shape"]) for s in stamps]
        psfs = np.stack(psfs).astype(np.float32)
    return Drawn(images.astype(np.float32), psfs, fluxes, noises)


def _draw(catalog, stamp):
    """Return a stamp, the sum of its original image and the noise left of it."""
    galsim = import_galsim()
    gsparams = galsim.GSParams(folding_threshold=_FOLDING_THRESHOLD)
    galaxy = galsim.RealGalaxy(catalog, index=stamp.row, gsparams=gsparams)
    _check_width(stamp.optics["psf"], galaxy.original_psf)
    total = float(galaxy.gal_image.array.sum())
    factor = stamp.factor
    if math.isnan(factor):
        factor = _factor(catalog, stamp, total)
    _check_light(factor * total, stamp.detector)
    light = factor * _light(galaxy, stamp, gsparams)
    noise = factor * _original_noise(catalog, galaxy.original_psf, stamp)
    if stamp.detector is not None:
        light = add_noise(light, generator=stamp.generator, **stamp.detector)
    return light, factor * total, noise


def _factor(catalog, stamp, total):
    if total > 0:
        return stamp.flux / total
    raise ValueError(
        "The 'flux' parameter of make_real_galaxies must be None for the galaxy with "
        f"ident {catalog.ident[stamp.row]}: it has no label, and its image a sum of "
        f"{total:g}, which cannot be scaled."
    )


def _check_light(total, detector):
    """Reject pixels that overflow float32 or the integers of the Poisson generator."""
    electrons = 0.0
    if detector is not None:
        electrons = (abs(total) + detector["sky_level"]) * detector["gain"]
    if not (abs(total) <= _MAX_FLUX and electrons < _MAX_ELECTRONS):
        raise ValueError(
            "The 'flux', 'flux_scale', 'sky_level' and 'gain' parameters of "
            f"make_real_galaxies must give a sum of at most {_MAX_FLUX:g} ADU and less "
            f"than {_MAX_ELECTRONS:g} electrons. Got {total:g} ADU and "
            f"{electrons:g} electrons."
        )


def _light(galaxy, stamp, gsparams):
    """Return the stamp of a galaxy in its original counts, without noise added."""
    galsim = import_galsim()
    psf, angle = stamp.optics["psf"], stamp.rotation * galsim.degrees
    shift = _shift(stamp, galaxy.gal_image.array.shape, galaxy.pixel_scale)
    moved = galaxy.shift(*shift).rotate(angle)
    seen = galsim.Convolve(moved, psf.profile(gsparams))
    height, width = stamp.optics["image_shape"]
    x0, y0 = stamp.center
    # In GalSim the centre of the first pixel is at 1.
    center = galsim.PositionD(x0 + 0.5, y0 + 0.5)
    image = galsim.ImageD(width, height, scale=stamp.optics["pixel_scale"])
    return seen.drawImage(image, center=center, method=psf.draw_method).array


def _shift(stamp, shape, pixel_scale):
    """Return the shift in arcsec that brings the origin to the middle of the image."""
    if any(map(math.isnan, stamp.origin)):
        return 0.0, 0.0
    (height, width), (x, y) = shape, stamp.origin
    return (width / 2 - x) * pixel_scale, (height / 2 - y) * pixel_scale


def _check_width(psf, original):
    """Reject a PSF that needs finer details than the original image has."""
    if isinstance(psf, ModelPSF):
        width, name = psf.fwhm / psf.stretch, "psf_fwhm"
    else:
        width, name = psf.profile(None).calculateFWHM(), "psf"
    least = original.calculateFWHM()
    if width < least:
        raise ValueError(
            f"The {name!r} parameter of make_real_galaxies must be at least as wide as "
            f"the PSF of the original image, {least:.3g} arcsec. Got {width:.3g}."
        )


def _original_noise(catalog, original_psf, stamp):
    """Return the noise that the original image leaves in a pixel, in its counts.

    The noise of the original is filtered as the galaxy is: the PSF of the original is
    removed, and the galaxy is rotated and seen through PSF and pixel of the stamp.
    """
    galsim = import_galsim()
    noise_image, scale, variance = catalog.getNoiseProperties(stamp.row)
    psf, pixel_scale = stamp.optics["psf"], stamp.optics["pixel_scale"]
    seen = psf.profile(None)
    if psf.draw_method == "auto":
        seen = galsim.Convolve(seen, galsim.Pixel(pixel_scale))
    seen = seen.rotate(-stamp.rotation * galsim.degrees)
    kernel = galsim.Convolve(seen, galsim.Deconvolve(original_psf))
    power = _noise_power(noise_image, variance)
    n = len(power)
    waves = kernel.drawKImage(nx=n, ny=n, scale=2 * math.pi / (n * scale)).array
    passed = (power * fft.ifftshift(np.abs(waves) ** 2)).mean()
    return math.sqrt(passed) * (pixel_scale / scale) ** 2


def _noise_power(noise_image, variance):
    """Return the power of the noise of an original image at each frequency."""
    if noise_image is None:
        return np.full((128, 128), variance)
    correlation = noise_image.array / noise_image.array.max() * variance
    half = [side // 2 for side in correlation.shape]
    n = max(128, 2 * max(half))
    table = np.zeros((n, n))
    table[: correlation.shape[0], : correlation.shape[1]] = correlation
    table = np.roll(table, [-h for h in half], axis=(0, 1))
    return np.clip(fft.fft2(table).real, 0.0, None)
