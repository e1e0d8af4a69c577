"""The three terms of the paper's Eq. 2, each a mean over batch and entries."""

from typing import NamedTuple

import torch
import torch.nn.functional as F

__all__ = ["RECONSTRUCTION_LOSSES", "LossTerms", "loss_terms"]


class LossTerms(NamedTuple):
    """The terms of Eq. 2 before alpha and beta weigh them."""

    reconstruction: torch.Tensor
    physical: torch.Tensor
    regularization: torch.Tensor

    def total(self, alpha, beta):
        """Return L_rec + alpha L_phy + beta L_reg."""
        return self.reconstruction + alpha * self.physical + beta * self.regularization


def binary_cross_entropy(logits, images):
    """Eq. 3; pixels outside [0, 1] (held-out stamps) count as the nearer end."""
    return F.binary_cross_entropy_with_logits(
        logits, images.clamp(0, 1), reduction="none"
    )


def squared_error(logits, images):
    """Squared difference of the image in [0, 1]."""
    return F.mse_loss(torch.sigmoid(logits), images, reduction="none")


# From logits and scaled images to the loss of each pixel.
RECONSTRUCTION_LOSSES = {
    "binary_cross_entropy": binary_cross_entropy,
    "squared_error": squared_error,
}


def loss_terms(output, stamps, reconstruction_loss):
    """Return the terms for the output of a network.

    The physical loss, Eq. 4, is in units of the standardised targets. The
    regularization is that of Eq. 5 as its text has it: the mean of abs(z_rest), which
    drives it to zero.

    Parameters
    ----------
    output : tuple of torch.Tensor
        z_phy, z_rest and logits, as a network's ``forward`` returns them.
    stamps : Stamps
        The scaled images and targets, and what they weigh.
    reconstruction_loss : str
        A key of ``RECONSTRUCTION_LOSSES``.

    Returns
    -------
    LossTerms
        The three terms, scalars.
    """
    z_phy, z_rest, logits = output
    pixels = RECONSTRUCTION_LOSSES[reconstruction_loss](logits, stamps.images)
    squares = F.mse_loss(z_phy, stamps.targets, reduction="none")
    return LossTerms(
        _mean(_image_means(pixels, stamps.pixel_mask), stamps.image_weights),
        _mean(squares, stamps.target_weights),
        _mean(z_rest.abs().mean(1), stamps.image_weights),
    )


def _mean(losses, weights):
    return losses.mean() if weights is None else (losses * weights).mean()


def _image_means(pixels, mask):
    """Return the mean of each image over the pixels that count."""
    if mask is None:
        return pixels.flatten(1).mean(1)
    # Where nothing counts the mean is taken as 0.
    n_pixels = mask.flatten(1).sum(1).clamp(min=1)
    return (pixels * mask).flatten(1).sum(1) / n_pixels
