"""The size of a small FFT for a galaxy, and the light that it folds into the stamp.

An FFT with a side of N pixels repeats the galaxy every N pixels. Only the wings of the
copies reach the stamp. The wings follow the Sersic profile, so they can be computed
without a Fourier transform and subtracted.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.fft import next_fast_len
from scipy.special import gammaincc, gammaincinv

# Largest error in a pixel after subtracting the copies, as a fraction of the flux.
_TOLERANCE = 1e-7

# Copies up to 4 away in x and y are added up; more distant copies by their mean.
_RINGS = 4

# The wings are smooth over the stamp: they are interpolated from this many points along
# x and along y.
_NODES = 8

# Factor between successive trial distances of the copies from the stamp.
_STEP = 2**0.25

# Limits that keep every exponential and power finite: exp(700) is finite.
_MAX_EXPONENT = 700.0
_MAX_LOG = math.log(_MAX_EXPONENT)
_TINY = 1e-20

# FFTs larger than this many sides of the stamp are no faster than GalSim's own.
_MIN_LIMIT = 1024
_LIMIT_SIDES = 8


@dataclass(frozen=True)
class Wings:
    """A Sersic profile of unit flux in pixel coordinates.

    The profile is ``exp(-(r / scale_radius)**(1 / n))``. The half-light radius is
    circularised and in pixels, the axis ratio is minor over major. ``to_circle``, the
    inverse of the shear, (2, 2), maps an offset (x, y) to the round galaxy.
    """

    sersic_index: float
    half_light_radius: float
    axis_ratio: float
    to_circle: np.ndarray

    @cached_property
    def scale_radius(self):
        """Return the radius in pixels at which the profile is 1/e of its peak."""
        n = self.sersic_index
        return self.half_light_radius / float(gammaincinv(2 * n, 0.5)) ** n

    @cached_property
    def peak(self):
        """Return the unsmoothed light per pixel at the centre."""
        area = math.pi * self.scale_radius**2 * math.gamma(2 * self.sersic_index + 1)
        return 1 / area if area > 0 else math.inf

    def light(self, dx, dy):
        """Return the light in pixels with offsets dx[j], dy[i] from the centre."""
        (xx, xy), (yx, yy) = self.to_circle / self.scale_radius
        dy = dy[:, np.newaxis]
        squared = (xx * dx + xy * dy) ** 2 + (yx * dx + yy * dy) ** 2
        with np.errstate(over="ignore"):
            return self.peak * np.exp(-(squared ** (0.5 / self.sersic_index)))

    def light_outside(self, side):
        """Return the light outside a square that is centred on the galaxy."""
        angles = (np.arange(32) + 0.5) * (np.pi / 32)
        x, y = np.cos(angles), np.sin(angles)
        (xx, xy), (yx, yy) = self.to_circle
        stretch = np.hypot(xx * x + xy * y, yx * x + yy * y)
        edge = stretch * side / (2 * np.maximum(abs(x), abs(y)))
        exponent = (edge / self.scale_radius) ** (1 / self.sersic_index)
        return np.mean(gammaincc(2 * self.sersic_index, exponent) / stretch**2)

    def error_beyond(self, gap, psf_radius, side):
        """Estimate the error of the light at gap pixels from the centre and beyond.

        The error has two sources: the missing PSF, and the interpolation over the
        stamp.
        """
        light, slope = self._steepest(gap, 2)
        blur = light * math.expm1(min((psf_radius * slope) ** 2 / 2, _MAX_EXPONENT))
        # The light of a compact galaxy is not blurred that far.
        blur = min(blur, self._steepest(gap - 4 * psf_radius, 0)[0])
        light, slope = self._steepest(gap, _NODES)
        interpolation = 2 * (slope * side / 4) ** _NODES / math.factorial(_NODES)
        return blur + light * interpolation

    def _steepest(self, gap, power):
        """Return light and logarithmic slope at the maximum of light * slope**power.

        The maximum is at the gap or, if the gap is inside a flat core, outside the
        core.
        """
        n = self.sersic_index
        axis = math.sqrt(self.axis_ratio)
        radius = max(gap, _TINY) * axis / self.scale_radius
        exponent = math.exp(min(math.log(radius) / n, _MAX_LOG))
        exponent = max(exponent, power * (1 - n))
        slope = exponent ** (1 - n) / (n * axis * self.scale_radius)
        return self.peak * math.exp(-exponent), min(slope, 1 / _TINY)


def largest_fft(image_shape):
    """Return the side of the largest FFT that counts as small."""
    return max(_MIN_LIMIT, _LIMIT_SIDES * max(image_shape))


def small_fft_size(wings, psf_light, psf_radius, image_shape, center):
    """Choose the side of a small FFT such that its copies can be subtracted.

    ``psf_light`` returns the fraction of the PSF's light in a pixel for a distance, and
    ``psf_radius`` is its half-light radius, both in pixels. The centre of the galaxy, x
    and y, counts from the centre of the first pixel. Returns the side in pixels, or
    None if no affordable FFT is accurate enough.
    """
    side = max(image_shape)
    limit = largest_fft(image_shape)
    reach = max(
        max(abs(middle), abs(pixels - 1 - middle))
        for middle, pixels in zip(center, image_shape[::-1], strict=True)
    )
    # For a galaxy larger than the FFT the copies that are added up do not suffice.
    least = wings.half_light_radius / math.sqrt(wings.axis_ratio)
    gap = max(side / 2, 6 * psf_radius)
    while (size := max(reach + gap, least)) <= limit:
        error = psf_light(gap) + wings.error_beyond(gap, psf_radius, side)
        if error <= _TOLERANCE:
            return 2 * next_fast_len(math.ceil(size / 2), real=True)
        gap *= _STEP
    return None


def folded_light(wings, image_shape, center, size):
    """Return the light of a galaxy of unit flux that an FFT folds into the stamp.

    It is the light of all copies without the galaxy itself, as an image. The centre is
    given as in `small_fft_size`, and ``size`` is the side of the FFT in pixels.
    """
    height, width = image_shape
    copies = size * np.arange(-_RINGS, _RINGS + 1)
    columns, along_x = _interpolation(width)
    rows, along_y = _interpolation(height)
    dx = np.add.outer(columns - center[0], copies)
    dy = np.add.outer(rows - center[1], copies)
    light = wings.light(dx.ravel(), dy.ravel()).reshape(*dy.shape, *dx.shape)
    light[:, _RINGS, :, _RINGS] = 0
    at_nodes = light.sum(axis=(1, 3))
    at_nodes += wings.light_outside(len(copies) * size) / size**2
    # Not matmul: in another process a BLAS may use another order of summation.
    lines = np.einsum("ij,jk->ik", along_y, at_nodes)
    return np.einsum("ij,kj->ik", lines, along_x)


@lru_cache(maxsize=8)
def _interpolation(n_pixels):
    """Return the Chebyshev nodes along a side and the matrix from nodes to pixels."""
    nodes = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)
    pixels = (2 * np.arange(n_pixels) + 1) / n_pixels - 1
    weights = np.full(_NODES, 2 / _NODES)
    weights[0] /= 2
    to_pixels = np.einsum(
        "ij,j,kj->ik",
        np.polynomial.chebyshev.chebvander(pixels, _NODES - 1),
        weights,
        np.polynomial.chebyshev.chebvander(nodes, _NODES - 1),
    )
    return (nodes * n_pixels + n_pixels - 1) / 2, to_pixels
