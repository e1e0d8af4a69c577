"""Compare the speed of this checkout with that of another one.

python tests/benchmarks/versions.py CHECKOUT [--work WORK ...] [--threads N]
    [--pairs N]

A process of each version does the same work in turns, so that other work on the
machine slows both down. Ratios are those of the other checkout over this one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
N_STAMPS, SIDE, N_TO_FIT, N_TO_DECODE = 512, 64, 128, 256


def make_stamps(n):
    """Return exponential discs with noise, (n, H, W)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    discs = 300 * np.exp(-np.hypot(x, y) / 4) * rng.uniform(0.3, 3, (n, 1, 1))
    return (discs + rng.normal(0, 10, discs.shape)).astype(np.float32)


def prepare_fit():
    """Return a fit of two epochs with the paper's network."""
    from sklcae import ConditionalAutoencoderRegressor

    X = make_stamps(N_TO_FIT)
    y = np.random.default_rng(1).normal(size=(N_TO_FIT, 2))
    return lambda: ConditionalAutoencoderRegressor(
        max_epochs=2, verbose=0, random_state=0
    ).fit(X, y)


def prepare_predict():
    """Return a prediction with the paper's network."""
    model, X = prepare_fit()(), make_stamps(N_STAMPS)
    return lambda: model.predict(X)


def prepare_transform():
    """Return an encoding with the paper's network."""
    model, X = prepare_fit()(), make_stamps(N_STAMPS)
    return lambda: model.transform(X)


def prepare_inverse_transform():
    """Return a decoding with the paper's network."""
    model = prepare_fit()()
    Z = model.transform(make_stamps(N_TO_DECODE))
    return lambda: model.inverse_transform(Z)


def prepare_predict_planes():
    """Return a prediction with the pretrained network, which measures stamps."""
    from sklcae import load_pretrained, stack_planes

    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    psf = np.exp(-(x**2 + y**2) / (2 * 1.8**2))
    model = load_pretrained("ground")
    X = stack_planes(make_stamps(N_STAMPS), variance=100.0, psf=psf)
    return lambda: model.predict(X)


WORKS = {
    "predict": prepare_predict,
    "predict_planes": prepare_predict_planes,
    "transform": prepare_transform,
    "inverse_transform": prepare_inverse_transform,
    "fit": prepare_fit,
}


def serve(work, threads):
    """Do the work once for each line of the input, and print its seconds."""
    import warnings

    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    function = WORKS[work]()
    function()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter(), time.process_time()
        function()
        end = time.perf_counter(), time.process_time()
        print(json.dumps([b - a for a, b in zip(start, end, strict=True)]), flush=True)


class Server:
    """A process with one version of sklcae."""

    def __init__(self, checkout, work, threads):
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", work, "--threads", str(threads)],
            env=os.environ | {"PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{work} failed in {checkout}.")

    def measure(self):
        """Return the seconds of the clock and those of all cores."""
        print(file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def compare(other, work, threads, pairs):
    """Print the medians of both versions, and of the ratios within pairs."""
    servers = [Server(checkout, work, threads) for checkout in (other, ROOT)]
    rounds = []
    for number in range(pairs):
        order = (0, 1) if number % 2 else (1, 0)
        measured = {index: servers[index].measure() for index in order}
        rounds.append([measured[0], measured[1]])
    for server in servers:
        server.close()
    for column, name in enumerate(("wall", "core")):
        before, after = ([one[i][column] for one in rounds] for i in (0, 1))
        ratios = [a / b for a, b in zip(before, after, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{work:18} {name} seconds {statistics.median(before):7.3f} "
            f"{statistics.median(after):7.3f}  ratio {middle:.2f} "
            f"({low:.2f} to {high:.2f})",
            flush=True,
        )


def main():
    """Compare the works that the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", nargs="?", type=Path, help="folder of the other")
    parser.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--serve", choices=WORKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.threads)
        return
    if options.checkout is None:
        parser.error("the folder of the other checkout is missing")
    for work in options.work:
        compare(options.checkout.resolve(), work, options.threads, options.pairs)


if __name__ == "__main__":
    main()
