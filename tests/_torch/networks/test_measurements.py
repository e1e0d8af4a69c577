"""What the encoder of the "sersic" network measures in stamps."""

import numpy as np
import pytest
import torch

from sklcae._torch.networks.measurements import (
    LARGEST_ORDER,
    PAIRS,
    find_center,
    measure,
    n_features,
    shapelet_widths,
    shapelets,
    stabilised,
)

SHAPE = (40, 48)


def draw(x, y, sigma=3.0, flux=1000.0, e=0.0):
    """Return Gaussians (1, H, W)."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    u, v = (columns - x) / (sigma * (1 + e)), (rows - y) / (sigma * (1 - e))
    image = np.exp(-(u**2 + v**2) / 2)
    return torch.tensor(flux * image / image.sum(), dtype=torch.float32)[None]


PSF = draw(24, 20, 1.5, 1.0)


def measure_all(light, gain=4.0):
    background = torch.ones_like(light)
    return measure(light, background, gain, PSF.expand(len(light), -1, -1))


def test_coefficient_is_the_sum_of_the_image_times_the_shapelet():
    """Orders 0 and 1 have closed forms; the light is a random image."""
    image = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    x, y, width = 22.3, 18.6, 2.5
    found = shapelets(image, torch.tensor([[x, y]]), torch.tensor([width, 5.0]))[0, 0]
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
    np.testing.assert_allclose(find_center(light), places, atol=0.02)


def test_guess_of_the_flux_is_proportional_to_it_and_near():
    light = torch.cat([draw(23.4, 19.8, flux=10.0**k) for k in (4, 5, 6)])
    found = measure_all(light).log_flux.exp()
    np.testing.assert_allclose(found / found[0], [1, 10, 100], rtol=1e-3)
    assert 1 < found[0] / 1e4 < 3


def test_bright_galaxies_differ_in_their_logarithms_only():
    """The light over its noise depends on the brightness, so there is no gain."""
    bright, brighter = measure_all(
        torch.cat([draw(23.4, 19.8, flux=f) for f in (1e6, 1e7)]), gain=None
    ).features
    assert bright.shape == (n_features(),)
    changed = (bright - brighter).abs() > 1e-3
    assert changed.sum() == 7


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
    clean = measure(light, background, None, PSF.expand(2, -1, -1))
    background[:, 3:6, 2:9] = 1e12
    marked = measure(light, background, None, PSF.expand(2, -1, -1))
    torch.testing.assert_close(marked.features, clean.features, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(marked.log_flux, clean.log_flux)


@pytest.mark.parametrize("unit", [1e-6, 1e4])
def test_measurements_do_not_depend_on_the_unit(unit):
    light = draw(23.4, 19.8)
    background = torch.ones_like(light)
    one = measure(light, background, 4.0, PSF)
    other = measure(unit * light, unit**2 * background, 4.0 / unit, PSF)
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


@pytest.mark.parametrize("value", [0.0, -5.0, 1e4, 1e30, np.inf, -np.inf])
def test_any_stamp_has_finite_measurements(value):
    light = torch.full((2, *SHAPE), value)
    light[1, 3, 4] = -value
    for part in measure_all(light):
        assert part.isfinite().all()


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (12, 12), (110, 64)])
def test_stamps_of_any_shape_are_measured(shape):
    light = torch.rand(3, *shape)
    measured = measure(light, torch.ones_like(light), 1.0, torch.ones_like(light))
    assert measured.features.shape == (3, n_features())
    assert measured.features.isfinite().all()
    widths = shapelet_widths(light)
    assert (widths.diff() > 0).all()
