"""Where the parts of a catalogue are measured: in this process or on a cluster."""

import time
from collections import Counter
from functools import partial
from itertools import islice

from sklcae._compat import import_optional

_library = partial(import_optional, extra="survey", purpose="A cluster")

# A thread of a worker has so many parts ahead.
PARTS_AHEAD = 2
# A part is submitted so often if its workers die. One stamp that kills its worker takes
# two of them, see Journal.
MOST_SUBMISSIONS = 8


def run_here(function, tasks):
    """Call a function for each task in this process.

    Yields each task with its result and its error. One of them is None.
    """
    for task in tasks:
        try:
            result = function(task)
        except Exception as error:
            yield task, None, error
        else:
            yield task, result, None


def run_on(client, function, tasks):
    """Call a function for each task on a cluster, as `run_here`.

    A bounded number of tasks, each with a name, is taken and submitted at a time. Tasks
    whose workers died are submitted again.
    """
    distributed = _library("distributed")
    tasks, again, submissions, running = iter(tasks), [], Counter(), {}
    completed = distributed.as_completed(loop=client.loop)

    def submit(task):
        submissions[task.name] += 1
        # A key of its own: no old result of this part is used.
        key = f"sklcae-{task.name}-{time.time_ns()}"
        future = client.submit(function, task, key=key, pure=False)
        running[future] = task
        completed.add(future)

    try:
        while True:
            n_free = max(0, _most_running(client) - len(running))
            for task in [*again, *islice(tasks, max(0, n_free - len(again)))]:
                submit(task)
            again.clear()
            if not running:
                return
            future = next(completed)
            task, error = running.pop(future), future.exception()
            died = isinstance(error, distributed.KilledWorker)
            if died and submissions[task.name] < MOST_SUBMISSIONS:
                again.append(task)
            elif error is None:
                yield task, future.result(), None
            else:
                yield task, None, error
    finally:
        client.cancel(list(running))


def _most_running(client):
    threads = sum(client.nthreads().values())
    return max(1, PARTS_AHEAD * threads)
