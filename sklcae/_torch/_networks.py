"""The networks that `network` may name.

A network is a `torch.nn.Module` that is built from the shape of an image and the
sizes of the two parts of the latent space. It offers

- ``encode(images) -> (z_phy, z_rest)``, shapes (n, n_targets) and
  (n, latent_dim - n_targets);
- ``decode(latents) -> logits``, from (n, latent_dim) to (n, C, H, W); the sigmoid of
  the logits is the image in [0, 1];
- ``forward(images) -> (z_phy, z_rest, logits)``, what the loss needs.

The logits rather than the image leave the network, since the binary cross-entropy of
Eq. 3 is only safe against overflow when it is computed from them.
"""

import torch
import torch.nn.functional as F
from torch import nn

from sklcae._torch._layers import UpsampleConv2d, max_pool, pooled_size

__all__ = ["NETWORKS", "PaperNetwork"]


class PaperNetwork(nn.Module):
    """The convolutional autoencoder of the paper's appendix.

    Two convolutions of 32 and 64 filters, each with ReLU and a pooling of 2, lead to
    64 small images (16 x 16 for a stamp of 64 x 64). Dense layers read z_phy (linear)
    and z_rest (ReLU) off them. A dense layer with ReLU leads back to 64 small images,
    and two pairs of upsampling and convolution (64 and 32 filters, ReLU) and a last
    convolution to the stamp. Sides that are no multiple of 4 are pooled with
    the last pixel kept, and cropped again by the decoder.

    Parameters
    ----------
    image_shape : tuple of int
        Channels, height and width of an image.
    n_targets : int
        Number of supervised latents, the size of z_phy.
    latent_dim : int
        Size of the whole latent space.
    """

    def __init__(self, image_shape, n_targets, latent_dim):
        super().__init__()
        channels, height, width = image_shape
        self.full_size = (height, width)
        self.half_size = tuple(map(pooled_size, self.full_size))
        self.quarter_shape = (64, *map(pooled_size, self.half_size))
        n_units = 64 * self.quarter_shape[1] * self.quarter_shape[2]

        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.dense_phy = nn.Linear(n_units, n_targets)
        self.dense_rest = nn.Linear(n_units, latent_dim - n_targets)
        self.dense_decoder = nn.Linear(latent_dim, n_units)
        self.upconv1 = UpsampleConv2d(64, 64)
        self.upconv2 = UpsampleConv2d(64, 32)
        self.conv_out = nn.Conv2d(32, channels, 3, padding=1)

    def encode(self, images):
        """Return z_phy and z_rest of images of shape (n, C, H, W)."""
        hidden = _pool_relu(self.conv1(images))
        hidden = _pool_relu(self.conv2(hidden)).flatten(1)
        return self.dense_phy(hidden), F.relu(self.dense_rest(hidden))

    def decode(self, latents):
        """Return the logits of the images of latents of shape (n, latent_dim)."""
        hidden = F.relu(self.dense_decoder(latents)).unflatten(1, self.quarter_shape)
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        hidden = F.relu(_crop(self.upconv1(hidden), self.half_size))
        hidden = F.relu(_crop(self.upconv2(hidden), self.full_size))
        return self.conv_out(hidden)

    def forward(self, images):
        """Return z_phy, z_rest and the logits of the reconstructed images."""
        z_phy, z_rest = self.encode(images)
        return z_phy, z_rest, self.decode(torch.cat([z_phy, z_rest], dim=1))


def _pool_relu(x):
    # ReLU and maximum commute, and a quarter of the pixels is left for the ReLU.
    return F.relu(max_pool(x))


def _crop(x, size):
    return x[:, :, : size[0], : size[1]]


NETWORKS = {"paper": PaperNetwork}
