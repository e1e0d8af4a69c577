"""What the encoder of the "sersic" network measures in stamps."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays
from hypothesis.strategies import floats
from torch.nn import functional as F

from sklcae._torch.networks.measurements import (
    LARGEST_ORDER,
    N_EDGES,
    PAIRS,
    _boxes,
    _smoothed,
    _sum_of_bands,
    _without_neighbours,
    find_center,
    n_features,
    shapelet_widths,
    shapelets,
    stabilised,
)
from sklcae._torch.networks.measurements import measure as measure_in_window

SHAPE = (40, 48)


def draw(x, y, sigma=3.0, flux=1000.0, e=0.0):
    """Return Gaussians (1, H, W)."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    u, v = (columns - x) / (sigma * (1 + e)), (rows - y) / (sigma * (1 - e))
    image = np.exp(-(u**2 + v**2) / 2)
    return torch.tensor(flux * image / image.sum(), dtype=torch.float32)[None]


PSF = draw(24, 20, 1.5, 1.0)


def window_of(shape):
    """Return the window that is the whole stamp."""
    return torch.tensor([[0.0, 0.0], [shape[-1] - 1, shape[-2] - 1]])


def measure(*planes, window=None):
    """Measure stamps, by default wherever the galaxy is."""
    window = window_of(planes[0].shape) if window is None else window
    return measure_in_window(*planes, window)


def measure_all(light, gain=4.0, background=None):
    """Measure stamps (n, H, W) of one band."""
    background = torch.ones_like(light) if background is None else background
    psf = PSF.expand(len(light), -1, -1)
    return measure(light[:, None], background[:, None], gain, psf[:, None])


def measure_bands(light, gain=None, background=None, psf=PSF):
    """Measure one stamp (n_bands, H, W)."""
    background = torch.ones_like(light) if background is None else background
    return measure(light[None], background[None], gain, psf.expand_as(light)[None])


SIZES = pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 7), (64, 64), (65, 63)])


@SIZES
def test_smoothed_image_is_a_mean_pooling(size):
    images = torch.randn(3, 2, *size, generator=torch.Generator().manual_seed(0))
    expected = F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(_smoothed(images), expected)


@SIZES
def test_boxes_are_those_of_a_mean_pooling(size):
    light = torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
    expected = 16 * F.avg_pool2d(light[:, None], 4, 2, padding=2)[:, 0]
    torch.testing.assert_close(_boxes(light), expected)


def test_coefficient_is_the_sum_of_the_image_times_the_shapelet():
    """Orders 0 and 1 have closed forms; the light is a random image."""
    image = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    x, y, width = 22.3, 18.6, 2.5
    widths = torch.tensor([width, 5.0])
    found = shapelets(image[:, None], torch.tensor([[x, y]]), widths)[0, 0, 0]
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    u, v = (columns - x) / width, (rows - y) / width
    gauss = np.exp(-(u**2 + v**2) / 2) / (np.sqrt(np.pi) * width)
    expected = {
        (0, 0): gauss,
        (1, 0): np.sqrt(2) * u * gauss,
        (1, 1): 2 * u * v * gauss,
    }
    expected[0, 2] = (4 * v**2 - 2) / np.sqrt(8) * gauss
    for pair, function in expected.items():
        value = (function * image[0].numpy()).sum()
        assert found[PAIRS.index(pair)].item() == pytest.approx(value, abs=1e-4)
    assert max(a + b for a, b in PAIRS) == LARGEST_ORDER


def test_centre_is_found_wherever_the_galaxy_is():
    places = [(24.0, 20.0), (21.3, 17.8), (30.6, 10.2), (8.4, 31.9)]
    light = torch.cat([draw(x, y, e=0.2) for x, y in places])
    found = find_center(light, window_of(SHAPE))
    np.testing.assert_allclose(found, places, atol=0.02)


def test_centre_is_that_of_the_brightest_galaxy_in_the_window():
    light = draw(20.3, 18.8) + draw(36.0, 30.0, flux=3000.0)
    window = torch.tensor([[15.0, 15.0], [25.0, 24.0]])
    found = find_center(light, window)
    np.testing.assert_allclose(found, [[20.3, 18.8]], atol=0.05)
    anywhere = find_center(light, window_of(SHAPE))
    np.testing.assert_allclose(anywhere, [[36.0, 30.0]], atol=0.05)
    # Between two boxes, the window has the middle of none.
    point = torch.tensor([[20.2, 19.1], [20.2, 19.1]])
    np.testing.assert_allclose(find_center(light, point), point[:1])


