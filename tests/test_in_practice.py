"""The estimator inside the tools that people use with it."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from mapie.regression import CrossConformalRegressor, SplitConformalRegressor
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression
from sklearn.metrics import make_scorer, r2_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingRandomSearchCV,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tests.blobs import make_blobs_of_light
from tests.instances import fast

NAME = "conditionalautoencoderregressor"


def learner(**kwargs):
    """Return an estimator that learns the blobs within a second."""
    return fast(**{"max_epochs": 20, "latent_dim": 8, "batch_size": 32, **kwargs})


@pytest.fixture(scope="module")
def blobs():
    return make_blobs_of_light(120, side=8)


@pytest.fixture(scope="module")
def fresh_blobs():
    return make_blobs_of_light(200, random_state=1, side=8)


# Pipelines -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [
        StandardScaler(),
        FunctionTransformer(lambda X: X - np.median(X)),
        FunctionTransformer(lambda X: X.reshape(-1, 8, 8)),
    ],
    ids=["scale", "subtract the sky", "shape"],
)
def test_transformers_may_come_before_it(blobs, fresh_blobs, before):
    pipeline = make_pipeline(before, learner())
    assert pipeline.fit(*blobs).score(*fresh_blobs) > 0.9


def test_its_latents_serve_a_linear_model(blobs, fresh_blobs):
    pipeline = make_pipeline(learner(), LinearRegression())
    assert pipeline.fit(*blobs).score(*fresh_blobs) > 0.9


def test_a_pipeline_ends_and_begins_with_images(blobs):
    X, y = blobs
    pipeline = make_pipeline(FunctionTransformer(np.negative, np.negative), learner())
    Z = pipeline.fit(X, y).transform(X)
    assert Z.shape == (120, 8)
    residual = pipeline.inverse_transform(Z) - X
    assert residual.std() < 0.2 * X.std()


def test_targets_may_be_transformed(blobs, fresh_blobs):
    model = TransformedTargetRegressor(learner(), func=np.log, inverse_func=np.exp)
    assert model.fit(*blobs).score(*fresh_blobs) > 0.9
    z_phy = model.regressor_.predict(fresh_blobs[0])
    np.testing.assert_allclose(model.predict(fresh_blobs[0]), np.exp(z_phy))


def test_clone_of_a_fitted_model_is_not_fitted(blobs):
    model = fast().fit(*blobs)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not [name for name in vars(copy) if name.endswith("_")]
    with pytest.raises(NotFittedError):
        copy.predict(blobs[0])


# Searches and scores -------------------------------------------------------------


def test_a_grid_search_finds_the_same_whatever_n_jobs(blobs):
    grid = {"alpha": [0.01, 1.0]}
    one, two = (
        GridSearchCV(fast(), grid, cv=2, n_jobs=n_jobs).fit(*blobs) for n_jobs in (1, 2)
    )
    scores = [search.cv_results_["split1_test_score"] for search in (one, two)]
    assert len(set(scores[0])) == 2
    np.testing.assert_array_equal(*scores)
    np.testing.assert_array_equal(one.predict(blobs[0]), two.predict(blobs[0]))


def test_a_halving_search_gives_more_epochs_to_the_better(blobs):
    search = HalvingRandomSearchCV(
        learner(),
        {"lr": [1e-6, 1e-5, 1e-4, 5e-3]},
        resource="max_epochs",
        min_resources=5,
        max_resources=20,
        factor=2,
        cv=2,
        n_jobs=2,
        random_state=0,
    ).fit(*blobs)
    assert search.best_params_ == {"lr": 5e-3, "max_epochs": 20}
    assert search.best_estimator_.n_iter_ == 20
    assert search.best_score_ > 0.6


def test_targets_are_scored_one_by_one(blobs):
    def column(target):
        return make_scorer(lambda y, y_pred: r2_score(y[:, target], y_pred[:, target]))

    scoring = {
        "r2": "r2",
        "error": "neg_mean_absolute_error",
        "flux": column(0),
        "width": column(1),
    }
    scores = cross_validate(
        learner(max_epochs=40), *blobs, cv=2, scoring=scoring, return_train_score=True
    )
    both = (scores["test_flux"] + scores["test_width"]) / 2
    np.testing.assert_allclose(scores["test_r2"], both)
    assert (scores["test_r2"] > 0.8).all()
    assert (scores["train_error"] <= 0).all()


@pytest.mark.filterwarnings("ignore::sklcae.exceptions.OutsideTrainingWarning")
def test_bright_pixels_are_the_important_ones(blobs, fresh_blobs):
    model = learner().fit(*blobs)
    X, y = fresh_blobs
    result = permutation_importance(model, X[:60], y[:60], n_repeats=2, random_state=0)
    importances = result.importances_mean.reshape(8, 8)
    corners = importances[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert importances[3:5, 3:5].min() > 10 * np.abs(corners).max()


# pandas --------------------------------------------------------------------------


@pytest.fixture
def tables(blobs):
    X, y = blobs
    columns = [f"pixel{i}" for i in range(64)]
    return pd.DataFrame(X, columns=columns), pd.DataFrame(y, columns=["flux", "width"])


def test_names_of_columns_are_kept(blobs, tables):
    X, y = tables
    model = fast().set_output(transform="pandas").fit(X, y)
    assert list(model.feature_names_in_) == list(X.columns)
    Z = model.transform(X)
    assert list(Z.columns[:3]) == ["flux", "width", "z_rest0"]
    assert Z.index.equals(X.index)
    expected = fast().fit(*blobs).predict(blobs[0])
    np.testing.assert_array_equal(model.predict(X), expected)


def test_pixels_in_another_order_are_refused(tables):
    X, y = tables
    model = fast().fit(X, y)
    with pytest.raises(ValueError, match="must be in the same order"):
        model.predict(X[X.columns[::-1]])
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X.rename(columns={"pixel0": "piksel0"}))


def test_named_latents_go_through_a_pipeline(tables):
    X, y = tables
    pipeline = make_pipeline(StandardScaler(), learner(), StandardScaler())
    Z = pipeline.set_output(transform="pandas").fit_transform(X, y)
    assert list(Z.columns[:2]) == ["flux", "width"]
    assert list(pipeline.get_feature_names_out()) == list(Z.columns)


def test_one_column_of_a_table_is_a_target(tables):
    X, y = tables
    assert fast().fit(X, y["flux"]).predict(X).shape == (120,)
    assert fast().fit(X, y[["flux"]]).predict(X).shape == (120, 1)


# sample_weight -------------------------------------------------------------------


@pytest.fixture
def spoiled(blobs):
    """Return blobs of which half have a wrong target, and a weight of zero."""
    X, y = blobs
    weight = np.tile([1.0, 0.0], len(X) // 2)
    return X, np.where(weight[:, None] > 0, y, y.max(axis=0)), weight


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
def test_weights_are_routed_through_a_pipeline(spoiled, fresh_blobs):
    X, y, weight = spoiled
    model = learner(max_epochs=40).set_fit_request(sample_weight=True)
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    pipeline = make_pipeline(scaler, model).fit(X, y, sample_weight=weight)
    alone = clone(model).fit(scaler.fit_transform(X), y, sample_weight=weight)
    np.testing.assert_array_equal(
        pipeline.predict(X), alone.predict(scaler.transform(X))
    )
    assert pipeline.score(*fresh_blobs) > 0.9
    assert clone(pipeline).fit(X, y).score(*fresh_blobs) < 0.6


@pytest.mark.usefixtures("routing")
def test_weights_are_routed_through_a_search(spoiled, fresh_blobs):
    X, y, weight = spoiled
    model = learner(max_epochs=40).set_fit_request(sample_weight=True)
    model.set_score_request(sample_weight=True)
    search = GridSearchCV(model, {"alpha": [0.01, 1.0]}, cv=2)
    search.fit(X, y, sample_weight=weight)
    assert search.best_score_ > 0.5
    assert search.score(*fresh_blobs) > 0.9
    alone = clone(model).set_params(**search.best_params_)
    np.testing.assert_array_equal(
        search.predict(X), alone.fit(X, y, sample_weight=weight).predict(X)
    )


@pytest.mark.usefixtures("routing")
def test_weights_that_nobody_asked_for_are_refused(spoiled):
    X, y, weight = spoiled
    with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError):
        make_pipeline(fast()).fit(X, y, sample_weight=weight)


# Conformal prediction ------------------------------------------------------------


@pytest.fixture
def flux_with_noise():
    """Return blobs whose brightness is known to 20, so that intervals are wide."""
    rng = np.random.default_rng(2)
    X, y = make_blobs_of_light(480, random_state=2, side=8)
    return X, y[:, 0] + rng.normal(scale=20.0, size=480)


def assert_intervals_hold(model, X, y):
    prediction, intervals = model.predict_interval(X)
    assert prediction.shape == y.shape
    assert intervals.shape == (len(y), 2, 1)
    low, high = intervals[:, :, 0].T
    assert ((low < prediction) & (prediction < high)).all()
    # 90 per cent, of 200 images: within four standard deviations.
    assert abs(np.mean((low <= y) & (y <= high)) - 0.9) < 0.085
    assert 2 * 20 < np.mean(high - low) < 6 * 20


@pytest.mark.filterwarnings("ignore::sklcae.exceptions.OutsideTrainingWarning")
@pytest.mark.parametrize("prefit", [True, False])
def test_intervals_from_a_split_hold_what_they_promise(flux_with_noise, prefit):
    X, y = flux_with_noise
    train, calibrate, test = slice(120), slice(120, 280), slice(280, None)
    estimator = learner()
    if prefit:
        estimator.fit(X[train], y[train])
    model = SplitConformalRegressor(estimator, confidence_level=0.9, prefit=prefit)
    if not prefit:
        model.fit(X[train], y[train])
    model.conformalize(X[calibrate], y[calibrate])
    assert_intervals_hold(model, X[test], y[test])


def test_intervals_from_cross_validation_hold_what_they_promise(flux_with_noise):
    X, y = flux_with_noise
    model = CrossConformalRegressor(
        learner(), confidence_level=0.9, cv=3, random_state=0
    )
    model.fit_conformalize(X[:280], y[:280])
    assert_intervals_hold(model, X[280:], y[280:])
