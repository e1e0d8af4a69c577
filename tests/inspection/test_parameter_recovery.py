"""Predictions or latents against the true parameters."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import make_regression
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from sklcae.inspection import ParameterRecoveryDisplay


@pytest.fixture
def truth_and_prediction():
    rng = np.random.default_rng(0)
    y = rng.normal([5, -2], [1, 3], size=(40, 2))
    return y, y + rng.normal(scale=[0.1, 2.0], size=y.shape)


def test_predictions_and_their_line(truth_and_prediction):
    y_true, y_pred = truth_and_prediction
    display = ParameterRecoveryDisplay.from_predictions(
        y_true, y_pred, target_names=["flux", "radius"]
    )
    np.testing.assert_allclose(
        display.r2, [r2_score(y_true[:, k], y_pred[:, k]) for k in range(2)]
    )
    assert display.axes_.shape == (2,)
    for k, ax in enumerate(display.axes_):
        offsets = display.scatters_[k].get_offsets()
        np.testing.assert_array_equal(
            offsets, np.column_stack([y_true[:, k], y_pred[:, k]])
        )
        xs, ys = display.lines_[k].get_data()
        np.testing.assert_array_equal(xs, ys)
        assert xs[0] == offsets.min()
        assert xs[1] == offsets.max()
        assert ax.figure is display.figure_


def test_texts(truth_and_prediction):
    display = ParameterRecoveryDisplay.from_predictions(
        *truth_and_prediction, target_names=["flux", "radius"]
    )
    ax = display.axes_[1]
    assert ax.get_title() == f"$R^2$ = {display.r2[1]:.3f}"
    assert ax.get_xlabel() == "True radius"
    assert ax.get_ylabel() == "Predicted radius"


def test_latents_have_the_r2_of_the_best_line():
    rng = np.random.default_rng(0)
    flux = rng.uniform(100, 900, size=50)
    latent = 3 - 0.01 * flux + rng.normal(scale=0.5, size=50)
    display = ParameterRecoveryDisplay.from_predictions(
        flux, latent, response_method="transform", target_names=["flux"]
    )
    slope, intercept = np.polyfit(flux, latent, 1)
    line = intercept + slope * flux
    np.testing.assert_allclose(display.r2, [r2_score(latent, line)])
    xs, ys = display.lines_[0].get_data()
    np.testing.assert_allclose(xs, [flux.min(), flux.max()])
    np.testing.assert_allclose(ys, intercept + slope * xs)
    assert display.axes_[0].get_ylabel() == "Latent z_phy0"


def test_constant_columns_have_no_correlation():
    y = np.column_stack([np.arange(5.0), np.full(5, 0.1)])
    display = ParameterRecoveryDisplay.from_predictions(
        y, y[:, ::-1], response_method="transform"
    )
    assert np.isnan(display.r2).all()


@pytest.mark.parametrize("response_method", ["predict", "transform"])
def test_from_estimator(galaxies, model, response_method):
    X, y = galaxies
    display = ParameterRecoveryDisplay.from_estimator(
        model, X, y, response_method=response_method
    )
    np.testing.assert_array_equal(display.y_true, y)
    expected = getattr(model, response_method)(X)[:, :2]
    np.testing.assert_array_equal(display.y_response, expected)
    np.testing.assert_allclose(display.r2, 1, atol=1e-3)
    assert display.response_method == response_method


def test_any_regressor_and_a_single_target():
    X, y = make_regression(n_samples=30, n_features=3, noise=5.0, random_state=0)
    model = LinearRegression().fit(X, y)
    display = ParameterRecoveryDisplay.from_estimator(model, X, y)
    np.testing.assert_allclose(display.r2, [model.score(X, y)])
    assert display.y_true.shape == (30, 1)
    assert display.target_names == ["target 0"]


def test_names_come_from_pandas(truth_and_prediction):
    y_true, y_pred = truth_and_prediction
    frame = pd.DataFrame(y_true, columns=["flux", "radius"])
    display = ParameterRecoveryDisplay.from_predictions(frame, y_pred)
    assert display.target_names == ["flux", "radius"]
    display = ParameterRecoveryDisplay.from_predictions(frame["flux"], y_pred[:, 0])
    assert display.target_names == ["flux"]


def test_given_axes_and_keywords_are_used(truth_and_prediction):
    figure, axes = plt.subplots(2, 1)
    display = ParameterRecoveryDisplay.from_predictions(
        *truth_and_prediction,
        ax=axes,
        scatter_kwargs={"s": 50},
        line_kwargs={"color": "red"},
    )
    assert display.figure_ is figure
    assert display.axes_.tolist() == axes.tolist()
    assert display.scatters_[0].get_sizes() == [50]
    assert display.lines_[1].get_color() == "red"


def test_one_axes_for_one_target():
    _, ax = plt.subplots()
    display = ParameterRecoveryDisplay.from_predictions([1.0, 2.0], [1.0, 2.5], ax=ax)
    assert display.axes_.tolist() == [ax]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"response_method": "score"}, "response_method must be 'predict' or.*'score'"),
        ({"target_names": ["flux"]}, r"target_names must hold 2 names.*\['flux'\]"),
        ({"ax": [None] * 3}, "ax must be an array of 2 axes.*got 3"),
    ],
)
def test_bad_options(truth_and_prediction, options, message):
    with pytest.raises(ValueError, match=message):
        ParameterRecoveryDisplay.from_predictions(*truth_and_prediction, **options)


def test_bad_shapes(truth_and_prediction):
    y_true, y_pred = truth_and_prediction
    with pytest.raises(ValueError, match=r"y_true has 2 targets.*got 1"):
        ParameterRecoveryDisplay.from_predictions(y_true, y_pred[:, 0])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ParameterRecoveryDisplay.from_predictions(y_true, y_pred[1:])


def test_every_target_needs_its_physical_latent(galaxies, model):
    X, y = galaxies
    with pytest.raises(ValueError, match=r"y must have 2 columns.*got 4"):
        ParameterRecoveryDisplay.from_estimator(
            model, X, np.hstack([y, y]), response_method="transform"
        )


def test_bad_estimators(galaxies, model):
    X, y = galaxies
    with pytest.raises(NotFittedError):
        ParameterRecoveryDisplay.from_estimator(clone(model), X, y)
    flat = X.reshape(len(X), -1)
    with pytest.raises(AttributeError, match="transform"):
        ParameterRecoveryDisplay.from_estimator(
            LinearRegression().fit(flat, y), flat, y, response_method="transform"
        )
    with pytest.raises(ValueError, match="response_method must be"):
        ParameterRecoveryDisplay.from_estimator(model, X, y, response_method="score")
