"""Catalogues of many stamps: speed, memory and start of workers.

python tests/benchmarks/catalogs.py cluster FOLDER [--n 200000] [--repeats 3]
python tests/benchmarks/catalogs.py fits FOLDER [--n 100000] [--repeats 3]
python tests/benchmarks/catalogs.py costs FOLDER [--n 300]

Each of them writes a record with ``--json FILE``.

FOLDER keeps the stamps and the model between runs. "cluster" measures stamps of a Zarr
store (chunks of 100 in shards of 2,000) by `predict_catalog` with one and two worker
processes of one thread, and by two processes that call `predict` on the same stamps in
memory, one after another in turns. "fits" compares the command ``sklcae predict`` on a
FITS cube with `predict` on the .npy file of the same stamps, each in a process of its
own, with the memory beyond that of a process that has loaded the model. "costs"
measures the core-seconds and bytes of a stamp in every step.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median

# Processes share the cores, so each computes in one thread.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
import psutil
import zarr
from astropy.io import fits
from records import Record, add_option

from sklcae import ConditionalAutoencoderRegressor, ProfileFitRegressor
from sklcae.datasets import make_galaxies
from sklcae.survey import open_stamps, predict_catalog

# Dask changes the environment of this process when it starts workers: memory that is
# freed is given back at once, which would slow the processes of the reference down.
ENVIRONMENT = dict(os.environ)
BASE, NOISE, CHUNK, SHARD = 2000, 10.0, 100, 2000


def prepare(folder, n, formats):
    """Write n stamps, copies of galaxies with noise of their own, and a model."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.sklcae"
    X, y = make_galaxies(BASE, random_state=0)
    if not model.exists():
        ConditionalAutoencoderRegressor(
            max_epochs=1,
            physical_loss="gaussian_likelihood",
            target_names=["flux", "half_light_radius"],
            random_state=0,
        ).fit(X, y).save(model)
    images, paths = X.reshape(-1, 64, 64), {}
    for name in formats:
        paths[name] = folder / f"stamps-{n}.{name}"
        if not paths[name].exists():
            write(paths[name], images, n)
    return model, paths


def blocks(images, n):
    rng = np.random.default_rng(0)
    for start in range(0, n, BASE):
        noise = rng.normal(0, NOISE, images.shape).astype(np.float32)
        yield start, (images + noise)[: n - start]


def write(path, images, n):
    shape = (n, *images.shape[1:])
    if path.suffix == ".zarr":
        array = zarr.create_array(
            path,
            shape=shape,
            chunks=(CHUNK, *shape[1:]),
            shards=(SHARD, *shape[1:]),
            dtype="f4",
            compressors=zarr.codecs.BloscCodec(cname="lz4"),
        )
    elif path.suffix == ".npy":
        array = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    else:
        header = fits.Header()
        header["SIMPLE"], header["BITPIX"], header["NAXIS"] = True, -32, 3
        header["NAXIS1"], header["NAXIS2"], header["NAXIS3"] = 64, 64, n
        with fits.StreamingHDU(str(path), header) as file:
            for _, block in blocks(images, n):
                file.write(block.astype(">f4"))
        return
    for start, block in blocks(images, n):
        array[start : start + len(block)] = block


