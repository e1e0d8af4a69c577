"""The settings of a worker process of Dask in which stamps are measured."""

import ctypes
import os
from contextlib import suppress
from importlib import import_module

# Of malloc.h of the GNU C library.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT, LARGEST_IN_HEAP = 2**28, 2**25
ZARR_THREADS = "threading.max_workers"


def settle_worker():
    """Set up this process, if it is a worker of Dask.

    Dask starts workers with MALLOC_TRIM_THRESHOLD_=65536. Other processes are left as
    they are.
    """
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        return
    _keep_memory()
    _read_with_one_thread()


def _keep_memory():
    """Keep freed memory, which Dask has told this process to give back.

    Otherwise every image of a network is in fresh pages, which costs more than its
    convolution. Does nothing with another C library.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_MMAP_THRESHOLD, LARGEST_IN_HEAP)


def _read_with_one_thread():
    """Let Zarr decode chunks in one thread, unless its configuration has a number.

    The other cores have workers of their own, and each thread would keep its memory.
    """
    with suppress(ImportError):
        config = import_module("zarr").config
        if config.get(ZARR_THREADS) is None:
            config.set({ZARR_THREADS: 1})
