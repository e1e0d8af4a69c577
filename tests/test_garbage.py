"""Images that a network has not learned: flagged or NaN, and never certain."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklcae import ConditionalAutoencoderRegressor
from sklcae._novelty import TrainingRange, image_statistics
from sklcae.datasets import make_galaxies
from sklcae.exceptions import OutsideTrainingWarning
from tests.blobs import make_blobs_of_light, quick

SHAPE = (16, 16)


def galaxies(n_samples, random_state):
    X, y = make_galaxies(n_samples, image_shape=SHAPE, random_state=random_state)
    return X.reshape(-1, *SHAPE), y


@pytest.fixture(scope="module", params=["paper", "neural_field"])
def model(request):
    settings = {"physical_loss": "gaussian_likelihood", "network": request.param}
    stretch = "linear" if request.param == "paper" else "asinh"
    return quick(**settings, stretch=stretch, allow_nan=True).fit(*galaxies(200, 0))


@pytest.fixture(scope="module")
def fresh():
    return galaxies(100, 1)[0]


def with_pixel(value):
    def change(X):
        X = X.copy()
        X[:, 5, 9] = value
        return X

    return change


def with_nan_column(X):
    X = X.copy()
    X[:, :, 5] = np.nan
    return X


GARBAGE = {
    "zeros": np.zeros_like,
    "constant": lambda X: np.full_like(X, 30.0),
    "dark": lambda X: 1e-3 * X,
    "bright": lambda X: 1e3 * X,
    "hot pixel": with_pixel(1e6),
    "saturated pixel": with_pixel(65_535.0),
    "bad pixel": with_pixel(-9999.0),
    "overflowing pixel": with_pixel(1e38),
    "sky": lambda X: X + 1e4,
    "column": with_nan_column,
    "noise alone, too strong": lambda X: np.random.default_rng(0).normal(
        0, 400, X.shape
    ),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_never_certain(model, fresh, name):
    images = GARBAGE[name](fresh)
    with pytest.warns(OutsideTrainingWarning, match="images are outside the range"):
        _, y_std = model.predict(images, return_std=True)
    assert np.isnan(y_std).all()
    assert model.is_outside(images).all()
    trusted = np.percentile(model.score_samples(fresh), 1)
    assert (model.score_samples(images) < trusted).all()
    with pytest.warns(OutsideTrainingWarning):
        lower, upper = model.predict_interval(images)
    assert np.isnan([lower, upper]).all()


def test_fresh_images_are_inside(model, fresh):
    assert model.is_outside(fresh).mean() <= 0.01
    inside = fresh[~model.is_outside(fresh)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for values in model.predict(inside, return_std=True):
            assert np.isfinite(values).all()
    assert not model.is_outside(galaxies(200, 0)[0]).any()


def test_one_bad_row_leaves_the_others_as_they_are(model, fresh):
    good = fresh[~model.is_outside(fresh)]
    images = good.copy()
    images[3] = 1e38
    kept = np.arange(len(good)) != 3
    for method in ("predict", "score_samples", "transform", "reconstruct"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutsideTrainingWarning)
            found = getattr(model, method)(images)
        np.testing.assert_array_equal(found[kept], getattr(model, method)(good)[kept])


@pytest.mark.parametrize("network", ["strided", "neural_field"])
def test_a_bright_pixel_does_not_overflow_a_linear_stretch(network, fresh):
    X, y = galaxies(60, 0)
    model = quick(network=network).fit(X, y)
    images = fresh[:5].copy()
    images[1, 5, 5] = 20 * X.max()
    with pytest.warns(OutsideTrainingWarning, match="1 of 5 .* row 1"):
        assert np.isfinite(model.predict(images)).all()
    scores = model.score_samples(images)
    assert np.isfinite(scores).all()
    assert scores.argmin() == 1
    again = quick(network=network).partial_fit(X, y)
    again.partial_fit(np.r_[X[:20], images], np.r_[y[:20], y[:5]])


def test_masks_like_those_of_training_are_inside():
    X, y = make_blobs_of_light(64)
    images = with_nan_column(X.reshape(-1, 12, 12))
    settings = {"allow_nan": True, "physical_loss": "gaussian_likelihood"}
    assert not quick(**settings).fit(images, y).is_outside(images).any()
    assert quick(**settings).fit(X, y).is_outside(images).all()


def test_wanted_targets_far_away_are_noticed():
    X, y = galaxies(60, 0)
    model = quick().fit(X, y)
    low, high = model.target_range_
    np.testing.assert_array_equal([low, high], [y.min(axis=0), y.max(axis=0)])
    with pytest.warns(OutsideTrainingWarning, match=r"2 of 3 rows of y .*\(0: "):
        model.generate([[-1000.0, 1.0], [1e4, 1.0], [1e6, 1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate([low, high])


def test_parts_and_warm_starts_widen_the_range():
    X, y = make_blobs_of_light(64)
    dark, bright = y[:, 0] < 200, y[:, 0] >= 200
    model = quick().partial_fit(X[dark], y[dark])
    assert model.target_range_[1, 0] < 200
    before = model.is_outside(5 * X).sum()
    model.partial_fit(4 * X[bright], 4 * y[bright])
    assert model.target_range_[0, 0] < 200
    assert model.target_range_[1, 0] > 800
    assert model.is_outside(5 * X).sum() < before
    warm = quick(warm_start=True).fit(X[dark], y[dark]).fit(X[bright], y[bright])
    np.testing.assert_array_equal(warm.target_range_, [y.min(axis=0), y.max(axis=0)])


def test_turned_targets_belong_to_the_range():
    X, y = make_blobs_of_light(64)
    y = np.column_stack([y[:, 0], y[:, 1] - 5])
    names = ["flux", "e1"]
    model = quick(target_names=names, augmentation="dihedral").fit(X, y)
    assert model.target_range_[:, 1] == pytest.approx([y[:, 1].min(), -y[:, 1].min()])


def test_range_is_that_of_a_saved_model(model, fresh, tmp_path):
    model.save(tmp_path / "model")
    loaded = ConditionalAutoencoderRegressor.load(tmp_path / "model")
    images = np.concatenate([fresh, 1e3 * fresh])
    np.testing.assert_array_equal(loaded.is_outside(images), model.is_outside(images))
    np.testing.assert_array_equal(
        loaded.score_samples(images), model.score_samples(images)
    )


# The statistics --------------------------------------------------------------------


@given(scale=st.floats(0.1, 100), offset=st.floats(-100, 100), seed=st.integers(0, 100))
def test_statistics_follow_unit_and_sky(scale, offset, seed):
    images = np.random.default_rng(seed).normal(size=(3, 2, 6, 7))
    before = image_statistics(images, None)
    after = image_statistics(scale * images + offset, None)
    np.testing.assert_allclose(after[:, 0], scale * before[:, 0] + offset, rtol=1e-6)
    np.testing.assert_allclose(after[:, 1:4], before[:, 1:4] + np.log(scale), atol=1e-6)
    assert not after[:, 4].any()


def test_statistics_are_the_documented_ones():
    image = np.zeros((1, 1, 5, 5))
    image[0, 0, 2, 2] = 8.0
    mask = np.ones((1, 1, 5, 5), bool)
    mask[0, 0, 0] = False
    least, contrast, noise, sharpness, masked = image_statistics(image, mask)[0, :, 0]
    assert (least, masked) == (0.0, pytest.approx(0.2))
    assert np.exp([contrast, noise, sharpness]) == pytest.approx([8, 16 / 20, 16])


def test_excess_is_zero_inside_and_grows_outside():
    rng = np.random.default_rng(0)
    statistics = rng.normal(size=(50, 5, 2))
    statistics[:, 4] = 0
    seen = TrainingRange.of_training(
        statistics, np.ones((2, 1, 1)), rng.normal(size=(50, 3)), ("image",)
    )
    assert not seen.excess(statistics).any()
    far, further, lost = (statistics[:1].copy() for _ in range(3))
    far[0, 1, 1], further[0, 1, 1], lost[0, 1, 1] = 10, 20, np.nan
    assert 0 < seen.excess(far)[0] < seen.excess(further)[0] < seen.excess(lost)[0]
    assert seen.union(seen).excess(far) == seen.excess(far)