NEIGHBOURS = {
    "beside": [(33.0, 20.0, 1500.0)],
    "two": [(33.0, 20.0, 800.0), (20.0, 32.0, 700.0)],
    "opposite": [(33.0, 20.0, 800.0), (13.0, 20.0, 300.0)],
    "at the edge": [(23.0, 38.5, 2000.0)],
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_light_of_neighbours_is_replaced(name):
    """By that on the other side, where it is well above the noise."""
    galaxy = draw(23.3, 19.8, sigma=2.5, flux=2000.0, e=0.1)[:, None]
    others = sum(draw(x, y, 1.8, flux)[:, None] for x, y, flux in NEIGHBOURS[name])
    center = torch.tensor([[23.3, 19.8]])
    light = galaxy + others
    own, stable = _without_neighbours(light, light, center)
    assert torch.equal(own, stable)
    left = (own - galaxy).abs().sum() / others.sum()
    # The fainter one of two opposite sources has no partner without light.
    assert left < (0.65 if name == "opposite" else 0.2)
    window = torch.tensor([[18.0, 14.0], [28.0, 26.0]])
    measured, alone = (
        measure(image, torch.ones_like(image), None, PSF[None], window=window)
        for image in (light, galaxy)
    )
    np.testing.assert_allclose(measured.center, alone.center, atol=0.3)
    error = (measured.log_flux - alone.log_flux).abs().item()
    assert error < 0.15


def test_galaxy_alone_is_left_as_it_is():
    """Whatever its shape, with its centre anywhere between pixels."""
    for x, y in [(23.0, 20.0), (23.24, 19.77), (22.5, 20.4)]:
        light = draw(x, y, 2.0, 1e5, e=0.3)[:, None]
        stable = stabilised(light, torch.ones_like(light), 1.0)
        own, _ = _without_neighbours(light, stable, torch.tensor([[x, y]]))
        assert torch.equal(own, light)
    noise = torch.randn(50, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    center = torch.tensor([[23.3, 19.8]]).expand(50, 2)
    own, _ = _without_neighbours(noise, noise, center)
    assert (own != noise).float().mean() < 0.01


def test_background_is_in_the_features_only():
    light = draw(23.4, 19.8, flux=1e4)
    clean, raised = (measure_all(light + sky).features[0] for sky in (0.0, 0.5))
    assert ((raised - clean).abs() > 0.5).sum() >= 4


def test_guess_of_the_flux_is_proportional_to_it_and_near():
    light = torch.cat([draw(23.4, 19.8, flux=10.0**k) for k in (4, 5, 6)])
    found = measure_all(light).log_flux[:, 0].exp()
    np.testing.assert_allclose(found / found[0], [1, 10, 100], rtol=1e-3)
    assert 1 < found[0] / 1e4 < 3


def test_bright_galaxies_differ_in_their_logarithms_only():
    """The light over its noise depends on the brightness, so there is no gain."""
    bright, brighter = measure_all(
        torch.cat([draw(23.4, 19.8, flux=f) for f in (1e6, 1e7)]), gain=None
    ).features
    assert bright.shape == (n_features(1),)
    changed = (bright - brighter).abs() > 1e-3
    # Seven logarithms, and the light at the edges.
    assert 7 <= changed.sum() <= 7 + N_EDGES


def test_noise_of_stabilised_light_is_one():
    generator = torch.Generator().manual_seed(0)
    for light, gain in ((0.0, None), (0.0, 99.0), (400.0, 4.0), (400.0, None)):
        noise = (1 + light / gain if gain else 1.0) ** 0.5
        image = light + noise * torch.randn(20_000, generator=generator)
        stable = stabilised(image, torch.ones(1), gain)
        assert stable.std().item() == pytest.approx(1, abs=0.03)


def test_bad_pixels_with_a_huge_variance_change_nothing():
    light = torch.cat([draw(23.4, 19.8), draw(21.4, 18.8)])
    background = torch.ones_like(light)
    clean = measure_all(light, None, background)
    background[:, 3:6, 2:9] = 1e12
    marked = measure_all(light, None, background)
    torch.testing.assert_close(marked.features, clean.features, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(marked.log_flux, clean.log_flux)


@pytest.mark.parametrize("unit", [1e-6, 1e4])
def test_measurements_do_not_depend_on_the_unit(unit):
    light = draw(23.4, 19.8)
    background = torch.ones_like(light)
    one = measure_all(light, 4.0, background)
    other = measure_all(unit * light, 4.0 / unit, unit**2 * background)
    torch.testing.assert_close(other.center, one.center)
    same = (other.features - one.features).abs() < 1e-4
    # The noise itself.
    assert (~same).sum() == 1


def test_measurements_do_not_depend_on_the_place_in_the_batch():
    light = torch.randn(32, *SHAPE, generator=torch.Generator().manual_seed(0))
    light = light + torch.cat([draw(20 + i / 9, 18 + i / 7) for i in range(32)])
    together = measure_all(light)
    for i in (1, 5, 17, 31):
        alone = measure_all(light[i : i + 1].expand(32, -1, -1).contiguous())
        for one, all_of_them in zip(alone, together, strict=True):
            assert torch.equal(one[0], all_of_them[i])


def test_measurements_of_bands_do_not_depend_on_the_place_in_the_batch():
    light = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(0))
    light = light + torch.cat([draw(20 + i / 9, 18 + i / 7) for i in range(64)])
    light = light.unflatten(0, (32, 2))
    background = torch.tensor([1.0, 3.0])[:, None, None].expand_as(light)
    psf = PSF.expand_as(light)
    together = measure(light, background, 4.0, psf)
    for i in (1, 17, 31):
        same = light[i : i + 1].expand(32, -1, -1, -1).contiguous()
        alone = measure(same, background, 4.0, psf)
        for one, all_of_them in zip(alone, together, strict=True):
            assert torch.equal(one[0], all_of_them[i])


@pytest.mark.parametrize("value", [0.0, -5.0, 1e4, 1e30, np.inf, -np.inf])
def test_any_stamp_has_finite_measurements(value):
    light = torch.full((2, *SHAPE), value)
    light[1, 3, 4] = -value
    for part in measure_all(light):
        assert part.isfinite().all()


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (12, 12), (110, 64)])
def test_stamps_of_any_shape_are_measured(shape):
    light = torch.rand(3, 2, *shape)
    measured = measure(light, torch.ones_like(light), 1.0, torch.ones_like(light))
    assert measured.features.shape == (3, n_features(2))
    assert measured.features.isfinite().all()
    widths = shapelet_widths(light)
    assert (widths.diff() > 0).all()


