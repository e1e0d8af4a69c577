"""Arrays on disk are measured a block at a time; no rows give empty results."""

import threading
import time
import tracemalloc
import warnings
import weakref

import dask.array
import h5py
import numpy as np
import pytest
import zarr
from dask.array.utils import compute_meta
from dask.base import tokenize
from sklearn.base import clone

from sklcae import ConditionalAutoencoderRegressor, ProfileFitRegressor, _blocks
from sklcae._blocks import blocks_of, is_on_disk, over_blocks
from sklcae._torch.inference import BATCH_SIZE
from tests.profiles import FWHM, NAMES, NOISE, draw_truth, images_of, with_noise

SHAPE = (24, 24)
N = 60
NETWORK = (
    "predict",
    "transform",
    "is_outside",
    "flags",
    "score_samples",
    "reconstruct",
)
FIT = ("predict", "predict_interval", "fit_report", "flags")


@pytest.fixture(scope="module")
def data():
    truth = draw_truth(N, 1, SHAPE, flux=(4_000.0, 30_000.0))
    return with_noise(images_of(truth, SHAPE), 1).astype(np.float32), truth


@pytest.fixture(scope="module")
def network(data):
    model = ConditionalAutoencoderRegressor.recommended(
        psf=FWHM, pixel_scale=1.0, target_names=NAMES, max_epochs=2, random_state=0
    )
    return model.fit(*data)


@pytest.fixture(scope="module")
def fitter(network, data):
    return ProfileFitRegressor(
        network, prefit=True, psf=FWHM, noise=NOISE, max_neighbours=1
    ).fit(*data)


def to_zarr(X, folder):
    array = zarr.create_array(
        folder / "X.zarr", shape=X.shape, chunks=(7, *X.shape[1:]), dtype=X.dtype
    )
    array[:] = X
    return array


def to_shards(X, folder):
    array = zarr.create_array(
        folder / "X.zarr",
        shape=X.shape,
        chunks=(5, *X.shape[1:]),
        shards=(20, *X.shape[1:]),
        dtype=X.dtype,
    )
    array[:] = X
    return array


def to_hdf5(X, folder):
    return h5py.File(folder / "X.h5", "w").create_dataset("X", data=X)


def to_dask(X, folder):
    return dask.array.from_array(X, chunks=(13, *X.shape[1:]))


def columns(result):
    """Return the arrays of a result."""
    if isinstance(result, dict):
        return list(result.values())
    return list(result) if isinstance(result, tuple) else [result]


def assert_same(result, other):
    for one, two in zip(columns(result), columns(other), strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)


@pytest.fixture
def few_rows(monkeypatch):
    """Blocks of a few rows."""
    monkeypatch.setattr(_blocks, "BLOCK_SIZE", 2**15)


@pytest.mark.parametrize("write", [to_zarr, to_shards, to_hdf5, to_dask])
def test_results_are_those_in_memory(write, data, network, fitter, tmp_path, few_rows):
    array = write(data[0], tmp_path)
    assert is_on_disk(array)
    assert not is_on_disk(data[0])
    assert len(blocks_of(array)) > 2
    for model, methods in ((network, NETWORK), (fitter, FIT)):
        for name in methods:
            method = getattr(model, name)
            assert_same(method(array), method(data[0]))


