"""The noise of a pixel: one formula for images, losses, simulations and bounds."""

from typing import Any, NamedTuple


class NoiseModel(NamedTuple):
    """Background noise of a pixel, and the Poisson noise of its light.

    Arrays belong to NumPy or PyTorch.

    Attributes
    ----------
    background : float or array that broadcasts with the light
        Variance of a pixel without light, in the unit of the light squared.
    gain : float or None
        Electrons for each unit of light. With None the background variance holds the
        noise of the light too.
    """

    background: Any
    gain: float | None

    def variance(self, light):
        """Return the variance of pixels whose expected light is given.

        Light below zero adds no Poisson noise.
        """
        if self.gain is None:
            return self.background
        return self.background + light.clip(min=0) / self.gain
