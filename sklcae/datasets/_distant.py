"""The light of galaxies that are far outside of their stamp.

An image of such a galaxy would need a large Fourier transform. But its wings are so
smooth that PSF and pixels do not change them, and the Sersic profile itself gives their
light.
"""

import math

import numpy as np

# Largest error in a pixel, as a fraction of the flux.
_TOLERANCE = 1e-7

# The error is estimated only from this many half-light radii of the PSF. It is also the
# least distance of the copies in a small Fourier transform.
_LEAST_GAP = 6

# Galaxies farther than this from the stamp, in sides and in pixels, are never drawn
# with a Fourier transform, because that would take gigabytes. The wings of their PSF
# are neglected.
_MOST_SIDES = 4
_MOST_PIXELS = 512


def is_distant(wings, psf, image_shape, center):
    """Return whether PSF and pixels hardly change a galaxy's light in the stamp.

    ``wings`` is a `Wings` and ``psf`` a PSF of `sklcae.datasets._psf` or None. The
    centre, x and y, counts from the centre of the first pixel.
    """
    gap = _distance(image_shape, center)
    if gap > max(_MOST_SIDES * max(image_shape), _MOST_PIXELS):
        return True
    # A pixel is half a pixel wide on each side of its centre.
    radius = 0.5 + (0.0 if psf is None else psf.half_light_radius)
    if gap < _LEAST_GAP * radius:
        return False
    outside = 0.0 if psf is None else psf.light_beyond(gap)
    # The light is not interpolated over the stamp: its side is 0.
    return outside + wings.error_beyond(gap, radius, 0) <= _TOLERANCE


def distant_light(wings, image_shape, center):
    """Return the light of a galaxy of unit flux in each pixel, without the PSF."""
    rows, columns = (np.arange(n) for n in image_shape)
    return wings.light(columns - center[0], rows - center[1])


def _distance(image_shape, center):
    """Return the distance in pixels of a centre from the nearest pixel's centre."""
    outside = [
        max(-position, position - (n - 1), 0.0)
        for position, n in zip(center, image_shape[::-1], strict=True)
    ]
    return math.hypot(*outside)
