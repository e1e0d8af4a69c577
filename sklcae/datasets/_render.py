"""Render a noiseless stamp from its physical parameters with GalSim."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy import fft

from sklcae.datasets._distant import distant_light, is_distant
from sklcae.datasets._folding import Wings, folded_light, largest_fft, small_fft_size
from sklcae.datasets._galsim import import_galsim
from sklcae.datasets._psf import PSFS, ModelPSF, fourier_image

# Coarser tables of Sersic profiles, built in a sixth of the time. The change of a stamp
# with the paper's settings is below a thousandth of the noise.
_TABLES = {
    "integration_relerr": 1e-4,
    "integration_abserr": 1e-6,
    "table_spacing": 2,
}

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
    """The pixels of a stamp, and its PSF: a `ModelPSF`, a `StampPSF` or None."""

    image_shape: tuple[int, int]
    pixel_scale: float
    psf: Any


def render_stamp(
    row,
    *,
    image_shape,
    pixel_scale,
    psf,
    psf_fwhm=None,
    moffat_beta=None,
    psf_ellipticity=0.0,
    psf_position_angle=0.0,
):
    """Render one galaxy without noise, as an image in ADU per pixel, float64.

    The row has the seven physical parameters in the units of ``make_galaxies``. ``psf``
    is a key of ``PSFS``, with the parameters of ``make_galaxies``, or a `ModelPSF`, a
    `StampPSF` or None.
    """
    if psf in PSFS:
        shape = (psf_fwhm, moffat_beta, psf_ellipticity, psf_position_angle)
        psf = ModelPSF(psf, *shape, pixel_scale)
    optics = Optics(tuple(image_shape), pixel_scale, psf)
    if psf is None:
        # Without a PSF the cusp of a galaxy would need a very large FFT.
        galaxy = _galaxy(row, import_galsim().GSParams())
        return _draw(galaxy, row, optics, method="real_space")
    wings = _wings(row, pixel_scale)
    size = _small_fft_size(row, wings, optics)
    if size is None:
        profile = _seen_profile(row, optics)
        return _draw(profile, row, optics, method=psf.draw_method)
    folded = folded_light(wings, optics.image_shape, _center(row), size)
    return _draw_with_folding(row, optics, size) - row["flux"] * folded


def render_neighbour(row, *, image_shape, pixel_scale, psf):
    """Render one galaxy at any place without noise, as `render_stamp` does.

    A galaxy far outside of the stamp takes little time and memory, and may have any
    distance. ``psf`` is a `ModelPSF`, a `StampPSF` or None.
    """
    wings = _wings(row, pixel_scale)
    if is_distant(wings, psf, image_shape, _center(row)):
        return row["flux"] * distant_light(wings, image_shape, _center(row))
    return render_stamp(row, image_shape=image_shape, pixel_scale=pixel_scale, psf=psf)


def _center(row):
    """Return the centre of the galaxy, x and y, from the centre of the first pixel."""
    return row["x0"] - 0.5, row["y0"] - 0.5


def _shear(row):
    galsim = import_galsim()
    angle = row["position_angle"] * galsim.degrees
    return galsim.Shear(e=row["ellipticity"], beta=angle)


def _galaxy(row, gsparams):
    galaxy = import_galsim().Sersic(
        # GalSim fails within a rounding error of 0.5, but not at 0.5.
        n=round(row["sersic_index"], 12),
        half_light_radius=row["half_light_radius"],
        flux=row["flux"],
        gsparams=gsparams,
    )
    return galaxy.shear(_shear(row))


def _draw(profile, row, optics, method):
    """Draw a profile with GalSim's own method."""
    galsim = import_galsim()
    height, width = optics.image_shape
    image = galsim.ImageD(width, height, scale=optics.pixel_scale)
    # In GalSim the centre of the first pixel is at 1.
    center = galsim.PositionD(row["x0"] + 0.5, row["y0"] + 0.5)
    return profile.drawImage(image, center=center, method=method).array


def _seen_profile(row, optics):
    """Convolve galaxy and PSF with the smallest affordable folding threshold."""
    galsim = import_galsim()
    limit = max(_MIN_FFT_LIMIT, _FFT_SIDES * max(optics.image_shape))
    for threshold in _FOLDING_THRESHOLDS:
        gsparams = galsim.GSParams(
            folding_threshold=threshold, maximum_fft_size=max(limit, _MAX_FFT_SIZE)
        )
        profile = galsim.Convolve(_galaxy(row, gsparams), optics.psf.profile(gsparams))
        size = _fft_size(profile, optics)
        if size <= limit:
            break
    if size > gsparams.maximum_fft_size:
        raise ValueError(
            f"A galaxy with half_light_radius={row['half_light_radius']} and "
            f"ellipticity={row['ellipticity']}, seen with {_named(optics.psf)} at "
            f"pixel_scale={optics.pixel_scale}, needs an FFT of {size} pixels a side; "
            f"at most {gsparams.maximum_fft_size} are allowed. Make the galaxy smaller "
            "or the pixels larger, or omit the PSF with psf=None."
        )
    return profile


def _named(psf):
    return f"psf_fwhm={psf.fwhm}" if isinstance(psf, ModelPSF) else "an array as psf"


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
    psf, shape = optics.psf, optics.image_shape
    size = small_fft_size(
        wings, psf.light_beyond, psf.half_light_radius, shape, _center(row)
    )
    if size is None or size * psf.oversampling > largest_fft(shape):
        return None
    return size


def _draw_with_folding(row, optics, size):
    """Draw the galaxy through PSF and pixels with an FFT of this side, folding it."""
    (height, width), (x, y) = optics.image_shape, _center(row)
    step = optics.psf.oversampling
    galaxy = _galaxy(row, _tables())
    waves = fourier_image(galaxy, size, step, optics.pixel_scale)
    waves = waves * optics.psf.transform(size)
    n_rows, n_columns = waves.shape
    lines = waves * _phases(n_rows, size, y)[:, np.newaxis]
    lines = fft.ifft(lines, axis=0, overwrite_x=True)[: height * step : step]
    lines = lines * _phases(n_rows, size, x)[:n_columns]
    stamp = fft.irfft(lines, n=n_rows, axis=1, overwrite_x=True)
    return stamp[:, : width * step : step] * step**2


def _phases(n_points, size, position):
    """Return the factors that shift a profile from the first pixel to a position."""
    frequencies = fft.fftfreq(n_points, size / (2 * math.pi * n_points))
    return np.exp(-1j * position * frequencies)


@lru_cache(maxsize=1)
def _tables():
    return import_galsim().GSParams(**_TABLES)
