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
    return F.binary_cross_entropy_with_logits(logits, images.clamp(0, 1))


def squared_error(logits, images):
    """Mean squared difference of the image in [0, 1]."""
    return F.mse_loss(torch.sigmoid(logits), images)


def physical_loss(z_phy, targets):
    """Eq. 4, in units of the standardised targets."""
    return F.mse_loss(z_phy, targets)


def regularization_loss(z_rest):
    """Eq. 5 as its text has it: the mean of abs(z_rest), which drives it to zero."""
    return z_rest.abs().mean()


RECONSTRUCTION_LOSSES = {
    "binary_cross_entropy": binary_cross_entropy,
    "squared_error": squared_error,
}


def loss_terms(output, images, targets, reconstruction_loss):
    """Return the terms for the output of a network.

    Parameters
    ----------
    output : tuple of torch.Tensor
        z_phy, z_rest and logits, as a network's ``forward`` returns them.
    images : torch.Tensor of shape (n, C, H, W)
        The scaled images.
    targets : torch.Tensor of shape (n, n_targets)
        The scaled targets.
    reconstruction_loss : str
        A key of ``RECONSTRUCTION_LOSSES``.

    Returns
    -------
    LossTerms
        The three terms, scalars.
    """
    z_phy, z_rest, logits = output
    return LossTerms(
        RECONSTRUCTION_LOSSES[reconstruction_loss](logits, images),
        physical_loss(z_phy, targets),
        regularization_loss(z_rest),
    )
