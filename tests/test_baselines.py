"""PCA baselines on data with known components."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score

from sklcae.baselines import make_pca_baseline, make_single_component_baseline

MAKERS = [make_pca_baseline, make_single_component_baseline]
SCALES = np.array([8.0, 4.0, 2.0, 1.0])


@pytest.fixture
def scores():
    """Uncorrelated coordinates with the variances SCALES**2, exactly."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(120, 4))
    q, _ = np.linalg.qr(noise - noise.mean(axis=0))
    return q * SCALES


@pytest.fixture
def X(scores):
    """Images made of four orthogonal patterns, the strongest first."""
    patterns, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(30, 4)))
    return 5.0 + scores @ patterns.T


def chosen(model):
    return [
        int(one.named_steps["select"].get_support(indices=True)[0])
        for one in model.named_steps["regressor"].estimators_
    ]


def test_all_components_give_every_linear_target(X, scores):
    y = scores @ np.array([[1.0, 0.0], [2.0, 1.0], [0.0, -3.0], [4.0, 1.0]]) + 7.0
    model = make_pca_baseline(n_components=4).fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-8)
    # Without the weakest component its contribution to y is missing.
    model = make_pca_baseline(n_components=3).fit(X, y)
    expected = y - scores[:, [3]] * [4.0, 1.0]
    np.testing.assert_allclose(model.predict(X), expected, atol=1e-8)


def test_single_component_is_the_right_one_for_each_target(X, scores):
    noise = np.random.default_rng(2).normal(scale=0.01, size=(120, 3))
    y = scores[:, [2, 0, 3]] * [1.0, -5.0, 2.0] + [1.0, 2.0, 3.0] + noise
    model = make_single_component_baseline(n_components=4).fit(X, y)
    assert chosen(model) == [2, 0, 3]
    assert model.score(X, y) > 0.99


def test_single_component_has_the_highest_r2(X):
    y = np.random.default_rng(3).normal(size=(120, 2)) + X[:, :2]
    model = make_single_component_baseline(n_components=4).fit(X, y)
    components = model.named_steps["pca"].transform(X)
    for target in range(2):
        r2 = [
            LinearRegression().fit(z, y[:, target]).score(z, y[:, target])
            for z in np.split(components, 4, axis=1)
        ]
        assert chosen(model)[target] == np.argmax(r2)
        best = r2_score(y[:, target], model.predict(X)[:, target])
        assert best == pytest.approx(max(r2))


def test_perfect_and_empty_components_raise_no_warning(scores):
    # Constant pixels leave components without any variance; one target is exact.
    X = np.hstack([scores[:, :1], np.zeros((120, 5))])
    y = scores[:, :1] * 3.0
    model = make_single_component_baseline(n_components=6).fit(X, y)
    assert chosen(model) == [0]
    np.testing.assert_allclose(model.predict(X), y, atol=1e-10)


@pytest.mark.parametrize("make", MAKERS)
def test_ordinary_estimator(make, X, scores):
    y = scores[:, :2]
    model = make(n_components=3)
    assert clone(model).get_params()["pca__n_components"] == 3
    assert (cross_val_score(model, X, y, cv=3) > 0.99).all()
    search = GridSearchCV(model, {"pca__n_components": [1, 2]}, cv=3).fit(X, y)
    assert search.best_params_ == {"pca__n_components": 2}
    copy = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(copy.predict(X), search.predict(X))


@pytest.mark.parametrize("make", MAKERS)
def test_fits_are_identical(make, X, scores):
    first, second = (make(n_components=4).fit(X, scores).predict(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_number_of_selected_components_can_be_searched(X, scores):
    y = scores[:, :2] + scores[:, 2:]
    grid = {"regressor__estimator__select__k": [1, 2]}
    search = GridSearchCV(make_single_component_baseline(4), grid, cv=3).fit(X, y)
    assert search.best_params_ == {"regressor__estimator__select__k": 2}


def test_defaults_follow_the_paper():
    for make in MAKERS:
        assert make().named_steps["pca"].n_components == 64


def test_single_target(X, scores):
    assert make_pca_baseline(4).fit(X, scores[:, 0]).predict(X).shape == (120,)
    with pytest.raises(ValueError, match="at least two dimensions"):
        make_single_component_baseline(4).fit(X, scores[:, 0])
