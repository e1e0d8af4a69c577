import copy
import threading

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping, Freezer
from torch.nn import functional as F

from sklcae._noise import NoiseModel
from sklcae._torch import (
    Architecture,
    Batch,
    EpochHook,
    LightScale,
    Partners,
    build_net,
    check_device,
    inference,
    training,
)
from sklcae._torch.augmentation import dihedral_transform
from sklcae._torch.batches import BatchDataset
from sklcae._torch.networks import paper
from sklcae.networks import (
    NeuralFieldDecoder,
    PaperDecoder,
    PaperEncoder,
    StridedEncoder,
    combine,
)


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
    variance = kwargs.pop("predicts_variance", False)
    architecture = Architecture((1, 12, 12), 2, 8, variance)
    return build_net("paper", architecture, **{**settings, **kwargs})


EVERY_GAMMA = pytest.mark.parametrize("gamma", [0.0, 0.7])


@pytest.fixture
def data():
    """Batch in groups of different sizes, a few of them alone or without a target."""
    rng = np.random.default_rng(0)
    images = rng.random((80, 1, 12, 12), dtype=np.float32)
    targets = rng.normal(size=(80, 2)).astype(np.float32)
    partners = Partners(rng.integers(0, 30, 80), rng.random(80) > 0.1)
    return Batch(images, targets, partners=partners)


def paired(stamps):
    """Return the stamps in pairs: of each, one partner is all there is to draw."""
    groups = np.arange(len(stamps.images)) // 2
    return stamps._replace(partners=Partners(groups, np.ones(len(groups), dtype=bool)))


def fit(net, stamps, n_epochs=2, **kwargs):
    return net.fit_batches(stamps, n_epochs=n_epochs, **kwargs)


def assert_same_weights(first, second):
    second = second.get_weights()
    for name, weight in first.get_weights().items():
        np.testing.assert_array_equal(weight, second[name])


@EVERY_GAMMA
def test_training_is_the_plain_loop_of_equation_2_and_the_exchange(data, gamma):
    """Same weights, order and optimizer, whole batches: the same weights come out."""
    net, twin = small_net(gamma=gamma), small_net()
    module = twin.module_
    fit(net, data)

    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    batches = twin.get_iterator(BatchDataset(data, twin.generator), training=True)
    for _ in range(2):
        for batch in batches:
            optimizer.zero_grad()
            plain_loss(module, batch, gamma).backward()
            optimizer.step()
    for name, weight in module.state_dict().items():
        # Adam turns a gradient's rounding error into a part of a step of lr=1e-3.
        np.testing.assert_allclose(
            net.get_weights()[name], weight.numpy(), rtol=0, atol=2e-4
        )


def plain_loss(module, batch, gamma):
    images, targets, partners = batch.images, batch.targets, batch.partners
    z_phy, z_rest, _ = module.encode(batch)
    logits = module.decode(torch.cat([z_phy, z_rest], 1))
    loss = F.binary_cross_entropy_with_logits(logits, images)
    loss = loss + ((z_phy - targets) ** 2).mean() + 1e-2 * z_rest.abs().mean()
    exchanged = module.decode(torch.cat([partners.targets, z_rest], 1))
    return loss + gamma * F.binary_cross_entropy_with_logits(
        exchanged, partners.images, partners.image_weights[:, None, None, None]
    )


def test_partners_are_drawn_anew_in_each_epoch(data, monkeypatch):
    net, drawn = small_net(gamma=0.7, batch_size=80), []
    step = net.train_step_single

    def record(batch, **kwargs):
        order = batch.images[:, 0, 0, 0].argsort()
        drawn.append(batch.partners.targets[order])
        return step(batch, **kwargs)

    monkeypatch.setattr(net, "train_step_single", record)
    fit(net, data)
    assert not torch.equal(*drawn)


@EVERY_GAMMA
def test_micro_batches_add_up_to_the_batch(data, monkeypatch, gamma):
    gradients = []
    for pixels in (10**9, 144 * 3):
        monkeypatch.setattr(training, "MICRO_BATCH_PIXELS", pixels)
        net = small_net(batch_size=80, gamma=gamma)
        step = net.train_step_single(BatchDataset(data)[range(80)])
        named = net.module_.named_parameters()
        gradients.append({"loss": step["loss"]} | {n: p.grad for n, p in named})
    for name, whole in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], whole, rtol=1e-4, atol=1e-7)


