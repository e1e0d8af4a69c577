"""The terms of the loss, each a mean over the batch and its entries."""

from numbers import Real
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F


class LossWeights(NamedTuple):
    """Weights of the terms: alpha and beta of Eq. 2, gamma of the exchange loss."""

    alpha: float
    beta: float
    gamma: float = 0.0


class LossTerms(NamedTuple):
    """The terms of Eq. 2 and the exchange loss, without their weights."""

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


class LightScale(NamedTuple):
    """From scaled pixels back to light, and the noise of that light.

    A pixel is ``softening * unstretch(scaled * range + minimum)`` above the sky, with
    arrays of shape (C, 1, 1); ``stretch`` is a key of ``UNSTRETCH``. The `NoiseModel`
    gives the variance of pixels with that expected light, ``noise.variance(light)``.
    """

    stretch: str
    minimum: Any
    range: Any
    softening: Any
    noise: Any

    def light(self, scaled):
        """Return the light above the sky of scaled images."""
        return self.softening * UNSTRETCH[self.stretch](
            scaled * self.range + self.minimum
        )

    def scaled(self, light):
        """Return the scaled images of light above the sky."""
        return (STRETCH[self.stretch](light / self.softening) - self.minimum) / (
            self.range
        )

    def noise_of(self, batch):
        """Return the noise model of a batch, with its variance plane if it has one."""
        if batch.variance is None:
            return self.noise
        return self.noise._replace(background=batch.variance)

    def to(self, device):
        """Return the scale with its arrays as float32 tensors on a device."""

        def to_tensor(array):
            return torch.as_tensor(array, dtype=torch.float32, device=device)

        background, gain = self.noise
        if not (gain is None or isinstance(gain, Real)):
            gain = to_tensor(gain)
        noise = self.noise._replace(background=to_tensor(background), gain=gain)
        arrays = {n: to_tensor(getattr(self, n)) for n in self._fields[1:4]}
        return self._replace(noise=noise, **arrays)


STRETCH = {"linear": lambda values: values, "asinh": torch.asinh}
UNSTRETCH = {"linear": lambda values: values, "asinh": torch.sinh}


class Logits(NamedTuple):
    """Images that a decoder drew, as logits of scaled images."""

    values: torch.Tensor

    def logits(self, scale):
        """Return the logits of the scaled images."""
        return self.values

    def scaled(self, scale):
        """Return the scaled images."""
        return torch.sigmoid(self.values)

    def light(self, scale):
        """Return the light above the sky, in the unit of the `LightScale`."""
        return scale.light(torch.sigmoid(self.values))


class Light(NamedTuple):
    """Images that a decoder drew, as light above the sky."""

    values: torch.Tensor

    def logits(self, scale):
        """Return the logits of the scaled images, as near as there are any."""
        return torch.logit(self.scaled(scale), LEAST_SCALED)

    def scaled(self, scale):
        """Return the scaled images."""
        return scale.scaled(self.values)

    def light(self, scale):
        """Return the light."""
        return self.values


# Scaled images of `Light` are clipped to this for a cross-entropy.
LEAST_SCALED = 1e-4


def drawn_by(module, values):
    """Return the output of a decoder as `Logits` or, if its network says so, `Light`.

    The module of the network then has an attribute ``draws_light`` that is True.
    """
    return (Light if getattr(module, "draws_light", False) else Logits)(values)


def binary_cross_entropy(drawn, batch, scale):
    """Eq. 3. Pixels outside [0, 1], from held-out stamps, are clipped."""
    return F.binary_cross_entropy_with_logits(
        drawn.logits(scale), batch.images.clamp(0, 1), reduction="none"
    )


def squared_error(drawn, batch, scale):
    """Squared difference of the images in [0, 1]."""
    return F.mse_loss(drawn.scaled(scale), batch.images, reduction="none")


