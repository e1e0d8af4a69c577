import math

import pytest
import torch
from torch import nn

from sklcae._torch import NETWORKS, Architecture, Batch
from sklcae._torch.networks.base import LOG_VARIANCE_BOUNDS
from sklcae._torch.networks.layers import UpsampleConv2d
from sklcae._torch.networks.neural_field import N_HIDDEN
from sklcae._torch.networks.register import build_network
from sklcae._torch.networks.strided import BRIGHTEST, _centers
from sklcae.networks import (
    Encoding,
    NeuralFieldDecoder,
    PaperDecoder,
    PaperEncoder,
    StridedEncoder,
    combine,
)
from tests._torch.networks.reference import PlainPaperNetwork

SHAPES = [(1, 64, 64), (3, 64, 64), (1, 32, 48), (2, 7, 5), (1, 1, 3), (1, 1, 1)]


# The network "sersic" reads stamps of one band with PSFs only, see test_sersic.py.
FOR_ANY_STAMPS = [name for name in NETWORKS if name != "sersic"]
EVERY_NETWORK = pytest.mark.parametrize("name", FOR_ANY_STAMPS)


COMBINATIONS = [
    combine(encoder, decoder)
    for encoder in (PaperEncoder, StridedEncoder)
    for decoder in (PaperDecoder, NeuralFieldDecoder)
]


def build(network, *sizes):
    """Build a network, with the same weights each time."""
    generator = torch.Generator().manual_seed(0)
    return build_network(network, Architecture(*sizes), generator)


@pytest.mark.parametrize("image_shape", SHAPES)
@pytest.mark.parametrize(("n_targets", "latent_dim"), [(1, 2), (2, 64), (7, 20)])
@pytest.mark.parametrize("predicts_variance", [False, True])
@pytest.mark.parametrize("network", [*FOR_ANY_STAMPS, *COMBINATIONS])
def test_every_network_keeps_the_interface(
    network, image_shape, n_targets, latent_dim, predicts_variance
):
    network = build(network, image_shape, n_targets, latent_dim, predicts_variance)
    images = torch.rand(3, *image_shape)
    encoding = network.encode(Batch(images))
    assert isinstance(encoding, Encoding)
    assert encoding.z_phy.shape == (3, n_targets)
    assert encoding.z_rest.shape == (3, latent_dim - n_targets)
    assert encoding.latents.shape == (3, latent_dim)
    logits = network.decode(encoding.latents)
    assert logits.shape == images.shape
    assert logits.isfinite().all()
    if predicts_variance:
        assert encoding.log_variance.shape == (3, n_targets)
    else:
        assert encoding.log_variance is None


def test_the_names_are_three_of_the_four_combinations():
    assert {NETWORKS[name] for name in FOR_ANY_STAMPS} < set(COMBINATIONS)


KINDS = ("weight", "bias")


@EVERY_NETWORK
def test_only_a_network_that_predicts_variances_has_weights_for_them(name):
    without, with_variance = (
        build(name, (1, 8, 8), 2, 6, predicts).state_dict()
        for predicts in (False, True)
    )
    head = "encoder.dense_variance"
    further = {f"{head}.{i}.{kind}" for i in (0, 2, 4) for kind in KINDS}
    assert set(with_variance) - set(without) == further
    assert set(without) < set(with_variance)


@EVERY_NETWORK
def test_predicted_variances_have_bounds(name):
    network = build(name, (1, 8, 8), 2, 6, True)
    with torch.no_grad():
        network.encoder.dense_variance[-1].bias.copy_(torch.tensor([-1e6, 1e6]))
    log_variance = network.encode(Batch(torch.rand(3, 1, 8, 8))).log_variance
    assert log_variance.tolist() == [list(LOG_VARIANCE_BOUNDS)] * 3


@EVERY_NETWORK
def test_every_weight_has_a_part_in_the_output(name):
    network = build(name, (2, 12, 12), 2, 8, True)
    encoding = network.encode(Batch(torch.rand(5, 2, 12, 12)))
    output = (network.decode(encoding.latents), *encoding)
    sum(part.sum() for part in output).backward()
    for weight_name, weight in network.named_parameters():
        assert weight.grad.abs().max() > 0, weight_name


@pytest.mark.parametrize(("channels", "side"), [(1, 64), (3, 16)])
def test_paper_network_equals_plain_layers(channels, side):
    torch.manual_seed(0)
    plain = PlainPaperNetwork(channels, side, 2, 64)
    network = build("paper", (channels, side, side), 2, 64)
    for half in (network.encoder, network.decoder):
        names = half.state_dict()
        half.load_state_dict({n: plain.state_dict()[n] for n in names})
    images = torch.rand(5, channels, side, side)

    encoding = network.encode(Batch(images))
    image = torch.sigmoid(network.decode(encoding.latents))
    for ours, reference in zip(
        (encoding.z_phy, encoding.z_rest, image), plain(images), strict=True
    ):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-6)


def test_paper_network_has_the_sizes_of_the_appendix():
    network = build("paper", (1, 64, 64), 2, 64)
    sizes = {
        name: tuple(p.shape)
        for half in (network.encoder, network.decoder)
        for name, p in half.named_parameters()
    }
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


