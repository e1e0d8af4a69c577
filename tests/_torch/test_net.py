import copy

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping
from torch.utils.data import TensorDataset

from sklcae._torch import EpochHook, Stamps, _net, build_net, check_device
from sklcae._torch._stamps import StampDataset


def small_net(**kwargs):
    settings = {
        "alpha": 1.0,
        "beta": 1e-2,
        "reconstruction_loss": "binary_cross_entropy",
        "batch_size": 32,
        "lr": 1e-3,
        "verbose": 0,
        "seed": 0,
    }
    return build_net("paper", (1, 12, 12), 2, 8, **{**settings, **kwargs})


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    images = rng.random((80, 1, 12, 12), dtype=np.float32)
    return Stamps(images, rng.normal(size=(80, 2)).astype(np.float32))


def fit(net, stamps, n_epochs=2, **kwargs):
    return net.fit_arrays(stamps, n_epochs=n_epochs, **kwargs)


def assert_same_weights(first, second):
    second = second.get_weights()
    for name, weight in first.get_weights().items():
        np.testing.assert_array_equal(weight, second[name])


def test_training_is_the_plain_loop_of_equation_2(data):
    """Same weights, order and optimizer, whole batches: the same weights come out."""
    net, twin = small_net(), small_net()
    module = twin.module_
    fit(net, data)

    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    images, targets = torch.from_numpy(data.images), torch.from_numpy(data.targets)
    rows = TensorDataset(torch.arange(len(images)))
    batches = twin.get_iterator(rows, training=True)
    for _ in range(2):
        for (batch,) in batches:
            optimizer.zero_grad()
            z_phy, z_rest, logits = module(images[batch])
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                logits, images[batch]
            )
            loss = loss + ((z_phy - targets[batch]) ** 2).mean()
            (loss + 1e-2 * z_rest.abs().mean()).backward()
            optimizer.step()
    for name, weight in module.state_dict().items():
        # Adam turns a gradient's rounding error into a part of a step of lr=1e-3.
        np.testing.assert_allclose(
            net.get_weights()[name], weight.numpy(), rtol=0, atol=2e-4
        )


def test_micro_batches_add_up_to_the_batch(data, monkeypatch):
    gradients = []
    for pixels in (10**9, 144 * 3):
        monkeypatch.setattr(_net, "MICRO_BATCH_PIXELS", pixels)
        net = small_net(batch_size=80)
        net.history.new_epoch()
        net.history.new_batch()
        net._map_parts = lambda function, parts: list(map(function, parts))
        step = net.train_step_single(StampDataset(data)[:])
        named = net.module_.named_parameters()
        gradients.append({"loss": step["loss"]} | {n: p.grad for n, p in named})
    for name, whole in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], whole, rtol=1e-4, atol=1e-7)


def test_history_adds_up_to_equation_2(data):
    table = fit(small_net(alpha=2.0, beta=3.0), data).history_table()
    assert table["epoch"] == [1, 2]
    total = (
        np.array(table["reconstruction_loss"])
        + 2 * np.array(table["physical_loss"])
        + 3 * np.array(table["regularization_loss"])
    )
    np.testing.assert_allclose(table["train_loss"], total, rtol=1e-5)
    assert all(duration > 0 for duration in table["duration"])


def test_get_loss_is_the_loss_of_the_training_step(data):
    net = small_net()
    stamps = StampDataset(data)[:]
    loss = net.get_loss(net.infer(stamps.images), stamps)
    net.batch_size = len(stamps.images)
    fit(net, data)
    assert loss.item() == pytest.approx(net.history[0, "train_loss"], rel=1e-5)


def test_inference_is_bitwise_the_same_for_any_split_and_order():
    net = small_net()
    images = np.random.default_rng(1).random((100, 1, 12, 12), dtype=np.float32)
    latents = net.encode(images)
    single = np.concatenate([net.encode(images[i : i + 1]) for i in range(100)])
    np.testing.assert_array_equal(latents, single)
    np.testing.assert_array_equal(latents[::-1], net.encode(images[::-1].copy()))
    np.testing.assert_array_equal(net.decode(latents)[7:40], net.decode(latents[7:40]))


def test_seed_decides_weights_and_order(data):
    first, same, other = (
        fit(small_net(seed=seed), data).get_weights() for seed in (0, 0, 1)
    )
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert not np.array_equal(first["conv1.weight"], other["conv1.weight"])


