"""R2 over known entries: scikit-learn's score of each target without the missing."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import make_scorer, r2_score
from sklearn.model_selection import cross_val_score

from sklcae.metrics import known_r2_score

ALL = "raw_values"
RNG = np.random.default_rng(0)
Y_TRUE = RNG.normal(size=(30, 3)) * [1.0, 30.0, 1e4]
Y_PRED = Y_TRUE + RNG.normal(size=(30, 3)) * [0.5, 20.0, 1e3]
WEIGHTS = RNG.uniform(size=30)


def with_missing():
    y_true = Y_TRUE.copy()
    y_true[::4, 0] = np.nan
    y_true[5:20:2, 1] = np.nan
    return y_true


@pytest.mark.parametrize("weights", [None, WEIGHTS, WEIGHTS > 0.5])
@pytest.mark.parametrize("multioutput", [ALL, "uniform_average", [0.2, 0.3, 2.0]])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_without_missing_entries_bitwise_as_scikit_learn(weights, multioutput, dtype):
    arrays = Y_TRUE.astype(dtype), Y_PRED.astype(dtype)
    options = {"sample_weight": weights, "multioutput": multioutput}
    found = known_r2_score(*arrays, **options)
    np.testing.assert_array_equal(found, r2_score(*arrays, **options))


def test_one_target_and_constant_targets_bitwise_as_scikit_learn():
    assert known_r2_score(Y_TRUE[:, 0], Y_PRED[:, 0]) == r2_score(
        Y_TRUE[:, 0], Y_PRED[:, 0]
    )
    for y_pred in ([2.0, 2.0], [2.0, 3.0]):
        assert known_r2_score([2.0, 2.0], y_pred) == r2_score([2.0, 2.0], y_pred)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_each_target_over_its_known_entries(weights):
    y_true = with_missing()
    found = known_r2_score(y_true, Y_PRED, sample_weight=weights, multioutput=ALL)
    for target in range(3):
        known = ~np.isnan(y_true[:, target])
        of_known = None if weights is None else weights[known]
        expected = r2_score(
            Y_TRUE[known, target], Y_PRED[known, target], sample_weight=of_known
        )
        assert found[target] == pytest.approx(expected, rel=1e-12)
    mean = known_r2_score(y_true, Y_PRED, sample_weight=weights)
    assert mean == pytest.approx(found.mean())
    weighted = known_r2_score(
        y_true, Y_PRED, sample_weight=weights, multioutput=[1, 0, 3]
    )
    assert weighted == pytest.approx(np.average(found, weights=[1, 0, 3]))


def test_predictions_of_missing_entries_do_not_matter():
    y_true, y_pred = with_missing(), Y_PRED.copy()
    y_pred[np.isnan(y_true)] = 1e9
    assert known_r2_score(y_true, y_pred) == known_r2_score(y_true, Y_PRED)


def test_missing_entries_of_a_data_frame():
    frame = pd.DataFrame(with_missing(), columns=["a", "b", "c"])
    expected = known_r2_score(with_missing(), Y_PRED)
    assert known_r2_score(frame, Y_PRED) == expected
    assert known_r2_score(frame.convert_dtypes(), Y_PRED) == expected


@pytest.mark.parametrize("n_known", [0, 1])
def test_target_with_too_few_entries_is_left_out_of_the_mean(n_known):
    y_true = Y_TRUE.copy()
    y_true[n_known:, 1] = np.nan
    message = r"columns \[1\] of y_true, because they have fewer than 2 known"
    with pytest.warns(UndefinedMetricWarning, match=message):
        scores = known_r2_score(y_true, Y_PRED, multioutput=ALL)
    assert np.isnan(scores).tolist() == [False, True, False]
    with pytest.warns(UndefinedMetricWarning, match=message):
        assert known_r2_score(y_true, Y_PRED) == scores[[0, 2]].mean()
    with pytest.warns(UndefinedMetricWarning, match=message):
        weighted = known_r2_score(y_true, Y_PRED, multioutput=[1, 5, 0])
    assert weighted == scores[0]
    # No warning for a target that is not asked for.
    assert known_r2_score(y_true, Y_PRED, multioutput=[1, 0, 0]) == scores[0]


@pytest.mark.parametrize("y_true", [[1.0], [np.nan, np.nan], [[1.0, np.nan]]])
def test_no_target_with_enough_entries(y_true):
    with pytest.warns(UndefinedMetricWarning, match="not defined"):
        assert np.isnan(known_r2_score(y_true, np.ones_like(y_true)))


def test_entries_of_weight_0_do_not_count():
    y_true, weights = np.array([1.0, 2.0, np.nan]), [1.0, 0.0, 1.0]
    with pytest.warns(UndefinedMetricWarning, match="fewer than 2"):
        score = known_r2_score(y_true, [1.0, 2.0, 3.0], sample_weight=weights)
    assert np.isnan(score)


def test_missing_predictions_are_named():
    y_pred = Y_PRED.copy()
    y_pred[[4, 17], 1] = np.nan
    message = r"y_pred contains NaN in 2 rows, counted from 0: 4, 17\. To score"
    for y_true in (Y_TRUE, with_missing(), np.where(np.isnan(y_pred), np.nan, Y_TRUE)):
        with pytest.raises(ValueError, match=message):
            known_r2_score(y_true, y_pred)
    with pytest.raises(ValueError, match=r"in 30 rows, .* 0: 0, 1, .*, 9, \.\.\.\."):
        known_r2_score(Y_TRUE, np.full_like(Y_TRUE, np.nan))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_true": [1.0, np.inf]}, "y_true contains infinity"),
        ({"y_pred": [1.0, np.inf]}, "y_pred contains infinity"),
        ({"y_pred": [1.0, 2.0, 3.0]}, r"y_pred must have .* \(2, 1\), got \(3, 1\)"),
        ({"y_true": np.ma.array([1.0, 2.0], mask=[0, 1])}, "must not have masked"),
        ({"sample_weight": [1.0, -1.0]}, "Negative values"),
        ({"sample_weight": [1.0]}, r"\(1,\), expected \(2,\)"),
        ({"sample_weight": "equal"}, "sample_weight must be an array of numbers"),
        ({"multioutput": "variance_weighted"}, "'multioutput' .* one for each target"),
    ],
)
@pytest.mark.parametrize("y_true", [[1.0, 2.0], [1.0, np.nan]])
def test_errors(change, message, y_true):
    with pytest.raises(ValueError, match=message):
        known_r2_score(**{"y_true": y_true, "y_pred": [1.0, 2.0], **change})


class KnownMean(RegressorMixin, BaseEstimator):
    """Predicts the mean of the known entries of each target."""

    def fit(self, X, y):
        self.mean_ = np.nanmean(y, axis=0)
        return self

    def predict(self, X):
        return np.tile(self.mean_, (len(X), 1))


def test_scorer_in_cross_validation():
    scorer = make_scorer(known_r2_score)
    scores = cross_val_score(
        KnownMean(), np.zeros((30, 1)), with_missing(), cv=3, scoring=scorer
    )
    assert np.isfinite(scores).all()
