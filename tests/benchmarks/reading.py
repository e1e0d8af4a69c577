"""How fast stamps are read from each format, and how much predict loses to reading.

Run ``python tests/benchmarks/reading.py``. It makes stamps of 64 x 64 pixels with the
planes image, variance and psf, writes them in every format to a temporary folder, and
prints two things. The first is how many stamps are read in a second of one core,
checked and stacked, without a model. The second is the time of ``predict`` of the model
"ground" on a ``.npy`` of the stacked stamps, as a share of that from the file: 1 means
that reading costs nothing more. All formats are measured in turns, and the medians of
the repeats are shown, so that other work on the machine meets all of them.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from astropy.io import fits

import sklcae
from sklcae.datasets import make_galaxies
from sklcae.exceptions import OutsideTrainingWarning
from sklcae.survey import open_stamps

PLANES = ("image", "variance", "psf")
# Formats whose predict is compared, unless others are named.
PREDICTED = ("fits", "fits_weight", "zarr", "parquet")


def make_stamps(model, n_stamps, n_different=500):
    """Return stamps (n, 3, 64, 64); a few are repeated, as they are slow to make."""
    X, _ = make_galaxies(
        min(n_stamps, n_different),
        x0=32.0,
        y0=32.0,
        planes=model.planes,
        targets=model.target_names_,
        random_state=0,
    )
    repeats = -(-n_stamps // len(X))
    return np.tile(X, (repeats, 1, 1, 1))[:n_stamps].astype(np.float32)


def write_fits(parts, path):
    hdus = [fits.ImageHDU(array, name=name) for name, array in parts.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)


def write_hdf5(parts, path, **options):
    with h5py.File(path, "w") as file:
        for name, array in parts.items():
            chunks = (100, *array.shape[1:])
            file.create_dataset(name, data=array, chunks=chunks, **options)


def write_zarr(parts, path):
    group = zarr.open_group(path, mode="w")
    for name, array in parts.items():
        group.create_array(name, data=array, chunks=(100, *array.shape[1:]))


def to_tensors(parts):
    make = pa.FixedShapeTensorArray.from_numpy_ndarray
    return pa.table({name: make(array) for name, array in parts.items()})


def write_arrow(parts, path):
    table = to_tensors(parts)
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table, 100)


def write_all(X, folder):
    """Return the paths of the stamps by format."""
    parts = {kind: np.ascontiguousarray(X[:, i]) for i, kind in enumerate(PLANES)}
    weights = {**parts, "weight": 1 / parts["variance"]}
    del weights["variance"]
    writers = {
        "fits": lambda path: write_fits(parts, path.with_suffix(".fits")),
        "fits_weight": lambda path: write_fits(weights, path.with_suffix(".fits")),
        "hdf5": lambda path: write_hdf5(parts, path.with_suffix(".hdf5")),
        "hdf5_gzip": lambda path: write_hdf5(
            parts, path.with_suffix(".hdf5"), compression="gzip"
        ),
        "zarr": lambda path: write_zarr(parts, path.with_suffix(".zarr")),
        "parquet": lambda path: pq.write_table(
            to_tensors(parts), path.with_suffix(".parquet"), row_group_size=100
        ),
        "arrow": lambda path: write_arrow(parts, path.with_suffix(".arrow")),
    }
    for name, write in writers.items():
        write(folder / name)
    return {name: next(folder.glob(f"{name}.*")) for name in writers}


def measure(function):
    """Return the seconds on the clock, and those of all cores."""
    start = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def read(path, n_rows=1000):
    with open_stamps(path) as stamps:
        for first in range(0, len(stamps), n_rows):
            stamps[first : first + n_rows]


def predict(model, path):
    with open_stamps(path) as stamps:
        model.predict(stamps)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n-stamps", type=int, default=6000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--predict", nargs="*", default=PREDICTED)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*slow to read")
    warnings.filterwarnings("ignore", category=OutsideTrainingWarning)
    model = sklcae.load_pretrained("ground")
    with tempfile.TemporaryDirectory() as folder:
        X = make_stamps(model, options.n_stamps)
        np.save(Path(folder) / "stacked.npy", X)
        paths = write_all(X, Path(folder))
        mapped = np.load(Path(folder) / "stacked.npy", mmap_mode="r")
        jobs = {("read", name): lambda p=path: read(p) for name, path in paths.items()}
        jobs["predict", "npy"] = lambda: model.predict(mapped)
        for name in options.predict:
            jobs["predict", name] = lambda p=paths[name]: predict(model, p)
        model.predict(X[:500])
        times = {job: [] for job in jobs}
        for _ in range(options.repeats):
            for job, run in jobs.items():
                times[job].append(measure(run))
    print_results(times, options.n_stamps)


def print_results(times, n_stamps):
    seconds = {job: np.median(found, axis=0) for job, found in times.items()}
    print(f"{'format':12s} {'read, stamps per core-second':>30s}")
    for (kind, name), (_, cores) in seconds.items():
        if kind == "read":
            print(f"{name:12s} {n_stamps / cores:30,.0f}")
    reference = np.array(times["predict", "npy"])
    print(
        f"\n{'predict':12s} {'clock':>8s} {'cores':>8s} {'npy / clock':>12s} ", end=""
    )
    print(f"{'npy / cores':>12s}")
    for (kind, name), (clock, cores) in seconds.items():
        if kind == "predict":
            shares = np.median(reference / np.array(times[kind, name]), axis=0)
            print(f"{name:12s} {clock:7.2f}s {cores:7.2f}s ", end="")
            print(f"{shares[0]:11.2f} {shares[1]:7.2f}")


if __name__ == "__main__":
    main()