@EVERY_NETWORK
def test_rest_is_rectified_and_phy_is_not(name):
    torch.manual_seed(0)
    network = build(name, (1, 16, 16), 4, 32)
    z_phy, z_rest, _ = network.encode(Batch(torch.randn(50, 1, 16, 16)))
    assert (z_rest >= 0).all()
    assert (z_rest > 0).any()
    assert (z_phy < 0).any()


def multiplications(network, half, inputs):
    """Return those of the convolutions and dense layers of one half for one row."""
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        # Folded with the upsampling, 2x2 of the weights are left of 3x3.
        share = 4 / 9 if isinstance(layer, UpsampleConv2d) else 1
        total += share * output[0].numel() * layer.weight[0].numel()

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    getattr(network, half)(inputs)
    return total


def stamp_networks(*names, n_targets=7):
    return [build(name, (1, 64, 64), n_targets, 64) for name in names]


@pytest.mark.parametrize("name", ["strided", "neural_field"])
def test_deeper_networks_are_small(name):
    paper, network = stamp_networks("paper", name)
    image = Batch(torch.rand(1, 1, 64, 64))
    assert sum(p.numel() for p in network.parameters()) < 1.5e6
    assert multiplications(network, "encode", image) < 2 * multiplications(
        paper, "encode", image
    )


def test_neural_field_costs_less_than_the_decoder_of_the_paper():
    costs = [
        multiplications(network, "decode", torch.rand(1, 64))
        for network in stamp_networks("paper", "neural_field")
    ]
    # Upsampled images of 64 and 32 channels; four numbers and 32 units a pixel.
    assert costs[0] > 64 * 64 * (16 * 64 + 32 * 64 * 4)
    assert costs[1] > 64 * 64 * (4 * 32 + 32 * 32 + 32)
    assert 8 * costs[1] < costs[0]


def test_centers_are_where_an_attention_map_peaks():
    maps = torch.zeros(2, 3, 4, 8)
    # Rows 0 to 3 have their centres at -0.75, -0.25, ...; columns at -0.875, ...
    maps[:, 0, 3, 0] = maps[:, 1, 1, 7] = 50.0
    x, y = _centers(maps).tensor_split(2, dim=1)
    torch.testing.assert_close(x, torch.tensor([[-0.875, 0.875, 0.0]] * 2))
    torch.testing.assert_close(y, torch.tensor([[0.75, -0.25, 0.0]] * 2))


