"""Parts of a batch side by side, one thread each: the same bits for any number."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

__all__ = ["part_workers"]

# A thread that sets its own number of threads also sets that of threads to come.
_LOCK = threading.Lock()


@contextmanager
def part_workers(device):
    """Give a ``map`` that works off parts on as many threads as PyTorch may use.

    Each part is worked off by one thread alone. How PyTorch would cut up sums among
    several threads, and with it the last bits of the result, then has no part in it,
    and nothing waits for the slowest thread of each layer.

    Parameters
    ----------
    device : str or torch.device
        Where the work is done. For anything but a CPU the parts follow one another.

    Yields
    ------
    callable
        ``map(function, parts)``, the list of results in the order of the parts.
    """
    n_threads = torch.get_num_threads()
    if torch.device(device).type != "cpu" or n_threads == 1:
        yield lambda function, parts: [function(part) for part in parts]
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
