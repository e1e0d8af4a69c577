import pytest
import torch

from sklcae._torch import NETWORKS
from sklcae._torch._networks import PaperNetwork
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


def test_rest_is_rectified_and_phy_is_not():
    torch.manual_seed(0)
    z_phy, z_rest = PaperNetwork((1, 16, 16), 4, 32).encode(torch.randn(50, 1, 16, 16))
    assert (z_rest >= 0).all()
    assert (z_rest > 0).any()
    assert (z_phy < 0).any()