@EVERY_GAMMA
def test_history_adds_up_to_equation_2_and_the_exchange(data, gamma):
    table = fit(small_net(alpha=2.0, beta=3.0, gamma=gamma), data).history_table()
    assert table["epoch"] == [1, 2]
    assert ("exchange_loss" in table) == (gamma > 0)
    total = (
        np.array(table["reconstruction_loss"])
        + 2 * np.array(table["physical_loss"])
        + 3 * np.array(table["regularization_loss"])
        + gamma * np.array(table.get("exchange_loss", 0))
    )
    np.testing.assert_allclose(table["train_loss"], total, rtol=1e-5)
    assert all(duration > 0 for duration in table["duration"])


ONE = np.ones((1, 1, 1))
LIGHT_SCALE = LightScale(
    "asinh", -0.5 * ONE, 3.0 * ONE, 2.0 * ONE, NoiseModel(4.0 * ONE, 1.5)
)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gamma": 0.7},
        {"gamma": 0.7, "reconstruction_loss": "chi_square", "light_scale": LIGHT_SCALE},
        {"predicts_variance": True, "physical_loss": "gaussian_likelihood"},
    ],
)
@pytest.mark.parametrize("incomplete", [False, True])
def test_get_loss_is_the_loss_of_the_training_step(data, settings, incomplete):
    net, data = small_net(**settings), paired(data)
    if incomplete:
        weights = data.targets[:, 0] ** 2
        mask = np.random.default_rng(1).random(data.images.shape) > 0.3
        data = data._replace(image_weights=weights, mask=mask)
    stamps = BatchDataset(data)[range(80)]
    loss = net.get_loss(net.infer(stamps), stamps)
    net.batch_size = len(stamps.images)
    fit(net, data)
    assert loss.item() == pytest.approx(net.history[0, "train_loss"], rel=1e-5)


def test_without_gamma_no_partners_are_needed(data):
    alone = fit(small_net(), data._replace(partners=None), validation=data)
    assert "exchange_loss" not in alone.history_table()
    stamps = BatchDataset(data)[range(80)]
    terms = alone._loss_terms(alone.infer(stamps), stamps)
    assert terms.exchange == 0


def test_images_weigh_in_the_exchange_what_they_do_elsewhere(data):
    """Batch that weigh nothing might as well not be there, but as partners."""
    weights = np.repeat(np.float32([2.0, 0.0]), 40)
    weighted = paired(data)._replace(image_weights=weights)
    net = small_net(gamma=0.7, batch_size=80)
    losses = []
    for rows in (range(80), range(40)):
        stamps = BatchDataset(weighted)[rows]
        terms = net._loss_terms(net.infer(stamps), stamps)
        losses.append(terms.exchange.item() * len(stamps.images))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_variances_are_bitwise_the_same_for_any_split(data):
    net = small_net(predicts_variance=True)
    z_phy, variance = net.read_targets(data.images, elements=(0, 5))
    assert z_phy.shape == variance.shape == (80, 2, 2)
    assert z_phy.dtype == variance.dtype == np.float32
    parts = [net.read_targets(data.images[[i]], elements=(0, 5)) for i in range(80)]
    for whole, part in zip((z_phy, variance), zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(whole, np.concatenate(part))
    np.testing.assert_array_equal(z_phy[:, 0], net.encode(data.images)[:, :2])
    with torch.no_grad():
        encoding = net.module_.encode(Batch(torch.from_numpy(data.images)))
    expected = encoding.log_variance.exp()
    np.testing.assert_allclose(variance[:, 0], expected, rtol=1e-4)


def test_optimizer_steps_on_a_thread_of_the_executor(data):
    """The thread that trains would start threads of PyTorch for large weights."""
    before = torch.get_num_threads()
    net, names = small_net(), []
    net.optimizer_.register_step_pre_hook(
        lambda *_: names.append(threading.current_thread().name)
    )
    try:
        torch.set_num_threads(2)
        fit(net, data)
    finally:
        torch.set_num_threads(before)
    assert set(names) == {"sklcae"}


def test_predicted_targets_need_no_z_rest(data):
    net, calls = small_net(), []
    net.module_.encoder.dense_rest.register_forward_hook(
        lambda *_: calls.append("z_rest")
    )
    net.read_targets(data.images)
    assert not calls
    net.encode(data.images)
    assert calls


class Shifted(PaperEncoder):
    """An encoder from outside that changes what its base class returns."""

    def forward(self, batch):
        encoding = super().forward(batch)
        return encoding._replace(z_phy=encoding.z_phy + 1)


def test_predicted_targets_are_those_of_an_encoder_from_outside(data):
    network = combine(Shifted, PaperDecoder)
    net = build_net(network, Architecture((1, 12, 12), 2, 8), seed=0)
    z_phy, _ = net.read_targets(data.images)
    np.testing.assert_array_equal(z_phy[:, 0], net.encode(data.images)[:, :2])
    np.testing.assert_allclose(
        z_phy, small_net().read_targets(data.images)[0] + 1, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 13, 6), (1, 1, 9)])