def test_strided_network_sees_the_light_itself():
    encoder = build("strided", (2, 16, 16), 2, 8).encoder
    seen = []
    encoder.convs[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(3, 2, 16, 16)
    encoder(Batch(images))
    scaled, light = seen[0].tensor_split(2, dim=1)
    torch.testing.assert_close(scaled, images)
    torch.testing.assert_close(light, torch.expm1(6 * images) / math.expm1(6))


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize("pixel", [4.0, 15.0, 1e6, 1e30, -1e6, -1e30])
@pytest.mark.parametrize("network", [*FOR_ANY_STAMPS, *COMBINATIONS])
@torch.no_grad()
def test_outputs_are_finite_for_any_pixels(network, pixel, scale):
    network = build(network, (1, 32, 32), 2, 8, True)
    for weight in network.parameters():
        weight *= scale
    images = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    images[1, 0, 5, 5] = images[2] = pixel
    encoding = network.encode(Batch(images))
    images = torch.sigmoid(network.decode(encoding.latents))
    for output in (*encoding, images):
        assert output.isfinite().all()


@torch.no_grad()
def test_strided_network_sees_all_light_up_to_a_bound():
    network = build("strided", (1, 16, 16), 2, 8)
    seen = []
    network.encoder.convs[0].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    images = torch.linspace(-5, BRIGHTEST, 256).reshape(1, 1, 16, 16)
    for some in (images, images * 2):
        network.encode(Batch(some))
    usual, bright = (planes[:, 1:] for planes in seen)
    torch.testing.assert_close(usual, torch.expm1(6 * images) / math.expm1(6))
    assert bright.max() == usual.max()


def field(image_shape):
    return build("neural_field", image_shape, 2, 8).decoder


def test_all_that_neural_field_reads_off_the_latents_has_a_part_in_the_image():
    network = field((1, 12, 12))
    network(torch.rand(5, 8)).sum().backward()
    for layer in (
        network.dense_scales,
        network.dense_geometry,
        network.dense_profile,
        network.pixel_in,
    ):
        assert layer.weight.grad.abs().amax(1).min() > 0


LATENTS = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("image_shape", [(1, 16, 16), (2, 12, 20), (3, 9, 5)])
@pytest.mark.parametrize("move", [(3, 0), (0, 2), (2, 1)])
def test_neural_field_draws_the_same_wherever_the_centre_is(image_shape, move):
    network = field(image_shape)
    before = network(LATENTS)
    # The geometry has its centres in units of half the longer side.
    rights, downs = move
    network.dense_geometry.bias[0] += 2 * rights / max(image_shape)
    network.dense_geometry.bias[1] += 2 * downs / max(image_shape)
    after = network(LATENTS)

    height, width = image_shape[1:]
    kept = before[:, :, : height - downs, : width - rights]
    assert kept.flatten(1).std(1).min() > 0.01
    # The layers turn the rounding of a place into that of a logit.
    torch.testing.assert_close(after[:, :, downs:, rights:], kept, rtol=0, atol=1e-5)


@torch.no_grad()
def test_neural_field_is_centred_in_the_stamp():
    """Drawn round about a centre in the middle, an image is symmetric."""
    network = field((2, 7, 12))
    network.dense_geometry.weight.zero_()
    network.dense_geometry.bias.zero_()
    network.dense_scales.weight.zero_()
    images = network(LATENTS)
    assert images.flatten(1).std(1).min() > 0.01
    for axes in ([2], [3]):
        torch.testing.assert_close(images.flip(axes), images)


def scales(network, latents):
    """Return brightness and size themselves."""
    return [scale.exp() - 1e-3 for scale in network._scales(with_hidden(latents))]


def with_hidden(latents):
    """Return latents with units before them, which the tests give no weight."""
    return torch.cat([torch.ones(len(latents), N_HIDDEN), latents], dim=1)


@torch.no_grad()
def take_latents_for_scales(network):
    network.dense_scales.weight.zero_()
    network.dense_scales.weight[:, N_HIDDEN:] = torch.eye(2, 8)
    # With which the latents themselves come out, where they are large.
    network.dense_scales.bias.fill_(-1.0)


@torch.no_grad()
def test_brightness_and_size_are_linear_in_the_latents():
    network = field((1, 8, 8))
    take_latents_for_scales(network)
    latents = torch.zeros(3, 8)
    latents[:, :2] = torch.tensor([[20.0, 60.0], [40.0, 50.0], [60.0, 40.0]])
    torch.testing.assert_close(
        torch.cat(scales(network, latents), dim=1), latents[:, :2]
    )


@torch.no_grad()
def test_brightness_and_size_stay_positive():
    latents = with_hidden(torch.cat([LATENTS, -LATENTS]) * 1e4)
    brightness, size = field((1, 8, 8))._scales(latents)
    assert torch.cat([brightness, size]).isfinite().all()


UNIT_STRETCH = [math.log(20)] * 2


@torch.no_grad()
def only_scales(image_shape):
    """Return a network of which the latents are brightness and size, and no more.

    A size of 20 is that of the coordinates.
    """
    network = field(image_shape)
    for layer in (network.dense_geometry, network.dense_profile):
        layer.weight.zero_()
    network.dense_geometry.bias.copy_(torch.tensor([0, 0, *UNIT_STRETCH, 0]))
    # Nor do the distances in the image have a part.
    network.pixel_in.weight[:, :2] = 0
    take_latents_for_scales(network)
    return network


@pytest.mark.parametrize("skew", [0.0, 8.0])
@torch.no_grad()
def test_size_scales_the_coordinates(skew):
    network = only_scales((1, 24, 24))
    network.dense_geometry.bias[4] = skew
    # The pixels of the second are three of the first apart.
    latents = torch.zeros(2, 8)
    latents[:, 0], latents[:, 1] = 5.0, torch.tensor([20.0, 60.0])
    small, large = network(latents)
    assert small.std() > 0.1
    torch.testing.assert_close(
        large[:, 1:23:3, 1:23:3], small[:, 8:16, 8:16], rtol=0, atol=1e-4
    )


@torch.no_grad()
def test_geometry_makes_a_round_galaxy_of_an_inclined_one():
    network = only_scales((1, 12, 12))
    latents = torch.tensor([[5.0, 20.0, *[0.0] * 6]])
    (round_one,) = network(latents)[0]
    geometry = network.dense_geometry.bias
    # Of two units over the size of 20.
    geometry[4] = 40.0
    (skewed,) = network(latents)[0]
    geometry[2], geometry[4] = math.log(60), 0.0
    (stretched,) = network(latents)[0]

    # The pixels of the row with y = 3 / 2 show what is at x + 3.
    torch.testing.assert_close(skewed[7, :9], round_one[7, 3:], rtol=0, atol=1e-4)
    torch.testing.assert_close(skewed[4, 3:], round_one[4, :9], rtol=0, atol=1e-4)
    assert not torch.allclose(skewed[7], round_one[7], atol=0.01)
    torch.testing.assert_close(
        stretched[:, 4:8], round_one[:, 1:12:3], rtol=0, atol=1e-4
    )


@torch.no_grad()
def test_brightness_scales_the_light():
    network = only_scales((1, 12, 12))
    seen = []
    network.image.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    latents = torch.tensor([[4.0, 20.0, *[0.0] * 6], [9.0, 20.0, *[0.0] * 6]])
    network(latents)
    faint, bright = seen[0]
    brightness, _ = network._scales(with_hidden(latents))
    torch.testing.assert_close(
        bright - faint, (brightness[1] - brightness[0]).expand(1, 144)
    )