def test_options_are_passed_on(data, network, fitter, tmp_path, few_rows):
    X, _ = data
    array = to_zarr(X, tmp_path)
    for model in (network, fitter):
        assert_same(model.predict(array, True), model.predict(X, return_std=True))
        assert_same(model.predict_interval(array, 0.9), model.predict_interval(X, 0.9))
    table = {"stamp": [0, 8, 8, 59], "x0": [3.0, 4, 20, 5], "y0": [4.0, 4, 20, 18]}
    result = fitter.fit_report(array, neighbours=table)
    assert_same(result, fitter.fit_report(X, table))
    assert list(np.flatnonzero(result.n_neighbours)) == [0, 8, 59]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"stamp": [N], "x0": [1.0], "y0": [1.0]}, f"stamps from 0 to {N - 1}"),
        ({"stamp": [1, 50], "x0": [1.0, np.nan], "y0": [1.0, 2]}, "stamp=50, x0=nan"),
        ({"stamp": [1], "x0": [1.0]}, "must be a table with the columns"),
        ([[1, 2, 3]], "must be a table with the columns"),
    ],
)
def test_wrong_neighbours_are_found(data, fitter, tmp_path, few_rows, table, message):
    array = to_zarr(data[0], tmp_path)
    for X in (array, data[0]):
        with pytest.raises(ValueError, match=message) as error:
            fitter.predict(X, neighbours=table)
        assert not hasattr(error.value, "__notes__")


def test_blocks_are_whole_chunks(data, tmp_path, few_rows):
    X, _ = data
    assert [b.start for b in blocks_of(to_shards(X, tmp_path))] == [0, 20, 40]
    starts = [b.start for b in blocks_of(to_zarr(X, tmp_path / "chunks"))]
    assert starts == list(range(0, N, 14))[: len(starts)] or starts[1] % 7 == 0
    assert blocks_of(to_dask(X, None))[0] == slice(0, 13)


def test_blocks_without_chunks_are_whole_batches(monkeypatch):
    class Rows(Counted):
        chunks = None

        def __init__(self, n):
            self.shape, self.dtype = (n, 24, 24), np.dtype(np.float32)

    assert _blocks.BATCH_SIZE == BATCH_SIZE
    for n_rows, n_block in ((200, 192), (40, 32), (20, 20)):
        monkeypatch.setattr(_blocks, "BLOCK_SIZE", n_rows * 24 * 24 * 4)
        assert blocks_of(Rows(1000))[0] == slice(0, n_block)


def test_memory_does_not_grow_with_the_rows(data, network, tmp_path, few_rows):
    array = zarr.create_array(
        tmp_path / "X.zarr", shape=(3000, *SHAPE), chunks=(60, *SHAPE), dtype="f4"
    )
    for start in range(0, 3000, N):
        array[start : start + N] = data[0]
    network.predict(array)
    tracemalloc.start()
    network.predict(array)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.6 * array.nbytes


class Counted:
    """An array on disk that counts its blocks in memory."""

    def __init__(self, X, wrong=None):
        self.X, self.shape, self.dtype = X, X.shape, X.dtype
        self.chunks, self.wrong = (7, *X.shape[1:]), wrong
        self.alive, self.most, self.threads, self.blocks = 0, 0, set(), []

    def __getitem__(self, rows):
        if self.wrong is not None and self.wrong < rows.stop:
            raise ValueError(f"row {self.wrong - rows.start} cannot be read")
        block = self.X[rows].copy()
        self.alive += 1
        self.most = max(self.most, self.alive)
        self.threads.add(threading.current_thread().name)
        self.blocks.append(rows)
        weakref.finalize(block, self._free)
        return block

    def _free(self):
        self.alive -= 1


def test_one_block_is_read_ahead(few_rows):
    X = Counted(np.zeros((N, 24, 24), np.float32))

    def slow(block, rows):
        # The next block is read while this one is measured.
        deadline = time.monotonic() + 10
        while len(X.blocks) < min(5, len(results) + 2) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert X.blocks[-1].start > rows.start or rows.stop == N
        results.append(rows)
        return np.zeros(len(block))

    results = []
    assert over_blocks(X, slow).shape == (N,)
    assert X.blocks == results == blocks_of(X)
    assert X.most == 2
    assert X.alive == 0
    assert threading.current_thread().name not in X.threads
    assert len(X.threads) == 1
    assert not [t for t in threading.enumerate() if "sklcae" in t.name]


