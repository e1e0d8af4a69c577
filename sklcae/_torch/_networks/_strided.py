"""A deeper encoder of strided convolutions, for the most that a stamp tells."""

from math import expm1

import torch
import torch.nn.functional as F
from torch import nn

from sklcae._torch._networks._base import Autoencoder
from sklcae._torch._networks._decoder import PaperDecoder

__all__ = ["StridedEncoder", "StridedNetwork"]

# Filters and strides of the convolutions of 3 x 3, from the stamp on.
LAYERS = ((24, 2), (32, 1), (64, 2), (64, 1), (96, 2), (96, 1))
# After which of them the attention maps look, 16 x 16 for a stamp of 64 x 64.
ATTENTION_AFTER = 3
N_MAPS = 8
N_HIDDEN = 128
# About the range of the asinh stretch, whose inverse is then linear in the light.
STEEPNESS = 6.0


class StridedEncoder(Autoencoder):
    """A deeper encoder with strided convolutions.

    It sees each channel twice, as it is scaled and exponentiated,
    ``expm1(6 x) / expm1(6)``: of images with the asinh stretch that is about the light
    itself, which the flux is linear in. Six convolutions of 3 x 3
    with SiLU (strides 2, 1, 2, 1, 2, 1) lead to 96 small images, 8 x 8 for a stamp of
    64 x 64. Two dense layers read all latents off their means and maxima and off the
    centres of eight attention maps (a softmax over the pixels, whose expected
    coordinates are taken), which keep where things are. z_phy is linear, z_rest has a
    ReLU.

    Parameters
    ----------
    image_shape : tuple of int
        Channels, height and width of an image.
    n_targets : int
        Number of supervised latents, the size of z_phy.
    latent_dim : int
        Size of the whole latent space.
    predicts_variance : bool
        Whether further dense layers read the variance of z_phy.
    """

    def __init__(self, image_shape, n_targets, latent_dim, predicts_variance=False):
        super().__init__()
        self.n_targets = n_targets
        widths = [2 * image_shape[0], *(width for width, _ in LAYERS)]
        self.convs = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 3, stride, padding=1)
            for n_in, (n_out, stride) in zip(widths, LAYERS, strict=False)
        )
        self.attention = nn.Conv2d(LAYERS[ATTENTION_AFTER][0], N_MAPS, 1)
        self.dense_hidden = nn.Linear(2 * widths[-1] + 2 * N_MAPS, N_HIDDEN)
        self.dense_latents = nn.Linear(N_HIDDEN, latent_dim)
        self._add_variance_head(N_HIDDEN, n_targets, predicts_variance, N_HIDDEN)
        self._add_decoder(image_shape, latent_dim)

    def features(self, images):
        """Return what is read off images of shape (n, C, H, W)."""
        light = torch.expm1(STEEPNESS * images) / expm1(STEEPNESS)
        x = torch.cat([images, light], dim=1)
        for index, conv in enumerate(self.convs):
            x = F.silu(conv(x))
            if index == ATTENTION_AFTER:
                centers = _centers(self.attention(x))
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3)), centers], dim=1)
        return F.silu(self.dense_hidden(pooled))

    def latents(self, features):
        """Return z_phy and z_rest."""
        latents = self.dense_latents(features)
        z_phy, z_rest = latents.tensor_split([self.n_targets], dim=1)
        return z_phy, F.relu(z_rest)


class StridedNetwork(StridedEncoder, PaperDecoder):
    """The deeper encoder, and the paper's decoder."""


def _centers(maps):
    """Return the expected x and y, from -1 to 1, under the softmax of each map."""
    height, width = maps.shape[2:]
    shares = maps.flatten(2).softmax(dim=2).unflatten(2, (height, width))
    x, y = _coordinates(width, maps), _coordinates(height, maps)
    return torch.cat([shares.sum(2) @ x, shares.sum(3) @ y], dim=1)


def _coordinates(length, like):
    pixels = torch.arange(length, dtype=like.dtype, device=like.device)
    return (2 * pixels + 1) / length - 1
