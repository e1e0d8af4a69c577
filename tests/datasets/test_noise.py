"""Noise against the formula of its variance, and against galsim.CCDNoise."""

import galsim
import numpy as np
import pytest

from sklcae.datasets._noise import add_noise

SHAPE = (400, 500)
DETECTORS = [(10.0, 1.0, 2.0), (100.0, 4.0, 0.0), (0.0, 0.5, 5.0), (2.5, 2.0, 7.0)]


def noisy(level, sky_level, gain, read_noise, seed=0):
    return add_noise(
        np.full(SHAPE, level),
        sky_level=sky_level,
        gain=gain,
        read_noise=read_noise,
        generator=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("level", [0.0, 3.0, 200.0])
@pytest.mark.parametrize(("sky_level", "gain", "read_noise"), DETECTORS)
def test_mean_and_variance(level, sky_level, gain, read_noise):
    pixels = noisy(level, sky_level, gain, read_noise)
    variance = (level + sky_level) / gain + (read_noise / gain) ** 2
    n = pixels.size
    assert abs(pixels.mean() - level) < 5 * np.sqrt(variance / n)
    # Five standard errors of a variance, with the kurtosis of a Poisson variable.
    error = np.sqrt(2 * variance**2 / n + (level + sky_level) / gain**3 / n)
    assert abs(pixels.var() - variance) < 5 * error


@pytest.mark.parametrize(("sky_level", "gain", "read_noise"), DETECTORS)
def test_variance_of_the_background_equals_galsims(sky_level, gain, read_noise):
    model = galsim.CCDNoise(sky_level=sky_level, gain=gain, read_noise=read_noise)
    pixels = noisy(0.0, sky_level, gain, read_noise, seed=1)
    assert pixels.var() == pytest.approx(model.getVariance(), rel=0.03)


def test_noise_of_a_galaxy_equals_galsims():
    image = galsim.ImageD(SHAPE[1], SHAPE[0], init_value=50.0)
    image.addNoise(galsim.CCDNoise(galsim.BaseDeviate(1), 10.0, 2.0, 3.0))
    pixels = noisy(50.0, 10.0, 2.0, 3.0)
    assert pixels.mean() == pytest.approx(image.array.mean(), abs=0.1)
    assert pixels.var() == pytest.approx(image.array.var(), rel=0.03)


def test_without_read_noise_the_electrons_are_whole():
    electrons = (noisy(3.3, 10.0, 4.0, 0.0) + 10.0) * 4.0
    np.testing.assert_allclose(electrons, np.round(electrons), atol=1e-9)


def test_no_light_no_sky_no_read_noise():
    assert not noisy(0.0, 0.0, 1.0, 0.0).any()


def test_pixels_below_zero_get_no_poisson_noise():
    assert not noisy(-1e-6, 0.0, 1.0, 0.0).any()


def test_pixels_are_independent():
    pixels = noisy(0.0, 10.0, 1.0, 2.0)
    correlation = np.corrcoef(pixels[:, :-1].ravel(), pixels[:, 1:].ravel())[0, 1]
    assert abs(correlation) < 5 / np.sqrt(pixels.size)


def test_the_generator_determines_the_noise_and_the_stamp_is_not_changed():
    stamp = np.full(SHAPE, 5.0)
    detector = {"sky_level": 10.0, "gain": 1.0, "read_noise": 2.0}
    first, again, other = (
        add_noise(stamp, generator=np.random.default_rng(seed), **detector)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.9
    assert (stamp == 5.0).all()
