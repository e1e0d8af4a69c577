"""Training from stamps on disk: what is read, in which order, and the results."""

import weakref

import h5py
import numpy as np
import pytest
import torch
import zarr
from sklearn.base import clone

from sklcae import ConditionalAutoencoderRegressor, stack_planes
from sklcae._fixed_psf import gaussian_psf
from sklcae._images import TrainingImages
from sklcae._streaming import BlockReader, Reading, RowsOnDisk, rows_to_train_on
from sklcae._torch.reading import BlockShuffle, FileOrder, ReadAhead
from sklcae.survey import open_stamps
from tests.profiles import FWHM, NOISE, draw_truth, images_of, with_noise

SHAPE = (16, 16)
N, N_CHUNK, BLOCK, AT_ONCE = 240, 10, 20, 4
ROW = 4 * SHAPE[0] * SHAPE[1]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 20 stamps, of which 4 are shuffled together."""
    monkeypatch.setattr("sklcae._streaming.STREAMED_BLOCK_SIZE", BLOCK * ROW)
    monkeypatch.setattr("sklcae._streaming.BUFFER_SIZE", AT_ONCE * BLOCK * ROW)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    flux, radius = rng.uniform(20, 60, N), rng.uniform(1.5, 4, N)
    y, x = np.indices(SHAPE) - 7.5
    r2 = (x**2 + y**2) / radius[:, None, None] ** 2
    light = np.exp(-r2 / 2) * flux[:, None, None] / radius[:, None, None] ** 2
    X = (light + rng.normal(size=(N, *SHAPE))).astype(np.float32)
    return X, np.column_stack([flux, radius])


class Counted:
    """An array that counts what is read, and how much of it is still in memory."""

    def __init__(self, X, fails_at=None):
        self.X, self.fails_at = X, fails_at
        self.shape, self.dtype, self.chunks = X.shape, X.dtype, (N_CHUNK, *X.shape[1:])
        self.read, self.live, self.most = [], 0, 0

    def __getitem__(self, rows):
        self.read.append(rows.start)
        if self.fails_at is not None and len(self.read) > self.fails_at:
            raise OSError("the disk is gone")
        block = self.X[rows].copy()
        self.live += len(block)
        self.most = max(self.most, self.live)
        weakref.finalize(block, self._forget, len(block))
        return block

    def _forget(self, n_rows):
        self.live -= n_rows


def quick(**parameters):
    settings = {"max_epochs": 1, "latent_dim": 6, "batch_size": 32, "random_state": 0}
    settings |= {"network": "strided", "stretch": "asinh"}
    return ConditionalAutoencoderRegressor(**(settings | parameters))


def same(model, other):
    """Return whether all weights and all statistics are bitwise the same."""
    states = [one.__getstate__()["codec_"] for one in (model, other)]
    weights = [list(state["weights"].values()) for state in states]
    parts = [
        [*weights, *state["reference"].values(), *state["training_range"].values()]
        for state, weights in zip(states, weights, strict=True)
    ]
    return all(np.array_equal(one, two) for one, two in zip(*parts, strict=True))


@pytest.fixture
def in_order_of_blocks(monkeypatch):
    """Let arrays in memory be trained on in the order of arrays on disk."""

    def reading(images):
        if images.images.on_disk:
            return images.images.raw.reading(images.rows)
        return Reading(images.rows // BLOCK, AT_ONCE, lambda blocks: None)

    monkeypatch.setattr(TrainingImages, "reading", property(reading))


SETTINGS = [
    {"max_epochs": 3},
    {"augmentation": "dihedral", "invariant_targets": "all"},
    {"early_stopping": True, "validation_fraction": 0.2, "max_epochs": 2},
    {"limits": "robust"},
    {"physical_loss": "gaussian_likelihood", "log_targets": "all"},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_fit_is_that_in_memory_in_the_same_order(data, settings, in_order_of_blocks):
    X, y = data
    model = quick(**settings)
    assert same(clone(model).fit(Counted(X), y), clone(model).fit(X, y))


def test_targets_and_pixels_may_lack_and_images_have_weights(data, in_order_of_blocks):
    X, y = data[0].copy(), data[1].copy()
    X[3::7, 4:6, 2] = np.nan
    X[100] = np.nan
    y[::5, 0] = np.nan
    weights = np.random.default_rng(1).uniform(0, 1, N)
    weights[20:30] = 0
    model = quick(allow_nan=True, handle_empty="nan")
    with pytest.warns(UserWarning, match="1 of 240 images have no pixel"):
        streamed = clone(model).fit(Counted(X), y, sample_weight=weights)
    with pytest.warns(UserWarning, match="1 of 240 images have no pixel"):
        loaded = clone(model).fit(X, y, sample_weight=weights)
    assert same(streamed, loaded)


def test_the_order_alone_differs_from_memory(data):
    X, y = data
    streamed, loaded = quick().fit(Counted(X), y), quick().fit(X, y)
    for name in ("minimum_", "range_", "noise_", "sky_", "background_"):
        one, two = (getattr(m.image_scaler_, name) for m in (streamed, loaded))
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(streamed.target_range_, loaded.target_range_)
    np.testing.assert_array_equal(streamed.target_scaler_.mean_, y.mean(axis=0))
    assert not same(streamed, loaded)
    assert same(streamed, quick().fit(Counted(X), y))
    assert not same(streamed, quick(random_state=1).fit(Counted(X), y))


def to_zarr(X, folder):
    group = zarr.open_group(folder / "X.zarr", mode="w")
    chunks = {"chunks": (N_CHUNK, *SHAPE), "shards": (N // 2, *SHAPE)}
    return group.create_array("image", data=X, **chunks)


def to_hdf5(X, folder):
    return h5py.File(folder / "X.h5", "w").create_dataset("X", data=X)


def to_stamps(X, folder):
    to_zarr(X, folder)
    return open_stamps(folder / "X.zarr")


@pytest.mark.parametrize("write", [to_zarr, to_hdf5, to_stamps])
def test_files(data, write, tmp_path):
    X, y = data
    array = write(X, tmp_path)
    assert same(quick().fit(array, y), quick().fit(Counted(X), y))


@pytest.mark.parametrize("write", [to_zarr, to_stamps])
def test_a_file_that_fits_into_the_buffer_is_loaded(data, write, tmp_path, monkeypatch):
    monkeypatch.setattr("sklcae._streaming.BUFFER_SIZE", N * ROW)
    X, y = data
    array = write(X, tmp_path)
    # The partners of the exchange loss are in memory then.
    model = quick(gamma=0.1)
    assert same(clone(model).fit(array, y), clone(model).fit(X, y))


def test_a_memory_map_is_trained_on_as_an_array(data, tmp_path):
    X, y = data
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert same(quick().fit(mapped, y), quick().fit(X, y))


def test_planes_and_simulated_galaxies(in_order_of_blocks, monkeypatch):
    # A stamp has three planes.
    monkeypatch.setattr("sklcae._streaming.STREAMED_BLOCK_SIZE", 3 * BLOCK * ROW)
    monkeypatch.setattr("sklcae._streaming.BUFFER_SIZE", 3 * AT_ONCE * BLOCK * ROW)
    X, truth = _galaxies()
    names = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
    model = ConditionalAutoencoderRegressor.recommended(
        planes=("image", "variance", "psf"),
        pixel_scale=1.0,
        target_names=names,
        max_epochs=1,
        random_state=0,
    )
    array = Counted(X)
    assert same(clone(model).fit(array, truth), clone(model).fit(X, truth))
    assert array.most < 0.8 * len(X)


def _galaxies():
    truth = draw_truth(N, 1, SHAPE, flux=(4_000.0, 30_000.0))
    image = with_noise(images_of(truth, SHAPE), 1).astype(np.float32)
    psf = gaussian_psf(FWHM, (1, *SHAPE))[0, 0]
    return stack_planes(image, NOISE**2, psf), truth


def test_few_blocks_are_in_memory_and_each_is_read_once_an_epoch(data):
    X, y = data
    arrays = []
    for n_epochs in (1, 3):
        arrays.append(Counted(X))
        quick(max_epochs=n_epochs).fit(arrays[-1], y)
        # Two buffers, the blocks that were read last, and one that is being read.
        assert arrays[-1].most <= (2 * AT_ONCE + 3) * BLOCK
    n_blocks = N // BLOCK
    # Some are still in memory from the epoch before.
    assert n_blocks <= len(arrays[1].read) - len(arrays[0].read) <= 2 * n_blocks
    # Before and after the training the file is read in its order a few times.
    assert len(arrays[0].read) <= 6 * n_blocks


def test_early_stopping_reads_the_file_in_its_order(data):
    X, y = data
    array = Counted(X)
    quick(max_epochs=1, early_stopping=True).fit(array, y)
    assert array.most <= (2 * AT_ONCE + 3) * BLOCK
    assert len(array.read) <= 7 * N // BLOCK


def test_partial_fit_and_warm_start(data, in_order_of_blocks):
    X, y = data
    streamed, loaded = quick(), quick()
    for _ in range(2):
        streamed.partial_fit(Counted(X), y)
        loaded.partial_fit(X, y)
    assert same(streamed, loaded)
    for model, stamps in ((streamed, Counted(X)), (loaded, X)):
        model.set_params(warm_start=True, max_epochs=1).fit(stamps, y)
    assert same(streamed, loaded)


def test_a_checkpoint_belongs_to_the_content(data, tmp_path):
    X, y = data
    model = quick(max_epochs=2, checkpoint=tmp_path / "checkpoint")
    whole = quick(max_epochs=3).fit(Counted(X), y)
    clone(model).fit(Counted(X), y)
    assert same(clone(model).set_params(max_epochs=3).fit(Counted(X), y), whole)
    other = X.copy()
    other[77, 3, 3] += 1
    with pytest.raises(Exception, match="other data or parameters"):
        clone(model).fit(Counted(other), y)


def test_partners_anywhere_in_the_file_are_refused(data):
    X, y = data
    array = Counted(X)
    with pytest.raises(ValueError, match=r"'gamma' parameter .* must be 0 .*Got 0.5"):
        quick(gamma=0.5).fit(array, y, groups=np.arange(N) // 2)
    assert not array.read
    quick(max_epochs=1).fit(array, y, groups=np.arange(N) // 2)


@pytest.mark.parametrize("n_read", [0, 40, 100])
def test_an_error_of_the_file_ends_the_fit(data, n_read):
    X, y = data
    model = quick(max_epochs=6)
    with pytest.raises(OSError, match="the disk is gone"):
        model.fit(Counted(X, fails_at=n_read), y)
    assert not hasattr(model, "codec_")


def test_wrong_stamps_are_found(data):
    X, y = data
    wrong = X.copy()
    wrong[200, 0, 0] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        quick().fit(Counted(wrong), y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        quick().fit(Counted(X), y[:-1])
    with pytest.raises(ValueError, match=r"must be an array of numbers. Got .*complex"):
        quick().fit(Counted(X.astype(complex)), y)


def test_a_channel_that_few_stamps_have(data, in_order_of_blocks, monkeypatch):
    X, y = data
    monkeypatch.setattr("sklcae._scaling.SAMPLE_PIXELS", 4 * SHAPE[0] * SHAPE[1])
    bands = np.stack([X, X], axis=1)
    bands[:, 1] = np.nan
    bands[7:17, 1] = X[7:17]
    model = quick(allow_nan=True, max_epochs=1).fit(Counted(bands), y)
    noise = model.image_scaler_.noise_.ravel()
    np.testing.assert_allclose(noise, 1, rtol=0.3)


# The parts ---------------------------------------------------------------------------


def test_rows_on_disk_are_those_of_the_array(data):
    X, _ = data
    with rows_to_train_on(Counted(X)) as rows:
        assert isinstance(rows, RowsOnDisk)
        assert rows.shape == X.shape
        assert len(rows) == N
        for which in (slice(3, 44), [5, 200, 5, 0], np.arange(N)[::-1], slice(0, 0)):
            np.testing.assert_array_equal(rows[which], X[which])
        flat = rows.reshape(N, ROW // 4)
        assert flat.shape == (N, ROW // 4)
        np.testing.assert_array_equal(flat[:, :7][2:9], X.reshape(N, -1)[2:9, :7])
        taken = rows[:3]
        taken[:] = 0
        np.testing.assert_array_equal(rows[:3], X[:3])
        assert rows.digest() == rows.digest()


def test_blocks_are_whole_chunks(data, tmp_path):
    X, _ = data
    for write, size in ((to_zarr, BLOCK), (to_hdf5, BLOCK)):
        reader = BlockReader(write(X, tmp_path))
        assert reader.block_size == size
        assert reader.n_at_once == AT_ONCE
        reader.close()
    large = Counted(X)
    large.chunks = (N, *SHAPE)
    reader = BlockReader(large)
    assert (reader.block_size, reader.n_at_once) == (N, 2)
    reader.close()


def test_expected_blocks_are_read_in_their_order(data):
    array = Counted(data[0])
    reader = BlockReader(array)
    reader.expect([5, 2, 9])
    reader.take(np.array([181]), SHAPE, slice(None))
    assert array.read == [100, 40, 180]
    reader.expect([9])
    assert set(reader.held) == {9}
    reader.close()
    assert not reader.thread.is_alive() or reader.thread.join(5) is None


@pytest.fixture
def reading():
    blocks = np.repeat(np.arange(12), BLOCK)
    expected = []
    return (
        Reading(blocks, AT_ONCE, lambda some: expected.append(list(some))),
        torch.Generator().manual_seed(0),
        expected,
    )


def test_a_shuffle_takes_each_stamp_once_and_a_few_blocks_at_a_time(reading):
    reading, generator, _ = reading
    sampler = BlockShuffle(reading, generator)
    order, other = np.array(list(sampler)), np.array(list(sampler))
    np.testing.assert_array_equal(np.sort(order), np.arange(N))
    assert not np.array_equal(order, other)
    for part in np.split(reading.blocks[order], 3):
        blocks, counts = np.unique(part, return_counts=True)
        assert len(blocks) == AT_ONCE
        assert set(counts) == {BLOCK}
        # They are mixed, and not one after another.
        assert (np.diff(part) != 0).mean() > 0.5
    assert len(sampler) == N


def test_blocks_are_expected_until_their_last_use(reading):
    reading, generator, expected = reading
    order = list(BlockShuffle(reading, generator))
    batches = [order[start : start + 32] for start in range(0, N, 32)]
    for number, batch in enumerate(ReadAhead(batches, reading)):
        assert set(reading.blocks[batch]) <= set(expected[-1])
        assert len(expected[-1]) <= 2 * AT_ONCE
        assert len(expected) == number + 1
    assert len(expected[0]) == 2 * AT_ONCE
    assert list(FileOrder(reading)) == list(range(N))
