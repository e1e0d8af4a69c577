import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sklcae._torch import NETWORKS, build_net
from sklcae._torch._layers import (
    SoftplusImage,
    UpsampleConv2d,
    initialize_weights,
    max_pool,
    pooled_size,
)
from sklcae._torch._networks import PaperNetwork


def upsample_then_convolve(layer, x):
    upsampled = F.interpolate(x, scale_factor=2, mode="nearest")
    return F.conv2d(upsampled, layer.weight, layer.bias, padding=1)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (4, 4), (5, 7)])
def test_folded_layer_equals_upsampling_and_convolution(size):
    torch.manual_seed(0)
    layer = UpsampleConv2d(3, 5).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)

    folded, plain = layer(x), upsample_then_convolve(layer, x)

    torch.testing.assert_close(folded, plain, rtol=0, atol=1e-12)
    inputs = (x, layer.weight, layer.bias)
    seed = torch.randn_like(plain)
    for ours, reference in zip(
        torch.autograd.grad(folded, inputs, seed),
        torch.autograd.grad(plain, inputs, seed),
        strict=True,
    ):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("size", "pooled"), [(1, 1), (2, 1), (3, 2), (64, 32)])
def test_pooled_size_is_that_of_the_pooling(size, pooled):
    assert pooled_size(size) == pooled
    x = torch.zeros(1, 1, size, size)
    assert F.max_pool2d(x, 2, ceil_mode=True).shape[-1] == pooled


def test_initial_weights_are_distributed_as_pytorch_has_them():
    network, reference = (PaperNetwork((1, 32, 32), 2, 64) for _ in range(2))
    initialize_weights(network, torch.Generator().manual_seed(0))

    expected = dict(reference.named_parameters())
    for name, parameter in network.named_parameters():
        if parameter.numel() > 1000:
            std = expected[name].std().item()
            assert parameter.std().item() == pytest.approx(std, rel=0.05)
            assert abs(parameter.mean()) < 0.2 * std
            largest = expected[name].abs().max().item()
            assert parameter.abs().max().item() == pytest.approx(largest, rel=0.05)
        assert parameter.abs().min() > 0


def test_initial_weights_come_from_the_generator_alone():
    networks = [PaperNetwork((1, 8, 8), 2, 8) for _ in range(3)]
    state = torch.get_rng_state()
    for network, seed in zip(networks, (0, 0, 1), strict=True):
        initialize_weights(network, torch.Generator().manual_seed(seed))
    weights = [network.conv1.weight for network in networks]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("size", [(1, 1), (2, 4), (3, 4), (4, 3), (6, 6), (7, 5)])
@pytest.mark.parametrize("with_gradient", [True, False])
def test_max_pool_is_that_of_pytorch(size, with_gradient):
    x = torch.randn(3, 2, *size, generator=torch.Generator().manual_seed(0))
    with torch.set_grad_enabled(with_gradient):
        torch.testing.assert_close(
            max_pool(x), F.max_pool2d(x, 2, ceil_mode=True), rtol=0, atol=0
        )


@pytest.mark.parametrize("predicts_variance", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_initial_weights_leave_nothing_as_it_was(name, predicts_variance):
    network = NETWORKS[name]((2, 9, 12), 2, 8, predicts_variance)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(torch.nan)
    initialize_weights(network, torch.Generator().manual_seed(0))
    assert all(weight.isfinite().all() for weight in network.state_dict().values())


@pytest.mark.parametrize("predicts_variance", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_nets_of_one_seed_begin_with_the_same_weights(name, predicts_variance):
    first, second = (
        build_net(name, (2, 9, 12), 2, 8, predicts_variance, seed=3).get_weights()
        for _ in range(2)
    )
    assert list(first) == list(second)
    for weight_name, weight in first.items():
        np.testing.assert_array_equal(weight, second[weight_name])
        assert np.isfinite(weight).all()


def test_dense_layer_without_bias_is_filled():
    layer = nn.Linear(4, 1000, bias=False)
    initialize_weights(layer, torch.Generator().manual_seed(0))
    assert layer.bias is None
    assert layer.weight.abs().max().item() == pytest.approx(0.5, rel=0.01)


def softplus_image(n_channels=2):
    layer = SoftplusImage(n_channels)
    initialize_weights(layer, torch.Generator().manual_seed(0))
    return layer


def test_softplus_image_is_floor_and_range_of_a_softplus():
    layer = softplus_image()
    with torch.no_grad():
        layer.floor.copy_(torch.tensor([[-2.0], [-1.0]]))
        layer.range.copy_(torch.tensor([[-2.0], [-1.5]]))
        logarithm = torch.linspace(-6, 2, 10).expand(3, 2, 10)
        scaled = torch.sigmoid(layer(logarithm)).numpy()
    floor = 1 / (1 + np.exp([[2.0], [1.0]]))
    softplus = np.log1p(np.exp(logarithm.numpy()))
    expected = floor + np.exp([[-2.0], [-1.5]]) * softplus
    np.testing.assert_allclose(scaled, expected, rtol=1e-5)


def test_softplus_image_has_finite_logits_for_any_brightness():
    logits = softplus_image()(torch.tensor([[[-1e30, 0.0, 1e3, 1e30]] * 2]))
    assert logits.isfinite().all()
    assert (logits.diff() >= 0).all()


def test_softplus_image_begins_near_the_sky():
    """The image is neither black nor white, wherever the training has to go."""
    image = torch.sigmoid(softplus_image(1)(torch.zeros(1, 1, 1)))
    assert 0.05 < image.item() < 0.5
