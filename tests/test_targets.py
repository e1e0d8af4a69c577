"""Targets in their logarithm: scaling, distributions, and the estimator with them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import lognorm, norm
from sklearn.preprocessing import StandardScaler

from sklcae import ConditionalAutoencoderRegressor
from sklcae._targets import TargetDistribution, TargetScaler
from tests.blobs import assert_same_model, make_blobs_of_light, quick

NAMES = ["flux", "half_light_radius"]


@pytest.fixture(scope="module")
def blobs():
    return make_blobs_of_light(96)


@pytest.fixture(scope="module")
def model(blobs):
    settings = {"physical_loss": "gaussian_likelihood", "max_epochs": 60}
    return quick(log_targets=["flux"], target_names=NAMES, **settings).fit(*blobs)


def test_without_logarithms_it_is_the_scaler_of_scikit_learn(blobs):
    y = blobs[1]
    ours, theirs = TargetScaler().fit(y), StandardScaler().fit(y)
    np.testing.assert_array_equal(ours.transform(y), theirs.transform(y))
    z = theirs.transform(y)
    np.testing.assert_array_equal(
        ours.inverse_transform(z), theirs.inverse_transform(z)
    )


def test_logarithms_are_scaled_and_come_back(blobs):
    y = blobs[1]
    scaler = TargetScaler((0,)).fit(y)
    assert scaler.mean_ == pytest.approx([np.log(y[:, 0]).mean(), y[:, 1].mean()])
    np.testing.assert_allclose(scaler.transform(y).std(axis=0), 1)
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(y)), y)
    with pytest.raises(ValueError, match=r"positive for the targets.*Got -1"):
        scaler.transform([[-1.0, 2.0]])


@given(mean=st.floats(-5, 5), sigma=st.floats(0.01, 2), coverage=st.floats(0.05, 0.99))
def test_distributions_are_those_of_scipy(mean, sigma, coverage):
    both = np.full((1, 2), mean), np.full((1, 2), sigma**2)
    targets = TargetDistribution(*both, (1,), np.array([False]))
    known = norm(mean, sigma), lognorm(s=sigma, scale=np.exp(mean))
    np.testing.assert_allclose(
        targets.median()[0], [one.median() for one in known], atol=1e-12
    )
    np.testing.assert_allclose(targets.std()[0], [one.std() for one in known])
    lower, upper = targets.interval(coverage)
    expected = np.transpose([one.interval(coverage) for one in known])
    np.testing.assert_allclose([lower[0], upper[0]], expected, rtol=1e-6, atol=1e-9)


def test_predictions_are_positive_and_good(model, blobs):
    X, y = make_blobs_of_light(200, random_state=1)
    assert model.score(X, y) > 0.95
    y_pred, y_std = model.predict(X, return_std=True)
    assert (y_pred[:, 0] > 0).all()
    lower, upper = model.predict_interval(X, coverage=0.95)
    # Asymmetric about the median for the logarithm only.
    ratio = (upper - y_pred) / (y_pred - lower)
    assert (ratio[:, 0] > 1).all()
    np.testing.assert_allclose(ratio[:, 1], 1)
    np.testing.assert_allclose(upper[:, 0] / y_pred[:, 0], y_pred[:, 0] / lower[:, 0])
    assert np.mean((lower < y) & (y < upper)) == pytest.approx(0.95, abs=0.07)
    small = y_std[:, 0] / y_pred[:, 0]
    width = np.log(upper / lower)[:, 0] / (2 * norm.ppf(0.975))
    np.testing.assert_allclose(small, width, rtol=0.05)


def test_fit_on_logarithms_is_that_of_given_logarithms(blobs):
    X, y = blobs
    ours = quick(log_targets="all").fit(X, y)
    theirs = quick().fit(X, np.log(y))
    for name, weights in ours.net_.get_weights().items():
        np.testing.assert_array_equal(weights, theirs.net_.get_weights()[name])
    np.testing.assert_allclose(ours.predict(X), np.exp(theirs.predict(X)))
    np.testing.assert_allclose(ours.target_range_, [y.min(axis=0), y.max(axis=0)])


def test_generate_takes_the_unit_of_y(model, blobs):
    y = blobs[1][:5]
    Z = np.hstack(
        [
            model.target_scaler_.transform(y),
            model.codec_.reference.draw_rest(
                model.codec_.scale_targets(y), np.random.RandomState(0)
            ),
        ]
    )
    np.testing.assert_allclose(
        model.generate(y, random_state=0),
        model.inverse_transform(Z),
        rtol=1e-4,
        atol=1e-3,
    )
    with pytest.raises(ValueError, match="positive for the targets of 'log_targets'"):
        model.generate([[-5.0, 2.0]])


def test_turned_predictions_are_means_of_logarithms():
    X, y = make_blobs_of_light(64)
    model = quick(
        log_targets="all",
        target_names=NAMES,
        augmentation="dihedral",
        physical_loss="gaussian_likelihood",
    ).fit(X, y)
    squares = X.reshape(-1, 12, 12)
    flips = [squares, squares[:, ::-1], squares[:, :, ::-1], squares[:, ::-1, ::-1]]
    every = [part for one in flips for part in (one, one.swapaxes(1, 2))]
    logarithms = [np.log(model.predict(part)) for part in every]
    model.set_params(test_time_augmentation=True)
    y_pred, y_std = model.predict(squares, return_std=True)
    np.testing.assert_allclose(np.log(y_pred), np.mean(logarithms, axis=0), rtol=1e-5)
    assert (y_std > 0).all()


def test_files_pickles_and_partial_fits_keep_logarithms(model, blobs, tmp_path):
    X, y = blobs
    model.save(tmp_path / "model")
    loaded = ConditionalAutoencoderRegressor.load(tmp_path / "model")
    assert loaded.log_targets == ["flux"]
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    np.testing.assert_array_equal(loaded.target_range_, model.target_range_)
    again = quick(log_targets="all").partial_fit(X, y)
    with pytest.raises(ValueError, match=r"'log_targets' parameter.*must stay"):
        again.set_params(log_targets=None).partial_fit(X, y)


@pytest.mark.parametrize(
    ("parameters", "change", "message"),
    [
        ({"log_targets": "all"}, lambda y: y - 150, r"positive for the target 0 of"),
        ({"log_targets": ["mass"]}, lambda y: y, r"names of targets, .*Got \['mass'\]"),
        ({"log_targets": ["flux"]}, lambda y: y, r"Got \['flux'\], which are not"),
        ({"target_names": ["a"]}, lambda y: y, r"one name for each of the 2 targets"),
        ({"target_names": ["a", "a"]}, lambda y: y, "different names"),
        ({"target_names": ["a", 3]}, lambda y: y, "'target_names' parameter.*list of"),
        (
            {"target_names": ["a", "b"]},
            lambda y: pd.DataFrame(y, columns=NAMES),
            "'target_names' parameter.*must be the columns of y",
        ),
        (
            {"target_names": ["x0", "y0"], "log_targets": "all"}
            | {"augmentation": "dihedral"},
            lambda y: y,
            "turns with the image.*'x0'",
        ),
    ],
)
def test_bad_names_and_logarithms_are_refused(blobs, parameters, change, message):
    X, y = blobs
    with pytest.raises(ValueError, match=message):
        quick(**parameters).fit(X, change(y))


def test_names_may_be_a_parameter(blobs):
    X, y = blobs
    named = quick(augmentation="dihedral").fit(X, pd.DataFrame(y, columns=NAMES))
    given = quick(augmentation="dihedral", target_names=NAMES).fit(X, y)
    assert_same_model(named, given)
    assert given.target_names_ == NAMES
    assert list(given.get_feature_names_out()[:2]) == NAMES


def test_missing_logarithms_are_left_out(blobs):
    X, y = blobs
    y = y.copy()
    y[::3, 0] = np.nan
    model = quick(log_targets="all").fit(X, y)
    assert np.isfinite(model.predict(X)).all()
    assert np.isfinite(model.score(X, y))
