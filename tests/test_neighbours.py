"""Profile fits of crowded stamps: neighbours, their images, and cosmic rays."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.dummy import DummyRegressor

from sklcae import ProfileFitRegressor
from sklcae._profiles import ONE_BAND, ProfileParameters
from sklcae._sources import starts_at
from tests.profiles import (
    FWHM,
    NAMES,
    NOISE,
    draw_truth,
    images_of,
    to_stamps,
    with_noise,
)

SHAPE = (48, 48)
N = 12


def fitter(**kwargs):
    return ProfileFitRegressor(**{"psf": FWHM, "noise": NOISE, **kwargs})


def scenes(n_neighbours, n=N, random_state=0, flux=(20_000.0, 40_000.0)):
    """Return images with noise, the truth (n, 7), and tables of the neighbours."""
    rng = np.random.default_rng(random_state)
    truth = draw_truth(n, random_state, SHAPE, flux=flux)
    images, tables = images_of(truth, SHAPE), []
    first = rng.uniform(0, 2 * np.pi, n)
    for i in range(n_neighbours):
        other = draw_truth(n, 100 + i, SHAPE)
        other[:, 0] = truth[:, 0] * rng.uniform(0.3, 1.0, n)
        other[:, 1] = rng.uniform(1.0, 2.5, n)
        angle = first + 2 * np.pi * i / n_neighbours
        distance = rng.uniform(11, 16, n)
        other[:, 5] = truth[:, 5] + distance * np.cos(angle)
        other[:, 6] = truth[:, 6] + distance * np.sin(angle)
        images += images_of(other, SHAPE)
        tables.append(pd.DataFrame(other, columns=NAMES).assign(stamp=np.arange(n)))
    return with_noise(images, random_state), truth, pd.concat(tables)


@pytest.fixture(scope="module")
def crowded():
    """Images with two neighbours each, the truth, and the neighbours."""
    return scenes(2)


@pytest.fixture(scope="module")
def model(crowded):
    images, truth, _ = crowded
    return fitter(max_neighbours=4).fit(images, truth)


def deviation(y, y_std, truth):
    return (y - truth) / y_std


def test_neighbours_are_fitted_with_the_galaxy(crowded, model):
    images, truth, _ = crowded
    y, y_std = model.predict(images, return_std=True)
    assert abs(deviation(y, y_std, truth)).max() < 5
    assert abs(y[:, 0] / truth[:, 0] - 1).max() < 0.1
    alone = fitter().fit(images).predict(images)
    assert np.median(alone[:, 0] / truth[:, 0]) > 1.3


def test_errors_hold_the_truth():
    images, truth, _ = scenes(1, 60, random_state=5)
    y, y_std = fitter(max_neighbours=3).fit(images, truth).predict(images, True)
    within = (abs(deviation(y, y_std, truth)) < 1).mean()
    assert 0.6 < within < 0.76


def test_the_table_of_neighbours(crowded, model):
    images, _, table = crowded
    found = pd.DataFrame(model.deblend(images).neighbours)
    assert len(found) == len(table)
    for row in table.itertuples():
        same = found[found["stamp"] == row.stamp]
        distance = np.hypot(same["x0"] - row.x0, same["y0"] - row.y0)
        nearest = same.loc[distance.idxmin()]
        for name in ("flux", "x0", "y0"):
            error = nearest[name] - getattr(row, name)
            assert abs(error) < 5 * nearest[f"{name}_std"]


def test_model_images(crowded, model):
    images, truth, _ = crowded
    scenes = model.deblend(images)
    assert scenes.total.shape == scenes.central.shape == images.shape
    np.testing.assert_allclose(scenes.residual, images - scenes.total, atol=1e-2)
    light = scenes.total.clip(min=0)
    chi_square = (scenes.residual**2 / (NOISE**2 + light)).mean()
    assert 0.95 < chi_square < 1.02
    expected = images_of(truth, SHAPE)
    error = (scenes.central - expected) / np.sqrt(NOISE**2 + expected)
    assert np.sqrt((error**2).mean()) < 0.3


def test_given_neighbours(crowded, model):
    images, _, table = crowded
    given = fitter().fit(images)
    y, y_std = given.predict(images, return_std=True, neighbours=table)
    found, _ = model.predict(images, return_std=True)
    assert abs(deviation(y, y_std, found)).max() < 0.3
    assert (given.fit_report(images, table).n_neighbours == 2).all()
    # The table of the fit is such a table too.
    again = given.predict(images, neighbours=model.deblend(images).neighbours)
    assert abs(deviation(again, y_std, found)).max() < 0.3


def test_stamps_of_different_numbers_of_neighbours(crowded):
    images, _, table = crowded
    some = table[table["stamp"] % 3 != 0]
    some = pd.concat([some[some["stamp"] % 3 == 1], some.drop_duplicates("stamp")])
    some = some.drop_duplicates(["stamp", "x0"])
    model = fitter().fit(images)
    report = model.fit_report(images, some)
    counts = some["stamp"].value_counts().reindex(range(N), fill_value=0)
    np.testing.assert_array_equal(report.n_neighbours, counts)
    # Each stamp has the bits of a fit on its own.
    y = model.predict(images, neighbours=some)
    for row in (0, 1, 2):
        own = some[some["stamp"] == row].assign(stamp=0)
        alone = model.predict(images[row : row + 1], neighbours=own)
        np.testing.assert_array_equal(alone[0], y[row])


def test_same_bits_for_any_split_and_threads(crowded, model):
    images = crowded[0]
    expected = model.predict(images)
    n_threads = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            parts = [model.predict(images[i : i + 5]) for i in range(0, N, 5)]
            np.testing.assert_array_equal(np.concatenate(parts), expected)
    finally:
        torch.set_num_threads(n_threads)


def test_isolated_galaxies_stay_alone():
    truth = draw_truth(30, 3, SHAPE, flux=(1_000.0, 200_000.0))
    images = with_noise(images_of(truth, SHAPE), 3)
    alone = fitter().fit(images, truth)
    crowded = fitter(max_neighbours=5).fit(images, truth)
    report = crowded.fit_report(images)
    assert (report.n_neighbours > 0).sum() <= 1
    same = report.n_neighbours == 0
    y, y_std = alone.predict(images, return_std=True)
    difference = deviation(crowded.predict(images), y_std, y)[same]
    assert abs(difference).max() < 0.1


def test_at_most_so_many_neighbours(crowded):
    images = crowded[0]
    report = fitter(max_neighbours=1).fit(images).fit_report(images)
    assert (report.n_neighbours == 1).all()


def test_the_galaxy_is_the_one_that_the_estimator_means(crowded):
    images, _, table = crowded
    others = table.drop_duplicates("stamp")[NAMES].to_numpy()
    estimator = fitter().fit(images)
    estimator.predict = lambda X: others
    model = fitter(estimator=estimator, prefit=True, max_neighbours=4)
    y, y_std = model.fit(images).predict(images, return_std=True)
    assert abs(deviation(y, y_std, others)).max() < 5


def test_draws_of_crowded_stamps(crowded, model):
    images = crowded[0]
    draws = model.sample(images[:3], 100, random_state=0)
    y, y_std = model.predict(images[:3], return_std=True)
    assert draws.shape == (3, 100, 7)
    assert abs((np.median(draws, axis=1) - y) / y_std).max() < 0.6
    assert ((draws.std(axis=1) / y_std > 0.5) & (draws.std(axis=1) / y_std < 2)).all()


def test_neighbours_outside_of_the_stamp(crowded):
    images, _, table = crowded
    model = fitter().fit(images)
    outside = table.assign(x0=table["x0"].where(table["stamp"] != 0, 80.0))
    report = model.fit_report(images, outside)
    assert report.n_neighbours[0] == 0
    assert (report.n_neighbours[1:] == 2).all()


def test_a_galaxy_among_its_own_neighbours(crowded):
    images, truth, table = crowded
    centred = np.flatnonzero(np.hypot(*(truth[:, 5:] - 24).T) < 0.9)
    galaxies = pd.DataFrame(truth[centred], columns=NAMES).assign(stamp=centred)
    both = pd.concat([table, galaxies])
    message = (
        f"neighbours must not contain the galaxies themselves.* {len(centred)} of {N} "
        rf"stamps .* row {centred[0]} of X"
    )
    model = fitter().fit(images)
    for measure in (model.predict, model.fit_report):
        with pytest.warns(UserWarning, match=message):
            measure(images, neighbours=both)
    # The network predicts the place of a galaxy that is not in the middle.
    far = truth[0, 5:] + [3, 0]
    estimator = DummyRegressor(strategy="constant", constant=[*truth[0, :5], *far])
    model = fitter(estimator=estimator, max_neighbours=2).fit(images, truth)
    with pytest.warns(UserWarning, match=f"1 of {N} stamps .* row 2 of X"):
        model.predict(images, neighbours={"stamp": [2], "x0": far[:1], "y0": far[1:]})


def test_bad_tables_of_neighbours(crowded, model):
    images = crowded[0]
    good = {"stamp": [0, 1], "x0": [3.0, 4.0], "y0": [5.0, 6.0]}
    model.predict(images, neighbours=good)
    for changed in ({"stamp": [0, N]}, {"stamp": [-1, 0]}, {"x0": [np.nan, 1.0]}):
        with pytest.raises(ValueError, match="neighbours must have stamps from 0 to"):
            model.predict(images, neighbours={**good, **changed})
    with pytest.raises(ValueError, match="columns 'stamp', 'x0' and 'y0'"):
        model.predict(images, neighbours={"x0": [1.0], "y0": [1.0]})
    with pytest.raises(ValueError, match="columns 'stamp', 'x0' and 'y0'"):
        model.predict(images, neighbours=[1.0, 2.0])


def test_empty_stamps_among_crowded_ones(crowded):
    images, truth, _ = crowded
    images = images.copy()
    images[1] = np.nan
    images[2, 20:24, 20:30] = np.nan
    model = fitter(max_neighbours=4, allow_nan=True, handle_empty="nan")
    with pytest.warns(UserWarning, match="no pixel"):
        model.fit(images, truth)
    with pytest.warns(UserWarning, match="no pixel"):
        y = model.predict(images)
    assert np.isnan(y[1]).all()
    assert np.isfinite(np.delete(y, 1, axis=0)).all()
    with pytest.warns(UserWarning, match="no pixel"):
        scenes = model.deblend(images)
    assert np.isnan(scenes.total[1]).all()
    assert np.isnan(scenes.residual[2, 20:24, 20:30]).all()


def test_starts_in_bands():
    truth = draw_truth(2, 0, SHAPE)
    stamp = to_stamps(images_of(truth, SHAPE)).take(0)
    stamp = stamp.map(lambda part: np.concatenate([part, 2 * part]))
    profile = ProfileParameters.of_targets(["flux_g", "flux_r"], 2)
    places = truth[:1, 5:] - 0.5
    start = starts_at(places, stamp, profile)
    np.testing.assert_allclose(start[0, 1] - start[0, 0], np.log(2))
    np.testing.assert_allclose(start[0, -2:], places[0])
    one = starts_at(places, to_stamps(images_of(truth, SHAPE)).take(0), ONE_BAND)
    assert abs(one[0, 0] - np.log(truth[0, 0])) < 1


# Cosmic rays --------------------------------------------------------------------------


def test_cosmic_rays_are_masked():
    truth = draw_truth(20, 7, SHAPE, flux=(10_000.0, 40_000.0))
    clean = with_noise(images_of(truth, SHAPE), 7)
    hit = clean.copy()
    rng = np.random.default_rng(0)
    for image in hit:
        row, column = rng.integers(14, 34, 2)
        for step in range(6):
            image[row + step, column + step // 2] += 3_000
    y, y_std = fitter().fit(clean, truth).predict(clean, return_std=True)
    unmasked = fitter().fit(clean, truth).predict(hit)
    masked = fitter(mask_cosmic_rays=True).fit(clean, truth).predict(hit)
    assert np.median(abs(deviation(unmasked, y_std, y)[:, 0])) > 5
    assert np.median(abs(deviation(masked, y_std, y)[:, 0])) < 1
    assert abs(deviation(masked, y_std, truth)).max() < 6


def test_a_wrong_centre_gives_no_phantom():
    """An estimator that predicts the same place for all galaxies."""
    truth = draw_truth(8, 4, SHAPE, flux=(20_000.0, 40_000.0))
    truth[:, 5] = np.linspace(12, 36, 8)
    images = with_noise(images_of(truth, SHAPE), 4)
    model = fitter(estimator=DummyRegressor(), max_neighbours=2).fit(images, truth)
    report = model.fit_report(images)
    assert (report.n_neighbours == 0).all()
    np.testing.assert_allclose(report.flux, truth[:, 0], rtol=0.15)


def test_galaxies_off_the_middle_with_known_neighbours():
    truth = draw_truth(6, 5, SHAPE, flux=(20_000.0, 40_000.0))
    truth[:, 5], truth[:, 6] = 14.0, 15.0
    other = draw_truth(6, 6, SHAPE)
    other[:, 5], other[:, 6] = 30.0, 28.0
    images = with_noise(images_of(truth, SHAPE) + images_of(other, SHAPE), 5)
    table = {"stamp": np.arange(6), "x0": other[:, 5], "y0": other[:, 6]}
    model = fitter().fit(images)
    y, y_std = model.predict(images, return_std=True, neighbours=table)
    assert abs((y - truth) / y_std).max() < 5
    lower, upper = model.predict_interval(images, 0.999999, neighbours=table)
    assert ((lower < truth) & (truth < upper)).mean() > 0.97
    first = {name: column[:1] for name, column in table.items()}
    draws = model.sample(images[:1], 20, random_state=0, neighbours=first)
    assert abs(np.median(draws[0, :, 5]) - 14.0) < 1


def test_tables_with_one_axis_too_many_or_too_few(crowded, model):
    for table in (
        {"stamp": 0, "x0": 25.0, "y0": 12.0},
        {"stamp": [[0]], "x0": [[25.0]], "y0": [[12.0]]},
    ):
        with pytest.raises(ValueError, match="one number for each neighbour"):
            model.predict(crowded[0], neighbours=table)


def test_small_stamps_have_no_cosmic_rays():
    truth = draw_truth(8, 8, (12, 12), flux=(10_000.0, 30_000.0))
    truth[:, 5:] = 6.0
    images = with_noise(images_of(truth, (12, 12)), 8)
    model = fitter(mask_cosmic_rays=True).fit(images)
    assert (model.fit_report(images).n_pixels >= 143).all()
