"""The form of X and y: rows, images, and contradicting shapes."""

import numpy as np
import pandas as pd
import pytest

from sklcae._inputs import (
    check_images,
    check_training_data,
    flatten_images,
    resolve_image_shape,
)
from sklcae.exceptions import ImageShapeError
from tests.blobs import make_blobs_of_light, quick


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
    assert data.images.shape == (19, 1, 12, 12)
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
