import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from sklcae._torch import _net, build_net, check_device


def small_net(**kwargs):
    settings = {
        "alpha": 1.0,
        "beta": 1e-2,
        "reconstruction_loss": "binary_cross_entropy",
        "max_epochs": 2,
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
    return images, rng.normal(size=(80, 2)).astype(np.float32)


def test_training_is_the_plain_loop_of_equation_2(data):
    """Same weights, order and optimizer, whole batches: the same weights come out."""
    images, targets = data
    net, twin = small_net(), small_net()
    module = twin.module_
    net.fit_arrays(images, targets)

    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    images, targets = torch.from_numpy(images), torch.from_numpy(targets)
    batches = twin.get_iterator(TensorDataset(torch.arange(len(images))))
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
        step = net.train_step_single(tuple(map(torch.from_numpy, data)))
        named = net.module_.named_parameters()
        gradients.append({"loss": step["loss"]} | {n: p.grad for n, p in named})
    for name, whole in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], whole, rtol=1e-4, atol=1e-7)


def test_history_adds_up_to_equation_2(data):
    table = small_net(alpha=2.0, beta=3.0).fit_arrays(*data).history_table()
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
    images, targets = map(torch.from_numpy, data)
    output = net.infer(images)
    loss = net.get_loss(output, targets, X=images)
    net.batch_size = len(images)
    net.fit_arrays(*data)
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
        small_net(seed=seed).fit_arrays(*data).get_weights() for seed in (0, 0, 1)
    )
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert not np.array_equal(first["conv1.weight"], other["conv1.weight"])


def test_global_generators_are_left_alone(data):
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    small_net(target_maps=(np.tile(np.eye(2), (8, 1, 1)), np.zeros((8, 2)))).fit_arrays(
        *data
    )
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def test_keyboard_interrupt_is_raised(data, monkeypatch):
    net = small_net()

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(net, "train_step_single", interrupt)
    with pytest.raises(KeyboardInterrupt):
        net.fit_arrays(*data)


def test_weights_make_the_round_trip():
    net, other = small_net(seed=0), small_net(seed=1)
    images = np.random.default_rng(1).random((3, 1, 12, 12), dtype=np.float32)
    assert not np.array_equal(net.encode(images), other.encode(images))
    other.set_weights(net.get_weights())
    np.testing.assert_array_equal(net.encode(images), other.encode(images))


@pytest.mark.parametrize("device", ["warp", "cuda:99", ""])
def test_unusable_device_is_named(device):
    with pytest.raises(ValueError, match=f"'device' parameter.*Got {device!r}"):
        check_device(device)
