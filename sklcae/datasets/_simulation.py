"""All stamps of a call in all bands, drawn and ready to be rendered."""

from typing import Any, NamedTuple

import numpy as np

from sklcae._compat import InvalidParameterError
from sklcae.datasets._bands import in_band, split_bands
from sklcae.datasets._chunks import StampSettings, make_chunk
from sklcae.datasets._defect_settings import (
    DefectSources,
    draw_defects,
    parse_defects,
)
from sklcae.datasets._parallel import map_chunks
from sklcae.datasets._parameters import parameter_error
from sklcae.datasets._random import Stream, stamp_generator
from sklcae.datasets._scene import Scene, SceneSources, draw_scene, parse_scene
from sklcae.datasets._telescope import fit_psfs, make_telescope, parse_telescope

_MAX_FLUX = 1e37
_MAX_ELECTRONS = 9e18


class Settings(NamedTuple):
    """The given settings of `make_galaxies` that may differ between stamps or bands.

    ``galaxies`` has the seven physical parameters, ``bulges`` those of `BULGE`,
    ``neighbours`` their number and the settings of `NEIGHBOUR`, ``telescope`` psf, gain
    and the settings of `TELESCOPE`, and ``defects`` the settings of `NO_DEFECTS`.
    ``bands`` are the names of the bands, or (None,).
    """

    galaxies: dict
    bulges: dict
    neighbours: dict
    colors: Any
    telescope: dict
    defects: dict
    bands: tuple


class Sources(NamedTuple):
    """Checked settings from which a `Simulation` is drawn.

    The telescopes are a list with one `TelescopeSources` for each band.
    """

    scene: SceneSources
    telescopes: list
    defects: DefectSources | None
    bands: tuple


class Simulation(NamedTuple):
    """All that determines the stamps.

    Parameters
    ----------
    scene : Scene
        The galaxies.
    bands : tuple
        Names of the bands, or (None,).
    telescopes : list of Telescope
        One for each band.
    defects : list of Defects or of None
        One for each band.
    noise : bool
        Whether to add noise.
    entropy : tuple of int
        The entropy of all random generators.
    first : int
        The number of the first stamp, which its generators depend on.
    """

    scene: Scene
    bands: tuple
    telescopes: list
    defects: list
    noise: bool
    entropy: tuple
    first: int = 0

    def part(self, rows):
        """Return the simulation of a slice of the stamps: they stay bitwise the same.

        The slice has a start and a stop.
        """
        return self._replace(
            scene=self.scene.part(rows),
            telescopes=[one.part(rows) for one in self.telescopes],
            defects=[one and one.part(rows) for one in self.defects],
            first=self.first + rows.start,
        )

    @property
    def stamps_shape(self):
        """Return the shape of an array of all images, (n, n_bands, height, width)."""
        return (*self.scene.fluxes.shape, *self.telescopes[0].image_shape)

    def stamp(self, index, band):
        """Return the `StampSettings` of one stamp in one band."""
        telescope, defects = self.telescopes[band], self.defects[band]
        return StampSettings(
            self.scene.galaxy(index, band),
            self.scene.neighbours_of(index, band),
            telescope.optics(index),
            telescope.detector(index) if self.noise else None,
            stamp_generator(self.entropy, self.first + index, Stream.NOISE, band),
            None if defects is None else defects.of(index),
        )

    def columns(self):
        """Return the parameters and the varying settings of each stamp, by name."""
        columns = self.scene.columns(self.bands)
        for band, telescope, defects in zip(
            self.bands, self.telescopes, self.defects, strict=True
        ):
            varying = telescope.columns()
            varying |= {} if defects is None else defects.columns()
            columns |= {in_band(name, band): one for name, one in varying.items()}
        return columns

    def masks(self):
        """Return empty masks of the defects in use, by their name in an `Exposure`."""
        used = frozenset() if self.defects[0] is None else self.defects[0].used
        names = {"cosmic_rays": "cosmic_ray_mask", "saturation": "saturated_mask"}
        return {
            mask: np.zeros(self.stamps_shape, bool)
            for name, mask in names.items()
            if name in used
        }


def parse_settings(settings, n_samples, image_shape):
    """Check `Settings` and return their `Sources`."""
    return Sources(
        parse_scene(settings, n_samples),
        [
            parse_telescope(one, n_samples, image_shape)
            for one in split_bands(settings.telescope, settings.bands)
        ],
        parse_defects(settings.defects, n_samples),
        settings.bands,
    )


