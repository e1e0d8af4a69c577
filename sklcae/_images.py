"""Stamps that are read a few at a time: as floats, filled and scaled."""

import numpy as np
from sklearn.utils import gen_batches

from sklcae._masking import fill_masked
from sklcae._novelty import stamp_statistics
from sklcae._planes import KINDS, Planes, filled_variance, split_planes
from sklcae._streaming import RowsOnDisk

CHUNK_SIZE = 64
# A network gets no larger number; the products of its layers stay finite.
LARGEST_SCALED = 1e30


def parts_of(n_rows, size=CHUNK_SIZE):
    """Return slices that divide some rows, none if there are no rows."""
    return list(gen_batches(n_rows, size)) if n_rows else []


def over_rows(function, rows, size=CHUNK_SIZE):
    """Return the joined arrays of a function of a few rows, in the order of the rows.

    The function gets sorted rows, so that a file is read from its start to its end.
    """
    order = np.argsort(rows, kind="stable")
    results = [function(rows[order[part]]) for part in parts_of(len(rows), size)]
    back = np.argsort(order)
    return [np.concatenate(parts)[back] for parts in zip(*results, strict=True)]


class Images:
    """Images (n, n_bands, H, W) that become native floats when some of them are read.

    The ``raw`` array (n, C, H, W) has all planes of the stamps, in any numeric type and
    byte order, and may be a memory map or `RowsOnDisk`. A masked pixel is NaN.
    ``empty`` are the rows in which all pixels are masked. ``variance`` and ``psf`` read
    the other planes of the stamps, and are None if there is no such plane.
    """

    def __init__(self, raw, empty=(), kinds=KINDS[:1]):
        self.raw, self.empty, self.kinds = raw, np.asarray(empty, dtype=int), kinds
        self.dtype = float_type(raw.dtype)
        # Views: of a memory map only the rows that are taken are read.
        planes = split_planes(raw, kinds)
        self.shape = planes.image.shape
        self._image = NativeRows(planes.image, self.dtype)
        self.variance = self.psf = None
        if planes.variance is not None:
            variance = NativeRows(planes.variance, self.dtype)
            self.variance = VarianceMaps(self._image, variance)
        if planes.psf is not None:
            self.psf = PSFs(planes.psf)

    def __len__(self):
        return len(self.raw)

    def __getitem__(self, which):
        return self._image[which]

    @property
    def is_empty(self):
        """Whether all pixels are masked, (n,)."""
        return np.isin(np.arange(len(self)), self.empty)

    @property
    def on_disk(self):
        """Whether the images are read in blocks."""
        return isinstance(self.raw, RowsOnDisk)

    def take(self, rows):
        """Return some rows with all of their planes, in memory."""
        return Images(self.raw[rows], kinds=self.kinds)


class NativeRows:
    """Rows of an array in any numeric type, read as native floats of a type."""

    def __init__(self, raw, dtype):
        self.raw, self.dtype = raw, dtype

    def __getitem__(self, which):
        return self.raw[which].astype(self.dtype, copy=False)


class VarianceMaps:
    """The variance of the pixels of images, in the unit of the images squared.

    In masked pixels it is the median over the stamp: no number there matters, but NaN
    would spread.
    """

    def __init__(self, images, variance):
        self.images, self.variance = images, variance

    def __getitem__(self, which):
        return filled_variance(Planes(self.images[which], self.variance[which]))


class ScaledVariance:
    """The variance as a network reads it: in another unit of the images, float32."""

    def __init__(self, variance, unit):
        self.variance, self.squared_unit = variance, unit**2

    def __getitem__(self, which):
        scaled = self.variance[which].astype(np.float64) / self.squared_unit
        return scaled.clip(1 / LARGEST_SCALED, LARGEST_SCALED).astype(np.float32)


class PSFs:
    """The PSFs of stamps, of sum 1, float32."""

    def __init__(self, raw):
        self.raw = raw

    def __getitem__(self, which):
        # The order of summation, and with it the last bit, depends on the layout.
        psf = np.array(self.raw[which], dtype=np.float64, order="C")
        psf /= psf.sum(axis=(2, 3), keepdims=True)
        return psf.astype(np.float32)