class Memory(threading.Thread):
    """Watch the largest resident memory of the worker processes of a cluster."""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.processes = [psutil.Process(pid) for pid in pids]
        self.seen, self.ended = [], threading.Event()

    def run(self):
        while not self.ended.wait(0.5):
            sizes = [process.memory_info().rss for process in self.processes]
            self.seen.append(max(sizes) / 1e6)

    def report(self):
        """Return the largest, and the largest of the second quarter and of the last."""
        self.ended.set()
        quarter = max(1, len(self.seen) // 4)
        return (
            max(self.seen),
            max(self.seen[quarter : 2 * quarter] or [0]),
            max(self.seen[-quarter:]),
        )


def on_workers(model, path, folder, n_workers):
    """Return stamps per second, seconds of the start, and the memory of a worker."""
    from distributed import Client, LocalCluster

    out = folder / f"catalogue-{n_workers}"
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    with (
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            dashboard_address=":0",
            config={"distributed.worker.profile.enabled": False},
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(load, str(model))
        started = time.perf_counter() - start
        memory = Memory(client.run(os.getpid).values())
        memory.start()
        start = time.perf_counter()
        run = predict_catalog(model, path, out, client=client)
        seconds = time.perf_counter() - start
        sizes = memory.report()
    assert not run.failed
    return run.plan.n_rows / seconds, started, sizes


def load(model):
    ConditionalAutoencoderRegressor.load(model)


def in_processes(model, path, n_processes):
    """Return stamps per second of processes that predict stamps in memory."""
    command = [sys.executable, __file__, "child", str(model), str(path)]
    children = [
        subprocess.Popen(
            [*command, str(number), str(n_processes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        for number in range(n_processes)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    start = time.perf_counter()
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    rows = sum(int(child.stdout.readline()) for child in children)
    seconds = time.perf_counter() - start
    for child in children:
        child.communicate()
    return rows / seconds


def child(model, path, number, n_processes):
    """Predict a share of the stamps, in memory, when told to."""
    model = ConditionalAutoencoderRegressor.load(model)
    with open_stamps(path) as stamps:
        n = len(stamps)
        share = n // int(n_processes)
        X = stamps[int(number) * share : (int(number) + 1) * share]
    model.predict(X[:100], return_std=True)
    print("ready", flush=True)
    sys.stdin.readline()
    model.predict(X, return_std=True)
    print(len(X), flush=True)


def summary(task, values, unit="", to_reach=None):
    """Print the median of some runs, and return a row of the record."""
    row = {
        "task": task,
        "median": median(values),
        "least": min(values),
        "most": max(values),
        "unit": unit,
        "to_reach": to_reach,
    }
    print({name: value for name, value in row.items() if value}, flush=True)
    return row


def run_cluster(folder, n, repeats):
    """Return the speed of workers and of processes, and the memory of a worker."""
    model, paths = prepare(folder, n, ["zarr"])
    rates = {"memory": [], 1: [], 2: []}
    starts, sizes, quarters = [], [], []
    for _ in range(repeats):
        rates["memory"].append(in_processes(model, paths["zarr"], 2))
        for n_workers in (1, 2):
            found = on_workers(model, paths["zarr"], folder, n_workers)
            rates[n_workers].append(found[0])
            print(n_workers, "workers:", found, flush=True)
        # Of two workers, the last ones.
        starts.append(found[1])
        largest, *of_quarters = found[2]
        sizes.append(largest)
        quarters.append(of_quarters[1] / of_quarters[0])
    share = [a / b for a, b in zip(rates[2], rates["memory"], strict=True)]
    growth = [a / b for a, b in zip(rates[2], rates[1], strict=True)]
    speed = "stamps/s"
    return [
        summary("Two processes that predict stamps in memory", rates["memory"], speed),
        summary("``predict_catalog``, one worker process", rates[1], speed),
        summary("``predict_catalog``, two worker processes", rates[2], speed),
        summary("Two workers over two processes in memory", share, "", "0.9"),
        summary("Two workers over one", growth, "", "1.7"),
        summary("Largest memory of a worker", sizes, "MB", "below 1000"),
        summary("Its memory in the last quarter, over the second", quarters),
        summary("Start of two workers with the model", starts, "s", "below 10"),
    ]


PREDICT_NPY = """
import sys, time
import numpy as np
from sklcae import ConditionalAutoencoderRegressor
model = ConditionalAutoencoderRegressor.load(sys.argv[1])
X = np.load(sys.argv[2], mmap_mode="r")
start = time.perf_counter()
y, y_std = model.predict(X, return_std=True)
print(time.perf_counter() - start)
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""
LOAD = """
import sys
import sklcae._cli.commands
from sklcae import ConditionalAutoencoderRegressor
import numpy as np
model = ConditionalAutoencoderRegressor.load(sys.argv[1])
model.predict(np.zeros((1, 64 * 64), np.float32) + np.arange(4096))
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""
COMMAND = """
import sys, time
from sklcae._cli import main
import sklcae._cli.commands
start = time.perf_counter()
assert main(["predict", *sys.argv[1:], "--quiet", "--json"]) == 0
print(time.perf_counter() - start)
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


def numbers_of(script, *arguments):
    """Run a script in a process, and return the numbers that it prints at its end."""
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [float(line) for line in out.splitlines() if line[0].isdigit()]


def run_fits(folder, n, repeats):
    """Return the speed of the command line, and its memory."""
    model, paths = prepare(folder, n, ["npy", "fits"])
    (loaded,) = numbers_of(LOAD, model)
    ratios, sizes = [], []
    for _ in range(repeats):
        npy, _ = numbers_of(PREDICT_NPY, model, paths["npy"])
        out = folder / "catalogue-fits"
        shutil.rmtree(out, ignore_errors=True)
        seconds, size = numbers_of(COMMAND, model, paths["fits"], out)
        ratios.append(npy / seconds)
        sizes.append((size - loaded) / 1e3)
    name = "``sklcae predict`` on a FITS cube"
    return [
        summary(f"Speed of {name} over ``predict`` on .npy", ratios, "", "0.9"),
        summary(f"Memory of {name} beyond the model", sizes, "MB", "below 500"),
    ]


def run_costs(n):
    """Return the core-milliseconds of a stamp in each step."""
    from sklcae import load_pretrained

    model = load_pretrained("ground")
    options = {"planes": model.planes, "targets": model.target_names_}
    X, seconds = timed(
        lambda: make_galaxies(n, x0=32.0, y0=32.0, random_state=0, **options)[0]
    )
    costs = {"Simulation with GalSim": seconds / n}
    model.predict(X[:64])
    many = np.tile(X, (8, 1, 1, 1))
    _, seconds = timed(lambda: model.predict(many, return_std=True))
    costs['One pass of "ground"'] = seconds / len(many)
    _, seconds = timed(lambda: model.flags(X))
    costs["Flags of one pass"] = seconds / n
    for most in (0, 4):
        fitter = ProfileFitRegressor(model, prefit=True, max_neighbours=most).fit(X)
        _, seconds = timed(lambda fitter=fitter: fitter.predict(X, return_std=True))
        costs[f"Polishing, ``max_neighbours={most}``"] = seconds / n
    costs["Least squares with GalSim and SciPy"] = seconds_of_least_squares(n=100)
    rows = [{"step": step, "core-ms": 1e3 * cost} for step, cost in costs.items()]
    print(*rows, sep="\n")
    return rows


def timed(function):
    """Return a result and the processor time that it took."""
    start = time.process_time()
    result = function()
    return result, time.process_time() - start


def seconds_of_least_squares(n):
    """Return the processor time of a fit by SciPy of a model that GalSim draws."""
    from profile_fit import fit_profile

    X, _ = make_galaxies(n, random_state=0)
    _, seconds = timed(lambda: [fit_profile(x) for x in X.reshape(-1, 64, 64)])
    return seconds / n


if __name__ == "__main__":
    if sys.argv[1] == "child":
        child(*sys.argv[2:])
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["cluster", "fits", "costs"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    add_option(parser)
    options, record = parser.parse_args(), Record()
    if options.what == "cluster":
        rows = run_cluster(options.folder, options.n or 200_000, options.repeats)
    elif options.what == "fits":
        rows = run_fits(options.folder, options.n or 100_000, options.repeats)
    else:
        rows = run_costs(options.n or 300)
    table = "steps" if options.what == "costs" else "tasks"
    record.add(table, pd.DataFrame(rows))
    record.write(options.json)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"largest process {usage.ru_maxrss / 1e3:.0f} MB")
