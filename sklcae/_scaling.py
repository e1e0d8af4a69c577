"""Scaling of images to [0, 1]."""

import copy
from math import prod

import numpy as np
from scipy.stats import median_abs_deviation

from sklcae._images import over_rows


def _keep(values):
    return values


STRETCHES = {"linear": (_keep, _keep), "asinh": (np.arcsinh, np.sinh)}
LIMITS = ("extremes", "robust")


# With a softening equal to the noise the network learned its targets more slowly, and
# the radius less well: see docs/understanding/choices.rst.
SOFTENING_IN_NOISE = 10.0
# Smaller shares of the standard deviation are rounding and not noise.
LEAST_NOISE = 1e-6
# Images are read a few at a time, and background and noise are estimated from a sample
# of this many pixels, 1,024 stamps of 64 x 64: the images are never copied as a whole.
SAMPLE_PIXELS = 2**22

# The fences of `_fences`. In simulated training sets the largest pixel of the brightest
# image exceeded that of the first hundredth by 0.5 at most in asinh(pixel / 10 noise),
# and the smallest pixel by one standard deviation of the noise.
UNUSUAL_SHARE = 0.01
ABOVE_USUAL = 1.5
BELOW_USUAL_IN_NOISE = 10.0
BELOW_USUAL_SHARE = 1e-3
FENCE_IN_QUARTILES = 3.0
# In fewer images one bright galaxy is not unusual: their fences are at infinity.
FEWEST_IMAGES = 30


class ImageScaler:
    """Scale images to [0, 1] with one minimum and maximum a channel, and back.

    Minimum and maximum are taken over the whole training set: scaling each image by its
    own range would lose its absolute flux. With the "asinh" stretch the scaled quantity
    is ``asinh((pixel - background) / softening)``, which is linear for faint pixels and
    logarithmic in the bright centres (Lupton, Gunn and Szalay 1999, AJ 118, 1406). A
    `softening` of None takes ten times the standard deviation of the noise.

    With ``limits="robust"`` minimum and maximum are taken over the images whose pixels
    are all within the fences ``lower_fence_`` and ``upper_fence_``, see `_fences`.
    Pixels beyond the fences are clipped.

    The fitted attributes have the shape (C, 1, 1): the fences, ``background_`` and
    ``softening_`` in the unit of the images, ``minimum_`` and ``range_`` of the
    stretched images. Light is counted from ``sky_``, the median of up to
    `SAMPLE_PIXELS` pixels, which is also the background of the "asinh" stretch.
    ``noise_`` is the standard deviation of the noise of pixels without light.
    """

    def __init__(self, stretch="linear", softening=None, limits="extremes"):
        self.stretch = stretch
        self.softening = softening
        self.limits = limits

    def fit(self, images, rows=None, has_sky=True):
        """Learn the scaling from some rows of images (n, C, H, W), ignoring NaN.

        The sky of images without one is 0; their median pixel is light.
        """
        rows = np.arange(len(images)) if rows is None else rows
        least, greatest = _extremes(images, rows)
        if np.isnan(np.fmin.reduce(least)).any():
            raise ValueError(
                "X must have a pixel that is not NaN in each channel. Got a channel "
                "without."
            )
        self._measure_sky(_sample(images, rows, least))
        if not has_sky:
            self.sky_[:] = 0
        self.lower_fence_, self.upper_fence_ = _fences(
            least, greatest, self.sky_, self.noise_
        )
        if self.limits == "robust":
            beyond = (least < self.lower_fence_) | (greatest > self.upper_fence_)
            least, greatest = (np.where(beyond, np.nan, e) for e in (least, greatest))
        self._set_range(np.fmin.reduce(least), np.fmax.reduce(greatest))
        return self

    def with_fences_of(self, images, rows):
        """Return a scaler whose fences also hold the usual ones of other images."""
        least, greatest = _extremes(images, rows)
        lower, upper = _fences(least, greatest, self.sky_, self.noise_)
        wider = copy.copy(self)
        wider.lower_fence_ = np.minimum(self.lower_fence_, lower)
        wider.upper_fence_ = np.maximum(self.upper_fence_, upper)
        return wider

    def _measure_sky(self, sample):
        shape = (sample.shape[1], 1, 1)
        self.noise_, self.sky_ = (np.ones(shape, sample.dtype) for _ in range(2))
        for channel, pixels in enumerate(sample.swapaxes(0, 1)):
            # The noise of the smallest float numbers would be rounded to zero.
            least = np.finfo(pixels.dtype).tiny
            self.noise_[channel] = max(noise_level(pixels), least)
            self.sky_[channel] = sky_level(pixels)

    def _set_range(self, lowest, highest):
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

    def _check_finite(self, range_):
        if not np.isfinite(range_).all():
            raise ValueError(
                "X must be scalable to [0, 1]. Got values whose range overflows its "
                f"type {range_.dtype} with stretch={self.stretch!r}, "
                f"softening={self.softening}."
            )

    def transform(self, images):
        """Return images of shape (n, C, H, W) scaled, in float32, maybe infinite."""
        if self.limits == "robust":
            images = images.clip(self.lower_fence_, self.upper_fence_)
        with np.errstate(over="ignore"):
            scaled = (self._stretch(images) - self.minimum_) / self.range_
            return scaled.astype(np.float32, copy=False)

    def is_usual(self, images):
        """Return whether all pixels of images are within the fences, (n,)."""
        within = (images >= self.lower_fence_) & (images <= self.upper_fence_)
        return within.all(axis=(1, 2, 3))

    def inverse_transform(self, scaled):
        """Return scaled images in the unit of the images."""
        _, unstretch = STRETCHES[self.stretch]
        stretched = scaled * self.range_ + self.minimum_
        return unstretch(stretched) * self.softening_ + self.background_

    def _stretch(self, images):
        stretch, _ = STRETCHES[self.stretch]
        return stretch((images - self.background_) / self.softening_)


