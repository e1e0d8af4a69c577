"""The network of the paper's appendix."""

import torch.nn.functional as F
from torch import nn

from sklcae._torch._layers import max_pool
from sklcae._torch._networks._base import Autoencoder
from sklcae._torch._networks._decoder import PaperDecoder, quarter

__all__ = ["PaperNetwork"]


class PaperNetwork(PaperDecoder, Autoencoder):
    """The convolutional autoencoder of the paper's appendix.

    Two convolutions of 32 and 64 filters, each with ReLU and a pooling of 2, lead to
    64 small images (16 x 16 for a stamp of 64 x 64). Dense layers read z_phy (linear)
    and z_rest (ReLU) off them. Sides that are no multiple of 4 are pooled with the
    last pixel kept.

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
        channels, height, width = image_shape
        n_units = 64 * quarter(height) * quarter(width)
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.dense_phy = nn.Linear(n_units, n_targets)
        self.dense_rest = nn.Linear(n_units, latent_dim - n_targets)
        # Narrow, for there are 16,384 features of a stamp of 64 x 64.
        self._add_variance_head(n_units, n_targets, predicts_variance, 32)
        self._add_decoder(image_shape, latent_dim)

    def features(self, images):
        """Return what is read off images of shape (n, C, H, W)."""
        hidden = _pool_relu(self.conv1(images))
        return _pool_relu(self.conv2(hidden)).flatten(1)

    def latents(self, features):
        """Return z_phy and z_rest."""
        return self.dense_phy(features), F.relu(self.dense_rest(features))


def _pool_relu(x):
    # ReLU and maximum commute, and a quarter of the pixels is left for the ReLU.
    return F.relu(max_pool(x))
