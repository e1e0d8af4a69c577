"""Threads that compute: the same bits for any number of threads."""

import _thread
import os
import threading
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from math import inf
from queue import SimpleQueue

import torch

# A thread that sets its number of threads also sets it for later threads.
_LOCK = threading.Lock()
# Another process has this module in its memory only after a fork.
_IMPORTED_BY = os.getpid()


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
    with _LOCK:
        n_threads = torch.get_num_threads()
    if torch.device(device).type != "cpu" or n_threads == 1:
        yield in_order
        return
    with _workers(n_threads) as executor:
        yield executor


def on_one_thread(function):
    """Decorate a function to run on a new thread, where PyTorch uses one thread.

    See `one_thread_if_forked`. A new thread also has none of the modes of its caller,
    see `usual_modes`.
    """

    @wraps(function)
    def run(*args, **kwargs):
        with _workers(1) as executor:
            (result,) = executor(lambda _: function(*args, **kwargs), [None])
        return result

    return run


@contextmanager
def one_thread_if_forked():
    """Let PyTorch use one thread in this thread if the process was forked.

    There an operation on several threads may wait for ever for threads that only the
    parent process has.
    """
    if os.getpid() == _IMPORTED_BY:
        yield
        return
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(n_threads)


@contextmanager
def usual_modes(device):
    """Leave the modes of PyTorch that a caller may have entered in this thread.

    They are autocast, `torch.no_grad`, inference mode and a default device.
    """
    kind = torch.device(device).type
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.is_autocast_enabled(kind):
            stack.enter_context(torch.autocast(kind, enabled=False))
        # Operations are slower within a device context.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


# Ctrl-C, or any signal whose handler raises, may stop the calling thread at any moment:
# also within a method of Python's own locks, threads and pools, which would then wait
# for ever, or in a callback that cannot raise. So the calling thread has none of these,
# and waits for queues and locks that are written in C. Other threads handle no signals.


@contextmanager
def _workers(n_threads):
    """Give an executor that maps parts on new threads."""
    tasks, started, running = SimpleQueue(), SimpleQueue(), _thread.allocate_lock()
    running.acquire()
    try:
        try:
            _thread.start_new_thread(_lead, (n_threads, tasks, started, running))
        except RuntimeError:
            running.release()
            raise
        error = started.get()
        if error is not None:
            raise error
        yield partial(_map, tasks)
    finally:
        tasks.put(None)
        with running:
            pass


def _lead(n_threads, tasks, started, running):
    """Start threads, report an error if they are too few, and wait for their end."""
    error, n_started, ready, ended = None, 0, SimpleQueue(), SimpleQueue()
    options = {"target": _work, "args": (tasks, ready, ended), "name": "sklcae"}
    with _LOCK:
        common = torch.get_num_threads()
        try:
            while n_started < n_threads:
                threading.Thread(**options, daemon=True).start()
                n_started += 1
                ready.get()
        except Exception as raised:
            error = raised
        torch.set_num_threads(common)
    started.put(error)
    for _ in range(n_started):
        ended.get()
    running.release()


def _work(tasks, ready, ended):
    """Do tasks, with one thread of PyTorch, until there is a None."""
    # A new thread takes over the common number when it first asks for it.
    torch.get_num_threads()
    torch.set_num_threads(1)
    ready.put(None)
    for task in iter(tasks.get, None):
        task()
    # None ends the next thread too.
    tasks.put(None)
    ended.put(None)


def _map(tasks, function, parts):
    job = _Job(function)
    try:
        for index, part in enumerate(parts):
            tasks.put(partial(job.do, index, part))
        outcomes = sorted(job.outcomes.get() for _ in parts)
    finally:
        job.end = 0
    for _, _, error in outcomes:
        if error is not None:
            raise error
    return [result for _, result, _ in outcomes]


class _Job:
    """A function that is applied to parts, until it fails for one of them.

    Nothing is done for parts from the number ``end`` on.
    """

    def __init__(self, function):
        self.function = function
        self.end = inf
        self.outcomes = SimpleQueue()

    def do(self, index, part):
        result = error = None
        if index < self.end:
            try:
                result = self.function(part)
            except BaseException as raised:
                # All earlier parts are done, so that the error depends on no chance.
                error, self.end = raised, min(index, self.end)
        self.outcomes.put((index, result, error))
