"""The decoder that draws a Sersic profile through the PSF of each stamp."""

import math

import numpy as np
import pytest
import torch

from sklcae._noise import NoiseModel
from sklcae._torch import Architecture, Batch, LightScale, ProfileUnits
from sklcae._torch.networks import sersic
from sklcae._torch.networks.register import build_network
from sklcae._torch.networks.sersic import SersicDecoder
from sklcae._torch.sersic import psf_waves, render, transform_size
from sklcae._torch.shapelets import render_shapelets

# Flux and index are regressed in the logarithm, the radius is not; y0 is no target.
UNITS = ProfileUnits(
    columns=(0, 1, 2, 3, 4, 5, 6),
    mean=(6.0, 1.2, 0.4, 0.1, -0.1, 8.0, 9.0),
    scale=(0.5, 0.4, 0.3, 0.2, 0.2, 1.0, 2.0),
    is_logarithm=(True, False, True, False, False, False, False),
    unit=(4.0, 0.25, 1.0, 1.0, 1.0, 1.0, 1.0),
    origin=(0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5),
)
ZERO, ONE = np.zeros((1, 1, 1)), np.ones((1, 1, 1))
LIGHT = LightScale("linear", ZERO, ONE, ONE, NoiseModel(ONE, None))
ARCHITECTURE = Architecture((1, 16, 18), 6, 12, True, True, UNITS, LIGHT)


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
    assert (latents.grad != 0).all()


def test_latents_after_those_of_the_profile_are_shapelets():
    """The seventh parameter is no target, so that the eighth latent is the first."""
    decoder, psf = SersicDecoder(ARCHITECTURE), make_psf(2)
    latents = 0.1 * torch.arange(24.0).view(2, 12).sin()
    parameters = decoder.parameters_of(latents)
    waves = psf_waves(psf[:, 0], transform_size((16, 18)))
    expected = render(parameters, waves, (16, 18))
    coefficients = 0.02 * latents[:, 7:]
    expected += render_shapelets(coefficients, parameters, waves, (16, 18))
    torch.testing.assert_close(decoder(latents, psf)[:, 0], expected)


def test_without_other_latents_the_profile_is_alone():
    decoder, psf = SersicDecoder(ARCHITECTURE._replace(latent_dim=7)), make_psf(1)
    latents = torch.zeros(1, 7, requires_grad=True)
    light = decoder(latents, psf)
    none = torch.cat([latents, torch.zeros(1, 5)], dim=1)
    assert torch.equal(light, SersicDecoder(ARCHITECTURE)(none, psf))
    light.max().backward()
    assert latents.grad.isfinite().all()


def test_coefficients_of_zero_are_not_drawn(monkeypatch):
    latents, psf = torch.zeros(2, 12), make_psf(2)
    drawn = SersicDecoder(ARCHITECTURE)(latents.requires_grad_(), psf)
    monkeypatch.setattr(sersic, "render_shapelets", None)
    alone = SersicDecoder(ARCHITECTURE)(latents.detach(), psf)
    assert torch.equal(drawn, alone)


def test_shapelets_change_the_image_and_not_the_flux():
    decoder, latents = SersicDecoder(ARCHITECTURE), torch.zeros(2, 12)
    latents[:, 1:3] = torch.tensor([-2.0, -3.0])
    latents[1, 7:] = 50.0
    light = decoder(latents, make_psf(1, 1.2).expand(2, -1, -1, -1))
    assert (light[1] - light[0]).abs().max() > 0.1 * light[0].max()
    flux, with_shapelets = light.sum((1, 2, 3)).tolist()
    assert with_shapelets == pytest.approx(flux, rel=0.01)


def test_latents_of_parameters_that_are_no_targets_are_linear():
    network = build_network("sersic", ARCHITECTURE, torch.Generator().manual_seed(0))
    images = torch.rand(64, 1, 16, 18, generator=torch.Generator().manual_seed(1))
    encoding = network.encode(Batch(images, psf=make_psf(64)))
    free, others = encoding.z_rest[:, :1], encoding.z_rest[:, 1:]
    assert free.unique().numel() > 60
    assert encoding.z_phy.min() < 0
    # A new network adds no shapelets.
    assert (others == 0).all()
    assert network.draws_light


def test_new_network_reads_about_flux_and_centre():
    latents = torch.zeros(20, 12)
    latents[:, 0] = torch.linspace(-2, 2, 20)
    latents[:, 5] = torch.linspace(-1, 1, 20)
    psf = make_psf(20)
    light = SersicDecoder(ARCHITECTURE)(latents, psf)
    network = build_network("sersic", ARCHITECTURE, torch.Generator().manual_seed(0))
    images = LIGHT.to("cpu").scaled(light)
    found = network.encode(Batch(images, psf=psf)).latents
    assert np.corrcoef(found[:, 0].detach(), latents[:, 0])[0, 1] > 0.95
    np.testing.assert_allclose(found[:, 5].detach(), latents[:, 5], atol=0.3)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"profile": None}, "'pixel_scale'"),
        ({"light_scale": None}, "'pixel_scale'"),
        ({"has_psf": False}, "needs stamps with PSFs"),
        ({"image_shape": (2, 16, 18)}, "needs stamps of 1 bands"),
    ],
)
def test_network_says_which_stamps_it_needs(changed, reason):
    architecture = ARCHITECTURE._replace(**changed)
    with pytest.raises(ValueError, match=reason):
        build_network("sersic", architecture, torch.Generator())


