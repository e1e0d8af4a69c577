"""Sources on stamps: none is missed, and noise is none."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklcae._detection import (
    LEAST_COVERAGE,
    Sources,
    _contrast,
    clean,
    find_in_residual,
    find_sources,
    psf_sigma,
)
from sklcae._fixed_psf import gaussian_psf
from tests.profiles import FWHM, NOISE, draw_truth, images_of, with_noise

SHAPE = (48, 56)
PSF = np.asarray(gaussian_psf(FWHM, (1, *SHAPE)))[0, 0]
SIGMA = FWHM / np.sqrt(8 * np.log(2))
VARIANCE = np.full(SHAPE, NOISE**2)
COUNTS = np.ones(SHAPE, dtype=bool)


def galaxy(x, y, flux=10_000.0, radius=3.0, index=1.0, e1=0.0, e2=0.0):
    """Render a galaxy without noise; x and y count from the centre of a pixel."""
    truth = np.array([[flux, radius, index, e1, e2, x + 0.5, y + 0.5]])
    return images_of(truth, SHAPE)[0]


def find(image, counts=COUNTS, gain=1.0, **kwargs):
    return find_sources(image, VARIANCE, counts, PSF, gain, **kwargs)


def nearest(sources, x, y):
    return np.hypot(sources.x - x, sources.y - y).min(initial=np.inf)


def test_an_isolated_galaxy_is_one_source_at_its_place():
    truth = draw_truth(60, shape=SHAPE, flux=(2_000.0, 200_000.0))
    stamps = with_noise(images_of(truth, SHAPE))
    found = [find(stamp) for stamp in stamps]
    assert [len(sources.x) for sources in found] == [1] * 60
    x, y, flux = np.array([[s.x[0], s.y[0], s.flux[0]] for s in found]).T
    assert np.abs(x - (truth[:, 5] - 0.5)).max() < 1
    assert np.abs(y - (truth[:, 6] - 0.5)).max() < 1
    # Gaussians do not reach into the wings of a profile.
    assert np.median(flux / truth[:, 0]) == pytest.approx(0.9, abs=0.1)
    assert np.abs(np.log(flux / truth[:, 0])).max() < 0.7


def test_a_large_bright_galaxy_is_one_source():
    rng = np.random.default_rng(0)
    for index in (0.5, 1.0, 2.5, 4.0):
        for e1 in (0.0, 0.6):
            light = galaxy(27.3, 24.1, 200_000.0, 10.0, index, e1)
            noise = rng.normal(size=SHAPE) * np.sqrt(NOISE**2 + light)
            assert len(find(light + noise).x) == 1


def test_noise_has_no_sources():
    rng = np.random.default_rng(0)
    stamps = NOISE * rng.normal(size=(100, *SHAPE))
    assert sum(len(find(stamp).x) for stamp in stamps) == 0


def test_light_without_its_noise_would_break_into_pieces():
    light = galaxy(27.3, 24.1, 2e6, 14.0, 0.5)
    stamp = with_noise(light[None])[0]
    assert len(find(stamp, gain=1.0).x) == 1
    assert len(find(stamp, gain=None).x) > 1


@pytest.mark.parametrize("angle", [0, 50, 140, 260])
@pytest.mark.parametrize("distance", [6.0, 9.0, 15.0])
def test_a_neighbour_is_found(distance, angle):
    x = 27 + distance * np.cos(np.deg2rad(angle))
    y = 24 + distance * np.sin(np.deg2rad(angle))
    light = galaxy(27, 24, 20_000.0, 5.0) + galaxy(x, y, 6_000.0, 1.5)
    sources = find(with_noise(light[None])[0])
    assert len(sources.x) == 2
    assert np.hypot(sources.x[0] - 27, sources.y[0] - 24) < 1
    assert np.hypot(sources.x[1] - x, sources.y[1] - y) < 1
    assert sources.flux[1] / sources.flux[0] == pytest.approx(0.3, rel=0.8)


def test_a_neighbour_on_the_slope_need_not_be_a_peak():
    light = galaxy(24, 24, 60_000.0, 6.0) + galaxy(30.5, 24, 3_000.0, 1.5)
    # The light falls all along the line through both.
    assert (np.diff(light[24, 24:40]) < 0).all()
    sources = find(with_noise(light[None])[0])
    assert len(sources.x) == 2
    assert nearest(sources, 30.5, 24) < 1.5


def test_five_galaxies_are_five_sources():
    places = [(27, 24), (12, 10), (44, 12), (14, 38), (40, 37)]
    light = sum(galaxy(x, y, 8_000.0, 2.0) for x, y in places)
    sources = find(with_noise(light[None])[0])
    assert len(sources.x) == 5
    assert max(nearest(sources, x, y) for x, y in places) < 0.5


def test_the_source_nearest_to_the_centre_comes_first():
    light = galaxy(20, 24) + galaxy(38, 20)
    for x, y in ((20, 24), (38, 20)):
        sources = find(light, center=(x, y))
        assert sources.x[0] == pytest.approx(x, abs=0.5)
        assert sources.y[0] == pytest.approx(y, abs=0.5)
    assert find(light).x[0] == pytest.approx(20, abs=0.5)


def test_the_sky_does_not_matter():
    stamp = with_noise((galaxy(20, 24) + galaxy(38, 20))[None])[0]
    rows, columns = np.indices(SHAPE)
    # With a gain the sky would have Poisson noise.
    expected = find(stamp, gain=None)
    for sky in (500.0, -30.0, 0.3 * columns - 0.2 * rows):
        sources = find(stamp + sky, gain=None)
        np.testing.assert_allclose(sources.x, expected.x, atol=0.6)
        np.testing.assert_allclose(sources.y, expected.y, atol=0.6)


@settings(max_examples=6)
@given(st.floats(1e-3, 1e3))
def test_the_unit_of_the_light_does_not_matter(factor):
    stamp = with_noise((galaxy(20, 24) + galaxy(38, 20))[None])[0]
    expected = find(stamp)
    sources = find_sources(
        factor * stamp, factor**2 * VARIANCE, COUNTS, PSF, 1 / factor
    )
    np.testing.assert_allclose(sources.x, expected.x, atol=1e-3)
    np.testing.assert_allclose(sources.flux, factor * expected.flux, rtol=1e-3)


def test_the_sky_is_not_light_of_the_sources():
    light = galaxy(20, 24, e1=0.4) + galaxy(38, 20, e2=-0.4)
    np.testing.assert_allclose(
        find(light + 100, gain=None), find(light, gain=None), rtol=1e-4
    )


def test_x_and_y_change_places():
    stamp = with_noise((galaxy(20, 24, e1=0.3) + galaxy(38, 20))[None])[0]
    expected = find(stamp)
    sources = find_sources(stamp.T, VARIANCE.T, COUNTS.T, PSF.T, 1.0)
    for name, other in (("x", "y"), ("y", "x"), ("xx", "yy"), ("xy", "xy")):
        np.testing.assert_allclose(
            getattr(sources, name), getattr(expected, other), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("e1", [-0.3, 0.0, 0.3])
@pytest.mark.parametrize("e2", [-0.3, 0.0, 0.3])
def test_moments_are_those_of_the_source_as_seen(e1, e2):
    rows, columns = np.indices(SHAPE)
    size = 3.0**2
    moments = size * np.array([[1 + e1, e2], [e2, 1 - e1]])
    d = np.stack([columns - 27.4, rows - 23.8])
    squared = np.einsum("iyx,ij,jyx->yx", d, np.linalg.inv(moments), d)
    sources = find(1_000 * np.exp(-squared / 2), gain=None)
    assert len(sources.x) == 1
    total = sources.xx[0] + sources.yy[0]
    assert sources.x[0] == pytest.approx(27.4, abs=0.15)
    assert sources.y[0] == pytest.approx(23.8, abs=0.15)
    assert total == pytest.approx(2 * size, rel=0.15)
    assert (sources.xx[0] - sources.yy[0]) / total == pytest.approx(e1, abs=0.1)
    assert 2 * sources.xy[0] / total == pytest.approx(e2, abs=0.1)
    flux = 1_000 * 2 * np.pi * np.sqrt(np.linalg.det(moments))
    assert sources.flux[0] == pytest.approx(flux, rel=0.1)


def test_the_noise_of_the_contrast_is_its_scatter():
    rng = np.random.default_rng(0)
    counts = rng.random(SHAPE) > 0.1
    counts[:, 20:23] = False
    variance = rng.uniform(5, 20, SHAPE)
    stamps = 100 + rng.normal(size=(300, *SHAPE)) * np.sqrt(variance)
    both = [_contrast(clean(s, variance, counts), SIGMA, 2 * SIGMA) for s in stamps]
    noise = both[0][1]
    usable = np.isfinite(noise)
    assert usable.mean() > 0.9
    scatter = np.std([contrast for contrast, _ in both], axis=0)[usable]
    mean = np.mean([contrast for contrast, _ in both], axis=0)[usable]
    ratio = scatter / noise[usable]
    assert ratio.mean() == pytest.approx(1, abs=0.02)
    assert ratio.std() < 0.07
    # A constant has no contrast, at edges and masks either.
    assert np.abs(mean / noise[usable]).max() < 0.3


def test_masked_pixels_are_not_used():
    stamp = with_noise(galaxy(27, 24)[None])[0]
    counts = COUNTS.copy()
    counts[10:12, 40] = False
    counts[:, 28] = False
    spoiled = np.where(counts, stamp, 1e6)
    sources = find(spoiled, counts)
    assert len(sources.x) == 1
    assert nearest(sources, 27, 24) < 1
    for value in (np.nan, np.inf, 0.0):
        same = find(np.where(counts, stamp, value), counts)
        np.testing.assert_array_equal(same, sources)
    np.testing.assert_array_equal(find(np.where(counts, stamp, np.nan)), sources)
    for value in (0.0, -1.0, np.inf, np.nan):
        variance = np.where(counts, VARIANCE, value)
        same = find_sources(stamp, variance, COUNTS, PSF, 1.0)
        np.testing.assert_array_equal(same, sources)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 3), (5, 5), (5, 40), (64, 64)])
@pytest.mark.parametrize("value", [0.0, -5.0, 1e12, np.nan])
@pytest.mark.parametrize("masked", [False, True])
def test_stamps_without_light_have_no_sources(shape, value, masked):
    image, variance = np.full(shape, value), np.ones(shape)
    counts = np.full(shape, not masked)
    sources = find_sources(image, variance, counts, PSF, 1.0)
    assert isinstance(sources, Sources)
    assert all(values.shape == (0,) for values in sources)
    model = np.zeros(shape)
    sources = find_in_residual(image, model, variance, counts, PSF, [], 1.0)
    assert len(sources.x) == 0


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 12), st.integers(1, 12))
def test_measurements_are_finite(seed, height, width):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(height, width)) * 10 ** rng.uniform(-2, 6, (height, width))
    counts = rng.random(image.shape) > 0.3
    sources = find_sources(image, np.ones(image.shape), counts, PSF)
    assert np.isfinite(sources).all()
    assert (sources.flux >= 0).all()
    assert (sources.xx * sources.yy > sources.xy**2).all()


def test_single_precision_gives_the_same_sources():
    stamp = with_noise((galaxy(20, 24) + galaxy(38, 20))[None])[0].astype(np.float32)
    expected = find(stamp.astype(np.float64))
    np.testing.assert_allclose(find(stamp), expected, rtol=1e-4)


def test_calls_at_the_same_time_are_equal_to_serial_ones():
    stamps = with_noise(images_of(draw_truth(16, shape=SHAPE), SHAPE))
    expected = [find(stamp) for stamp in stamps]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(find, stamps), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_width_of_a_psf():
    assert psf_sigma(PSF) == pytest.approx(SIGMA, rel=0.05)
    assert psf_sigma(7 * PSF) == pytest.approx(psf_sigma(PSF))
    # All the light in one pixel.
    assert psf_sigma(np.ones((1, 1))) == 0.5


class TestResidual:
    central = galaxy(24, 24, 60_000.0, 6.0)
    neighbour = galaxy(30.5, 24, 3_000.0, 1.5)
    noise = with_noise((central + neighbour)[None])[0] - central - neighbour

    def find(self, residual, model, known):
        return find_in_residual(residual, model, VARIANCE, COUNTS, PSF, known, 1.0)

    def test_a_source_that_was_left_out_is_found(self):
        residual = self.neighbour + self.noise
        sources = self.find(residual, self.central, [(24, 24)])
        assert len(sources.x) == 1
        assert nearest(sources, 30.5, 24) < 1
        assert sources.flux[0] == pytest.approx(3_000, rel=0.4)

    def test_a_complete_model_leaves_nothing(self):
        model = self.central + self.neighbour
        assert len(self.find(self.noise, model, [(24, 24), (30.5, 24)]).x) == 0

    def test_an_inexact_model_leaves_nothing(self):
        model = galaxy(24, 24, 300_000.0, 6.0)
        light = galaxy(24, 24, 300_000.0, 5.9, 1.03, 0.02)
        residual = with_noise(light[None])[0] - model
        assert len(self.find(residual, model, []).x) == 0

    def test_known_sources_are_not_found_again(self):
        residual = self.neighbour + self.noise
        assert len(self.find(residual, self.central, [(30, 25)]).x) == 0
        # A place outside of the stamp is one of a source as well.
        outside = [(-20.0, 70.0)]
        assert len(self.find(residual, self.central, outside).x) == 1


def test_half_of_a_gaussian_is_not_enough():
    # A peak whose own pixels are masked cannot be placed.
    counts = COUNTS.copy()
    counts[20:29, 23:32] = False
    assert LEAST_COVERAGE == 0.5
    sources = find(with_noise(galaxy(27, 24, radius=1.0)[None])[0], counts)
    assert not ((np.abs(sources.x - 27) < 2) & (np.abs(sources.y - 24) < 2)).any()
