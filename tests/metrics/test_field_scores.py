"""Scores against values computed by hand, and their invariances."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import Ridge
from sklearn.metrics import make_scorer, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate

from sklcae.metrics import (
    TARGET_ERRORS,
    best_dispersion,
    best_r2,
    dispersion,
    efficiency,
    field_scorers,
    median_bias,
    outlier_share,
    scores_by_signal_to_noise,
)
from tests.quantities import Quantity

SCORES = [median_bias, dispersion, outlier_share]
ALL = "raw_values"

positive = arrays(float, 12, elements=st.floats(0.1, 100.0))


class TestHandComputed:
    y_true = np.array([[100.0, 2.0, 0.1], [200.0, 2.0, 0.2], [400.0, 2.0, 0.3]])
    y_pred = np.array([[110.0, 20.0, 0.0], [180.0, 2.0, 0.2], [640.0, 0.2, 0.2]])
    names = ("flux", "sersic_index", "e1")

    # Errors 0.1, -0.1, 0.6; 1, 0, -1; -0.1, 0, -0.1.
    @pytest.mark.parametrize(
        ("score", "expected"),
        [
            (median_bias, [0.1, 0.0, -0.1]),
            (dispersion, [0.5, 1.0, 0.1]),
            (outlier_share, [1 / 3, 2 / 3, 0.0]),
        ],
    )
    def test_scores(self, score, expected):
        options = {"target_names": self.names}
        found = score(self.y_true, self.y_pred, **options, multioutput=ALL)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        mean = score(self.y_true, self.y_pred, **options)
        np.testing.assert_allclose(mean, np.mean(expected), atol=1e-12)
        weights = [1, 0, 3]
        found = score(self.y_true, self.y_pred, **options, multioutput=weights)
        assert isinstance(found, float)
        expected = np.average(expected, weights=weights)
        np.testing.assert_allclose(found, expected, atol=1e-12)

    def test_absolute_bias(self):
        found = median_bias(
            self.y_true,
            self.y_pred,
            target_names=self.names,
            absolute=True,
            multioutput=ALL,
        )
        np.testing.assert_allclose(found, [0.1, 0.0, 0.1], atol=1e-12)

    def test_an_error_at_the_threshold_is_no_outlier(self):
        y_pred = [1.5, 0.5, 1.75]
        share = outlier_share(np.ones(3), y_pred, errors="absolute")
        assert share == 1 / 3
        assert outlier_share(np.ones(3), y_pred, errors="dex", threshold=0.3) == 1 / 3

    def test_68_percent(self):
        y_true, y_pred = np.ones(101), 1.0 + np.arange(-50, 51)
        assert dispersion(y_true, y_pred, errors="absolute") == 34.0

    def test_of_a_gaussian(self):
        error = np.random.default_rng(0).normal(0.5, 2.0, size=100_000)
        zeros = np.zeros_like(error)
        found = dispersion(zeros, error, errors="absolute")
        np.testing.assert_allclose(found, 0.99446 * 2, rtol=0.01)
        found = median_bias(zeros, error, errors="absolute")
        np.testing.assert_allclose(found, 0.5, atol=0.02)


class TestKinds:
    def test_of_the_names(self):
        assert TARGET_ERRORS["half_light_radius"] == TARGET_ERRORS["flux"] == "relative"
        assert TARGET_ERRORS["sersic_index"] == "dex"
        for name in ("ellipticity", "e1", "e2", "x0", "y0"):
            assert TARGET_ERRORS[name] == "absolute"

    @pytest.mark.parametrize(
        ("errors", "expected"),
        [
            ({}, [0.5, np.log10(2)]),
            ({"errors": "absolute"}, [5.0, 1.0]),
            ({"errors": ["absolute", "relative"]}, [5.0, 1.0]),
            ({"errors": {"flux": "dex"}}, [np.log10(1.5), np.log10(2)]),
        ],
    )
    def test_choice(self, errors, expected):
        y_true = pd.DataFrame({"flux": [10.0], "sersic_index": [1.0]})
        for known in ({}, {"target_names": ["flux", "sersic_index"]}):
            values = y_true if not known else y_true.to_numpy()
            found = median_bias(
                values, [[15.0, 2.0]], **known, **errors, multioutput=ALL
            )
            np.testing.assert_allclose(found, expected)

    def test_names_of_a_series(self):
        y_true = pd.Series([10.0, 20.0], name="flux")
        assert median_bias(y_true, [11.0, 22.0]) == pytest.approx(0.1)

    def test_own_names(self):
        errors = {"mass": "dex"}
        assert median_bias([1.0], [10.0], target_names="mass", errors=errors) == 1.0

    def test_predictions_that_are_not_positive(self):
        y_true, y_pred = np.ones(4), np.array([1.0, 1.0, 1.0, -2.0])
        options = {"target_names": "sersic_index"}
        assert median_bias(y_true, y_pred, **options) == 0.0
        assert outlier_share(y_true, y_pred, **options) == 0.25
        assert dispersion(y_true, y_pred, **options) == 0.0
        y_pred[:2] = 0.0
        assert median_bias(y_true, y_pred, **options) == -np.inf
        assert dispersion(y_true, y_pred, **options) == np.inf


class TestInvariances:
    @settings(max_examples=30)
    @given(positive, positive, st.floats(0.01, 100.0))
    def test_units_do_not_matter(self, y_true, y_pred, unit):
        for kind in ("relative", "dex"):
            for score in (median_bias, dispersion):
                one = score(y_true, y_pred, errors=kind)
                other = score(unit * y_true, unit * y_pred, errors=kind)
                np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-12)

    @settings(max_examples=30)
    @given(positive, positive, st.floats(-10.0, 10.0))
    def test_a_shift_is_bias_alone(self, y_true, y_pred, shift):
        shifted = y_pred + shift
        one = median_bias(y_true, y_pred, errors="absolute")
        other = median_bias(y_true, shifted, errors="absolute")
        np.testing.assert_allclose(other, one + shift, atol=1e-9)
        one = dispersion(y_true, y_pred, errors="absolute")
        other = dispersion(y_true, shifted, errors="absolute")
        np.testing.assert_allclose(other, one, atol=1e-9)

    @settings(max_examples=30)
    @given(positive, positive, st.permutations(range(12)))
    def test_order_does_not_matter(self, y_true, y_pred, order):
        for score in SCORES:
            one = score(y_true, y_pred, errors="relative")
            assert score(y_true[order], y_pred[order], errors="relative") == one

    @settings(max_examples=30)
    @given(positive, positive)
    def test_repeated_samples_do_not_matter(self, y_true, y_pred):
        for score in SCORES:
            one = score(y_true, y_pred, errors="relative")
            twice = score(np.tile(y_true, 2), np.tile(y_pred, 2), errors="relative")
            assert twice == one

    @settings(max_examples=30)
    @given(positive, positive)
    def test_meaning_of_the_dispersion(self, y_true, y_pred):
        error = y_pred - y_true
        width = dispersion(y_true, y_pred, errors="absolute")
        distance = np.abs(error - np.median(error))
        assert np.mean(distance <= width) >= 0.68
        assert np.mean(distance < width) < 0.68

    @settings(max_examples=30)
    @given(positive)
    def test_perfect(self, y_true):
        for kind in ("relative", "dex", "absolute"):
            for score in SCORES:
                assert score(y_true, y_true, errors=kind) == 0.0

    @settings(max_examples=30)
    @given(positive, positive, st.floats(0.1, 1.0), st.floats(0.1, 1.0))
    def test_threshold(self, y_true, y_pred, one, other):
        low, high = sorted([one, other])
        many = outlier_share(y_true, y_pred, errors="dex", threshold=low)
        few = outlier_share(y_true, y_pred, errors="dex", threshold=high)
        assert 0 <= few <= many <= 1


class TestBest:
    def test_r2_and_efficiency_belong_together(self):
        rng = np.random.default_rng(0)
        y_true = rng.normal(size=(50, 2)) * [1.0, 30.0]
        y_pred = y_true + rng.normal(size=(50, 2)) * [0.1, 5.0] + 0.1
        variance = rng.uniform(0.001, 0.01, size=(50, 2))
        ceiling = best_r2(y_true, variance, multioutput=ALL)
        achieved = r2_score(y_true, y_pred, multioutput=ALL)
        np.testing.assert_allclose(
            efficiency(y_true, y_pred, variance, multioutput=ALL),
            (1 - ceiling) / (1 - achieved),
        )
        assert best_r2(y_true, variance) == pytest.approx(ceiling.mean())

    def test_estimator_at_the_bound(self):
        rng = np.random.default_rng(1)
        y_true = rng.uniform(0.5, 2.0, size=200_000)
        variance = (0.1 * y_true * rng.uniform(0.01, 1.0, size=len(y_true))) ** 2
        y_pred = y_true + rng.normal(scale=np.sqrt(variance))
        found = efficiency(y_true, y_pred, variance)
        np.testing.assert_allclose(found, 1.0, rtol=0.02)
        found = r2_score(y_true, y_pred)
        np.testing.assert_allclose(1 - found, 1 - best_r2(y_true, variance), rtol=0.02)
        for kind in ("relative", "absolute", "dex"):
            found = dispersion(y_true, y_pred, errors=kind)
            best = best_dispersion(y_true, variance, errors=kind)
            np.testing.assert_allclose(found, best, rtol=0.02)

    def test_bias_lowers_the_efficiency(self):
        y_true = np.array([1.0, 2.0, 3.0])
        biased = efficiency(y_true, y_true + 1.0, np.full(3, 0.5))
        assert biased == 0.5
        assert efficiency(y_true, y_true, np.full(3, 0.5)) == np.inf

    def test_dispersion_of_certain_and_uncertain(self):
        y_true = np.ones(4)
        kind = {"errors": "absolute"}
        certain = best_dispersion(y_true, np.zeros(4), **kind)
        mostly = best_dispersion(y_true, [0.0, 0.0, 0.0, 4.0], **kind)
        assert certain == mostly == 0.0
        half = best_dispersion(y_true, [0.0, 0.0, 4.0, 4.0], **kind)
        # 36 % of the two others: 0.4677 standard deviations.
        assert half == pytest.approx(0.4677 * 2, rel=1e-3)

    def test_constant_target(self):
        assert np.isnan(best_r2([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]))


class TestScorers:
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = pd.DataFrame(
        {
            "flux": 100 + 10 * X[:, 0],
            "sersic_index": 2 + 0.2 * X[:, 1],
            "e1": 0.1 * X[:, 2],
        }
    )

    def test_cross_validation(self):
        scorers = field_scorers(list(self.y))
        kinds = ["median_bias", "dispersion", "outlier_share"]
        ends = ["", "_flux", "_sersic_index", "_e1"]
        assert set(scorers) == {kind + end for kind in kinds for end in ends}
        model = DummyRegressor()
        scores = cross_validate(model, self.X, self.y, cv=3, scoring=scorers)
        for kind in kinds:
            single = [scores[f"test_{kind}{end}"] for end in ends[1:]]
            np.testing.assert_allclose(np.mean(single, axis=0), scores[f"test_{kind}"])
            assert (np.array(single) <= 0).all()
        # As arrays, without names, it is the same.
        again = cross_validate(
            model, self.X, self.y.to_numpy(), cv=3, scoring=scorers["dispersion_flux"]
        )
        np.testing.assert_allclose(
            again["test_score"], scores["test_dispersion_flux"], rtol=1e-12
        )

    def test_names_of_a_data_frame_suffice(self):
        scorer = make_scorer(dispersion, greater_is_better=False)
        scores = cross_val_score(DummyRegressor(), self.X, self.y, scoring=scorer)
        assert (scores < 0).all()

    def test_grid_search_selects_the_better(self):
        search = GridSearchCV(
            Ridge(),
            {"alpha": [1e-3, 1e6]},
            scoring=field_scorers(list(self.y)),
            refit="dispersion",
        )
        assert search.fit(self.X, self.y).best_params_ == {"alpha": 1e-3}

    def test_infinite_score_of_another_target(self):
        y = self.y.assign(sersic_index=1.0)
        X = np.zeros((60, 1))
        model = DummyRegressor(strategy="constant", constant=[100.0, -1.0, 0.0])
        scorers = field_scorers(list(y))
        assert np.isfinite(scorers["dispersion_flux"](model.fit(X, y), X, y))
        assert scorers["dispersion_sersic_index"](model, X, y) == -np.inf

    def test_efficiency_by_metadata_routing(self):
        variance = np.random.default_rng(1).uniform(1, 2, size=(60, 3))
        with config_context(enable_metadata_routing=True):
            scorer = make_scorer(efficiency).set_score_request(variance=True)
            scores = cross_val_score(
                DummyRegressor(),
                self.X,
                self.y,
                scoring=scorer,
                params={"variance": variance},
            )
        assert scores.shape == (5,)
        assert (scores > 0).all()


class TestMissingEntries:
    rng = np.random.default_rng(0)
    y_true = rng.uniform(1, 2, size=(40, 3))
    y_true[::3, 0] = np.nan
    y_true[10:25, 1] = np.nan
    y_pred = rng.uniform(-0.1, 2, size=(40, 3))
    variance = rng.uniform(0.01, 0.1, size=(40, 3))
    kinds = ("relative", "dex", "absolute")

    def of_one(self, score, target, **options):
        """Score one target without its missing entries."""
        known = ~np.isnan(self.y_true[:, target])
        arrays = (self.y_true, self.y_pred, self.variance)
        y_true, y_pred, variance = (values[known, target] for values in arrays)
        return score(y_true, y_pred, variance, **options)

    @pytest.mark.parametrize("score", SCORES)
    def test_errors(self, score):
        options = {"errors": self.kinds, "multioutput": ALL}
        found = score(self.y_true, self.y_pred, **options)
        for target, kind in enumerate(self.kinds):
            expected = self.of_one(
                lambda y_true, y_pred, _, kind=kind: score(y_true, y_pred, errors=kind),
                target,
            )
            assert found[target] == expected

    @pytest.mark.parametrize(
        "score",
        [
            lambda y_true, y_pred, variance, **options: best_dispersion(
                y_true, variance, errors="dex", **options
            ),
            lambda y_true, y_pred, variance, **options: best_r2(
                y_true, variance, **options
            ),
            efficiency,
        ],
        ids=["best_dispersion", "best_r2", "efficiency"],
    )
    def test_bounds(self, score):
        found = score(self.y_true, self.y_pred, self.variance, multioutput=ALL)
        expected = [self.of_one(score, target) for target in range(3)]
        np.testing.assert_array_equal(found, expected)
        mean = score(self.y_true, self.y_pred, self.variance)
        assert mean == np.mean(expected)

    def test_dispersion_of_an_absolute_error(self):
        found = best_dispersion([1.0, np.nan], [1.0, 100.0], errors="absolute")
        assert found == best_dispersion([1.0], [1.0], errors="absolute")

    def test_known_entries_must_be_positive(self):
        options = {"target_names": "flux"}
        assert median_bias([10.0, np.nan], [11.0, 0.0], **options) == 0.1
        with pytest.raises(ValueError, match=r"above 0 for target 'flux'.*Got -1\."):
            median_bias([-1.0, np.nan], [11.0, 0.0], **options)

    @pytest.mark.parametrize("score", SCORES)
    def test_target_without_known_entries(self, score):
        y_true = np.array([[np.nan, 1.0], [np.nan, 2.0]])
        y_pred = np.full((2, 2), 1.5)
        call = {"y_true": y_true, "y_pred": y_pred, "errors": "absolute"}
        one = score(y_true[:, 1], y_pred[:, 1], errors="absolute")
        with pytest.warns(UndefinedMetricWarning, match=r"columns \[0\]"):
            assert score(**call) == one
        with pytest.warns(UndefinedMetricWarning, match=r"columns \[0\]"):
            np.testing.assert_array_equal(score(**call, multioutput=ALL), [np.nan, one])
        assert score(**call, multioutput=[0, 1]) == one

    def test_missing_predictions_are_named(self):
        y_pred = self.y_pred.copy()
        y_pred[[0, 7], 0] = np.nan
        message = "y_pred contains NaN in 2 rows, counted from 0: 0, 7"
        for score in SCORES:
            with pytest.raises(ValueError, match=message):
                score(self.y_true, y_pred, errors="absolute")
        with pytest.raises(ValueError, match=message):
            efficiency(self.y_true, y_pred, self.variance)
        with pytest.raises(ValueError, match=message):
            scores_by_signal_to_noise(
                self.y_true, y_pred, np.arange(40), errors="absolute"
            )

    def test_scorers_in_cross_validation(self):
        names = ["flux", "sersic_index", "e1"]
        y = pd.DataFrame(self.y_true, columns=names)
        scores = cross_validate(
            KnownMean(), np.zeros((40, 1)), y, cv=3, scoring=field_scorers(names)
        )
        assert np.isfinite([scores[name] for name in scores if "test" in name]).all()
        # The scores of e1, which has no missing entries.
        complete = cross_validate(
            KnownMean(),
            np.zeros((40, 1)),
            y["e1"],
            cv=3,
            scoring=field_scorers("e1")["dispersion"],
        )
        np.testing.assert_allclose(
            scores["test_dispersion_e1"], complete["test_score"], rtol=1e-12
        )

    def test_search_selects_the_better(self):
        names = ["flux", "sersic_index", "e1"]
        search = GridSearchCV(
            KnownMean(),
            {"shift": [-0.5, 0.0]},
            scoring=field_scorers(names),
            refit="median_bias",
            cv=2,
        )
        search.fit(np.zeros((40, 1)), self.y_true)
        assert search.best_params_ == {"shift": 0.0}

    def test_table_counts_known_entries(self):
        ratio = np.arange(40.0)
        table = scores_by_signal_to_noise(
            self.y_true,
            self.y_pred,
            ratio,
            bins=[0, 10, 25, 40],
            variance=self.variance,
            errors=self.kinds,
        )
        known = ~np.isnan(self.y_true)
        counts = [part.sum(axis=0) for part in np.split(known, [10, 25])]
        assert table["n_samples"].tolist() == np.ravel(counts).tolist()
        assert table["n_samples"].iloc[4] == 0
        assert table.iloc[4, 4:].isna().all()
        assert table.drop(index=4).notna().all(axis=None)
        last = known[:, 0] & (ratio >= 25)
        expected = efficiency(
            *(v[last, 0] for v in (self.y_true, self.y_pred, self.variance))
        )
        assert table["efficiency"].iloc[6] == expected


class KnownMean(RegressorMixin, BaseEstimator):
    """Predicts the mean of the known entries of each target, plus a shift."""

    def __init__(self, shift=0.0):
        self.shift = shift

    def fit(self, X, y):
        self.mean_ = np.nanmean(y, axis=0) + self.shift
        return self

    def predict(self, X):
        return np.repeat(self.mean_[np.newaxis], len(X), axis=0)


class TestTable:
    rng = np.random.default_rng(0)
    ratio = rng.uniform(1, 100, size=40)
    y_true = rng.uniform(1, 2, size=(40, 2))
    y_pred = y_true + rng.normal(size=(40, 2)) / ratio[:, np.newaxis]
    names = ("flux", "e1")

    def table(self, **options):
        options = {"target_names": self.names, **options}
        return scores_by_signal_to_noise(
            self.y_true, self.y_pred, self.ratio, **options
        )

    def test_scores_of_each_bin(self):
        variance = np.full((40, 2), 0.01)
        table = self.table(bins=[0.0, 30.0, 60.0], variance=variance, threshold=0.1)
        assert table["target"].tolist() == ["flux", "e1"] * 2
        assert table["low"].tolist() == [0.0, 0.0, 30.0, 30.0]
        assert table["high"].tolist() == [30.0, 30.0, 60.0, 60.0]
        for rows, low, high in ((slice(0, 2), 0, 30), (slice(2, 4), 30, 60)):
            inside = (self.ratio >= low) & (self.ratio < high)
            pair = self.y_true[inside], self.y_pred[inside]
            options = {"target_names": self.names, "multioutput": ALL}
            bound = variance[inside]
            expected = {
                "n_samples": [inside.sum()] * 2,
                "median_bias": median_bias(*pair, **options),
                "dispersion": dispersion(*pair, **options),
                "outlier_share": outlier_share(*pair, threshold=0.1, **options),
                "best_dispersion": best_dispersion(pair[0], bound, **options),
                "efficiency": efficiency(*pair, bound, multioutput=ALL),
            }
            for name, values in expected.items():
                np.testing.assert_allclose(table[name].iloc[rows], values)

    def test_bins_of_equal_size(self):
        table = self.table(bins=4)
        assert table["n_samples"].tolist() == [10] * 8
        assert table["low"].min() == self.ratio.min()
        assert table["high"].max() == self.ratio.max()
        assert "efficiency" not in table

    def test_empty_bin_and_samples_outside(self):
        table = self.table(bins=[-np.inf, 0.0, 10.0, 200.0, 300.0])
        assert table["n_samples"].iloc[[0, 6]].tolist() == [0, 0]
        assert table["dispersion"].iloc[[0, 6]].isna().all()
        assert table["n_samples"].sum() == 2 * 40

    def test_edges_belong_to_the_upper_bin_and_the_last_to_the_last(self):
        table = scores_by_signal_to_noise(
            [1.0, 1.0, 1.0], [1.0, 2.0, 3.0], [0, 1, 2], bins=[0, 1, 2], errors="dex"
        )
        assert table["n_samples"].tolist() == [1, 2]
        assert table["target"].tolist() == [0, 0]

    def test_data_frame(self):
        frame = pd.DataFrame(self.y_true, columns=self.names)
        table = scores_by_signal_to_noise(frame, self.y_pred, self.ratio)
        pd.testing.assert_frame_equal(table, self.table())

    @pytest.mark.parametrize(
        "bins", [0, -3, True, 100, 10**400, [1.0], [2.0, 1.0], "many", [[1, 2]]]
    )
    def test_bad_bins(self, bins):
        ratio = np.tile([1.0, 2.0], 20)
        with pytest.raises(ValueError, match=r"'bins' .* increasing edges. Got"):
            scores_by_signal_to_noise(
                self.y_true, self.y_pred, ratio, bins=bins, errors="absolute"
            )

    def test_bad_ratios(self):
        with pytest.raises(ValueError, match=r"signal_to_noise must .*\(40,\).*\(3,\)"):
            scores_by_signal_to_noise(
                self.y_true, self.y_pred, np.ones(3), errors="absolute"
            )


class TestErrors:
    @pytest.mark.parametrize("score", [*SCORES, best_dispersion])
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "kind of error .* is unknown .* Got targets without names"),
            ({"target_names": "position_angle"}, "Got the targets .'position_angle'"),
            ({"target_names": ["flux", "e1"]}, "'target_names' .* of 1 targets"),
            ({"target_names": 5, "errors": "dex"}, "'target_names' .* Got .5."),
            ({"errors": 5}, "'errors' .* Got 5"),
            ({"errors": "log"}, "'errors' .* relative, dex, absolute, .* Got 'log'"),
            ({"errors": ["dex", "dex"]}, "'errors' .* each of 1 targets"),
            ({"errors": "dex", "multioutput": "sum"}, "'multioutput' .* Got 'sum'"),
            ({"errors": "dex", "multioutput": [1, 2]}, "'multioutput' .* 1 weights"),
            ({"errors": "dex", "multioutput": [0]}, "'multioutput' .* not all 0"),
        ],
    )
    def test_options(self, score, options, message):
        with pytest.raises(ValueError, match=message):
            score([1.0, 2.0], [1.0, 2.0], **options)

    @pytest.mark.parametrize("score", [*SCORES, best_dispersion])
    @pytest.mark.parametrize("name", ["flux", "sersic_index"])
    def test_true_values_that_are_not_positive(self, score, name):
        with pytest.raises(ValueError, match=f"y_true must be above 0 .* '{name}'.* 0"):
            score([0.0, 2.0], [1.0, 2.0], target_names=name)

    def test_shapes(self):
        with pytest.raises(ValueError, match=r"y_pred must .* \(2, 1\), got \(3, 1\)"):
            dispersion([1.0, 2.0], [1.0, 2.0, 3.0], errors="absolute")
        with pytest.raises(ValueError, match=r"variance must .* \(2, 1\), got \(1"):
            best_r2([1.0, 2.0], [1.0])
        with pytest.raises(ValueError, match=r"variance must be at least 0, got -1\."):
            efficiency([1.0, 2.0], [1.0, 2.0], [1.0, -1.0])

    @pytest.mark.parametrize("y_true", ["galaxies.fits", [1j, 2j], [10**400, 1.0]])
    def test_no_numbers(self, y_true):
        for score in SCORES:
            with pytest.raises(ValueError, match="y_true must be an array of numbers"):
                score(y_true, [1.0, 2.0], errors="absolute")

    def test_quantities(self):
        arcmin = Quantity([1.0, 2.0], "arcmin")
        for y_true, y_pred in ((arcmin, [1.0, 2.0]), ([1.0, 2.0], arcmin)):
            for score in SCORES:
                with pytest.raises(TypeError, match="Got a Quantity in arcmin"):
                    score(y_true, y_pred, errors="absolute")

    def test_not_finite(self):
        with pytest.raises(ValueError, match="y_pred contains NaN"):
            dispersion([1.0, 2.0], [1.0, np.nan], errors="absolute")
        with pytest.raises(ValueError, match="variance contains infinity"):
            best_r2([1.0, 2.0], [1.0, np.inf])

    def test_threshold_is_checked_before_it_is_used(self):
        with pytest.raises(ValueError, match="'threshold'"):
            field_scorers("flux", threshold=0.0)

    @pytest.mark.parametrize("names", [[], 5, ["flux", "flux"]])
    def test_scorers_need_names(self, names):
        with pytest.raises(ValueError, match=r"'target_names' .* different strings"):
            field_scorers(names)

    def test_scorers_of_unknown_targets(self):
        with pytest.raises(ValueError, match=r"Got the targets .'mass'"):
            field_scorers(["flux", "mass"])
