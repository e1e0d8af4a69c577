"""Predictions or latents against the true parameters."""

from itertools import pairwise

import matplotlib as mpl
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
    assert display.axes_[0].get_xlabel() == "True flux [ADU]"
    assert display.axes_[0].get_ylabel() == "Predicted flux\n[ADU]"


def test_fluxes_have_ticks_that_do_not_collide():
    y = np.linspace(3_000, 50_000, 9)
    with mpl.rc_context({"font.size": 11}):
        ax = ParameterRecoveryDisplay.from_predictions(y, y).axes_[0]
        ax.figure.canvas.draw()
        boxes = [
            label.get_window_extent()
            for label, x in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True)
            if ax.get_xlim()[0] <= x <= ax.get_xlim()[1]
        ]
    assert len(boxes) >= 2
    assert all(left.x1 + 5 < right.x0 for left, right in pairwise(boxes))


def test_r2_with_many_digits_is_shortened():
    y = np.arange(5.0)
    display = ParameterRecoveryDisplay.from_predictions(y, 1e13 * y)
    assert display.axes_[0].get_title() == "$R^2$ = -3e+26"


@pytest.mark.parametrize(
    ("n_targets", "shape"), [(1, (1, 1)), (4, (1, 4)), (5, (2, 3)), (7, (2, 4))]
)
def test_many_targets_have_a_grid_of_square_panels(n_targets, shape):
    y = np.random.default_rng(0).normal(size=(10, n_targets))
    display = ParameterRecoveryDisplay.from_predictions(y, y)
    assert display.axes_.shape == (n_targets,)
    assert display.figure_.axes == list(display.axes_)
    grid = display.axes_[0].get_subplotspec().get_gridspec()
    assert grid.get_geometry() == shape
    assert all(ax.get_box_aspect() == 1 for ax in display.axes_)


def test_true_and_predicted_values_have_the_same_axis(truth_and_prediction):
    display = ParameterRecoveryDisplay.from_predictions(*truth_and_prediction)
    for ax, points in zip(display.axes_, display.scatters_, strict=True):
        assert ax.get_xlim() == ax.get_ylim()
        assert ax.get_xlim()[0] < points.get_offsets().min()
        assert ax.get_xlim()[1] > points.get_offsets().max()
        np.testing.assert_array_equal(ax.get_xticks(), ax.get_yticks())
        shown = [
            x for x in ax.get_xticks() if ax.get_xlim()[0] <= x <= ax.get_xlim()[1]
        ]
        assert 3 <= len(shown) <= 6


def test_thousands_of_points_are_smaller_and_fainter():
    y = np.linspace(0, 1, 5000)
    few = ParameterRecoveryDisplay.from_predictions(y[:50], y[:50]).scatters_[0]
    many = ParameterRecoveryDisplay.from_predictions(y, y).scatters_[0]
    assert many.get_sizes() < few.get_sizes() / 2
    assert many.get_alpha() < few.get_alpha() / 2


@pytest.mark.parametrize(
    ("y", "scale", "expected"),
    [
        (np.geomspace(500, 50_000, 50), "auto", "log"),
        (np.geomspace(500, 50_000, 50), "linear", "linear"),
        # Evenly spread, such as positions: with a logarithm most would be at one end.
        (np.linspace(0.5, 64, 50), "auto", "linear"),
        (np.linspace(0.5, 64, 50), "log", "log"),
        (np.geomspace(1, 9, 50), "auto", "linear"),
        (np.geomspace(500, 50_000, 50) - 500, "log", "linear"),
    ],
)
def test_scale(y, scale, expected):
    display = ParameterRecoveryDisplay.from_predictions(y, y, scale=scale)
    ax = display.axes_[0]
    assert (ax.get_xscale(), ax.get_yscale()) == (expected, expected)


def test_axes_are_linear_if_a_prediction_is_not_positive():
    y = np.geomspace(500, 50_000, 50)
    display = ParameterRecoveryDisplay.from_predictions(y, y - 600)
    assert display.axes_[0].get_xscale() == "linear"


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((500, 50_000), ["1,000", "3,000", "10,000", "30,000"]),
        ((0.3, 5.0), ["0.5", "1", "2", "5"]),
        ((1.5, 8.0), ["2", "5"]),
        ((1, 1e9), ["1", "1,000", "1e+06", "1e+09"]),
    ],
)
def test_log_axes_have_few_ticks(ends, expected):
    y = np.geomspace(*ends, 50)
    ax = ParameterRecoveryDisplay.from_predictions(y, y, scale="log").axes_[0]
    ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.get_xticklabels()] == expected
    assert not any(text.get_text() for text in ax.get_xticklabels(minor=True))


