"""Profile fits of several bands: one geometry, and a flux for each band."""

import numpy as np
import pandas as pd
import pytest

from sklcae import ProfileFitRegressor, stack_planes
from sklcae._fixed_psf import gaussian_psf
from tests.profiles import NOISE, SHAPE, draw_truth, images_of

WIDTHS = {"g": 3.5, "r": 3.0, "i": 2.6}
GAINS = [1.0, 2.0, 0.5]
NOISES = np.array([1.0, 1.5, 0.7]) * NOISE
NAMES = [f"flux_{band}" for band in WIDTHS]
NAMES += ["half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
PLANES = ("image", "variance", "psf")
N = 40


def make(random_state=0, radii=(1.0, 1.0, 1.0), n=N):
    """Return stamps (n, 9, H, W) with all planes, and the truth (n, 9)."""
    truth = draw_truth(n, random_state, flux=(6_000.0, 20_000.0))
    rng = np.random.default_rng(random_state)
    colours = 10 ** (0.4 * np.column_stack([np.zeros(n), rng.uniform(0, 1, (n, 2))]))
    images = []
    for i, width in enumerate(WIDTHS.values()):
        of_band = truth.copy()
        of_band[:, 0] *= colours[:, i]
        of_band[:, 1] *= radii[i]
        clean = images_of(of_band, psf=gaussian_psf(width, (1, *SHAPE))[:, 0])
        noise = np.sqrt(NOISES[i] ** 2 + clean.clip(0) / GAINS[i])
        images.append(clean + noise * rng.normal(size=clean.shape))
    psf = np.stack([gaussian_psf(w, (1, *SHAPE))[0, 0] for w in WIDTHS.values()])
    variance = np.broadcast_to((NOISES**2)[:, None, None], (3, *SHAPE))
    images = np.stack(images, axis=1)
    X = stack_planes(
        images,
        variance=np.broadcast_to(variance, images.shape),
        psf=np.broadcast_to(psf, images.shape),
    )
    return X, np.column_stack([truth[:, :1] * colours, truth[:, 1:]])


def fitter(**kwargs):
    options = {"planes": PLANES, "gain": GAINS, "target_names": NAMES, **kwargs}
    return ProfileFitRegressor(**options)


@pytest.fixture(scope="module")
def data():
    return make()


def test_all_parameters_are_within_their_errors(data):
    X, truth = data
    y, y_std = fitter().fit(X, truth).predict(X, return_std=True)
    deviation = abs(y - truth) / y_std
    assert deviation.max() < 5
    assert 0.6 < (deviation < 1).mean() < 0.77


def test_colours_are_more_certain_than_fluxes(data):
    X, truth = data
    y, covariance = fitter().fit(X).predict(X, return_cov=True)
    relative = covariance[:, :3, :3] / (y[:, :3, None] * y[:, None, :3])
    d = np.array([-1.0, 1, 0])
    colour = np.sqrt(np.einsum("a,nab,b->n", d, relative, d))
    flux = np.sqrt(relative[:, 0, 0])
    assert np.median(colour / flux) < 1
    error = np.log(y[:, 1] / y[:, 0]) - np.log(truth[:, 1] / truth[:, 0])
    assert 0.5 < (abs(error) < colour).mean() < 0.85


def test_bands_together_know_more_than_one(data):
    X = data[0]
    _, y_std = fitter().fit(X).predict(X, return_std=True)
    one = ProfileFitRegressor(planes=PLANES, gain=GAINS[0]).fit(X[:, ::3])
    _, alone = one.predict(X[:, ::3], return_std=True)
    assert (np.median(y_std[:, 3:] / alone[:, 1:], axis=0) < 0.8).all()


def test_radii_of_each_band():
    X, truth = make(1, radii=(1.0, 0.8, 0.6))
    radii = [f"half_light_radius_{band}" for band in WIDTHS]
    names = [*NAMES[:3], *radii, *NAMES[4:]]
    y, y_std = fitter(target_names=names).fit(X).predict(X, return_std=True)
    expected = truth[:, 3:4] * [1.0, 0.8, 0.6]
    deviation = abs(y[:, 3:6] - expected) / y_std[:, 3:6]
    assert deviation.max() < 5
    assert (deviation < 1).mean() > 0.6


def test_a_band_that_is_masked(data):
    X, truth = data
    X = X.copy()
    X[3, 1] = np.nan
    X[4, 0, 10:20] = np.nan
    model = fitter(allow_nan=True).fit(X)
    assert pd.DataFrame(model.fit_report(X))["converged"].all()
    y, y_std = model.predict(X, return_std=True)
    assert abs((y[4] - truth[4]) / y_std[4]).max() < 5
    # The other bands still show the galaxy.
    others = np.arange(len(NAMES)) != 1
    assert np.isnan([y[3, 1], y_std[3, 1]]).all()
    assert abs((y[3] - truth[3]) / y_std[3])[others].max() < 5
    report = model.fit_report(X)
    assert np.isnan(report.sky_r[3])
    assert np.isfinite(report.sky_g).all()


def test_plain_images_and_psfs_of_bands(data):
    X, truth = data
    images = X[:, :3]
    model = ProfileFitRegressor(
        psf=list(WIDTHS.values()), gain=GAINS, target_names=NAMES
    ).fit(images, truth)
    np.testing.assert_allclose(model.noise_, NOISES, rtol=0.15)
    y, y_std = model.predict(images, return_std=True)
    assert (abs(y - truth) / y_std).max() < 5.5


def test_report_draws_and_scenes(data):
    X = data[0]
    model = fitter().fit(X)
    report = pd.DataFrame(model.fit_report(X[:8]))
    assert {"sky_g", "sky_i_std", "flux_r", "ellipticity"} <= set(report)
    assert (abs(report["chi_square"] - 1) < 0.15).all()
    y, y_std = model.predict(X[:8], return_std=True)
    draws = model.sample(X[:8], 200, random_state=0)
    shift = abs((draws.mean(axis=1) - y) / y_std)
    assert np.median(shift.max(axis=1)) < 0.5
    assert abs(np.median(draws.std(axis=1) / y_std) - 1) < 0.1
    scenes = model.deblend(X[:8])
    assert scenes.total.shape == (8, 3, *SHAPE)
    chi_square = scenes.residual**2 / (X[:8, 3:6] + scenes.central.clip(min=0))
    assert 0.8 < chi_square.mean() < 1.3
    flags = pd.DataFrame(model.flags(X))
    assert flags.drop(columns="edge").to_numpy().mean() < 0.02


def test_neighbours_in_bands(data):
    X, truth = (rows[:20] for rows in data)
    other, _ = make(5, n=len(X))
    crowded = X.copy()
    crowded[:, :3] += np.roll(other[:, :3] * 0.5, 12, axis=3)
    model = fitter(max_neighbours=3).fit(X)
    y = model.predict(crowded)
    assert abs(np.median(y[:, 1] / truth[:, 1]) - 1) < 0.05
    assert (model.fit_report(crowded).n_neighbours >= 1).mean() > 0.9
    assert "flux_i_std" in model.deblend(crowded[:3]).neighbours


def test_same_bits_for_any_split(data):
    X, _ = data
    model = fitter().fit(X)
    expected = model.predict(X)
    np.testing.assert_array_equal(model.predict(X[5:9]), expected[5:9])


def test_save_and_load(data, tmp_path):
    X, _ = data
    correlation = np.zeros((3, 3))
    correlation[1] = 0.2, 1.0, 0.2
    model = fitter(noise_correlation=correlation, max_neighbours=1).fit(X)
    model.save(tmp_path / "fit.sklcae")
    loaded = ProfileFitRegressor.load(tmp_path / "fit.sklcae")
    for one, other in zip(
        model.predict(X[:4], return_std=True),
        loaded.predict(X[:4], return_std=True),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    assert loaded.fitter_.gain == tuple(GAINS)
    np.testing.assert_array_equal(loaded.noise_correlation, correlation)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"target_names": ["flux"]}, "for each of 3 bands"),
        ({"target_names": ["flux_g", "flux_r"]}, "for each of 3 bands"),
        ({"target_names": [*NAMES, "flux_z"]}, "for each of 3 bands"),
        ({"target_names": [*NAMES, "mass"]}, "different names of flux_g, flux_r"),
        ({"gain": [1.0, 2.0]}, "gain"),
        ({"gain": [1.0, 2.0, -1.0]}, "gain"),
        ({"bounds": {"flux": (1, 2)}}, "flux_g"),
    ],
)
def test_wrong_parameters(data, kwargs, message):
    with pytest.raises(ValueError, match=message):
        fitter(**kwargs).fit(data[0])


def test_bounds_of_a_band(data):
    X, _ = data
    y = fitter(bounds={"flux_r": (100.0, 5_000.0)}).fit(X).predict(X)
    assert y[:, 1].max() <= 5_000.0 * (1 + 1e-9)
    assert y[:, 0].max() > 6_000.0
