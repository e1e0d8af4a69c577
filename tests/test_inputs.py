"""The form of X and y: rows, images, and what contradicts them."""

import numpy as np
import pytest

from sklcae._inputs import flatten_images, resolve_image_shape
from sklcae.exceptions import ImageShapeError


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
