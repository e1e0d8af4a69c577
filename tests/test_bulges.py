"""Profile fits with a bulge and a disc."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklcae import ProfileFitRegressor
from sklcae._bulges import BULGE_INDEX, INDICES, half_light_radius, join, slopes, split
from sklcae.datasets import make_galaxies
from sklcae.datasets._bulges import relative_disc_radius
from tests.profiles import FWHM, NAMES, NOISE, draw_truth, images_of, with_noise

SHAPE = (48, 48)
N = 60
PARTS = st.floats(-2, 2)


def make(random_state=0, n=N, fraction=(0.2, 0.6)):
    """Return images, the truth (n, 7) of both together, and the share of the bulge."""
    truth = draw_truth(n, random_state, SHAPE, flux=(20_000.0, 60_000.0))
    truth[:, 1], truth[:, 2] = truth[:, 1].clip(max=4.0), 1.0
    share = np.random.default_rng(random_state).uniform(*fraction, n)
    disc, bulge = truth.copy(), truth.copy()
    for i in range(n):
        radius = relative_disc_radius(share[i], 1.0, BULGE_INDEX, 0.4)
        disc[i, 1] *= radius
        bulge[i, 1] *= 0.4 * radius
    disc[:, 0] *= 1 - share
    bulge[:, 0] *= share
    bulge[:, 2] = BULGE_INDEX
    images = images_of(disc, SHAPE) + images_of(bulge, SHAPE)
    return with_noise(images, random_state), truth, share


def fitter(**kwargs):
    return ProfileFitRegressor(**{"psf": FWHM, "noise": NOISE, "bulge": True, **kwargs})


@pytest.fixture(scope="module")
def data():
    return make()


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[PARTS] * 4))
def test_radius_of_both_together(values):
    log_fluxes, log_radii = np.array([values[:2]]), np.array([values[2:]])
    (found,) = half_light_radius(log_fluxes, log_radii, INDICES)
    share = 1 / (1 + np.exp(values[0] - values[1]))
    ratio = np.exp(values[3] - values[2])
    expected = values[2] - np.log(relative_disc_radius(share, *INDICES, ratio))
    assert found == pytest.approx(expected, abs=1e-9)


def test_slopes():
    rng = np.random.default_rng(0)
    values, step = rng.normal(size=(20, 4)), 1e-5

    def both(values):
        radius = half_light_radius(values[:, :2], values[:, 2:], INDICES)
        return np.column_stack([np.logaddexp(*values[:, :2].T), radius])

    found = slopes(values[:, :2], values[:, 2:], INDICES)
    for i, move in enumerate(step * np.eye(4)):
        expected = (both(values + move) - both(values - move)) / (2 * step)
        np.testing.assert_allclose(found[:, :, i], expected, atol=1e-7)


def test_starts_have_the_flux_and_the_place_of_the_profile():
    profile = np.array([[9.0, 1.2, np.log(2.5), 0.1, 0.2, 15.0, 16.0]])
    disc, bulge = split(profile)
    joined, derivatives = join(disc, bulge)
    np.testing.assert_allclose(joined[:, [0, 3, 4, 5, 6]], profile[:, [0, 3, 4, 5, 6]])
    assert abs(joined[0, 1] - 1.2) < 0.3
    assert derivatives.shape == (1, 7, 10)


def test_flux_and_radius_of_both_together(data):
    images, truth, share = data
    model = fitter().fit(images, truth)
    y, y_std = model.predict(images, return_std=True)
    chosen = [0, 1, 3, 4, 5, 6]
    deviation = abs(y - truth)[:, chosen] / y_std[:, chosen]
    assert abs(np.median(y[:, :2] / truth[:, :2], axis=0) - 1).max() < 0.04
    assert 0.58 < (deviation < 1).mean() < 0.8
    assert (y[:, 2] == 1).all()
    report = pd.DataFrame(model.fit_report(images))
    error = (report["bulge_fraction"] - share) / report["bulge_fraction_std"]
    assert 0.55 < (abs(error) < 1).mean() < 0.85
    assert (abs(report["chi_square"] - 1) < 0.12).all()
    assert not report["at_bound"].any()


def test_one_profile_is_biased(data):
    images, truth, _ = data
    y, y_std = fitter(bulge=False).fit(images, truth).predict(images, return_std=True)
    assert (abs(y - truth) < y_std)[:, :2].mean() < 0.5
    assert np.median(y[:, 0] / truth[:, 0]) > 1.01


def test_discs_without_a_bulge():
    truth = draw_truth(30, 2, SHAPE, flux=(20_000.0, 60_000.0))
    truth[:, 2] = 1.0
    images = with_noise(images_of(truth, SHAPE), 2)
    model = fitter().fit(images, truth)
    y, y_std = model.predict(images, return_std=True)
    assert np.isfinite(y_std).all()
    assert abs(np.median(y[:, 0] / truth[:, 0]) - 1) < 0.03
    assert np.median(model.fit_report(images).bulge_fraction) < 0.1


def test_neighbours_draws_images_and_flags(data):
    images, truth, _ = data
    images, truth = images[:6].copy(), truth[:6]
    other = draw_truth(6, 9, SHAPE, flux=(8_000.0, 15_000.0))
    other[:, 1], other[:, 5] = 1.5, 8.0
    images += images_of(other, SHAPE)
    model = fitter(max_neighbours=2).fit(images, truth)
    y, y_std = model.predict(images, return_std=True)
    chosen = [0, 1, 5, 6]
    assert (abs(y - truth)[:, chosen] / y_std[:, chosen]).max() < 4
    scenes = model.deblend(images)
    assert (pd.Series(scenes.neighbours.stamp).value_counts() == 1).all()
    np.testing.assert_allclose(scenes.central.sum(axis=(1, 2)), y[:, 0], rtol=0.15)
    draws = model.sample(images[:2], 50, random_state=0)
    assert abs(np.median(draws, axis=1)[:, 0] / y[:2, 0] - 1).max() < 0.2
    assert not pd.DataFrame(model.flags(images))["poor_fit"].any()


def test_same_bits_for_any_split_and_after_a_file(data, tmp_path):
    images, truth, _ = data
    model = fitter().fit(images, truth)
    expected = model.predict(images[:12], return_std=True)
    model.save(tmp_path / "fit.sklcae")
    loaded = ProfileFitRegressor.load(tmp_path / "fit.sklcae")
    for one, other in zip(
        loaded.predict(images[3:7], return_std=True), expected, strict=True
    ):
        np.testing.assert_array_equal(one, other[3:7])


def test_galaxies_of_the_generator():
    galaxies = make_galaxies(
        30,
        flux=(20_000.0, 50_000.0),
        half_light_radius=(0.6, 1.5),
        bulge_fraction=(0.2, 0.6),
        sersic_index=1.0,
        x0=32.0,
        y0=32.0,
        targets=NAMES,
        planes=("image", "variance", "psf"),
        return_X_y=False,
        random_state=0,
    )
    model = ProfileFitRegressor(
        planes=("image", "variance", "psf"), pixel_scale=0.2, bulge=True
    ).fit(galaxies.data, galaxies.target)
    y = model.predict(galaxies.data)
    ratio = np.median(y[:, :2] / galaxies.target[:, :2], axis=0)
    assert abs(ratio - 1).max() < 0.04


@pytest.mark.parametrize(
    "bounds",
    [{"flux": (1, 2)}, {"sersic_index": (1, 2)}, {"half_light_radius": (1, 2)}],
)
def test_bounds_of_single_profiles_are_refused(data, bounds):
    with pytest.raises(ValueError, match="'bulge' parameter"):
        fitter(bounds=bounds).fit(data[0])


def test_several_bands_are_refused(data):
    images = data[0]
    with pytest.raises(ValueError, match=r"'bulge' parameter .* 2 bands"):
        fitter().fit(np.stack([images, images], axis=1))
