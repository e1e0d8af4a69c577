"""Masked pixels and missing targets."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score

from sklcae._masking import fill_masked
from sklcae._scaling import ImageScaler
from tests.blobs import (
    LEARNING,
    SIDE,
    assert_same_model,
    make_blobs_of_light,
    quick,
    weights_differ,
)


@pytest.fixture(scope="module")
def blobs():
    return make_blobs_of_light(96)


def mask_some(X, share, random_state=0):
    """Return X with a share of its pixels NaN."""
    masked = np.random.default_rng(random_state).random(X.shape) < share
    return np.where(masked, np.float32(np.nan), X), masked


@pytest.mark.parametrize("method", ["fit", "predict", "transform", "reconstruct"])
def test_nan_pixels_are_refused_with_the_way_out(blobs, method):
    X, y = blobs
    model = quick() if method == "fit" else quick(max_epochs=1).fit(X, y)
    call = (lambda X: model.fit(X, y)) if method == "fit" else getattr(model, method)
    with pytest.raises(ValueError, match=r"Input X contains NaN.*allow_nan=True"):
        call(mask_some(X, 0.01)[0])


def test_what_lies_under_the_mask_has_no_part_in_the_fit(blobs):
    X, y = blobs
    X_nan, masked = mask_some(X, 0.05)
    garbage = np.ma.MaskedArray(np.where(masked, 1e6, X), masked)
    settings = {"allow_nan": True, "stretch": "asinh"}
    assert_same_model(
        quick(**settings).fit(garbage, y), quick(**settings).fit(X_nan, y)
    )


def test_allow_nan_changes_nothing_without_nan(blobs):
    X, y = blobs
    assert_same_model(quick(allow_nan=True).fit(X, y), quick().fit(X, y))


def test_filled_pixels_do_not_enter_the_loss(blobs):
    # The network sees the same in both: only the loss can tell that pixels were masked.
    X, y = blobs
    X_nan, _ = mask_some(X, 0.05)
    masked = quick(allow_nan=True).fit(X_nan, y)
    filled, _ = fill_masked(X_nan.reshape(-1, 1, SIDE, SIDE))
    plain = quick().fit(filled.reshape(X.shape), y)
    assert weights_differ(masked, plain)
    first = [m.history_["reconstruction_loss"][0] for m in (masked, plain)]
    assert first[0] != first[1]


def test_masked_pixels_have_no_part_in_the_scaling(blobs):
    X, _ = blobs
    images = X.reshape(-1, 1, SIDE, SIDE)
    bad = images.copy()
    bad[3, 0, 2, 2], bad[5, 0, 1, 1] = 1e9, -1e9
    bad[np.abs(bad) > 1e8] = np.nan
    for stretch in ("linear", "asinh"):
        scalers = [ImageScaler(stretch).fit(i) for i in (images, bad)]
        for name in ("minimum_", "range_", "softening_"):
            first, second = (getattr(scaler, name) for scaler in scalers)
            np.testing.assert_allclose(first, second, rtol=1e-2)


@pytest.mark.filterwarnings("ignore::sklcae.exceptions.OutsideTrainingWarning")
def test_prediction_degrades_gracefully(blobs):
    model = quick(**LEARNING).fit(*make_blobs_of_light(256))
    model.set_params(allow_nan=True)
    X, y = make_blobs_of_light(200, random_state=1)
    column = X.reshape(-1, SIDE, SIDE).copy()
    column[:, :, 4] = np.nan
    scores = [
        r2_score(y, model.predict(images), multioutput="raw_values").min()
        for images in (X, mask_some(X, 0.02)[0], mask_some(X, 0.1)[0], column)
    ]
    assert scores[0] > 0.97
    assert scores[1] > 0.95
    assert min(scores) > 0.85
    assert np.isfinite(model.reconstruct(mask_some(X, 0.1)[0])).all()


@pytest.mark.filterwarnings("ignore::sklcae.exceptions.OutsideTrainingWarning")
def test_prediction_does_not_depend_on_masked_neighbours(blobs):
    X, y = blobs
    model = quick(allow_nan=True).fit(X, y)
    X_nan, _ = mask_some(X, 0.05)
    one = np.concatenate([model.predict(X_nan[i : i + 1]) for i in range(20)])
    np.testing.assert_array_equal(model.predict(X_nan[:20]), one)


@pytest.mark.parametrize("allow_nan", [True, False])
def test_image_without_pixels_is_refused(blobs, allow_nan):
    X, y = blobs
    X = X.copy()
    X[7] = np.nan
    with pytest.raises(ValueError, match="row 7" if allow_nan else "contains NaN"):
        quick(allow_nan=allow_nan).fit(X, y)


def test_channel_without_pixels_is_refused():
    X = np.ones((10, 2, 8, 8))
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match="each channel"):
        quick(allow_nan=True).fit(X, np.arange(10.0))


def test_small_gaps_of_a_plane_are_filled_with_the_plane():
    plane = np.add.outer(np.arange(20.0), 3 * np.arange(20.0))[None, None]
    gap = plane.copy()
    gap[0, 0, 8, 11] = np.nan
    gap[0, 0, 4:9, 3] = np.nan
    filled, mask = fill_masked(gap)
    np.testing.assert_array_equal(mask, ~np.isnan(gap))
    np.testing.assert_array_equal(filled[mask], plane[mask])
    np.testing.assert_allclose(filled, plane, atol=1.0)


def test_large_gaps_and_whole_channels_are_filled_too():
    images = np.ones((2, 2, 64, 64))
    images[0, 0, :, 5:] = np.nan
    images[1, 1] = np.nan
    filled, _ = fill_masked(images)
    np.testing.assert_allclose(filled, 1.0)


def test_images_without_nan_are_not_copied():
    images = np.ones((2, 1, 4, 4))
    filled, mask = fill_masked(images)
    assert filled is images
    assert mask is None


def test_missing_target_leaves_its_image_in(blobs):
    X, y = blobs
    y = y.copy()
    y[40:, 1] = np.nan
    model = quick().fit(X, y)
    assert np.isfinite(model.history_["train_loss"]).all()
    assert np.isfinite(model.predict(X)).all()
    assert model.target_scaler_.mean_[1] == pytest.approx(y[:40, 1].mean())
    assert weights_differ(model, quick().fit(X[:40], y[:40]))


def test_only_known_targets_are_learned(blobs):
    """What stands for a missing target must not matter, a constant least of all."""
    X, y = make_blobs_of_light(256)
    known = np.random.default_rng(0).random(len(y)) < 0.5
    y[~known, 1] = np.nan
    model = quick(**LEARNING).fit(X, y)
    X_test, y_test = make_blobs_of_light(200, random_state=1)
    scores = r2_score(y_test, model.predict(X_test), multioutput="raw_values")
    assert min(scores) > 0.9


@pytest.mark.parametrize("value", [None, pd.NA])
def test_missing_values_of_pandas_are_missing_targets(blobs, value):
    X, y = blobs
    frame = pd.DataFrame(y, columns=["flux", "half_light_radius"]).astype("Float64")
    frame.iloc[:20, 0] = value
    y = y.copy()
    y[:20, 0] = np.nan
    assert_same_model(quick().fit(X, frame), quick().fit(X, y))


def test_target_that_is_never_known_is_named(blobs):
    X, y = blobs
    frame = pd.DataFrame({"flux": y[:, 0], "size": np.nan})
    with pytest.raises(ValueError, match=r"none for the targets \['size'\]"):
        quick().fit(X, frame)


def test_missing_targets_turn_with_the_image(blobs):
    X, _ = blobs
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(6, 1, (96, 3)), columns=["x0", "y0", "flux"])
    frame.iloc[:50, 0] = np.nan
    model = quick(augmentation="dihedral").fit(X, frame)
    assert np.isfinite(model.predict(X)).all()
    # All turned positions enter the scaling; none of them is lost to its partner.
    assert model.target_scaler_.n_samples_seen_.tolist() == [
        8 / 2 * (46 + 96),
        8 / 2 * (46 + 96),
        8 * 96,
    ]
