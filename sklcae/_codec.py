"""The fitted object: from images to latents and targets, and back to images."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sklcae._fixed_psf import FixedPSF
from sklcae._gain import gain_of_light
from sklcae._images import PreparedImages, ScaledVariance, over_rows, parts_of
from sklcae._inputs import Layout
from sklcae._noise import NoiseModel
from sklcae._novelty import Reference, TrainingRange, misfits_of
from sklcae._profile_training import units_of_profile
from sklcae._scaling import ImageScaler
from sklcae._targets import TargetDistribution, TargetScaler
from sklcae._torch import (
    Architecture,
    Batch,
    ConditionalAutoencoderNet,
    LightScale,
    build_net,
    check_device,
)
from sklcae._warning import warn_user

# Images whose reconstructions, in float64 too, are in memory at the same time.
DESCRIBED_AT_ONCE = 64


@dataclass(frozen=True)
class Codec:
    """Scalers, noise and network of a fitted estimator.

    Images are `Images` of shape (n, n_bands, H, W) in the unit of the training set, NaN
    where a pixel is masked, with the other planes of their stamps. The seed made the
    network; random numbers of its constructor that are not among its weights come from
    it again. The gain is a float, a tuple of one for each band, or None. ``psf``
    (1, n_bands, H, W) is that of all stamps, or None if there is none or each stamp has
    its own. ``pixel_scale`` and ``guess``, from `guess_parameters`, are needed to turn
    latents into the parameters of a Sersic profile. Predicted errors are multiplied by
    ``error_scale`` (n_targets,). The codec has no net and no training range before the
    training, and no reference, the images of the training set to compare with, before
    its end.
    """

    layout: Layout
    image_scaler: ImageScaler
    target_scaler: TargetScaler
    gain: float | tuple[float, ...] | None
    network: str | Callable
    latent_dim: int
    predicts_variance: bool
    seed: int
    pixel_scale: float | None = None
    psf: np.ndarray | None = None
    guess: np.ndarray | None = None
    net: ConditionalAutoencoderNet | None = None
    training_range: TrainingRange | None = None
    reference: Reference | None = None
    error_scale: np.ndarray | float = 1.0

    @property
    def architecture(self):
        """The sizes of the network."""
        return architecture_of(self)

    @property
    def physical_loss(self):
        """The physical loss of the training, which decides whether variances exist."""
        return "gaussian_likelihood" if self.predicts_variance else "squared_error"

    @property
    def noise(self):
        """The noise of the images, in their unit."""
        # Squares of float32 may leave its range where the pixels do not.
        background = self.image_scaler.noise_.astype(np.float64) ** 2
        return NoiseModel(background, gain_of_light(self.gain))

    @property
    def light_unit(self):
        """The mean noise: in this unit the squares of light are within float32."""
        return mean_noise(self.image_scaler)

    @property
    def light_scale(self):
        """The scale of the light in scaled images, in units of the mean noise."""
        return light_scale_of(self)

    def other_planes(self, images):
        """Return variance and PSFs of images as a network reads them, or None each."""
        variance = images.variance
        if variance is not None:
            variance = ScaledVariance(variance, self.light_unit)
        return {"variance": variance, "psf": self.psf_of(images)}

    def psf_of(self, images):
        """Return the PSFs of images, read a few at a time, or None."""
        return images.psf if self.psf is None else FixedPSF(self.psf)

    def encode(self, images):
        """Return the latents of images, (n, latent_dim), float32; NaN if empty."""
        latents = self.net.encode(self._prepare(images))
        latents[images.empty] = np.nan
        return latents

    def decode(self, latents, psf=None):
        """Return the images of latents, (n, n_bands, H, W).

        The PSFs (n, n_bands, H, W) may be read a few at a time. They are None if the
        stamps have no such plane.
        """
        finish = self.image_scaler.inverse_transform
        if self.net.draws_light:
            finish = self._add_sky
        return self.net.decode(latents, psf, finish)

    def _add_sky(self, light):
        """Return the images of light in units of the mean noise."""
        sky = self.image_scaler.sky_
        return light * sky.dtype.type(self.light_unit) + sky

    def light_of(self, images, latents):
        """Return the light (n, n_bands, H, W) of latents, without the sky."""
        return self.decode(latents, self.psf_of(images)) - self.image_scaler.sky_

    def reconstruct(self, images):
        """Return images decoded from their latents, each with its PSF; NaN if empty."""
        # A Sersic profile cannot be drawn with NaN.
        latents = np.nan_to_num(self.encode(images))
        decoded = self.decode(latents, self.psf_of(images))
        decoded[images.empty] = np.nan
        return decoded

    def _prepare(self, images):
        """Return images and their planes as a network reads them in prediction."""
        prepared = PreparedImages(images, self.image_scaler, self.training_range)
        return Batch(prepared, **self.other_planes(images))

    def read_targets(self, images, symmetry=None):
        """Return the `TargetDistribution` of images; NaN if they are empty.

        With a symmetry it belongs to the mean over all flips and turns of an image. The
        variance is NaN for images outside the training range.
        """
        elements = range(1 if symmetry is None else len(symmetry.matrices))
        prepared = self._prepare(images)
        z_phy, variance = self.net.read_targets(prepared, elements=elements)
        y = [self.target_scaler.unscale(z_phy[:, k]) for k in elements]
        if variance is not None:
            squared_scale = (self.target_scaler.scale_ * self.error_scale) ** 2
            variance = [variance[:, k] * squared_scale for k in elements]
        if symmetry is not None:
            mean, variance = symmetry.mean_over_turns(y, variance)
        else:
            mean, variance = y[0], variance if variance is None else variance[0]
        mean[images.empty] = np.nan
        outside = (prepared.images.excess > 0) | ~np.isfinite(mean).all(axis=1)
        if variance is not None:
            variance[outside] = np.nan
        logarithmic = self.target_scaler.logarithmic
        return TargetDistribution(mean, variance, logarithmic, outside)

    def is_outside(self, images):
        """Return whether images are outside the training range, (n,)."""
        prepared = self._prepare(images).images
        for part in parts_of(len(images), DESCRIBED_AT_ONCE):
            prepared[part]
        outside = prepared.excess > 0
        outside[images.empty] = True
        return outside

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

    def generate(self, y, psf, rng):
        """Return images of wanted targets, with z_rest from similar galaxies."""
        z_phy = self.scale_targets(y)
        z_rest = self.reference.draw_rest(z_phy, rng)
        return self.decode(np.hstack([z_phy, z_rest]), psf)

    # Comparison with the training set -----------------------------------------------

    def score(self, images):
        """Return how usual images are: minus their distances, NaN if empty."""
        scores = self.reference.score(**self._describe(images, np.arange(len(images))))
        scores[images.empty] = np.nan
        return scores

    def with_reference(self, images, rows):
        """Return the codec with some images of the training set as its reference.

        Raises ValueError if the network returns no finite number for one of them.
        """
        described = self._describe(images, rows)
        del described["excess"]
        if not all(np.isfinite(part).all() for part in described.values()):
            raise ValueError(
                "The training diverged: the network returns values that are not finite "
                "for images of the training set. Try a smaller lr."
            )
        return replace(self, reference=Reference(self.layout.n_targets, **described))

    def _describe(self, images, rows):
        """Return excess, latents, misfits and, if predicted, variances of images."""
        names = ["excess", "latents", "misfits"]
        names += ["variances"] if self.predicts_variance else []

        def describe(some):
            described = self._describe_part(images.take(some))
            return [described[name] for name in names]

        described = over_rows(describe, rows, DESCRIBED_AT_ONCE)
        return dict(zip(names, described, strict=True))

    def _describe_part(self, images):
        prepared = self._prepare(images)
        latents = self.net.encode(prepared)
        parts = {
            "excess": prepared.images.excess,
            "latents": latents,
            "misfits": misfits_of(self.residuals(images, latents)),
        }
        if self.predicts_variance:
            _, variance = self.net.read_targets(prepared)
            parts["variances"] = variance[:, 0]
        return parts

    def residuals(self, images, latents):
        """Return image minus reconstruction in units of the noise."""
        light = self.light_of(images, latents).astype(np.float64)
        noise, everything = self.noise, slice(None)
        if images.variance is not None:
            background = images.variance[everything].astype(np.float64)
            noise = noise._replace(background=background)
        left = images[everything] - self.image_scaler.sky_ - light
        return left / np.sqrt(noise.variance(light))

    # State --------------------------------------------------------------------------

    def to_state(self):
        """Return arrays, some of them views of the weights, and plain values.

        All ways to keep a model use this state: files, pickles, checkpoints, and copies
        for callbacks.
        """
        reference, training_range = self.reference, self.training_range
        return {
            "layout": self.layout._asdict(),
            "image_scaler": dict(vars(self.image_scaler)),
            "target_scaler": dict(vars(self.target_scaler)),
            "gain": self.gain,
            "network": self.network,
            "latent_dim": self.latent_dim,
            "predicts_variance": self.predicts_variance,
            "seed": self.seed,
            "pixel_scale": self.pixel_scale,
            "psf": self.psf,
            "guess": self.guess,
            "weights": self.net.get_weights(),
            "training_range": training_range and training_range._asdict(),
            "reference": reference and reference.to_state(),
            "error_scale": self.error_scale,
        }

    def copy(self):
        """Return a copy with its own weights, for inference."""
        return Codec.from_state(self.to_state(), self.net.device)

    @classmethod
    def from_state(cls, state, device="cpu"):
        """Make a codec of a state, for inference on a device."""
        layout = Layout(**state["layout"])
        reference, training_range = state["reference"], state["training_range"]
        parts = {
            "layout": layout,
            "image_scaler": _with_attributes(ImageScaler(), state["image_scaler"]),
            "target_scaler": _with_attributes(TargetScaler(), state["target_scaler"]),
            "training_range": training_range and TrainingRange(**training_range),
            "reference": reference and Reference(layout.n_targets, **reference),
        }
        weights = state["weights"]
        values = {name: state[name] for name in state if name != "weights"}
        codec = cls(**(values | parts))
        # Training settings stay at their defaults: parameters may have been set since.
        settings = {"seed": codec.seed, "device": device, "trainable": False}
        net = build_net(codec.network, codec.architecture, **settings)
        return replace(codec, net=net.set_weights(weights))


def _with_attributes(scaler, attributes):
    vars(scaler).update(attributes)
    return scaler


def mean_noise(image_scaler):
    """Return the mean noise of the channels."""
    return float(image_scaler.noise_.mean(dtype=np.float64))


def light_scale_of(codec):
    """Return the `LightScale` of a codec, or of an object with its parts."""
    scaler, gain = codec.image_scaler, gain_of_light(codec.gain)
    unit = mean_noise(scaler)
    # Light is counted from the sky, whether or not the stretch subtracts it.
    sky = (scaler.sky_ - scaler.background_) / scaler.softening_
    return LightScale(
        stretch=scaler.stretch,
        minimum=scaler.minimum_ - sky,
        range=scaler.range_,
        softening=scaler.softening_ / unit,
        noise=NoiseModel(
            (scaler.noise_ / unit) ** 2, None if gain is None else gain * unit
        ),
    )


def architecture_of(codec):
    """Return the sizes of the network of a codec, or of an object with its parts."""
    layout, profile, light_scale = codec.layout, None, None
    seen = getattr(codec, "training_range", None)
    if codec.guess is not None:
        profile = units_of_profile(
            layout,
            codec.target_scaler,
            codec.pixel_scale,
            mean_noise(codec.image_scaler),
            codec.guess,
            None if seen is None else seen.targets,
        )
        light_scale = light_scale_of(codec)
    return Architecture(
        layout.band_shape,
        layout.n_targets,
        codec.latent_dim,
        codec.predicts_variance,
        layout.has_psf or codec.psf is not None,
        profile,
        light_scale,
        "variance" in layout.planes,
    )


def usable_device(device):
    """Return a device if PyTorch can use it here, else the CPU with a warning."""
    try:
        check_device(device)
    except ValueError:
        warn_user(
            f"This model was made for the device {device!r}, which PyTorch cannot use "
            "here; it is loaded to the CPU.",
        )
        return "cpu"
    return device
