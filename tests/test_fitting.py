"""Ways to fit: weights, parts, warm starts, early stopping, callbacks, interrupts."""

import pickle
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler

from tests.blobs import assert_same_model, make_blobs_of_light, quick, weights_differ


@pytest.fixture(scope="module")
def blobs():
    return make_blobs_of_light(96)


# sample_weight


def test_weight_of_zero_leaves_an_image_out(blobs):
    X, y = blobs
    weights = np.ones(96)
    weights[::3] = 0
    kept = weights > 0
    assert_same_model(
        quick().fit(X, y, sample_weight=weights),
        quick().fit(X[kept], y[kept], sample_weight=weights[kept]),
    )


def test_scale_of_the_weights_does_not_matter(blobs):
    X, y = blobs
    plain = quick().fit(X, y)
    assert_same_model(plain, quick().fit(X, y, sample_weight=np.full(96, 4.0)))


def test_weighty_images_are_fitted_better(blobs):
    """Two images alike with different targets: the prediction follows the weights."""
    X, y = blobs
    X, y = np.tile(X[:16], (2, 1)), np.r_[np.zeros(16), np.ones(16)]
    weights = np.r_[np.full(16, 1.0), np.full(16, 3.0)]
    model = quick(max_epochs=60).fit(X, y, sample_weight=weights)
    assert model.predict(X).mean() == pytest.approx(0.75, abs=0.1)
    assert model.target_scaler_.mean_[0] == pytest.approx(0.75)
    assert quick(max_epochs=60).fit(X, y).predict(X).mean() == pytest.approx(
        0.5, abs=0.1
    )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.full(96, -1.0), "Negative values"),
        (np.zeros(96), "[Zz]ero"),
        (np.full(96, np.nan), "contains NaN"),
        (np.ones(95), r"sample_weight.shape == \(95,\)"),
    ],
)
def test_bad_weights_are_refused(blobs, weights, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(*blobs, sample_weight=weights)


# partial_fit and warm_start


def test_parts_of_the_whole_are_epochs(blobs):
    model = quick()
    for _ in range(3):
        assert model.partial_fit(*blobs) is model
    assert_same_model(model, quick(max_epochs=3).fit(*blobs))


def test_partial_fit_goes_on_after_a_pickle(blobs):
    whole, parted = quick(), quick()
    for _ in range(3):
        whole.partial_fit(*blobs)
        parted = pickle.loads(pickle.dumps(parted.partial_fit(*blobs)))
    assert_same_model(whole, parted)


def test_first_part_decides_the_scaling(blobs):
    X, y = blobs
    model = quick().partial_fit(X[:50], y[:50])
    minimum, mean = model.image_scaler_.minimum_, model.target_scaler_.mean_
    model.partial_fit(X * 3, y * 3)
    assert model.image_scaler_.minimum_ == minimum
    assert model.target_scaler_.mean_ is mean
    assert model.n_iter_ == 2


def test_warm_start_goes_on_with_a_new_optimizer(blobs):
    model = quick(warm_start=True, max_epochs=4).fit(*blobs)
    history = model.history_
    model.fit(*blobs)
    assert model.history_["epoch"] == list(range(1, 9))
    assert model.history_["train_loss"][:4] == history["train_loss"]
    assert model.history_["train_loss"][4] < history["train_loss"][0]
    assert model.n_iter_ == 8
    # partial_fit keeps the optimizer, so that it ends elsewhere.
    parts = quick().partial_fit(*blobs).partial_fit(*blobs)
    starts = quick(warm_start=True, max_epochs=1).fit(*blobs).fit(*blobs)
    assert weights_differ(parts, starts)


def test_without_warm_start_fit_begins_anew(blobs):
    model = quick()
    assert_same_model(model.fit(*blobs).fit(*blobs), quick().fit(*blobs))


@pytest.mark.parametrize("way", ["partial_fit", "warm_start"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, X, y: (m.set_params(latent_dim=9), X, y), "'latent_dim' parameter"),
        (lambda m, X, y: (m.set_params(stretch="asinh"), X, y), "'stretch' parameter"),
        (lambda m, X, y: (m, X[:, :100], y), "100 features"),
        (lambda m, X, y: (m, X.reshape(-1, 9, 16), y), "must have images of 12 x 12"),
        (lambda m, X, y: (m.set_params(limits="robust"), X, y), "'limits' parameter"),
        (lambda m, X, y: (m.set_params(image_shape=(9, 16)), X, y), "image_shape_"),
        (lambda m, X, y: (m, X, y[:, 0]), "n_targets_"),
        (lambda m, X, y: (m, X, pd.DataFrame(y, columns=["a", "b"])), "target_names_"),
    ],
)
def test_going_on_with_something_else_is_refused(blobs, way, change, message):
    X, y = blobs
    model = quick(warm_start=way == "warm_start", max_epochs=1).fit(X, y)
    before = model.predict(X)
    model, X_other, y_other = change(model, X, y)
    fit = model.fit if way == "warm_start" else model.partial_fit
    with pytest.raises(ValueError, match=message):
        fit(X_other, y_other)
    np.testing.assert_array_equal(model.predict(X), before)


