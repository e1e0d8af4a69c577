"""New galaxies for every step of the training, drawn like those of the training set."""

import math

import numpy as np
import torch

from sklcae._torch.networks.measurements import noise_of_stamps
from sklcae._torch.sersic import (
    E1,
    LOG_FLUX,
    LOG_RADIUS,
    X,
    Y,
    psf_waves,
    render,
    transform_size,
)
from sklcae._torch.workers import in_order

# Images that are rendered at once.
BLOCK = 8
# A neighbour is at least so many pixels from the galaxy, and at most this share of the
# larger side. Its flux over that of the galaxy is even in the logarithm.
NEAREST, FARTHEST_SHARE = 7.0, 0.6
FLUX_RATIOS = (0.05, 2.0)
# A new galaxy differs from one of the training set by this width in the rank of each
# of its parameters, as a share of the training set.
RANK_SIGMA = 0.05


class SimulatedGalaxies:
    """Replace the images of a batch by simulated ones, with the same PSFs and noise.

    The parameters of a new galaxy are those of a random galaxy of the training set,
    with changed ranks: each parameter moves to a near quantile of the training set. The
    distribution of each parameter stays the same, and nearly so do their relations. The
    position angle is random. With several bands the flux of the first band and the
    colours of neighbouring bands change ranks, and not the other fluxes: fluxes that
    moved independently would have colours that no galaxy has. Radii of several bands
    do likewise, by their ratios. The noise is Gaussian, with the variance of the
    background and of the light.

    Parameters
    ----------
    parameters : ndarray of shape (n_galaxies, n_parameters)
        The parameters of the training set, in units of the light and in pixels: the
        seven of `render`, with a flux, and maybe a radius, for each band. An average
        over position angles: e1 and e2 enter by their ellipticity.
    standardise : callable
        Turns such parameters, an array, into scaled targets.
    bands : tuple of tuple of int
        For each band the columns of the parameters that `render` takes.
    light_scale : LightScale
        The scale of the images.
    generator : torch.Generator
        Source of the galaxies and of their noise, on the CPU.
    n_neighbours : float
        Mean number of neighbours of a galaxy: galaxies of the same distribution, but
        for their fluxes and distances.
    sky : float or ndarray of shape (m, n_bands)
        Standard deviation of the background that is left on a stamp, in units of the
        median noise of its pixels; or backgrounds in that unit, to draw from.
    """

    def __init__(
        self,
        parameters,
        standardise,
        bands,
        light_scale,
        generator,
        n_neighbours=0.0,
        sky=0.0,
    ):
        self.bands = np.array(bands)
        self.e1 = self.bands[0, E1]
        values = _to_ratios(parameters, self.bands)
        values[:, self.e1] = np.hypot(*parameters.T[self.e1 : self.e1 + 2])
        order = values.argsort(axis=0, kind="stable")
        self.quantiles = np.take_along_axis(values, order, axis=0)
        self.shares = (np.arange(len(values)) + 0.5) / len(values)
        self.ranks = np.empty_like(values)
        np.put_along_axis(self.ranks, order, self.shares[:, None], axis=0)
        self.standardise = standardise
        self.light_scale = light_scale
        self.generator = generator
        self.n_neighbours = n_neighbours
        self.sky = torch.as_tensor(sky, dtype=torch.float32)

    def __call__(self, batch, executor=in_order):
        """Return the batch with other images and targets; partners too."""
        if batch.partners is not None:
            batch = batch._replace(partners=self(batch.partners, executor))
        parameters = self._draw(len(batch.images))
        light = self._render(parameters, batch.psf, executor)
        if self.n_neighbours:
            light = self._add_neighbours(light, parameters, batch.psf, executor)
        noise = self.light_scale.noise_of(batch)
        deviates = torch.randn(light.shape, generator=self.generator)
        image = light + noise.variance(light).sqrt() * deviates
        if self.sky.any():
            image = image + self._draw_sky(noise.background.expand_as(light))
        images = self.light_scale.scaled(image)
        targets = torch.from_numpy(self.standardise(parameters))
        return batch._replace(images=images, targets=targets, target_weights=None)

    def _draw(self, n):
        """Draw parameters of new galaxies, (n, n_parameters), float64."""
        rows = torch.randint(len(self.ranks), (n,), generator=self.generator)
        moves = torch.randn(n, self.ranks.shape[1], generator=self.generator)
        moves = moves.double().numpy()
        ranks = np.abs(self.ranks[rows.numpy()] + RANK_SIGMA * moves)
        # Ranks beyond the ends are reflected.
        ranks = 1 - np.abs(1 - ranks)
        drawn = np.column_stack(
            [
                np.interp(rank, self.shares, values)
                for rank, values in zip(ranks.T, self.quantiles.T, strict=True)
            ]
        )
        angle = 2 * math.pi * torch.rand(n, generator=self.generator).double().numpy()
        e = drawn[:, self.e1]
        drawn[:, self.e1 : self.e1 + 2] = np.column_stack(
            [e * np.cos(angle), e * np.sin(angle)]
        )
        return _from_ratios(drawn, self.bands)

    def _add_neighbours(self, light, parameters, psf, executor):
        """Return the light of galaxies with some parameters and of their neighbours."""
        galaxies, others = self._draw_neighbours(parameters, psf.shape)
        if not len(galaxies):
            return light
        return light.index_add(
            0, galaxies, self._render(others, psf[galaxies], executor)
        )

    def _draw_neighbours(self, parameters, shape):
        """Draw neighbours of galaxies on stamps of a shape (n, n_bands, H, W).

        Returns the number of the galaxy of each neighbour, and its parameters.
        """
        means = torch.full((len(parameters),), float(self.n_neighbours))
        counts = torch.poisson(means, generator=self.generator).long()
        galaxies = torch.arange(len(parameters)).repeat_interleave(counts)
        near, drawn = parameters[galaxies.numpy()], self._draw(len(galaxies))
        uniforms = torch.rand(3, len(galaxies), generator=self.generator)
        share, turn, along = uniforms.double().numpy()
        low, high = np.log(FLUX_RATIOS)
        ratio = low + share * (high - low)
        fluxes, radii = (
            np.unique(self.bands[:, kind]) for kind in (LOG_FLUX, LOG_RADIUS)
        )
        first = self.bands[0, LOG_FLUX]
        drawn[:, fluxes] += (near[:, first] + ratio - drawn[:, first])[:, None]
        # Fainter neighbours are smaller.
        drawn[:, radii] += ratio[:, None] / 2
        farthest = max(FARTHEST_SHARE * max(shape[-2:]), NEAREST)
        distance = NEAREST + along * (farthest - NEAREST)
        angle = 2 * math.pi * turn
        x, y = self.bands[0, X], self.bands[0, Y]
        drawn[:, x] = near[:, x] + distance * np.cos(angle)
        drawn[:, y] = near[:, y] + distance * np.sin(angle)
        return galaxies, drawn

    def _draw_sky(self, background):
        """Draw the backgrounds (n, n_bands, 1, 1) of stamps with some variance."""
        level = noise_of_stamps(background)[:, :, None, None]
        if self.sky.ndim:
            rows = torch.randint(
                len(self.sky), level.shape[:1], generator=self.generator
            )
            return self.sky[rows][:, :, None, None] * level
        return self.sky * level * torch.randn(level.shape, generator=self.generator)

    def _render(self, parameters, psf, executor):
        """Return the light (n, n_bands, H, W) of galaxies through their PSFs."""
        theta = torch.from_numpy(parameters[:, self.bands]).float().flatten(0, 1)
        psf, n_bands = psf.flatten(0, 1), psf.shape[1]
        image_shape = tuple(psf.shape[1:])
        size = transform_size(image_shape)

        def render_block(start):
            block = slice(start, start + BLOCK)
            return render(theta[block], psf_waves(psf[block], size), image_shape)

        blocks = executor(render_block, list(range(0, len(theta), BLOCK)))
        return torch.cat(blocks).unflatten(0, (-1, n_bands))


def _to_ratios(parameters, bands):
    """Return parameters with logarithms of ratios of each band and the one before it.

    They take the places of fluxes and radii of all bands but the first.
    """
    changed = parameters.copy()
    for columns in _columns_of_bands(bands):
        changed[:, columns[1:]] -= parameters[:, columns[:-1]]
    return changed


def _from_ratios(changed, bands):
    """Return the parameters of `_to_ratios`."""
    parameters = changed.copy()
    for columns in _columns_of_bands(bands):
        parameters[:, columns] = changed[:, columns].cumsum(axis=1)
    return parameters


def _columns_of_bands(bands):
    """Return the columns of the fluxes, and those of the radii, in all bands."""
    return [np.unique(bands[:, kind]) for kind in (LOG_FLUX, LOG_RADIUS)]
