import math

import pytest
import torch
from torch import nn

from sklcae._torch import NETWORKS
from sklcae._torch._networks._paper import PaperNetwork
from sklcae._torch._networks._strided import StridedNetwork, _centers
from tests._torch.reference import PlainPaperNetwork

SHAPES = [(1, 64, 64), (3, 64, 64), (1, 32, 48), (2, 7, 5), (1, 1, 3), (1, 1, 1)]


@pytest.mark.parametrize("image_shape", SHAPES)
@pytest.mark.parametrize(("n_targets", "latent_dim"), [(1, 2), (2, 64), (7, 20)])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_keeps_the_interface(name, image_shape, n_targets, latent_dim):
    network = NETWORKS[name](image_shape, n_targets, latent_dim)
    images = torch.rand(3, *image_shape)
    z_phy, z_rest, logits = network(images)
    assert z_phy.shape == (3, n_targets)
    assert z_rest.shape == (3, latent_dim - n_targets)
    assert logits.shape == images.shape
    torch.testing.assert_close(network.encode(images), (z_phy, z_rest))
    torch.testing.assert_close(
        network.decode(torch.cat([z_phy, z_rest], dim=1)), logits
    )


@pytest.mark.parametrize(("channels", "side"), [(1, 64), (3, 16)])
def test_paper_network_equals_plain_layers(channels, side):
    torch.manual_seed(0)
    plain = PlainPaperNetwork(channels, side, 2, 64)
    network = PaperNetwork((channels, side, side), 2, 64)
    network.load_state_dict(plain.state_dict())
    images = torch.rand(5, channels, side, side)

    z_phy, z_rest, logits = network(images)
    for ours, reference in zip(
        (z_phy, z_rest, torch.sigmoid(logits)), plain(images), strict=True
    ):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-6)


def test_paper_network_has_the_sizes_of_the_appendix():
    network = PaperNetwork((1, 64, 64), 2, 64)
    sizes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert sizes == {
        "conv1.weight": (32, 1, 3, 3),
        "conv1.bias": (32,),
        "conv2.weight": (64, 32, 3, 3),
        "conv2.bias": (64,),
        "dense_phy.weight": (2, 16_384),
        "dense_phy.bias": (2,),
        "dense_rest.weight": (62, 16_384),
        "dense_rest.bias": (62,),
        "dense_decoder.weight": (16_384, 64),
        "dense_decoder.bias": (16_384,),
        "upconv1.weight": (64, 64, 3, 3),
        "upconv1.bias": (64,),
        "upconv2.weight": (32, 64, 3, 3),
        "upconv2.bias": (32,),
        "conv_out.weight": (1, 32, 3, 3),
        "conv_out.bias": (1,),
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_rest_is_rectified_and_phy_is_not(name):
    torch.manual_seed(0)
    network = NETWORKS[name]((1, 16, 16), 4, 32)
    z_phy, z_rest = network.encode(torch.randn(50, 1, 16, 16))
    assert (z_rest >= 0).all()
    assert (z_rest > 0).any()
    assert (z_phy < 0).any()


def multiplications(network, images):
    """Return those of the convolutions and dense layers for one image."""
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        total += output[0].numel() * layer.weight[0].numel()

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    network.encode(images)
    return total


def test_strided_network_is_small():
    image = torch.rand(1, 1, 64, 64)
    paper, strided = (NETWORKS[n]((1, 64, 64), 7, 64) for n in ("paper", "strided"))
    assert sum(p.numel() for p in strided.parameters()) < 1.5e6
    assert multiplications(strided, image) < 2 * multiplications(paper, image)


def test_strided_network_has_the_decoder_of_the_paper():
    paper, strided = (network((1, 64, 64), 2, 64) for network in NETWORKS.values())
    decoder = {n: w for n, w in paper.state_dict().items() if n in strided.state_dict()}
    strided.load_state_dict(decoder, strict=False)
    assert {"dense_decoder.weight", "upconv1.bias", "conv_out.weight"} <= set(decoder)
    latents = torch.rand(3, 64)
    torch.testing.assert_close(strided.decode(latents), paper.decode(latents))


def test_centers_are_where_an_attention_map_peaks():
    maps = torch.zeros(2, 3, 4, 8)
    # Rows 0 to 3 have their centres at -0.75, -0.25, ...; columns at -0.875, ...
    maps[:, 0, 3, 0] = maps[:, 1, 1, 7] = 50.0
    x, y = _centers(maps).tensor_split(2, dim=1)
    torch.testing.assert_close(x, torch.tensor([[-0.875, 0.875, 0.0]] * 2))
    torch.testing.assert_close(y, torch.tensor([[0.75, -0.25, 0.0]] * 2))


def test_strided_network_sees_the_light_itself():
    network = StridedNetwork((2, 16, 16), 2, 8)
    seen = []
    network.convs[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(3, 2, 16, 16)
    network.encode(images)
    scaled, light = seen[0].tensor_split(2, dim=1)
    torch.testing.assert_close(scaled, images)
    torch.testing.assert_close(light, torch.expm1(6 * images) / math.expm1(6))
