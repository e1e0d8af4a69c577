"""A fit that is killed and resumed ends where it would have ended anyway."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from skorch.callbacks import EarlyStopping

from sklcae._storage import checkpoint
from sklcae._storage.archive import read_archive, write_archive
from sklcae.exceptions import ModelFileError
from tests.blobs import assert_same_model, make_blobs_of_light, quick

SETTINGS = {
    "plain": {},
    "augmented": {"augmentation": "dihedral", "invariant_targets": "all"},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2, "tol": 0.05},
    "asinh": {"stretch": "asinh", "reconstruction_loss": "squared_error"},
    "variances": {
        "network": "neural_field",
        "reconstruction_loss": "chi_square",
        "physical_loss": "gaussian_likelihood",
    },
    "one cycle": {
        "network": "strided",
        "optimizer": "adamw",
        "lr_schedule": "one_cycle",
        "weight_decay": 0.1,
    },
}
N_EPOCHS = 6

KILLED_FIT = """
    import sys
    from tests.blobs import make_blobs_of_light, quick

    model = quick(checkpoint={path!r}, max_epochs={n_epochs}, verbose=1)
    model.set_params(**{settings!r}).fit(*make_blobs_of_light(96))
"""


@pytest.fixture(scope="module")
def blobs():
    return make_blobs_of_light(96)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.checkpoint"


def fit(blobs, **kwargs):
    return quick(**{"max_epochs": N_EPOCHS, **kwargs}).fit(*blobs)


def interrupt_after(n_epochs, monkeypatch):
    write, epochs = checkpoint.Checkpoint.write, iter(range(1, n_epochs + 1))

    def write_and_interrupt(*args):
        write(*args)
        if next(epochs) == n_epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Checkpoint, "write", write_and_interrupt)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("stop", [1, 4])
def test_resumed_fit_ends_where_the_whole_one_does(
    blobs, path, name, stop, monkeypatch
):
    settings = SETTINGS[name]
    whole = fit(blobs, **settings)
    with monkeypatch.context() as patch:
        interrupt_after(stop, patch)
        with pytest.raises(KeyboardInterrupt):
            fit(blobs, **settings, checkpoint=path)
    resumed = fit(blobs, **settings, checkpoint=str(path))
    assert_same_model(resumed, whole)
    assert resumed.n_iter_ == whole.n_iter_


def test_network_of_the_paper_in_its_size_is_resumed(path):
    X = np.random.default_rng(0).normal(size=(8, 64 * 64))
    data = X, X[:, :2]
    whole = quick(max_epochs=2, latent_dim=64).fit(*data)
    quick(max_epochs=1, latent_dim=64, checkpoint=path).fit(*data)
    resumed = quick(max_epochs=2, latent_dim=64, checkpoint=path).fit(*data)
    assert_same_model(resumed, whole)


def test_checkpoint_has_no_part_in_the_result(blobs, path):
    assert_same_model(fit(blobs, checkpoint=path), fit(blobs))


def test_finished_fit_is_not_trained_again(blobs, path, monkeypatch):
    model = fit(blobs, checkpoint=path)
    written = path.stat().st_mtime_ns
    again = fit(blobs, checkpoint=path)
    assert_same_model(again, model)
    assert again.history_["duration"] == model.history_["duration"]
    assert path.stat().st_mtime_ns == written


def test_weights_and_missing_targets_are_resumed(blobs, path):
    X, y = blobs
    y = y.copy()
    y[::3, 0] = np.nan
    weights = np.arange(96.0)
    whole = quick(max_epochs=3).fit(X, y, sample_weight=weights)
    quick(max_epochs=1, checkpoint=path).fit(X, y, sample_weight=weights)
    resumed = quick(max_epochs=3, checkpoint=path).fit(X, y, sample_weight=weights)
    assert_same_model(resumed, whole)


def test_end_of_a_schedule_is_a_part_of_the_fit(blobs, path):
    settings = {"lr_schedule": "one_cycle", "checkpoint": path}
    fit(blobs, max_epochs=2, **settings)
    with pytest.raises(ModelFileError, match="other data or parameters"):
        fit(blobs, max_epochs=3, **settings)


def test_fit_without_a_seed_is_resumed_too(blobs, path):
    first = fit(blobs, random_state=None, max_epochs=2, checkpoint=path)
    resumed = fit(blobs, random_state=None, max_epochs=3, checkpoint=path)
    losses = resumed.history_["train_loss"]
    assert losses[:2] == first.history_["train_loss"]


def test_warm_start_is_resumed(blobs, path):
    def start():
        return fit(blobs, max_epochs=2, warm_start=True)

    whole = start().set_params(max_epochs=3).fit(*blobs)
    start().set_params(max_epochs=1, checkpoint=path).fit(*blobs)
    resumed = start().set_params(max_epochs=3, checkpoint=path).fit(*blobs)
    assert_same_model(resumed, whole)


def killed_after(settings, path, n_epochs):
    code = KILLED_FIT.format(path=str(path), n_epochs=N_EPOCHS, settings=settings)
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.split()[:1] == [str(n_epochs)]:
            break
    # The epoch is printed before its checkpoint is written, or while it is.
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_fit_that_is_killed_is_resumed(blobs, path):
    killed_after({}, path, 3)
    assert_same_model(fit(blobs, checkpoint=path), fit(blobs))


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_fit_is_killed_after_each_epoch_and_resumed(blobs, path, name):
    settings = SETTINGS[name]
    whole = fit(blobs, **settings)
    for n_epochs in range(1, min(N_EPOCHS, whole.n_iter_)):
        killed_after(settings, path, n_epochs)
    assert_same_model(fit(blobs, **settings, checkpoint=path), whole)


@pytest.mark.parametrize(
    "change",
    [{"alpha": 0.5}, {"random_state": 1}, {"stretch": "asinh"}, {"batch_size": 8}],
)
def test_checkpoint_of_other_parameters_is_refused(blobs, path, change):
    fit(blobs, max_epochs=1, checkpoint=path)
    with pytest.raises(ModelFileError, match="other data or parameters"):
        fit(blobs, checkpoint=path, **change)


def test_checkpoint_of_other_data_is_refused(blobs, path):
    X, y = blobs
    fit(blobs, max_epochs=1, checkpoint=path)
    for data in ((X + 1, y), (X, y + 1), (X[1:], y[1:])):
        with pytest.raises(ModelFileError, match="other data or parameters"):
            fit(data, checkpoint=path)


def test_checkpoint_that_is_further_on_is_refused(blobs, path):
    fit(blobs, max_epochs=3, checkpoint=path)
    with pytest.raises(ModelFileError, match=r"3 epochs, and max_epochs ends at 2"):
        fit(blobs, max_epochs=2, checkpoint=path)


def test_damaged_checkpoint_is_refused_and_kept(blobs, path):
    fit(blobs, max_epochs=1, checkpoint=path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="damaged"):
        fit(blobs, checkpoint=path)
    assert path.read_bytes() == data


def test_model_is_no_checkpoint(blobs, path):
    fit(blobs).save(path)
    with pytest.raises(ModelFileError, match="no checkpoint"):
        fit(blobs, checkpoint=path)


def test_checkpoint_that_lacks_something_is_refused(blobs, path):
    fit(blobs, max_epochs=1, checkpoint=path)
    manifest, tensors = read_archive(path)
    manifest["content"]["dict"].pop("seeds")
    write_archive(path, manifest, tensors)
    with pytest.raises(ModelFileError, match=r"no whole checkpoint.*seeds"):
        fit(blobs, checkpoint=path)


def test_failed_write_is_an_error_and_leaves_the_model(blobs, path, monkeypatch):
    model = fit(blobs)
    before = model.predict(blobs[0])
    monkeypatch.setattr(checkpoint, "write_archive", refuse_to_write)
    with pytest.raises(OSError, match="No space left"):
        model.set_params(checkpoint=path).fit(*blobs)
    np.testing.assert_array_equal(model.predict(blobs[0]), before)


def refuse_to_write(*args):
    raise OSError(28, os.strerror(28))


def test_folder_that_is_not_there_is_an_error(blobs, tmp_path):
    with pytest.raises(FileNotFoundError):
        fit(blobs, checkpoint=tmp_path / "nowhere" / "file")


def test_checkpoint_with_skorch_callbacks_is_refused(blobs, path):
    with pytest.raises(ValueError, match=r"'checkpoint' parameter.*callbacks"):
        fit(blobs, checkpoint=path, callbacks=[EarlyStopping("train_loss")])
