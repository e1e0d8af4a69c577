"""Point spread functions: Fourier transforms, and effective PSFs at the pixels.

`ModelPSF` is an analytic profile in arcsec, `StampPSF` an image of an effective PSF.
Both have the attributes that rendering needs; distances are in pixels.
"""

import math
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.special import kv

from sklcae.datasets._galsim import import_galsim

# Frequencies of a PSF below this amplitude are omitted. It is a tenth of GalSim's
# default, because omitted frequencies appear as ripples in a small FFT.
_MAXK_THRESHOLD = 1e-4

# The Fourier transform of a Moffat PSF is tabulated at this many points, accurate to
# 1e-9 for exponents from _LEAST_BETA.
_N_POINTS = 500
_LEAST_BETA = 1.5

# GalSim's Bessel functions overflow for elliptical PSFs with exponents above about 20.
_MOST_BETA = 15

# An effective PSF is drawn in a window. It begins with this many pixels on each side
# of the centre, and grows until the light of a pixel outside, or of copies of the PSF,
# is at most this fraction.
_LEAST_WINDOW = 8
_LEAST_LIGHT = 1e-7

# Largest FFT that draws an effective PSF.
_MAX_WINDOW_FFT = 2048


def _gaussian(fwhm, moffat_beta, gsparams):
    return import_galsim().Gaussian(fwhm=fwhm, gsparams=gsparams)


def _moffat(fwhm, moffat_beta, gsparams):
    return import_galsim().Moffat(beta=moffat_beta, fwhm=fwhm, gsparams=gsparams)


PSFS = {"gaussian": _gaussian, "moffat": _moffat}


class ModelPSF(NamedTuple):
    """An analytic PSF, before the pixel; lengths in arcsec, the angle in degrees.

    ``kind`` is a key of ``PSFS``. ``tabulated`` is True if each stamp has a PSF of its
    own: the transform of a Moffat PSF then comes from a table, which is built in a
    fraction of the time of GalSim's Bessel functions. So does that of all elliptical
    Moffat PSFs.
    """

    kind: str
    fwhm: float
    moffat_beta: float
    ellipticity: float
    position_angle: float
    pixel_scale: float
    tabulated: bool = False

    @property
    def draw_method(self):
        """Return GalSim's method of drawing, which integrates over the pixels."""
        return "auto"

    @property
    def stretch(self):
        """Return the factor of the major axis and one over that of the minor axis."""
        return ((1 + self.ellipticity) / (1 - self.ellipticity)) ** 0.25

    @property
    def half_light_radius(self):
        """Return the half-light radius along the major axis, in pixels."""
        round_one = _round_profile(self)
        return round_one.half_light_radius / self.pixel_scale * self.stretch

    @property
    def oversampling(self):
        """Return the number of points per pixel that samples all frequencies."""
        return _oversampling(self)

    @property
    def uses_table(self):
        """Return whether the Fourier transform comes from a table."""
        wanted = self.tabulated or self.ellipticity > 0
        return self.kind == "moffat" and wanted and self.moffat_beta >= _LEAST_BETA

    def light_beyond(self, distance):
        """Estimate the light in a pixel from all copies at the distance or beyond."""
        return _light_beyond(self, distance)

    def profile(self, gsparams):
        """Return GalSim's profile, without the pixel."""
        if self.uses_table and self.ellipticity and self.moffat_beta > _MOST_BETA:
            raise ValueError(
                "An elliptical Moffat PSF of a galaxy that needs GalSim's own Fourier "
                f"transform must have a moffat_beta up to {_MOST_BETA}; use "
                f"psf='gaussian' instead. Got {self.moffat_beta}."
            )
        return _sheared(self, gsparams)

    def transform(self, size):
        """Return the Fourier transform of PSF and pixel for an FFT of this side."""
        return _transform(self, size)


