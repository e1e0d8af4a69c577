"""The form of X and y: rows, images, and contradicting shapes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sklcae import stack_planes
from sklcae._image_inputs import flatten_images, resolve_image_shape
from sklcae._inputs import check_images, check_training_data
from sklcae.exceptions import ImageShapeError
from tests.blobs import assert_same_model, make_blobs_of_light, quick


@pytest.mark.parametrize("shape", [(4, 6, 5), (4, 2, 6, 5)])
@pytest.mark.parametrize("convert", [np.asarray, np.ndarray.tolist])
def test_stamps_become_rows(shape, convert):
    X = np.arange(np.prod(shape), dtype=float).reshape(shape)
    rows, image_shape = flatten_images(convert(X))
    assert image_shape == shape[1:]
    np.testing.assert_array_equal(rows, X.reshape(4, -1))


def test_rows_stay_as_they_are():
    X = np.zeros((4, 30))
    rows, image_shape = flatten_images(X)
    assert rows is X
    assert image_shape is None


@pytest.mark.parametrize(
    ("shape", "n_pixels", "image_shape", "expected"),
    [
        (None, 4096, None, (1, 64, 64)),
        (None, 10, None, (1, 1, 10)),
        (None, 1, None, (1, 1, 1)),
        (None, 4096, (32, 128), (1, 32, 128)),
        (None, 12, (3, 2, 2), (3, 2, 2)),
        ((5, 7), 35, None, (1, 5, 7)),
        ((2, 5, 7), 70, None, (2, 5, 7)),
        ((5, 7), 35, (5, 7), (1, 5, 7)),
        ((5, 7), 35, (1, 5, 7), (1, 5, 7)),
    ],
)
def test_image_shape_is_found(shape, n_pixels, image_shape, expected):
    assert resolve_image_shape(shape, n_pixels, image_shape) == expected


@pytest.mark.parametrize(
    ("shape", "n_pixels", "image_shape", "message"),
    [
        (None, 4096, (64, 63), r"as many pixels as a row of X, 4096. Got \(64, 63\)"),
        ((5, 7), 35, (7, 5), r"images in X, \(5, 7\). Got \(7, 5\) instead"),
        ((5, 7), 35, (3, 5, 7), r"Got \(3, 5, 7\) instead"),
    ],
)
def test_contradicting_shapes_are_refused(shape, n_pixels, image_shape, message):
    with pytest.raises(ImageShapeError, match=message):
        resolve_image_shape(shape, n_pixels, image_shape)


def make_frames():
    X, y = make_blobs_of_light(20)
    names = [f"pixel{i}" for i in range(X.shape[1])]
    return pd.DataFrame(X, columns=names), pd.DataFrame(y, columns=["flux", "e1"])


def test_checks_do_not_write_to_the_estimator():
    (X, y), model = make_frames(), quick(gamma=1.0, allow_nan=True)
    before = dict(vars(model))
    data = check_training_data(model, X, y, np.arange(20.0), [0, 1] * 10, None)
    assert vars(model) == before
    assert data.images.shape == (20, 1, 12, 12)
    np.testing.assert_array_equal(data.rows, np.arange(1, 20))
    assert data.layout.target_names == ["flux", "e1"]
    assert data.layout.feature_names == list(X.columns)
    fitted = quick(max_epochs=1).fit(X, y)
    before = dict(vars(fitted))
    check_images(fitted, X, fitted.codec_.layout)
    check_training_data(fitted, X, y, None, None, fitted.codec_.layout)
    assert vars(fitted) == before


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"X": np.zeros((20, 3, 3, 3, 3))}, "dim 5"),
        ({"y": np.full((20, 2), np.inf)}, "Input y contains infinity"),
        ({"sample_weight": np.full(20, -1.0)}, "Negative values"),
        ({"groups": np.arange(20)}, "'groups' parameter"),
    ],
)
def test_a_fit_that_is_refused_leaves_nothing_behind(bad, message):
    X, y = make_frames()
    model = quick(gamma=1.0)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.fit(**{"X": X, "y": y, "groups": [0, 1] * 10, **bad})
    assert vars(model) == before


# Input that NumPy would take for something else -------------------------------------


class Quantity(np.ndarray):
    """Stands for a Quantity of astropy, or of its kind."""

    unit = "adu"

    def to_value(self, unit):
        return np.asarray(self)


class Table(dict):
    colnames = ("flux", "e1")


class Image:
    """Stands for a CCDData of astropy."""

    def __init__(self, data):
        self.data, self.mask, self.uncertainty = data, data > 5, None

    def __array__(self, dtype=None, copy=None):
        return self.data


RECORDS = np.zeros(20, dtype=[("flux", float), ("e1", float)])


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("stamps.fits", "X must be an array. Got the name 'stamps.fits': read"),
        (Path("stamps.npy"), "X must be an array. Got the name 'stamps.npy'"),
        (np.ones((20, 144)).view(Quantity), "X must be plain numbers.*Quantity in adu"),
        ([np.ones((12, 12)).view(Quantity)] * 20, "X must be plain numbers"),
        (Table(), "Got a Table with named columns: pass its method to_pandas"),
        (RECORDS, "Got a ndarray with named columns"),
        ([Image(np.ones((12, 12)))] * 20, r"Got a Image: pass numpy.ma.masked_array"),
    ],
)
def test_types_whose_meaning_would_be_lost_are_refused(X, message):
    y = make_blobs_of_light(20)[1]
    fitted = quick(max_epochs=1).fit(*make_blobs_of_light(20))
    for call in (lambda: quick().fit(X, y), lambda: fitted.predict(X)):
        with pytest.raises(TypeError, match=message):
            call()


@pytest.mark.parametrize(
    "y", [RECORDS, Table(), np.ones((20, 2)).view(Quantity), {}, "y"]
)
def test_such_targets_are_refused_too(y):
    X = make_blobs_of_light(20)[0]
    with pytest.raises(TypeError, match=r"^y must be"):
        quick().fit(X, y)
    with pytest.raises(TypeError, match=r"^y must be"):
        quick(max_epochs=1).fit(*make_blobs_of_light(20)).generate(y)


def test_stamps_of_two_sizes_are_refused():
    stamps = [np.zeros((12, 12)), np.zeros((10, 10))]
    fitted = quick(max_epochs=1).fit(*make_blobs_of_light(20))
    message = r"must have elements of one shape.*\(12, 12\) and \(10, 10\)"
    with pytest.raises(ValueError, match=f"X {message}"):
        fitted.predict(stamps)
    with pytest.raises(ValueError, match=f"image {message}"):
        stack_planes(stamps)


def masked_stamps(n_samples=20):
    X, y = make_blobs_of_light(n_samples)
    images = X.reshape(-1, 12, 12).copy()
    images[:, 3, 3] = 1e6
    return np.ma.masked_greater(images, 1e5), y


def test_lists_of_masked_stamps_keep_their_masks():
    stamps, y = masked_stamps()
    whole = quick(allow_nan=True).fit(stamps, y)
    listed = quick(allow_nan=True).fit(list(stamps), y)
    assert_same_model(whole, listed)
    np.testing.assert_array_equal(
        listed.predict(list(stamps[:2])), whole.predict(stamps[:2])
    )
    for bad in (stamps, list(stamps)):
        with pytest.raises(ValueError, match=r"X must not .* set allow_nan=True"):
            quick().fit(bad, y)
    rows = [np.ma.masked_array(row, [True, False]) for row in y]
    with pytest.raises(ValueError, match="y must not have masked entries"):
        quick(allow_nan=True).fit(stamps, rows)


def test_integers_may_be_masked():
    stamps, y = masked_stamps()
    integers = stamps.round().astype(np.int16)
    model = quick(allow_nan=True).fit(integers, y)
    assert_same_model(model, quick(allow_nan=True).fit(stamps.round(), y))


def test_channels_that_come_last_are_noticed():
    X, y = np.random.default_rng(0).normal(size=(20, 16, 14, 3)), np.arange(20.0)
    with pytest.raises(ImageShapeError, match=r"channels first.*moveaxis\(X, -1, 1\)"):
        quick().fit(X, y)
    # The parameter confirms the shape, and few rows or columns are no channels.
    assert quick(max_epochs=1, image_shape=(16, 14, 3)).fit(X, y).n_features_in_ == 672
    assert quick(max_epochs=1).fit(X[:, :3, :2], y).image_shape_ == (3, 2, 3)


def test_long_flat_rows_of_no_square_are_noticed():
    rng, y = np.random.default_rng(0), np.arange(20.0)
    with pytest.warns(UserWarning, match=r"rows of 768 .* for example \(3, 16, 16\)"):
        quick(max_epochs=1).fit(rng.normal(size=(20, 768)), y)
    with pytest.warns(UserWarning, match=r"rows of 120 .* W\); image_shape=\(1"):
        quick(max_epochs=1).fit(rng.normal(size=(20, 120)), y)
    quick(max_epochs=1, image_shape=(1, 120)).fit(rng.normal(size=(20, 120)), y)
    quick(max_epochs=1).fit(rng.normal(size=(20, 99)), y)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((12, 12), r"Got one image of the shape \(12, 12\): pass X\[numpy.newaxis\]"),
        ((1, 12, 12), None),
        ((5, 10, 10), r"of 12 x 12 pixels.*Got images of the shape \(10, 10\)"),
        ((5, 100), r"X has 100 features, but Cond.*144 features.*10 x 10 if they are"),
        ((5, 101), r"images of 12 x 12 pixels \(H x W\). Got images of 101 pixels\."),
    ],
)
def test_stamps_of_another_size_are_described_as_images(shape, message):
    X, y = make_blobs_of_light(20)
    model = quick(max_epochs=1).fit(X, y)
    images = np.resize(X, shape)
    if message is None:
        assert model.predict(images).shape == (1, 2)
        return
    with pytest.raises(ImageShapeError, match=message):
        model.predict(images)


def test_one_image_of_several_channels_is_noticed():
    X = np.random.default_rng(0).normal(size=(20, 2, 6, 5))
    model = quick(max_epochs=1).fit(X, np.arange(20.0))
    with pytest.raises(ImageShapeError, match=r"one image of the shape \(2, 6, 5\)"):
        model.predict(X[0])


@pytest.mark.parametrize("factor", [1e300, 1e-300])
def test_huge_and_tiny_weights_are_those_of_their_ratios(factor):
    X, y = make_blobs_of_light(20)
    weights = np.linspace(0.1, 1, 20)
    expected = quick().fit(X, y, sample_weight=weights)
    model = quick().fit(X, y, sample_weight=factor * weights)
    np.testing.assert_allclose(model.predict(X), expected.predict(X), rtol=1e-4)


# Images without a pixel ---------------------------------------------------------------


@pytest.fixture(scope="module")
def with_empty():
    X, y = make_blobs_of_light(40)
    X[[7, 30]] = np.nan
    return X, y


def test_empty_images_do_not_stop_a_catalogue(with_empty):
    X, y = with_empty
    settings = {"allow_nan": True, "physical_loss": "gaussian_likelihood"}
    full = np.setdiff1d(np.arange(40), [7, 30])
    expected = quick(**settings).fit(X[full], y[full])
    model = quick(handle_empty="nan", **settings)
    with pytest.warns(UserWarning, match="2 of 40 images have no pixel.*row 7"):
        model.fit(X, y)
    assert_same_model(model, expected)
    for method in ("predict", "transform", "reconstruct", "score_samples"):
        with pytest.warns(UserWarning, match="2 of 40 images have no pixel.*row 7"):
            found = getattr(model, method)(X)
        np.testing.assert_array_equal(found[full], getattr(model, method)(X[full]))
        assert np.isnan(found[[7, 30]]).all()
    with pytest.warns(UserWarning, match="no pixel"):
        assert model.is_outside(X).nonzero()[0].tolist() == [7, 30]
    with pytest.warns(UserWarning, match="no pixel"):
        _, y_std = model.predict(X, return_std=True)
    assert np.isnan(y_std).any(axis=1).nonzero()[0].tolist() == [7, 30]


def test_empty_images_are_refused_by_default(with_empty):
    X, y = with_empty
    with pytest.raises(ValueError, match=r"unless handle_empty='nan'. Got 2 .* row 7"):
        quick(allow_nan=True).fit(X, y)
    with (
        pytest.raises(ValueError, match="X must have an image with a pixel"),
        pytest.warns(UserWarning, match="5 of 5"),
    ):
        quick(allow_nan=True, handle_empty="nan").fit(np.full((5, 16), np.nan), y[:5])
