"""Arrays on disk (Zarr, HDF5, Dask), read a block of rows at a time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial, wraps
from inspect import signature
from itertools import zip_longest
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.utils import Bunch, gen_batches

from sklcae._neighbours import Places, check_neighbours
from sklcae._warning import warn_user

Method = TypeVar("Method", bound=Callable[..., Any])

# A block has at most about so many bytes, and whole chunks of the array. The memory of
# larger arrays is taken from the system anew for each, which costs time.
BLOCK_SIZE = 2**25
# Networks measure so many stamps at a time, and the last ones of a block are padded.
BATCH_SIZE = 32
# The sides of a pixel in a file and in a model may differ by this share.
SAME_SIDE = 0.01


def is_on_disk(X):
    """Return whether an array is read in chunks: of Zarr, HDF5, Dask or the like."""
    if isinstance(X, np.ndarray):
        return False
    has_chunks = all(hasattr(X, name) for name in ("chunks", "shape", "dtype"))
    return has_chunks and len(X.shape) in (2, 3, 4) and X.shape[0] > 0


def has_no_rows(X):
    """Return whether an array has no rows."""
    shape = getattr(X, "shape", ())
    return len(shape) > 1 and shape[0] == 0


def blocks_of(X):
    """Return slices of rows of an array on disk, of whole chunks."""
    return list(gen_batches(X.shape[0], rows_of_block(X)))


def rows_of_block(X):
    """Return the rows of a block: whole chunks, or whole batches of a network."""
    n_rows = max(1, BLOCK_SIZE // max(1, bytes_of_row(X)))
    n_whole = rows_of_chunk(X)
    if n_whole == 1 and n_rows > BATCH_SIZE:
        n_whole = BATCH_SIZE
    return max(1, n_rows // n_whole) * n_whole


def bytes_of_row(X):
    """Return the size of a row in memory."""
    return int(np.prod(X.shape[1:], dtype=float)) * np.dtype(X.dtype).itemsize


def rows_of_chunk(X):
    """Return the rows of a chunk, or of a shard of several; 1 without chunks."""
    chunks = getattr(X, "shards", None) or getattr(X, "chunks", None)
    first = chunks[0] if chunks else 1
    return max(1, int(max(first) if isinstance(first, tuple) else first))


def by_blocks(method: Method) -> Method:
    """Decorate a method of X whose results belong to the rows, for arrays on disk.

    A block of an array on disk is read and measured at a time, and the results are
    joined: they are those for the array in memory. A table of ``neighbours`` is divided
    too. Errors say where the block begins. Stamps that know the side of their pixels
    are compared with the model.
    """
    names = signature(method)

    @wraps(method)
    def decorated(self, X, *args, **kwargs):
        if has_no_rows(X) and hasattr(self, "_stand_in"):
            return without_rows(method(self, self._stand_in(X), *args, **kwargs))
        if not is_on_disk(X):
            return method(self, X, *args, **kwargs)
        warn_of_other_pixels(self, X)
        given = names.bind(self, X, *args, **kwargs).arguments
        del given["self"], given["X"]
        places = check_neighbours(given.pop("neighbours", None), X.shape[0])

        def measure(block, rows):
            if places is not None:
                given["neighbours"] = Places(places[rows])
            return method(self, block, **given)

        return over_blocks(X, measure)

    return cast(Method, decorated)


def warn_of_other_pixels(model, stamps):
    """Warn if stamps know that their pixels have another side than the model's.

    A model whose pixel has a side of 1 measures radii in pixels.
    """
    side = getattr(stamps, "pixel_scale", None)
    expected = getattr(model, "pixel_scale_", model.pixel_scale)
    if side is None or expected in (None, 1):
        return
    side = np.median(side)
    if abs(side / expected - 1) > SAME_SIDE:
        warn_user(
            f"The pixels of the stamps have a side of {side:g}, and 'pixel_scale' of "
            f"the model is {expected:g}. Radii are wrong by this factor: use "
            f"model.rescale(pixel_scale={side:g}) or a ProfileFitRegressor with this "
            "pixel_scale."
        )


def over_blocks(X, function):
    """Return the joined results of a function of blocks and of their rows.

    While a block is measured, a thread reads the next one. Two blocks are in memory.
    """
    if not is_on_disk(X):
        return function(X, slice(0, None))
    results = []
    for rows, reading in read_ahead(partial(_read, X), blocks_of(X)):
        block = reading.result()
        # The block is freed with its last name, before another one is read.
        del reading
        with _rows_counted_from(rows.start):
            results.append(function(block, rows))
        del block
    return _joined(results)


def read_ahead(read, pieces):
    """Yield each piece with a Future of ``read(piece)``, and read the next meanwhile.

    A thread reads, one piece at a time.
    """
    pieces = list(pieces)
    with ThreadPoolExecutor(1, "sklcae-reader") as reader:
        # A thread has its own context: filters of warnings, np.errstate.
        readings = [reader.submit(copy_context().run, read, p) for p in pieces[:1]]
        for piece, ahead in zip_longest(pieces, pieces[1:]):
            if ahead is not None:
                readings.append(reader.submit(copy_context().run, read, ahead))
            yield piece, readings.pop(0)


def _read(X, rows):
    with _rows_counted_from(rows.start):
        return np.asarray(X[rows])


@contextmanager
def _rows_counted_from(first):
    """Note the row in which a block begins on errors of its values."""
    try:
        yield
    except ValueError as error:
        if first:
            error.add_note(f"Rows are counted from row {first} of X.")
        raise


def without_rows(result):
    """Return a result for no rows from that for one, as Dask asks for."""
    if result is None:
        return None
    if isinstance(result, tuple):
        return tuple(map(without_rows, result))
    if isinstance(result, dict):
        return Bunch(**{name: without_rows(part) for name, part in result.items()})
    return result[:0]


def _joined(results):
    first = results[0]
    if first is None:
        return None
    if isinstance(first, tuple):
        return tuple(_joined(parts) for parts in zip(*results, strict=True))
    if isinstance(first, dict):
        return Bunch(**{name: _joined([r[name] for r in results]) for name in first})
    return np.concatenate(results)