def test_layout_of_onednn_changes_rounding_only(shape, monkeypatch):
    net = build_net("paper", Architecture(shape, 2, 8, True), seed=0)
    images = np.random.default_rng(0).random((40, *shape), dtype=np.float32)
    in_blocks = net.encode(images), *net.read_targets(images)
    monkeypatch.setattr(paper, "takes_blocks", lambda images: False)
    plain = net.encode(images), *net.read_targets(images)
    for ours, expected in zip(in_blocks, plain, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_layout_of_onednn_is_for_inference_alone():
    """It has no gradients."""
    images = torch.rand(2, 1, 8, 8)
    assert not paper.takes_blocks(images)
    with torch.no_grad():
        assert not paper.takes_blocks(images)
    with torch.inference_mode():
        assert not paper.takes_blocks(images.double())
        known = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
        assert paper.takes_blocks(images) == known


def test_network_without_variances_has_none(data):
    z_phy, variance = small_net().read_targets(data.images)
    assert variance is None
    assert z_phy.shape == (80, 1, 2)


def test_targets_of_turned_images_are_those_of_images_that_were_turned_before(data):
    net = small_net(predicts_variance=True)
    both = net.read_targets(data.images, elements=range(8))
    for element in range(8):
        turned = dihedral_transform(torch.from_numpy(data.images), element).numpy()
        for values, expected in zip(both, net.read_targets(turned), strict=True):
            np.testing.assert_array_equal(values[:, element], expected[:, 0])


def test_inference_takes_any_executor(data):
    """The network's own thread pool changes no bit of the result."""
    net, calls = small_net(), []

    def executor(function, parts):
        calls.append(len(parts))
        return [function(part) for part in reversed(parts)][::-1]

    latents = inference.encode(net.module_, data.images, executor)
    np.testing.assert_array_equal(latents, net.encode(data.images))
    # The first of three batches of 32 shows the form of the result.
    assert calls == [1, 2]


def test_a_step_runs_alone_and_is_that_of_the_training(data):
    """Nothing has to be prepared but the net."""
    data = paired(data)
    net, trained = (small_net(gamma=0.7, batch_size=80) for _ in range(2))
    step = net.train_step_single(BatchDataset(data)[range(80)])
    fit(trained, data, n_epochs=1)
    loss = trained.history[0, "train_loss"]
    assert step["loss"].item() == pytest.approx(loss, rel=1e-5)
    assert step["terms"].exchange > 0
    assert all(p.grad is not None for p in net.module_.parameters())


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
    assert not np.array_equal(
        first["encoder.conv1.weight"], other["encoder.conv1.weight"]
    )


@EVERY_GAMMA
def test_global_generators_are_left_alone(data, gamma):
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    target_maps = (np.tile(np.eye(2), (8, 1, 1)), np.zeros((8, 2)))
    fit(small_net(target_maps=target_maps, gamma=gamma), data, validation=data)
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
@EVERY_GAMMA
def test_training_and_inference_are_bitwise_the_same_for_any_threads(
    data, n_threads, gamma, monkeypatch
):
    # Four parts of a batch of 32.
    monkeypatch.setattr(training, "MICRO_BATCH_PIXELS", 144 * 8)
    before = torch.get_num_threads()
    expected = fit(small_net(gamma=gamma), data)
    try:
        torch.set_num_threads(n_threads)
        net = fit(small_net(gamma=gamma), data)
        latents = net.encode(data.images)
        images = net.decode(latents)
        assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
    assert_same_weights(net, expected)
    np.testing.assert_array_equal(latents, expected.encode(data.images))
    np.testing.assert_array_equal(images, expected.decode(latents))


def held_out_of(data):
    return paired(Batch(data.images[:20], -data.targets[:20]))


@pytest.mark.parametrize("validation", [False, True])
@EVERY_GAMMA
def test_training_goes_on_bitwise_from_its_state(data, validation, gamma):
    held_out = held_out_of(data) if validation else None
    # Turned stamps: their elements and the partners are drawn in turns.
    maps = (np.tile(np.eye(2), (8, 1, 1)), np.zeros((8, 2)))
    whole, first, second = (
        small_net(seed=seed, gamma=gamma, target_maps=maps) for seed in (0, 0, 5)
    )
    fit(whole, data, n_epochs=5, validation=held_out)
    states = []
    hook = EpochHook(lambda net: None, lambda net: states.append(copied_state(net)))
    fit(first, data, n_epochs=2, validation=held_out, epoch_hook=hook)

    weights, state = states[-1]
    second.set_weights(weights)
    fit(second, data, n_epochs=5, validation=held_out, state=state)

    assert_same_weights(second, whole)
    history, expected = second.history_table(), whole.history_table()
    assert ("validation_loss" in history) == validation
    for name in set(history) - {"duration"}:
        assert history[name] == expected[name], name


def copied_state(net):
    return copy.deepcopy((net.get_weights(), net.get_training_state()))


@EVERY_GAMMA
def test_validation_loss_is_that_of_the_held_out_stamps(data, gamma):
    net = fit(small_net(batch_size=7, gamma=gamma), data, validation=data)
    stamps = BatchDataset(data)[range(80)]
    with torch.no_grad():
        loss = net.get_loss(net.infer(stamps), stamps)
    losses = net.history_table()["validation_loss"]
    assert losses[-1] == pytest.approx(loss.item(), rel=1e-5)


def test_validation_has_the_same_partners_in_each_epoch(data):
    net = fit(small_net(gamma=0.7, lr=0.0), data, n_epochs=4, validation=data)
    table = net.history_table()
    assert len(set(table["validation_loss"])) == 1
    assert len(set(table["exchange_loss"])) == 4


@EVERY_GAMMA
def test_early_stopping_takes_the_weights_of_the_best_epoch(data, gamma):
    held_out = held_out_of(data)
    kept = []
    hook = EpochHook(lambda net: None, lambda net: kept.append(copied_state(net)))
    net = small_net(n_iter_no_change=3, lr=3e-3, gamma=gamma)
    fit(net, data, n_epochs=60, validation=held_out, epoch_hook=hook)

    losses = net.history_table()["validation_loss"]
    assert len(losses) == net.best_epoch + 3 < 60
    best, _ = kept[net.best_epoch - 1]
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
    held = [name for name, value in vars(net).items() if isinstance(value, Batch)]
    assert held == []
    assert net.train_split is None
    assert not [cb for _, cb in net.callbacks_ if isinstance(cb, EpochHook)]


def test_weights_that_overflow_in_the_last_step_are_an_error(data):
    net = small_net(lr=1e39, batch_size=80)
    with pytest.raises(
        ValueError, match=r"diverged in epoch 1: its weights.*lr=1e\+39"
    ):
        fit(net, data, n_epochs=1)


def test_loss_that_overflows_by_its_weights_is_an_error(data):
    net = small_net(alpha=1e300, batch_size=80)
    with pytest.raises(
        ValueError, match=r"diverged in epoch 1: its loss.*alpha=1e\+300"
    ):
        fit(net, data, n_epochs=1)


def test_held_out_image_whose_loss_overflows_is_an_error(data):
    images = data.images[:20].copy()
    images[3, 0, 5, 5] = 1e25
    held_out = held_out_of(data)._replace(images=images)
    net = small_net(reconstruction_loss="squared_error")
    with pytest.raises(
        ValueError, match=r"held-out.*reconstruction_loss=inf.*in epoch 1\."
    ):
        fit(net, data, validation=held_out)


def test_diverged_weights_are_not_taken_for_a_held_out_image(data):
    net = small_net(lr=1e39, batch_size=80)
    with pytest.raises(ValueError, match="diverged in epoch 1: its weights"):
        fit(net, data, n_epochs=1, validation=held_out_of(data))


class FreezeAtBegin(Callback):
    def on_train_begin(self, net, **kwargs):
        for parameter in net.module_.encoder.parameters():
            parameter.requires_grad_(False)


@pytest.mark.parametrize("freeze", [Freezer("encoder.*"), FreezeAtBegin()])
def test_frozen_weights_stay_and_the_others_are_trained(data, freeze):
    net = small_net(callbacks=[freeze], optimizer="adamw", weight_decay=0.1)
    before = copy.deepcopy(net.get_weights())
    fit(net, data)
    for name, weight in net.get_weights().items():
        same = np.array_equal(weight, before[name])
        assert same == name.startswith("encoder.")


def test_frozen_weights_are_trained_by_the_next_fit(data):
    net = fit(small_net(callbacks=[FreezeAtBegin()]), data)
    before = copy.deepcopy(net.get_weights())
    following = fit(small_net(module=net.module_), data)
    for name, weight in following.get_weights().items():
        assert not np.array_equal(weight, before[name])
    assert_same_weights(net, fit(small_net(callbacks=[FreezeAtBegin()]), data))


def test_some_weights_must_be_trained(data):
    with pytest.raises(ValueError, match=r"'callbacks' parameter.*froze all"):
        fit(small_net(callbacks=[Freezer("*")]), data)


def test_batch_size_above_the_number_of_stamps_takes_all(data):
    nets = [fit(small_net(batch_size=size), data) for size in (80, 2**63)]
    assert_same_weights(*nets)
    assert nets[1].history[0, "train_batch_count"] == 1


def test_executor_of_a_training_ends_with_it(data, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyError("an error")

    net = small_net()
    with monkeypatch.context() as patch:
        patch.setattr(net, "on_batch_end", fail)
        with pytest.raises(KeyError, match="an error"):
            fit(net, data)
    assert net.train_step_single(BatchDataset(data)[range(80)])["loss"] > 0


def spots(n, rng):
    """Gaussian spots in [0, 1]; their place, width and brightness standardised."""
    low, high = [6.0, 6.0, 1.2, 0.3], [10.0, 10.0, 2.5, 0.8]
    values = rng.uniform(low, high, (n, 4))
    x, y, width, peak = values.T[:, :, None, None]
    rows, columns = np.mgrid[:16, :16] + 0.5
    light = peak * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * width**2))
    targets = (values - np.mean([low, high], axis=0)) / np.ptp([low, high], axis=0)
    images = 0.1 + light[:, None]
    return Batch(images.astype(np.float32), (12**0.5 * targets).astype(np.float32))


