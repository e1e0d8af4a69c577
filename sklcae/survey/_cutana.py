"""Folders of cutana, ESA's tool for cutouts of Euclid tiles."""

import re
from itertools import accumulate

import numpy as np

from sklcae._blocks import rows_of_chunk
from sklcae.survey._arrow import read_parquet
from sklcae.survey._contents import Contents, files_below, library

IMAGES, METADATA = "images.zarr", "images_metadata.parquet"
ADVICE = (
    "parameters cannot be read off them. Make the cutouts again with "
    "config.normalisation_method = 'none', config.data_type = 'float32' and "
    "config.flux_conserved_resizing = True"
)


def is_cutana(path):
    """Return whether a folder has a batch of cutana, or several."""
    return bool(_batches_of(path))


def _batches_of(path):
    """Return the folders of batches in their order, from a run, a batch or a store."""
    if path.name == IMAGES:
        path = path.parent
    if not path.is_dir():
        return []
    folders = [path, *(sub for sub in path.iterdir() if sub.is_dir())]
    batches = [f for f in folders if (f / IMAGES).is_dir() and (f / METADATA).is_file()]
    return sorted(batches, key=_natural)


def _natural(path):
    """Return a key that puts batch_2 before batch_10."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdigit() else part for part in parts]


def read_cutana(path):
    """Return the images with the channels first, and the columns of the metadata."""
    zarr = library("zarr")
    batches = _batches_of(path)
    stores = [zarr.open_array(b / IMAGES, path="images", mode="r") for b in batches]
    tables = [read_parquet([batch / METADATA]) for batch in batches]
    for batch, images, table in zip(batches, stores, tables, strict=True):
        _check(batch.name, images, next(iter(table.arrays.values())).shape[0])
    table = read_parquet([batch / METADATA for batch in batches])
    arrays = {**table.arrays, "images": _ChannelsFirst(stores)}
    return Contents(arrays, lambda: [f for b in batches for f in files_below(b)])


def _check(name, images, n_rows):
    """Raise ValueError unless images are fluxes of the rows of the metadata."""
    shape = images.shape
    if len(shape) != 4 or shape[1] != shape[2]:
        raise ValueError(
            f"the images of {name!r} must have the shape (n, H, W, C) with H = W, as "
            f"cutana writes them. Got {shape}"
        )
    if shape[0] != n_rows:
        raise ValueError(
            f"{METADATA} of {name!r} must have a row for each of {shape[0]} images. "
            f"Got {n_rows}"
        )
    if images.dtype.kind != "f":
        raise ValueError(
            f"the images of {name!r} are normalised, with the type {images.dtype}, and "
            f"{ADVICE}"
        )
    if all(_is_normalised(images[row]) for row in {0, shape[0] - 1}):
        raise ValueError(
            f"the images of {name!r} are normalised, from 0 to 1 in each stamp, and "
            f"{ADVICE}"
        )


def _is_normalised(stamp):
    """Return whether a stamp has values as all stretches of cutana make them."""
    return bool(np.min(stamp) >= 0 and 0.99 < np.max(stamp) <= 1)


class _ChannelsFirst:
    """Images (n, H, W, C) of several arrays as one array (n, C, H, W)."""

    def __init__(self, arrays):
        shapes = {array.shape[1:] for array in arrays}
        if len(shapes) > 1:
            raise ValueError(f"batches have images of different shapes, {shapes}")
        height, width, n_channels = shapes.pop()
        self.arrays = arrays
        self.starts = [0, *accumulate(array.shape[0] for array in arrays)]
        self.shape = (self.starts[-1], n_channels, height, width)
        self.dtype = np.result_type(*(array.dtype for array in arrays))
        self.chunks = (max(map(rows_of_chunk, arrays)), *self.shape[1:])

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(self.shape[0])
        found = [np.zeros((0, *self.arrays[0].shape[1:]), self.dtype)]
        for first, array in zip(self.starts, self.arrays, strict=False):
            some = slice(max(0, start - first), max(0, stop - first))
            if some.start < min(some.stop, array.shape[0]):
                found.append(array[some])
        return np.moveaxis(np.concatenate(found), -1, 1)