def chi_square(drawn, batch, scale):
    """Half the squared difference in light over the variance of its noise.

    The variance is computed from the predicted light and is constant in the gradient.
    Then the loss has the gradient of a Poisson likelihood with Gaussian read noise,
    which is unbiased. A variance from the noisy image would favour faint pixels.
    """
    predicted = drawn.light(scale)
    variance = scale.noise_of(batch).variance(predicted.detach())
    return (scale.light(batch.images) - predicted) ** 2 / (2 * variance)


# From the images that a decoder drew, the batch and the scale of its light to the loss
# of each pixel.
RECONSTRUCTION_LOSSES = {
    "binary_cross_entropy": binary_cross_entropy,
    "squared_error": squared_error,
    "chi_square": chi_square,
}


def squared_target_error(encoding, targets):
    """Eq. 4."""
    return F.mse_loss(encoding.z_phy, targets, reduction="none")


def gaussian_likelihood(encoding, targets):
    """Negative logarithm of a Gaussian likelihood with a predicted variance.

    For z_phy each entry is weighted by the square root of its variance: plainly
    maximised, the likelihood neglects the entries that are hard (Seitzer et al. 2022,
    "beta-NLL" with beta 0.5). The variance follows the likelihood itself, and so does
    the value, which may be negative.
    """
    variance = encoding.log_variance.exp()
    fixed = variance.detach()
    z_phy = encoding.z_phy
    error = _negative_log_likelihood(z_phy, targets, fixed) * fixed.sqrt()
    spread = _negative_log_likelihood(z_phy.detach(), targets, variance)
    # Adds the gradient of the error, and nothing to the value.
    return spread + error - error.detach()


def _negative_log_likelihood(mean, targets, variance):
    return F.gaussian_nll_loss(
        mean, targets, variance, eps=LEAST_VARIANCE, reduction="none"
    )


# Below the least variance of an `Encoder`.
LEAST_VARIANCE = 1e-7

# From the encoding and the targets to the loss of each entry.
PHYSICAL_LOSSES = {
    "squared_error": squared_target_error,
    "gaussian_likelihood": gaussian_likelihood,
}


def loss_terms(output, batch, reconstruction_loss, physical_loss, scale=None):
    """Return the scalar terms for the output of a network; the exchange loss is 0.

    The physical loss, Eq. 4, is in units of the standardised targets. The
    regularization is Eq. 5 as its text describes it: the mean of abs(z_rest), which
    drives z_rest to zero. The reconstruction loss "chi_square" needs a `LightScale`;
    with None the term is 0.
    """
    encoding, drawn = output
    zero = encoding.z_phy.new_zeros(())
    reconstruction = zero
    if reconstruction_loss is not None:
        reconstruction = pixel_loss(drawn, batch, reconstruction_loss, scale)
    targets = PHYSICAL_LOSSES[physical_loss](encoding, batch.targets)
    return LossTerms(
        reconstruction,
        _mean(targets, batch.target_weights),
        _mean(encoding.z_rest.abs().mean(1), batch.image_weights),
        zero,
    )


def pixel_loss(drawn, batch, reconstruction_loss, scale=None):
    """Return the reconstruction loss of decoded images, a scalar.

    For the exchange loss the images come from the z_rest of some stamps and the targets
    of their partners, and the batch is the partners. "chi_square" needs a `LightScale`.
    """
    pixels = RECONSTRUCTION_LOSSES[reconstruction_loss](drawn, batch, scale)
    return _mean(_image_means(pixels, batch.mask), batch.image_weights)


def _mean(losses, weights):
    return losses.mean() if weights is None else (losses * weights).mean()


def _image_means(pixels, mask):
    """Return the mean of each image over its pixels that count."""
    if mask is None:
        return pixels.flatten(1).mean(1)
    # The mean over no pixels is taken as 0.
    n_pixels = mask.flatten(1).sum(1).clamp(min=1)
    return (pixels * mask).flatten(1).sum(1) / n_pixels
