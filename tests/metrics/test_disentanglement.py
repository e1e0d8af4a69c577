"""Codes and sweeps with known scores, and invariances of the scores."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy, rankdata
from sklearn.metrics import r2_score

from sklcae.metrics import (
    closure_scores,
    dci_scores,
    mutual_information_gap,
    separated_attribute_predictability,
    sweep_slopes,
)

ALL = "raw_values"
GAPS = [mutual_information_gap, separated_attribute_predictability]

dci = partial(dci_scores, n_estimators=10, cv=2, random_state=0)

# Each value of one factor occurs once with each value of the other: their correlation
# and their mutual information are exactly 0.
GRID = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0)), axis=-1).reshape(-1, 2)


def rotated(angle):
    cos, sin = np.cos(angle), np.sin(angle)
    return GRID @ [[cos, -sin], [sin, cos]]


# Whole numbers, which shifts and scales by powers of two keep exactly.
whole = st.integers(-50, 50).map(float)
codes = arrays(float, (12, 3), elements=whole)
factors = arrays(float, (12, 2), elements=whole).filter(
    lambda y: (np.ptp(y, axis=0) > 0).all()
)


class TestAligned:
    @pytest.mark.parametrize("gap", GAPS)
    def test_gaps(self, gap):
        np.testing.assert_allclose(gap(GRID, GRID, multioutput=ALL), [1, 1])

    @pytest.mark.parametrize("gap", GAPS)
    def test_idle_latents(self, gap):
        Z = np.column_stack([np.zeros(64), GRID[:, 1], np.full(64, 0.1), GRID[:, 0]])
        np.testing.assert_allclose(gap(Z, GRID, multioutput=ALL), [1, 1])

    def test_dci(self):
        Z = np.column_stack([np.zeros(64), GRID[:, ::-1], np.full(64, 0.1)])
        scores = dci_scores(Z, GRID, n_estimators=60, random_state=0)
        assert scores.disentanglement > 0.99
        assert scores.completeness > 0.99
        assert scores.informativeness > 0.99
        expected = [[0, 0], [0, 1], [1, 0], [0, 0]]
        np.testing.assert_allclose(scores.importances, expected, atol=1e-3)

    def test_negative_and_curved(self):
        Z = np.column_stack([-np.exp(GRID[:, 0]), GRID[:, 1] ** 3])
        assert mutual_information_gap(Z, GRID) == pytest.approx(1)
        assert dci(Z, GRID).completeness > 0.99
        line = separated_attribute_predictability(Z, GRID, multioutput=ALL)
        expected = np.corrcoef(np.exp(GRID[:, 0]), GRID[:, 0])[0, 1] ** 2
        assert line[0] == pytest.approx(expected)


class TestMixed:
    def test_correlation_gap_of_any_angle(self):
        for angle in (0.0, 0.2, 0.5, np.pi / 4):
            found = separated_attribute_predictability(
                rotated(angle), GRID, multioutput=ALL
            )
            np.testing.assert_allclose(found, np.cos(2 * angle), atol=1e-12)

    def test_45_degrees(self):
        Z = rotated(np.pi / 4)
        assert mutual_information_gap(Z, GRID) < 0.1
        scores = dci_scores(Z, GRID, n_estimators=60, random_state=0)
        assert scores.disentanglement < 0.05
        assert scores.completeness < 0.05
        # No information is lost.
        assert scores.informativeness > 0.9

    @pytest.mark.parametrize("gap", GAPS)
    def test_duplicated_latents(self, gap):
        Z = np.column_stack([GRID, GRID[:, 0]])
        np.testing.assert_allclose(gap(Z, GRID, multioutput=ALL), [0, 1])

    def test_duplicated_latents_are_not_complete(self):
        scores = dci(np.column_stack([GRID, GRID]), GRID, multioutput=ALL)
        assert (scores.completeness < 0.75).all()
        assert (scores.disentanglement > 0.95).all()

    def test_latents_with_partial_information(self):
        # One of three bits each, or all of them.
        bits = np.arange(8)[:, np.newaxis] // [4, 2, 1] % 2
        gap = mutual_information_gap
        assert gap(bits, np.arange(8)) == pytest.approx(0, abs=1e-12)
        with_all = np.column_stack([bits, np.arange(8)])
        assert gap(with_all, np.arange(8)) == pytest.approx(2 / 3)

    def test_importance_is_the_share_of_the_variance(self):
        scores = dci_scores(
            GRID, GRID @ [[2, 1], [1, 1]], cv=3, multioutput=ALL, random_state=0
        )
        expected = [[0.8, 0.5], [0.2, 0.5]]
        np.testing.assert_allclose(scores.importances, expected, atol=0.06)


class TestDefinition:
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(60, 4))
    y = Z[:, :3] @ rng.normal(size=(3, 3)) + 0.1 * rng.normal(size=(60, 3))

    def test_entropies_of_the_importances(self):
        raw, mean = dci(self.Z, self.y, multioutput=ALL), dci(self.Z, self.y)
        importances = raw.importances
        assert importances.shape == (4, 3)
        np.testing.assert_allclose(importances.sum(axis=0), 1)
        np.testing.assert_array_equal(importances, mean.importances)
        of_latents = 1 - entropy(importances, axis=1, base=3)
        np.testing.assert_allclose(raw.disentanglement, of_latents)
        of_factors = 1 - entropy(importances, axis=0, base=4)
        np.testing.assert_allclose(raw.completeness, of_factors)
        weighted = np.average(of_latents, weights=importances.sum(axis=1))
        assert mean.disentanglement == pytest.approx(weighted)
        assert mean.completeness == pytest.approx(of_factors.mean())
        assert mean.informativeness == pytest.approx(raw.informativeness.mean())

    def test_informativeness_is_held_out(self):
        noise = np.random.default_rng(1).normal(size=60)
        assert dci_scores(self.Z, noise, random_state=0).informativeness < 0.1

    def test_correlations(self):
        squares = np.corrcoef(self.Z.T, self.y.T)[:4, 4:] ** 2
        found = separated_attribute_predictability(self.Z, self.y, multioutput=ALL)
        second, best = np.sort(squares, axis=0)[-2:]
        np.testing.assert_allclose(found, best - second)

    def test_bins_hold_equally_many(self):
        # Two bins of ten distinct values; the second latent has one of them wrong.
        y = np.exp(np.arange(10.0))
        Z = np.column_stack([y, np.arange(10) // 5])
        assert mutual_information_gap(Z, y, n_bins=2) == pytest.approx(0, abs=1e-12)
        Z[4, 1] = 1
        # One of the six in the latent's upper bin is in the factor's lower one.
        expected = 0.6 * entropy([1 / 6, 5 / 6], base=2)
        assert mutual_information_gap(Z, y, n_bins=2) == pytest.approx(expected)

    @pytest.mark.parametrize("n_bins", [3, 10])
    def test_rare_classes_are_not_merged(self, n_bins):
        y = np.repeat([0, 1, 2], [46, 2, 2])
        Z = np.column_stack([y, y == 2])
        expected = 1 - entropy([48, 2]) / entropy([46, 2, 2])
        found = mutual_information_gap(Z, y, n_bins=n_bins)
        assert found == pytest.approx(expected)

    def test_more_trees_predict_better(self):
        few, many = (dci(self.Z, self.y, n_estimators=n) for n in (1, 30))
        assert few.informativeness < 0.3 < 0.6 < many.informativeness

    @pytest.mark.parametrize("gap", GAPS)
    def test_averages(self, gap):
        raw = gap(self.Z, self.y, multioutput=ALL)
        assert isinstance(gap(self.Z, self.y), float)
        assert gap(self.Z, self.y) == pytest.approx(raw.mean())
        weighted = gap(self.Z, self.y, multioutput=[1, 0, 3])
        assert weighted == pytest.approx(np.average(raw, weights=[1, 0, 3]))

    @pytest.mark.parametrize("score", [*GAPS, dci])
    def test_data_frames_and_one_factor(self, score):
        frame = pd.DataFrame(self.Z)
        one = score(frame, pd.Series(self.y[:, 0], name="flux"))
        other = score(self.Z, self.y[:, [0]])
        for found, expected in zip(np.ravel(one), np.ravel(other), strict=True):
            np.testing.assert_equal(found, expected)

    def test_one_factor_has_no_disentanglement(self):
        scores = dci(self.Z, self.y[:, 0])
        assert np.isnan(scores.disentanglement)
        assert 0 < scores.completeness < 1

    def test_random_state_and_jobs(self):
        one = dci(self.Z, self.y, n_jobs=1)
        again = dci(self.Z, self.y, random_state=np.random.RandomState(0))
        other = dci(self.Z, self.y, random_state=1)
        np.testing.assert_array_equal(one.importances, again.importances)
        assert (one.importances != other.importances).any()


class TestIdle:
    @pytest.mark.parametrize("gap", GAPS)
    def test_all_latents_are_constant(self, gap):
        assert gap(np.full((64, 3), 0.1), GRID) == 0

    def test_dci_of_constant_latents(self):
        scores = dci(np.full((64, 3), 0.1), GRID)
        assert scores.disentanglement == 0
        assert scores.completeness == pytest.approx(0, abs=1e-12)
        assert scores.informativeness < 0.1
        np.testing.assert_array_equal(scores.importances, 0)

    def test_small_and_large_units(self):
        Z, y = 1e200 * GRID, 1e-200 * GRID
        for gap in GAPS:
            assert gap(Z, y) == pytest.approx(1)
        assert dci(Z, y).completeness > 0.99


class TestProperties:
    @settings(max_examples=30)
    @given(codes, factors, st.permutations(range(3)))
    def test_order_of_latents(self, Z, y, order):
        for gap in GAPS:
            one, other = (gap(code, y, multioutput=ALL) for code in (Z, Z[:, order]))
            np.testing.assert_allclose(other, one, atol=1e-12)

    @settings(max_examples=30)
    @given(codes, factors, st.integers(-9, 9), st.integers(-99, 99))
    def test_shift_and_scale_of_latents(self, Z, y, power, shift):
        moved = 2.0**power * (Z + shift)
        for gap in GAPS:
            one, other = gap(Z, y, multioutput=ALL), gap(moved, y, multioutput=ALL)
            np.testing.assert_allclose(other, one, atol=1e-12)

    @settings(max_examples=30)
    @given(codes, factors)
    def test_sign_and_increasing_functions(self, Z, y):
        one = separated_attribute_predictability(Z, y, multioutput=ALL)
        other = separated_attribute_predictability(-Z, y, multioutput=ALL)
        np.testing.assert_allclose(other, one, atol=1e-12)
        options = {"n_bins": 4, "multioutput": ALL}
        one = mutual_information_gap(Z, y, **options)
        other = mutual_information_gap(np.sinh(Z / 10), y**3, **options)
        np.testing.assert_array_equal(other, one)

    @settings(max_examples=30)
    @given(codes, factors, st.integers(2, 15))
    def test_bounds(self, Z, y, n_bins):
        for gap in (
            partial(mutual_information_gap, n_bins=n_bins),
            separated_attribute_predictability,
        ):
            perfect = np.column_stack([-y, np.zeros(12)])
            for code in (Z, perfect):
                found = gap(code, y, multioutput=ALL)
                assert ((found >= 0) & (found <= 1)).all()
            assert gap(perfect[:, ::2], y[:, 0]) <= 1

    @settings(max_examples=10)
    @given(
        codes,
        factors,
        st.permutations(range(3)),
        st.integers(-9, 9),
        st.integers(-99, 99),
    )
    def test_dci(self, Z, y, order, power, shift):
        # Latents with the same ranks cannot be distinguished.
        assume(np.unique(rankdata(Z, axis=0), axis=1).shape == Z.shape)
        options = {"n_estimators": 3, "multioutput": ALL}
        one = dci(Z, y, **options)
        other = dci(2.0**power * (Z[:, order] + shift), y, **options)
        np.testing.assert_array_equal(other.importances, one.importances[order])
        np.testing.assert_array_equal(other.informativeness, one.informativeness)
        np.testing.assert_allclose(other.completeness, one.completeness, atol=1e-12)
        found = other.disentanglement
        np.testing.assert_allclose(found, one.disentanglement[order], atol=1e-12)
        for scores in (found, one.completeness):
            assert ((scores >= 0) & (scores <= 1)).all()
        assert (one.informativeness <= 1).all()


@pytest.mark.parametrize("score", [*GAPS, dci])
class TestErrors:
    @pytest.mark.parametrize(
        ("Z", "y", "message"),
        [
            ([1, 2, 3], [1, 2, 3], r"Z must .* two latents, got \(3,\)"),
            ([[1], [2]], [1, 2], r"Z must have the shape .* got \(2, 1\)"),
            (np.ones((2, 2, 2)), [1, 2], r"Z must have the shape .* got \(2, 2, 2\)"),
            (GRID, [1, 2], r"y must .*\(64,\) or \(64, n_factors\).* got \(2,\)"),
            (GRID, np.ones((64, 2, 2)), r"y must .* got \(64, 2, 2\)"),
            (GRID, np.full(64, 0.1), "y must .* got 0.1 everywhere in column 0"),
            (GRID, GRID * [1, 0], "y must .* got 0 everywhere in column 1"),
            (GRID * np.nan, GRID, "Z contains NaN"),
            (GRID, GRID * np.nan, "y contains NaN"),
        ],
    )
    def test_arrays(self, score, Z, y, message):
        with pytest.raises(ValueError, match=message):
            score(Z, y)

    def test_multioutput(self, score):
        with pytest.raises(ValueError, match=r"'multioutput' .* 'sum'"):
            score(GRID, GRID, multioutput="sum")


@pytest.mark.parametrize(
    ("score", "options", "message"),
    [
        (mutual_information_gap, {"n_bins": 1}, "'n_bins' parameter"),
        (mutual_information_gap, {"multioutput": [1]}, "'multioutput' .* 2 weights"),
        (dci_scores, {"n_estimators": 0}, "'n_estimators' parameter"),
        (dci_scores, {"cv": 1}, "'cv' parameter"),
        (dci_scores, {"cv": 65}, "cv must be at most the 64 samples of Z, got 65"),
        (dci_scores, {"multioutput": [1, 1]}, "'multioutput' parameter"),
        (dci_scores, {"random_state": "a"}, "'random_state' parameter"),
        (dci_scores, {"n_jobs": 0.5}, "'n_jobs' parameter"),
    ],
)
def test_bad_options(score, options, message):
    with pytest.raises(ValueError, match=message):
        score(GRID, GRID, **options)


class TestClosure:
    steps = np.array([1.0, 2.0, 4.0])
    asked = np.stack([steps, 10 * steps, 3 * steps])

    def test_perfect(self):
        scores = closure_scores(self.asked, self.asked, other=np.ones((3, 3)))
        assert scores.r2 == scores.usable_share == 1
        assert scores.slope == pytest.approx(1)
        assert scores.change == scores.change_of_median == scores.n_unusable == 0

    def test_power_laws(self):
        slopes = [1.0, -0.5, 0.25]
        measured = 7 * self.asked ** np.reshape(slopes, (3, 1))
        scores = closure_scores(self.asked, measured)
        np.testing.assert_allclose(scores.slopes, slopes)
        np.testing.assert_allclose(scores.slopes, sweep_slopes(self.asked, measured))
        assert scores.slope == pytest.approx(0.25)
        assert scores.r2 == pytest.approx(
            r2_score(self.asked.ravel(), measured.ravel())
        )
        assert scores.change is None
        assert scores.change_of_median is None

    def test_changes(self):
        other = np.array([[1.0, 2.0, 1.5], [2.0, 2.0, 2.0], [4.0, 1.0, 2.0]])
        scores = closure_scores(self.asked, self.asked, other=other)
        # Rows change by 1, 0 and 3; their medians are 2, 2 and 2.
        assert scores.change == 1
        assert scores.change_of_median == 0
        other[1] = [2.0, 2.5, 3.0]
        scores = closure_scores(self.asked, self.asked, other=other)
        assert scores.change == 1
        assert scores.change_of_median == 0

    def test_change_of_median(self):
        other = [[1.0, 2.0, 2.0], [2.0, 2.0, 3.0], [4.0, 1.0, 9.0]]
        scores = closure_scores(self.asked, self.asked, other=other)
        assert scores.change_of_median == 0.5
        assert scores.change == 1

    @pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
    def test_rows_that_are_not_usable(self, bad):
        measured, other = self.asked**2, np.ones((3, 3))
        measured[0] = [bad, 5.0, 6.0]
        other[0] = [1.0, 50.0, 1.0]
        scores = closure_scores(self.asked, measured, other=other)
        np.testing.assert_allclose(scores.slopes, [np.nan, 2, 2])
        assert scores.slope == pytest.approx(2)
        assert scores.change == scores.change_of_median == 0
        assert scores.n_unusable == 1
        assert scores.usable_share == pytest.approx(2 / 3)
        counts = np.isfinite(measured)
        expected = r2_score(self.asked[counts], measured[counts])
        assert scores.r2 == pytest.approx(expected)

    def test_other_makes_a_row_unusable_too(self):
        other = np.ones((3, 3))
        other[2, 1] = np.nan
        scores = closure_scores(self.asked, self.asked, other=other)
        np.testing.assert_array_equal(np.isnan(scores.slopes), [False, False, True])
        assert scores.n_unusable == 1
        assert scores.change == 0

    def test_nothing_is_usable(self):
        nothing = np.full((3, 3), np.nan)
        scores = closure_scores(self.asked, nothing, other=nothing)
        for name in ("r2", "slope", "change", "change_of_median"):
            assert np.isnan(scores[name])
        assert scores.usable_share == 0
        assert scores.n_unusable == 3
        zeros = closure_scores(self.asked, np.zeros((3, 3)))
        assert zeros.r2 < 0
        assert np.isnan(zeros.slope)

    def test_one_sweep_for_all_rows(self):
        measured = self.steps * [[1.0], [2.0]]
        one = closure_scores(self.steps, measured)
        other = closure_scores(np.stack([self.steps] * 2), measured)
        assert one.r2 == other.r2
        np.testing.assert_array_equal(one.slopes, other.slopes)

    @settings(max_examples=30)
    @given(
        arrays(float, (4, 3), elements=st.floats(0.1, 10)),
        arrays(float, (4, 3), elements=st.floats(0.1, 10)),
        st.permutations(range(4)),
        st.floats(0.01, 100),
    )
    def test_order_and_units(self, measured, other, order, unit):
        one = closure_scores(self.steps, measured, other=other)
        again = closure_scores(
            unit * self.steps, unit * measured[order], other=unit * other[order]
        )
        for name in ("r2", "slope", "change", "change_of_median"):
            np.testing.assert_allclose(again[name], one[name], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(again.slopes, one.slopes[order], atol=1e-9)
        assert one.r2 <= 1
        assert one.change >= 0
        assert one.change_of_median >= 0

    @pytest.mark.parametrize(
        ("asked", "measured", "other", "message"),
        [
            (asked, steps, None, r"measured must .*\(n_rows, n_steps\), got \(3,\)"),
            (
                asked[:2],
                asked,
                None,
                r"asked must .*\(3, 3\).* or \(3,\), got \(2, 3\)",
            ),
            (asked[np.newaxis], asked, None, r"asked must .* got \(1, 3, 3\)"),
            (asked, asked, asked[:, :2], r"other must .*\(3, 3\).* got \(3, 2\)"),
            (asked, asked, steps, r"other must .*\(3, 3\).* got \(3,\)"),
            (asked - 1, asked, None, r"asked must be above 0, got 0\."),
            (asked * np.nan, asked, None, "asked contains NaN"),
            ([1, 1, 1], asked, None, "asked must .* got 1 everywhere in row 0"),
            (asked[:, :1], asked[:, :1], None, "asked must have at least two"),
        ],
    )
    def test_errors(self, asked, measured, other, message):
        with pytest.raises(ValueError, match=message):
            closure_scores(asked, measured, other=other)
