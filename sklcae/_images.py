"""Shapes and scaling of images; nothing else in sklcae reshapes or rescales them."""

from math import isqrt, prod

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import median_abs_deviation
from sklearn.utils import gen_batches

from sklcae.exceptions import ImageShapeError

__all__ = [
    "STRETCHES",
    "ImageScaler",
    "check_nan_pixels",
    "check_not_masked",
    "fill_masked",
    "flatten_images",
    "masked_to_nan",
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


def masked_to_nan(X):
    """Return X with NaN where it is masked; anything but a masked array as it is."""
    if not np.ma.is_masked(X):
        return X
    kind = X.dtype if X.dtype.kind == "f" else np.float64
    return X.astype(kind).filled(np.nan)


def check_nan_pixels(X, allow_nan):
    """Raise ValueError for NaN, unless they are allowed and leave enough to see.

    Parameters
    ----------
    X : ndarray of shape (n, p)
        Images as rows.
    allow_nan : bool
        Whether NaN is a masked pixel.
    """
    # The minimum is NaN if anything is, and needs no copy.
    if not np.isnan(X.min(initial=np.inf)):
        return
    if not allow_nan:
        raise ValueError(
            "Input X contains NaN. Set allow_nan=True where NaN stands for a masked "
            "pixel (a dead column, a cosmic ray), or fill the pixels first."
        )
    empty = np.flatnonzero(np.isnan(X).all(axis=1))
    if len(empty):
        raise ValueError(
            "X must have at least one pixel that is not NaN in each image. Got "
            f"{len(empty)} without, the first of them in row {empty[0]}."
        )


def fill_masked(images):
    """Fill masked pixels with what is around them.

    A pixel becomes the mean of its neighbours, weighed by a Gaussian of 1 pixel; in
    large gaps the Gaussian is widened by steps, and where a whole channel is masked the
    pixels become the mean of the stamp.

    Parameters
    ----------
    images : ndarray of shape (n, C, H, W)
        Images with NaN where pixels are masked.

    Returns
    -------
    filled : ndarray of shape (n, C, H, W)
        Images without NaN; the given ones where none has NaN.
    mask : bool ndarray of shape (n, C, H, W) or None
        True where a pixel counts; None where all do.
    """
    mask = ~np.isnan(images) if np.isnan(images.min(initial=np.inf)) else None
    if mask is None:
        return images, None
    filled = images.copy()
    for index in np.flatnonzero(~mask.all(axis=(1, 2, 3))):
        filled[index] = _fill_stamp(images[index], mask[index])
    return filled, mask


def _fill_stamp(stamp, mask):
    filled = np.where(mask, stamp, 0)
    still = ~mask
    for sigma in FILLING_SIGMAS:
        if not still.any():
            return filled
        sums = gaussian_filter(np.where(mask, stamp, 0), sigma, axes=(1, 2))
        weights = gaussian_filter(mask.astype(stamp.dtype), sigma, axes=(1, 2))
        near = still & (weights > LEAST_WEIGHT)
        filled[near] = sums[near] / weights[near]
        still &= ~near
    filled[still] = stamp[mask].mean()
    return filled


# Widths in pixels of the Gaussians that fill masked pixels, and the share of weight
# that neighbours must have at least: below it only rounding is left.
FILLING_SIGMAS = (1.0, 4.0, 16.0)
LEAST_WEIGHT = 1e-3


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
# What is less, as a share of the standard deviation, is rounding and no noise.
LEAST_NOISE = 1e-6
# Images are looked through a few at a time, and background and noise are taken from as
# many as have this many pixels, 1,024 stamps of 64 x 64: no copy of all is made.
CHUNK_SIZE = 64
SAMPLE_PIXELS = 2**22


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
    sky_ : ndarray of shape (C, 1, 1)
        Median pixel of up to `SAMPLE_PIXELS`, in the unit of the images: what is above
        it counts as light. The "asinh" stretch has it for its background.
    noise_ : ndarray of shape (C, 1, 1)
        Standard deviation of the noise of pixels without light, in the unit of the
        images.
    """

    def __init__(self, stretch="linear", softening=None):
        self.stretch = stretch
        self.softening = softening

    def fit(self, images, rows=None):
        """Learn the scaling from images of shape (n, C, H, W), NaN left out.

        Parameters
        ----------
        images : ndarray of shape (n, C, H, W)
            The images.
        rows : int array of shape (m,) or None
            Which of them to learn from; None for all.
        """
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
            # The noise of the smallest numbers there are would be rounded to zero.
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
    """Return evenly spaced images that have enough pixels to tell the noise from."""
    n_images = max(1, SAMPLE_PIXELS // prod(images.shape[2:]))
    sample = images[rows[:: -(-len(rows) // n_images)]]
    no_pixel = np.isnan(np.fmax.reduce(sample, (0, 2, 3))).any()
    return images[rows] if no_pixel else sample


def sky_level(pixels):
    """Return the median of the pixels of stamps, NaN left out."""
    # Halved, since the sum of the two in the middle might overflow.
    return 2 * np.nanmedian(pixels / 2)


def noise_level(pixels):
    """Return the standard deviation of the noise of stamps of shape (n, H, W).

    The difference of two neighbours along a row holds sqrt(2) times the noise and
    little of a smooth galaxy; its median absolute deviation leaves out the bright
    centres; NaN is left out. Images without differences, or with next to none, fall
    back to their standard deviation, and constant ones to 1.
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
