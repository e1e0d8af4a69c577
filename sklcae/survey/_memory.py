"""The memory of worker processes."""

import ctypes
import os
from contextlib import suppress

# Of malloc.h of the GNU C library.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT, LARGEST_IN_HEAP = 2**28, 2**25


def keep_memory():
    """Keep freed memory in this process, if Dask has told it to give it back.

    Dask starts workers with MALLOC_TRIM_THRESHOLD_=65536. Then every image of a network
    is in fresh pages, which costs more than its convolution. Does nothing without this
    variable, or with another C library.
    """
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        return
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_MMAP_THRESHOLD, LARGEST_IN_HEAP)