def test_errors_of_blocks(few_rows):
    def measure(block, rows):
        measured.append(rows.start)
        if rows.start == start_of_wrong:
            raise ValueError("this block cannot be measured")
        return np.zeros(len(block))

    X = np.zeros((N, 24, 24), np.float32)
    starts = [rows.start for rows in blocks_of(Counted(X))]
    for wrong_row, start_of_wrong, message in (
        (starts[2] + 1, None, "row 1 cannot be read"),
        (None, starts[2], "this block cannot be measured"),
    ):
        measured = []
        with pytest.raises(ValueError, match=message) as error:
            over_blocks(Counted(X, wrong_row), measure)
        assert error.value.__notes__ == [f"Rows are counted from row {starts[2]} of X."]
        assert measured == starts[: 3 if start_of_wrong else 2]
        assert not [t for t in threading.enumerate() if "sklcae" in t.name]


def test_errstate_and_warnings_reach_the_reader(few_rows):
    class Warns(Counted):
        def __getitem__(self, rows):
            with_error = np.ones(1, np.float32) / np.zeros(1, np.float32)
            warnings.warn(f"{with_error}", UserWarning, stacklevel=1)
            return super().__getitem__(rows)

    X = Warns(np.zeros((N, 24, 24), np.float32))
    with np.errstate(all="ignore"), pytest.warns(UserWarning, match="inf") as found:
        over_blocks(X, lambda block, rows: np.zeros(len(block)))
    assert len(found) == len(blocks_of(X))


def test_wrong_rows_are_found(data, network, tmp_path, few_rows):
    X = data[0].copy()
    X[50] = np.nan
    array = to_zarr(X, tmp_path)
    with pytest.raises(ValueError, match="NaN") as error:
        network.predict(array)
    [note] = error.value.__notes__
    assert note.startswith("Rows are counted from row ")
    with pytest.raises(ValueError, match="24 x 24 pixels"):
        network.predict(zarr.zeros((5, 8, 8)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4", np.int16])
def test_no_rows(data, network, fitter, dtype):
    X = data[0].astype(dtype)
    for model, methods in ((network, NETWORK), (fitter, (*FIT, "sample"))):
        for name in methods:
            method = getattr(model, name)
            expected = columns(method(X[:2]))
            for empty in (X[:0], np.zeros((0, 0, 0), dtype)):
                found = columns(method(empty))
                for one, two in zip(found, expected, strict=True):
                    assert one.dtype == two.dtype
                    assert one.shape == (0, *two.shape[1:])
    assert fitter.deblend(X[:0]).total.shape == (0, *SHAPE)
    with pytest.raises(ValueError, match="24 x 24 pixels"):
        network.predict(X[:0, :9])


def test_dask_learns_the_form_of_a_result(data, network):
    X = to_dask(data[0], None)
    assert compute_meta(network.predict, None, X).shape == (0, 7)
    y = X.map_blocks(
        network.predict,
        dtype=float,
        drop_axis=[1, 2],
        new_axis=[1],
        chunks=(X.chunks[0], (7,)),
    )
    np.testing.assert_array_equal(y.compute(), network.predict(data[0]))


def test_tokens(data, network, fitter, tmp_path):
    for model in (network, fitter):
        model.save(tmp_path / "model.sklcae")
        loaded = type(model).load(tmp_path / "model.sklcae")
        assert tokenize(loaded) == tokenize(model)
        assert tokenize(clone(model)) != tokenize(model)
        assert tokenize(clone(model)) == tokenize(clone(loaded))
    other = clone(network).set_params(random_state=1).fit(*data)
    others = tokenize(other.set_params(random_state=0))
    assert others != tokenize(network)


def test_a_fit_needs_rows(data):
    X, y = data
    with pytest.raises(ValueError, match="Found array with 0 sample"):
        ConditionalAutoencoderRegressor(latent_dim=9).fit(X[:0], y[:0])
