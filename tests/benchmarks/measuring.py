"""Time and memory of the current process."""

import resource
import statistics
import threading
import time

MIB = 2**20


class Memory:
    """Peak memory of a block, in addition to the memory at its start.

    `resident` is ru_maxrss from getrusage and includes pages of memory maps.
    `anonymous` excludes them; a thread reads it every 10 ms.
    """

    def __enter__(self):
        self._resident, self._anonymous = _peak_resident(), anonymous()
        self._highest, self._ended = self._anonymous, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _watch(self):
        while not self._ended.wait(0.01):
            self._highest = max(self._highest, anonymous())

    def peaks(self):
        """Return the peaks in MiB, and the resident peak of the whole process."""
        return {
            "memory": (_peak_resident() - self._resident) / MIB,
            "anonymous_memory": (self._highest - self._anonymous) / MIB,
            "process_memory": _peak_resident() / MIB,
        }


def anonymous():
    """Return the bytes of memory that are not mapped from a file."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon: these benchmarks need Linux.")


def _peak_resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def seconds(function, repeats=1):
    """Return the median seconds that a call takes."""
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)