def _extremes(images, rows):
    """Return the least and the greatest pixel of each image and channel.

    Both have the shape (n, C, 1, 1), and are NaN if all pixels are.
    """

    def ends(some):
        chunk = images[some]
        return [f.reduce(chunk, (2, 3), keepdims=True) for f in (np.fmin, np.fmax)]

    return over_rows(ends, rows)


def _fences(least, greatest, sky, noise):
    """Return fences, (C, 1, 1) each, that pixels of most images do not pass.

    They are robust: up to a hundredth of the images, and in part up to a quarter, may
    have bad pixels. The upper fence is well above the largest pixels of the other
    images, in asinh(pixel / 10 noise), which is nearly logarithmic: four times as
    bright. The lower fence is ten times the noise below their smallest pixels.
    """
    largest = np.finfo(noise.dtype).max
    if len(least) < FEWEST_IMAGES:
        return np.full_like(noise, -largest), np.full_like(noise, largest)
    unit = SOFTENING_IN_NOISE * noise
    with np.errstate(all="ignore"):
        upper = _fence(np.arcsinh((greatest - sky) / unit), ABOVE_USUAL, 1.0)
        top = sky + unit * np.sinh(upper)
        room = np.maximum(BELOW_USUAL_IN_NOISE * noise, BELOW_USUAL_SHARE * (top - sky))
        bottom = -_fence(-least, room, room)
    infinite = {"posinf": largest, "neginf": -largest}
    return tuple(
        np.nan_to_num(fence, nan=end, **infinite)
        for fence, end in ((bottom, -largest), (top, largest))
    )


def _fence(values, above_usual, least_spread):
    """Return the upper fence of values (n, C, 1, 1), ignoring NaN."""
    n_unusual = int(np.ceil(UNUSUAL_SHARE * len(values)))
    usual = 1 - n_unusual / max(len(values) - 1, 1)
    quantiles = [0.25, 0.75, max(usual, 0.5)]
    low, high, usual = np.nanquantile(values, quantiles, axis=0)
    spread = np.maximum(high - low, least_spread)
    fence = np.minimum(high + FENCE_IN_QUARTILES * spread, usual + above_usual)
    return fence.astype(values.dtype)


def _sample(images, rows, least):
    """Return evenly spaced images with enough pixels to estimate the noise from.

    If they lack a channel, all images are returned, or on disk evenly spaced ones of
    those that have some channel. ``least`` are the smallest pixels of all images.
    """
    n_images = max(1, SAMPLE_PIXELS // prod(images.shape[2:]))
    sample = images[_spaced(rows, n_images)]
    if not np.isnan(np.fmax.reduce(sample, (0, 2, 3))).any():
        return sample
    if not getattr(images, "on_disk", False):
        return images[rows]
    has_pixel = ~np.isnan(least[:, :, 0, 0])
    some = [_spaced(rows[has], n_images) for has in has_pixel.T]
    return images[np.unique(np.concatenate(some))]


def _spaced(rows, most):
    return rows[:: -(-len(rows) // most)]


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
