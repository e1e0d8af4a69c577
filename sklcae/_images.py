"""Images that are read a few at a time: as floats, filled and scaled."""

import numpy as np
from sklearn.utils import gen_batches

from sklcae._masking import fill_masked
from sklcae._novelty import image_statistics

CHUNK_SIZE = 64
# A network gets no larger number; the products of its layers stay finite.
LARGEST_SCALED = 1e30


class Images:
    """Images (n, C, H, W) that become native floats when some of them are read.

    The ``raw`` array may have any numeric type and byte order, and may be a memory map.
    A masked pixel is NaN. ``empty`` are the rows in which all pixels are masked.
    """

    def __init__(self, raw, empty=()):
        self.raw, self.empty = raw, np.asarray(empty, dtype=int)
        self.shape, self.dtype = raw.shape, float_type(raw.dtype)

    def __len__(self):
        return len(self.raw)

    def __getitem__(self, which):
        return self.raw[which].astype(self.dtype, copy=False)


def float_type(dtype):
    """Return the native float32 or float64 that holds the numbers of a type."""
    single = np.result_type(dtype, np.float32) == np.float32
    return np.dtype(np.float32 if single else np.float64)


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
            statistics = image_statistics(filled, mask)
            self.excess[part] = self.training_range.excess(statistics)
        scaled = self.image_scaler.transform(filled)
        if not np.isfinite(scaled).all():
            limits = {"posinf": LARGEST_SCALED, "neginf": -LARGEST_SCALED}
            scaled = np.nan_to_num(scaled, nan=0, **limits)
        return scaled


class TrainingImages:
    """Images as a network reads them in training, for some rows of them.

    They are scaled when they are read, in every epoch; only those with masked pixels
    are filled once and kept. ``statistics`` come from `image_statistics`, and
    ``usual`` is False for images with pixels beyond the fences of the scaler. Raises
    ValueError if an image overflows when it is scaled.
    """

    def __init__(self, images, rows, image_scaler):
        self.images, self.rows, self.image_scaler = images, rows, image_scaler
        self.filled = {}
        looks = [self._look(rows[part]) for part in gen_batches(len(rows), CHUNK_SIZE)]
        self.statistics, self.usual = map(np.concatenate, zip(*looks, strict=True))

    def _look(self, rows):
        images = self.images[rows]
        filled, mask = fill_masked(images)
        if mask is not None:
            for index in np.flatnonzero(~mask.all(axis=(1, 2, 3))):
                self.filled[rows[index]] = filled[index].copy()
        if not np.isfinite(self.image_scaler.transform(filled)).all():
            raise ValueError(
                "X must have values of about the size of the training set. Got values "
                f"up to {np.abs(filled).max():g}, which overflow when they are scaled."
            )
        return image_statistics(filled, mask), self.image_scaler.is_usual(filled)

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
        if self.filled:
            for index, row in enumerate(rows):
                images[index] = self.filled.get(row, images[index])
        return self.image_scaler.transform(images)


class PixelMask:
    """True where a pixel is not masked, read as the training images are."""

    def __init__(self, images):
        self.images = images

    def __getitem__(self, which):
        return ~np.isnan(self.images.images[self.images.rows[which]])
