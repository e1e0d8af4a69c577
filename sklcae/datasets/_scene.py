"""The galaxies of every stamp: the central one, its bulge and its neighbours."""

from dataclasses import dataclass

import numpy as np

from sklcae.datasets._bands import (
    draw_fluxes,
    draw_neighbour_fluxes,
    in_band,
    parse_colors,
)
from sklcae.datasets._bulges import draw_bulges, parse_bulges, split_galaxy
from sklcae.datasets._neighbours import (
    Neighbours,
    NeighbourSources,
    draw_neighbours,
    parse_neighbours,
)
from sklcae.datasets._parameters import (
    ALLOWED,
    COLUMNS,
    draw_parameters,
    parse_parameters,
)


@dataclass(frozen=True)
class SceneSources:
    """Checked settings from which the `Scene` of all stamps is drawn."""

    galaxies: dict
    bulges: dict | None
    neighbours: NeighbourSources | None
    colors: list
    neighbour_colors: list


@dataclass(frozen=True)
class Scene:
    """The galaxies of all stamps.

    Parameters
    ----------
    table : dict of name -> ndarray of shape (n_samples,)
        The parameters of the central galaxies, and of their bulges if there are any.
        The flux is that in the first band.
    fluxes : ndarray of shape (n_samples, n_bands)
    neighbours : Neighbours or None
    neighbour_fluxes : ndarray of shape (n_neighbours, n_bands) or None
    """

    table: dict
    fluxes: np.ndarray
    neighbours: Neighbours | None = None
    neighbour_fluxes: np.ndarray | None = None

    def part(self, rows):
        """Return the scene of a slice of the stamps."""
        table = {name: values[rows] for name, values in self.table.items()}
        if self.neighbours is None:
            return Scene(table, self.fluxes[rows])
        neighbours, places = self.neighbours.part(rows)
        return Scene(
            table, self.fluxes[rows], neighbours, self.neighbour_fluxes[places]
        )

    def galaxy(self, index, band):
        """Return the Sersic profiles of a central galaxy in a band, each as a row."""
        row = {
            name: float(values[index])
            for name, values in self.table.items()
            if name not in ("e1", "e2")
        }
        row["flux"] = float(self.fluxes[index, band])
        return split_galaxy(row)

    def neighbours_of(self, index, band):
        """Return the neighbours of a stamp in a band, each as a row."""
        if self.neighbours is None:
            return []
        table = self.neighbours.table
        return [
            {
                **{name: float(table[name][place]) for name in ALLOWED},
                "flux": float(self.neighbour_fluxes[place, band]),
            }
            for place in self.neighbours.of(index)
        ]

    def total_flux(self, band):
        """Return the flux of all galaxies of each stamp in a band."""
        total = self.fluxes[:, band]
        if self.neighbours is None:
            return total
        return total + self.neighbours.total_flux(self.neighbour_fluxes[:, band])

    def columns(self, bands):
        """Return the parameters of the central galaxies, with the fluxes of all bands.

        ``bands`` are the names of the bands, or (None,).
        """
        fluxes = _named_fluxes(self.fluxes, bands)
        others = {name: self.table[name] for name in self.table if name != "flux"}
        return {**fluxes, **others}

    def neighbour_columns(self, bands):
        """Return the stamp and the parameters of each neighbour."""
        table = self.neighbours.table
        others = {name: table[name] for name in COLUMNS if name != "flux"}
        fluxes = _named_fluxes(self.neighbour_fluxes, bands)
        return {"stamp": table["stamp"], **fluxes, **others}


def parse_scene(settings, n_samples):
    """Check all `Settings` of galaxies, and return their `SceneSources`."""
    galaxies = parse_parameters(settings.galaxies, n_samples)
    return SceneSources(
        galaxies,
        parse_bulges(settings.bulges, n_samples),
        parse_neighbours(settings.neighbours, settings.galaxies, n_samples),
        *parse_colors(settings.colors, len(settings.bands), n_samples),
    )


def draw_scene(sources, n_samples, *, pixel_scale, sersic_index_step, entropy):
    """Draw the `Scene` of all stamps."""
    options = {"sersic_index_step": sersic_index_step, "entropy": entropy}
    table = draw_parameters(sources.galaxies, n_samples, **options)
    fluxes = draw_fluxes(table["flux"], sources.colors, entropy=entropy)
    if sources.bulges is not None:
        table |= draw_bulges(sources.bulges, n_samples, **options)
    if sources.neighbours is None:
        return Scene(table, fluxes)
    neighbours = draw_neighbours(
        sources.neighbours, table, pixel_scale=pixel_scale, **options
    )
    neighbour_fluxes = draw_neighbour_fluxes(
        neighbours, sources.neighbour_colors, entropy=entropy
    )
    return Scene(table, fluxes, neighbours, neighbour_fluxes)


def _named_fluxes(fluxes, bands):
    return {
        in_band("flux", band): one for band, one in zip(bands, fluxes.T, strict=True)
    }
