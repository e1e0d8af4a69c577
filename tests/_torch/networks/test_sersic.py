"""The decoder that draws a Sersic profile through the PSF of each stamp."""

import math

import numpy as np
import pytest
import torch

from sklcae._torch import Architecture, Batch, ProfileUnits
from sklcae._torch.networks.register import build_network
from sklcae._torch.networks.sersic import SersicDecoder
from sklcae._torch.sersic import psf_waves, render, transform_size

# Flux and index are regressed in the logarithm, the radius is not; y0 is no target.
UNITS = ProfileUnits(
    columns=(0, 1, 2, 3, 4, 5, 6),
    mean=(6.0, 1.2, 0.4, 0.1, -0.1, 8.0, 9.0),
    scale=(0.5, 0.4, 0.3, 0.2, 0.2, 1.0, 2.0),
    is_logarithm=(True, False, True, False, False, False, False),
    unit=(4.0, 0.25, 1.0, 1.0, 1.0, 1.0, 1.0),
    origin=(0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5),
)
ARCHITECTURE = Architecture((1, 16, 18), 6, 12, True, True, UNITS)


def make_psf(n, sigma=1.5):
    y, x = np.mgrid[:16, :18]
    psf = np.exp(-((x - 9) ** 2 + (y - 8) ** 2) / (2 * sigma**2))
    return torch.tensor(psf / psf.sum(), dtype=torch.float32).expand(n, 1, 16, 18)


def test_latents_are_the_parameters_in_their_units():
    latents = torch.zeros(2, 12)
    latents[1, :7] = torch.tensor([1.0, -0.5, 0.5, 1.0, 0.5, -1.0, 2.0])
    light = SersicDecoder(ARCHITECTURE)(latents, make_psf(2))
    expected = torch.tensor(
        [
            [6.0, math.log(1.2 / 0.25), 0.4, 0.1, -0.1, 7.5, 8.5],
            [6.5, math.log(1.0 / 0.25), 0.55, 0.3, 0.0, 6.5, 12.5],
        ]
    )
    expected[:, 0] -= math.log(4.0)
    waves = psf_waves(make_psf(2)[:, 0], transform_size((16, 18)))
    torch.testing.assert_close(light[:, 0], render(expected, waves, (16, 18)))


def test_the_sum_of_the_light_is_the_flux_in_its_unit():
    latents = torch.zeros(1, 12)
    latents[0, 1:3] = torch.tensor([-1.5, -3.0])
    light = SersicDecoder(ARCHITECTURE)(latents, make_psf(1))
    assert light.sum().item() == pytest.approx(math.exp(6.0) / 4, rel=0.01)


def test_a_wider_psf_keeps_the_light_and_lowers_the_peak():
    decoder, latents = SersicDecoder(ARCHITECTURE), torch.zeros(1, 12)
    latents[0, 1:3] = torch.tensor([-2.0, -3.0])
    sharp, wide = (decoder(latents, make_psf(1, sigma)) for sigma in (1.2, 2.0))
    assert wide.max() < 0.8 * sharp.max()
    assert wide.sum().item() == pytest.approx(sharp.sum().item(), rel=0.02)


@pytest.mark.parametrize("size", [-1e6, -30.0, 30.0, 1e6])
def test_any_latents_give_finite_light(size):
    latents = torch.full((3, 12), size)
    assert SersicDecoder(ARCHITECTURE)(latents, make_psf(3)).isfinite().all()


def test_chi_square_has_a_gradient_for_each_parameter():
    latents = torch.zeros(1, 12, requires_grad=True)
    light = SersicDecoder(ARCHITECTURE)(latents, make_psf(1))
    (light**2).sum().backward()
    assert (latents.grad[0, :7] != 0).all()
    assert (latents.grad[0, 7:] == 0).all()


def test_latents_of_parameters_that_are_no_targets_are_linear():
    network = build_network("sersic", ARCHITECTURE, torch.Generator().manual_seed(0))
    images = torch.rand(64, 1, 16, 18, generator=torch.Generator().manual_seed(1))
    encoding = network.encode(Batch(4 * images - 2, psf=make_psf(64)))
    free, others = encoding.z_rest[:, :1], encoding.z_rest[:, 1:]
    assert free.min() < 0 or (encoding.z_phy.min() < 0 and free.unique().numel() > 60)
    assert others.min() >= 0
    assert network.draws_light


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"profile": None}, "'pixel_scale'"),
        ({"has_psf": False}, "one band with PSFs"),
        ({"image_shape": (2, 16, 18)}, "one band with PSFs"),
    ],
)
def test_network_says_which_stamps_it_needs(changed, reason):
    architecture = ARCHITECTURE._replace(**changed)
    with pytest.raises(ValueError, match=reason):
        build_network("sersic", architecture, torch.Generator())