class StampPSF:
    """An effective PSF from an image, with the response of the pixel.

    Parameters
    ----------
    image : ndarray of shape (h, w)
        Sampled at the pixels, of sum 1, with the centre in pixel (h // 2, w // 2).
    pixel_scale : float
        Arcsec per pixel.
    """

    # The pixel is in the image already.
    draw_method = "no_pixel"
    oversampling = 1

    def __init__(self, image, pixel_scale):
        self.image = image
        self.pixel_scale = pixel_scale

    @cached_property
    def half_light_radius(self):
        """Return the radius in pixels that encloses half of the light."""
        rows, columns = (np.arange(n) - n // 2 for n in self.image.shape)
        distance = np.hypot(rows[:, np.newaxis], columns).ravel()
        order = np.argsort(distance, kind="stable")
        light = np.cumsum(self.image.ravel()[order])
        return float(distance[order[np.argmax(light >= 0.5 * light[-1])]])

    def light_beyond(self, distance):
        """Return 0 for distances outside the image, else infinity."""
        return 0.0 if distance > max(self.image.shape) // 2 else math.inf

    def profile(self, gsparams):
        """Return GalSim's profile, with the pixel."""
        galsim = import_galsim()
        return galsim.InterpolatedImage(
            galsim.ImageD(self.image, scale=self.pixel_scale),
            x_interpolant="lanczos15",
            # The middle pixel, not the middle of the image.
            use_true_center=False,
            flux=1.0,
            gsparams=gsparams,
        )

    def transform(self, size):
        """Return the Fourier transform of the image for an FFT of this side."""
        return _stamp_transform(self, size)


def fourier_image(profile, size, step, pixel_scale):
    """Return the real Fourier transform of a symmetric profile in irfft2's layout.

    ``size`` is the side of the FFT in pixels, ``step`` the number of points per pixel.
    """
    galsim = import_galsim()
    half = size * step // 2
    scale = 2 * math.pi / (size * pixel_scale)
    bounds = galsim.BoundsI(0, half, -half, half - 1)
    image = galsim.ImageCD(bounds=bounds, scale=scale)
    profile.drawKImage(image, recenter=False)
    return fft.ifftshift(image.array.real, axes=0)


@lru_cache(maxsize=16)
def effective_psf(psf, image_shape):
    """Return a `ModelPSF`, or None, as an effective PSF on a stamp.

    The sum is 1, and the centre is in pixel (height // 2, width // 2).
    """
    stamp = np.zeros(image_shape)
    middle = tuple(side // 2 for side in image_shape)
    stamp[middle] = 1.0
    if psf is None:
        return stamp
    half = _half_window(psf, max(image_shape))
    step = psf.oversampling
    if 2 * half * step > _MAX_WINDOW_FFT:
        # The PSF is so narrow that it is a point to the pixels.
        return stamp
    n_points = 2 * half * step
    window = fft.irfft2(_transform(psf, 2 * half), s=(n_points, n_points))
    window = fft.fftshift(window[::step, ::step])
    inside, outside = zip(*(_overlap(half, side) for side in image_shape), strict=True)
    stamp[inside] = window[outside]
    return stamp / stamp.sum()


def _half_window(psf, side):
    """Return half the side of a window for a stamp, in pixels."""
    half = _LEAST_WINDOW
    while half < 1.5 * side:
        # The stamp may be larger than the window. If not, copies of the PSF are as far.
        distance = max(half, 2 * half - side / 2)
        if psf.light_beyond(distance) <= _LEAST_LIGHT:
            break
        half *= 2**0.25
    return fft.next_fast_len(math.ceil(half), real=True)


def _overlap(half, side):
    """Return the parts of a stamp's axis and of a window of 2 half pixels in common."""
    before, after = min(half, side // 2), min(half, side - side // 2)
    return slice(side // 2 - before, side // 2 + after), slice(
        half - before, half + after
    )


# Analytic PSFs -----------------------------------------------------------------------


@lru_cache(maxsize=8)
def _round_profile(psf, gsparams=None):
    return PSFS[psf.kind](psf.fwhm, psf.moffat_beta, gsparams)


@lru_cache(maxsize=8)
def _sheared(psf, gsparams=None):
    profile = _round_profile(psf, gsparams)
    if psf.ellipticity == 0:
        return profile
    angle = psf.position_angle * import_galsim().degrees
    return profile.shear(e=psf.ellipticity, beta=angle)


@lru_cache(maxsize=128)
def _light_beyond(psf, distance):
    profile, scale = _round_profile(psf), psf.pixel_scale
    near, far = (
        profile.xValue(d / psf.stretch * scale, 0) * scale**2
        for d in (distance, 2 * distance)
    )
    if far == 0:
        return near
    # The wings are roughly a power law in the distance, summed over a plane of copies.
    power = math.log2(near / far)
    return near * (1 + 2 * math.pi / (power - 2)) if power > 2 else math.inf


@lru_cache(maxsize=8)
def _oversampling(psf):
    gsparams = import_galsim().GSParams(maxk_threshold=_MAXK_THRESHOLD)
    sharp = _round_profile(psf, gsparams)
    return max(1, math.ceil(sharp.maxk * psf.stretch * psf.pixel_scale / math.pi))


@lru_cache(maxsize=16)
def _transform(psf, size):
    step = psf.oversampling
    if psf.uses_table:
        seen = _moffat_waves(psf, size)
    else:
        seen = fourier_image(_sheared(psf), size, step, psf.pixel_scale)
    return _pixel_waves(psf.pixel_scale, size, step) * seen


@lru_cache(maxsize=16)
def _pixel_waves(pixel_scale, size, step):
    pixel = import_galsim().Pixel(pixel_scale)
    return fourier_image(pixel, size, step, pixel_scale)


def _moffat_waves(psf, size):
    """Return the Fourier transform of a Moffat PSF, interpolated from a table."""
    half = size * psf.oversampling // 2
    # Frequencies along x and y in units of the inverse scale radius.
    radius = psf.fwhm / (2 * math.sqrt(2 ** (1 / psf.moffat_beta) - 1))
    unit = 2 * math.pi / (size * psf.pixel_scale) * radius
    x, y = unit * np.arange(half + 1), unit * np.arange(-half, half)
    y = fft.ifftshift(y)[:, np.newaxis]
    e1, e2 = _components(psf)
    xx, yy = ((1 + sign * e1) / math.sqrt(1 - e1**2 - e2**2) for sign in (1, -1))
    squared = xx * x**2 + yy * y**2
    if e2 != 0:
        squared += 2 * e2 / math.sqrt(1 - e1**2 - e2**2) * x * y
    root = np.sqrt(np.sqrt(squared, out=squared), out=squared)
    table, last = _moffat_table(psf.moffat_beta)
    return table(np.minimum(root, last, out=root))


def _components(psf):
    angle = 2 * math.radians(psf.position_angle)
    return psf.ellipticity * math.cos(angle), psf.ellipticity * math.sin(angle)


@lru_cache(maxsize=8)
def _moffat_table(beta):
    """Return the transform as a function of the root of k, and the last root.

    The function of k is ``k**(beta - 1) K(k)`` with a Bessel function K of order beta -
    1 and k in units of the inverse scale radius, normalised to 1 at 0. As a function of
    the root of k it is smooth also at 0.
    """
    roots = np.linspace(0, math.sqrt(25 + beta), _N_POINTS)
    waves = np.ones(_N_POINTS)
    k = roots[1:] ** 2
    waves[1:] = k ** (beta - 1) * kv(beta - 1, k)
    waves[1:] *= 2 ** (2 - beta) / math.gamma(beta - 1)
    return import_galsim().LookupTable(roots, waves, "spline"), roots[-1]


# PSFs from images --------------------------------------------------------------------


@lru_cache(maxsize=16)
def _stamp_transform(psf, size):
    """Return the transform of an image folded to size x size, from its middle pixel."""
    folded = np.zeros((size, size))
    rows, columns = (np.arange(n) - n // 2 for n in psf.image.shape)
    if size >= max(psf.image.shape):
        folded[np.ix_(rows, columns)] = psf.image
    else:
        np.add.at(folded, np.ix_(rows % size, columns % size), psf.image)
    return fft.rfft2(folded)
