"""Cosmic rays: hits are found, and light that has passed the PSF is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from sklcae._cosmic_rays import (
    FARTHEST_BESIDE,
    PSF_ERROR,
    STEPS,
    _excess,
    _ratios,
    find_cosmic_rays,
)
from sklcae._fixed_psf import gaussian_psf
from sklcae._noise import NoiseModel
from tests.profiles import FWHM, NOISE, draw_truth, images_of, with_noise

SHAPE = (48, 56)
PSF = np.asarray(gaussian_psf(FWHM, (1, *SHAPE)))[0, 0]
VARIANCE = np.full(SHAPE, NOISE**2)
COUNTS = np.ones(SHAPE, dtype=bool)
TRUTH = np.array([[20_000.0, 3.0, 2.0, 0.2, 0.1, 28.3, 24.8]])
LIGHT = images_of(TRUTH, SHAPE)[0]
STAMP = with_noise(LIGHT[None])[0]
CORE = np.unravel_index(LIGHT.argmax(), SHAPE)


def find(image, counts=COUNTS, gain=1.0):
    return find_cosmic_rays(image, VARIANCE, counts, PSF, gain)


def track(x, y, angle, length, charge):
    """Return a track without thickness, in the pixels along it."""
    steps = np.arange(0, length, 0.1)
    columns = np.rint(x + steps * np.cos(angle)).astype(int)
    rows = np.rint(y + steps * np.sin(angle)).astype(int)
    hit = np.zeros(SHAPE)
    hit[rows.clip(0, SHAPE[0] - 1), columns.clip(0, SHAPE[1] - 1)] = charge
    return hit


@settings(max_examples=25)
@given(st.integers(1, SHAPE[0] - 2), st.integers(1, SHAPE[1] - 2), st.floats(2.3, 4))
def test_a_single_pixel_is_found_wherever_it_is(row, column, decades):
    image = STAMP.copy()
    image[row, column] += 10**decades
    hit = find(image)
    light = LIGHT[row, column]
    # Bright light allows sharp pixels, and has noise of its own.
    assert hit[row, column] or 10**decades < light + 12 * np.sqrt(NOISE**2 + light)
    # The pixels around it may be noise that looks like its tail.
    around = np.zeros(SHAPE, dtype=bool)
    around[row, column] = True
    assert not (
        hit & ~ndimage.binary_dilation(around, np.ones((3, 3)), FARTHEST_BESIDE + 1)
    ).any()
    assert hit.sum() <= 15


@pytest.mark.parametrize("angle", np.deg2rad([0, 20, 45, 70, 90, 135]))
@pytest.mark.parametrize("length", [2, 5, 12, 20])
def test_tracks_are_found_along_their_length(angle, length):
    charge = track(28, 16, angle, length, 400.0)
    hit = find(STAMP + charge)
    assert hit[charge > 0].mean() > 0.9
    assert (hit & (charge == 0)).sum() <= 0.5 * length + 3


def test_a_track_through_the_galaxy_is_found_and_its_core_is_not():
    charge = track(20, CORE[0] + 3, 0.0, 15, 2_000.0)
    hit = find(STAMP + charge)
    assert hit[charge > 0].all()
    assert not hit[CORE]


def test_faint_tails_beside_a_hit_are_found():
    charge = np.zeros(SHAPE)
    charge[10, 10:13] = 30.0, 3_000.0, 30.0
    assert find(STAMP + charge)[10, 10:13].all()
    # Alone they are not bright enough.
    charge[10, 11] = 0
    alone = [15.0, 0, 15.0] * np.eye(3)[1]
    charge[10, 10:13] = alone
    assert not find(STAMP + charge).any()


@pytest.mark.parametrize("radius", [0.05, 1.0, 4.0])
def test_light_that_has_passed_the_psf_is_not_hit(radius):
    truth = draw_truth(60, shape=SHAPE, flux=(2_000.0, 1e6))
    truth[:, 1] = radius
    truth[::2, 2] = 4.0
    stamps = with_noise(images_of(truth, SHAPE))
    assert not any(find(stamp).any() for stamp in stamps)


def test_light_without_noise_is_never_hit():
    truth = draw_truth(60, shape=SHAPE, flux=(1e5, 1e6))
    truth[:, 1], truth[:, 2] = 0.05, 4.0
    for light in images_of(truth, SHAPE):
        assert not find_cosmic_rays(light, np.ones(SHAPE), COUNTS, PSF).any()


def test_galaxies_at_the_edge_are_not_hit():
    places = [(0.2, 20.0), (30.0, -0.7), (55.9, 47.8), (-1.0, -1.0)]
    for x, y in places:
        truth = np.array([[1e5, 0.5, 2.0, 0, 0, x, y]])
        assert not find(with_noise(images_of(truth, SHAPE))[0]).any()


@pytest.mark.parametrize("gain", [None, 0.5, 4.0])
def test_the_excess_is_over_the_noise_of_a_pixel_and_of_its_neighbours(gain):
    light = np.full(SHAPE, 50.0)
    light[10, 12] += 400.0
    excess = _excess(light, light, NoiseModel(VARIANCE, gain), PSF)
    per_adu = 0 if gain is None else 1 / gain
    here, there = (NOISE**2 + per_adu * value for value in (450.0, 50.0))
    ratio = _ratios(PSF)
    expected = (450 * ratio - 50) / np.sqrt(ratio**2 * here + there / 2)
    assert excess[10, 12] == pytest.approx(expected.max())
    assert np.isnan(excess[0, 0])
    assert np.nanmax(np.delete(excess.ravel(), 10 * SHAPE[1] + 12)) < 0


def test_noise_is_not_hit():
    rng = np.random.default_rng(0)
    stamps = NOISE * rng.normal(size=(60, *SHAPE))
    assert not any(find(stamp).any() for stamp in stamps)


@pytest.mark.parametrize("sky", [-20.0, 300.0])
def test_the_sky_does_not_matter(sky):
    charge = track(28, 16, 0.5, 12, 400.0)
    np.testing.assert_array_equal(find(STAMP + charge + sky), find(STAMP + charge))
    assert not find(STAMP + sky).any()


def test_a_sloping_sky_is_not_hit():
    rows, columns = np.indices(SHAPE)
    slope = 0.5 * (columns - 28) - 0.3 * (rows - 24)
    charge = track(10, 10, 0.5, 12, 400.0)
    assert not find(STAMP + slope).any()
    assert find(STAMP + slope + charge)[charge > 0].mean() > 0.9


@settings(max_examples=8)
@given(st.floats(1e-3, 1e3))
def test_the_unit_of_the_light_does_not_matter(factor):
    image = STAMP + track(28, 16, 0.5, 12, 400.0)
    hit = find_cosmic_rays(
        factor * image, factor**2 * VARIANCE, COUNTS, PSF, 1 / factor
    )
    np.testing.assert_array_equal(hit, find(image))


def test_rows_and_columns_change_places():
    image = STAMP + track(28, 16, 0.5, 12, 400.0)
    hit = find_cosmic_rays(image.T, VARIANCE.T, COUNTS.T, PSF.T, 1.0)
    np.testing.assert_array_equal(hit.T, find(image))


def test_masked_pixels_are_not_used_and_not_hit():
    counts = COUNTS.copy()
    counts[:, CORE[1]] = False
    counts[5, 5] = False
    charge = track(20, 12, 0.0, 5, 500.0)
    image = STAMP + charge
    expected = find(image, counts)
    assert expected[charge > 0].mean() > 0.7
    assert not expected[~counts].any()
    # Pixels beside the dead column through the core are light.
    assert not expected[CORE[0] - 8 : CORE[0] + 8].any()
    for value in (np.nan, np.inf, 1e6, -1e6):
        spoiled = np.where(counts, image, value)
        np.testing.assert_array_equal(find(spoiled, counts), expected)
    np.testing.assert_array_equal(find(np.where(counts, image, np.nan)), expected)
    for value in (0.0, -1.0, np.inf, np.nan):
        variance = np.where(counts, VARIANCE, value)
        hit = find_cosmic_rays(image, variance, COUNTS, PSF, 1.0)
        np.testing.assert_array_equal(hit, expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (5, 5), (5, 40), (64, 64)])
@pytest.mark.parametrize("value", [0.0, -5.0, 1e12, np.nan])
@pytest.mark.parametrize("masked", [False, True])
def test_stamps_without_light_have_no_hits(shape, value, masked):
    counts = np.full(shape, not masked)
    hit = find_cosmic_rays(np.full(shape, value), np.ones(shape), counts, PSF, 1.0)
    assert hit.shape == shape
    assert hit.dtype == bool
    assert not hit.any()


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.5])
def test_ratios_are_those_of_a_gaussian_at_any_place_in_its_pixel(shift):
    sigma = 1.4
    rows, columns = np.indices((15, 15)) - 7
    psf = np.exp(-((rows - shift) ** 2 + (columns + shift) ** 2) / (2 * sigma**2))
    squared = np.array(STEPS) ** 2 @ [1, 1]
    expected = (1 - PSF_ERROR) * np.exp(-squared / (2 * sigma**2))
    np.testing.assert_allclose(_ratios(psf), expected, rtol=1e-12)


@pytest.mark.parametrize("side", [1, 3])
def test_a_psf_smaller_than_the_steps_shows_nothing_there(side):
    psf = np.ones((side, side))
    assert (_ratios(psf)[np.abs(STEPS).max(axis=1) > side // 2] == 0).all()
    assert not find_cosmic_rays(STAMP, VARIANCE, COUNTS, psf * 0, 1.0).any()