def test_few_wrong_predictions_are_marked_at_the_edge():
    y = np.linspace(0, 10, 20)
    wrong = y.copy()
    wrong[[2, 3, 5]] = 1e6, 2e6, -1e6
    ax = ParameterRecoveryDisplay.from_predictions(y, wrong).axes_[0]
    low, high = ax.get_ylim()
    assert -4 < low < -3
    assert 13 < high < 14
    _, below, above = ax.collections
    np.testing.assert_allclose(below.get_offsets(), [[y[5], low]])
    np.testing.assert_allclose(above.get_offsets(), [[y[2], high], [y[3], high]])


def test_error_bars(truth_and_prediction):
    y_true, y_pred = truth_and_prediction
    y_std = np.full(y_pred.shape, 0.5)
    y_std[3, 1] = np.nan
    display = ParameterRecoveryDisplay.from_predictions(y_true, y_pred, y_std=y_std)
    np.testing.assert_array_equal(display.y_std, y_std)
    for k, bars in enumerate(display.errorbars_):
        segments = bars.lines[2][0].get_segments()
        drawn = np.array([ends for ends in segments if len(ends)])
        known = ~np.isnan(y_std[:, k])
        np.testing.assert_allclose(drawn[:, 0, 0], y_true[known, k])
        np.testing.assert_allclose(
            drawn[:, :, 1], y_pred[known, k, np.newaxis] + [-0.5, 0.5]
        )
    display.figure_.canvas.draw()


def test_error_bars_do_not_set_the_limits(truth_and_prediction):
    y_true, y_pred = truth_and_prediction
    plain = ParameterRecoveryDisplay.from_predictions(y_true, y_pred)
    y_std = np.full(y_pred.shape, 1e9)
    display = ParameterRecoveryDisplay.from_predictions(y_true, y_pred, y_std=y_std)
    for ax, expected in zip(display.axes_, plain.axes_, strict=True):
        assert ax.get_ylim() == expected.get_ylim()


def test_no_error_bars_by_default(truth_and_prediction):
    display = ParameterRecoveryDisplay.from_predictions(*truth_and_prediction)
    assert display.y_std is None
    assert display.errorbars_ == []


def test_galaxies_with_nan_are_left_out(truth_and_prediction):
    y_true, y_pred = truth_and_prediction
    y_true[0, 1] = y_pred[1] = np.nan
    display = ParameterRecoveryDisplay.from_predictions(y_true, y_pred)
    np.testing.assert_allclose(
        display.r2,
        [
            r2_score(np.delete(y_true[:, 0], 1), np.delete(y_pred[:, 0], 1)),
            r2_score(y_true[2:, 1], y_pred[2:, 1]),
        ],
    )
    assert len(display.scatters_[1].get_offsets()) == 38
    assert display.axes_[1].get_title().endswith("(38 of 40 shown)")


def test_target_without_any_known_value(truth_and_prediction):
    y_true, y_pred = truth_and_prediction
    y_true[:, 1] = np.nan
    display = ParameterRecoveryDisplay.from_predictions(y_true, y_pred)
    assert np.isnan(display.r2[1])
    assert display.axes_[1].get_title() == "$R^2$ = nan (0 of 40 shown)"
    display.figure_.canvas.draw()


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


def test_error_bars_of_an_estimator(galaxies, model):
    display = ParameterRecoveryDisplay.from_estimator(model, *galaxies, show_std=True)
    np.testing.assert_allclose(display.y_std, display.y_response / 10)
    assert len(display.errorbars_) == 2


def test_names_come_from_the_estimator_if_y_has_none(galaxies, model):
    X, y = galaxies
    model.target_names_ = ["flux", "half_light_radius"]
    display = ParameterRecoveryDisplay.from_estimator(model, X, y)
    assert display.target_names == ["flux", "half_light_radius"]
    assert display.axes_[1].get_xlabel() == "True half-light radius [arcsec]"
    frame = pd.DataFrame(y, columns=["a", "b"])
    display = ParameterRecoveryDisplay.from_estimator(model, X, frame)
    assert display.target_names == ["a", "b"]


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
        ({"scale": "asinh"}, "scale must be 'auto', 'linear' or 'log', got 'asinh'"),
        ({"y_std": np.ones(40)}, "y_true has 2 targets, so y_std must .*got 1"),
        ({"y_std": -np.ones((40, 2))}, "y_std must be at least 0 or NaN, got -1"),
        (
            {"y_std": np.ones((40, 2)), "response_method": "transform"},
            "y_std must be None with response_method='transform'",
        ),
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
    with pytest.raises(ValueError, match="show_std must be False with response_method"):
        ParameterRecoveryDisplay.from_estimator(
            model, X, y, response_method="transform", show_std=True
        )