class SomeRows:
    """Some rows of an object that is read a few rows at a time."""

    def __init__(self, values, rows):
        self.values, self.rows = values, rows

    def __getitem__(self, which):
        return self.values[self.rows[which]]


def float_type(dtype):
    """Return the native float32 or float64 that holds the numbers of a type."""
    single = np.result_type(dtype, np.float32) == np.float32
    return np.dtype(np.float32 if single else np.float64)


def statistics_of(images, which, filled, mask):
    """Return the `stamp_statistics` of some `Images`, which are filled already."""
    planes = images.variance, images.psf
    read = [None if plane is None else plane[which] for plane in planes]
    return stamp_statistics(filled, mask, *read)


class PreparedImages:
    """Images as a network reads them in prediction: filled and scaled.

    With a `TrainingRange`, ``excess`` (n,) has the excess of each image that was read.
    """

    def __init__(self, images, image_scaler, training_range=None):
        self.images, self.image_scaler = images, image_scaler
        self.training_range, self.excess = training_range, np.zeros(len(images))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, part):
        filled, mask = fill_masked(self.images[part])
        if self.training_range is not None:
            statistics = statistics_of(self.images, part, filled, mask)
            self.excess[part] = self.training_range.excess(statistics)
        scaled = self.image_scaler.transform(filled)
        if not np.isfinite(scaled).all():
            limits = {"posinf": LARGEST_SCALED, "neginf": -LARGEST_SCALED}
            scaled = np.nan_to_num(scaled, nan=0, **limits)
        return scaled


class TrainingImages:
    """Images as a network reads them in training, for some rows of them.

    They are scaled when they are read, in every epoch; only those with masked pixels
    are filled once and kept, except images on disk. ``masked`` is True if there are
    such images. ``statistics`` come from `stamp_statistics`, and ``usual`` is False for
    images with pixels beyond the fences of the scaler. Raises ValueError if an image
    overflows when it is scaled.
    """

    def __init__(self, images, rows, image_scaler):
        self.images, self.rows, self.image_scaler = images, rows, image_scaler
        self.masked, self.filled = False, {}
        self.statistics, self.usual = over_rows(self._look, rows)

    def _look(self, rows):
        images = self.images[rows]
        filled, mask = fill_masked(images)
        if mask is not None:
            self.masked = True
        if mask is not None and not self.images.on_disk:
            for index in np.flatnonzero(~mask.all(axis=(1, 2, 3))):
                self.filled[rows[index]] = filled[index].copy()
        if not np.isfinite(self.image_scaler.transform(filled)).all():
            raise ValueError(
                "X must have values of about the size of the training set. Got values "
                f"up to {np.abs(filled).max():g}, which overflow when they are scaled."
            )
        statistics = statistics_of(self.images, rows, filled, mask)
        return statistics, self.image_scaler.is_usual(filled)

    def keep_usual(self):
        """Leave out images that are not usual, unless none is."""
        if self.usual.any():
            self.rows = self.rows[self.usual]
            self.statistics = self.statistics[self.usual]
            self.usual = self.usual[self.usual]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, which):
        rows = self.rows[which]
        images = self.images[rows]
        if self.masked and self.images.on_disk:
            images, _ = fill_masked(images)
        for index, row in enumerate(rows if self.filled else ()):
            images[index] = self.filled.get(row, images[index])
        return self.image_scaler.transform(images)

    @property
    def reading(self):
        """How the images are read from disk, or None."""
        raw = self.images.raw
        return raw.reading(self.rows) if self.images.on_disk else None


class UnreadImages:
    """Zeros in the place of images that each step of the training makes anew.

    The ``reading`` is that of the other planes, or None.
    """

    def __init__(self, n_images, reading):
        self.n_images, self.reading = n_images, reading

    def __len__(self):
        return self.n_images

    def __getitem__(self, which):
        return np.zeros((len(which), 1, 1, 1), np.float32)


class PixelMask:
    """True where a pixel is not masked, read as the training images are."""

    def __init__(self, images):
        self.images = images

    def __getitem__(self, which):
        return ~np.isnan(self.images.images[self.images.rows[which]])
