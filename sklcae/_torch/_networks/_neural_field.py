"""A decoder that draws one galaxy as a function of the place in it."""

import torch
import torch.nn.functional as F
from torch import nn

from sklcae._torch._layers import SoftplusImage
from sklcae._torch._networks._base import Autoencoder
from sklcae._torch._networks._strided import StridedEncoder

__all__ = ["NeuralFieldDecoder", "NeuralFieldNetwork"]

N_HIDDEN = 128
# Units of the layers that every pixel goes through.
N_UNITS = 32
# Unit of length, about the half-light radius of a point source.
PIXELS = 4.0
# How sharply brightness and size turn from linear to positive near zero.
KNEE = 10.0
# Squared lengths below these are not told apart: the profile has no cusp.
SMALLEST = (0.05, 0.01)
# The logarithm's; with latents far from all that is trained its exponential would
# overflow, and the image be NaN.
LARGEST_STRETCH = 20.0


class NeuralFieldDecoder(Autoencoder):
    """A decoder that is a function of the place in the galaxy (a neural field).

    Two dense layers turn the latents into a centre, a matrix that stretches the
    coordinates to those of a round galaxy, and what the brightness depends on. Then
    each pixel goes through two small dense layers: from its distances to the centre,
    in the image and in the round galaxy, to the logarithm of its brightness. All
    pixels share the weights, so that a galaxy is drawn alike wherever it is. Brightness
    and size are scaled by what is linear in the latents. See
    [1]_ and [2]_.

    References
    ----------
    .. [1] N. Watters, L. Matthey, C. P. Burgess and A. Lerchner, "Spatial Broadcast
       Decoder: A Simple Architecture for Learning Disentangled Representations in
       VAEs", arXiv:1901.07017.
    .. [2] E. Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer",
       AAAI 2018.
    """

    def _add_decoder(self, image_shape, latent_dim):
        self.image_shape = tuple(image_shape)
        n_channels = image_shape[0]
        n_inputs = N_HIDDEN + latent_dim
        self.dense_decoder = nn.ModuleList(
            [nn.Linear(latent_dim, N_HIDDEN), nn.Linear(N_HIDDEN, N_HIDDEN)]
        )
        self.dense_scales = nn.Linear(n_inputs, 2)
        self.dense_geometry = nn.Linear(n_inputs, 5)
        self.dense_profile = nn.Linear(n_inputs, 3 * N_UNITS)
        self.pixel_in = nn.Linear(4, N_UNITS, bias=False)
        self.pixel_hidden = nn.Linear(N_UNITS, N_UNITS)
        self.pixel_out = nn.Linear(N_UNITS, n_channels)
        self.image = SoftplusImage(n_channels)

    def decode(self, latents):
        """Return the logits of the images of latents of shape (n, latent_dim)."""
        hidden = latents
        for layer in self.dense_decoder:
            hidden = F.silu(layer(hidden))
        hidden = torch.cat([hidden, latents], dim=1)
        brightness, size = self._scales(hidden)
        near, far = self._distances(self.dense_geometry(hidden), size)
        profile = self._profile(self.dense_profile(hidden), near, far)
        # Beyond what the layers say, brightness falls exponentially with the radius.
        logarithm = profile + brightness[:, :, None] - far[1][:, None]
        return self.image(logarithm).unflatten(2, self.image_shape[1:])

    def _scales(self, hidden):
        """Return the logarithms of brightness and size, (n, 1) each.

        What they are the logarithms of is linear in what the latents, flux and radius
        among them, have a linear part in.
        """
        scales = F.softplus(self.dense_scales(hidden) + 1, beta=KNEE)
        return torch.log(scales + 1e-3).tensor_split(2, dim=1)

    def _distances(self, geometry, size):
        """Return log and root of the squared distances in image and galaxy."""
        center, diagonal, skew = geometry.tensor_split([2, 4], dim=1)
        x, y = (
            offset.flatten(1) for offset in self._offsets(center.tensor_split(2, dim=1))
        )
        in_image = x**2 + y**2
        stretch = diagonal.clamp(max=LARGEST_STRETCH).exp()
        stretch_x, stretch_y = stretch.tensor_split(2, dim=1)
        in_galaxy = (stretch_x * x + skew * y) ** 2 + (stretch_y * y) ** 2
        return _lengths(in_image), _lengths(in_galaxy * (-2 * size).exp())

    def _offsets(self, center):
        """Return x and y of the pixels from the centre, each (n, H, W)."""
        height, width = self.image_shape[1:]
        half = max(height, width) / 2 / PIXELS
        x = _coordinates(width, center[0]) - half * center[0]
        y = _coordinates(height, center[1]) - half * center[1]
        return x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)

    def _profile(self, conditions, in_image, in_galaxy):
        """Return what the layers of the pixels make of their distances, (n, C, p)."""
        shift_in, gain, shift = conditions[:, None].chunk(3, dim=2)
        pixels = torch.stack([*in_image, *in_galaxy], dim=2)
        pixels = F.silu(self.pixel_in(pixels) + shift_in)
        pixels = F.silu(self.pixel_hidden(pixels) * (1 + gain) + shift)
        return self.pixel_out(pixels).transpose(1, 2)


def _lengths(squares):
    return torch.log(squares + SMALLEST[0]), torch.sqrt(squares + SMALLEST[1])


def _coordinates(length, like):
    """Return the centres of pixels from the middle of the image, (1, length)."""
    pixels = torch.arange(length, dtype=like.dtype, device=like.device)
    return (pixels[None] + 0.5 - length / 2) / PIXELS


class NeuralFieldNetwork(StridedEncoder, NeuralFieldDecoder):
    """The encoder of strided convolutions, and the decoder of a neural field."""