def test_exchange_teaches_the_targets_to_decide_the_image():
    """Spots differ in their targets only: all are of one group."""
    everyone = Partners(np.zeros(256, dtype=int), np.ones(256, dtype=bool))
    stamps = spots(256, np.random.default_rng(0))._replace(partners=everyone)
    net = build_net(
        "neural_field",
        Architecture((1, 16, 16), 4, 6),
        seed=0,
        gamma=1.0,
        reconstruction_loss="squared_error",
        lr_schedule="one_cycle",
        batch_size=32,
        lr=3e-3,
        verbose=0,
    )
    losses = fit(net, stamps, n_epochs=20).history_table()["exchange_loss"]
    # It falls 150 to 250 times, depending on the seed.
    assert losses[-1] < losses[0] / 50

    fresh = spots(50, np.random.default_rng(1))
    z_rest = net.encode(stamps.images[:50])[:, 4:]
    errors = net.decode(np.hstack([fresh.targets, z_rest])) - fresh.images
    # 0.007 to 0.012, and 0.29 without an exchange loss.
    assert (errors**2).mean() < 0.04 * fresh.images.var(axis=0).mean()


def test_the_exchanged_image_has_the_psf_and_noise_of_the_partner():
    """It shows the partner: its targets, seen by its telescope."""
    rng = np.random.default_rng(0)
    network = combine(StridedEncoder, NeuralFieldDecoder)
    noise = NoiseModel(np.ones((1, 1, 1)), 2.0)
    scale = LightScale("asinh", *np.reshape([-0.1, 6.0, 3.0], (3, 1, 1, 1)), noise)
    sizes = Architecture((1, 8, 8), 2, 6, has_psf=True)
    loss = {"gamma": 1.0, "reconstruction_loss": "chi_square", "light_scale": scale}
    net = build_net(network, sizes, seed=0, **loss)
    size = (20, 1, 8, 8)
    images, variance, psf = (rng.random(size, np.float32) for _ in range(3))
    targets = rng.normal(size=(20, 2)).astype(np.float32)
    partners = Partners(np.arange(20) // 2, np.ones(20, bool))
    data = Batch(images, targets, variance=variance, psf=psf, partners=partners)
    rows = np.arange(20)
    batch = BatchDataset(data)[rows]
    other = rows ^ 1
    with torch.no_grad():
        output = net.infer(batch)
        value = net._loss_terms(output, batch).exchange
        latents = torch.cat([batch.targets[other], output.encoding.z_rest], dim=1)
        logits = net.module_.decode(latents, batch.psf[other])
        light = net.light_scale.light(torch.sigmoid(logits))
        error = net.light_scale.light(batch.images[other]) - light
        expected = error**2 / 2 / (batch.variance[other] + light.clamp(min=0) / 2)
    torch.testing.assert_close(value, expected.mean())
