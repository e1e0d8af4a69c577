"""A decoder that knows the telescope: a Sersic profile through any PSF."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from sklcae._torch.networks.strided import StridedEncoder
from sklcae._torch.sersic import (
    E1,
    INDEX_LIMITS,
    RenderFunction,
    X,
    psf_waves,
    transform_size,
)

# The first parameters are rendered from their logarithms.
N_LOGARITHMS = E1
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
    """How latents become the parameters of a Sersic profile.

    Each field has an entry for flux, half-light radius, Sersic index, e1, e2, x0 and
    y0. The parameter, or its logarithm where ``is_logarithm``, is ``mean + scale *
    latent`` in its own unit, with the latent of the number ``columns``: a target, or
    one of z_rest for a parameter that is no target.

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
    """

    columns: tuple[int, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    is_logarithm: tuple[bool, ...]
    unit: tuple[float, ...]
    origin: tuple[float, ...]

    def n_free(self, n_targets):
        """Return the number of parameters that are no targets."""
        return sum(column >= n_targets for column in self.columns)


class SersicEncoder(StridedEncoder):
    """The strided encoder, with latents for parameters that are no targets.

    The first entries of z_rest are these parameters. They are linear, as z_phy is; the
    others have a ReLU.

    Parameters
    ----------
    architecture : Architecture
        The sizes of the network.
    """

    def __init__(self, architecture):
        super().__init__(architecture)
        self.n_free = _profile_of(architecture).n_free(architecture.n_targets)

    def _latents(self, features):
        """Return z_phy and z_rest."""
        z_phy, z_rest = self.dense_latents(features).split(self.sizes, dim=1)
        free, others = z_rest.tensor_split([self.n_free], dim=1)
        return z_phy, torch.cat([free, F.relu(others)], dim=1)


class SersicDecoder(nn.Module):
    """A Sersic profile with the parameters of the latents, through any PSF.

    The supervised latents *are* flux, half-light radius, Sersic index, e1, e2, x0 and
    y0, up to the scaling of the targets. Nothing in the decoder is trained. It returns
    the light above the sky, in the unit of `LightScale`, and not the logits of an
    image.

    Parameters
    ----------
    architecture : Architecture
        The sizes of the network, with ``profile`` and ``has_psf``.
    """

    draws_light = True

    def __init__(self, architecture):
        super().__init__()
        profile = _profile_of(architecture)
        n_bands, *self.image_shape = architecture.image_shape
        if n_bands != 1 or not architecture.has_psf:
            raise ValueError("SersicDecoder needs stamps of one band with PSFs")
        self.size = transform_size(self.image_shape)
        self.columns = list(profile.columns)
        for name in ("mean", "scale", "unit", "origin", "is_logarithm"):
            values = torch.tensor(getattr(profile, name), dtype=torch.float32)
            self.register_buffer(name, values, persistent=False)
        low, high = _limits(self.image_shape)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)

    def forward(self, latents, psf):
        """Return the light (n, 1, H, W) of latents (n, latent_dim) through PSFs."""
        parameters = self.parameters_of(latents)
        waves = psf_waves(psf[:, 0].to(parameters.dtype), self.size)
        return RenderFunction.apply(parameters, waves, tuple(self.image_shape))[:, None]

    def parameters_of(self, latents):
        """Read the parameters of the profile off latents.

        Parameters
        ----------
        latents : torch.Tensor of shape (n, latent_dim)
            The latents.

        Returns
        -------
        torch.Tensor of shape (n, 7)
            Natural logarithms of flux, radius in pixels and index, then e1, e2, and the
            centre in pixels from that of the first pixel; within their limits.
        """
        values = self.mean + self.scale * latents[:, self.columns]
        logs, others = values.tensor_split([N_LOGARITHMS], dim=1)
        least = LEAST_SHARE * self.scale[:N_LOGARITHMS]
        plain = torch.maximum(logs, least).log()
        logs = torch.where(self.is_logarithm[:N_LOGARITHMS] > 0, logs, plain)
        logs = logs - self.unit[:N_LOGARITHMS].log()
        parameters = torch.cat([logs, others - self.origin[N_LOGARITHMS:]], dim=1)
        parameters = torch.minimum(torch.maximum(parameters, self.low), self.high)
        e = parameters[:, E1:X]
        too_large = (e.norm(dim=1, keepdim=True) / MOST_ELLIPTICAL).clamp(min=1)
        return torch.cat([parameters[:, :E1], e / too_large, parameters[:, X:]], dim=1)


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
    if architecture.profile is None:
        raise ValueError(
            "it needs to know which targets are parameters of a Sersic profile: "
            "targets with names, and the parameter 'pixel_scale'"
        )
    return architecture.profile
