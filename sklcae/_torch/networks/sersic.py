"""The network "sersic": a profile through any PSF, and an encoder for its latents."""

import math
from typing import NamedTuple

import torch
from torch import nn

from sklcae._torch.batches import Batch
from sklcae._torch.networks.base import Architecture, Encoder, Encoding
from sklcae._torch.networks.layers import ResidualBlock
from sklcae._torch.networks.measurements import measure, n_features
from sklcae._torch.sersic import (
    E1,
    INDEX_LIMITS,
    LOG_FLUX,
    N_PARAMETERS,
    RenderFunction,
    X,
    Y,
    psf_waves,
    transform_size,
)
from sklcae._torch.shapelets import render_shapelets

# Width and number of the residual blocks of the encoder, width of its layers for the
# variance, and the share of the usual size of the first weights of the latents.
WIDTH, N_BLOCKS = 248, 3
N_VARIANCE_UNITS = 64
FIRST_WEIGHTS = 0.1
# The guess of a latent is within so many scales of the targets.
FARTHEST_GUESS = 10.0
# The coefficient of a latent of 1. A step of the optimizer may change a latent by some
# tenths. Coefficients of that size would drown the galaxy.
COEFFICIENT_UNIT = 0.02
# Parameters are kept within these limits, in pixels, so that any latents give an image:
# the logarithm of the flux in units of the noise, the radius as a share of the larger
# side, the ellipticity, and the distance of the centre outside of the stamp in sides.
LOG_FLUX_LIMITS = (-20.0, 40.0)
RADIUS_LIMITS = (1e-3, 16.0)
MOST_ELLIPTICAL = 0.98
FARTHEST_CENTER = 1.0
# A parameter whose logarithm is not a target is at least this many of its scale.
LEAST_SHARE = 1e-2


