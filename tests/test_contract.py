"""What scikit-learn promises beyond the checks that it hands out itself.

Some of its checks are defined, and run on its own estimators, but are not among those
that `parametrize_with_checks` yields; and none looks at `inverse_transform`.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.utils import estimator_checks

from sklcae import _scaling
from tests.blobs import make_blobs_of_light
from tests.instances import CHOICES, DEFAULT, INSTANCES, fast

# check_estimators_data_not_an_array is left out: check_regressor_data_not_an_array and
# check_transformer_data_not_an_array, which are yielded, are calls of it.
CHECKS_NOT_YIELDED = [
    "check_dataframe_column_names_consistency",
    "check_get_feature_names_out_error",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_inplace_ensure_writeable",
    "check_param_validation",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
]

# SciPy reads the variable when it is imported, so this takes a process of its own.
ARRAY_API_CHECK = """
from unittest import SkipTest
from sklearn.utils.estimator_checks import check_array_api_input_and_values
from tests.instances import fast
try:
    check_array_api_input_and_values("the estimator", fast(), array_namespace="numpy")
except SkipTest as reason:
    print(reason)
"""


# The checks fit on tables and pass arrays, and the other way round, on purpose.
@pytest.mark.filterwarnings(
    "ignore:X (does not have valid|has) feature names:UserWarning"
)
@pytest.mark.parametrize("name", CHECKS_NOT_YIELDED)
def test_checks_that_scikit_learn_does_not_yield(name):
    check = getattr(estimator_checks, name, None)
    if check is None:
        pytest.skip(f"scikit-learn {sklearn.__version__} has no {name}")
    estimator = fast()
    check(type(estimator).__name__, estimator)


def test_array_api_dispatch_leaves_results_as_they_are():
    run = subprocess.run(
        [sys.executable, "-c", ARRAY_API_CHECK],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    if run.stdout:
        pytest.skip(f"scikit-learn {sklearn.__version__}: {run.stdout.strip()}")


# The types of what comes out -----------------------------------------------------


@pytest.fixture(scope="module")
def blobs():
    return make_blobs_of_light(40, side=8)


@pytest.fixture(scope="module", params=[DEFAULT, *INSTANCES], ids=repr)
def fitted(request, blobs):
    model = clone(request.param).set_params(max_epochs=2, random_state=0)
    return model.fit(*blobs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_latents_are_as_precise_as_the_images_and_predictions_are_float64(
    fitted, blobs, dtype
):
    X = blobs[0].astype(dtype)
    assert fitted.transform(X).dtype == dtype
    assert fitted.predict(X).dtype == np.float64


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(np.float32, np.float32), (np.float64, np.float64), (np.int64, np.float64)],
)
def test_images_come_back_as_precise_as_fit_saw_them(blobs, dtype, expected):
    model = fast().fit(blobs[0].astype(dtype), blobs[1])
    for Z_dtype in (np.float32, np.float64):
        Z = model.transform(blobs[0]).astype(Z_dtype)
        assert model.inverse_transform(Z).dtype == expected


# What weights mean ---------------------------------------------------------------


@pytest.mark.parametrize("loss", sorted(CHOICES["reconstruction_loss"]))
def test_a_whole_weight_is_a_number_of_copies(blobs, loss, monkeypatch):
    """In one batch, where the order of the images is nothing but rounding."""
    # They are those of the images, copies among them, and weights have no part.
    monkeypatch.setattr(_scaling, "noise_level", lambda pixels: 8.0)
    monkeypatch.setattr(_scaling, "sky_level", lambda pixels: 0.0)
    X, y = blobs
    weight = np.arange(len(X)) % 4
    model = fast(reconstruction_loss=loss, batch_size=100)
    weighted = clone(model).fit(X, y, sample_weight=weight)
    copied = clone(model).fit(X.repeat(weight, axis=0), y.repeat(weight, axis=0))
    np.testing.assert_allclose(weighted.predict(X), copied.predict(X), rtol=1e-4)
    unweighted = clone(model).fit(X, y)
    assert not np.allclose(weighted.predict(X), unweighted.predict(X), rtol=1e-2)


# inverse_transform ---------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64,), (8, 8), (1, 8, 8), (4, 4, 4), (16, 2, 2)])
def test_images_come_back_in_the_layout_that_fit_saw(blobs, shape):
    X, y = blobs
    model = fast().fit(X.reshape(-1, *shape), y)
    Z = model.transform(X.reshape(-1, *shape))
    assert Z.shape == (40, 64)
    assert model.inverse_transform(Z).shape == (40, *shape)
    assert model.inverse_transform(Z[:1]).shape == (1, *shape)


def test_reconstruction_is_the_inverse_of_the_transformation(fitted, blobs):
    Z = fitted.transform(blobs[0])
    np.testing.assert_array_equal(
        fitted.reconstruct(blobs[0]), fitted.inverse_transform(Z)
    )


def test_images_of_latents_can_be_encoded_again(fitted, blobs):
    Z = fitted.transform(blobs[0])
    Z_again = fitted.transform(fitted.inverse_transform(Z))
    assert Z_again.shape == Z.shape
    assert np.isfinite(Z_again).all()


def test_images_stay_between_the_extremes_of_the_training_images(fitted, blobs):
    if fitted.network == "sersic":
        pytest.skip("a profile may be brighter than all training images")
    X, _ = blobs
    rounding = 1e-5 * np.ptp(X)
    for size in (1, 1e4):
        Z = np.random.default_rng(0).normal(scale=size, size=(50, 64))
        images = fitted.inverse_transform(Z)
        assert images.min() >= X.min() - rounding
        assert images.max() <= X.max() + rounding


def test_images_are_in_the_unit_of_the_training_images(fitted, blobs):
    """A power of two changes no digit, so all else stays the same."""
    if fitted.network == "sersic":
        pytest.skip("the unit of the images is that of the flux in y")
    X, y = blobs
    other = clone(fitted).set_params(gain=fitted.gain / 1024).fit(1024 * X, y)
    Z = fitted.transform(X)
    np.testing.assert_array_equal(other.transform(1024 * X), Z)
    np.testing.assert_array_equal(
        other.inverse_transform(Z), 1024 * fitted.inverse_transform(Z)
    )


def test_an_image_does_not_depend_on_the_other_latents(fitted, blobs):
    Z = fitted.transform(blobs[0])
    images = fitted.inverse_transform(Z)
    np.testing.assert_array_equal(fitted.inverse_transform(Z[::-1])[::-1], images)
    np.testing.assert_array_equal(fitted.inverse_transform(Z[7:8]), images[7:8])


@pytest.mark.parametrize("make", [np.asarray, np.asfortranarray, np.ndarray.tolist])
def test_latents_may_come_in_any_container(fitted, blobs, make):
    Z = fitted.transform(blobs[0])
    before = Z.copy()
    Z.flags.writeable = False
    np.testing.assert_array_equal(
        fitted.inverse_transform(make(Z)), fitted.inverse_transform(before)
    )
    np.testing.assert_array_equal(Z, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda Z: Z[:, :-1], "Z must have 64 columns.*Got 63 instead"),
        (lambda Z: np.hstack([Z, Z]), "Z must have 64 columns.*Got 128 instead"),
        (lambda Z: np.vstack([Z, np.full(64, np.nan)]), "Input Z contains NaN"),
        (lambda Z: np.vstack([Z, np.full(64, np.inf)]), "Input Z contains infinity"),
        (lambda Z: Z[0], "Expected 2D array, got 1D array"),
        (lambda Z: Z[:0], "Found array with 0 sample"),
        (lambda Z: Z.astype(complex), "Complex data not supported"),
    ],
)
def test_latents_that_are_none_are_refused(fitted, blobs, change, message):
    Z = fitted.transform(blobs[0])
    with pytest.raises(ValueError, match=message):
        fitted.inverse_transform(change(Z))
