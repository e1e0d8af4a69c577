"""The batched fit: parameters, errors, limits and draws of stamps with known truth."""

import numpy as np
import pytest
import torch
from scipy.stats import binom

from sklcae._torch.profile_fit import (
    PART,
    Fits,
    Stamps,
    _rise,
    draw_profiles,
    fit_profiles,
)
from tests.profiles import (
    NOISE,
    ONE_SOURCE,
    SHAPE,
    draw_truth,
    images_of,
    limits_of,
    make_stamps,
    rendered,
    to_stamps,
    with_noise,
)

N_FITTED = 8
SKY = 7


def reader(stamps):
    def read(rows):
        return stamps.take(rows)

    return read


def fit(stamps, start=None, max_steps=30, bounds=None, fit_sky=True):
    if start is None:
        start = np.full((len(stamps.images), N_FITTED), np.nan)
    limits = limits_of(bounds or {}, len(start), fit_sky)
    return fit_profiles(reader(stamps), start, ONE_SOURCE, limits, max_steps)


def errors_of(fits):
    """Return standard deviations (n, 8)."""
    covariance = np.linalg.inv(fits.hessian)
    return np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))


def assert_same_fits(first, second):
    for one, other, name in zip(first, second, Fits._fields, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.fixture(scope="module")
def truth():
    return draw_truth(20, 1)


@pytest.fixture(scope="module")
def clean(truth):
    """Images without noise."""
    return images_of(truth)


@pytest.fixture(scope="module")
def noisy(clean):
    return to_stamps(with_noise(clean, 2))


# Parameters and errors ----------------------------------------------------------------


def test_images_without_noise_give_the_parameters_back(truth, clean):
    fits = fit(to_stamps(clean), max_steps=50)
    assert fits.converged.all()
    assert not fits.at_limit.any()
    assert (fits.n_pixels == clean[0].size).all()
    deviation = (fits.parameters - rendered(truth)) / errors_of(fits)
    assert abs(deviation).max() < 0.02
    # Another step from there ends at the parameters.
    fits = fit(to_stamps(clean), rendered(truth))
    deviation = (fits.parameters - rendered(truth)) / errors_of(fits)
    assert abs(deviation).max() < 1e-3
    assert (fits.chi_square < 1e-4).all()


def test_the_hessian_is_the_fisher_matrix(truth, clean):
    fits = fit(to_stamps(clean), rendered(truth))
    step = 1e-4
    derivatives = np.empty((*clean.shape, N_FITTED))
    for column in range(7):
        ends = []
        for sign in (-1, 1):
            moved = truth.copy()
            if column < 3:
                moved[:, column] *= np.exp(sign * step)
            else:
                moved[:, column] += sign * step
            ends.append(images_of(moved))
        derivatives[..., column] = (ends[1] - ends[0]) / (2 * step)
    derivatives[..., SKY] = 1
    variance = NOISE**2 + clean
    fisher = np.einsum(
        "nhwi,nhwj,nhw->nij", derivatives, derivatives, 1 / variance, optimize=True
    )
    scale = np.sqrt(np.einsum("nii->ni", fisher))
    both = scale[:, :, None] * scale[:, None]
    np.testing.assert_allclose(fits.hessian / both, fisher / both, atol=2e-4)
    expected = np.sqrt(np.einsum("nii->ni", np.linalg.inv(fisher)))
    np.testing.assert_allclose(errors_of(fits), expected, rtol=3e-3)


def test_starts_do_not_matter(truth, noisy):
    from_moments = fit(noisy)
    from_truth = fit(noisy, rendered(truth))
    both = from_moments.converged & from_truth.converged
    assert both.sum() >= 18
    difference = from_moments.parameters - from_truth.parameters
    assert abs(difference / errors_of(from_truth))[both].max() < 0.02
    assert from_truth.n_steps.mean() < from_moments.n_steps.mean() + 1


def test_parts_of_a_start_may_be_missing(truth, noisy):
    start = rendered(truth)
    start[::2, 2:5] = np.nan
    start[1::2, SKY] = np.nan
    expected = fit(noisy, rendered(truth)).parameters
    found = fit(noisy, start).parameters
    assert np.median(abs(found - expected)) < 1e-3


def test_a_start_far_off_or_outside_the_limits(truth, noisy):
    start = rendered(truth)
    start[:, 0] += 1
    start[:, 1], start[:, 2], start[:, 3] = 50, -50, 3
    fits = fit(noisy, start, max_steps=100)
    assert np.isfinite(fits.parameters).all()


def test_chi_square_per_pixel_is_about_one(noisy):
    fits = fit(noisy)
    per_pixel = fits.chi_square / fits.n_pixels
    spread = np.sqrt(2 / fits.n_pixels[0])
    assert (abs(per_pixel - 1) < 5 * spread).all()
    assert abs(per_pixel.mean() - 1) < 4 * spread / np.sqrt(len(per_pixel))


def test_deviations_are_those_of_the_errors(truth):
    images = with_noise(np.tile(images_of(truth), (3, 1, 1)), 5)
    fits = fit(to_stamps(images), np.tile(rendered(truth), (3, 1)))
    deviation = (fits.parameters - np.tile(rendered(truth), (3, 1))) / errors_of(fits)
    # 60 stamps: the spread of a standard deviation is 9 %.
    assert (abs(deviation.std(axis=0) - 1) < 0.35).all()
    assert (abs(deviation.mean(axis=0)) < 0.5).all()


@pytest.mark.slow
def test_coverage_of_68_and_95_percent():
    images, truth = make_stamps(300, 11, flux=(8_000.0, 40_000.0))
    fits = fit(to_stamps(images))
    assert fits.converged.mean() > 0.98
    good = fits.converged & ~fits.at_limit.any(axis=1)
    deviation = abs(fits.parameters - rendered(truth))[good] / errors_of(fits)[good]
    for width, share in ((1, 0.6827), (1.96, 0.95)):
        within = (deviation < width).sum(axis=0)
        low, high = binom.ppf([1e-4, 1 - 1e-4], good.sum(), share)
        assert ((low <= within) & (within <= high)).all(), within / good.sum()


# Noise, masks and sky -----------------------------------------------------------------


def test_masked_pixels_do_not_count(noisy):
    counts = np.ones(noisy.images.shape)
    counts[..., 3:9, 5:20] = 0
    counts[::2, 0, 14, 14] = 0
    masked = noisy._replace(counts=counts)
    expected = fit(masked)
    rng = np.random.default_rng(0)
    for garbage in (np.nan, np.inf, 1e30, -5.0, rng.normal(size=counts.shape)):
        images = np.where(counts, noisy.images, garbage)
        variance = np.where(counts, noisy.variance, garbage)
        found = fit(masked._replace(images=images, variance=variance))
        assert_same_fits(found, expected)
    assert (expected.n_pixels == counts.sum(axis=(1, 2, 3))).all()
    assert (errors_of(expected) > errors_of(fit(noisy))).any()


def test_pixels_with_much_noise_do_not_count_either(truth, noisy):
    half = np.zeros(noisy.images.shape, bool)
    half[..., :12] = True
    images = np.where(half, noisy.images + 1e4, noisy.images)
    mask = fit(noisy._replace(images=images, counts=~half), rendered(truth))
    variance = np.where(half, 1e18, noisy.variance)
    noise = fit(
        noisy._replace(images=images, variance=variance), rendered(truth), max_steps=60
    )
    both = mask.converged & noise.converged
    assert both.sum() > 15
    difference = (noise.parameters - mask.parameters) / errors_of(mask)
    assert abs(difference)[both].max() < 0.02
    np.testing.assert_allclose(errors_of(noise)[both], errors_of(mask)[both], rtol=0.02)


def test_noise_of_the_source_may_be_in_the_variance(truth, clean):
    start = rendered(truth)
    expected = fit(to_stamps(clean), start)
    all_in = to_stamps(
        clean, variance=NOISE**2 + clean, noise_of_light=np.zeros(len(clean))
    )
    found = fit(all_in, start)
    np.testing.assert_allclose(errors_of(found), errors_of(expected), rtol=1e-3)
    without = all_in._replace(variance=to_stamps(clean).variance)
    assert (errors_of(fit(without, start))[:, 0] < errors_of(expected)[:, 0]).all()


def test_brightness_units_do_not_matter(noisy):
    expected = fit(noisy)
    factor = 1e-12
    scaled = noisy._replace(
        images=noisy.images * factor,
        variance=noisy.variance * factor**2,
        noise_of_light=noisy.noise_of_light * factor,
    )
    found = fit(scaled)
    np.testing.assert_allclose(
        found.parameters[:, 0] - np.log(factor), expected.parameters[:, 0], atol=1e-3
    )
    np.testing.assert_allclose(
        found.parameters[:, 1:SKY], expected.parameters[:, 1:SKY], atol=2e-3
    )


@pytest.mark.parametrize("sky", [2.0, -15.0])
def test_a_free_sky_is_found(truth, clean, sky):
    fits = fit(to_stamps(clean + sky))
    errors = errors_of(fits)
    assert fits.converged.all()
    np.testing.assert_allclose(fits.parameters[:, SKY], sky, atol=0.02 * errors.max())
    deviation = (fits.parameters - rendered(truth))[:, :SKY] / errors[:, :SKY]
    assert abs(deviation).max() < 0.02


def test_a_prior_limits_the_sky(truth, clean):
    stamps, start = to_stamps(clean + 2.0), rendered(truth)
    skies, widths = [], []
    for sigma in (True, 0.05, False):
        fits = fit(stamps, start, fit_sky=sigma)
        assert fits.converged.all()
        skies.append(fits.parameters[:, SKY])
        widths.append(fits.hessian[:, SKY, SKY])
    free, limited, none = skies
    np.testing.assert_allclose(free, 2.0, atol=0.01)
    assert ((limited > 0) & (limited < 1)).all()
    assert (none == 0).all()
    # The prior adds its own information.
    np.testing.assert_allclose(widths[1] - widths[0], 0.05**-2, rtol=0.1)


def test_limits_hold_and_are_reported(truth, noisy):
    bounds = {
        "flux": (1.0, 8_000.0),
        "half_light_radius": (3.0, 3.5),
        "sersic_index": (0.9, 1.1),
        "x0": (15.5, 16.5),
        "ellipticity": (0, 0.2),
    }
    fits = fit(noisy, bounds=bounds)
    limits = limits_of(bounds, len(fits.parameters))
    values = fits.parameters
    assert ((values >= limits.low - 1e-12) & (values <= limits.high + 1e-12)).all()
    e = np.hypot(values[:, 3], values[:, 4])
    assert (e <= 0.2 + 1e-12).all()
    for column in (0, 1, 2, 5):
        ends = np.stack([limits.low[0, column], limits.high[0, column]])
        at = np.isclose(values[:, column, None], ends, rtol=0, atol=1e-9).any(axis=1)
        np.testing.assert_array_equal(fits.at_limit[:, column], at)
        assert at.any()
    np.testing.assert_array_equal(fits.at_limit[:, 3], np.isclose(e, 0.2))
    assert not fits.at_limit[:, [6, 7]].any()


def test_fits_converge_at_the_limit_of_the_ellipticity(truth, noisy):
    fits = fit(noisy, bounds={"ellipticity": (0, 0.2)})
    assert fits.converged.all()
    assert (fits.n_steps < 10).all()
    at = fits.at_limit[:, 3]
    assert 5 < at.sum() < 20
    # The position angle is that of the galaxy.
    e, true_e = fits.parameters[at, 3:5], truth[at, 3:5]
    cosine = (e * true_e).sum(axis=1) / np.hypot(*e.T) / np.hypot(*true_e.T)
    assert (cosine > 0.9).all()


def test_limits_far_from_the_truth_are_met(truth, noisy):
    """With a variance held constant in a step, such fits went round in circles."""
    bounds = {"flux": (1.0, 4_000.0), "sersic_index": (0.9, 1.2)}
    assert fit(noisy, bounds=bounds, max_steps=100).converged.mean() > 0.9


def test_faint_galaxies_converge():
    """Steps of Gauss and Newton are too long there, and went back and forth."""
    images, _ = make_stamps(60, 7, flux=(250.0, 500.0))
    assert fit(to_stamps(images), max_steps=60).converged.mean() > 0.93


@pytest.mark.parametrize("noise_of_light", [0.0, 1e-6, 0.3, 20.0])
def test_the_rise_is_the_integral_over_the_score(noise_of_light):
    rng = np.random.default_rng(0)
    data, old, new = rng.normal(size=(3, 500)) * 30 + 60
    old, new = old.clip(10), new.clip(10)
    new[:250] = old[:250] * (1 + 1e-4 * rng.normal(size=250))
    shares = (np.arange(4000) + 0.5)[:, None] / 4000
    between = old + shares * (new - old)
    score = (data - between) / (1 + noise_of_light * between)
    expected = -2 * score.mean(axis=0) * (new - old)
    arrays = [data - old, 1 + noise_of_light * old]
    arrays += [data - new, 1 + noise_of_light * new]
    found = _rise(*(torch.tensor(array) for array in arrays))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    single = _rise(*(torch.tensor(array).float() for array in arrays))
    np.testing.assert_allclose(single, found, rtol=1e-4, atol=2e-3)


def test_few_steps_do_not_suffice(noisy):
    fits = fit(noisy, max_steps=1)
    assert not fits.converged.any()
    assert (fits.n_steps == 1).all()


# The same bits ------------------------------------------------------------------------


@pytest.fixture
def set_threads():
    n_threads = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def many():
    """More stamps than one part, some of them odd."""
    images, _ = make_stamps(PART + 9, 3, flux=(300.0, 20_000.0))
    rng = np.random.default_rng(0)
    images[3], images[7], images[PART] = 0, rng.normal(size=SHAPE), -images[3]
    images[11, ::2], images[12] = 1e30, 1e300
    counts = rng.random(images.shape) > 0.1
    counts[5] = 0
    counts[5, 3, 3:7] = 1
    psf = images_of(np.tile([1.0, 0.05, 1, 0, 0, 16.5, 16.5], (len(images), 1)))
    psf = psf * rng.uniform(0.5, 2, (len(psf), 1, 1))
    psf /= psf.sum(axis=(1, 2), keepdims=True)
    return to_stamps(images, counts=counts, psf=psf)


def test_bits_do_not_depend_on_other_stamps(many, set_threads):
    set_threads(1)
    expected = fit(many, max_steps=12)
    n = len(many.images)
    order = np.random.default_rng(0).permutation(n)
    shuffled = fit(many.take(order), max_steps=12)
    assert_same_fits(shuffled, Fits(*(part[order] for part in expected)))
    parts = [fit(many.take(slice(i, i + 7)), max_steps=12) for i in range(0, n, 7)]
    joined = Fits(*map(np.concatenate, zip(*parts, strict=True)))
    assert_same_fits(joined, expected)
    for row in (0, 3, 11, n - 1):
        single = fit(many.take(slice(row, row + 1)), max_steps=12)
        assert_same_fits(single, Fits(*(part[[row]] for part in expected)))


def test_bits_do_not_depend_on_threads(many, set_threads):
    set_threads(1)
    expected = fit(many, max_steps=6)
    set_threads(2)
    assert_same_fits(fit(many, max_steps=6), expected)


def test_odd_stamps_do_not_hurt(many):
    fits = fit(many, max_steps=12)
    assert not fits.converged[[11, 12]].any()
    assert fits.constant[[3, 12]].all()
    assert fits.n_pixels[5] == 4


def test_no_stamp_at_all(noisy):
    fits = fit(noisy.take(slice(0, 0)))
    assert [len(part) for part in fits] == [0] * len(Fits._fields)


def test_stamps_apply_functions():
    stamps = Stamps(*np.arange(5.0)).map(lambda value: value + 1)
    assert stamps == Stamps(*np.arange(1.0, 6.0))


# Draws --------------------------------------------------------------------------------


def draw(stamps, fits, n_draws, seeds, bounds=None):
    covariance = np.linalg.inv(fits.hessian)
    limits = limits_of(bounds or {}, len(covariance))
    return draw_profiles(
        reader(stamps), fits.parameters, covariance, ONE_SOURCE, limits, n_draws, seeds
    )


@pytest.fixture(scope="module")
def bright():
    images, _ = make_stamps(4, 4, flux=(4e5, 8e5))
    stamps = to_stamps(images)
    return stamps, fit(stamps, max_steps=60)


def test_draws_of_bright_galaxies_are_those_of_the_errors(bright):
    stamps, fits = bright
    draws, effective = draw(stamps, fits, 700, np.arange(4))
    assert draws.shape == (4, 700, N_FITTED)
    assert (effective > 500).all()
    errors = errors_of(fits)
    deviation = (draws.mean(axis=1) - fits.parameters) / errors
    assert abs(deviation).max() < 0.3
    np.testing.assert_allclose(draws.std(axis=1), errors, rtol=0.2)
    correlation = np.corrcoef(draws[0].T)
    covariance = np.linalg.inv(fits.hessian[0])
    expected = covariance / np.outer(errors[0], errors[0])
    np.testing.assert_allclose(correlation, expected, atol=0.15)


def test_draws_depend_on_the_seed_of_the_stamp_alone(bright):
    stamps, fits = bright
    draws, _ = draw(stamps, fits, 20, [1, 2, 3, 4])
    again, _ = draw(stamps, fits, 20, [9, 2, 9, 4])
    np.testing.assert_array_equal(again[[1, 3]], draws[[1, 3]])
    assert (again[[0, 2]] != draws[[0, 2]]).any()
    rows = [2, 0]
    some = Fits(*(part[rows] for part in fits))
    others, _ = draw(stamps.take(rows), some, 20, [3, 1])
    np.testing.assert_array_equal(others, draws[rows])


def test_draws_are_within_the_limits(bright):
    stamps, _ = bright
    bounds = {"sersic_index": (0.5, 2.0), "ellipticity": (0, 0.3)}
    fits = fit(stamps, bounds=bounds, fit_sky=False)
    limits = limits_of(bounds, 4, fit_sky=False)
    covariance = np.zeros_like(fits.hessian)
    covariance[:, :SKY, :SKY] = np.linalg.inv(fits.hessian[:, :SKY, :SKY])
    draws, effective = draw_profiles(
        reader(stamps),
        fits.parameters,
        covariance,
        ONE_SOURCE,
        limits,
        200,
        np.arange(4),
    )
    used = effective > 0
    assert used.any()
    assert ((draws >= limits.low[0]) & (draws <= limits.high[0]))[used].all()
    assert (np.hypot(draws[..., 3], draws[..., 4]) <= 0.3 + 1e-9)[used].all()
    assert (draws[used][..., SKY] == 0).all()


def test_no_proposal_within_the_limits(bright):
    stamps, fits = bright
    narrow = (16.0, 16.0 + 1e-9)
    draws, effective = draw(stamps, fits, 5, np.arange(4), {"x0": narrow, "y0": narrow})
    assert np.isnan(draws).all()
    assert (effective == 0).all()


def test_faint_galaxies_have_wider_draws_than_errors():
    images, truth = make_stamps(6, 6, flux=(400.0, 600.0))
    stamps = to_stamps(images)
    fits = fit(stamps, rendered(truth), max_steps=100)
    good = np.flatnonzero(fits.converged & ~fits.at_limit.any(axis=1))
    assert len(good)
    some = Fits(*(part[good] for part in fits))
    draws, _ = draw(stamps.take(good), some, 500, np.arange(len(good)))
    skew = ((draws - draws.mean(axis=1, keepdims=True)) ** 3).mean(axis=1)
    assert np.isfinite(draws).all()
    assert (abs(skew / draws.std(axis=1) ** 3)[:, 1] > 0.1).any()
