"""ProfileFitRegressor: a scikit-learn regressor whose predictions are fits."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils._param_validation import InvalidParameterError

from sklcae import ConditionalAutoencoderRegressor, ProfileFitRegressor, stack_planes
from sklcae._fixed_psf import effective_fwhm, gaussian_psf
from sklcae.exceptions import ImageShapeError
from tests.blobs import assert_same_for_any_split
from tests.profiles import (
    FWHM,
    NAMES,
    NOISE,
    SHAPE,
    draw_truth,
    images_of,
    make_stamps,
    with_noise,
)

PSF = gaussian_psf(FWHM, (1, *SHAPE))[0, 0]


def fitter(**kwargs):
    return ProfileFitRegressor(**{"psf": FWHM, "noise": NOISE, **kwargs})


def with_planes(images, *planes):
    """Stamps with a variance, a PSF or both."""
    given = {"variance": NOISE**2, "psf": PSF}
    return stack_planes(images, **{name: given[name] for name in planes})


@pytest.fixture(scope="module")
def data():
    images, truth = make_stamps(16, 1, flux=(5_000.0, 30_000.0))
    return images, pd.DataFrame(truth, columns=NAMES)


@pytest.fixture(scope="module")
def model(data):
    return fitter().fit(*data)


class Guess(RegressorMixin, BaseEstimator):
    """A regressor whose predictions are the mean of y."""

    def fit(self, X, y):
        self.target_names_ = list(y.columns)
        self.mean_ = np.asarray(y).mean(axis=0)
        return self

    def predict(self, X):
        return np.tile(self.mean_, (len(X), 1))


# Parameters and errors ----------------------------------------------------------------


def test_predictions_are_the_truth_within_the_errors(data, model):
    X, y = data
    found, std, cov = model.predict(X, return_std=True, return_cov=True)
    assert found.shape == std.shape == y.shape
    assert cov.shape == (len(y), 7, 7)
    np.testing.assert_allclose(np.diagonal(cov, axis1=1, axis2=2), std**2)
    deviation = (found - y.to_numpy()) / std
    assert 0.7 < deviation.std() < 1.3
    assert abs(deviation).max() < 5
    np.testing.assert_array_equal(model.predict(X), found)
    assert model.score(X, y) > 0.9
    with pytest.raises(ValueError, match="columns of y must be the targets of the fit"):
        model.score(X, y[NAMES[::-1]])


def test_images_without_noise_and_the_fisher_matrix():
    truth = draw_truth(6, 3)
    images = images_of(truth)
    found, std = fitter(max_steps=60).fit(images).predict(images, return_std=True)
    assert (abs(found - truth) / std).max() < 0.02


def test_report(data, model):
    X, _ = data
    report = model.fit_report(X)
    frame = pd.DataFrame(report)
    assert list(frame)[:8] == [
        "converged",
        "at_bound",
        "chi_square",
        "n_pixels",
        "n_steps",
        "n_neighbours",
        "sky",
        "sky_std",
    ]
    names = [*NAMES, "ellipticity", "position_angle"]
    assert list(frame)[8:] == [name + end for name in names for end in ("", "_std")]
    found, std = model.predict(X, return_std=True)
    np.testing.assert_array_equal(frame[NAMES], found)
    np.testing.assert_array_equal(frame[[f"{name}_std" for name in NAMES]], std)
    assert frame.converged.all()
    assert not frame.at_bound.any()
    assert (frame.n_pixels == 32 * 32).all()
    assert frame.n_steps.between(1, 29).all()
    assert (abs(frame.chi_square - 1) < 0.25).all()
    assert (abs(frame.sky / frame.sky_std) < 4).all()


def test_ellipticity_and_position_angle(data):
    X, _ = data
    names = ["ellipticity", "e1", "position_angle", "e2"]
    model = fitter(target_names=names).fit(X)
    found, std, cov = model.predict(X, return_std=True, return_cov=True)
    e, e1, angle, e2 = found.T
    np.testing.assert_allclose(e, np.hypot(e1, e2))
    np.testing.assert_allclose(angle, np.rad2deg(np.arctan2(e2, e1)) / 2 % 180)
    # The spread of e1 and e2 drawn from their covariance.
    rng = np.random.default_rng(0)
    for row in np.flatnonzero(e > 5 * std[:, 0]):
        part = cov[row][np.ix_([1, 3], [1, 3])]
        d1, d2 = rng.multivariate_normal([e1[row], e2[row]], part, 4000).T
        assert np.hypot(d1, d2).std() == pytest.approx(std[row, 0], rel=0.1)
        angles = np.rad2deg(np.arctan2(d2, d1)) / 2 - angle[row]
        spread = ((angles + 90) % 180 - 90).std()
        assert spread == pytest.approx(std[row, 2], rel=0.15)


def test_pixel_scale_is_the_unit_of_radii_alone(data, model):
    X, _ = data
    scaled = fitter(pixel_scale=0.2, psf=FWHM * 0.2, target_names=NAMES).fit(X)
    expected, std = model.predict(X, return_std=True)
    found, found_std = scaled.predict(X, return_std=True)
    units = np.where(np.array(NAMES) == "half_light_radius", 0.2, 1)
    np.testing.assert_allclose(found, expected * units, rtol=1e-4)
    np.testing.assert_allclose(found_std, std * units, rtol=1e-4)
    assert scaled.pixel_scale_ == 0.2


def test_sky(data):
    X, _ = data
    # Not a multiple of the step of float64 in X: the same light remains.
    reports = [
        fitter(fit_sky=sky).fit(X).fit_report(X + offset)
        for sky, offset in ((True, 0), (True, 64.0), (0.01, 0), (False, 0))
    ]
    free, offset, limited, none = reports
    np.testing.assert_allclose(offset.sky, free.sky + 64, atol=0.01)
    assert abs((offset.flux - free.flux) / free.flux_std).max() < 0.03
    assert abs(limited.sky).max() < 0.01
    np.testing.assert_allclose(limited.sky_std, 0.01, rtol=0.01)
    assert (none.sky == 0).all()
    assert (none.sky_std == 0).all()
    assert (none.flux_std < free.flux_std).all()


@pytest.mark.parametrize("sky", [np.True_, np.False_])
def test_flags_of_numpy(data, sky):
    X, _ = data
    found = fitter(fit_sky=sky).fit(X).predict(X[:2])
    expected = fitter(fit_sky=bool(sky)).fit(X).predict(X[:2])
    np.testing.assert_array_equal(found, expected)


def test_a_tiny_prior_is_no_sky(data):
    X, _ = data
    found, expected = (
        fitter(fit_sky=sky).fit(X).predict(X[:4], return_std=True)
        for sky in (1e-300, False)
    )
    assert (abs(found[0] - expected[0]) / expected[1]).max() < 0.05
    np.testing.assert_allclose(found[1], expected[1], rtol=0.01)


@pytest.mark.parametrize(
    "bounds",
    [
        {"flux": (1.0, 20_000.0), "sersic_index": (0.9, 2.2)},
        {"half_light_radius": (0, 3.0), "ellipticity": (0, 0.15)},
    ],
)
def test_bounds(data, model, bounds):
    X, _ = data
    names = [*NAMES, "ellipticity"]
    bounded = fitter(bounds=bounds, target_names=names).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = pd.DataFrame(bounded.predict(X), columns=names)
    free = pd.DataFrame(fitter(target_names=names).fit(X).predict(X), columns=names)
    report = bounded.fit_report(X)
    beyond = np.zeros(len(X), bool)
    for name, (low, high) in bounds.items():
        assert found[name].between(low - 1e-9, high + 1e-9).all()
        assert found[name].between(low + 1e-6, high - 1e-6).any()
        beyond |= ~free[name].between(low, high)
    assert beyond.any()
    assert report.at_bound[beyond].all()
    assert not report.at_bound.all()


def test_few_steps(data):
    X, _ = data
    model = fitter(max_steps=1).fit(X)
    with pytest.warns(ConvergenceWarning, match=r"16 of 16 profile fits .* in row 0"):
        found, std, cov = model.predict(X, return_std=True, return_cov=True)
    assert np.isfinite(found).all()
    assert np.isnan(std).all()
    assert np.isnan(cov).all()
    assert not model.fit_report(X).converged.any()


# Stamps, planes and PSFs --------------------------------------------------------------


def test_psf_as_width_as_stamp_and_as_plane(data, model):
    X, y = data
    expected = model.predict(X)
    as_stamp = fitter(psf=PSF).fit(X, y).predict(X)
    np.testing.assert_array_equal(as_stamp, expected)
    as_odd = fitter(psf=np.pad(PSF, ((0, 1), (0, 1))) * 7).fit(X, y).predict(X)
    np.testing.assert_allclose(as_odd, expected, rtol=1e-4, atol=1e-3)
    planes = ("image", "psf")
    as_plane = fitter(planes=planes, psf=None).fit(with_planes(X, "psf"), y)
    found = as_plane.predict(with_planes(X, "psf"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_variance_planes(data, model):
    X, y = data
    expected, expected_std = model.predict(X, return_std=True)
    kinds = "image", "variance", "psf"
    stamps = with_planes(X, "variance", "psf")
    found, std = (
        ProfileFitRegressor(planes=kinds)
        .fit(stamps, y)
        .predict(stamps, return_std=True)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(std, expected_std, rtol=1e-3)
    # All noise in the plane: that of the truth differs from that of the fit by noise.
    variance = NOISE**2 + images_of(y.to_numpy())
    stamps = stack_planes(X, variance, PSF)
    all_in = ProfileFitRegressor(planes=kinds, gain=None).fit(stamps, y)
    found, std = all_in.predict(stamps, return_std=True)
    assert (abs(found - expected) / expected_std).max() < 0.5
    np.testing.assert_allclose(std, expected_std, rtol=0.2)
    assert all_in.noise_ is None


def test_every_stamp_has_its_own_psf_and_noise():
    truth = draw_truth(6, 4)
    widths, noises = np.linspace(2.2, 4.5, 6), np.linspace(1.0, 6.0, 6)
    psf = np.concatenate([gaussian_psf(width, (1, *SHAPE)) for width in widths])[:, 0]
    images = images_of(truth, psf=psf)
    variance = np.broadcast_to(noises[:, None, None] ** 2, images.shape)
    X = stack_planes(images, variance, psf)
    model = ProfileFitRegressor(planes=("image", "variance", "psf"), max_steps=60)
    found, std = model.fit(X).predict(X, return_std=True)
    assert (abs(found - truth) / std).max() < 0.03


def test_masked_pixels(data):
    X, _ = data
    images = X.copy()
    images[:, 4:7, :] = np.nan
    images[3, 12:20, 3:20] = np.nan
    model = fitter(allow_nan=True).fit(images)
    found, std = model.predict(images, return_std=True)
    report = model.fit_report(images)
    np.testing.assert_array_equal(report.n_pixels, (~np.isnan(images)).sum((1, 2)))
    full, full_std = model.predict(X, return_std=True)
    assert (abs(found - full) / std)[:3].max() < 2
    assert (std[:3] > full_std[:3] * 0.9).all()
    # Numbers under the mask, as planes have them.
    kinds = "image", "variance", "psf"
    stamps = stack_planes(images, NOISE**2, PSF)
    model = ProfileFitRegressor(planes=kinds, allow_nan=True).fit(stamps)
    expected = model.predict(stamps)
    stamps[:, 1][np.isnan(images)] = -1e30
    np.testing.assert_array_equal(model.predict(stamps), expected)


def test_empty_stamps(data):
    X, y = data
    images = X.copy()
    images[[0, 5]] = np.nan
    with pytest.raises(ValueError, match=r"2 images without, the first in row 0"):
        fitter(allow_nan=True).fit(images)
    model = fitter(allow_nan=True, handle_empty="nan")
    with pytest.warns(UserWarning, match="2 of 16 images have no pixel"):
        model.fit(images, y)
    with pytest.warns(UserWarning, match="no pixel"):
        found, std = model.predict(images, return_std=True)
    full = [0, 5]
    assert np.isnan(found[full]).all()
    assert np.isnan(std[full]).all()
    rest = np.delete(np.arange(16), full)
    np.testing.assert_array_equal(found[rest], model.predict(images[rest]))
    with pytest.warns(UserWarning, match="no pixel"):
        report = model.fit_report(images)
    assert (report.n_pixels[full] == 0).all()
    assert not report.converged[full].any()
    with pytest.warns(UserWarning, match="no pixel"):
        draws = model.sample(images, 3, random_state=0)
    assert np.isnan(draws[full]).all()
    assert np.isfinite(draws[rest]).all()
    with pytest.warns(UserWarning, match="2 of 2 images"):
        found = model.predict(images[full])
    assert np.isnan(found).all()
    with (
        pytest.warns(UserWarning, match="2 of 2 images"),
        pytest.raises(ValueError, match="must have a stamp with a pixel"),
    ):
        fitter(allow_nan=True, handle_empty="nan").fit(images[full])


def test_a_narrow_psf_is_a_warning(data):
    X, y = data
    wanted = r"The PSF has a FWHM of 1\.0. pixels.* below 2 pixels"
    with pytest.warns(UserWarning, match=wanted) as record:
        model = fitter(psf=0.95).fit(X)
    assert len(record) == 1
    with pytest.warns(UserWarning, match=wanted) as record:
        model.predict(X)
    assert len(record) == 1
    psf = np.tile(PSF, (len(X), 1, 1))
    psf[[70 % len(X), 9]] = gaussian_psf(1.2, (1, *SHAPE))[0, 0]
    stamps = stack_planes(X, psf=psf)
    wanted = r"2 of 16 PSFs are narrower than 2 pixels, the first in row 6 with"
    with pytest.warns(UserWarning, match=wanted) as record:
        fitter(planes=("image", "psf"), psf=None).fit(stamps, y)
    assert len(record) == 1


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 5.0])
def test_the_width_of_a_psf(fwhm):
    # The pixel widens the PSF: its variance is one twelfth.
    sigma = np.hypot(fwhm / 2.3548, 12**-0.5)
    found = effective_fwhm(gaussian_psf(fwhm, (1, 48, 48)))
    np.testing.assert_allclose(found, 2.3548 * sigma, rtol=0.01)


@pytest.mark.parametrize("shape", [(33, 48), (24, 40)])
def test_rectangular_stamps(shape):
    truth = draw_truth(5, 2, shape)
    images = images_of(truth, shape)
    model = fitter(max_steps=60).fit(images)
    found, std = model.predict(images, return_std=True)
    assert (abs(found - truth) / std).max() < 0.03
    assert model.image_shape_ == (1, *shape)
    flat = fitter(max_steps=60, image_shape=shape).fit(images.reshape(5, -1))
    np.testing.assert_array_equal(flat.predict(images.reshape(5, -1)), found)


@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.reshape(len(X), -1),
        lambda X: X[:, None],
        lambda X: X.astype(">f8"),
        lambda X: X.tolist(),
        lambda X: X.astype(object).reshape(len(X), -1),
        lambda X: pd.DataFrame(X.reshape(len(X), -1)),
        lambda X: np.asfortranarray(X),
        torch.tensor,
    ],
    ids=["flat", "channel", "endian", "list", "object", "frame", "fortran", "tensor"],
)
def test_forms_of_X(data, model, convert):
    X, y = data
    expected = model.predict(X[:4])
    given = convert(X[:4])
    np.testing.assert_array_equal(model.predict(given), expected)
    again = fitter().fit(given, y[:4])
    np.testing.assert_array_equal(again.predict(given), expected)


def test_integers(data):
    X, _ = data
    whole = X.round().astype(np.int16)
    model = fitter().fit(whole)
    np.testing.assert_array_equal(
        model.predict(whole), model.predict(whole.astype(np.float32))
    )
    np.testing.assert_array_equal(
        model.predict(whole), model.predict(whole.astype(">i4"))
    )


def test_memory_maps(data, model, tmp_path):
    X, y = data
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    np.testing.assert_array_equal(model.predict(mapped), model.predict(X))
    fitted = fitter().fit(mapped, y)
    np.testing.assert_array_equal(fitted.predict(X), model.predict(X))


# Targets ------------------------------------------------------------------------------


def test_names_of_targets(data):
    X, y = data
    columns = ["half_light_radius", "flux", "y0"]
    named = fitter().fit(X, y[columns])
    assert named.target_names_ == columns
    given = fitter(target_names=columns).fit(X, y[columns].to_numpy())
    assert given.target_names_ == columns
    without = fitter(target_names=columns).fit(X)
    assert without.target_names_ == columns
    expected = named.predict(X)
    for model in (given, without):
        np.testing.assert_array_equal(model.predict(X), expected)
    assert fitter().fit(X).target_names_ == NAMES
    first = fitter().fit(X, y.iloc[:, :2].to_numpy())
    assert first.target_names_ == NAMES[:2]


def test_one_target(data):
    X, y = data
    model = fitter().fit(X, y["flux"])
    assert model.target_names_ == ["flux"]
    found, std, cov = model.predict(X, return_std=True, return_cov=True)
    assert found.shape == std.shape == (16,)
    assert cov.shape == (16, 1, 1)
    assert model.score(X, y["flux"]) > 0.95
    assert model.sample(X, 5).shape == (16, 5, 1)
    column = fitter().fit(X, y[["flux"]]).predict(X)
    np.testing.assert_array_equal(column[:, 0], found)


def test_y_with_unknown_values(data):
    X, y = data
    some = y.astype(float).copy()
    some.iloc[::2, 0] = np.nan
    model = fitter().fit(X, some)
    assert model.score(X, some) > 0.9
    with pytest.raises(ValueError, match="NaN alone"):
        fitter().fit(X, y * np.nan)


def test_fit_warns_of_a_wrong_scale(data):
    X, y = data
    with pytest.warns(UserWarning, match=r"'half_light_radius' is 5\S* times that of"):
        fitter().fit(X, y * np.where(y.columns == "half_light_radius", 0.2, 1))
    with pytest.warns(UserWarning, match=r"'flux' is .*Check pixel_scale \(1\)"):
        fitter().fit(X * 4.0, y)


def test_fit_warns_of_y_that_contradicts_the_stamps(data):
    X, y = data
    with pytest.warns(UserWarning, match=r"contradict y.* for 'e2' \(\S+\)\. Check"):
        fitter().fit(X, y.assign(e2=-y["e2"]))
    with pytest.warns(UserWarning, match=r"contradict y.* for 'flux'.* that rows"):
        fitter().fit(X, y[::-1])


def test_plain_noise_is_estimated(data):
    X, y = data
    model = fitter(noise=None).fit(X, y)
    assert model.noise_ == pytest.approx(NOISE, rel=0.15)
    assert fitter().fit(X).noise_ == NOISE


# Estimators ---------------------------------------------------------------------------


def test_starts_of_an_estimator(data, model):
    X, y = data
    started = fitter(estimator=Guess(), max_steps=60).fit(X, y)
    expected, std = model.predict(X, return_std=True)
    found = started.predict(X)
    assert (abs(found - expected) / std).max() < 0.02
    assert isinstance(started.estimator_, Guess)
    assert not hasattr(started.estimator, "mean_")


def test_an_estimator_of_some_targets(data, model):
    X, y = data
    y = y.assign(
        ellipticity=np.hypot(y.e1, y.e2),
        position_angle=np.rad2deg(np.arctan2(y.e2, y.e1)) / 2 % 180,
    )
    names = ["flux", "ellipticity", "position_angle"]
    started = fitter(estimator=Guess(), max_steps=60).fit(X, y[names])
    expected, std = model.predict(X, return_std=True)
    report = started.fit_report(X)
    for column, name in enumerate(NAMES):
        assert (abs(report[name] - expected[:, column]) / std[:, column]).max() < 0.02


def test_fitted_estimators(data):
    X, y = data
    guess = Guess().fit(X, y)
    guess.mean_ = guess.mean_ * 1.05
    expected = fitter(estimator=guess, prefit=True).fit(X, y)
    assert expected.estimator_ is guess
    frozen = fitter(estimator=FrozenEstimator(guess)).fit(X, y)
    np.testing.assert_array_equal(frozen.predict(X), expected.predict(X))
    without = fitter(estimator=guess, prefit=True).fit(X)
    assert without.target_names_ == NAMES
    np.testing.assert_array_equal(without.predict(X), expected.predict(X))
    with pytest.raises(NotFittedError):
        fitter(estimator=Guess(), prefit=True).fit(X, y)
    with pytest.raises(NotFittedError, match="ConditionalAutoencoderRegressor"):
        # Before its parameters are looked at, which have no PSF.
        ProfileFitRegressor(ConditionalAutoencoderRegressor(), prefit=True).fit(X)
    with pytest.raises(ValueError, match="requires y to be passed"):
        fitter(estimator=Guess()).fit(X)


@pytest.mark.filterwarnings("ignore:Targets were not learned")
def test_an_autoencoder_gives_planes_and_starts(data):
    X, y = data
    kinds = "image", "variance", "psf"
    stamps = with_planes(X, "variance", "psf")
    network = ConditionalAutoencoderRegressor(
        planes=kinds,
        max_epochs=2,
        latent_dim=10,
        network="neural_field",
        random_state=0,
    )
    model = ProfileFitRegressor(network, max_steps=100).fit(stamps, y)
    assert model.planes is None
    assert model.fitter_.layout.planes == kinds
    expected = ProfileFitRegressor(planes=kinds, target_names=NAMES).fit(stamps)
    values, std = expected.predict(stamps, return_std=True)
    both = model.fit_report(stamps).converged
    assert both.sum() > 12
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = model.predict(stamps)
    assert np.median(abs(found - values) / std) < 0.02
    copied = pickle.loads(pickle.dumps(model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        np.testing.assert_array_equal(copied.predict(stamps), found)


def test_a_profile_fit_starts_from_another(data, model):
    X, y = data
    started = fitter(estimator=fitter(max_steps=30)).fit(X, y)
    # The background is not among the predictions.
    assert (started.fit_report(X).n_steps <= 2).all()
    _, std = model.predict(X, return_std=True)
    assert (abs(started.predict(X) - model.predict(X)) / std).max() < 0.02


# scikit-learn -------------------------------------------------------------------------


def test_clone_pickle_and_copy(data, model):
    X, _ = data
    expected = model.predict(X)
    for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(copied.predict(X), expected)
    cloned = clone(fitter(bounds={"flux": (1, 2)}, estimator=Guess()))
    assert cloned.bounds == {"flux": (1, 2)}
    assert not hasattr(cloned, "fitter_")
    with pytest.raises(NotFittedError):
        cloned.predict(X)
    assert "psf=3.0" in repr(model)


def test_searches_and_cross_validation(data):
    X, y = data
    names = ["flux", "half_light_radius"]
    scores = cross_val_score(fitter(), X, y[names], cv=2)
    assert (scores > 0.9).all()
    found = cross_val_predict(fitter(), X, y[names], cv=2)
    np.testing.assert_array_equal(found, fitter().fit(X, y[names]).predict(X))
    grid = {"psf": [FWHM, 2 * FWHM]}
    search = GridSearchCV(fitter(gain=1.0), grid, cv=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        search.fit(X, y["half_light_radius"])
    assert search.best_params_ == {"psf": FWHM}


def test_pipeline(data, model):
    X, y = data
    pipeline = make_pipeline(FunctionTransformer(lambda X: X - 5.0), fitter())
    pipeline.fit(X + 5.0, y)
    found, std = pipeline.predict(X + 5.0, return_std=True)
    expected, expected_std = model.predict(X, return_std=True)
    assert (abs(found - expected) / expected_std).max() < 0.02
    np.testing.assert_allclose(std, expected_std, rtol=1e-2)


def test_same_bits_for_any_split(data, model):
    X, _ = data
    assert_same_for_any_split(model.predict, X, [1, 5])


def test_same_bits_for_any_threads(data, model):
    X, _ = data
    many = np.tile(X, (9, 1, 1))
    n_threads = torch.get_num_threads()
    found = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            found.append(model.predict(many, return_std=True))
            found[-1] += (model.sample(X[:3], 5, random_state=0),)
    finally:
        torch.set_num_threads(n_threads)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(found[0][0], np.tile(model.predict(X), (9, 1)))


# Draws --------------------------------------------------------------------------------


def test_draws_agree_with_the_fit():
    images, _ = make_stamps(2, 8, flux=(4e5, 8e5))
    model = fitter(target_names=[*NAMES, "position_angle"]).fit(images)
    found, std = model.predict(images, return_std=True)
    draws = model.sample(images, 400, random_state=0)
    assert draws.shape == (2, 400, 8)
    assert (abs(draws.mean(axis=1) - found) / std).max() < 0.3
    np.testing.assert_allclose(draws.std(axis=1), std, rtol=0.25)


def test_draws_are_reproducible(data, model):
    X, _ = data
    X = X[:3]
    draws = model.sample(X, 8, random_state=1)
    np.testing.assert_array_equal(model.sample(X, 8, random_state=1), draws)
    assert (model.sample(X, 8, random_state=2) != draws).any()
    source = np.random.RandomState(1)
    np.testing.assert_array_equal(model.sample(X, 8, random_state=source), draws)
    assert (model.sample(X, 8, random_state=source) != draws).any()
    # The draws of a stamp depend on its place, not on the other stamps.
    others = model.sample(np.concatenate([X[:1], X[:1] * 2, X]), 8, random_state=1)
    np.testing.assert_array_equal(others[0], draws[0])
    state = np.random.get_state()[1].copy()
    model.sample(X[:1], 2, random_state=0)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("n_draws", [0, -1, 2.5, "a", None])
def test_wrong_numbers_of_draws(data, model, n_draws):
    with pytest.raises(ValueError, match="n_draws"):
        model.sample(data[0], n_draws)


def test_draws_of_fits_that_have_not_converged(data):
    X, _ = data
    model = fitter(max_steps=1).fit(X)
    with pytest.warns(ConvergenceWarning, match="have not converged"):
        draws = model.sample(X[:3], 4)
    assert np.isnan(draws).all()


# Errors and odd stamps ----------------------------------------------------------------


WRONG_PARAMETERS = {
    "no PSF": ({"psf": None}, "'psf' parameter .* must be the PSF"),
    "zero": ({"psf": 0}, "'psf' parameter"),
    "name": ({"psf": "gaussian"}, "'psf' parameter"),
    "many": ({"psf": np.ones((2, 5, 5))}, "'psf' parameter .* one PSF"),
    "no light": ({"psf": np.zeros((5, 5))}, "positive sum"),
    "NaN": ({"psf": np.full((5, 5), np.nan)}, "finite"),
    "off": ({"psf": np.eye(9)[:1].T * np.eye(9)[:1]}, "its centre"),
    "even": ({"psf": np.ones((4, 4))}, "odd sides"),
    "wide": ({"psf": 17.0}, r"half a side .* 32 pixels of 1, .* check pixel_scale"),
    "scale": ({"psf": 3.0, "pixel_scale": 0.1}, "half a side"),
    "noise": ({"noise": 0.0}, "'noise' parameter"),
    "gain": ({"gain": None}, "'gain' parameter"),
    "planes": ({"planes": ("psf",)}, "'planes' parameter"),
    "no planes": ({"planes": ()}, "'planes' parameter"),
    "names": ({"target_names": ["flux", "magnitude"]}, "targets of ProfileFit"),
    "no names": ({"target_names": []}, "targets of ProfileFit"),
    "twice": ({"target_names": ["flux", "flux"]}, "targets of ProfileFit"),
    "steps": ({"max_steps": 0}, "'max_steps' parameter"),
    "sky": ({"fit_sky": -1.0}, "'fit_sky' parameter"),
    "estimator": ({"estimator": 5}, "'estimator' parameter"),
    "empty": ({"handle_empty": "drop"}, "'handle_empty' parameter"),
    "shape": ({"image_shape": (16, 64)}, "'image_shape' parameter"),
    "device": ({"device": "abacus"}, "'device' parameter"),
}


@pytest.mark.parametrize(
    ("parameters", "message"), WRONG_PARAMETERS.values(), ids=WRONG_PARAMETERS
)
def test_wrong_parameters(data, parameters, message):
    model = fitter(**parameters)
    with pytest.raises((ValueError, InvalidParameterError), match=message):
        model.fit(data[0])
    assert not [name for name in vars(model) if name.endswith("_")]


@pytest.mark.parametrize(
    "bounds",
    [
        {"magnitude": (1, 2)},
        {"flux": (2, 1)},
        {"flux": (1, 1)},
        {"flux": 5},
        {"flux": None},
        {"flux": (1, 2, 3)},
        {"flux": ("a", "b")},
        {"flux": (np.nan, 1)},
        {"flux": (-2, -1)},
        {"flux": (1j, 2)},
        {"half_light_radius": (-1, 0)},
        {"sersic_index": (0.1, 2)},
        {"sersic_index": (1, 8)},
        {"ellipticity": (0.1, 0.5)},
        {"ellipticity": (0, 1)},
        {"e1": (0, 2)},
        {3: (1, 2)},
    ],
    ids=repr,
)
def test_wrong_bounds(data, bounds):
    with pytest.raises(ValueError, match="'bounds' parameter of ProfileFitRegressor"):
        fitter(bounds=bounds).fit(data[0])


def test_planes_and_parameters_that_contradict_each_other(data):
    X, _ = data
    stamps = with_planes(X, "variance", "psf")
    kinds = "image", "variance", "psf"
    with pytest.raises(ValueError, match=r"'psf' parameter .* None with a plane"):
        fitter(planes=kinds, noise=None).fit(stamps)
    with pytest.raises(ValueError, match=r"'noise' parameter .* None with a plane"):
        fitter(planes=kinds, psf=None).fit(stamps)
    with pytest.raises(ValueError, match="for each of 2 bands"):
        fitter(target_names=["flux"]).fit(np.stack([X, X], axis=1))
    with pytest.raises(ValueError, match="one channel for each of the planes"):
        ProfileFitRegressor(planes=kinds).fit(np.stack([X, X], axis=1))
    wrong = stamps.copy()
    wrong[4, 1, 3, 3] = -1
    with pytest.raises(ValueError, match=r"variance .* row 4"):
        ProfileFitRegressor(planes=kinds).fit(wrong)
    model = ProfileFitRegressor(planes=kinds).fit(stamps)
    wrong = stamps.copy()
    wrong[7, 2] = 0
    with pytest.raises(ValueError, match=r"psf .* row 7"):
        model.predict(wrong)


def test_wrong_X(data, model):
    X, y = data
    masked = X.copy()
    masked[2, 3, 4] = np.nan
    infinite = X.copy()
    infinite[2, 3, 4] = np.inf
    for call in (model.predict, model.fit_report, model.sample, fitter().fit):
        with pytest.raises(ValueError, match="contains NaN"):
            call(masked)
        with pytest.raises(ValueError, match="infinity"):
            call(infinite)
        with pytest.raises(TypeError, match=r"name 'X.fits'"):
            call("X.fits")
    with pytest.raises(ImageShapeError, match=r"one image .*newaxis"):
        model.predict(X[0])
    with pytest.raises(ImageShapeError, match="32 x 32"):
        model.predict(X[:, 1:])
    with pytest.raises(ValueError, match="inconsistent numbers"):
        fitter().fit(X, y[:5])
    with pytest.raises(ValueError, match="one column for each"):
        fitter(target_names=NAMES[:2]).fit(X, y.to_numpy())
    with pytest.raises(ValueError, match="must be the columns of y"):
        fitter(target_names=NAMES[:2]).fit(X, y[NAMES[2:4]])
    with pytest.raises(ValueError, match="targets of ProfileFit"):
        fitter().fit(X, y.rename(columns={"flux": "magnitude"}))


def test_a_failing_fit_changes_nothing(data, model):
    X, y = data
    refitted = copy.deepcopy(model)
    before = dict(vars(refitted))
    expected = refitted.predict(X)

    class Broken(Guess):
        def fit(self, X, y):
            raise RuntimeError("broken")

    for parameters, error in (
        ({"estimator": Broken()}, RuntimeError),
        ({"bounds": {"flux": (2, 1)}}, ValueError),
        ({"psf": np.zeros((3, 3))}, ValueError),
    ):
        refitted.set_params(estimator=None, bounds=None, psf=FWHM)
        refitted.set_params(**parameters)
        with pytest.raises(error):
            refitted.fit(X[:, 2:], y)
        assert vars(refitted)["fitter_"] is before["fitter_"]
        assert set(vars(refitted)) == set(before)
        np.testing.assert_array_equal(refitted.predict(X), expected)


ODD = {
    "zero": np.zeros(SHAPE),
    "constant": np.full(SHAPE, 100.0),
    "much noise": np.random.default_rng(0).normal(size=SHAPE) * 1e6,
    "huge": np.random.default_rng(0).normal(size=SHAPE) * 1e30,
    "larger": np.full(SHAPE, 1e300) * np.arange(32),
    "pixel": 1e6 * (np.arange(1024) == 0).reshape(SHAPE),
    "checks": 1e3 * (np.indices(SHAPE).sum(axis=0) % 2),
    "ramp": np.tile(np.arange(32.0) * 100, (32, 1)),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_stamp_does_not_touch_the_others(data, model, name):
    X, y = data
    stamps = X[:6].copy()
    stamps[2] = ODD[name]
    rest = [0, 1, 3, 4, 5]
    expected = model.predict(X[:6], return_std=True)
    with pytest.warns(ConvergenceWarning, match=r"1 of 6 .* in row 2") as record:
        found = model.predict(stamps, return_std=True)
    assert len(record) == 1
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one[rest], other[rest])
    assert np.isnan(found[1][2]).all()
    assert np.flatnonzero(~model.fit_report(stamps).converged) == [2]
    with pytest.warns(ConvergenceWarning, match="not converged"):
        draws = model.sample(stamps, 3, random_state=0)
    assert np.isnan(draws[2]).all()
    fitted = fitter().fit(stamps, y[:6])
    np.testing.assert_array_equal(fitted.predict(X[:6]), expected[0])


def test_a_negative_galaxy_ends_at_a_bound_and_shows_in_chi_square(data, model):
    stamps = data[0][:3].copy()
    stamps[1] = -images_of(draw_truth(1))[0]
    report = model.fit_report(stamps)
    assert report.at_bound[1] or not report.converged[1]
    assert report.chi_square[1] > 10
    np.testing.assert_array_equal(
        model.predict(stamps)[[0, 2]], model.predict(data[0][:3])[[0, 2]]
    )


def test_pure_noise_has_no_certain_flux(data, model):
    X, _ = data
    noise = np.random.default_rng(0).normal(size=(8, *SHAPE)) * NOISE
    report = model.fit_report(np.concatenate([X[:2], noise]))
    assert (abs(report.chi_square - 1) < 0.3).all()
    certain = report.flux > 10 * report.flux_std
    np.testing.assert_array_equal(np.flatnonzero(certain), [0, 1])


def test_stamps_with_fewer_pixels_than_parameters(data):
    X, _ = data
    images = X[:3].copy()
    images[1] = np.nan
    images[1, 15, 12:18] = X[1, 15, 12:18]
    model = fitter(allow_nan=True).fit(images)
    with pytest.warns(ConvergenceWarning, match=r"1 of 3 .* in row 1"):
        _, std = model.predict(images, return_std=True)
    assert np.isnan(std[1]).all()
    assert np.isfinite(std[[0, 2]]).all()


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_extreme_units(data, model, factor):
    X, _ = data
    scaled = fitter(noise=NOISE * factor, gain=1 / factor).fit(X * factor)
    found, std = scaled.predict(X * factor, return_std=True)
    expected, expected_std = model.predict(X, return_std=True)
    units = np.where(np.array(NAMES) == "flux", factor, 1)
    np.testing.assert_allclose(found / units, expected, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(std / units, expected_std, rtol=1e-2)


@pytest.mark.parametrize("noise", [1e-300, 1e-30, 1e30])
def test_extreme_noise(data, noise):
    X, _ = data
    model = fitter(noise=noise).fit(X[:3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.predict(X[:3], return_std=True)
        model.sample(X[:3], 2)


def test_noise_of_nothing_but_constants():
    model = fitter(noise=None).fit(np.ones((4, *SHAPE)))
    assert model.noise_ == 1
    with pytest.warns(ConvergenceWarning, match="4 of 4"):
        model.predict(np.ones((4, *SHAPE)))


def test_noise_may_be_added_with_any_gain():
    truth = draw_truth(30, 9, flux=(20_000.0, 40_000.0))
    images = with_noise(images_of(truth), 3, gain=0.2)
    model = fitter(gain=0.2).fit(images)
    found, std = model.predict(images, return_std=True)
    spread = ((found - truth) / std).std()
    assert 0.8 < spread < 1.2
    assert 0.9 < model.fit_report(images).chi_square.mean() < 1.1
    assert fitter(gain=1.0).fit(images).fit_report(images).chi_square.mean() > 1.2