def draw_simulation(
    sources, n_samples, *, image_shape, pixel_scale, sersic_index_step, noise, entropy
):
    """Draw the `Simulation` of all stamps from its `Sources`."""
    scene = draw_scene(
        sources.scene,
        n_samples,
        pixel_scale=pixel_scale,
        sersic_index_step=sersic_index_step,
        entropy=entropy,
    )
    telescopes, defects = [], []
    for band, given in enumerate(sources.telescopes):
        stream = {"entropy": entropy, "band": band}
        pixels = {"image_shape": image_shape, "pixel_scale": pixel_scale}
        telescopes.append(make_telescope(given, n_samples, **pixels, **stream))
        defects.append(
            draw_defects(sources.defects, n_samples, gain=given.gain, **stream)
        )
    return Simulation(scene, sources.bands, telescopes, defects, noise, entropy)


def check_brightness(simulation):
    """Reject pixels that overflow float32 or the integers of the Poisson generator."""
    for band, telescope in enumerate(simulation.telescopes):
        flux = simulation.scene.total_flux(band)
        brightest = float(flux.max())
        if not brightest <= _MAX_FLUX:
            wanted = f"at most {_MAX_FLUX:g} ADU, all galaxies of a stamp together"
            raise parameter_error("flux", wanted, f"{brightest:g}")
        light = flux + telescope.values["sky_level"]
        electrons = float(light.max()) * telescope.gain
        if simulation.noise and not electrons < _MAX_ELECTRONS:
            raise InvalidParameterError(
                "The 'flux', 'sky_level' and 'gain' parameters of make_galaxies must "
                f"give less than {_MAX_ELECTRONS:g} electrons, (flux + sky_level) * "
                f"gain. Got {electrons:g} instead."
            )


def make_stamps(simulation, kinds, **options):
    """Return the planes of all stamps and their masks.

    The planes are (n_samples, n_planes, n_bands, height, width); the masks are a dict
    of name -> bool array (n_samples, n_bands, height, width). The options are
    parameters of `map_chunks`.
    """
    n_samples, *stamp_shape = simulation.stamps_shape
    X = np.empty((n_samples, len(kinds), *stamp_shape), dtype=np.float32)
    planes = {kind: X[:, i] for i, kind in enumerate(kinds)}
    masks = simulation.masks()
    for band, telescope in enumerate(simulation.telescopes):
        if "variance" in planes:
            fill_variance(planes["variance"][:, band], telescope)
        if "psf" in planes and isinstance(telescope.psf, list):
            fill_psf(planes["psf"][:, band], telescope)
    for band in range(len(simulation.bands)):
        _render_band(planes, masks, simulation, band, **options)
    return X, masks


def fill_variance(plane, telescope):
    """Write the variance of the background, and refuse what float32 cannot hold."""
    with np.errstate(over="ignore", under="ignore"):
        variance = telescope.background_variance().astype(np.float32)
    wrong = ~((variance > 0) & np.isfinite(variance))
    if wrong.any():
        raise InvalidParameterError(
            "The 'sky_level', 'read_noise' and 'gain' parameters of make_galaxies must "
            "give a positive variance that float32 can hold, for the plane 'variance' "
            f"of each stamp. Got {variance[wrong][0]:g} at index {np.argmax(wrong)} "
            "instead."
        )
    plane[:] = variance[:, np.newaxis, np.newaxis]


def fill_psf(plane, telescope):
    """Write PSFs that are images; other PSFs are drawn with the stamps."""
    fitted = fit_psfs(np.stack([psf.image for psf in telescope.psf]), plane.shape[1:])
    plane[:] = fitted[telescope.values["psf_index"]]


def _render_band(planes, masks, simulation, band, *, n_jobs, verbose):
    """Render all stamps in a band, and PSFs that are not images."""
    draws_psf = "psf" in planes and not isinstance(
        simulation.telescopes[band].psf, list
    )

    def arguments(chunk):
        return [simulation.stamp(int(index), band) for index in chunk], draws_psf

    for chunk, (exposure, psfs) in map_chunks(
        make_chunk,
        arguments,
        simulation.scene.table["sersic_index"],
        n_jobs=n_jobs,
        verbose=verbose,
        purpose="make_galaxies",
        desc=" ".join(filter(None, ("galaxies", simulation.bands[band]))),
    ):
        planes["image"][chunk, band] = exposure.image
        for name, mask in masks.items():
            mask[chunk, band] = getattr(exposure, name)
        if draws_psf:
            planes["psf"][chunk, band] = psfs
