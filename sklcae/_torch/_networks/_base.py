"""What all networks have in common: the order of encoding and decoding."""

import torch
from torch import nn

__all__ = ["Autoencoder"]

# Bounds of the logarithm of a variance, in units of the scaled targets: beyond them
# its exponential would only overflow or let a single stamp rule the loss.
LOG_VARIANCE_BOUNDS = (-14.0, 6.0)


class Autoencoder(nn.Module):
    """A network whose encoder has features, of which dense layers read all else.

    A subclass offers ``features(images)``, ``latents(features)`` and
    ``decode(latents)``, and calls `_add_variance_head` with the number of its features
    and the width of the layers that are to read the variance off them.
    """

    def _add_variance_head(self, n_features, n_targets, predicts_variance, n_units):
        self.dense_variance = None
        if predicts_variance:
            self.dense_variance = nn.Sequential(
                nn.Linear(n_features, n_units),
                nn.SiLU(),
                nn.Linear(n_units, n_units),
                nn.SiLU(),
                nn.Linear(n_units, n_targets),
            )

    def encode(self, images):
        """Return z_phy and z_rest of images of shape (n, C, H, W)."""
        return self.latents(self.features(images))

    def encode_with_variance(self, images):
        """Return z_phy and the logarithm of its variance, (n, n_targets) each."""
        features = self.features(images)
        return self.latents(features)[0], self._log_variance(features)

    def forward(self, images):
        """Return z_phy, z_rest, the logits of the images, and the log variance."""
        features = self.features(images)
        z_phy, z_rest = self.latents(features)
        logits = self.decode(torch.cat([z_phy, z_rest], dim=1))
        return z_phy, z_rest, logits, self._log_variance(features)

    def _log_variance(self, features):
        if self.dense_variance is None:
            return None
        # The features are not to be what tells the variance best.
        return self.dense_variance(features.detach()).clamp(*LOG_VARIANCE_BOUNDS)
