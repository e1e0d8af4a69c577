import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sklcae._torch.networks.layers import (
    SoftplusImage,
    UpsampleConv2d,
    max_pool,
    pooled_size,
)


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


@pytest.mark.parametrize("size", [(1, 1), (2, 4), (3, 4), (4, 3), (6, 6), (7, 5)])
@pytest.mark.parametrize("with_gradient", [True, False])
def test_max_pool_is_that_of_pytorch(size, with_gradient):
    x = torch.randn(3, 2, *size, generator=torch.Generator().manual_seed(0))
    with torch.set_grad_enabled(with_gradient):
        torch.testing.assert_close(
            max_pool(x), F.max_pool2d(x, 2, ceil_mode=True), rtol=0, atol=0
        )


def test_softplus_image_is_floor_and_range_of_a_softplus():
    layer = SoftplusImage(2)
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
    logits = SoftplusImage(2)(torch.tensor([[[-1e30, 0.0, 1e3, 1e30]] * 2]))
    assert logits.isfinite().all()
    assert (logits.diff() >= 0).all()


def test_softplus_image_begins_near_the_sky():
    """The image is neither black nor white, wherever the training has to go."""
    image = torch.sigmoid(SoftplusImage(1)(torch.zeros(1, 1, 1)))
    assert 0.05 < image.item() < 0.5
