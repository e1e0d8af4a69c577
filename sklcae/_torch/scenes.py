"""Scenes: the profiles on a stamp, in one band or several, and their parameters."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sklcae._torch.sersic import (
    E1,
    E2,
    LOG_FLUX,
    LOG_INDEX,
    LOG_RADIUS,
    N_PARAMETERS,
)

# The kind of the background, besides the kinds of parameters of the renderer.
SKY = N_PARAMETERS


@dataclass(frozen=True)
class Scene:
    """How the fitted parameters of a stamp determine its images.

    The fitted parameters are those of the sources, one source after another, and then
    the background of each band.

    Parameters
    ----------
    n_bands : int
        Number of bands.
    components : tuple of (int, tuple of int)
        The profiles on the stamp: the band of each, and the numbers of the fitted
        parameters that are its seven parameters of the renderer.
    n_central : int
        The first so many components are the central galaxy.
    """

    n_bands: int
    components: tuple
    n_central: int

    @classmethod
    def of_sources(cls, columns, n_sources, has_bulge=False):
        """Return the scene of sources with the same kinds of parameters.

        ``columns`` (n_bands, 7) are those of the first source, see
        `sklcae._profiles.ProfileParameters`. With a bulge the first source is a disc,
        and the parameters of its bulge come after those of all sources. Centre and
        ellipticity of the bulge are those of the disc.
        """
        n_each = 1 + max(max(column) for column in columns)
        sources = [
            (band, tuple(source * n_each + number for number in column))
            for source in range(n_sources)
            for band, column in enumerate(columns)
        ]
        n_bands = len(columns)
        bulge = _bulge_of(columns, n_sources * n_each) if has_bulge else []
        components = (*sources[:n_bands], *bulge, *sources[n_bands:])
        return cls(n_bands, components, n_bands + len(bulge))

    @cached_property
    def n_parameters(self):
        """Number of the parameters of all sources."""
        return 1 + max(max(columns) for _, columns in self.components)

    @property
    def n_sources(self):
        """Number of sources."""
        return 1 + (len(self.components) - self.n_central) // self.n_bands

    @property
    def bulge(self):
        """The numbers of the parameters of the bulge, none without one."""
        disc, bulge = (
            {number for _, columns in part for number in columns}
            for part in (
                self.components[: self.n_bands],
                self.components[self.n_bands : self.n_central],
            )
        )
        return sorted(bulge - disc)

    @property
    def n_fitted(self):
        """Number of all fitted parameters, with the backgrounds."""
        return self.n_parameters + self.n_bands

    @property
    def skies(self):
        """The numbers of the backgrounds."""
        return np.arange(self.n_parameters, self.n_fitted)

    def in_band(self, band):
        """Return the numbers of the parameters of each profile in a band."""
        return [list(columns) for of, columns in self.components if of == band]

    def only_in(self, band):
        """Return the numbers of the parameters that no other band depends on."""
        own, others = (
            {
                n
                for of, columns in self.components
                if (of == band) == is_own
                for n in columns
            }
            for is_own in (True, False)
        )
        return [*sorted(own - others), self.skies[band]]

    @cached_property
    def kinds(self):
        """The kind of each fitted parameter: its place in the renderer, or `SKY`."""
        kinds = np.full(self.n_fitted, SKY)
        for _, columns in self.components:
            kinds[list(columns)] = np.arange(N_PARAMETERS)
        return kinds

    @cached_property
    def fluxes(self):
        """The number and the band of each flux, two arrays."""
        pairs = sorted({(columns[LOG_FLUX], band) for band, columns in self.components})
        return tuple(np.array(pairs).T)

    @cached_property
    def ellipticities(self):
        """The numbers of each pair e1 and e2, (n_pairs, 2)."""
        pairs = {(columns[E1], columns[E2]) for _, columns in self.components}
        return np.array(sorted(pairs))


def _bulge_of(columns, first):
    """Return the components of a bulge whose own parameters have numbers from first.

    They are a flux and a radius in each band, or one radius if the disc has one, and
    an index.
    """
    own = {}
    for kind in (LOG_FLUX, LOG_RADIUS, LOG_INDEX):
        for column in columns:
            own.setdefault(column[kind], first + len(own))
    return [
        (band, tuple(own.get(number, number) for number in column))
        for band, column in enumerate(columns)
    ]
