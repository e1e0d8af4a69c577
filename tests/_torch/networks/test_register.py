"""Networks by name, their construction, and the shapes of weights beforehand."""

from math import prod

import numpy as np
import pytest
import torch

from sklcae._torch import NETWORKS, Architecture, build_net, name_of, weight_specs
from sklcae.networks import PaperDecoder, PaperEncoder, combine, register_network

# The network "sersic" reads stamps of one band with PSFs only, see test_sersic.py.
FOR_ANY_STAMPS = [name for name in NETWORKS if name != "sersic"]


@pytest.mark.parametrize("predicts_variance", [False, True])
@pytest.mark.parametrize("network", FOR_ANY_STAMPS)
@pytest.mark.parametrize(
    ("image_shape", "n_targets", "latent_dim"),
    [((1, 8, 8), 2, 4), ((3, 5, 9), 1, 2), ((1, 1, 30), 3, 40)],
)
def test_shapes_are_those_of_the_network(
    network, image_shape, n_targets, latent_dim, predicts_variance
):
    sizes = Architecture(image_shape, n_targets, latent_dim, predicts_variance)
    weights = build_net(network, sizes, seed=0).get_weights()
    specs = {name: (w.shape, w.dtype.name) for name, w in weights.items()}
    assert weight_specs(network, sizes) == specs
    assert ("encoder.dense_variance.0.weight" in specs) == predicts_variance


@pytest.mark.parametrize("network", FOR_ANY_STAMPS)
def test_large_networks_cost_nothing(network):
    # Terabytes, which nothing would even begin to fill.
    specs = weight_specs(network, Architecture((1, 64, 64), 2, 2**31 - 1))
    assert sum(prod(shape) for shape, _ in specs.values()) > 2**39


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vgg", (1, 8, 8), 2, 4), "must be registered"),
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
        weight_specs(arguments[0], Architecture(*arguments[1:]))


def test_a_name_is_taken_once(monkeypatch):
    monkeypatch.setattr("sklcae._torch.networks.register.NETWORKS", dict(NETWORKS))
    mine = combine(PaperEncoder, PaperDecoder)
    register_network("paper", mine)
    with pytest.raises(ValueError, match="'paper', which belongs to"):
        register_network("paper", lambda architecture: None)


@pytest.mark.parametrize(
    ("name", "network", "message"),
    [(3, print, "must be a str"), ("", print, "must be a str"), ("a", 3, "callable")],
)
def test_what_is_no_name_or_network_is_refused(name, network, message):
    with pytest.raises(TypeError, match=message):
        register_network(name, network)


def test_names_are_found():
    assert name_of("anything") == "anything"
    assert name_of(combine(PaperEncoder, PaperDecoder)) == "paper"
    assert name_of(combine(PaperDecoder, PaperEncoder)) is None


@pytest.mark.parametrize("made", [3, torch.nn.Linear(2, 2)])
def test_a_network_must_be_a_module_with_two_methods(made):
    with pytest.raises(ValueError, match=r"'network' parameter .*'encode' and"):
        build_net(lambda architecture: made, Architecture((1, 4, 4), 1, 2), seed=0)


# Construction -------------------------------------------------------------------

SIZES = Architecture((2, 9, 12), 2, 8, True)


@pytest.mark.parametrize("name", FOR_ANY_STAMPS)
def test_nets_of_one_seed_begin_with_the_same_weights(name):
    state = torch.get_rng_state()
    first, same, other = (
        build_net(name, SIZES, seed=seed).get_weights() for seed in (3, 3, 4)
    )
    assert list(first) == list(same)
    for weight_name, weight in first.items():
        np.testing.assert_array_equal(weight, same[weight_name])
        assert np.isfinite(weight).all()
    assert any((weight != other[n]).any() for n, weight in first.items())
    assert torch.equal(torch.get_rng_state(), state)


def test_first_weights_are_those_of_pytorch():
    """Ordinary construction from the global generator gives the same."""
    weights = build_net("strided", SIZES, seed=5).get_weights()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = NETWORKS["strided"](SIZES).state_dict()
    assert list(weights) == list(expected)
    for name, weight in expected.items():
        np.testing.assert_array_equal(weights[name], weight, err_msg=name)
