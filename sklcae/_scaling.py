"""Scaling of images to [0, 1] and of targets to mean 0 and variance 1."""

from math import prod

import numpy as np
from scipy.stats import median_abs_deviation
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches


def _keep(values):
    return values


STRETCHES = {"linear": (_keep, _keep), "asinh": (np.arcsinh, np.sinh)}


# With a softening equal to the noise the network learned its targets more slowly, and
# the radius less well: see docs/choices.rst.
SOFTENING_IN_NOISE = 10.0
# Smaller shares of the standard deviation are rounding and not noise.
LEAST_NOISE = 1e-6
# Images are read a few at a time, and background and noise are estimated from a sample
# of this many pixels, 1,024 stamps of 64 x 64: the images are never copied as a whole.
CHUNK_SIZE = 64
SAMPLE_PIXELS = 2**22


class ImageScaler:
    """Scale images to [0, 1] with one minimum and maximum a channel, and back.

    Minimum and maximum are taken over the whole training set: scaling each image by its
    own range would lose its absolute flux. With the "asinh" stretch the scaled quantity
    is ``asinh((pixel - background) / softening)``, which is linear for faint pixels and
    logarithmic in the bright centres (Lupton, Gunn and Szalay 1999, AJ 118, 1406). A
    `softening` of None takes ten times the standard deviation of the noise.

    The fitted attributes have the shape (C, 1, 1): ``background_`` and ``softening_``
    in the unit of the images, ``minimum_`` and ``range_`` of the stretched images.
    Light is counted from ``sky_``, the median of up to `SAMPLE_PIXELS` pixels, which is
    also the background of the "asinh" stretch. ``noise_`` is the standard deviation of
    the noise of pixels without light.
    """

    def __init__(self, stretch="linear", softening=None):
        self.stretch = stretch
        self.softening = softening

    def fit(self, images, rows=None):
        """Learn the scaling from some rows of images (n, C, H, W), ignoring NaN."""
        rows = np.arange(len(images)) if rows is None else rows
        lowest, highest = _extremes(images, rows)
        if np.isnan(lowest).any():
            raise ValueError(
                "X must have a pixel that is not NaN in each channel. Got a channel "
                "without."
            )
        sample = _sample(images, rows)
        self.noise_ = np.ones_like(lowest)
        self.sky_ = np.ones_like(lowest)
        for channel, pixels in enumerate(sample.swapaxes(0, 1)):
            # The noise of the smallest float numbers would be rounded to zero.
            least = np.finfo(pixels.dtype).tiny
            self.noise_[channel] = max(noise_level(pixels), least)
            self.sky_[channel] = sky_level(pixels)
        self.background_ = np.zeros_like(lowest)
        self.softening_ = np.ones_like(lowest)
        if self.stretch != "linear":
            self.background_ = self.sky_
            self.softening_[:] = self.softening or SOFTENING_IN_NOISE * self.noise_
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            # A stretch keeps the order of the pixels.
            self.minimum_ = self._stretch(lowest)
            range_ = self._stretch(highest) - self.minimum_
        self._check_finite(range_)
        # A channel that is constant becomes zero, not a division by zero.
        self.range_ = np.where(range_ > 0, range_, range_.dtype.type(1))
        return self

    def _check_finite(self, range_):
        if not np.isfinite(range_).all():
            raise ValueError(
                "X must be scalable to [0, 1]. Got values whose range overflows its "
                f"type {range_.dtype} with stretch={self.stretch!r}, "
                f"softening={self.softening}."
            )

    def transform(self, images):
        """Return images of shape (n, C, H, W) scaled, in float32."""
        with np.errstate(over="ignore"):
            scaled = (self._stretch(images) - self.minimum_) / self.range_
            scaled = scaled.astype(np.float32, copy=False)
        if not np.isfinite(scaled).all():
            raise ValueError(
                "X must have values of about the size of the training set. Got values "
                f"up to {np.abs(images).max():g}, which overflow when they are scaled."
            )
        return scaled

    def inverse_transform(self, scaled):
        """Return scaled images in the unit of the images."""
        _, unstretch = STRETCHES[self.stretch]
        stretched = scaled * self.range_ + self.minimum_
        return unstretch(stretched) * self.softening_ + self.background_

    def _stretch(self, images):
        stretch, _ = STRETCHES[self.stretch]
        return stretch((images - self.background_) / self.softening_)


def _extremes(images, rows):
    """Return the least and the greatest pixel of each channel, (C, 1, 1) each."""
    lowest = highest = np.full((images.shape[1], 1, 1), np.nan, images.dtype)
    for part in gen_batches(len(rows), CHUNK_SIZE):
        chunk = images[rows[part]]
        least, greatest = (f.reduce(chunk, (0, 2, 3)) for f in (np.fmin, np.fmax))
        lowest = np.fmin(lowest, least[:, None, None])
        highest = np.fmax(highest, greatest[:, None, None])
    return lowest, highest


def _sample(images, rows):
    """Return evenly spaced images with enough pixels to estimate the noise from."""
    n_images = max(1, SAMPLE_PIXELS // prod(images.shape[2:]))
    sample = images[rows[:: -(-len(rows) // n_images)]]
    no_pixel = np.isnan(np.fmax.reduce(sample, (0, 2, 3))).any()
    return images[rows] if no_pixel else sample


def sky_level(pixels):
    """Return the median of the pixels of stamps, ignoring NaN."""
    # Halved, since the sum of the two middle values might overflow.
    return 2 * np.nanmedian(pixels / 2)


def noise_level(pixels):
    """Return the standard deviation of the noise of stamps of shape (n, H, W).

    The difference of two neighbours along a row has sqrt(2) times the noise and
    little of a smooth galaxy. The median absolute deviation of the differences is
    robust to the bright centres. NaN is ignored. If the differences vanish, or nearly,
    the standard deviation of the pixels is taken, and 1 for constant images.
    """
    with np.errstate(over="ignore"):
        differences = np.diff(pixels, axis=2).ravel()
    differences = differences[~np.isnan(differences)]
    noise = 0.0
    if np.nanmin(pixels) == np.nanmax(pixels):
        return 1.0
    if differences.size:
        noise = median_abs_deviation(differences, scale="normal") / 2**0.5
    # Squares of float32 may overflow where the pixels do not.
    spread = np.nanstd(pixels.astype(np.float64))
    return noise if noise > LEAST_NOISE * spread else spread or 1.0


def fit_target_scaler(y, weights, symmetry):
    """Fit a StandardScaler to all targets of the training, including turned ones.

    Targets are NaN where one is missing; without a symmetry no target turns.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        seen = y if symmetry is None else symmetry.turned_targets(y)
        if weights is not None:
            weights = np.tile(weights, len(seen) // len(y))
        scaler = StandardScaler().fit(seen, sample_weight=weights)
    if not np.isfinite([scaler.mean_, scaler.scale_]).all():
        raise ValueError(
            "y must have a finite mean and variance. Got values up to "
            f"{np.nanmax(np.abs(y)):g}, which overflow."
        )
    return scaler