@pytest.mark.parametrize("params", [{"early_stopping": True}, {"checkpoint": "file"}])
def test_partial_fit_refuses_what_needs_the_whole(blobs, params):
    [name] = params
    with pytest.raises(ValueError, match=f"partial_fit does not support {name}"):
        quick(**params).partial_fit(*blobs)


def test_partial_fit_knows_no_schedule(blobs):
    scheduled, constant = (
        quick(lr_schedule=name).partial_fit(*blobs).partial_fit(*blobs)
        for name in ("one_cycle", "constant")
    )
    assert_same_model(scheduled, constant)
    assert scheduled.lr_schedule == "one_cycle"


@pytest.mark.parametrize("way", ["partial_fit", "warm_start"])
def test_results_have_the_form_of_the_last_training_set(blobs, way):
    X, y = blobs
    model = quick(warm_start=True, max_epochs=1)
    fit = getattr(model, way if way == "partial_fit" else "fit")
    fit(X.reshape(-1, 12, 12), y[:, 0])
    assert model.predict(X).shape == (96,)
    fit(X, y[:, :1])
    assert model.predict(X).shape == (96, 1)
    assert model.reconstruct(X).shape == (96, 144)


# The optimizer


class RecordRates(Callback):
    """Note the learning rate of each step."""

    def __init__(self):
        self.rates = []

    def on_batch_begin(self, net, training, **kwargs):
        if training:
            self.rates.append(net.optimizer_.param_groups[0]["lr"])


