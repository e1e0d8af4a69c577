"""Flags: stamps whose parameters are not to be trusted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from sklcae import ConditionalAutoencoderRegressor, ProfileFitRegressor, stack_planes
from sklcae._fixed_psf import gaussian_psf
from sklcae._flags import FLAGS
from tests.profiles import FWHM, NAMES, NOISE, draw_truth, images_of, with_noise

SHAPE = (40, 40)
N = 30


def fitter(**kwargs):
    options = {"psf": FWHM, "noise": NOISE, "max_neighbours": 3, **kwargs}
    return ProfileFitRegressor(**options)


@pytest.fixture(scope="module")
def data():
    """Clean images of bright galaxies, and the truth."""
    truth = draw_truth(N, 1, SHAPE, flux=(8_000.0, 30_000.0))
    truth[:, 1] = truth[:, 1].clip(max=3.0)
    return images_of(truth, SHAPE), truth


@pytest.fixture(scope="module")
def images(data):
    return with_noise(data[0], 1)


@pytest.fixture(scope="module")
def network(data):
    """A network that is trained for a few seconds."""
    truth = draw_truth(300, 2, SHAPE, flux=(2_000.0, 40_000.0))
    X = with_noise(images_of(truth, SHAPE), 2)
    model = ConditionalAutoencoderRegressor.recommended(
        psf=FWHM, pixel_scale=1.0, target_names=NAMES, max_epochs=40, random_state=0
    )
    return model.fit(X, truth)


def shares(flags):
    return pd.DataFrame(flags).mean()


def test_names(images, network):
    flags = fitter().fit(images).flags(images)
    assert list(flags) == list(FLAGS) == list(network.flags(images))
    assert all(flag.dtype == bool and flag.shape == (N,) for flag in flags.values())


@pytest.mark.parametrize("name", list(FLAGS))
def test_the_meaning_is_the_same_everywhere(name):
    page = Path(__file__).parents[1] / "docs" / "guide" / "flags.rst"
    meaning = FLAGS[name].removesuffix(".")
    for text in (ProfileFitRegressor.flags.__doc__, page.read_text()):
        words = " ".join(text.replace("     - ", "").split())
        assert f"{name} {meaning}" in words


def test_clean_galaxies_have_no_flags(images):
    flags = pd.DataFrame(fitter().fit(images).flags(images))
    assert flags.to_numpy().mean() < 0.01


def spoil(name, clean, rng):
    """Return images with a defect that a flag is for."""
    images = with_noise(clean, 3)
    if name == "sky_off":
        return images + 3 * NOISE
    if name == "saturated":
        return np.minimum(images, 0.6 * images.max(axis=(1, 2), keepdims=True))
    if name == "masked":
        images[:, 18:22] = np.nan
    if name == "cosmic_ray":
        for image in images:
            row, column = rng.integers(8, 30, 2)
            image[row, column : column + 4] += 2_000
    if name == "neighbours":
        other = draw_truth(len(images), 9, SHAPE, flux=(8_000.0, 20_000.0))
        other[:, 5] += 12
        images = images + images_of(other, SHAPE)
    return images


@pytest.mark.parametrize(
    "name", ["sky_off", "saturated", "masked", "cosmic_ray", "neighbours"]
)
def test_defects_are_flagged(data, network, name):
    X = spoil(name, data[0], np.random.default_rng(0))
    found = fitter(allow_nan=True).fit(X).flags(X)[name]
    assert found.mean() > 0.9
    if name != "masked":
        assert network.flags(X)[name].mean() > 0.9


def test_blends(data):
    other = data[1].copy()
    other[:, 5:] += [6.0, 5.0]
    X = with_noise(data[0] + images_of(other, SHAPE), 4)
    flags = fitter().fit(X).flags(X)
    assert (flags.blended & flags.neighbours).mean() > 0.7
    far = data[1].copy()
    far[:, 1] = 1.0
    far[:, 5:] = 4.0
    X = with_noise(data[0] + images_of(far, SHAPE), 4)
    flags = fitter().fit(X).flags(X)
    assert flags.neighbours.mean() > 0.9
    assert flags.blended.mean() < 0.2


@pytest.mark.parametrize("width", [0.75, 1.3])
def test_a_wrong_psf(data, images, network, width):
    bright = with_noise(10 * data[0], 5)
    good = fitter().fit(bright).flags(bright).wrong_psf
    wrong = fitter(psf=width * FWHM).fit(bright).flags(bright).wrong_psf
    assert good.mean() < 0.1
    assert wrong.mean() > 0.7


def test_galaxies_at_the_edge(data):
    truth = data[1].copy()
    truth[:, 5] = 0.5
    X = with_noise(images_of(truth, SHAPE), 6)
    assert fitter().fit(X).flags(X).edge.all()


def test_other_galaxies_than_sersic_profiles(data):
    # A bright ring: a galaxy without its inner half.
    inner = data[1].copy()
    inner[:, 0] *= 0.4
    inner[:, 1] /= 2
    X = with_noise(30 * (data[0] - images_of(inner, SHAPE)), 7)
    assert fitter(max_neighbours=0).fit(X).flags(X).poor_fit.mean() > 0.7


def test_bounds_and_steps(images):
    narrow = fitter(bounds={"sersic_index": (0.5, 0.6)}).fit(images)
    assert narrow.flags(images).at_bound.mean() > 0.9
    slow = fitter(max_steps=1).fit(images)
    assert slow.flags(images).not_converged.mean() > 0.9


def test_empty_stamps(images, network):
    X = images.copy()
    X[3] = np.nan
    with pytest.warns(UserWarning, match="no pixel"):
        model = fitter(allow_nan=True, handle_empty="nan").fit(X)
    with pytest.warns(UserWarning, match="no pixel"):
        flags = model.flags(X)
    np.testing.assert_array_equal(np.flatnonzero(flags.no_pixels), [3])
    assert [name for name, flag in flags.items() if flag[3]] == ["no_pixels"]


def test_images_unlike_the_training_set(images, network):
    X = images.copy()
    X[4] *= 1e4
    np.testing.assert_array_equal(
        np.flatnonzero(network.flags(X).outside_training), [4]
    )
    fit = fitter(estimator=network, prefit=True).fit(images)
    np.testing.assert_array_equal(np.flatnonzero(fit.flags(X).outside_training), [4])


def test_predictions_away_from_the_minimum(data, network):
    """A network that has not seen such a sky is wrong, and says so."""
    X = with_noise(data[0], 8) + 2 * NOISE
    y, y_std = network.predict(X, return_std=True)
    wrong = (abs(y - data[1]) > 4 * y_std).any(axis=1)
    flags = network.flags(X)
    assert wrong.mean() > 0.2
    assert (flags.sky_off | flags.not_converged)[wrong].mean() > 0.9


def test_networks_without_a_profile(images):
    X = np.stack([*images, np.minimum(images[0], images[0].max() / 3)])
    model = ConditionalAutoencoderRegressor(
        max_epochs=2, latent_dim=8, random_state=0
    ).fit(images, np.arange(N, dtype=float))
    flags = model.flags(X)
    assert flags.saturated[-1]
    assert list(flags) == list(FLAGS)
    spoiled = X.copy()
    spoiled[:, ::2, ::2] += 1e5
    assert model.flags(spoiled).poor_fit.all()


def test_predictions_within_their_errors_have_no_flags(data, network):
    """The errors of a network exceed those of a fit, and so may its errors."""
    X = with_noise(data[0], 11)
    y, y_std = network.predict(X, return_std=True)
    flags = pd.DataFrame(network.flags(X)).drop(columns="neighbours")
    right = (abs(y - data[1]) < 2 * y_std).all(axis=1)
    assert right.mean() > 0.5
    assert flags[right].any(axis=1).mean() < 0.2


def correlated(clean, sigma):
    """Return images whose noise is smoothed by a Gaussian, with the same variance."""
    noise = np.random.default_rng(12).normal(size=clean.shape)
    noise = gaussian_filter(noise, (0, sigma, sigma), mode="wrap")
    return clean + NOISE * noise / noise.std()


@pytest.mark.parametrize("sigma", [0.5, 0.8])
def test_correlated_noise(data, network, sigma):
    bright = images_of(data[1], SHAPE)
    X = correlated(bright, sigma)
    model = fitter(max_neighbours=0)
    assert model.fit(X).flags(X).correlated_noise.mean() > 0.9
    assert network.flags(X).correlated_noise.mean() > 0.9
    known = fitter(max_neighbours=0, noise_correlation="estimate").fit(X)
    assert not known.flags(X).correlated_noise.any()


def test_bright_galaxies_are_no_correlated_noise(network):
    """Errors of a prediction that exceed the noise are no noise."""
    truth = draw_truth(60, 14, SHAPE, flux=(2e5, 4e5))
    X = with_noise(images_of(truth, SHAPE), 14)
    assert network.flags(X).correlated_noise.mean() < 0.05


def test_neighbours_are_no_correlated_noise(data):
    other = data[1].copy()
    other[:, 5:] = 6.0
    X = with_noise(data[0] + images_of(other, SHAPE), 13)
    flags = fitter(max_neighbours=0).fit(X).flags(X)
    assert flags.poor_fit.all()
    assert flags.correlated_noise.mean() < 0.1


def test_planes(data):
    X = stack_planes(
        with_noise(data[0], 1),
        variance=NOISE**2,
        psf=gaussian_psf(FWHM, (1, *SHAPE))[0, 0],
    )
    planes = ("image", "variance", "psf")
    flags = ProfileFitRegressor(planes=planes).fit(X).flags(X)
    assert shares(flags).max() < 0.1


def test_a_fixed_sky_is_no_reason_for_a_flag(images):
    flags = fitter(fit_sky=False).fit(images).flags(images)
    assert flags.not_converged.mean() < 0.1


@pytest.mark.parametrize("factor", [1e-20, 1e15])
def test_units_do_not_matter(images, factor):
    other = images + np.roll(images, 7, axis=2)
    expected = fitter().fit(other).flags(other).blended
    model = fitter(noise=NOISE * factor, gain=1 / factor).fit(other * factor)
    np.testing.assert_array_equal(model.flags(other * factor).blended, expected)


def test_stamps_one_pixel_high():
    X = np.random.default_rng(0).normal(size=(3, 1, 8))
    flags = ProfileFitRegressor(psf=2.0, noise=1.0).fit(X).flags(X)
    assert flags.not_converged.all()
