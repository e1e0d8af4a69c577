"""Training from files against training from memory: accuracy, memory and time.

    PYTHONPATH=. python tests/benchmarks/from_files.py memory FOLDER --n 200000
    PYTHONPATH=. python tests/benchmarks/from_files.py accuracy FOLDER --seeds 3

"memory" trains for an epoch on stamps of 64 x 64 pixels in a store, and prints the peak
memory of the process and the rate. The store is made of ``--n-real`` simulated stamps,
repeated with fresh noise.

"accuracy" trains on the same stamps of 32 x 32 pixels from a store and from memory, and
prints R2 of each target and the time. The buffer holds an eighth of the stamps. With
``--sorted`` the stamps are in the order of their flux, which is the worst case.

The network is small, so that reading takes a large share of the time; ``--network``
takes another.
"""

import argparse
import json
import subprocess
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import zarr
from measuring import MIB, Memory
from sklearn.metrics import r2_score
from torch import nn

from sklcae import ConditionalAutoencoderRegressor, _streaming
from sklcae.datasets import make_galaxies
from sklcae.networks import Encoding
from sklcae.survey import open_stamps, simulate_stamps

SMALL = {
    "image_shape": (32, 32),
    "half_light_radius": (0.3, 2.0),
    "x0": (14.0, 18.0),
    "y0": (14.0, 18.0),
}
N_CHUNK, N_SHARD, NOISE = 100, 2000, 14**0.5
SHARE_OF_BUFFER = 8


class SmallNetwork(nn.Module):
    """Four strided convolutions and a dense layer, and a linear decoder."""

    def __init__(self, architecture):
        super().__init__()
        self.image_shape = architecture.image_shape
        self.n_targets = architecture.n_targets
        channels = (self.image_shape[0], 8, 16, 32, 32)
        layers = []
        for n_in, n_out in pairwise(channels):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.SiLU()]
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        n_features = 32 * np.prod([-(-side // 16) for side in self.image_shape[1:]])
        self.dense = nn.Linear(int(n_features), architecture.latent_dim)
        n_pixels = torch.Size(self.image_shape).numel()
        self.up = nn.Linear(architecture.latent_dim, n_pixels)

    def encode(self, batch):
        """Return the latents of images."""
        latents = self.dense(self.convolutions(batch.images))
        return Encoding(*latents.tensor_split([self.n_targets], dim=1), None)

    def decode(self, latents):
        """Return the logits of images."""
        return self.up(latents).unflatten(1, self.image_shape)


def model(network, epochs, seed=0):
    """Return the estimator that is trained."""
    return ConditionalAutoencoderRegressor(
        network=SmallNetwork if network == "small" else network,
        stretch="asinh",
        lr_schedule="one_cycle",
        batch_size=64,
        max_epochs=epochs,
        random_state=seed,
    )


def write(path, blocks, n, shape):
    """Write blocks of stamps and targets to a store with about n of them."""
    group = zarr.open_group(path, mode="w")
    image = group.create_array(
        "image",
        shape=(n, *shape),
        chunks=(N_CHUNK, *shape),
        shards=(N_SHARD, *shape),
        dtype="f4",
    )
    targets = []
    for start, (X, y) in zip(range(0, n, N_SHARD), blocks, strict=False):
        image[start : start + N_SHARD] = X[: n - start]
        targets.append(y)
    group.create_array("target", data=np.concatenate(targets)[:n])


def repeated(stamps, rng):
    """Yield shards of simulated stamps with fresh noise, for ever."""
    y = stamps.target
    while True:
        for start in range(0, len(stamps), N_SHARD):
            X = stamps[start : start + N_SHARD][:, 0]
            noise = NOISE * rng.standard_normal(X.shape, dtype=np.float32)
            yield X + noise, y[start : start + N_SHARD]


def measure_memory(folder, n, n_real, network):
    """Print the memory of a process that trains on a store."""
    path = folder / f"repeated-{n}.zarr"
    if not path.exists():
        stamps = simulate_stamps(folder / "real.zarr", n_real, 0, verbose=1)
        write(path, repeated(stamps, np.random.default_rng(0)), n, (64, 64))
    command = [sys.executable, __file__, "train", str(path), "--network", network]
    subprocess.run(command, check=True)


def train(path, network):
    """Train for an epoch on a store, and print memory and rate."""
    with warnings.catch_warnings(), Memory() as memory, open_stamps(path) as stamps:
        warnings.simplefilter("ignore")
        y, start = stamps.target, time.perf_counter()
        fitted = model(network, 1).fit(stamps, y)
        seconds = time.perf_counter() - start
        n_bytes = len(stamps) * np.prod(stamps.shape[1:]) * 4
    result = {
        "stamps": len(stamps),
        "MiB of stamps": n_bytes / MIB,
        **memory.peaks(),
        "seconds of fit": seconds,
        "seconds of the epoch": fitted.history_["duration"][0],
    }
    print(json.dumps(result), flush=True)


def measure_accuracy(folder, n, n_test, seeds, epochs, is_sorted, network):
    """Print R2 and the time of trainings from a store and from memory."""
    X, y = make_galaxies(n, random_state=0, **SMALL)
    X_test, y_test = make_galaxies(n_test, random_state=1, **SMALL)
    order = np.argsort(y[:, 0]) if is_sorted else np.arange(n)
    X, y = X.reshape(n, 32, 32)[order], y[order]
    path = folder / f"accuracy-{n}-{is_sorted}.zarr"
    shards = ((X[i : i + N_SHARD], y[i : i + N_SHARD]) for i in range(0, n, N_SHARD))
    write(path, shards, n, (32, 32))
    _streaming.BUFFER_SIZE = X.nbytes // SHARE_OF_BUFFER
    _streaming.STREAMED_BLOCK_SIZE = _streaming.BUFFER_SIZE // 16
    differences, ratios = [], []
    for seed in range(seeds):
        scores, durations = {}, {}
        for name, stamps in (("memory", X), ("file", open_stamps(path))):
            fitted = model(network, epochs, seed).fit(stamps, y)
            scores[name] = r2_score(
                y_test, fitted.predict(X_test), multioutput="raw_values"
            )
            durations[name] = np.median(fitted.history_["duration"])
        differences.append(scores["file"] - scores["memory"])
        ratios.append(durations["file"] / durations["memory"])
        print(seed, scores, durations, flush=True)
    error = np.std(differences, axis=0, ddof=1) / seeds**0.5 if seeds > 1 else np.nan
    print("R2 from the file minus R2 from memory:", np.mean(differences, axis=0))
    print("standard error of it:", error, "ratio of times:", np.median(ratios))


def main():
    """Measure as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["memory", "accuracy", "train"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=12_000)
    parser.add_argument("--n-test", type=int, default=3_000)
    parser.add_argument("--n-real", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--network", default="small")
    parser.add_argument("--sorted", action="store_true")
    given = parser.parse_args()
    if given.what == "train":
        train(given.folder, given.network)
    elif given.what == "memory":
        measure_memory(given.folder, given.n, given.n_real, given.network)
    else:
        measure_accuracy(
            given.folder,
            given.n,
            given.n_test,
            given.seeds,
            given.epochs,
            given.sorted,
            given.network,
        )


if __name__ == "__main__":
    main()
