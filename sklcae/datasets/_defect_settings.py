"""The defects of all stamps: check the given settings, then draw."""

from dataclasses import dataclass, replace
from numbers import Real

import numpy as np

from sklcae._units import PlainNumber
from sklcae.datasets._defects import draw_gradient
from sklcae.datasets._exposures import StampDefects
from sklcae.datasets._parameters import SKY, is_zero, parse_parameters
from sklcae.datasets._random import Stream, stamp_generator

# Constraints of the settings that are the same for all stamps.
DEFECTS = {
    "cosmic_rays": [PlainNumber("cosmic_rays", Real, 0, 1000, closed="both")],
    "dead_columns": [PlainNumber("dead_columns", Real, 0, 1000, closed="both")],
    "saturation": [
        PlainNumber("saturation", Real, 0, None, closed="neither", unit="adu"),
        None,
    ],
    # Far above a hundred pixels the kernel would fill the memory.
    "noise_correlation": [
        PlainNumber("noise_correlation", Real, 0, 100, closed="both", unit="pix")
    ],
}
NO_DEFECTS = {
    "sky_offset": 0.0,
    "sky_gradient": 0.0,
    "cosmic_rays": 0.0,
    "dead_columns": 0.0,
    "saturation": None,
    "noise_correlation": 0.0,
}


@dataclass(frozen=True)
class DefectSources:
    """Checked settings from which the `Defects` of all stamps are drawn.

    ``sky`` has the sources of `SKY`, and ``fixed`` the settings of `DEFECTS`. ``used``
    are the names of the settings that are not off.
    """

    sky: dict
    fixed: dict
    used: frozenset


@dataclass(frozen=True)
class Defects:
    """The defects of all stamps in one band.

    ``sky`` has the columns sky_offset, sky_gradient_x and sky_gradient_y, with one
    value for each stamp. ``first`` is the number of the first of the stamps.
    """

    sky: dict
    fixed: dict
    used: frozenset
    gain: float
    entropy: tuple
    band: int
    first: int = 0

    def part(self, rows):
        """Return the defects of a slice of the stamps."""
        sky = {name: values[rows] for name, values in self.sky.items()}
        return replace(self, sky=sky, first=self.first + rows.start)

    def of(self, index):
        """Return the `StampDefects` of one stamp."""
        offset, *gradient = (float(values[index]) for values in self.sky.values())
        rays, columns = (
            stamp_generator(self.entropy, self.first + index, stream, self.band)
            for stream in (Stream.COSMIC_RAYS, Stream.DEAD_COLUMNS)
        )
        return StampDefects(
            **self.fixed,
            gain=self.gain,
            sky_offset=offset,
            gradient=tuple(gradient),
            ray_generator=rays,
            column_generator=columns,
        )

    def columns(self):
        """Return the columns of the sky that is left over, if there is any."""
        return {
            name: values
            for name, values in self.sky.items()
            if name.removesuffix("_x").removesuffix("_y") in self.used
        }


def parse_defects(given, n_samples):
    """Check the settings of `SKY`, and return `DefectSources`, or None without defects.

    The settings of `DEFECTS` have been checked before.
    """
    sky = parse_parameters(given, n_samples)
    used = frozenset(name for name, value in given.items() if not _is_off(value))
    fixed = {name: given[name] for name in DEFECTS}
    return DefectSources(sky, fixed, used) if used else None


def draw_defects(sources, n_samples, *, gain, entropy, band):
    """Draw the `Defects` of all stamps in a band, or return None without sources."""
    if sources is None:
        return None
    sky = np.empty((n_samples, 3))
    generators = [
        stamp_generator(entropy, index, Stream.SKY, band) for index in range(n_samples)
    ]
    numbers = np.array([generator.random(len(SKY)) for generator in generators])
    offset, gradient = (
        sources.sky[name].draw(numbers[:, i]) for i, name in enumerate(SKY)
    )
    for index, generator in enumerate(generators):
        sky[index] = offset[index], *draw_gradient(gradient[index], generator)
    names = ("sky_offset", "sky_gradient_x", "sky_gradient_y")
    table = dict(zip(names, sky.T, strict=True))
    return Defects(table, sources.fixed, sources.used, gain, entropy, band)


def _is_off(value):
    return value is None or is_zero(value)
