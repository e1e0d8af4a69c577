"""A deeper encoder of strided convolutions, for many targets at once."""

from math import expm1

import torch
import torch.nn.functional as F
from torch import nn

from sklcae._torch.batches import Batch
from sklcae._torch.networks.base import Architecture, Encoder
from sklcae._torch.networks.psf import PSFConditions

# Filters and strides of the 3 x 3 convolutions, beginning at the stamp.
LAYERS = ((24, 2), (32, 1), (64, 2), (64, 1), (96, 2), (96, 1))
# The attention maps follow this convolution, 16 x 16 for a stamp of 64 x 64.
ATTENTION_AFTER = 3
N_MAPS = 8
N_HIDDEN = 128
# About the range of the asinh stretch, so that its inverse is linear in the light.
STEEPNESS = 6.0
# Brighter pixels are exponentiated as if they had this value, four times the brightest
# pixel of the training set. Without a bound the exponential would overflow.
BRIGHTEST = 4.0


class StridedEncoder(Encoder):
    """A deeper encoder with strided convolutions.

    Each channel enters twice, as scaled and exponentiated, ``expm1(6 x) / expm1(6)``.
    For images with the asinh stretch the second is nearly the light itself, and the
    flux is linear in it. Six 3 x 3 convolutions with SiLU (strides 2, 1, 2, 1, 2, 1)
    lead to 96 small images, 8 x 8 for a stamp of 64 x 64. Two dense layers read all
    latents off the means and maxima of these images, and off the centres of eight
    attention maps: the expected coordinates under a softmax over the pixels, which
    keep positions. z_phy is linear, z_rest has a ReLU.

    If the stamps have PSFs, two dense layers lead from features of the PSF (its size,
    ellipticity and wings) to a scale and a shift of each channel, after each
    convolution and after the first dense layer [1]_. A new network begins with scales
    of 1 and shifts of 0.

    Parameters
    ----------
    architecture : Architecture
        The sizes of the network.

    References
    ----------
    .. [1] E. Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer",
       AAAI 2018.

    Examples
    --------
    >>> import torch
    >>> from sklcae.networks import Architecture, Batch, StridedEncoder
    >>> encoder = StridedEncoder(Architecture((1, 64, 64), n_targets=2, latent_dim=64))
    >>> encoder(Batch(torch.zeros(5, 1, 64, 64))).latents.shape
    torch.Size([5, 64])
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.sizes = [architecture.n_targets, architecture.n_rest]
        widths = [2 * architecture.image_shape[0], *(width for width, _ in LAYERS)]
        self.convs = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 3, stride, padding=1)
            for n_in, (n_out, stride) in zip(widths, LAYERS, strict=False)
        )
        self.attention = nn.Conv2d(LAYERS[ATTENTION_AFTER][0], N_MAPS, 1)
        self.dense_hidden = nn.Linear(2 * widths[-1] + 2 * N_MAPS, N_HIDDEN)
        self.dense_latents = nn.Linear(N_HIDDEN, architecture.latent_dim)
        self._add_variance_head(architecture, N_HIDDEN, N_HIDDEN)
        self.conditions = None
        if architecture.has_psf:
            self.conditions = PSFConditions(
                architecture.image_shape[0], [*widths[1:], N_HIDDEN]
            )

    def features(self, batch: Batch) -> torch.Tensor:
        """Return the features of the images, (n, n_features)."""
        images = batch.images
        exponent = STEEPNESS * images.clamp(max=BRIGHTEST)
        light = torch.expm1(exponent) / expm1(STEEPNESS)
        x = torch.cat([images, light], dim=1)
        films = [None] * (len(self.convs) + 1)
        if self.conditions is not None:
            films = self.conditions(batch.psf)
        for index, conv in enumerate(self.convs):
            x = F.silu(_modulated(conv(x), films[index]))
            if index == ATTENTION_AFTER:
                centers = _centers(self.attention(x))
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3)), centers], dim=1)
        return F.silu(_modulated(self.dense_hidden(pooled), films[-1]))

    def _latents(self, features):
        """Return z_phy and z_rest."""
        z_phy, z_rest = self.dense_latents(features).split(self.sizes, dim=1)
        return z_phy, F.relu(z_rest)


def _modulated(features, film):
    """Return features (n, width, ...) with a scale and a shift (n, width), if any."""
    if film is None:
        return features
    scale, shift = (part[(...,) + (None,) * (features.ndim - 2)] for part in film)
    return features * scale + shift


def _centers(maps):
    """Return the expected x and y, from -1 to 1, under the softmax of each map."""
    height, width = maps.shape[2:]
    shares = maps.flatten(2).softmax(dim=2).unflatten(2, (height, width))
    x, y = _coordinates(width, maps), _coordinates(height, maps)
    return torch.cat([shares.sum(2) @ x, shares.sum(3) @ y], dim=1)


def _coordinates(length, like):
    pixels = torch.arange(length, dtype=like.dtype, device=like.device)
    return (2 * pixels + 1) / length - 1
