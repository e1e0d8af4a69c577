"""Render a noiseless stamp from its physical parameters with GalSim."""

import math
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from scipy import fft

from sklcae.datasets._folding import Wings, folded_light, largest_fft, small_fft_size

# Coarser tables of Sersic profiles, built in a sixth of the time. The change of a stamp
# with the paper's settings is below a thousandth of the noise.
_TABLES = {
    "integration_relerr": 1e-4,
    "integration_abserr": 1e-6,
    "table_spacing": 2,
}

# Frequencies of a PSF below this amplitude are omitted. It is a tenth of GalSim's
# default, because omitted frequencies appear as ripples in a small FFT.
_MAXK_THRESHOLD = 1e-4

# Fraction of the light that GalSim's FFT may fold back into an image: GalSim's default,
# and larger fractions for galaxies much larger than their stamp.
_FOLDING_THRESHOLDS = (0.005, 0.02, 0.05, 0.1)

# Folded light comes from a distance of at least this many stamp sides. It is then far
# below the light of the galaxy in the stamp, and no finer threshold is needed.
_FFT_SIDES = 16
_MIN_FFT_LIMIT = 1024

# An image in Fourier space then takes half a gigabyte.
_MAX_FFT_SIZE = 8192


class Optics(NamedTuple):
    """The pixels and the PSF of a stamp, in the units of ``make_galaxies``."""

    image_shape: tuple[int, int]
    pixel_scale: float
    psf: str | None
    psf_fwhm: float
    moffat_beta: float


def _import_galsim():
    try:
        import galsim
    except ImportError:
        # This module imports scikit-learn, which parallel jobs do not need.
        from sklcae._compat import import_optional

        return import_optional("galsim", extra="simulate", purpose="make_galaxies")
    return galsim


def _gaussian(fwhm, moffat_beta, gsparams):
    return _import_galsim().Gaussian(fwhm=fwhm, gsparams=gsparams)


def _moffat(fwhm, moffat_beta, gsparams):
    return _import_galsim().Moffat(beta=moffat_beta, fwhm=fwhm, gsparams=gsparams)


PSFS = {"gaussian": _gaussian, "moffat": _moffat}


def render_stamp(row, *, image_shape, pixel_scale, psf, psf_fwhm, moffat_beta):
    """Render one galaxy without noise, as an image in ADU per pixel, float64.

    The row has the seven physical parameters in the units of ``make_galaxies``. ``psf``
    is a key of ``PSFS`` or None, ``psf_fwhm`` in arcsec.
    """
    optics = Optics(tuple(image_shape), pixel_scale, psf, psf_fwhm, moffat_beta)
    if psf is None:
        # Without a PSF the cusp of a galaxy would need a very large FFT.
        galaxy = _galaxy(row, _import_galsim().GSParams())
        return _draw(galaxy, row, optics, method="real_space")
    wings = _wings(row, pixel_scale)
    size = _small_fft_size(row, wings, optics)
    if size is None:
        return _draw(_seen_profile(row, optics), row, optics)
    folded = folded_light(wings, optics.image_shape, _center(row), size)
    return _draw_with_folding(row, optics, size) - row["flux"] * folded


def _center(row):
    """Return the centre of the galaxy, x and y, from the centre of the first pixel."""
    return row["x0"] - 0.5, row["y0"] - 0.5


def _shear(row):
    galsim = _import_galsim()
    angle = row["position_angle"] * galsim.degrees
    return galsim.Shear(e=row["ellipticity"], beta=angle)


def _galaxy(row, gsparams):
    galaxy = _import_galsim().Sersic(
        # GalSim fails within a rounding error of 0.5, but not at 0.5.
        n=round(row["sersic_index"], 12),
        half_light_radius=row["half_light_radius"],
        flux=row["flux"],
        gsparams=gsparams,
    )
    return galaxy.shear(_shear(row))


def _draw(profile, row, optics, method="auto"):
    """Draw a profile with GalSim's own method."""
    galsim = _import_galsim()
    height, width = optics.image_shape
    image = galsim.ImageD(width, height, scale=optics.pixel_scale)
    # In GalSim the centre of the first pixel is at 1.
    center = galsim.PositionD(row["x0"] + 0.5, row["y0"] + 0.5)
    return profile.drawImage(image, center=center, method=method).array