def test_bands_are_measured_around_the_centre_of_their_sum():
    """In the first band alone, a bright pixel would be taken for the galaxy."""
    light = torch.cat([draw(23.4, 19.8, flux=f) for f in (20.0, 4000.0, 2000.0)])
    light[0, 3, 4] = 60.0
    background = torch.tensor([400.0, 1.0, 4.0])[:, None, None].expand_as(light)
    measured = measure_bands(light, background=background)
    np.testing.assert_allclose(measured.center[0], [23.4, 19.8], atol=0.02)
    alone = measure_bands(light[:1], background=background[:1])
    np.testing.assert_allclose(alone.center[0], [4, 3], atol=1)


def test_weights_of_bands_are_the_inverse_of_their_variances():
    """Two galaxies, each in one band; the centre is the mean between them."""
    light = torch.cat([draw(x, 20.0, 4.0, 1e5) for x in (24.0, 25.0)])
    background = torch.tensor([1.0, 3.0])[:, None, None].expand_as(light)
    noise = background.sqrt()[None, :, 0, 0]
    center = find_center(_sum_of_bands(light[None], noise), window_of(SHAPE))
    assert center[0, 0].item() == pytest.approx(24.25, abs=0.02)


def test_colour_is_the_ratio_of_the_guessed_fluxes():
    ratios = torch.tensor([1.0, 2.5, 0.3])
    light = ratios[:, None, None] * draw(23.4, 19.8, flux=1e5)
    found = measure_bands(light, gain=2.0).log_flux[0]
    np.testing.assert_allclose((found - found[0]).exp(), ratios, rtol=1e-3)


def test_features_of_a_band_are_those_of_its_stamp_alone():
    light = torch.cat([draw(23.4, 19.8, flux=f) for f in (1e4, 3e4)])
    gain = torch.tensor([1.0, 5.0])[:, None, None]
    psf = torch.cat([PSF, draw(24, 20, 2.2, 1.0)])
    background = torch.tensor([1.0, 9.0])[:, None, None].expand_as(light)
    together = measure_bands(light, gain, background, psf).features[0, :-2]
    for i, features in enumerate(together.chunk(2)):
        band = slice(i, i + 1)
        alone = measure_bands(light[band], gain[i].item(), background[band], psf[band])
        torch.testing.assert_close(features, alone.features[0, :-2], atol=1e-4, rtol=0)


@given(arrays(np.float32, (5, 1), elements=floats(2.0**-49, 2.0**49, width=32)))
def test_one_band_is_its_own_sum(noise):
    """To the last bit, so that models of one band stay as they are."""
    light = torch.randn(5, 1, 6, 7, generator=torch.Generator().manual_seed(0))
    noise = torch.from_numpy(noise)
    expected = light[:, 0] / noise[:, :, None]
    assert torch.equal(_sum_of_bands(light, noise), expected)
