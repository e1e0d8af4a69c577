"""The paper's decoder."""

from math import prod

import torch
import torch.nn.functional as F
from torch import nn

from sklcae._torch._layers import UpsampleConv2d, pooled_size

__all__ = ["PaperDecoder", "quarter"]


class PaperDecoder(nn.Module):
    """The decoder of the paper's appendix, which a network joins to its encoder.

    A dense layer with ReLU leads to 64 small images (16 x 16 for a stamp of 64 x 64),
    two pairs of upsampling and convolution (64 and 32 filters, ReLU) and a last
    convolution to the stamp. Of sides that are no multiple of 4 a part is cropped.
    """

    def _add_decoder(self, image_shape, latent_dim):
        channels, height, width = image_shape
        self.full_size = (height, width)
        self.half_size = tuple(map(pooled_size, self.full_size))
        self.quarter_shape = (64, quarter(height), quarter(width))
        self.dense_decoder = nn.Linear(latent_dim, prod(self.quarter_shape))
        self.upconv1 = UpsampleConv2d(64, 64)
        self.upconv2 = UpsampleConv2d(64, 32)
        self.conv_out = nn.Conv2d(32, channels, 3, padding=1)

    def decode(self, latents):
        """Return the logits of the images of latents of shape (n, latent_dim)."""
        hidden = F.relu(self.dense_decoder(latents)).unflatten(1, self.quarter_shape)
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        hidden = F.relu(_crop(self.upconv1(hidden), self.half_size))
        hidden = F.relu(_crop(self.upconv2(hidden), self.full_size))
        return self.conv_out(hidden)


def quarter(size):
    """Return the length of an axis after two poolings."""
    return pooled_size(pooled_size(size))


def _crop(x, size):
    return x[:, :, : size[0], : size[1]]
