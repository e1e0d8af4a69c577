"""The terms of the loss, each a mean over batch and entries."""

from typing import NamedTuple

import torch
import torch.nn.functional as F

__all__ = [
    "PHYSICAL_LOSSES",
    "RECONSTRUCTION_LOSSES",
    "LossTerms",
    "LossWeights",
    "PixelScale",
    "exchange_loss",
    "loss_terms",
    "make_pixel_scale",
]


class LossWeights(NamedTuple):
    """What the terms weigh: alpha and beta of Eq. 2, and gamma of the exchange."""

    alpha: float
    beta: float
    gamma: float = 0.0


class LossTerms(NamedTuple):
    """The terms of Eq. 2 and the exchange loss, before they are weighed."""

    reconstruction: torch.Tensor
    physical: torch.Tensor
    regularization: torch.Tensor
    exchange: torch.Tensor

    def total(self, weights):
        """Return L_rec + alpha L_phy + beta L_reg + gamma L_exchange."""
        return (
            self.reconstruction
            + weights.alpha * self.physical
            + weights.beta * self.regularization
            + weights.gamma * self.exchange
        )


class PixelScale(NamedTuple):
    """How scaled pixels become light again, and the noise that the light has.

    Attributes
    ----------
    stretch : str
        "linear" or "asinh".
    minimum, range, softening : torch.Tensor of shape (C, 1, 1)
        A pixel is ``softening * unstretch(scaled * range + minimum)`` above the sky.
    variance : torch.Tensor of shape (C, 1, 1)
        Variance of the noise of a pixel without light.
    gain : float
        Electrons for each unit of light.
    """

    stretch: str
    minimum: torch.Tensor
    range: torch.Tensor
    softening: torch.Tensor
    variance: torch.Tensor
    gain: float

    def light(self, scaled):
        """Return the light above the sky of scaled images."""
        return self.softening * UNSTRETCH[self.stretch](
            scaled * self.range + self.minimum
        )

    def noise_variance(self, light):
        """Return the variance of pixels whose expected light is given."""
        return self.variance + light.clamp(min=0) / self.gain

    def to(self, device):
        """Return the scale with its tensors on a device."""
        return PixelScale(
            *(
                part.to(device) if isinstance(part, torch.Tensor) else part
                for part in self
            )
        )


def make_pixel_scale(stretch, arrays, gain):
    """Return a `PixelScale` of NumPy arrays.

    Parameters
    ----------
    stretch : str
        "linear" or "asinh".
    arrays : tuple of ndarray of shape (C, 1, 1)
        Minimum, range, softening and variance.
    gain : float
        Electrons for each unit of light.
    """
    tensors = (torch.as_tensor(array, dtype=torch.float32) for array in arrays)
    return PixelScale(stretch, *tensors, gain)


UNSTRETCH = {"linear": lambda values: values, "asinh": torch.sinh}


def binary_cross_entropy(logits, images, scale):
    """Eq. 3; pixels outside [0, 1] (held-out stamps) count as the nearer end."""
    return F.binary_cross_entropy_with_logits(
        logits, images.clamp(0, 1), reduction="none"
    )


def squared_error(logits, images, scale):
    """Squared difference of the image in [0, 1]."""
    return F.mse_loss(torch.sigmoid(logits), images, reduction="none")


def chi_square(logits, images, scale):
    """Half the squared difference in light over the variance of its noise.

    The variance is that of the predicted light, and is held fixed in the gradient,
    which then is that of a Poisson likelihood with Gaussian read noise: unbiased, where
    variances taken from the noisy image would favour faint pixels.
    """
    predicted = scale.light(torch.sigmoid(logits))
    variance = scale.noise_variance(predicted.detach())
    return (scale.light(images) - predicted) ** 2 / (2 * variance)


# From logits, scaled images and the scale of the pixels to the loss of each pixel.
RECONSTRUCTION_LOSSES = {
    "binary_cross_entropy": binary_cross_entropy,
    "squared_error": squared_error,
    "chi_square": chi_square,
}


