"""Images that are read a few at a time."""

import os
import subprocess
import sys

import numpy as np
import pytest

from sklcae._images import Images, PreparedImages, TrainingImages, float_type
from sklcae._scaling import ImageScaler
from tests.blobs import assert_same_model, make_blobs_of_light, quick

SHAPE = (-1, 1, 12, 12)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (">f4", "float32"),
        ("<f4", "float32"),
        ("f2", "float32"),
        ("u2", "float32"),
        (">i2", "float32"),
        ("?", "float32"),
        (">f8", "float64"),
        ("i4", "float64"),
    ],
)
def test_numbers_are_native_floats_when_they_are_read(kind, expected):
    raw = np.arange(24).reshape(2, 1, 3, 4).astype(kind)
    images = Images(raw)
    block = images[np.array([1, 0])]
    assert images.dtype == block.dtype == expected
    assert block.dtype.isnative
    np.testing.assert_array_equal(block, raw[::-1].astype(float))


def test_floats_of_the_machine_are_not_copied():
    raw = np.zeros((3, 1, 4, 4), np.float32)
    assert np.shares_memory(Images(raw)[:2], raw)
    assert float_type(np.dtype(np.longdouble)) == np.float64


@pytest.mark.parametrize("kind", [">f4", ">f8", "u2", ">i2", "torch"])
@pytest.mark.parametrize("allow_nan", [True, False])
def test_any_numbers_give_the_model_of_native_ones(kind, allow_nan):
    X, y = make_blobs_of_light(40)
    X = X.round() + 50
    other = pytest.importorskip("torch").from_numpy(X) if kind == "torch" else None
    other = X.astype(kind) if other is None else other
    native = X.astype(float_type(other.dtype)) if kind != "torch" else X
    if allow_nan and kind in (">f4", ">f8"):
        native[3, 5:9] = other[3, 5:9] = np.nan
    models = [quick(allow_nan=allow_nan).fit(part, y) for part in (native, other)]
    assert_same_model(*models)
    for method in ("predict", "transform", "reconstruct", "score_samples"):
        expected, found = (
            getattr(model, method)(part)
            for model, part in zip(models, (native, other), strict=True)
        )
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    assert models[1].reconstruct(other).dtype == float_type(native.dtype)


DISPATCH = """
import numpy as np, sklearn, torch
from tests.blobs import assert_same_model, make_blobs_of_light, quick

X, y = make_blobs_of_light(20)
expected = quick().fit(X, y)
sklearn.set_config(array_api_dispatch=True)
model = quick().fit(torch.from_numpy(X), torch.from_numpy(y))
assert_same_model(model, expected)
found = model.predict(torch.from_numpy(X))
np.testing.assert_array_equal(found, expected.predict(X))
"""


def test_tensors_are_allowed_where_scikit_learn_dispatches_to_them():
    environment = os.environ | {"SCIPY_ARRAY_API": "1", "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", DISPATCH], env=environment, check=True)


def test_only_masked_stamps_are_kept_filled():
    X, _ = make_blobs_of_light(70)
    images = X.reshape(SHAPE).copy()
    images[[3, 66], 0, 4] = np.nan
    scaler = ImageScaler().fit(images)
    rows = np.arange(1, 70)
    training = TrainingImages(Images(images), rows, scaler)
    assert sorted(training.filled) == [3, 66]
    prepared = PreparedImages(Images(images), scaler)
    np.testing.assert_array_equal(training[np.arange(69)], prepared[1:])
    np.testing.assert_array_equal(training[[65, 2]], prepared[[66, 3]])


def test_absurd_numbers_do_not_reach_a_network():
    images = np.zeros((2, 1, 4, 4))
    images[1, 0, 1, 1] = 1e200
    scaler = ImageScaler().fit(np.random.default_rng(0).normal(size=(9, 1, 4, 4)))
    scaled = PreparedImages(Images(images), scaler)[:]
    assert np.isfinite(scaled).all()
    with pytest.raises(ValueError, match=r"size of the training set.*1e\+200"):
        TrainingImages(Images(images), np.arange(2), scaler)
