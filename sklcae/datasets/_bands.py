"""Several bands of the same galaxies: settings of each band, and colours."""

from collections.abc import Mapping

import numpy as np

from sklcae.datasets._parameters import (
    as_population,
    draw_sources,
    parameter_error,
    parse_parameter,
)
from sklcae.datasets._random import Stream, draw_uniforms, stamp_generator


def check_bands(bands):
    """Return the names of the bands as a tuple, or None."""
    if bands is None:
        return None
    names = () if isinstance(bands, str) else tuple(bands)
    known = all(isinstance(name, str) and name for name in names)
    if names and known and len(set(names)) == len(names):
        return names
    wanted = "None or a sequence of different names, such as ('g', 'r', 'i')"
    raise parameter_error("bands", wanted, repr(bands))


def in_band(name, band):
    """Return the name of a quantity in a band; a band of None adds nothing."""
    return name if band is None else f"{name}_{band}"


def split_bands(given, bands):
    """Return a dict of settings for each of the bands, which may be (None,).

    A setting is the same in all bands, or a dict of band -> setting.
    """
    for name, value in given.items():
        if isinstance(value, Mapping) and set(value) != set(bands):
            raise _wrong_bands(name, value, bands)
    return [
        {
            name: value[band] if isinstance(value, Mapping) else value
            for name, value in given.items()
        }
        for band in bands
    ]


def _wrong_bands(name, value, bands):
    if bands == (None,):
        wanted = "without bands, not a dict, which needs the parameter 'bands'"
        return parameter_error(name, wanted, repr(value))
    wanted = f"a setting for all bands, or a dict with the keys {', '.join(bands)}"
    return parameter_error(name, wanted, f"the keys {', '.join(map(repr, value))}")


def parse_colors(colors, n_bands, n_samples):
    """Check the colours, and return sources for each pair of successive bands.

    There are two lists, of the sources for central galaxies and for neighbours.
    """
    n_pairs = n_bands - 1
    if isinstance(colors, list) and len(colors) != n_pairs:
        wanted = f"one for all pairs of bands, or a list with one for each, {n_pairs}"
        raise parameter_error("colors", wanted, f"a list of {len(colors)}")
    each = colors if isinstance(colors, list) else [colors]
    central = [parse_parameter("colors", one, n_samples) for one in each]
    neighbours = [as_population("colors", one) for one in each]
    if not isinstance(colors, list):
        central, neighbours = central * n_pairs, neighbours * n_pairs
    return central, neighbours


def draw_fluxes(flux, sources, *, entropy):
    """Return the fluxes of galaxies in all bands, (n_samples, n_bands)."""
    uniforms = draw_uniforms(
        len(flux), len(sources), entropy=entropy, stream=Stream.COLORS
    )
    colors = draw_sources(dict(enumerate(sources)), uniforms)
    return _fluxes(flux, colors.values())


def draw_neighbour_fluxes(neighbours, sources, *, entropy):
    """Return the fluxes of `Neighbours` in all bands, (n_neighbours, n_bands)."""
    counts = np.diff(neighbours.starts)
    colors = []
    for pair, source in enumerate(sources):
        numbers = [
            stamp_generator(entropy, index, Stream.NEIGHBOUR_COLORS, pair).random(count)
            for index, count in enumerate(counts)
        ]
        colors.append(source.draw(np.concatenate(numbers)))
    return _fluxes(neighbours.table["flux"], colors)


def _fluxes(flux, colors):
    """Return the fluxes in all bands from the fluxes in the first one."""
    fluxes = [flux]
    for color in colors:
        # A colour is the magnitude in a band minus the magnitude in the next one.
        fluxes.append(fluxes[-1] * 10 ** (0.4 * color))
    return np.column_stack(fluxes)
