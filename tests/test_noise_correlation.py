"""Profile fits of stamps whose noise is correlated from pixel to pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from sklcae import ProfileFitRegressor
from sklcae._noise import (
    adjacent_correlation,
    is_correlation,
    measure_autocorrelation,
)
from tests._torch.test_residuals import gaussian_correlation
from tests.profiles import FWHM, NOISE, SHAPE, draw_truth, images_of

SIGMA = 0.8


def correlated_noise(n, random_state=0, sigma=SIGMA):
    """Return noise (n, H, W) of variance 1, smoothed by a Gaussian."""
    white = np.random.default_rng(random_state).normal(size=(n, *SHAPE))
    noise = ndimage.gaussian_filter(white, sigma, axes=(1, 2), mode="wrap")
    return noise / noise.std()


@pytest.fixture(scope="module")
def data():
    truth = draw_truth(150, 1, flux=(8_000.0, 30_000.0))
    clean = images_of(truth)
    noise = np.sqrt(NOISE**2 + clean.clip(0))
    return clean + noise * correlated_noise(150, 1), truth


def test_autocorrelation_is_measured():
    found = measure_autocorrelation(correlated_noise(60))
    expected = gaussian_correlation(SIGMA, reach=5)
    np.testing.assert_allclose(found, expected, atol=0.025)
    assert is_correlation(found)


def test_white_noise_has_no_correlation():
    noise = np.random.default_rng(0).normal(size=(50, *SHAPE))
    noise[:, 3:8, 4] = np.nan
    found = measure_autocorrelation(noise)
    assert found[5, 5] == 1
    assert (found != 0).sum() <= 3


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 100))
def test_autocorrelation_of_any_stamp(height, width, seed):
    noise = np.random.default_rng(seed).normal(size=(3, height, width))
    found = measure_autocorrelation(noise)
    assert (abs(found) <= 1).all()
    assert found[found.shape[0] // 2, found.shape[1] // 2] == 1
    assert found.shape == (2 * min(5, height - 1) + 1, 2 * min(5, width - 1) + 1)


@pytest.mark.parametrize("sigma", [0.5, 0.8, 1.5, 3.0])
def test_correlation_of_adjacent_pixels(sigma):
    noise = correlated_noise(20, 3, sigma)
    noise[:, 5:9, 4:20] = np.nan
    found = np.array([adjacent_correlation(one) for one in noise])
    products = noise[:, 1:] * noise[:, :-1]
    expected = np.nanmean(products, axis=(1, 2)) / np.nanmean(noise**2, axis=(1, 2))
    np.testing.assert_allclose(np.median(found), expected.mean(), rtol=0.3)
    assert np.median(found) > 0.2


def test_noise_that_is_correlated_along_rows_alone():
    noise = np.random.default_rng(4).normal(size=(20, 64, 64))
    noise[:, :, 1:] += 0.5 * noise[:, :, :-1]
    assert np.mean([adjacent_correlation(one) > 0.2 for one in noise]) > 0.9
    assert np.mean([adjacent_correlation(one.T) > 0.2 for one in noise]) > 0.9


def test_adjacent_pixels_without_a_correlation():
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(40, *SHAPE))
    assert max(map(adjacent_correlation, noise)) < 0.2
    # Light without a model is no noise.
    light = images_of(draw_truth(40, 5, flux=(500.0, 2_000.0))) / NOISE
    assert max(map(adjacent_correlation, noise + light)) < 0.2
    for level in (0.3, 0.7, 1.0, 1.5):
        other = noise + level
        assert np.mean([adjacent_correlation(one) > 0.2 for one in other]) < 0.1
        other[:, :20] -= 2 * level
        assert np.mean([adjacent_correlation(one) > 0.2 for one in other]) < 0.1
    smooth = 1e-5 * light[0]
    for image in (smooth, np.full(SHAPE, np.nan), np.zeros((1, 1)), np.ones((1, 5))):
        assert adjacent_correlation(image) == 0


def test_correlated_noise_makes_no_sources(data):
    images = data[0][:40]
    model = ProfileFitRegressor(psf=FWHM, noise=NOISE, max_neighbours=4).fit(images)
    n_neighbours = model.fit_report(images).n_neighbours
    assert (n_neighbours > 0).mean() < 0.1


@pytest.mark.parametrize("correlation", ["estimate", gaussian_correlation(SIGMA)])
def test_errors_hold_the_truth(data, correlation):
    images, truth = data
    options = {"psf": FWHM, "noise": NOISE}
    model = ProfileFitRegressor(**options, noise_correlation=correlation).fit(images)
    y, y_std = model.predict(images, return_std=True)
    within = (abs(y - truth) < y_std).mean()
    assert 0.62 < within < 0.74
    plain = ProfileFitRegressor(**options).fit(images)
    y_plain, std_plain = plain.predict(images, return_std=True)
    np.testing.assert_array_equal(y_plain, y)
    assert (abs(y_plain - truth) < std_plain).mean() < 0.45
    assert 2 < np.median(y_std / std_plain) < 3.2


def test_independent_noise_gives_the_same_errors(data):
    images, _ = data
    point = np.zeros((5, 5))
    point[2, 2] = 1
    options = {"psf": FWHM, "noise": NOISE, "fit_sky": False}
    _, plain = ProfileFitRegressor(**options).fit(images).predict(images, True)
    model = ProfileFitRegressor(**options, noise_correlation=point).fit(images)
    _, found = model.predict(images, return_std=True)
    # The last step changes the derivatives a little.
    np.testing.assert_allclose(found, plain, rtol=0.02)


@pytest.mark.parametrize(
    "correlation",
    [
        np.ones((2, 3)),
        np.ones(3),
        np.zeros((3, 3)),
        [[0, 0.5, 0], [0, 1, 0], [0, 0.1, 0]],
        "measure",
    ],
)
def test_wrong_correlations(data, correlation):
    model = ProfileFitRegressor(psf=FWHM, noise_correlation=correlation)
    with pytest.raises(ValueError, match="'noise_correlation' parameter"):
        model.fit(data[0])


def test_draws_need_independent_noise(data):
    images, _ = data
    options = {"psf": FWHM, "noise": NOISE}
    correlation = gaussian_correlation(SIGMA)
    model = ProfileFitRegressor(**options, noise_correlation=correlation).fit(images)
    with pytest.raises(ValueError, match="independent from pixel to pixel"):
        model.sample(images)


def test_bad_pixels_and_neighbours_do_not_change_the_estimate(data):
    images, _ = data
    options = {"psf": FWHM, "noise": NOISE, "noise_correlation": "estimate"}
    expected = ProfileFitRegressor(**options).fit(images).noise_correlation_
    spoiled = images.copy()
    spoiled[::7, 3, 3] = 5_000.0
    spoiled[::5, :8, 22:30] += 500.0
    found = ProfileFitRegressor(**options).fit(spoiled).noise_correlation_
    np.testing.assert_allclose(found, expected, atol=0.04)


def test_larger_correlations_than_stamps(data):
    images, _ = data
    small = gaussian_correlation(SIGMA)
    large = np.zeros((151, 151))
    large[71:80, 71:80] = small
    options = {"psf": FWHM, "noise": NOISE}
    results = [
        ProfileFitRegressor(**options, noise_correlation=one)
        .fit(images)
        .predict(images[:4], return_std=True)[1]
        for one in (small, large)
    ]
    np.testing.assert_allclose(*results, rtol=1e-6)
