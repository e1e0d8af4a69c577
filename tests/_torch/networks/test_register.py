"""Shapes of weights, before there are any."""

from math import prod

import pytest

from sklcae._torch import NETWORKS, build_net
from sklcae._torch._shapes import weight_shapes


@pytest.mark.parametrize("predicts_variance", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("image_shape", "n_targets", "latent_dim"),
    [((1, 8, 8), 2, 4), ((3, 5, 9), 1, 2), ((1, 1, 30), 3, 40)],
)
def test_shapes_are_those_of_the_network(
    network, image_shape, n_targets, latent_dim, predicts_variance
):
    sizes = (network, image_shape, n_targets, latent_dim, predicts_variance)
    net = build_net(*sizes, seed=0)
    shapes = {name: array.shape for name, array in net.get_weights().items()}
    assert weight_shapes(*sizes) == shapes
    assert ("dense_variance.0.weight" in shapes) == predicts_variance


@pytest.mark.parametrize("network", NETWORKS)
def test_large_networks_cost_nothing(network):
    # Terabytes, which nothing would even begin to fill.
    shapes = weight_shapes(network, (1, 64, 64), 2, 2**31 - 1)
    assert sum(map(prod, shapes.values())) > 2**39


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vgg", (1, 8, 8), 2, 4), "must be one of"),
        ((["paper"], (1, 8, 8), 2, 4), "must be one of"),
        (("paper", (8, 8), 2, 4), "no network"),
        (("paper", (1, 0, 8), 2, 4), "no network"),
        (("paper", (1, 8, -8), 2, 4), "no network"),
        (("paper", (1, 8, 2**31), 2, 4), "no network"),
        (("paper", (1, 8, 10**4000), 2, 4), "no network"),
        (("paper", (1, 8, 8), 0, 4), "no network"),
        (("paper", (1, 8, 8), 4, 4), "more latents than targets"),
        (("paper", (2**31 - 1, 2**31 - 1, 2**31 - 1), 2, 2**31 - 1), "no network"),
    ],
)
def test_sizes_that_no_network_has(arguments, message):
    with pytest.raises(ValueError, match=message):
        weight_shapes(*arguments)
