"""Names and units of the parameters of profiles, and their errors."""

import numpy as np
import pytest

from sklcae._profiles import (
    DERIVED,
    ONE_BAND,
    PARAMETERS,
    ProfileParameters,
    to_rendered,
)

ALL = (*PARAMETERS, *DERIVED)
SCALE = 0.2
N_FITTED = len(PARAMETERS)
# Logarithms of flux, radius in pixels and index; e1, e2, x and y.
ROW = np.array([np.log(1000), np.log(4), np.log(1.5), 0.3, -0.2, 15.0, 14.0])
to_named, covariance_of_named = ONE_BAND.named, ONE_BAND.covariance_of_named


def covariance(random_state=0):
    a = np.random.default_rng(random_state).normal(size=(N_FITTED, N_FITTED))
    return a @ a.T * 1e-6


def test_units_of_named_parameters():
    (found,) = to_named(ROW[None], ALL, SCALE)
    values = dict(zip(ALL, found, strict=True))
    e, angle = np.hypot(0.3, 0.2), np.rad2deg(np.arctan2(-0.2, 0.3)) / 2 + 180
    expected = {
        "flux": 1000,
        "half_light_radius": 0.8,
        "sersic_index": 1.5,
        "e1": 0.3,
        "e2": -0.2,
        "x0": 15.5,
        "y0": 14.5,
        "ellipticity": e,
        "position_angle": angle,
    }
    assert values == pytest.approx(expected)


@pytest.mark.parametrize("name", PARAMETERS)
def test_there_and_back(name):
    column = PARAMETERS.index(name)
    named = to_named(ROW[None], [name], SCALE)[:, 0]
    back = to_rendered(name, named, SCALE)
    np.testing.assert_allclose(back, ROW[column], rtol=1e-12)


@pytest.mark.parametrize("name", PARAMETERS[:3])
def test_values_without_a_logarithm_are_unknown(name):
    found = to_rendered(name, np.array([0.0, -1.0, np.nan, 2.0]), SCALE)
    np.testing.assert_array_equal(np.isnan(found), [True, True, True, False])


@pytest.mark.parametrize("angle", [0.0, 30.0, 89.0, 91.0, 135.0, 179.5])
def test_position_angles(angle):
    row = ROW.copy()
    row[3], row[4] = (
        0.4 * np.cos(2 * np.deg2rad(angle)),
        0.4 * np.sin(2 * np.deg2rad(angle)),
    )
    found = to_named(row[None], DERIVED, SCALE)[0]
    np.testing.assert_allclose(found, [0.4, angle], atol=1e-9)


def test_errors_are_propagated():
    given = covariance()
    found = covariance_of_named(ROW[None], given[None], ALL, SCALE)[0]
    slopes = np.empty((len(ALL), N_FITTED))
    step = 1e-6
    for column in range(N_FITTED):
        ends = []
        for sign in (-1, 1):
            row = ROW.copy()
            row[column] += sign * step
            ends.append(to_named(row[None], ALL, SCALE)[0])
        slopes[:, column] = (ends[1] - ends[0]) / (2 * step)
    expected = slopes @ given @ slopes.T
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_errors_are_the_spread_of_draws():
    given = covariance(1)
    rng = np.random.default_rng(0)
    draws = rng.multivariate_normal(ROW, given, 20_000)
    spread = np.cov(to_named(draws, ALL, SCALE).T)
    found = covariance_of_named(ROW[None], given[None], ALL, SCALE)[0]
    scale = np.sqrt(np.diagonal(found))
    both = np.outer(scale, scale)
    np.testing.assert_allclose(spread / both, found / both, atol=0.05)


def test_names_and_their_order_are_free():
    names = ["y0", "flux", "position_angle"]
    columns = [ALL.index(name) for name in names]
    rows = np.stack([ROW, ROW + 0.1])
    found = to_named(rows, names, SCALE)
    np.testing.assert_array_equal(found, to_named(rows, ALL, SCALE)[:, columns])
    matrices = np.stack([covariance(), covariance(1)])
    some = covariance_of_named(rows, matrices, names, SCALE)
    every = covariance_of_named(rows, matrices, ALL, SCALE)
    np.testing.assert_array_equal(some, every[:, columns][:, :, columns])


def test_a_circle_has_no_angle():
    row = ROW.copy()
    row[3:5] = 0
    found = covariance_of_named(row[None], covariance()[None], ALL, SCALE)[0]
    assert np.isnan(found[-1, -1])
    assert np.isfinite(found[:7, :7]).all()


BANDS = ["flux_g", "flux_r", "half_light_radius", "sersic_index", "e1", "e2"]


def test_parameters_of_bands():
    profile = ProfileParameters.of_targets(BANDS, 2)
    assert profile.names == (*BANDS, "x0", "y0")
    assert profile.columns == ((0, 2, 3, 4, 5, 6, 7), (1, 2, 3, 4, 5, 6, 7))
    assert profile.suffixes == ["_g", "_r"]


def test_radii_of_bands():
    names = ["half_light_radius_r", "half_light_radius_i", "flux_r", "flux_i"]
    profile = ProfileParameters.of_targets(names, 2)
    assert profile.names[:4] == (*names[2:], *names[:2])
    assert profile.columns == ((0, 2, 4, 5, 6, 7, 8), (1, 3, 4, 5, 6, 7, 8))


def test_bands_without_names_have_numbers():
    assert ProfileParameters.of_targets(None, 3).names[:3] == (
        "flux_0",
        "flux_1",
        "flux_2",
    )
    assert ProfileParameters.of_targets(["e1"], 2).names[1] == "flux_1"


@pytest.mark.parametrize(
    "names",
    [
        ["flux"],
        ["flux_g"],
        ["flux_g", "flux_g"],
        ["flux_g", "flux_r", "flux_i"],
        ["flux_g", "flux_r", "half_light_radius_r", "half_light_radius_g"],
        ["flux_g", "flux_r", "half_light_radius_g"],
    ],
)
def test_each_band_is_named_once(names):
    with pytest.raises(ValueError, match="bands"):
        ProfileParameters.of_targets(names, 2)


def test_units_of_bands():
    names = [*BANDS, "x0", "y0"]
    profile = ProfileParameters.of_targets(names, 2)
    values = np.array([[1000.0, 500.0, 0.8, 1.5, 0.3, -0.2, 15.5, 14.5]])
    rendered = profile.rendered(values, names, SCALE)
    np.testing.assert_allclose(rendered[:, [0, 2, 3, 4, 5, 6, 7]], ROW[None])
    assert rendered[0, 1] == pytest.approx(np.log(500))
    np.testing.assert_allclose(profile.named(rendered, names, SCALE), values)
