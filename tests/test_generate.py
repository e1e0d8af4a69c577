"""Images with wanted parameters."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.exceptions import NotFittedError

from sklcae.exceptions import OutsideTrainingWarning
from tests.blobs import SIDE, make_blobs_of_light, quick


@pytest.fixture(scope="module")
def blobs():
    return make_blobs_of_light(96)


@pytest.fixture(scope="module")
def model(blobs):
    return quick(max_epochs=20).fit(*blobs)


@pytest.mark.parametrize("shape", [(144,), (12, 12), (1, 12, 12), (4, 6, 6)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layout_and_type_are_those_of_the_images_that_fit_saw(blobs, shape, dtype):
    X, y = blobs
    model = quick().fit(X.reshape(-1, *shape).astype(dtype), y)
    images = model.generate(y[:5], random_state=0)
    assert images.shape == (5, *shape)
    assert images.dtype == dtype
    assert images.dtype == model.inverse_transform(np.zeros((1, 8))).dtype


def nearest_candidates(model, X, wanted, n_neighbors):
    """Return the images of what may have been drawn, (n_neighbors, n_pixels)."""
    latents = model.transform(X)
    z_phy = (wanted - model.target_scaler_.mean_) / model.target_scaler_.scale_
    distances = np.linalg.norm(latents[:, :2] - z_phy, axis=1)
    candidates = latents[np.argsort(distances)[:n_neighbors]].copy()
    candidates[:, :2] = z_phy
    return model.inverse_transform(candidates)


def test_rest_is_that_of_one_of_the_ten_nearest_training_images(model, blobs):
    wanted = np.array([220.0, 2.0])
    images = model.generate(np.tile(wanted, (200, 1)), random_state=0)
    candidates = nearest_candidates(model, blobs[0], wanted, 10)
    same = (images[:, None] == candidates).all(axis=2)
    assert (same.sum(axis=1) == 1).all()
    # Each of them is drawn, 20 times or so.
    assert (same.sum(axis=0) > 4).all()


def test_few_training_images_are_all_drawn_from(blobs):
    X, y = blobs[0][:3], blobs[1][:3]
    model = quick().fit(X, y)
    images = model.generate(np.tile(y[:1], (60, 1)), random_state=0)
    candidates = nearest_candidates(model, X, y[0], 3)
    same = (images[:, None] == candidates).all(axis=2)
    assert (same.any(axis=1)).all()
    assert (same.any(axis=0)).all()


def test_wanted_brightness_brightens_the_image(model):
    wanted = np.column_stack([np.linspace(120, 280, 50), np.full(50, 2.0)])
    flux = model.generate(wanted, random_state=0).sum(axis=1)
    assert np.corrcoef(flux, wanted[:, 0])[0, 1] > 0.7


def test_random_state_decides_the_choice(model, blobs):
    _, y = blobs
    first = model.generate(y, random_state=3)
    np.testing.assert_array_equal(model.generate(y, random_state=3), first)
    rng = np.random.RandomState(3)
    np.testing.assert_array_equal(model.generate(y, random_state=rng), first)
    assert not np.array_equal(model.generate(y, random_state=rng), first)
    assert not np.array_equal(model.generate(y, random_state=4), first)


def test_global_random_state_is_left_alone(model, blobs):
    before = np.random.get_state()[1].copy()
    model.generate(blobs[1], random_state=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_loaded_models_make_the_same(model, blobs, tmp_path):
    model.save(tmp_path / "model")
    expected = model.generate(blobs[1], random_state=0)
    for copy in (pickle.loads(pickle.dumps(model)), model.load(tmp_path / "model")):
        np.testing.assert_array_equal(copy.generate(blobs[1], random_state=0), expected)


@pytest.mark.parametrize("fit_shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_target_may_come_as_a_row_or_a_column(blobs, fit_shape, shape):
    X, y = blobs
    model = quick().fit(X, y[:, 0].reshape(fit_shape))
    wanted = np.array([150.0, 250.0])
    images = model.generate(wanted.reshape(shape), random_state=0)
    assert images.shape == (2, SIDE**2)
    np.testing.assert_array_equal(images, model.generate(wanted.tolist(), 0))


def test_images_are_within_those_of_training(model, blobs):
    """However far from the training set the wanted parameters are."""
    with pytest.warns(OutsideTrainingWarning, match="2 of 2 rows of y are outside"):
        images = model.generate([[1e9, -1e9], [-1e30, 1e30]], random_state=0)
    assert np.isfinite(images).all()
    assert images.min() >= blobs[0].min() - 1e-2
    assert images.max() <= blobs[0].max() + 1e-2


def test_names_of_columns_are_those_that_fit_saw(blobs):
    X, y = blobs
    frame = pd.DataFrame(y, columns=["flux", "width"])
    model = quick().fit(X, frame)
    expected = model.generate(y, random_state=0)
    np.testing.assert_array_equal(model.generate(frame, random_state=0), expected)
    for wrong in (frame[["width", "flux"]], frame.rename(columns={"flux": "mass"})):
        with pytest.raises(ValueError, match=r"columns of y must be.*\['flux', 'width"):
            model.generate(wrong)
        with pytest.raises(ValueError, match=r"columns of y must be.*\['flux', 'width"):
            model.score(X, wrong)
    # Without names in the fit there is nothing to compare with.
    quick().fit(X, y).generate(frame)


def test_no_galaxy_is_thinner_than_a_line(blobs):
    X, y = blobs
    model = quick().fit(X, pd.DataFrame(y / [400.0, 4.0], columns=["e1", "e2"]))
    model.generate([[0.3, 0.5], [0.7, 0.7]], random_state=0)
    with pytest.raises(ValueError, match=r"ellipticities .*Got 1.13 in row 1\."):
        model.generate([[0.3, 0.5], [0.8, -0.8]])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (np.ones((3, 3)), r"shape \(n_samples, 2\).*Got \(3, 3\) instead"),
        (np.ones((3, 1)), r"shape \(n_samples, 2\).*Got \(3, 1\) instead"),
        (np.ones(2), r"shape \(n_samples, 2\).*Got \(2,\) instead"),
        (np.ones((3, 2, 1)), "Found array with dim 3"),
        (np.ones((0, 2)), "Found array with 0 sample"),
        ([[1.0, np.nan]], "Input y contains NaN"),
        ([[1.0, np.inf]], "Input y contains infinity"),
        ([["bright", "wide"]], "could not convert string to float"),
        (np.ones((3, 2)) * 1j, "Complex data not supported"),
        (np.ma.masked_less([[1.0, 3.0]], 2), "y must not have masked entries"),
    ],
)
def test_bad_targets_are_refused(model, wanted, message):
    with pytest.raises(ValueError, match=message):
        model.generate(wanted)


def test_wanted_targets_that_overflow_are_named(model):
    with pytest.raises(
        ValueError, match=r"y must have values of about the size.*1e\+300"
    ):
        model.generate([[1e300, 1.0]])


def test_global_output_setting_has_no_part(model, blobs):
    expected = model.generate(blobs[1][:3], random_state=0)
    with config_context(transform_output="pandas"):
        images = model.generate(blobs[1][:3], random_state=0)
        assert model.score_samples(images).shape == (3,)
    np.testing.assert_array_equal(images, expected)


def test_bad_random_state_is_refused(model, blobs):
    with pytest.raises(ValueError, match="cannot be used to seed"):
        model.generate(blobs[1], random_state="x")


def test_unfitted_model_says_so(blobs):
    with pytest.raises(NotFittedError):
        quick().generate(blobs[1])
