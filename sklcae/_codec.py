"""The fitted object: from images to latents and targets, and back to images."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches

from sklcae._inputs import Layout
from sklcae._masking import fill_masked
from sklcae._noise import NoiseModel
from sklcae._novelty import Reference, misfits_of
from sklcae._scaling import ImageScaler
from sklcae._torch import (
    Architecture,
    ConditionalAutoencoderNet,
    LightScale,
    build_net,
    check_device,
)

# Images whose reconstructions, in float64 too, are in memory at the same time.
DESCRIBED_AT_ONCE = 64


@dataclass(frozen=True)
class Codec:
    """Scalers, noise and network of a fitted estimator.

    Images are arrays of shape (n, C, H, W) in the unit of the training set, NaN where a
    pixel is masked. The seed made the network; random numbers of its constructor that
    are not among its weights come from it again. The codec has no net before the
    training, and no reference, the images of the training set to compare with, before
    its end.
    """

    layout: Layout
    image_scaler: ImageScaler
    target_scaler: StandardScaler
    gain: float
    network: str | Callable
    latent_dim: int
    predicts_variance: bool
    seed: int
    net: ConditionalAutoencoderNet | None = None
    reference: Reference | None = None

    @property
    def architecture(self):
        """The sizes of the network."""
        layout = self.layout
        return Architecture(
            layout.image_shape,
            layout.n_targets,
            self.latent_dim,
            self.predicts_variance,
        )

    @property
    def physical_loss(self):
        """The physical loss of the training, which decides whether variances exist."""
        return "gaussian_likelihood" if self.predicts_variance else "squared_error"

    @property
    def noise(self):
        """The noise of the images, in their unit."""
        # Squares of float32 may leave its range where the pixels do not.
        return NoiseModel(self.image_scaler.noise_.astype(np.float64) ** 2, self.gain)

    @property
    def light_scale(self):
        """The scale of the light in scaled images, in units of the mean noise."""
        scaler = self.image_scaler
        # In this unit the squares of light are within the range of float32.
        unit = float(scaler.noise_.mean(dtype=np.float64))
        # Light is counted from the sky, whether or not the stretch subtracts it.
        sky = (scaler.sky_ - scaler.background_) / scaler.softening_
        return LightScale(
            stretch=scaler.stretch,
            minimum=scaler.minimum_ - sky,
            range=scaler.range_,
            softening=scaler.softening_ / unit,
            noise=NoiseModel((scaler.noise_ / unit) ** 2, self.gain * unit),
        )

    def encode(self, images):
        """Return the latents of images, (n, latent_dim), float32."""
        return self.net.encode(images, self._prepare)

    def decode(self, latents):
        """Return the images of latents, (n, C, H, W)."""
        return self.net.decode(latents, self.image_scaler.inverse_transform)

    def _prepare(self, images):
        return self.image_scaler.transform(fill_masked(images)[0])

    def read_targets(self, images, symmetry=None):
        """Return the targets of images, (n, n_targets), and their variance or None.

        With a symmetry both belong to the mean over all flips and turns of an image.
        """
        elements = range(1 if symmetry is None else len(symmetry.matrices))
        z_phy, variance = self.net.read_targets(images, self._prepare, elements)
        y = [self._to_units(z_phy[:, k]) for k in elements]
        if variance is not None:
            squared_scale = self.target_scaler.scale_**2
            variance = [variance[:, k] * squared_scale for k in elements]
        if symmetry is not None:
            return symmetry.mean_over_turns(y, variance)
        return y[0], variance if variance is None else variance[0]

    def _to_units(self, z_phy):
        return self.target_scaler.inverse_transform(
            z_phy.astype(np.float64), copy=False
        )

    def scale_targets(self, y):
        """Return targets as z_phy, float32."""
        with np.errstate(over="ignore"):
            z_phy = np.asarray(self.target_scaler.transform(y)).astype(np.float32)
        if not np.isfinite(z_phy).all():
            raise ValueError(
                "y must have values of about the size of the training set. Got values "
                f"up to {np.abs(y).max():g}, which overflow when they are scaled."
            )
        return z_phy

    def generate(self, y, rng):
        """Return images of wanted targets, with z_rest from similar galaxies."""
        z_phy = self.scale_targets(y)
        return self.decode(np.hstack([z_phy, self.reference.draw_rest(z_phy, rng)]))

    # Comparison with the training set -----------------------------------------------

    def score(self, images):
        """Return how usual images are: minus their Mahalanobis distances."""
        return self.reference.score(**self._describe(images, np.arange(len(images))))

    def with_reference(self, images, rows):
        """Return the codec with some images of the training set as its reference."""
        described = self._describe(images, rows)
        return replace(self, reference=Reference(self.layout.n_targets, **described))

    def _describe(self, images, rows):
        """Return latents, misfits and, if predicted, variances of some images."""
        parts = [
            self._describe_part(images[rows[part]])
            for part in gen_batches(len(rows), DESCRIBED_AT_ONCE)
        ]
        return {
            name: np.concatenate([part[name] for part in parts]) for name in parts[0]
        }

    def _describe_part(self, images):
        latents = self.encode(images)
        parts = {
            "latents": latents,
            "misfits": misfits_of(self._residuals(images, latents)),
        }
        if self.predicts_variance:
            _, variance = self.net.read_targets(images, self._prepare)
            parts["variances"] = variance[:, 0]
        return parts

    def _residuals(self, images, latents):
        """Return image minus reconstruction in units of the noise."""
        expected = self.decode(latents).astype(np.float64)
        variance = self.noise.variance(expected - self.image_scaler.sky_)
        return (images - expected) / np.sqrt(variance)

    # State --------------------------------------------------------------------------

    def to_state(self):
        """Return arrays, some of them views of the weights, and plain values.

        All ways to keep a model use this state: files, pickles, checkpoints, and copies
        for callbacks.
        """
        reference = self.reference
        return {
            "layout": self.layout._asdict(),
            "image_scaler": dict(vars(self.image_scaler)),
            "target_scaler": dict(vars(self.target_scaler)),
            "gain": self.gain,
            "network": self.network,
            "latent_dim": self.latent_dim,
            "predicts_variance": self.predicts_variance,
            "seed": self.seed,
            "weights": self.net.get_weights(),
            "reference": None if reference is None else reference.to_state(),
        }

    def copy(self):
        """Return a copy with its own weights, for inference."""
        return Codec.from_state(self.to_state(), self.net.device)

    @classmethod
    def from_state(cls, state, device="cpu"):
        """Make a codec of a state, for inference on a device."""
        layout = Layout(**state["layout"])
        reference = state["reference"]
        parts = {
            "layout": layout,
            "image_scaler": _with_attributes(ImageScaler(), state["image_scaler"]),
            "target_scaler": _with_attributes(StandardScaler(), state["target_scaler"]),
            "reference": reference and Reference(layout.n_targets, **reference),
        }
        weights = state["weights"]
        values = {name: state[name] for name in state if name != "weights"}
        codec = cls(**(values | parts))
        # Training settings stay at their defaults: parameters may have been set since.
        seeded = {"seed": codec.seed, "device": device}
        net = build_net(codec.network, codec.architecture, **seeded)
        return replace(codec, net=net.set_weights(weights))


def _with_attributes(scaler, attributes):
    vars(scaler).update(attributes)
    return scaler


def usable_device(device):
    """Return a device if PyTorch can use it here, else the CPU with a warning."""
    try:
        check_device(device)
    except ValueError:
        warnings.warn(
            f"This model was made for the device {device!r}, which PyTorch cannot use "
            "here; it is loaded to the CPU.",
            UserWarning,
            stacklevel=3,
        )
        return "cpu"
    return device
