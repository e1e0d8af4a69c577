"""A fit that is killed and resumed ends where it would have ended anyway."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from skorch.callbacks import EarlyStopping
from torch import nn

from sklcae._storage import checkpoint
from sklcae._torch import NETWORKS
from sklcae.exceptions import ModelFileError
from tests.blobs import assert_same_model, make_blobs_of_light, quick
from tests.effort import repeats
from tests.forging import claim, forge, memory_below, read
from tests.fuzzing import damaged, forgeries

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


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("later", [False, True])
def test_warm_start_is_resumed(blobs, path, first, later):
    def start():
        model = fit(blobs, max_epochs=2, warm_start=True, early_stopping=first)
        return model.set_params(early_stopping=later)

    whole = start().set_params(max_epochs=3).fit(*blobs)
    start().set_params(max_epochs=1, checkpoint=path).fit(*blobs)
    resumed = start().set_params(max_epochs=3, checkpoint=path).fit(*blobs)
    for model in (resumed, whole):
        # Texts, since NaN stands for an epoch without validation.
        model.history_ = {k: list(map(repr, v)) for k, v in model.history_.items()}
    assert_same_model(resumed, whole)


def make_own_network(architecture):
    """BatchNorm, a frozen weight, and a number that the "meta" device cannot have."""
    network = NETWORKS["strided"](architecture)
    network.encoder.convs.append(nn.BatchNorm2d(96))
    network.encoder.convs[0].bias.requires_grad_(False)
    network.depth = torch.ones(1).item()
    return network


def test_own_network_is_resumed(blobs, path, monkeypatch):
    monkeypatch.setitem(NETWORKS, "own", make_own_network)
    settings = {"network": "own", "stretch": "asinh", "early_stopping": True}
    whole = fit(blobs, **settings, max_epochs=3)
    fit(blobs, **settings, max_epochs=1, checkpoint=path)
    assert_same_model(fit(blobs, **settings, max_epochs=3, checkpoint=path), whole)


def killed_after(settings, path, n_epochs):
    code = KILLED_FIT.format(path=str(path), n_epochs=N_EPOCHS, settings=settings)
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.split()[:1] == [f"{n_epochs}/{N_EPOCHS}"]:
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
    with pytest.raises(ModelFileError, match="must be 'checkpoint of a fit', not"):
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


# Forged files -------------------------------------------------------------------

TINY = {
    "plain": {"latent_dim": 3},
    "early stopping": {"latent_dim": 3, "early_stopping": True, "n_iter_no_change": 2},
}
# What a refused file takes at most besides itself: a small net, hashing the data.
MEMORY = 2_000_000


@pytest.fixture(scope="module")
def tiny_blobs():
    return make_blobs_of_light(12, side=4)


@pytest.fixture(scope="module")
def checkpoints(tiny_blobs, tmp_path_factory):
    """Return the bytes of checkpoints after two of three epochs."""
    path, contents = tmp_path_factory.mktemp("checkpoints") / "file", {}
    for name, parameters in TINY.items():
        with pytest.MonkeyPatch.context() as patch:
            interrupt_after(2, patch)
            with pytest.raises(KeyboardInterrupt):
                quick(**parameters, checkpoint=path).fit(*tiny_blobs)
        contents[name] = path.read_bytes()
        path.unlink()
    return contents


def part_of(manifest, *names):
    part = manifest["content"]["dict"]
    for name in names:
        part = part[name]["dict"]
    return part


def put(value, *way):
    """Replace something in the manifest."""

    def change(manifest, tensors):
        part_of(manifest, *way[:-1])[way[-1]] = value
        for name in [*tensors]:
            if f"{name}/".startswith("/".join([*way, ""])):
                del tensors[name]

    return change


def drop(*way):
    def change(manifest, tensors):
        put(None, *way)(manifest, tensors)
        del part_of(manifest, *way[:-1])[way[-1]]

    return change


def alter(name, function):
    """Replace an array by a function of it."""

    def change(manifest, tensors):
        tensors[name] = np.asarray(function(tensors[name]))

    return change


def number(array, *way):
    """Put a NumPy scalar in the place of something."""

    def change(manifest, tensors):
        put({"scalar": "number"}, *way)(manifest, tensors)
        tensors["number"] = array

    return change


def generator_with(left, place):
    def function(state):
        state = state.copy()
        state[8:12].view(np.int32)[0] = left
        state[16:24].view(np.uint64)[0] = place
        return state

    return alter(GENERATOR, function)


HISTORY = ("training", "history")
STOPPING = ("training", "early_stopping")
BIAS, BEST_BIAS = (
    f"{part}/encoder.conv1.bias" for part in ("codec/weights", "training/best_weights")
)
OPTIMIZER = "training/optimizer"
GENERATOR = f"{OPTIMIZER}/generator"
IMAGE_SCALER, TARGET_SCALER = "codec/image_scaler", "codec/target_scaler"

FORGERIES = {
    "no kind": (lambda m, t: m.pop("kind"), r"lacks \['kind'\]"),
    "no content": (lambda m, t: m.pop("content"), r"lacks \['content'\]"),
    "more in the manifest": (lambda m, t: m.update(code="x"), r"has \['code'\]"),
    "content no dict": (lambda m, t: m.update(content=[]), "'content'.*a dict"),
    "fingerprint": (lambda m, t: m.update(fingerprint="a"), "other data or parameters"),
    "fingerprint a number": (
        lambda m, t: m.update(fingerprint=1),
        "'fingerprint'.*str",
    ),
    "no seeds": (drop("seeds"), r"lacks \['seeds'\]"),
    "no seed": (drop("seeds", "net"), r"seeds lacks \['net'\]"),
    "a seed more": (put(1, "seeds", "split"), r"seeds .*has \['split'\]"),
    "seed infinite": (put({"float": "inf"}, "seeds", "net"), "'net' in seeds"),
    "seed negative": (put(-1, "seeds", "net"), "'net' in seeds"),
    "seed too large": (put(2**40, "seeds", "net"), "'net' in seeds"),
    "seed of NumPy": (number(np.array(5), "seeds", "net"), "'net' in seeds"),
    "layout": (put({"dict": {}}, "codec", "layout"), r"codec .*has \['layout'\]"),
    "network": (put("strided", "codec", "network"), r"codec .*has \['network'\]"),
    "limits": (put("robust", "codec", "image_scaler", "limits"), "'limits' of its"),
    "softening": (put(2.0, "codec", "image_scaler", "softening"), "'softening' of its"),
    "logarithms": (
        put({"tuple": [0]}, "codec", "target_scaler", "logarithmic"),
        "'logarithmic' of its scaler",
    ),
    "range negative": (alter(f"{IMAGE_SCALER}/range_", np.negative), "be positive"),
    "mean of three": (
        alter(f"{TARGET_SCALER}/mean_", lambda a: np.ones(3)),
        "mean_ of",
    ),
    "weights flat": (
        alter("codec/weights/encoder.conv1.weight", np.ravel),
        "weights .*not of the shape",
    ),
    "weight of three axes": (
        alter(BIAS, lambda a: np.stack([[a]] * 3)),
        "weights .*bias",
    ),
    "weight double": (alter(BIAS, lambda a: a.astype(float)), "weights .*bias"),
    "weight missing": (drop(*BIAS.split("/")), "weights .*bias"),
    "history of text": (put("abc", *HISTORY, "train_loss"), "'history' in training"),
    "history longer": (put([1.0] * 3, *HISTORY, "train_loss"), "'history' in training"),
    "history of integers": (put([1, 2], *HISTORY, "train_loss"), "'history' in"),
    "duration too large": (put([10**400] * 2, *HISTORY, "duration"), "'history' in"),
    "epochs of floats": (put([1.0, 2.0], *HISTORY, "epoch"), "'history' in training"),
    "epochs twice": (put([1, 1], *HISTORY, "epoch"), "'history' in training"),
    "epochs true": (put([True, 2], *HISTORY, "epoch"), "'history' in training"),
    "no epochs": (drop(*HISTORY, "epoch"), "'history' in training"),
    "unknown column": (put([1.0] * 2, *HISTORY, "batches"), "'history' in training"),
    "column missing": (drop(*HISTORY, "train_loss"), "its history must have"),
    "column of another fit": (
        put([1.0] * 2, *HISTORY, "exchange_loss"),
        "its history must have",
    ),
    "early stopping": (put({"dict": {}}, *STOPPING), r"has \['early_stopping'\]"),
    "no optimizer": (
        put({"dict": {}}, *OPTIMIZER.split("/")),
        "its optimizer arrays .*missing",
    ),
    "optimizer a list": (put([], "training", "new"), r"training .*has \['new'\]"),
    "steps of many": (
        alter(f"{OPTIMIZER}/0.step", lambda a: np.stack([a])),
        "'0.step'",
    ),
    "step double": (
        alter(f"{OPTIMIZER}/0.step", lambda a: a.astype(float)),
        "'0.step'",
    ),
    "step negative": (alter(f"{OPTIMIZER}/0.step", np.negative), "'0.step'.*too small"),
    "step zero": (alter(f"{OPTIMIZER}/0.step", np.zeros_like), "'0.step'.*too small"),
    "moment flat": (alter(f"{OPTIMIZER}/0.exp_avg", np.ravel), "'0.exp_avg'"),
    "moment missing": (drop(*OPTIMIZER.split("/"), "0.exp_avg"), "'0.exp_avg'"),
    "second moment negative": (
        alter(f"{OPTIMIZER}/1.exp_avg_sq", lambda a: a - 1),
        "'1.exp_avg_sq' of its optimizer is too small",
    ),
    "generator missing": (
        drop(*GENERATOR.split("/")),
        "optimizer arrays .*'generator'",
    ),
    "generator short": (
        alter(GENERATOR, lambda a: a[:-1]),
        "optimizer arrays .*'generator'",
    ),
    "generator of ones": (alter(GENERATOR, np.ones_like), "generator has no valid"),
    "generator at its end": (generator_with(1, 625), "generator has no valid"),
    # These would read numbers from behind the state.
    "generator beyond its end": (generator_with(2, 624), "generator has no valid"),
    "generator far beyond": (
        generator_with(600, 2**63 + 624),
        "generator has no valid",
    ),
}

EARLY_FORGERIES = {
    "no split": (drop("seeds", "split"), r"seeds lacks \['split'\]"),
    "split": (put(2**32, "seeds", "split"), "'split' in seeds"),
    "no column": (drop(*HISTORY, "validation_loss"), "its history must have"),
    "no stopping": (drop(*STOPPING), r"lacks \['early_stopping'\]"),
    "stopping a list": (put([], *STOPPING), "'early_stopping' must be a dict"),
    "stopping more": (put(1, *STOPPING, "patience"), r"has \['patience'\]"),
    "misses negative": (put(-1, *STOPPING, "misses_"), "'misses_' in early_stopping"),
    "misses a float": (put(0.0, *STOPPING, "misses_"), "'misses_' in early_stopping"),
    "misses of others": (
        put(1, *STOPPING, "misses_"),
        "misses_ is 1 in epoch 2, after 2",
    ),
    "threshold NaN": (
        put({"float": "nan"}, *STOPPING, "dynamic_threshold_"),
        "'dynamic_threshold_'",
    ),
    "threshold of text": (
        put("low", *STOPPING, "dynamic_threshold_"),
        "'dynamic_thres",
    ),
    "best epoch to come": (put(3, *STOPPING, "best_epoch_"), "best_epoch_ is 3 of 2"),
    "best epoch none": (put(0, *STOPPING, "best_epoch_"), "'best_epoch_'"),
    "best weight flat": (alter(BEST_BIAS, lambda a: a[None]), "best weights .*bias"),
    "best weight missing": (drop(*BEST_BIAS.split("/")), "best weights .*bias"),
    "best weights none": (
        put({"dict": {}}, "training", "best_weights"),
        "best weights .*missing",
    ),
}
ALL_FORGERIES = [
    (kind, name)
    for kind, table in (("plain", FORGERIES), ("early stopping", EARLY_FORGERIES))
    for name in table
]


def test_a_checkpoint_forged_without_a_change_is_resumed(checkpoints, tiny_blobs, path):
    for kind, data in checkpoints.items():
        path.write_bytes(forge(*content(data, path)))
        resumed = quick(**TINY[kind], checkpoint=path).fit(*tiny_blobs)
        assert_same_model(resumed, quick(**TINY[kind]).fit(*tiny_blobs))


def content(data, path):
    path.write_bytes(data)
    return read(path)


@pytest.mark.parametrize(("kind", "name"), ALL_FORGERIES)
def test_a_forged_checkpoint_is_refused(
    checkpoints, tiny_blobs, path, monkeypatch, kind, name
):
    change, message = {**FORGERIES, **EARLY_FORGERIES}[name]
    manifest, tensors = content(checkpoints[kind], path)
    change(manifest, tensors)
    data = forge(manifest, tensors)
    path.write_bytes(data)
    # Without a training to begin.
    monkeypatch.setattr("sklcae._conditional_autoencoder.fit_codec", None)
    model = quick(**TINY[kind], checkpoint=path)
    with (
        memory_below(MEMORY + 4 * len(data)),
        pytest.raises(ModelFileError, match=message) as caught,
    ):
        model.fit(*tiny_blobs)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000 + len(str(path))
    assert path.read_bytes() == data


@pytest.mark.parametrize("kind", TINY)
def test_claimed_arrays_are_not_read(checkpoints, tiny_blobs, path, kind):
    data = checkpoints[kind]
    model = quick(**TINY[kind], checkpoint=path)
    for name in content(data, path)[1]:
        claim(path, data, name)
        with pytest.raises(ModelFileError):
            model.fit(*tiny_blobs)


class Resumed:
    """Resumes the fit of one kind from any bytes in the place of its checkpoint."""

    def __init__(self, kind, blobs, path):
        self.kind, self.blobs, self.path = kind, blobs, path
        self.whole = self.fit()

    def fit(self, **kwargs):
        """Fit, and leave the file as it is."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "write_archive", lambda *args: None)
            return quick(**TINY[self.kind], **kwargs).fit(*self.blobs)

    def check(self, data, other_numbers=False):
        """Check that a file is refused, or resumed to the uninterrupted fit.

        With other numbers than those of the fit it may end elsewhere, or overflow.
        """
        self.path.write_bytes(data)
        try:
            resumed = self.fit(checkpoint=self.path)
        except ModelFileError:
            return
        except ValueError:
            # Such as a loss that overflows.
            assert other_numbers
            return
        if not other_numbers:
            assert_same_model(resumed, self.whole)


@pytest.fixture(scope="module", params=TINY)
def resumed(request, tiny_blobs, tmp_path_factory):
    path = tmp_path_factory.mktemp("resumed") / "file"
    return Resumed(request.param, tiny_blobs, path)


def check_damaged(resumed, checkpoints, data):
    whole, other = checkpoints[resumed.kind], b"".join(checkpoints.values())
    resumed.check(data.draw(damaged(whole, other)))


def check_forged(resumed, checkpoints, data):
    parts = content(checkpoints[resumed.kind], resumed.path)
    resumed.check(data.draw(forgeries(*parts)), other_numbers=True)


CHECKS = pytest.mark.parametrize("check", [check_damaged, check_forged])
FUZZ = {"suppress_health_check": list(HealthCheck)}


@CHECKS
@effort(max_examples=75, **FUZZ)
@given(data=st.data())
def test_damage_and_forgeries_are_refused_or_resumed(resumed, checkpoints, check, data):
    check(resumed, checkpoints, data)


@pytest.mark.slow
@CHECKS
@effort(max_examples=repeats(2000), **FUZZ)
@given(data=st.data())
def test_many_are_refused_or_resumed(resumed, checkpoints, check, data):
    check(resumed, checkpoints, data)
