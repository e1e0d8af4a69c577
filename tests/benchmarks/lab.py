"""Start jobs in fresh processes, alternately, and compare their measurements."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
)


class Lab:
    """The place where jobs run.

    Parameters
    ----------
    folder : path-like
        Holds the stamps and the model of all jobs. The caller deletes it.
    sizes : dict
        Size of each job, see ``run.py``.
    model : path-like or None
        A saved model to compare with the profile fit.
    """

    def __init__(self, folder, sizes, model=None):
        self.folder, self.sizes, self.model = folder, sizes, model
        self.log = []

    def run(self, job, one_thread=False, **options):
        """Run a job in a fresh process and return its measurements."""
        options = {"folder": str(self.folder), **options}
        command = [sys.executable, str(HERE / "job.py"), job, json.dumps(options)]
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        if one_thread:
            environment |= ONE_THREAD
        print(f"... {job} {options}", file=sys.stderr, flush=True)
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        result = json.loads(done.stdout.splitlines()[-1])
        self.log.append({"job": job, "one_thread": one_thread, **options, **result})
        return result

    def take_turns(self, repeats, *jobs):
        """Run jobs, (name, options), alternately; return a list of results for each."""
        rounds = [[self.run(name, **o) for name, o in jobs] for _ in range(repeats)]
        return [list(results) for results in zip(*rounds, strict=True)]


def median(results, key):
    """Return the median of a measurement over several runs of a job."""
    return statistics.median(result[key] for result in results)


def median_ratio(ours, reference, key):
    """Return the median over the rounds of the ratio within a round."""
    return statistics.median(
        one[key] / other[key] for one, other in zip(ours, reference, strict=True)
    )
