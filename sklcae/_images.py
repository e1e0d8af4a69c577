"""Shapes and scaling of images; nothing else in sklcae reshapes or rescales them."""

from math import isqrt, prod

import numpy as np
from scipy.stats import median_abs_deviation

from sklcae.exceptions import ImageShapeError

__all__ = [
    "STRETCHES",
    "ImageScaler",
    "check_not_masked",
    "flatten_images",
    "resolve_image_shape",
]


def flatten_images(X):
    """Return X with one row an image, and the shape of an image as X has it.

    Parameters
    ----------
    X : array-like
        Images as (n, p), (n, H, W) or (n, C, H, W). Anything else, a DataFrame
        among them, is left to scikit-learn's checks.

    Returns
    -------
    X : array-like of shape (n, p)
        The images as rows.
    shape : tuple of int or None
        What comes after n, None unless X is a NumPy array or can be nested lists of
        numbers with three or four axes.
    """
    check_not_masked(X, "X")
    if not hasattr(X, "shape") and not hasattr(X, "__array__"):
        X = _nested_lists_to_array(X)
    shape = getattr(X, "shape", ())
    if len(shape) not in (3, 4):
        return X, None
    X = np.asarray(X)
    return X.reshape(len(X), prod(shape[1:])), tuple(shape[1:])


def check_not_masked(array, name):
    """Raise ValueError if an array has masked entries, which would be taken as data.

    Parameters
    ----------
    array : object
        Anything; only masked arrays of NumPy can have masked entries.
    name : str
        Its name in the error message.
    """
    if np.ma.is_masked(array):
        raise ValueError(
            f"{name} must not have masked entries. Got a masked array with "
            f"{np.ma.count_masked(array)} of them; fill or drop them first."
        )


def _nested_lists_to_array(X):
    try:
        return np.asarray(X)
    except ValueError:
        # Ragged rows: scikit-learn's checks say what is wrong with them.
        return X


def resolve_image_shape(shape, n_pixels, image_shape=None):
    """Return (C, H, W) of images, or raise where the shapes contradict each other.

    Parameters
    ----------
    shape : tuple of int or None
        Shape of an image as `flatten_images` returns it; None for flat rows.
    n_pixels : int
        Length of a flat row.
    image_shape : tuple of int or None
        What the user says: (H, W) or (C, H, W).

    Returns
    -------
    tuple of int
        Channels, height and width. Flat rows without ``image_shape`` are squares
        where their length is a square number, else images of one row of pixels.

    Raises
    ------
    ImageShapeError
        If ``image_shape`` does not fit the images.
    """
    if shape is not None:
        found = _with_channel(shape)
        if image_shape is not None and _with_channel(image_shape) != found:
            raise ImageShapeError(
                f"The 'image_shape' parameter must be the shape of the images in X, "
                f"{shape}. Got {image_shape!r} instead."
            )
        return found
    if image_shape is None:
        side = isqrt(n_pixels)
        return (1, side, side) if side * side == n_pixels else (1, 1, n_pixels)
    if prod(image_shape) != n_pixels:
        raise ImageShapeError(
            f"The 'image_shape' parameter must have as many pixels as a row of X, "
            f"{n_pixels}. Got {image_shape!r} instead, which has {prod(image_shape)}."
        )
    return _with_channel(image_shape)


def _with_channel(shape):
    shape = tuple(int(length) for length in shape)
    return shape if len(shape) == 3 else (1, *shape)


def _keep(values):
    return values


STRETCHES = {"linear": (_keep, _keep), "asinh": (np.arcsinh, np.sinh)}


# With a softening of the noise itself the network learned its targets more slowly, and
# the radius less well: see docs/choices.rst.
SOFTENING_IN_NOISE = 10.0


class ImageScaler:
    """Scale images to [0, 1] with one minimum and maximum a channel, and back.

    The minimum and the maximum are those of the whole training set: a scaling of each
    image by its own range would take away its absolute flux. With the "asinh"
    stretch the scaled quantity is ``asinh((pixel - background) / softening)``, which
    is linear where pixels are faint and logarithmic in the bright centres (Lupton, Gunn
    and Szalay 1999, AJ 118, 1406).

    Parameters
    ----------
    stretch : str
        A key of ``STRETCHES``.
    softening : float or None
        In the unit of the images. None takes ten times the standard deviation of the
        noise, estimated from the differences of neighbouring pixels.

    Attributes
    ----------
    background_, softening_, minimum_, range_ : ndarray of shape (C, 1, 1)
        Background and softening in the unit of the images, minimum and range in that
        of the stretched images.
    """

    def __init__(self, stretch="linear", softening=None):
        self.stretch = stretch
        self.softening = softening

    def fit(self, images):
        """Learn the scaling from images of shape (n, C, H, W)."""
        channels = images.shape[1]
        self.background_ = np.zeros((channels, 1, 1), images.dtype)
        self.softening_ = np.ones((channels, 1, 1), images.dtype)
        if self.stretch != "linear":
            for channel in range(channels):
                pixels = images[:, channel]
                self.background_[channel] = np.median(pixels)
                self.softening_[channel] = self.softening or (
                    SOFTENING_IN_NOISE * noise_level(pixels)
                )
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            stretched = self._stretch(images)
            self.minimum_ = stretched.min(axis=(0, 2, 3))[:, None, None]
            range_ = stretched.max(axis=(0, 2, 3))[:, None, None] - self.minimum_
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
                "X must have values of the size of those that fit saw. Got values up "
                f"to {np.abs(images).max():g}, which overflow when they are scaled."
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


def noise_level(pixels):
    """Return the standard deviation of the noise of stamps of shape (n, H, W).

    The difference of two neighbours along a row holds sqrt(2) times the noise and
    little of a smooth galaxy; its median absolute deviation leaves out the bright
    centres. Images without differences, or with mostly none, fall back to their
    standard deviation, and constant ones to 1.
    """
    differences = np.diff(pixels, axis=2)
    noise = 0.0
    if pixels.min() == pixels.max():
        return 1.0
    if differences.size:
        noise = median_abs_deviation(differences, axis=None, scale="normal") / 2**0.5
    return noise or pixels.std() or 1.0
