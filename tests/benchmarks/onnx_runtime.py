"""Stamps per second of predict and of ONNX Runtime, on the same stamps.

    PYTHONPATH=. python tests/benchmarks/onnx_runtime.py [--repeats 7] [--threads 2]

Both use as many threads. ONNX Runtime takes the stamps in batches of 32, as predict
does inside, or all at once. Calls of each kind alternate, and the median counts. The
last columns are the seconds of the export and the size of the file.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings

import numpy as np
import onnxruntime
import torch

from sklcae import ConditionalAutoencoderRegressor, load_pretrained
from sklcae.datasets import make_galaxies

N_STAMPS, BATCH = 512, 32
NAMES = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
POSITIONS = {"x0": (30.0, 34.0), "y0": (30.0, 34.0), "random_state": 0}


def make_case(name):
    """Return a fitted model and stamps. The weights do not change the time."""
    if name == "ground":
        model = load_pretrained("ground")
        X, _ = make_galaxies(N_STAMPS, planes=model.planes, targets=NAMES, **POSITIONS)
        return model, X
    X, y = make_galaxies(N_STAMPS, targets=NAMES, **POSITIONS)
    stretch = "linear" if name == "paper" else "asinh"
    settings = {"physical_loss": "gaussian_likelihood", "max_epochs": 1}
    model = ConditionalAutoencoderRegressor(network=name, stretch=stretch, **settings)
    return model.fit(X[:64], y[:64]), X


def export(model, threads):
    """Return a session of the exported model, the seconds of the export, and MiB."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        start = time.perf_counter()
        model.to_onnx(path)
        seconds, size = time.perf_counter() - start, os.path.getsize(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options)
    return session, seconds, size / 2**20


def measure(model, X, repeats, threads):
    """Return stamps per second by kind of call, and the results of `export`."""
    session, *size = export(model, threads)
    planes = model.planes
    parts = [X] if len(planes) == 1 else np.split(X, len(planes), axis=1)
    inputs = dict(zip(planes, map(np.float32, parts), strict=True))

    def in_batches(length):
        for start in range(0, len(X), length):
            some = {k: plane[start : start + length] for k, plane in inputs.items()}
            session.run(None, some)

    calls = {
        "predict": lambda: model.predict(X, return_std=True),
        "batches": lambda: in_batches(BATCH),
        "at once": lambda: in_batches(len(X)),
    }
    seconds = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            # The first calls also allocate memory.
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    rates = [len(X) / statistics.median(times) for times in seconds.values()]
    return rates, size


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    print("model         predict  batches of 32  at once  export [s]  file [MiB]")
    for name in ("paper", "strided", "neural_field", "ground"):
        (predict, batches, at_once), (seconds, size) = measure(
            *make_case(name), given.repeats, given.threads
        )
        print(
            f"{name:12} {predict:8.0f} {batches:14.0f} {at_once:8.0f} "
            f"{seconds:11.1f} {size:11.1f}"
        )


if __name__ == "__main__":
    main()
