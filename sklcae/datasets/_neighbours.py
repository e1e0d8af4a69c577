"""Other galaxies around the central galaxy of each stamp."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from sklcae._units import as_float, check_no_unit
from sklcae.datasets._parameters import (
    NEIGHBOUR,
    add_components,
    as_population,
    is_number,
    parameter_error,
    parse_population,
    round_index,
)
from sklcae.datasets._random import Stream, draw_uniforms, stamp_generator

_MAX_NEIGHBOURS = 1000

# The parameters that a neighbour draws from the values of the central galaxies.
_SHARED = ("sersic_index", "ellipticity", "position_angle")
# The order determines which random number of a neighbour each quantity uses.
_NUMBERS = (
    "neighbour_distance",
    "direction",
    "neighbour_flux_ratio",
    "neighbour_half_light_radius",
    *_SHARED,
)


@dataclass(frozen=True)
class NeighbourSources:
    """Sources of the number of neighbours and of the quantities of each.

    ``counts`` is the number in every stamp or, as a float, the mean number.
    """

    counts: float | np.ndarray
    sources: dict

    def draw_counts(self, n_samples, entropy):
        """Return the number of neighbours of every stamp."""
        if isinstance(self.counts, np.ndarray):
            return self.counts
        uniforms = draw_uniforms(
            n_samples, 1, entropy=entropy, stream=Stream.NEIGHBOUR_COUNTS
        )
        # The quantile of 0 is -1.
        return np.maximum(stats.poisson.ppf(uniforms[:, 0], self.counts), 0).astype(int)


@dataclass(frozen=True)
class Neighbours:
    """The neighbours of all stamps, in the order of the stamps.

    ``table`` is a dict of the parameters and of "stamp", with a value for each
    neighbour; stamp i has the neighbours from ``starts[i]`` to ``starts[i + 1]``.
    """

    table: dict
    starts: np.ndarray

    def of(self, index):
        """Return the places in the table of the neighbours of a stamp."""
        return range(self.starts[index], self.starts[index + 1])

    def part(self, rows):
        """Return the neighbours of a slice of the stamps, and their places."""
        starts = self.starts[rows.start : rows.stop + 1]
        places = slice(starts[0], starts[-1])
        table = {name: values[places] for name, values in self.table.items()}
        table["stamp"] = table["stamp"] - rows.start
        return Neighbours(table, starts - starts[0]), places

    def total_flux(self, fluxes):
        """Return the sum of the neighbours' fluxes in each stamp."""
        n_samples = len(self.starts) - 1
        return np.bincount(self.table["stamp"], weights=fluxes, minlength=n_samples)


def parse_neighbours(given, central, n_samples):
    """Check the settings of neighbours and return their sources, or None if none.

    ``given`` has the number as "neighbours" and the settings of `NEIGHBOUR`;
    ``central`` has the checked parameters of the central galaxies.
    """
    counts = _parse_counts(given["neighbours"], n_samples)
    sources = {name: parse_population(name, given[name]) for name in NEIGHBOUR}
    sources |= {name: as_population(name, central[name]) for name in _SHARED}
    return NeighbourSources(counts, sources) if np.any(counts) else None


def draw_neighbours(wanted, central, *, pixel_scale, sersic_index_step, entropy):
    """Draw the `Neighbours` of a table of central galaxies.

    The numbers of a neighbour do not depend on how many neighbours the stamp has.
    """
    counts = wanted.draw_counts(len(central["flux"]), entropy)
    stamp = np.repeat(np.arange(len(counts)), counts)
    uniforms = _draw_rows(counts, len(_NUMBERS), entropy)
    numbers = dict(zip(_NUMBERS, uniforms.T, strict=True))
    drawn = {name: one.draw(numbers[name]) for name, one in wanted.sources.items()}
    index = wanted.sources["sersic_index"]
    drawn["sersic_index"] = round_index(drawn["sersic_index"], index, sersic_index_step)
    distance = drawn["neighbour_distance"] / pixel_scale
    direction = 2 * np.pi * numbers["direction"]
    table = {
        "flux": drawn["neighbour_flux_ratio"] * central["flux"][stamp],
        "half_light_radius": drawn["neighbour_half_light_radius"],
        **{name: drawn[name] for name in _SHARED},
        "x0": central["x0"][stamp] + distance * np.cos(direction),
        "y0": central["y0"][stamp] + distance * np.sin(direction),
    }
    starts = np.concatenate([[0], np.cumsum(counts)])
    return Neighbours({"stamp": stamp, **add_components(table)}, starts)


def _parse_counts(neighbours, n_samples):
    """Return the mean number as a float, or the number of every stamp."""
    check_no_unit(neighbours, "neighbours")
    if is_number(neighbours):
        mean = as_float(neighbours)
        if 0 <= mean <= _MAX_NEIGHBOURS:
            return mean
        raise _wrong_counts(n_samples, repr(neighbours))
    counts = _as_integers(neighbours)
    if counts is None or counts.shape != (n_samples,):
        got = repr(neighbours) if counts is None else f"the shape {counts.shape}"
        raise _wrong_counts(n_samples, got)
    wrong = (counts < 0) | (counts > _MAX_NEIGHBOURS)
    if wrong.any():
        got = f"{counts[wrong][0]} at index {np.argmax(wrong)}"
        raise _wrong_counts(n_samples, got)
    return counts.astype(int)


def _as_integers(values):
    """Return an array of integers, or None for anything else."""
    if isinstance(values, (str, tuple)) or np.ma.is_masked(values):
        return None
    try:
        values = np.asarray(values)
    except ValueError:
        return None
    return values if values.dtype.kind in "iu" else None


def _wrong_counts(n_samples, got):
    wanted = (
        f"the mean number of a stamp, from 0 to {_MAX_NEIGHBOURS}, or a 1-D array of "
        f"n_samples={n_samples} integers from 0 to {_MAX_NEIGHBOURS}"
    )
    return parameter_error("neighbours", wanted, got)


def _draw_rows(counts, n_numbers, entropy):
    """Return a row of random numbers for each neighbour, those of stamp 0 first."""
    rows = [
        stamp_generator(entropy, index, Stream.NEIGHBOURS).random((count, n_numbers))
        for index, count in enumerate(counts)
    ]
    return np.concatenate(rows)
