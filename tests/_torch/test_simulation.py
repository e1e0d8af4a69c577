"""New galaxies in place of the stamps of a batch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import booleans, integers
from scipy.stats import ks_2samp, kstest

from sklcae._noise import NoiseModel
from sklcae._torch import Batch, LightScale
from sklcae._torch.sersic import psf_waves, render, transform_size
from sklcae._torch.simulation import (
    FLUX_RATIOS,
    NEAREST,
    SimulatedGalaxies,
    _from_ratios,
    _to_ratios,
)
from sklcae._torch.workers import in_order

SCALE = LightScale(
    "asinh", *(np.full((1, 1, 1), v) for v in (-0.5, 3.0, 10.0)), NoiseModel(1.0, 4.0)
).to("cpu")
ONE_BAND = (tuple(range(7)),)
RNG = np.random.default_rng(0)
N_GALAXIES = 500
# Radius and flux are related; the others are not.
SIZES = RNG.uniform(0, 1, N_GALAXIES)
PARAMETERS = np.column_stack(
    [
        3 + 4 * SIZES,
        0.5 + SIZES + RNG.uniform(-0.1, 0.1, N_GALAXIES),
        RNG.uniform(-0.5, 1.2, N_GALAXIES),
        *(RNG.uniform(-0.4, 0.4, N_GALAXIES) for _ in range(2)),
        *(RNG.uniform(6, 10, N_GALAXIES) for _ in range(2)),
    ]
)


def make_batch(n):
    y, x = np.mgrid[:16, :16] - 8
    psf = np.exp(-(x**2 + y**2) / (2 * 1.5**2))
    psf = torch.tensor(psf / psf.sum(), dtype=torch.float32).expand(n, 1, 16, 16)
    variance = torch.full((n, 1, 16, 16), 2.0)
    variance[:, :, 8:] = 8.0
    return Batch(
        torch.zeros(n, 1, 16, 16), torch.zeros(n, 7), variance=variance, psf=psf
    )


def make_simulation(seed=0, **options):
    return SimulatedGalaxies(
        PARAMETERS,
        lambda parameters: parameters.astype(np.float32),
        ONE_BAND,
        SCALE,
        torch.Generator().manual_seed(seed),
        **options,
    )


def simulate(n=32, seed=0, executor=in_order, **options):
    return make_simulation(seed, **options)(make_batch(n), executor)


def test_images_are_those_of_the_targets_with_the_noise_of_the_stamp():
    batch = simulate(400)
    waves = psf_waves(batch.psf[:, 0], transform_size((16, 16)))
    light = render(batch.targets, waves, (16, 16))[:, None]
    variance = batch.variance + light.clamp(min=0) / 4
    residual = (SCALE.light(batch.images) - light) / variance.sqrt()
    assert kstest(residual.flatten().numpy()[::37], "norm").pvalue > 1e-3
    assert residual.std().item() == pytest.approx(1, abs=0.01)


def test_each_parameter_has_the_distribution_of_the_training_set():
    drawn = simulate(2000).targets.numpy()
    for column in (0, 1, 2, 5, 6):
        assert ks_2samp(drawn[:, column], PARAMETERS[:, column]).pvalue > 1e-3
        assert drawn[:, column].min() >= PARAMETERS[:, column].min() - 1e-6
        assert drawn[:, column].max() <= PARAMETERS[:, column].max() + 1e-6
    e, wanted = (np.hypot(p[:, 3], p[:, 4]) for p in (drawn, PARAMETERS))
    assert ks_2samp(e, wanted).pvalue > 1e-3


def test_relations_between_parameters_remain():
    drawn = simulate(2000).targets.numpy()
    wanted = np.corrcoef(PARAMETERS[:, 0], PARAMETERS[:, 1])[0, 1]
    assert np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1] > wanted - 0.1
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 2])[0, 1]) < 0.1


def test_galaxies_are_new_and_have_any_position_angle():
    drawn = simulate(1000).targets.numpy()
    known = {tuple(row) for row in PARAMETERS.astype(np.float32).round(4)}
    assert not known.intersection(map(tuple, drawn.round(4)))
    angle = np.arctan2(drawn[:, 4], drawn[:, 3]) / (2 * np.pi) + 0.5
    assert kstest(angle, "uniform").pvalue > 1e-3


def test_generator_decides_everything():
    first, again, other = simulate(), simulate(), simulate(seed=1)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.images, other.images)


def test_result_does_not_depend_on_the_executor():
    def backwards(function, parts):
        return [function(part) for part in parts[::-1]][::-1]

    assert torch.equal(simulate(30).images, simulate(30, executor=backwards).images)


def test_partners_are_new_too_and_all_labels_are_known():
    batch = make_batch(8)._replace(
        partners=make_batch(8), target_weights=torch.zeros(8, 7)
    )
    simulated = SimulatedGalaxies(
        PARAMETERS, lambda p: p.astype(np.float32), ONE_BAND, SCALE, torch.Generator()
    )(batch)
    assert simulated.target_weights is None
    assert not torch.equal(simulated.partners.images, simulated.images)
    assert (simulated.partners.targets != 0).any()


def light_of_all(simulated, parameters, psf):
    """Return the light of galaxies and of neighbours drawn again."""
    galaxies, others = simulated._draw_neighbours(parameters, psf.shape)
    light = simulated._render(parameters, psf, in_order)
    for galaxy, other in zip(galaxies, others, strict=True):
        one = simulated._render(other[None], psf[galaxy : galaxy + 1], in_order)
        light[galaxy] += one[0]
    return light


def test_light_of_neighbours_is_added_with_its_noise():
    parameters = PARAMETERS[:200]
    psf = make_batch(200).psf
    one, same = (make_simulation(n_neighbours=1.5) for _ in range(2))
    light = one._add_neighbours(
        one._render(parameters, psf, in_order), parameters, psf, in_order
    )
    torch.testing.assert_close(light, light_of_all(same, parameters, psf))
    alone = one._render(parameters, psf, in_order)
    assert (light - alone).amin() > -1e-3
    has_none = ((light - alone).abs().amax((1, 2, 3)) < 1e-3).float().mean().item()
    assert has_none == pytest.approx(np.exp(-1.5), abs=0.12)
    noise = simulate(300, n_neighbours=3.0)
    assert torch.equal(noise.images, simulate(300, n_neighbours=3.0).images)
    assert noise.images.sum() > simulate(300).images.sum()


def test_neighbours_have_the_distributions_that_are_documented():
    simulated = make_simulation(n_neighbours=2.0)
    parameters = np.repeat(PARAMETERS, 4, axis=0)
    galaxies, others = simulated._draw_neighbours(parameters, (2000, 1, 64, 40))
    own = parameters[galaxies]
    counts = np.bincount(galaxies, minlength=len(parameters))
    assert counts.mean() == pytest.approx(2, abs=0.1)
    assert counts.var() == pytest.approx(2, abs=0.25)
    distance = np.hypot(*(others - own)[:, 5:].T)
    longest = 0.6 * 64
    uniform = (distance - NEAREST) / (longest - NEAREST)
    assert kstest(uniform, "uniform").pvalue > 1e-3
    low, high = np.log(FLUX_RATIOS)
    ratio = others[:, 0] - own[:, 0]
    assert kstest((ratio - low) / (high - low), "uniform").pvalue > 1e-3
    assert ks_2samp(others[:, 1] - ratio / 2, PARAMETERS[:, 1]).pvalue > 1e-3
    assert ks_2samp(others[:, 2], PARAMETERS[:, 2]).pvalue > 1e-3
    direction = np.arctan2(*(others - own)[:, 5:].T) / (2 * np.pi) + 0.5
    assert kstest(direction, "uniform").pvalue > 1e-3


def test_neighbours_have_colours_of_their_own():
    arguments = BANDS, SCALE_OF_BANDS, torch.Generator().manual_seed(0)
    simulated = SimulatedGalaxies(IN_BANDS, lambda p: p, *arguments, n_neighbours=2.0)
    galaxies, others = simulated._draw_neighbours(IN_BANDS, (500, 3, 16, 16))
    colors = np.diff(others[:, :3], axis=1)
    assert ks_2samp(colors[:, 0], COLORS[:, 0]).pvalue > 1e-3
    assert abs(np.corrcoef(colors[:, 0], COLORS[galaxies, 0])[0, 1]) < 0.1
    np.testing.assert_allclose(np.diff(others[:, 3:6], axis=1), -0.05, atol=1e-12)


def test_no_neighbours_drawn():
    """A batch in which all counts are 0."""
    few = simulate(3, n_neighbours=1e-9)
    assert few.images.isfinite().all()


def test_sky_has_the_deviation_that_is_asked_for():
    """In units of the median noise of the stamp, and without noise of its own."""
    plain, raised = simulate(1000), simulate(1000, sky=5.0)
    offset = (SCALE.light(raised.images) - SCALE.light(plain.images)).mean((1, 2, 3))
    unit = np.sqrt(2.0)
    assert kstest(offset.numpy() / (5.0 * unit), "norm").pvalue > 1e-3
    residual = (
        SCALE.light(raised.images)
        - SCALE.light(plain.images)
        - offset[:, None, None, None]
    )
    assert residual.abs().max() < 1e-2


def test_sky_does_not_depend_on_bad_pixels():
    simulated = make_simulation(sky=2.0)
    background = torch.full((500, 1, 16, 16), 9.0)
    background[:, :, 3, 5] = 1e12
    drawn = simulated._draw_sky(background)
    assert drawn.std().item() == pytest.approx(6.0, rel=0.1)


def test_sky_is_drawn_from_given_backgrounds():
    skies = np.array([[-1.0], [0.5], [2.0]])
    simulated = make_simulation(sky=skies)
    drawn = simulated._draw_sky(torch.full((600, 1, 16, 16), 9.0))
    values, counts = drawn.flatten().unique(return_counts=True)
    np.testing.assert_allclose(values, 3 * skies[:, 0])
    assert (counts > 150).all()
    raised = SCALE.light(simulate(50, sky=np.array([[4.0]])).images)
    offset = (raised - SCALE.light(simulate(50).images)).mean()
    assert offset.item() == pytest.approx(4 * np.sqrt(2), rel=1e-3)


def test_constant_parameters_stay():
    parameters = PARAMETERS.copy()
    parameters[:, 2] = 0.25
    simulated = SimulatedGalaxies(
        parameters, lambda p: p.astype(np.float32), ONE_BAND, SCALE, torch.Generator()
    )(make_batch(50))
    assert (simulated.targets[:, 2] == 0.25).all()


# A flux and a radius for each of three bands; colours and ratios of radii are narrow.
BANDS = tuple((band, 3 + band, *range(6, 11)) for band in range(3))
COLORS = np.column_stack(
    [RNG.uniform(0.1, 0.5, N_GALAXIES), RNG.uniform(-0.2, 0, N_GALAXIES)]
)
FLUXES = PARAMETERS[:, :1] + np.pad(COLORS, ((0, 0), (1, 0))).cumsum(axis=1)
RADII = PARAMETERS[:, 1:2] - np.array([0.0, 0.05, 0.1])
IN_BANDS = np.column_stack([FLUXES, RADII, PARAMETERS[:, 2:]])
SCALE_OF_BANDS = LightScale(
    "linear",
    *(np.reshape(v, (3, 1, 1)) for v in ([0.0, 1.0, 2.0], [9.0, 5.0, 3.0], [1.0] * 3)),
    NoiseModel(1.0, np.reshape([1.0, 4.0, 9.0], (3, 1, 1))),
).to("cpu")


def simulate_bands(n, parameters=IN_BANDS):
    batch = make_batch(n)
    planes = {name: getattr(batch, name).tile(1, 3, 1, 1) for name in ("images", "psf")}
    variance = batch.variance * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    batch = batch._replace(variance=variance, **planes)
    generator = torch.Generator().manual_seed(0)
    arguments = BANDS, SCALE_OF_BANDS, generator
    return SimulatedGalaxies(parameters, lambda p: p, *arguments)(batch)


def test_colours_have_the_distribution_of_the_training_set():
    drawn = simulate_bands(2000).targets.numpy()
    colors = np.diff(drawn[:, :3], axis=1)
    for column in range(2):
        assert ks_2samp(colors[:, column], COLORS[:, column]).pvalue > 1e-3
        low, high = COLORS[:, column].min(), COLORS[:, column].max()
        assert (colors[:, column] > low - 1e-9).all()
        assert (colors[:, column] < high + 1e-9).all()
    assert ks_2samp(drawn[:, 0], FLUXES[:, 0]).pvalue > 1e-3
    known = {tuple(row) for row in COLORS.round(5)}
    assert not known.intersection(map(tuple, colors.round(5)))


def test_radii_of_the_bands_keep_their_ratios():
    drawn = simulate_bands(500).targets.numpy()
    np.testing.assert_allclose(np.diff(drawn[:, 3:6], axis=1), -0.05, atol=1e-12)


def test_images_of_all_bands_are_those_of_the_targets():
    """Each with its own noise, through its own PSF."""
    batch = simulate_bands(200)
    background, gain = batch.variance, torch.tensor([1.0, 4.0, 9.0])
    waves = psf_waves(batch.psf[:, 0], transform_size((16, 16)))
    for band, columns in enumerate(BANDS):
        theta = batch.targets[:, list(columns)].float()
        light = render(theta, waves, (16, 16))
        variance = background[:, band] + light.clamp(min=0) / gain[band]
        found = SCALE_OF_BANDS.light(batch.images)[:, band]
        residual = ((found - light) / variance.sqrt()).flatten().numpy()
        assert kstest(residual[::37], "norm").pvalue > 1e-3
        assert residual.std() == pytest.approx(1, abs=0.015)


@given(integers(1, 4), booleans())
def test_ratios_are_undone(n_bands, has_radii):
    n_radii = n_bands if has_radii else 1
    bands = np.array(
        [
            (band, n_bands + band % n_radii, *range(n_bands + n_radii, 5 + n_bands))
            for band in range(n_bands)
        ]
    )
    values = np.random.default_rng(0).normal(size=(9, 5 + n_bands + n_radii))
    ratios = _to_ratios(values, bands)
    np.testing.assert_allclose(_from_ratios(ratios, bands), values, atol=1e-12)
    assert np.array_equal(ratios, values) == (n_bands == 1)