def _seen_profile(row, optics):
    """Convolve galaxy and PSF with the smallest affordable folding threshold."""
    galsim = _import_galsim()
    limit = max(_MIN_FFT_LIMIT, _FFT_SIDES * max(optics.image_shape))
    for threshold in _FOLDING_THRESHOLDS:
        gsparams = galsim.GSParams(
            folding_threshold=threshold, maximum_fft_size=max(limit, _MAX_FFT_SIZE)
        )
        profile = galsim.Convolve(_galaxy(row, gsparams), _psf(optics, gsparams))
        size = _fft_size(profile, optics)
        if size <= limit:
            break
    if size > gsparams.maximum_fft_size:
        raise ValueError(
            f"A galaxy with half_light_radius={row['half_light_radius']} and "
            f"ellipticity={row['ellipticity']}, seen with psf_fwhm={optics.psf_fwhm} "
            f"at pixel_scale={optics.pixel_scale}, needs an FFT of {size} pixels a "
            f"side; at most {gsparams.maximum_fft_size} are allowed. Make the galaxy "
            "smaller or the pixels larger, or omit the PSF with psf=None."
        )
    return profile


def _fft_size(profile, optics):
    """Estimate the side of the FFT that GalSim will use for a profile."""
    scale = optics.pixel_scale
    side = max(profile.getGoodImageSize(scale), *optics.image_shape)
    # A PSF narrower than the pixels has higher frequencies than the image.
    side = max(side, profile.gsparams.minimum_fft_size)
    return int(side * max(1.0, profile.maxk * scale / math.pi))


def _wings(row, pixel_scale):
    shear = _shear(row)
    radius = row["half_light_radius"] / pixel_scale
    return Wings(row["sersic_index"], radius, shear.q, (-shear).getMatrix())


def _small_fft_size(row, wings, optics):
    """Return the side of a small FFT, or None if GalSim's own FFT is needed."""
    size = small_fft_size(
        wings,
        partial(_psf_light_beyond, optics),
        _psf(optics).half_light_radius / optics.pixel_scale,
        optics.image_shape,
        _center(row),
    )
    if size is None or size * _oversampling(optics) > largest_fft(optics.image_shape):
        return None
    return size


@lru_cache(maxsize=8)
def _psf(optics, gsparams=None):
    return PSFS[optics.psf](optics.psf_fwhm, optics.moffat_beta, gsparams)


@lru_cache(maxsize=128)
def _psf_light_beyond(optics, distance):
    """Estimate the PSF's light in a pixel from all copies at the distance or beyond."""
    psf, scale = _psf(optics), optics.pixel_scale
    near, far = (psf.xValue(d * scale, 0) * scale**2 for d in (distance, 2 * distance))
    if far == 0:
        return near
    # The wings are roughly a power law in the distance, summed over a plane of copies.
    power = math.log2(near / far)
    return near * (1 + 2 * math.pi / (power - 2)) if power > 2 else math.inf


@lru_cache(maxsize=8)
def _oversampling(optics):
    """Return the number of points per pixel that samples all frequencies of the PSF."""
    sharp = _psf(optics, _import_galsim().GSParams(maxk_threshold=_MAXK_THRESHOLD))
    return max(1, math.ceil(sharp.maxk * optics.pixel_scale / math.pi))


def _draw_with_folding(row, optics, size):
    """Draw the galaxy through PSF and pixels with an FFT of this side, folding it."""
    waves = _waves(_galaxy(row, _tables()), optics, size) * _blur(optics, size)
    (height, width), (x, y) = optics.image_shape, _center(row)
    step = _oversampling(optics)
    n_rows, n_columns = waves.shape
    lines = waves * _phases(n_rows, size, y)[:, np.newaxis]
    lines = fft.ifft(lines, axis=0, overwrite_x=True)[: height * step : step]
    lines = lines * _phases(n_rows, size, x)[:n_columns]
    stamp = fft.irfft(lines, n=n_rows, axis=1, overwrite_x=True)
    return stamp[:, : width * step : step] * step**2


def _waves(profile, optics, size):
    """Return the real Fourier transform of a symmetric profile in irfft2's layout."""
    galsim = _import_galsim()
    half = size * _oversampling(optics) // 2
    scale = 2 * math.pi / (size * optics.pixel_scale)
    bounds = galsim.BoundsI(0, half, -half, half - 1)
    image = galsim.ImageCD(bounds=bounds, scale=scale)
    profile.drawKImage(image, recenter=False)
    return fft.ifftshift(image.array.real, axes=0)


@lru_cache(maxsize=16)
def _blur(optics, size):
    """Return the Fourier transform of PSF and pixel."""
    pixel = _import_galsim().Pixel(optics.pixel_scale)
    return _waves(pixel, optics, size) * _waves(_psf(optics), optics, size)


def _phases(n_points, size, position):
    """Return the factors that shift a profile from the first pixel to a position."""
    frequencies = fft.fftfreq(n_points, size / (2 * math.pi * n_points))
    return np.exp(-1j * position * frequencies)


@lru_cache(maxsize=1)
def _tables():
    return _import_galsim().GSParams(**_TABLES)
