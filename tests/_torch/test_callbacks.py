import re

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from sklcae._noise import NoiseModel
from sklcae._torch import (
    PHYSICAL_LOSSES,
    RECONSTRUCTION_LOSSES,
    Architecture,
    Batch,
    LightScale,
    Partners,
    build_net,
    callbacks,
)
from sklcae._torch.losses import Logits, gaussian_likelihood
from sklcae._torch.networks.base import Encoding


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    images = rng.random((40, 1, 8, 8), dtype=np.float32)
    targets = rng.normal(size=(40, 2)).astype(np.float32)
    partners = Partners(np.zeros(40, dtype=int), np.ones(40, dtype=bool))
    return Batch(images, targets, partners=partners)


def make_net(variance=False, **kwargs):
    settings = {"batch_size": 40, "lr": 1e-3, "verbose": 1, "seed": 0, **kwargs}
    return build_net("paper", Architecture((1, 8, 8), 2, 4, variance), **settings)


ONE = np.ones((1, 1, 1))
LIGHT_SCALE = LightScale("linear", 0 * ONE, ONE, ONE, NoiseModel(ONE, 1e9))


# The log of the epochs ------------------------------------------------------------


def test_log_explains_the_loss_and_has_a_line_an_epoch(data, capsys):
    make_net(alpha=100.0, beta=1e-3).fit_batches(data, n_epochs=2)
    lines = capsys.readouterr().out.splitlines()
    total = "train_loss = reconstruction + 100 physical + 0.001 regularization"
    assert lines[0] == total
    explained = [line.split(":")[0].strip() for line in lines[1:4]]
    assert explained == ["reconstruction", "physical", "regularization"]
    assert re.split(r"  +", lines[4].strip()) == [
        "epoch",
        "train_loss",
        "reconstruction",
        "physical",
        "regularization",
        "seconds",
        "time left",
    ]
    assert [line.split()[0] for line in lines[5:]] == ["1/2", "2/2"]
    assert len({len(line) for line in lines[4:]}) == 1


def test_log_has_the_numbers_of_the_history(data, capsys):
    net = make_net(gamma=2.0, alpha=3.0)
    table = net.fit_batches(data, n_epochs=3).history_table()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(" + 3 physical + 0.0001 regularization + 2 exchange")
    assert lines[4].startswith("  exchange: ")
    columns = lines[5].split()[1:6]
    for epoch, line in enumerate(lines[6:]):
        numbers = [float(number) for number in line.split()[1:6]]
        for name, number in zip(columns, numbers, strict=True):
            key = name if name == "train_loss" else f"{name}_loss"
            assert number == pytest.approx(table[key][epoch], rel=1e-4)


def test_log_marks_the_best_epochs_and_names_the_one_that_is_kept(data, capsys):
    held_out = Batch(data.images[:20], -data.targets[:20])
    net = make_net(lr=3e-3, n_iter_no_change=3)
    net.fit_batches(data, n_epochs=50, validation=held_out)
    lines = capsys.readouterr().out.splitlines()
    header, *rows, last = lines[5:]
    assert lines[4].startswith("  validation_loss: ")
    assert last == f"The weights of epoch {net.best_epoch} are kept."
    assert len(rows) < 50
    marked = [row.split()[5] for row in rows if "*" in row]
    losses = net.history_table()["validation_loss"]
    assert marked == [f"{losses[n]:#.5g}*" for n in range(net.best_epoch)]
    assert len({len(line) for line in (header, *rows)}) == 1


def test_log_has_numbers_of_other_callbacks(data, capsys):
    class Record(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.history.record("mine", np.float32(0.25))
            net.history.record("event_mine", True)
            net.history.record("words", "none")

    make_net(callbacks=[Record()]).fit_batches(data, n_epochs=1)
    header, row = capsys.readouterr().out.splitlines()[-2:]
    assert re.split(r"  +", header)[-3:] == ["mine", "seconds", "time left"]
    assert row.split()[-3] == "0.25000"


def test_log_of_a_fit_that_continues(data, capsys):
    first, second, third = (make_net() for _ in range(3))
    first.fit_batches(data, n_epochs=2)
    state = first.get_training_state()
    capsys.readouterr()

    # After an interruption: of the same number of epochs.
    second.fit_batches(data, n_epochs=4, state=state)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("train_loss = ")
    assert [line.split()[0] for line in lines[5:]] == ["3/4", "4/4"]

    # After an earlier fit: the meaning of the loss is known.
    third.fit_batches(data, n_epochs=4, n_before=2, state=state)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["epoch", "3/6", "4/6", "5/6", "6/6"]


def test_time_left_is_that_of_the_epochs_to_come(data, capsys, monkeypatch):
    # The begin, and the ends of three epochs of 100 s.
    times = iter([1e3, 1.1e3, 1.2e3, 1.3e3])
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: next(times))
    make_net().fit_batches(data, n_epochs=3)
    rows = capsys.readouterr().out.splitlines()[-3:]
    assert [row.split()[-1] for row in rows] == ["0:03:20", "0:01:40", "0:00:00"]


def test_without_verbose_nothing_is_printed(data, capsys):
    net = make_net(verbose=0, n_iter_no_change=1, tol=10.0)
    net.fit_batches(data, n_epochs=3, validation=data)
    assert capsys.readouterr() == ("", "")


def test_log_knows_all_losses():
    assert set(callbacks.RECONSTRUCTION_MEANINGS) == set(RECONSTRUCTION_LOSSES)
    assert set(callbacks.PHYSICAL_MEANINGS) == set(PHYSICAL_LOSSES)


# What the log says of the losses ----------------------------------------------------


def test_chi_square_is_a_half_when_only_noise_is_left():
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.normal(0.5, 0.1, (5, 1, 100, 100)).astype("f4"))
    scale = LIGHT_SCALE._replace(noise=NoiseModel(0.01 * ONE, 1e9)).to("cpu")
    loss = RECONSTRUCTION_LOSSES["chi_square"]
    perfect = loss(Logits(torch.zeros_like(pixels)), Batch(pixels), scale)
    assert perfect.mean().item() == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("size", [1.0, 0.1])
def test_likelihood_of_errors_of_a_size_is_its_logarithm_and_a_half(size):
    targets = torch.randn(10**5, 1, generator=torch.Generator().manual_seed(0))
    known = torch.full_like(targets, 2 * np.log(size))
    encoding = Encoding(targets - size * targets, None, known)
    loss = gaussian_likelihood(encoding, targets).mean().item()
    assert loss == pytest.approx(np.log(size) + 0.5, abs=0.02)


def test_perfect_images_have_a_cross_entropy_above_zero():
    pixels = torch.full((1, 1, 4, 4), 0.3)
    loss = RECONSTRUCTION_LOSSES["binary_cross_entropy"]
    assert loss(Logits(torch.logit(pixels)), Batch(pixels), None).mean() > 0.1
