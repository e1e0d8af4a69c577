"""Stamps on disk as X of a fit: read in blocks, ahead of their use.

Rows are read by whole blocks of several chunks, and only a few blocks are in memory. A
fit looks at the rows in the order of the file, and trains on them in an order that
takes a buffer of random blocks at a time, see `sklcae._torch.reading`.
"""

import hashlib
import threading
from contextlib import contextmanager
from contextvars import copy_context
from math import prod
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from sklcae._blocks import is_on_disk

# Bytes of a block, in whole chunks, and of the blocks whose rows are shuffled together.
# A smaller array is loaded. A fit holds two buffers: one in use, and the next one.
STREAMED_BLOCK_SIZE, BUFFER_SIZE = 2**24, 2**28
FEWEST_BLOCKS = 2
# Blocks that stay in memory after they were read without notice.
N_RECENT = 2
MIB = 2**20


class Reading(NamedTuple):
    """How the network's batches read rows on disk.

    Parameters
    ----------
    blocks : ndarray of shape (n,)
        The block of each row to train on.
    n_at_once : int
        Blocks in a buffer.
    expect : callable
        Takes the blocks to be read next, in their order.
    """

    blocks: np.ndarray
    n_at_once: int
    expect: Any


@contextmanager
def rows_to_train_on(X):
    """Give an array on disk as `RowsOnDisk`, or loaded if it is small.

    Anything else stays as it is.
    """
    if not is_on_disk(X):
        yield X
        return
    if prod(X.shape) * np.dtype(X.dtype).itemsize <= BUFFER_SIZE:
        yield np.asarray(X)
        return
    reader = BlockReader(X)
    try:
        yield RowsOnDisk(reader, tuple(X.shape[1:]))
    finally:
        reader.close()


class RowsOnDisk:
    """Rows of an array on disk, (n, ...), that become an array when some are taken.

    Taken rows are a copy. A slice of the second axis is another view of all rows.
    """

    def __init__(self, reader, row_shape, part=slice(None)):
        self.reader, self.row_shape, self.part = reader, tuple(row_shape), part
        n_first = len(range(self.row_shape[0])[part])
        self.shape = (reader.n_rows, n_first, *self.row_shape[1:])
        self.dtype = reader.dtype

    def __len__(self):
        return self.shape[0]

    def reshape(self, n_rows, *row_shape):
        """Return all rows with another shape of each."""
        return RowsOnDisk(self.reader, row_shape)

    def __getitem__(self, which):
        if isinstance(which, tuple):
            return RowsOnDisk(self.reader, self.row_shape, which[1])
        rows = np.arange(len(self))[which]
        return self.reader.take(rows, self.row_shape, self.part)

    def reading(self, rows):
        """Return the `Reading` of some rows."""
        blocks = rows // self.reader.block_size
        return Reading(blocks, self.reader.n_at_once, self.reader.expect)

    def digest(self):
        """Return a hash of all values, and the shape and the type."""
        content = hashlib.sha256()
        for start in range(0, len(self), self.reader.block_size):
            content.update(self[start : start + self.reader.block_size].tobytes())
        return content.hexdigest(), self.shape, str(self.dtype)


class BlockReader:
    """Blocks of rows of an array on disk. A few of them are in memory.

    One thread reads all blocks, in the order of the requests: not all libraries can
    read a file from several threads. As in `sklcae._torch.workers`, the calling thread
    waits for queues that are written in C only, so that Ctrl-C cannot block it.
    """

    def __init__(self, array):
        self.array, self.n_rows = array, int(array.shape[0])
        self.dtype = np.dtype(array.dtype)
        n_bytes = prod(array.shape[1:]) * self.dtype.itemsize
        n_chunk = _rows_of_chunk(array)
        n_chunks = max(1, STREAMED_BLOCK_SIZE // (n_chunk * n_bytes))
        self.block_size = n_chunks * n_chunk
        size = self.block_size * n_bytes
        self.n_at_once = max(FEWEST_BLOCKS, BUFFER_SIZE // size)
        self.held, self.expected, self.coming = {}, set(), set()
        self.wanted, self.results = SimpleQueue(), SimpleQueue()
        self.is_closed = False
        # A thread has its own context: filters of warnings, np.errstate.
        options = {"args": (self._read_all,), "name": "sklcae-reader", "daemon": True}
        self.thread = threading.Thread(target=copy_context().run, **options)
        self.thread.start()

    def close(self):
        """End the thread."""
        self.is_closed = True
        self.wanted.put(None)
        # The last result is None, after the block that is being read.
        for _ in iter(self.results.get, None):
            pass
        self.held.clear()

    def expect(self, blocks):
        """Read these blocks ahead, in their order, and drop all others."""
        self.expected = set(blocks)
        while not self.results.empty():
            self._receive()
        self.held = {b: rows for b, rows in self.held.items() if b in self.expected}
        for block in blocks:
            self._request(block)

    def take(self, rows, row_shape, part):
        """Return a copy of some rows, each of a shape, and of it a part of an axis."""
        n_first = len(range(row_shape[0])[part])
        taken = np.empty((len(rows), n_first, *row_shape[1:]), self.dtype)
        blocks = rows // self.block_size
        for block in np.unique(blocks).tolist():
            here = np.flatnonzero(blocks == block)
            stored = self._block(block)
            stored = stored.reshape(len(stored), *row_shape)[:, part]
            taken[here] = stored[rows[here] - block * self.block_size]
        return taken

    def _block(self, block):
        self._request(block)
        while block not in self.held:
            self._receive(block)
        # The block that was used last is the last one.
        rows = self.held[block] = self.held.pop(block)
        others = [b for b in self.held if b not in self.expected]
        for other in others[:-N_RECENT]:
            del self.held[other]
        return rows

    def _request(self, block):
        if block not in self.held and block not in self.coming:
            self.coming.add(block)
            self.wanted.put(block)

    def _receive(self, needed=None):
        """Wait for a block, and keep it if it is needed or expected."""
        block, rows, error = self.results.get()
        self.coming.discard(block)
        if block == needed or block in self.expected:
            if error is not None:
                raise error
            self.held[block] = rows

    def _read_all(self):
        """Read blocks until there is a None."""
        for block in iter(self.wanted.get, None):
            rows = error = None
            start = block * self.block_size
            try:
                if not self.is_closed:
                    rows = np.asarray(self.array[start : start + self.block_size])
            except BaseException as raised:
                error = raised
            self.results.put((block, rows, error))
        self.results.put(None)


def _rows_of_chunk(array):
    """Return the rows of a chunk, also within a shard; 1 without chunks."""
    first = array.chunks[0] if array.chunks else 1
    return max(1, int(max(first) if isinstance(first, tuple) else first))