def squared_target_error(z_phy, targets, log_variance):
    """Eq. 4."""
    return F.mse_loss(z_phy, targets, reduction="none")


def gaussian_likelihood(z_phy, targets, log_variance):
    """Negative logarithm of a Gaussian likelihood whose variance is predicted.

    z_phy learns from it with each entry weighed by the square root of its variance:
    without that, what is hard to predict would hardly be learned (Seitzer et al. 2022,
    "beta-NLL" with beta 0.5). The variance learns from the likelihood as it is, and so
    is the value, which may be negative.
    """
    variance = log_variance.exp()
    fixed = variance.detach()
    error = _negative_log_likelihood(z_phy, targets, fixed) * fixed.sqrt()
    spread = _negative_log_likelihood(z_phy.detach(), targets, variance)
    # Adds the gradient of the error, and nothing to the value.
    return spread + error - error.detach()


def _negative_log_likelihood(mean, targets, variance):
    return F.gaussian_nll_loss(
        mean, targets, variance, eps=LEAST_VARIANCE, reduction="none"
    )


# Below the least variance that a network predicts.
LEAST_VARIANCE = 1e-7

# From z_phy, targets and the logarithm of the variance to the loss of each entry.
PHYSICAL_LOSSES = {
    "squared_error": squared_target_error,
    "gaussian_likelihood": gaussian_likelihood,
}


def loss_terms(output, stamps, reconstruction_loss, physical_loss, scale=None):
    """Return the terms for the output of a network, an exchange loss of 0 among them.

    The physical loss, Eq. 4, is in units of the standardised targets. The
    regularization is that of Eq. 5 as its text has it: the mean of abs(z_rest), which
    drives it to zero.

    Parameters
    ----------
    output : tuple of torch.Tensor
        z_phy, z_rest, logits and the logarithm of the variance of z_phy or None, as a
        network's ``forward`` returns them.
    stamps : Stamps
        The scaled images and targets, and what they weigh.
    reconstruction_loss : str
        A key of ``RECONSTRUCTION_LOSSES``.
    physical_loss : str
        A key of ``PHYSICAL_LOSSES``.
    scale : PixelScale or None
        What "chi_square" needs.

    Returns
    -------
    LossTerms
        The terms, scalars.
    """
    z_phy, z_rest, logits, log_variance = output
    targets = PHYSICAL_LOSSES[physical_loss](z_phy, stamps.targets, log_variance)
    return LossTerms(
        _pixel_loss(logits, stamps, reconstruction_loss, scale),
        _mean(targets, stamps.target_weights),
        _mean(z_rest.abs().mean(1), stamps.image_weights),
        logits.new_zeros(()),
    )


def exchange_loss(logits, partners, reconstruction_loss, scale=None):
    """Return the loss of images that are decoded from two stamps' latents.

    Parameters
    ----------
    logits : torch.Tensor of shape (n, C, H, W)
        Decoded from the targets of the partners and the z_rest of the stamps.
    partners : Stamps
        The partners: stamps that differ from the first ones in their targets only.
    reconstruction_loss : str
        A key of ``RECONSTRUCTION_LOSSES``.
    scale : PixelScale or None
        What "chi_square" needs.

    Returns
    -------
    torch.Tensor
        The loss, a scalar.
    """
    return _pixel_loss(logits, partners, reconstruction_loss, scale)


def _pixel_loss(logits, stamps, name, scale):
    pixels = RECONSTRUCTION_LOSSES[name](logits, stamps.images, scale)
    return _mean(_image_means(pixels, stamps.pixel_mask), stamps.image_weights)


def _mean(losses, weights):
    return losses.mean() if weights is None else (losses * weights).mean()


def _image_means(pixels, mask):
    """Return the mean of each image over the pixels that count."""
    if mask is None:
        return pixels.flatten(1).mean(1)
    # Where nothing counts the mean is taken as 0.
    n_pixels = mask.flatten(1).sum(1).clamp(min=1)
    return (pixels * mask).flatten(1).sum(1) / n_pixels
