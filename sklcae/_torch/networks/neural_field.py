"""A decoder that draws one galaxy as a function of position (a neural field)."""

import torch
import torch.nn.functional as F
from torch import nn

from sklcae._torch.networks.base import Architecture
from sklcae._torch.networks.layers import SoftplusImage
from sklcae._torch.networks.psf import N_FEATURES, psf_features

N_HIDDEN = 128
# Width of the layers that are applied to every pixel.
N_UNITS = 32
# Unit of length, about the half-light radius of a point source.
PIXELS = 4.0
# Sharpness of the softplus that keeps brightness and size positive near zero.
KNEE = 10.0
# Squared lengths are smoothed below these: the profile has no cusp.
SMALLEST = (0.05, 0.01)
# Bounds of the latents, of the numbers that describe the geometry, and of a logarithm
# among them. For latents far from the training set squares and exponentials would
# overflow, and the image would be NaN.
LARGEST_LATENT = 1e6
LARGEST_GEOMETRY = 1e4
LARGEST_STRETCH = 20.0


class NeuralFieldDecoder(nn.Module):
    """A decoder that is a function of the position in the galaxy (a neural field).

    Two dense layers turn the latents into a centre, a matrix that maps the
    galaxy to a round one, and the conditions of the brightness. Then
    two small dense layers map each pixel from its distances to the centre, in the
    image and in the round galaxy, to the logarithm of its brightness. All pixels share
    the weights, so that a galaxy looks the same wherever it is. Brightness and size
    are scaled by functions that are linear in the latents. If the stamps have PSFs,
    features of the PSF (its size, ellipticity and wings) join the latents. See [1]_ and
    [2]_.

    Parameters
    ----------
    architecture : Architecture
        The sizes of the network.

    References
    ----------
    .. [1] N. Watters, L. Matthey, C. P. Burgess and A. Lerchner, "Spatial Broadcast
       Decoder: A Simple Architecture for Learning Disentangled Representations in
       VAEs", arXiv:1901.07017.
    .. [2] E. Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer",
       AAAI 2018.

    Examples
    --------
    >>> import torch
    >>> from sklcae.networks import Architecture, NeuralFieldDecoder
    >>> architecture = Architecture((1, 64, 64), n_targets=2, latent_dim=64)
    >>> decoder = NeuralFieldDecoder(architecture)
    >>> decoder(torch.zeros(5, 64)).shape
    torch.Size([5, 1, 64, 64])
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.image_shape = tuple(architecture.image_shape)
        n_channels, n_given = self.image_shape[0], architecture.latent_dim
        if architecture.has_psf:
            n_given += n_channels * N_FEATURES
        n_inputs = N_HIDDEN + n_given
        self.dense_decoder = nn.ModuleList(
            [nn.Linear(n_given, N_HIDDEN), nn.Linear(N_HIDDEN, N_HIDDEN)]
        )
        self.dense_scales = nn.Linear(n_inputs, 2)
        self.dense_geometry = nn.Linear(n_inputs, 5)
        self.dense_profile = nn.Linear(n_inputs, 3 * N_UNITS)
        self.pixel_in = nn.Linear(4, N_UNITS, bias=False)
        self.pixel_hidden = nn.Linear(N_UNITS, N_UNITS)
        self.pixel_out = nn.Linear(N_UNITS, n_channels)
        self.image = SoftplusImage(n_channels)

    def forward(
        self, latents: torch.Tensor, psf: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the logits of the images of latents of shape (n, latent_dim)."""
        given = latents.clamp(-LARGEST_LATENT, LARGEST_LATENT)
        if psf is not None:
            given = torch.cat([given, psf_features(psf)], dim=1)
        hidden = given
        for layer in self.dense_decoder:
            hidden = F.silu(layer(hidden))
        hidden = torch.cat([hidden, given], dim=1)
        brightness, size = self._scales(hidden)
        geometry = self.dense_geometry(hidden)
        geometry = geometry.clamp(-LARGEST_GEOMETRY, LARGEST_GEOMETRY)
        near, far = self._distances(geometry, size)
        profile = self._profile(self.dense_profile(hidden), near, far)
        # Besides the profile, brightness falls exponentially with the radius.
        logarithm = profile + brightness[:, :, None] - far[1][:, None]
        return self.image(logarithm).unflatten(2, self.image_shape[1:])

    def _scales(self, hidden):
        """Return the logarithms of brightness and size, (n, 1) each.

        The latents, flux and radius among them, enter brightness and size linearly.
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
        """Return the logarithm of the profile at each pixel, (n, C, p)."""
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
