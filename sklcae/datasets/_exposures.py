"""One stamp in one band: from the light of its galaxies to the image of a detector.

Like `sklcae.datasets._chunks` this module imports neither scikit-learn nor
`scipy.stats`.
"""

from typing import Any, NamedTuple

import numpy as np

from sklcae.datasets._defects import (
    correlate_noise,
    draw_cosmic_rays,
    kill_columns,
    saturate,
    sky_plane,
)
from sklcae.datasets._noise import add_noise, noise_variance


class StampDefects(NamedTuple):
    """The defects of one stamp, with the settings of `make_galaxies`.

    ``gradient`` has the x and y components of the gradient of the sky left over. The
    gain converts the electrons of cosmic rays. Cosmic rays and dead columns have a
    generator each.
    """

    gain: float
    cosmic_rays: float
    dead_columns: float
    saturation: float | None
    noise_correlation: float
    sky_offset: float
    gradient: tuple[float, float]
    ray_generator: Any
    column_generator: Any


class Exposure(NamedTuple):
    """The image of a stamp, float64 in ADU, and bool masks or None."""

    image: np.ndarray
    cosmic_ray_mask: np.ndarray | None = None
    saturated_mask: np.ndarray | None = None


def expose(light, detector, generator, defects=None):
    """Return the `Exposure` of the light of all galaxies, an image in ADU.

    ``detector`` has the keyword arguments of `add_noise`, or is None for no noise.
    ``defects`` is a `StampDefects` or None.
    """
    if defects is None:
        return Exposure(_noisy(light, detector, generator, 0.0))
    image = _noisy(light, detector, generator, defects.noise_correlation)
    image = image + sky_plane(image.shape, defects.sky_offset, *defects.gradient)
    electrons, hit = draw_cosmic_rays(
        image.shape, defects.cosmic_rays, defects.ray_generator
    )
    image, saturated = image + electrons / defects.gain, None
    if defects.saturation is not None:
        image, saturated = saturate(image, defects.saturation)
    image = kill_columns(image, defects.dead_columns, defects.column_generator)
    return Exposure(image, hit, saturated)


def _noisy(light, detector, generator, noise_correlation):
    if detector is None:
        return light
    noisy = add_noise(light, generator=generator, **detector)
    if noise_correlation == 0:
        return noisy
    variance = noise_variance(light, **detector)
    return light + correlate_noise(noisy - light, noise_correlation, variance)