def test_global_generators_are_left_alone(data):
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    target_maps = (np.tile(np.eye(2), (8, 1, 1)), np.zeros((8, 2)))
    fit(small_net(target_maps=target_maps), data, validation=data)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def test_keyboard_interrupt_is_raised(data, monkeypatch):
    net = small_net()

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(net, "train_step_single", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(net, data)


def test_weights_make_the_round_trip():
    net, other = small_net(seed=0), small_net(seed=1)
    images = np.random.default_rng(1).random((3, 1, 12, 12), dtype=np.float32)
    assert not np.array_equal(net.encode(images), other.encode(images))
    other.set_weights(net.get_weights())
    np.testing.assert_array_equal(net.encode(images), other.encode(images))


@pytest.mark.parametrize("device", ["warp", "cuda:99", "", "hpu", "meta"])
def test_unusable_device_is_named(device):
    with pytest.raises(ValueError, match=f"'device' parameter.*Got {device!r}"):
        check_device(device)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_training_and_inference_are_bitwise_the_same_for_any_threads(data, n_threads):
    before = torch.get_num_threads()
    expected = fit(small_net(), data)
    try:
        torch.set_num_threads(n_threads)
        net = fit(small_net(), data)
        latents = net.encode(data.images)
        images = net.decode(latents)
        assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
    assert_same_weights(net, expected)
    np.testing.assert_array_equal(latents, expected.encode(data.images))
    np.testing.assert_array_equal(images, expected.decode(latents))


@pytest.mark.parametrize("validation", [False, True])
def test_training_goes_on_bitwise_from_its_state(data, validation):
    held_out = Stamps(*(part[:20] for part in data[:2])) if validation else None
    whole, first, second = small_net(), small_net(), small_net(seed=5)
    fit(whole, data, n_epochs=5, validation=held_out)
    states = []
    hook = EpochHook(lambda net: None, lambda net: states.append(copied_state(net)))
    fit(first, data, n_epochs=2, validation=held_out, epoch_hook=hook)

    fit(second, data, n_epochs=5, validation=held_out, state=states[-1])

    assert_same_weights(second, whole)
    history, expected = second.history_table(), whole.history_table()
    assert ("validation_loss" in history) == validation
    for name in set(history) - {"duration"}:
        assert history[name] == expected[name], name


def copied_state(net):
    return copy.deepcopy(net.get_training_state())


def test_validation_loss_is_equation_2_of_the_held_out_stamps(data):
    net = fit(small_net(batch_size=7), data, validation=data)
    stamps = StampDataset(data)[:]
    with torch.no_grad():
        loss = net.get_loss(net.infer(stamps.images), stamps)
    losses = net.history_table()["validation_loss"]
    assert losses[-1] == pytest.approx(loss.item(), rel=1e-5)


def test_early_stopping_takes_the_weights_of_the_best_epoch(data):
    held_out = Stamps(data.images[:20], -data.targets[:20])
    kept = []
    hook = EpochHook(lambda net: None, lambda net: kept.append(copied_state(net)))
    net = small_net(n_iter_no_change=3, lr=3e-3)
    fit(net, data, n_epochs=60, validation=held_out, epoch_hook=hook)

    losses = net.history_table()["validation_loss"]
    assert len(losses) == net.best_epoch + 3 < 60
    best = kept[net.best_epoch - 1]["weights"]
    for name, weight in net.get_weights().items():
        np.testing.assert_array_equal(weight, best[name])


def test_hook_stops_the_training_after_all_others_had_their_say(data):
    class Counter(Callback):
        count = 0

        def on_epoch_end(self, net, **kwargs):
            self.count += 1

    counter = Counter()
    hook = EpochHook(lambda net: None, lambda net: True)
    net = fit(small_net(callbacks=[counter]), data, n_epochs=9, epoch_hook=hook)
    assert len(net.history_table()["epoch"]) == counter.count == 1


def test_skorch_early_stopping_is_no_interrupt(data):
    stopping = EarlyStopping("train_loss", patience=2, threshold=10.0)
    net = fit(small_net(callbacks=[stopping]), data, n_epochs=9)
    assert len(net.history_table()["epoch"]) == 3


def test_net_does_not_keep_the_data(data):
    hook = EpochHook(lambda net: None, lambda net: False)
    net = fit(small_net(), data, validation=data, epoch_hook=hook)
    held = [name for name, value in vars(net).items() if isinstance(value, Stamps)]
    assert held == []
    assert net.train_split is None
    assert not [cb for _, cb in net.callbacks_ if isinstance(cb, EpochHook)]