class ProfileUnits(NamedTuple):
    """How latents become the parameters of Sersic profiles.

    The parameters of a galaxy are in the order flux, half-light radius, Sersic index,
    e1, e2, x0 and y0. With several bands there are several fluxes, and there may be
    several radii. Each field but ``bands`` has an entry for each parameter. The
    parameter, or its logarithm where ``is_logarithm``, is ``mean + scale * latent`` in
    its own unit, with the latent of the number ``columns``: a target, or one of z_rest
    for a parameter that is no target.

    Parameters
    ----------
    columns : tuple of int
        The number of the latent.
    mean, scale : tuple of float
        From the latent to the parameter.
    is_logarithm : tuple of bool
        Whether that is the logarithm.
    unit : tuple of float
        The unit of the renderer in that of the parameter: the unit of the light, the
        side of a pixel, and 1.
    origin : tuple of float
        The zero of the renderer: half a pixel for x0 and y0.
    bands : tuple of tuple of int
        For each band the numbers of the seven parameters that the renderer takes.
    window : tuple of tuple of float or None
        The least x and y of the centres, and the largest ones, in pixels from the
        centre of the first pixel. None is the whole stamp.
    """

    columns: tuple[int, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    is_logarithm: tuple[bool, ...]
    unit: tuple[float, ...]
    origin: tuple[float, ...]
    bands: tuple[tuple[int, ...], ...] = (tuple(range(N_PARAMETERS)),)
    window: tuple[tuple[float, float], ...] | None = None

    def n_free(self, n_targets):
        """Return the number of parameters that are no targets."""
        return sum(column >= n_targets for column in self.columns)

    @property
    def kinds(self):
        """For each parameter its number among the seven of the renderer."""
        kinds = {i: kind for band in self.bands for kind, i in enumerate(band)}
        return [kinds[i] for i in range(len(self.columns))]


class SersicEncoder(Encoder):
    """Shapelets of several widths, and dense layers that read latents off them.

    The encoder first measures each stamp. The centre of the galaxy is sought where the
    training set has most centres. Pixels that are brighter than their partners on the
    other side of it have light of a neighbour, and get the light of the partner. Around
    the centre the encoder computes the coefficients of shapelets [1]_ of six widths and
    orders up to 4, in the light, in light that is stretched to constant noise, and in
    the light that was replaced. They are divided by the flux within a Gaussian. That
    flux, signal-to-noise ratios, the noise, the centre and the light along the edges
    are measured too. The PSF is measured in the same way, with four widths. Several
    bands are measured around one centre, found in their sum, and each is divided by its
    own flux.

    A dense layer, three residual blocks and a dense layer lead from the measurements to
    the latents. The measured fluxes and the centre are added to their latents, so that
    the layers only learn the correction. All latents are linear. z_rest begins with the
    parameters of the profile that are no targets.

    Parameters
    ----------
    architecture : Architecture
        The sizes of the network, with ``profile`` and ``light_scale``.

    References
    ----------
    .. [1] A. Refregier, "Shapelets - I. A method for image analysis", MNRAS 338, 35
       (2003).

    Examples
    --------
    The encoder of the model that comes with sklcae:

    >>> from sklcae import load_pretrained
    >>> encoder = load_pretrained("ground").net_.module_.encoder
    >>> type(encoder).__name__, encoder.sizes
    ('SersicEncoder', [7, 1])
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        profile = _profile_of(architecture)
        self.sizes = [architecture.n_targets, architecture.n_rest]
        self.light_scale = architecture.light_scale
        self.units = _Units(profile)
        self.dense_in = nn.Linear(n_features(len(profile.bands)), WIDTH)
        blocks = [ResidualBlock(WIDTH) for _ in range(N_BLOCKS)]
        self.blocks = nn.Sequential(*blocks, nn.LayerNorm(WIDTH))
        self.dense_latents = nn.Linear(WIDTH, architecture.latent_dim)
        n_drawn = architecture.n_targets + profile.n_free(architecture.n_targets)
        with torch.no_grad():
            # A new network returns about the measured flux and centre.
            self.dense_latents.weight.mul_(FIRST_WEIGHTS)
            self.dense_latents.weight[n_drawn:] = 0
            self.dense_latents.bias.zero_()
        self._add_variance_head(architecture, WIDTH, N_VARIANCE_UNITS)

    def forward(self, batch: Batch) -> Encoding:
        """Return the `Encoding` of a batch."""
        measured = self._measure(batch)
        features = self.blocks(self.dense_in(measured.features))
        latents = self.dense_latents(features)
        latents = latents + self.units.guess(latents, measured)
        z_phy, z_rest = latents.split(self.sizes, dim=1)
        return Encoding(z_phy, z_rest, self._log_variance(features))

    def _measure(self, batch):
        scale = self.light_scale.to(batch.images.device)
        noise = scale.noise_of(batch)
        light = scale.light(batch.images)
        window = self.units.window(batch.images.shape)
        return measure(light, noise.background, noise.gain, batch.psf, window)


class _Units(nn.Module):
    """`ProfileUnits` on the device of a network."""

    def __init__(self, profile):
        super().__init__()
        self.columns = list(profile.columns)
        self.fluxes = [band[LOG_FLUX] for band in profile.bands]
        self.center = [profile.bands[0][i] for i in (X, Y)]
        self.ends = profile.window
        # The first parameters are rendered from their logarithms.
        self.n_logarithms = profile.bands[0][E1]
        for name in ("mean", "scale", "unit", "origin", "is_logarithm"):
            values = torch.tensor(getattr(profile, name), dtype=torch.float32)
            self.register_buffer(name, values, persistent=False)

    def parameters_of(self, latents):
        """Return the parameters of the galaxies (n, n_parameters), without limits."""
        n_logs = self.n_logarithms
        values = self.mean + self.scale * latents[:, self.columns]
        logs, others = values.tensor_split([n_logs], dim=1)
        least = LEAST_SHARE * self.scale[:n_logs]
        plain = torch.maximum(logs, least).log()
        logs = torch.where(self.is_logarithm[:n_logs] > 0, logs, plain)
        logs = logs - self.unit[:n_logs].log()
        return torch.cat([logs, others - self.origin[n_logs:]], dim=1)

    def window(self, image_shape):
        """Return the least and the largest x and y where a centre may be, (2, 2).

        The stamps have a shape (..., H, W).
        """
        last = self.mean.new_tensor([image_shape[-1] - 1.0, image_shape[-2] - 1.0])
        stamp = torch.stack([torch.zeros_like(last), last])
        if self.ends is None:
            return stamp
        ends = self.mean.new_tensor(self.ends)
        return torch.minimum(ends.clamp(min=0), last)

    def guess(self, latents, measured):
        """Return the latents of measured fluxes and centres; the others are 0."""
        log_flux = measured.log_flux + self.unit[self.fluxes].log()
        is_logarithm = self.is_logarithm[self.fluxes] > 0
        flux = torch.where(is_logarithm, log_flux, log_flux.exp())
        center = measured.center + self.origin[self.center]
        guessed = [*self.fluxes, *self.center]
        values = torch.cat([flux, center], dim=1)
        scaled = (values - self.mean[guessed]) / self.scale[guessed]
        guess = torch.zeros_like(latents)
        columns = [self.columns[i] for i in guessed]
        guess[:, columns] = scaled.clamp(-FARTHEST_GUESS, FARTHEST_GUESS)
        return guess


class SersicDecoder(nn.Module):
    """A Sersic profile and shapelets, read off the latents, through any PSF.

    The supervised latents *are* flux, half-light radius, Sersic index, e1, e2, x0 and
    y0, up to the scaling of the targets. Parameters that are no targets are the first
    latents of z_rest. Each of several bands has its own flux, its own half-light radius
    if the targets name one for each band, and its own PSF. The other parameters are
    common to all bands.

    The latents after them are coefficients of shapelets [1]_, for light that no Sersic
    profile has, such as arms, rings and lopsided light. Shapelets are Gauss-Hermite
    functions in the frame in which the profile is round, here with orders from 3
    upwards. The total light of each is 0, so that they do not change the flux. With a
    coefficient of 1, a latent of 50, a shapelet is about as bright as the galaxy. If
    all of them are 0, or there are no such latents, the image is the profile alone. The
    coefficients are relative to the flux, and common to all bands.

    Nothing in the decoder is trained. It returns the light above the sky, in the unit
    of `LightScale`, and not the logits of an image.

    Parameters
    ----------
    architecture : Architecture
        The sizes of the network, with ``profile`` and ``has_psf``.

    References
    ----------
    .. [1] A. Refregier, "Shapelets - I. A method for image analysis", MNRAS 338, 35
       (2003).

    Examples
    --------
    The decoder of the model that comes with sklcae has nothing to train:

    >>> from sklcae import load_pretrained
    >>> decoder = load_pretrained("ground").net_.module_.decoder
    >>> type(decoder).__name__, list(decoder.parameters())
    ('SersicDecoder', [])
    """

    draws_light = True
    low: torch.Tensor
    high: torch.Tensor
    bands: torch.Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        profile = _profile_of(architecture)
        n_bands, *self.image_shape = architecture.image_shape
        if not architecture.has_psf:
            raise ValueError("SersicDecoder needs stamps with PSFs")
        if n_bands != len(profile.bands):
            raise ValueError(
                f"SersicDecoder needs stamps of {len(profile.bands)} bands, as its "
                f"'profile' has them, not {n_bands}"
            )
        self.size = transform_size(self.image_shape)
        self.units = _Units(profile)
        n_targets = architecture.n_targets
        self.first_coefficient = n_targets + profile.n_free(n_targets)
        limits = _limits(self.image_shape)[:, profile.kinds]
        # The parameters of the first band, then those of the next one.
        flat = torch.tensor(profile.bands).flatten()
        for name, values in (("low", limits[0]), ("high", limits[1]), ("bands", flat)):
            self.register_buffer(name, values, persistent=False)

    def forward(self, latents: torch.Tensor, psf: torch.Tensor) -> torch.Tensor:
        """Return the light (n, n_bands, H, W) of latents through PSFs."""
        n_bands, shape = psf.shape[1], tuple(self.image_shape)
        parameters = self.parameters_of(latents)
        parameters = parameters.index_select(1, self.bands)
        # Each band of a stamp is a row.
        parameters = parameters.unflatten(1, (n_bands, N_PARAMETERS)).flatten(0, 1)
        waves = psf_waves(psf.flatten(0, 1).to(parameters.dtype), self.size)
        light = RenderFunction.apply(parameters, waves, shape)
        coefficients = COEFFICIENT_UNIT * latents[:, self.first_coefficient :]
        # Models that were trained without a reconstruction loss have no others than 0.
        trained = coefficients.requires_grad and coefficients.numel() > 0
        if trained or coefficients.any():
            coefficients = coefficients.repeat_interleave(n_bands, dim=0)
            light = light + render_shapelets(coefficients, parameters, waves, shape)
        return light.unflatten(0, (-1, n_bands))

    def parameters_of(self, latents: torch.Tensor) -> torch.Tensor:
        """Read the parameters of the galaxies off latents.

        Parameters
        ----------
        latents : torch.Tensor of shape (n, latent_dim)
            The latents.

        Returns
        -------
        torch.Tensor of shape (n, n_parameters)
            Natural logarithms of flux, radius in pixels and index, then e1, e2, and the
            centre in pixels from that of the first pixel; within their limits. Seven
            parameters with one band; with several there are more fluxes, and maybe
            radii.

        Examples
        --------
        >>> import torch
        >>> from sklcae import load_pretrained
        >>> decoder = load_pretrained("ground").net_.module_.decoder
        >>> decoder.parameters_of(torch.zeros(5, 8)).shape
        torch.Size([5, 7])
        """
        parameters = self.units.parameters_of(latents)
        parameters = torch.minimum(torch.maximum(parameters, self.low), self.high)
        n_logs = self.units.n_logarithms
        logs, e, center = parameters.tensor_split([n_logs, n_logs + X - E1], dim=1)
        too_large = (e.norm(dim=1, keepdim=True) / MOST_ELLIPTICAL).clamp(min=1)
        return torch.cat([logs, e / too_large, center], dim=1)


def _limits(image_shape):
    height, width = image_shape
    side = max(height, width)
    radii = [math.log(RADIUS_LIMITS[0]), math.log(RADIUS_LIMITS[1] * side)]
    indices = [math.log(index) for index in INDEX_LIMITS]
    ends = [LOG_FLUX_LIMITS, radii, indices, (-1, 1), (-1, 1)]
    ends += [
        (-FARTHEST_CENTER * length, (1 + FARTHEST_CENTER) * length)
        for length in (width, height)
    ]
    return torch.tensor(ends, dtype=torch.float32).T


def _profile_of(architecture):
    if architecture.profile is None or architecture.light_scale is None:
        raise ValueError(
            "it needs targets with names, the parameter 'pixel_scale', and "
            "network='sersic' or augmentation='simulation'"
        )
    return architecture.profile
