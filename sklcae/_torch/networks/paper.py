"""The encoder and the decoder of the paper's appendix."""

from math import prod

import torch
import torch.nn.functional as F
from torch import nn

from sklcae._torch.batches import Batch
from sklcae._torch.networks.base import Architecture, Encoder
from sklcae._torch.networks.layers import (
    UpsampleConv2d,
    max_pool,
    pooled_size,
    takes_blocks,
)
from sklcae._torch.networks.psf import refuse_psf

# In prediction the convolutions work on so many pixels at a time, 8 stamps of 64 x 64,
# so that their output stays in the processor's cache.
PIXELS_AT_ONCE = 8 * 64 * 64


class PaperEncoder(Encoder):
    """The encoder of the paper's appendix.

    Two convolutions of 32 and 64 filters, each followed by ReLU and a pooling of 2,
    lead to 64 small images (16 x 16 for a stamp of 64 x 64). Dense layers read z_phy
    (linear) and z_rest (ReLU) off them. Where a side is not a multiple of 4, pooling
    keeps its last pixel. It reads no PSF.

    Parameters
    ----------
    architecture : Architecture
        The sizes of the network.

    Raises
    ------
    ValueError
        If the stamps have PSFs.

    Examples
    --------
    >>> import torch
    >>> from sklcae.networks import Architecture, Batch, PaperEncoder
    >>> encoder = PaperEncoder(Architecture((1, 64, 64), n_targets=2, latent_dim=64))
    >>> encoder(Batch(torch.zeros(5, 1, 64, 64))).latents.shape
    torch.Size([5, 64])
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        refuse_psf(self, architecture)
        channels, height, width = architecture.image_shape
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        # The variance head is narrow: a stamp of 64 x 64 has 16,384 features.
        self.add_heads(architecture, 64 * _quarter(height) * _quarter(width), 32)

    def features(self, batch: Batch) -> torch.Tensor:
        """Return the features of the images, (n, n_features)."""
        images = batch.images
        if takes_blocks(images):
            n_at_once = max(1, PIXELS_AT_ONCE // images[0].numel())
            return torch.cat(
                [self._features_in_blocks(part) for part in images.split(n_at_once)]
            )
        hidden = _pool_relu(self.conv1(images))
        return _pool_relu(self.conv2(hidden)).flatten(1)

    def _features_in_blocks(self, images):
        """Return the features of images, computed in the layout of oneDNN."""
        hidden = images.to_mkldnn()
        for conv in (self.conv1, self.conv2):
            weight, bias = conv.weight.to_mkldnn(), conv.bias.to_mkldnn()
            hidden = F.conv2d(hidden, weight, bias, conv.stride, conv.padding)
            hidden = F.relu(F.max_pool2d(hidden, 2, ceil_mode=True))
        return hidden.to_dense().flatten(1)

    def read_targets(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return z_phy of a batch and the logarithm of its variance.

        Parameters
        ----------
        batch : Batch
            The images.

        Returns
        -------
        z_phy : Tensor of shape (n, n_targets)
            The supervised latents.
        log_variance : Tensor of shape (n, n_targets) or None
            The logarithm of their variance; None if there is none.

        Examples
        --------
        >>> import torch
        >>> from sklcae.networks import Architecture, Batch, PaperEncoder
        >>> architecture = Architecture((1, 64, 64), n_targets=2, latent_dim=64)
        >>> encoder = PaperEncoder(architecture)
        >>> z_phy, log_variance = encoder.read_targets(Batch(torch.zeros(5, 1, 64, 64)))
        >>> z_phy.shape, log_variance
        (torch.Size([5, 2]), None)
        """
        features = self.features(batch)
        return self.dense_phy(features), self._log_variance(features)


class PaperDecoder(nn.Module):
    """The decoder of the paper's appendix.

    A dense layer with ReLU leads to 64 small images (16 x 16 for a stamp of 64 x 64).
    Two pairs of upsampling and convolution follow (64 and 32 filters, ReLU), and a last
    convolution to the stamp. Where a side is not a multiple of 4, the image is cropped.
    It reads no PSF.

    Parameters
    ----------
    architecture : Architecture
        The sizes of the network.

    Raises
    ------
    ValueError
        If the stamps have PSFs.

    Examples
    --------
    >>> import torch
    >>> from sklcae.networks import Architecture, PaperDecoder
    >>> decoder = PaperDecoder(Architecture((1, 64, 64), n_targets=2, latent_dim=64))
    >>> decoder(torch.zeros(5, 64)).shape
    torch.Size([5, 1, 64, 64])
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        refuse_psf(self, architecture)
        channels, height, width = architecture.image_shape
        self.full_size = (height, width)
        self.half_size = tuple(map(pooled_size, self.full_size))
        self.quarter_shape = (64, _quarter(height), _quarter(width))
        self.dense_decoder = nn.Linear(
            architecture.latent_dim, prod(self.quarter_shape)
        )
        self.upconv1 = UpsampleConv2d(64, 64)
        self.upconv2 = UpsampleConv2d(64, 32)
        self.conv_out = nn.Conv2d(32, channels, 3, padding=1)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the logits of the images of latents of shape (n, latent_dim)."""
        hidden = F.relu(self.dense_decoder(latents)).unflatten(1, self.quarter_shape)
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        # In place: the large images are written once less.
        hidden = _crop(self.upconv1(hidden).relu_(), self.half_size)
        hidden = _crop(self.upconv2(hidden).relu_(), self.full_size)
        return self.conv_out(hidden)


def _pool_relu(x):
    # ReLU and maximum commute, and only a quarter of the pixels is left for the ReLU.
    return max_pool(x).relu_()


def _quarter(size):
    """Return the length of an axis after two poolings."""
    return pooled_size(pooled_size(size))


def _crop(x, size):
    return x[:, :, : size[0], : size[1]]
