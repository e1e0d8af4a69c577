"""Scores of images: low for what is like none of the training set."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sklcae._images import Images
from sklcae._novelty import MAX_IMAGES, Reference, evenly_spaced, misfits_of
from tests.blobs import SIDE, make_blobs_of_light, quick


@pytest.fixture(scope="module")
def model():
    return quick(max_epochs=30).fit(*make_blobs_of_light(256))


@pytest.fixture(scope="module")
def fresh():
    return make_blobs_of_light(200, random_state=1)[0]


def add_a_spot(X):
    images = X.reshape(-1, SIDE, SIDE)
    return (images + 0.8 * np.roll(images, (4, 3), axis=(1, 2))).reshape(X.shape)


UNLIKE = {
    "noise alone": lambda X: np.random.default_rng(0).normal(0, 2, X.shape),
    "noise as bright": lambda X: np.random.default_rng(0).normal(0, X.std(), X.shape),
    "two spots": add_a_spot,
    "inverted": lambda X: X.max() - X,
    "negative": np.negative,
    "beside the middle": lambda X: np.roll(X, 4 * SIDE + 4, axis=1),
    "half of it": lambda X: np.where(np.arange(SIDE**2) < SIDE**2 // 2, X, 0),
    "a cosmic ray": lambda X: X + 500 * (np.arange(SIDE**2) == 20),
    "much brighter": lambda X: 20 * X,
}


@pytest.mark.parametrize("name", UNLIKE)
def test_images_that_are_like_none_have_low_scores(model, fresh, name):
    trusted = model.score_samples(fresh)
    scores = model.score_samples(UNLIKE[name](fresh))
    assert np.mean(scores < np.percentile(trusted, 1)) > 0.95
    assert np.median(scores) < 2 * np.median(trusted)


def test_fresh_images_score_as_those_of_training(model, fresh):
    train = model.score_samples(make_blobs_of_light(256)[0])
    scores = model.score_samples(fresh)
    assert scores.shape == (200,)
    assert scores.dtype == np.float64
    assert np.median(scores) == pytest.approx(np.median(train), rel=0.25)
    assert np.mean(scores < np.percentile(train, 1)) < 0.1


def test_scores_are_those_of_the_gain_that_fit_saw(fresh):
    model = quick(gain=0.5).fit(*make_blobs_of_light(64))
    expected = model.score_samples(fresh)
    model.set_params(gain=100.0)
    np.testing.assert_array_equal(model.score_samples(fresh), expected)


def test_scores_do_not_depend_on_order_and_batches(model, fresh):
    expected = model.score_samples(fresh)
    np.testing.assert_allclose(model.score_samples(fresh[::-1])[::-1], expected)
    for cuts in ([1], [50, 51, 120], range(1, 200)):
        parts = [model.score_samples(part) for part in np.split(fresh, cuts)]
        np.testing.assert_allclose(np.concatenate(parts), expected)
    # More images than reconstructions are held of at the same time.
    many = model.score_samples(np.tile(fresh, (3, 1)))
    np.testing.assert_allclose(many, np.tile(expected, 3))


def test_images_may_come_in_any_layout(model, fresh):
    expected = model.score_samples(fresh)
    for layout in (fresh.reshape(-1, SIDE, SIDE), fresh.reshape(-1, 1, SIDE, SIDE)):
        np.testing.assert_array_equal(model.score_samples(layout), expected)


def test_loaded_models_score_the_same(model, fresh, tmp_path):
    model.save(tmp_path / "model")
    expected = model.score_samples(fresh)
    for copy in (pickle.loads(pickle.dumps(model)), model.load(tmp_path / "model")):
        np.testing.assert_array_equal(copy.score_samples(fresh), expected)


@pytest.mark.parametrize("n_samples", [1, 2, 9, 10])
def test_few_training_images(n_samples, fresh):
    X, y = make_blobs_of_light(n_samples)
    model = quick().fit(X, y)
    scores = model.score_samples(fresh)
    assert scores.shape == (200,)
    assert np.isfinite(scores).all()
    assert (model.score_samples(X) <= 0).all()


def test_constant_images(fresh):
    model = quick().fit(np.ones((20, SIDE**2)), np.arange(20.0))
    own = model.score_samples(np.ones((2, SIDE**2)))
    scores = model.score_samples(fresh)
    assert np.isfinite(scores).all()
    assert scores.max() < own.min()


def test_masked_pixels_are_left_out(fresh):
    X, y = make_blobs_of_light(256)
    holes = np.random.default_rng(0).random(X.shape) < 0.03
    model = quick(allow_nan=True, max_epochs=15).fit(np.where(holes, np.nan, X), y)
    trusted = model.score_samples(fresh)
    limit = np.percentile(trusted, 1)
    corner = fresh.copy()
    corner[:, 0] = np.nan
    scores = model.score_samples(corner)
    assert np.median(np.abs(scores / trusted - 1)) < 0.1
    assert np.mean(scores < limit) < 0.05
    # A bad pixel is unlike all; masked it is not.
    corner[:, 0] = 1e4
    assert (model.score_samples(corner) < limit).all()
    masked = np.ma.masked_greater(corner, 5e3)
    np.testing.assert_array_equal(model.score_samples(masked), scores)


@pytest.mark.parametrize("unit", [1e-30, 1e-20, 1e20])
@pytest.mark.parametrize("loss", ["binary_cross_entropy", "chi_square"])
def test_unit_of_the_images_does_not_matter(fresh, unit, loss):
    """Where the gain is of that unit; squares of float32 would leave its range."""
    X, y = make_blobs_of_light(96)
    expected = quick(reconstruction_loss=loss).fit(X, y).score_samples(fresh)
    model = quick(reconstruction_loss=loss, gain=1 / unit)
    scores = model.fit(X * np.float32(unit), y).score_samples(fresh * np.float32(unit))
    np.testing.assert_allclose(scores, expected, rtol=0.02)


def test_reference_is_a_thousand_images_at_most():
    rows = np.arange(2 * MAX_IMAGES + 1)
    kept = evenly_spaced(rows)
    assert len(kept) == MAX_IMAGES
    assert set(np.diff(kept)) <= {2, 3}
    np.testing.assert_array_equal(evenly_spaced(rows[:MAX_IMAGES]), rows[:MAX_IMAGES])


def test_reference_is_of_images_that_were_trained_on():
    X, y = make_blobs_of_light(96)
    weights = np.ones(96)
    weights[:40] = 0
    model = quick(early_stopping=True, validation_fraction=0.25)
    model.fit(X, y, sample_weight=weights)
    latents = model.transform(X)
    reference = model.codec_.reference
    same = (reference.latents[:, None] == latents).all(axis=2)
    assert len(same) == 42
    assert (same[:, 40:].sum(axis=1) == 1).all()


def test_scores_are_minus_the_mahalanobis_distance():
    """Of latents and of the logarithms of misfits, hardly shrunk."""
    rng = np.random.default_rng(0)
    mixing = np.array([[1.0, 0.8, 0, 0], [0, 0.5, 0, 0], [0, 0, 2, 1], [0, 0, 0, 0.3]])
    described = rng.normal(size=(20_000, 4)) @ mixing + [5, -1, 0, 2]
    reference = Reference(1, described[:, :2], np.exp(described[:, 2:]))
    new = 2 * rng.normal(size=(50, 4)) @ mixing
    offsets = (new - [5, -1, 0, 2]) @ np.linalg.inv(mixing)
    scores = reference.score(np.zeros(50), new[:, :2], np.exp(new[:, 2:]))
    np.testing.assert_allclose(scores, -np.linalg.norm(offsets, axis=1), rtol=0.05)


def test_misfits_of_noise_are_one_and_what_is_wide_adds_up():
    noise = np.random.default_rng(0).normal(size=(2000, 2, 12, 12))
    wide = np.full((1, 2, 40, 40), 0.5)
    np.testing.assert_allclose(misfits_of(noise).mean(axis=0), [1, 1], rtol=0.02)
    assert misfits_of(wide)[0] == pytest.approx([0.25, 0.25 * 25], rel=0.15)
    noise[:, :, 2:5] = np.nan
    noise[:, 0, :, 7] = np.nan
    np.testing.assert_allclose(misfits_of(noise).mean(axis=0), [1, 1], rtol=0.02)


def test_box_sums_are_those_of_the_pixels_around():
    residuals = np.random.default_rng(0).normal(size=(1, 1, 6, 7))
    residuals[0, 0, 2, 3:] = np.nan
    squares = []
    for row, column in np.argwhere(~np.isnan(residuals[0, 0])):
        box = residuals[
            0, 0, max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3
        ]
        box = box[~np.isnan(box)]
        squares.append(box.sum() ** 2 / box.size)
    assert misfits_of(residuals)[0, 1] == pytest.approx(np.mean(squares))


@pytest.mark.parametrize("stretch", ["linear", "asinh"])
def test_sky_is_no_light(fresh, stretch):
    """It is there in all images, and its noise is that of empty pixels."""
    X, y = make_blobs_of_light(96)
    settings = {"reconstruction_loss": "chi_square", "gain": 0.2, "stretch": stretch}
    first = quick(**settings).fit(X.astype(np.float64), y)
    second = quick(**settings).fit(X.astype(np.float64) + 3000.0, y)
    np.testing.assert_allclose(
        second.history_["train_loss"], first.history_["train_loss"], rtol=1e-3
    )
    np.testing.assert_allclose(
        second.score_samples(fresh + 3000.0), first.score_samples(fresh), rtol=0.02
    )


def test_predicted_variances_have_a_part(fresh):
    X, y = make_blobs_of_light(96)
    model = quick(physical_loss="gaussian_likelihood").fit(X, y)
    reference = model.codec_.reference
    assert reference.variances.shape == (96, 2)
    scores = model.score_samples(fresh)
    y_std = model.predict(X, return_std=True)[1] / model.target_scaler_.scale_
    np.testing.assert_allclose(reference.variances, y_std**2, rtol=1e-5)
    without = replace(model.codec_, predicts_variance=False)
    images = Images(X.reshape(-1, 1, 12, 12))
    model.codec_ = without.with_reference(images, np.arange(96))
    assert not np.allclose(model.score_samples(fresh), scores)


def test_covariance_is_fitted_once(model, fresh, monkeypatch):
    scores = model.score_samples(fresh)
    monkeypatch.setattr("sklcae._novelty.LedoitWolf", None)
    np.testing.assert_array_equal(model.score_samples(fresh), scores)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda X: np.where(X > 100, np.nan, X), "Input X contains NaN"),
        (lambda X: np.where(X > 100, np.inf, X), "Input X contains infinity"),
        (lambda X: X[0], "Expected 2D array, got 1D array"),
        (lambda X: X[:, :100], "X has 100 features"),
        (lambda X: X.reshape(-1, 9, 16), "must have images"),
        (lambda X: np.ma.masked_greater(X, 100), "X must not have masked entries"),
    ],
)
def test_bad_images_are_refused(model, fresh, bad, message):
    with pytest.raises(ValueError, match=message):
        model.score_samples(bad(fresh))


def test_unfitted_model_says_so(fresh):
    with pytest.raises(NotFittedError):
        quick().score_samples(fresh)
