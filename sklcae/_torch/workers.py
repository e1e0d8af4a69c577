"""Executors of the parts of a batch: the same bits for any number of threads."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

# A thread that sets its number of threads also sets it for later threads.
_LOCK = threading.Lock()


def in_order(function, parts):
    """Apply a function to one part after another: the executor without threads."""
    return [function(part) for part in parts]


@contextmanager
def single_threads(device):
    """Give an executor that maps parts on as many threads as PyTorch may use.

    ``executor(function, parts)`` returns the list of results in the order of the parts.
    One thread alone works on each part. How PyTorch would divide sums among several
    threads then does not change the last bits of the result, and no layer waits for its
    slowest thread. On a device other than a CPU the parts follow one another.
    """
    n_threads = torch.get_num_threads()
    if torch.device(device).type != "cpu" or n_threads == 1:
        yield in_order
        return
    with ThreadPoolExecutor(n_threads, "sklcae") as pool:
        with _LOCK:
            _become_single_threaded(pool, n_threads)
            torch.set_num_threads(n_threads)
        yield lambda function, parts: list(pool.map(function, parts))


def _become_single_threaded(pool, n_threads):
    # The barrier keeps a fast thread from doing the work of two.
    barrier = threading.Barrier(n_threads)

    def become_one(_):
        barrier.wait()
        # A new thread takes over the common number when it first asks for it.
        torch.get_num_threads()
        torch.set_num_threads(1)

    list(pool.map(become_one, range(n_threads)))