# A flux for each of two bands, and y0 of z_rest. With RADII there are two radii.
TWO_BANDS = ProfileUnits(
    columns=(0, 1, 2, 3, 4, 5, 6, 7),
    mean=(6.0, 7.0, 1.2, 0.4, 0.1, -0.1, 8.0, 9.0),
    scale=(0.5, 0.25, 0.4, 0.3, 0.2, 0.2, 1.0, 2.0),
    is_logarithm=(True, True, False, True, False, False, False, False),
    unit=(4.0, 4.0, 0.25, 1.0, 1.0, 1.0, 1.0, 1.0),
    origin=(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5),
    bands=((0, 2, 3, 4, 5, 6, 7), (1, 2, 3, 4, 5, 6, 7)),
)
RADII = ProfileUnits(
    columns=tuple(range(9)),
    mean=(6.0, 7.0, 0.2, 0.4, 0.4, 0.1, -0.1, 8.0, 9.0),
    scale=(0.5, 0.25, 0.4, 0.4, 0.3, 0.2, 0.2, 1.0, 2.0),
    is_logarithm=(True,) * 5 + (False,) * 4,
    unit=(4.0, 4.0, 0.25, 0.25, *[1.0] * 5),
    origin=(0.0,) * 7 + (0.5, 0.5),
    bands=((0, 2, 4, 5, 6, 7, 8), (1, 3, 4, 5, 6, 7, 8)),
)
LIGHT_OF_TWO = LightScale(
    "asinh",
    *(np.reshape(part, (2, 1, 1)) for part in ([-0.5, -1.0], [3.0, 4.0], [5.0, 9.0])),
    NoiseModel(np.reshape([0.5, 2.0], (2, 1, 1)), np.reshape([1.0, 3.0], (2, 1, 1))),
)
PSF_OF_TWO = torch.cat([make_psf(1, 1.2), make_psf(1, 2.0)], dim=1)


def architecture_of_two(units):
    n_parameters = len(units.columns)
    shape, sizes = (2, 16, 18), (n_parameters - 1, n_parameters + 4)
    return Architecture(shape, *sizes, True, True, units, LIGHT_OF_TWO)


@pytest.mark.parametrize("units", [TWO_BANDS, RADII], ids=["one radius", "radii"])
def test_each_band_is_drawn_like_a_stamp_of_its_own(units):
    """With its flux and radius, through its PSF, and the same shapelets."""
    decoder = SersicDecoder(architecture_of_two(units))
    n_parameters = len(units.columns)
    latents = 0.5 * torch.arange(2.0 * (n_parameters + 4)).view(2, -1).sin()
    light = decoder(latents, PSF_OF_TWO.expand(2, -1, -1, -1))
    assert light.shape == (2, 2, 16, 18)
    for band, numbers in enumerate(units.bands):
        alone = {
            name: tuple(getattr(units, name)[i] for i in numbers)
            for name in ("mean", "scale", "is_logarithm", "unit", "origin")
        }
        one_band = ProfileUnits(tuple(range(7)), **alone)
        architecture = ARCHITECTURE._replace(profile=one_band, latent_dim=11)
        columns = [*numbers, *range(n_parameters, n_parameters + 4)]
        expected = SersicDecoder(architecture)(
            latents[:, columns], PSF_OF_TWO[:, band : band + 1].expand(2, -1, -1, -1)
        )
        torch.testing.assert_close(light[:, band], expected[:, 0])


def test_shapelets_are_relative_to_the_flux_of_each_band():
    decoder = SersicDecoder(architecture_of_two(TWO_BANDS))
    latents, psf = torch.zeros(2, 12), make_psf(1).expand(2, 2, -1, -1)
    latents[1, 8:] = 30.0
    light = decoder(latents, psf)
    added = light[1] - light[0]
    assert added.abs().max() > 0.01 * light.max()
    torch.testing.assert_close(added[1], math.e * added[0])


def test_gradients_of_the_geometry_are_summed_over_the_bands():
    decoder = SersicDecoder(architecture_of_two(TWO_BANDS))
    latents = torch.zeros(1, 12, requires_grad=True)
    light = decoder(latents, PSF_OF_TWO)
    first, second = (
        torch.autograd.grad((light[:, i] ** 2).sum(), latents, retain_graph=True)[0]
        for i in range(2)
    )
    both = torch.autograd.grad((light**2).sum(), latents)[0]
    torch.testing.assert_close(both, first + second)
    assert first[0, 1] == second[0, 0] == 0
    assert (both != 0).all()


@pytest.mark.parametrize("size", [-1e6, -30.0, 30.0, 1e6])
def test_any_latents_give_finite_light_in_all_bands(size):
    decoder = SersicDecoder(architecture_of_two(RADII))
    light = decoder(torch.full((3, 13), size), PSF_OF_TWO.expand(3, -1, -1, -1))
    assert light.isfinite().all()


def test_new_network_reads_about_the_flux_of_each_band():
    architecture, n = architecture_of_two(TWO_BANDS), 20
    latents = torch.zeros(n, 12)
    latents[:, 0] = torch.linspace(-2, 2, n)
    latents[:, 1] = latents[:, 0].flip(0).roll(7)
    psf = PSF_OF_TWO.expand(n, -1, -1, -1)
    light = SersicDecoder(architecture)(latents, psf)
    network = build_network("sersic", architecture, torch.Generator().manual_seed(0))
    images = LIGHT_OF_TWO.to("cpu").scaled(light)
    found = network.encode(Batch(images, psf=psf)).latents.detach()
    for column in range(2):
        assert np.corrcoef(found[:, column], latents[:, column])[0, 1] > 0.9


def test_kinds_of_the_parameters():
    assert UNITS.kinds == list(range(7))
    assert TWO_BANDS.kinds == [0, 0, 1, 2, 3, 4, 5, 6]
    assert RADII.kinds == [0, 0, 1, 1, 2, 3, 4, 5, 6]
