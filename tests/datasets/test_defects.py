"""Defects of images against their analytic mean, variance, correlation and geometry."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sklcae.datasets import _defects
from sklcae.datasets._defects import (
    correlate_noise,
    draw_cosmic_rays,
    draw_gradient,
    kill_columns,
    noise_autocorrelation,
    saturate,
    sky_plane,
)

SHAPE = (24, 32)


def generator(seed=0):
    return np.random.default_rng(seed)


# Correlated noise --------------------------------------------------------------------


def many_stamps(noise_correlation, deviation, n=4000, shape=SHAPE):
    random = generator(1)
    stamps = [deviation * random.normal(size=shape) for _ in range(n)]
    variance = np.broadcast_to(np.square(deviation), shape).astype(float)
    return np.stack([correlate_noise(s, noise_correlation, variance) for s in stamps])


@pytest.mark.parametrize("noise_correlation", [0.6, 1.3])
def test_every_pixel_keeps_its_variance_also_at_the_edge(noise_correlation):
    rows, columns = np.indices(SHAPE)
    deviation = 1 + 20 * np.exp(-((rows - 12) ** 2 + (columns - 10) ** 2) / 30)
    noise = many_stamps(noise_correlation, deviation)
    ratio = noise.var(axis=0) / deviation**2
    # Six standard errors of a variance from 4000 values.
    assert abs(ratio - 1).max() < 6 * np.sqrt(2 / 4000)


@pytest.mark.parametrize("noise_correlation", [0.6, 1.3])
def test_the_autocorrelation_is_the_one_measured(noise_correlation):
    noise = many_stamps(noise_correlation, 3.0, n=2000, shape=(40, 40))
    middle = noise[:, 18, 20]
    expected = noise_autocorrelation(noise_correlation)
    m = len(expected) // 2
    for dy, dx in [(0, 1), (1, 0), (1, -1), (0, 2), (3, 2)]:
        measured = np.corrcoef(middle, noise[:, 18 + dy, 20 + dx])[0, 1]
        assert measured == pytest.approx(
            expected[m + dy, m + dx], abs=5 / np.sqrt(2000)
        )


@pytest.mark.parametrize("noise_correlation", [1.0, 1.7, 2.5])
def test_the_autocorrelation_is_nearly_a_gaussian(noise_correlation):
    autocorrelation = noise_autocorrelation(noise_correlation)
    m = len(autocorrelation) // 2
    assert autocorrelation.shape == (2 * m + 1, 2 * m + 1)
    assert autocorrelation[m, m] == 1
    squared = sum(np.square(np.indices(autocorrelation.shape) - m))
    gaussian = np.exp(-squared / (4 * noise_correlation**2))
    np.testing.assert_allclose(autocorrelation, gaussian, atol=1e-3)


def test_the_autocorrelation_is_that_of_a_point():
    noise_correlation = 1.1
    point = np.zeros((41, 41))
    point[20, 20] = 1.0
    kernel = correlate_noise(point, noise_correlation)
    expected = noise_autocorrelation(noise_correlation)
    m = len(expected) // 2
    for dy, dx in [(0, 0), (0, 1), (2, -1), (m, 0)]:
        product = (kernel * np.roll(kernel, (dy, dx), axis=(0, 1))).sum()
        assert product == pytest.approx(expected[m + dy, m + dx], abs=1e-12)


def test_without_correlation_nothing_changes():
    noise = generator().normal(size=SHAPE)
    same = correlate_noise(noise, 0.0)
    np.testing.assert_array_equal(same, noise)
    assert same is not noise
    np.testing.assert_array_equal(noise_autocorrelation(0.0), [[1.0]])


def test_pixels_without_variance_stay_without_noise():
    noise, variance = generator().normal(size=SHAPE), np.ones(SHAPE)
    noise[:, :20] = variance[:, :20] = 0.0
    correlated = correlate_noise(noise, 1.0, variance)
    assert not correlated[:, :20].any()
    assert correlated[:, 20:].all()
    assert not correlate_noise(0 * noise, 1.0, 0 * variance).any()


def test_a_kernel_larger_than_the_stamp_keeps_the_variance():
    noise = many_stamps(50.0, 1.0, n=4000, shape=(5, 6))
    assert noise.var(axis=0) == pytest.approx(1.0, abs=6 * np.sqrt(2 / 4000))


# Sky left over -----------------------------------------------------------------------


@given(
    offset=st.floats(-100, 100),
    gradient=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_the_sky_is_a_plane_with_this_mean_and_gradient(offset, gradient, shape):
    sky = sky_plane(shape, offset, *gradient)
    assert sky.shape == shape
    np.testing.assert_allclose(sky.mean(), offset, atol=1e-11)
    np.testing.assert_allclose(np.diff(sky, axis=1), gradient[0], atol=1e-12)
    np.testing.assert_allclose(np.diff(sky, axis=0), gradient[1], atol=1e-12)


def test_the_gradient_is_0_in_the_middle():
    assert sky_plane((5, 7), 2.0, 0.3, -0.4)[2, 3] == 2.0


def test_gradients_have_their_length_and_any_direction():
    random = generator()
    gradients = np.array([draw_gradient(0.25, random) for _ in range(2000)])
    np.testing.assert_allclose(np.hypot(*gradients.T), 0.25)
    angles = np.arctan2(gradients[:, 1], gradients[:, 0])
    assert stats.kstest(angles, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3


# Cosmic rays -------------------------------------------------------------------------


def test_the_number_of_tracks_is_poisson_distributed(monkeypatch):
    hits = []
    monkeypatch.setattr(_defects, "_add_track", lambda *track: hits.append(track))
    counts = []
    random = generator()
    for _ in range(3000):
        hits.clear()
        draw_cosmic_rays(SHAPE, 1.7, random)
        counts.append(len(hits))
    assert np.mean(counts) == pytest.approx(1.7, abs=5 * np.sqrt(1.7 / 3000))
    assert np.var(counts) == pytest.approx(1.7, rel=0.15)


@given(
    start=st.tuples(st.floats(-20, 50), st.floats(-20, 50)),
    vector=st.tuples(st.floats(-60, 60), st.floats(-60, 60)),
)
@settings(deadline=None)
def test_a_track_shares_its_charge_by_length(start, vector):
    electrons = np.zeros(SHAPE)
    _defects._add_track(electrons, np.array(start), np.array(vector), 1000.0)
    # Points on the track, much denser than the pixels.
    n = 20_000
    points = np.array(start) + (np.arange(n) + 0.5)[:, np.newaxis] / n * vector
    edges = [np.arange(side + 1) for side in SHAPE]
    counts = np.histogram2d(*points.T, bins=edges)[0]
    # Each pixel has two ends, each with at most a point too many.
    np.testing.assert_allclose(electrons, 1000.0 * counts / n, atol=3000.0 / n)


def test_a_perpendicular_track_is_one_pixel():
    electrons = np.zeros(SHAPE)
    _defects._add_track(electrons, np.array([3.5, 7.2]), np.zeros(2), 3200.0)
    assert electrons[3, 7] == 3200.0
    assert electrons.sum() == 3200.0


def test_lengths_charges_and_places_of_tracks():
    random = generator()
    tracks = [_defects._draw_track(SHAPE, random) for _ in range(20_000)]
    starts, vectors, charges = map(np.array, zip(*tracks, strict=True))
    lengths = np.hypot(*vectors.T)
    cosines = 1 / np.sqrt(1 + (lengths * 13.5 / 40) ** 2)
    # The fourth power of the cosine is uniform: 1.9 and 4.4 pixels in the docstring.
    assert stats.kstest(cosines**4, "uniform").pvalue > 1e-3
    assert np.median(lengths) == pytest.approx(1.9, abs=0.05)
    assert np.quantile(lengths, 0.9) == pytest.approx(4.4, abs=0.15)
    loss = charges / (80 * 40 / cosines)
    assert stats.kstest((loss - 1) / 0.1, "moyal").pvalue > 1e-3
    middles = starts + vectors / 2
    for axis, side in enumerate(SHAPE):
        assert stats.kstest(middles[:, axis] / side, "uniform").pvalue > 1e-3
    angles = np.arctan2(*vectors.T)
    assert stats.kstest(angles, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3


def test_the_mask_is_where_charge_is():
    electrons, mask = draw_cosmic_rays(SHAPE, 5.0, generator(3))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, electrons > 0)
    assert 5 < mask.sum() < 100
    assert np.isfinite(electrons).all()


def test_no_cosmic_rays():
    electrons, mask = draw_cosmic_rays(SHAPE, 0.0, generator())
    assert electrons.shape == SHAPE
    assert not electrons.any()
    assert not mask.any()


def test_a_pixel_as_stamp_can_be_hit():
    electrons, _ = draw_cosmic_rays((1, 1), 20.0, generator())
    assert electrons[0, 0] > 0


# Saturation and dead columns ---------------------------------------------------------


def test_saturated_pixels_are_clipped_and_masked():
    stamp = np.array([[1.0, 5.0], [9.0, np.nan]])
    clipped, mask = saturate(stamp, 5.0)
    np.testing.assert_array_equal(clipped, [[1.0, 5.0], [5.0, np.nan]])
    np.testing.assert_array_equal(mask, [[False, False], [True, False]])
    assert stamp[1, 0] == 9.0


def test_dead_columns_are_whole_and_as_many_as_wanted():
    random, stamp = generator(), np.ones(SHAPE)
    dead = [np.isnan(kill_columns(stamp, 0.8, random)) for _ in range(3000)]
    whole = [d.all(axis=0) for d in dead]
    assert all((d.any(axis=0) == w).all() for d, w in zip(dead, whole, strict=True))
    counts = np.sum(whole, axis=1)
    assert counts.mean() == pytest.approx(0.8, abs=5 * np.sqrt(0.8 / 3000))
    per_column = np.sum(whole, axis=0)
    assert stats.chisquare(per_column).pvalue > 1e-3
    assert np.isfinite(stamp).all()


def test_more_dead_columns_than_columns():
    assert np.isnan(kill_columns(np.ones((3, 4)), 1000.0, generator())).all()


# All ---------------------------------------------------------------------------------


def everything(seed):
    random = generator(seed)
    electrons, mask = draw_cosmic_rays(SHAPE, 3.0, random)
    sky = sky_plane(SHAPE, 1.0, *draw_gradient(0.1, random))
    return kill_columns(electrons + sky, 1.0, random), mask


def test_the_generator_determines_all():
    for one, again in zip(everything(5), everything(5), strict=True):
        np.testing.assert_array_equal(one, again)
    assert (everything(5)[0] != everything(6)[0]).any()


def test_a_new_process_loads_neither_scikit_learn_nor_scipy_stats():
    code = (
        "import sys; import sklcae.datasets._defects;"
        "print([m for m in ('sklearn', 'scipy.stats') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