def test_one_cycle_is_that_of_pytorch(blobs):
    record, schedule = RecordRates(), {"lr": 0.02, "lr_schedule": "one_cycle"}
    quick(max_epochs=4, batch_size=32, callbacks=[record], **schedule).fit(*blobs)
    n_steps = 4 * -(-len(blobs[0]) // 32)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, n_steps)
    expected = []
    for _ in range(n_steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(record.rates, expected)
    assert max(expected) == pytest.approx(0.02, rel=0.05)


def test_warm_start_begins_a_new_cycle(blobs):
    record = RecordRates()
    model = quick(max_epochs=2, warm_start=True, lr_schedule="one_cycle")
    model.set_params(callbacks=[record]).fit(*blobs)
    first = list(record.rates)
    model.fit(*blobs)
    assert record.rates == first * 2


def test_weight_decay_shrinks_the_weights(blobs):
    def size(**params):
        weights = quick(max_epochs=4, lr=5e-3, **params).fit(*blobs).net_.get_weights()
        return sum(float((weight**2).sum()) for weight in weights.values())

    without = size(optimizer="adamw")
    assert without == pytest.approx(size(), rel=1e-3)
    assert size(optimizer="adamw", weight_decay=5.0) < 0.9 * without
    assert size(optimizer="adam", weight_decay=0.1) < 0.9 * without


# Early stopping


def test_early_stopping_ends_where_the_held_out_loss_no_longer_falls(blobs):
    model = quick(early_stopping=True, n_iter_no_change=2, tol=0.02, max_epochs=100)
    model.fit(*blobs)
    losses = model.history_["validation_loss"]
    assert len(losses) == model.n_iter_ == model.best_epoch_ + 2 < 100
    assert losses[model.best_epoch_ - 1] - min(losses) <= 0.02


@pytest.mark.parametrize(
    "change",
    [
        {"validation_fraction": 0.5},
        {"n_iter_no_change": 5},
        {"tol": 10.0},
        {"early_stopping": False},
    ],
)
def test_every_parameter_of_early_stopping_has_an_effect(blobs, change):
    settings = {
        "early_stopping": True,
        "n_iter_no_change": 1,
        "tol": 0.05,
        "max_epochs": 20,
    }
    model = quick(**settings).fit(*blobs)
    assert weights_differ(model, quick(**{**settings, **change}).fit(*blobs))


def test_held_out_images_are_not_trained_on(blobs):
    X, y = blobs
    settings = {"early_stopping": True, "validation_fraction": 0.25, "max_epochs": 1}
    model = quick(**settings).fit(X, y)
    changed = 0
    for row in range(12):
        other = y.copy()
        other[row] += 50
        changed += weights_differ(quick(**settings).fit(X, other), model)
    assert 0 < changed < 12


# Callbacks


def test_skorch_callbacks_are_called(blobs):
    class Recorder(Callback):
        def __init__(self):
            self.epochs = []

        def on_epoch_end(self, net, **kwargs):
            self.epochs.append(net.history[-1, "epoch"])

    recorder = Recorder()
    model = quick(callbacks=[("mine", recorder)]).fit(*blobs)
    assert recorder.epochs == [1, 2, 3]
    assert_same_model(model, quick().fit(*blobs))


def test_learning_rate_schedule_of_skorch_has_its_effect(blobs):
    schedule = LRScheduler("StepLR", step_size=1, gamma=0.1)
    model = quick(callbacks=[schedule]).fit(*blobs)
    assert weights_differ(model, quick().fit(*blobs))


def test_early_stopping_of_skorch_keeps_the_model(blobs):
    stopping = EarlyStopping("train_loss", patience=2, threshold=100.0)
    model = quick(callbacks=[stopping], max_epochs=20).fit(*blobs)
    assert model.n_iter_ == 3
    model.predict(blobs[0])


@pytest.mark.parametrize("bad", [[print], ["EarlyStopping"], [(1, EarlyStopping())]])
def test_what_is_no_skorch_callback_is_refused(blobs, bad):
    with pytest.raises(TypeError, match="'callbacks' parameter"):
        quick(callbacks=bad).fit(*blobs)


# Interrupts


INTERRUPTED_FIT = """
    import signal
    import numpy as np
    from tests.blobs import make_blobs_of_light, quick

    # A job in the background may have inherited that it ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    X, y = make_blobs_of_light(96)
    model = quick().fit(X, y)
    before = model.predict(X)
    model.set_params(max_epochs=10**6, warm_start={warm_start}, verbose=1)
    try:
        model.fit(X, y)
    except KeyboardInterrupt:
        same = np.array_equal(model.predict(X), before)
        print("interrupted", same, model.n_iter_)
        model.set_params(max_epochs=1).fit(X, y)
        print("fitted again", model.n_iter_)
"""


@pytest.mark.parametrize("warm_start", [False, True])
def test_ctrl_c_raises_and_leaves_the_model_as_it_was(warm_start):
    code = textwrap.dedent(INTERRUPTED_FIT.format(warm_start=warm_start))
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True
    )
    # The first line with an epoch tells that the training runs.
    for line in process.stdout:
        if line.split()[:1] == [f"4/{10**6 + 3}" if warm_start else f"1/{10**6}"]:
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=100)
    assert "interrupted True 3" in rest
    assert f"fitted again {4 if warm_start else 1}" in rest
    assert process.returncode == 0
