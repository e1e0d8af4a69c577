"""Predicted standard deviations: what they are of, and that they are right."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from sklcae import ConditionalAutoencoderRegressor
from tests.blobs import (
    SIDE,
    assert_same_for_any_split,
    make_blobs_of_light,
    quick,
    weights_differ,
)


def uncertain(**kwargs):
    return quick(physical_loss="gaussian_likelihood", **kwargs)


@pytest.fixture(scope="module")
def blobs():
    return make_blobs_of_light(96)


@pytest.fixture(scope="module", params=["paper", "strided", "neural_field"])
def fitted(request, blobs):
    return uncertain(network=request.param).fit(*blobs)


@pytest.fixture(scope="module")
def noisy():
    """Return a model of brightnesses that are known the less the brighter, and tests.

    The tests are images, targets, and what the standard deviations truly are.
    """
    model = uncertain(max_epochs=25, lr=5e-3, lr_schedule="one_cycle")
    return model.fit(*make_noisy_targets(800, 0)[:2]), *make_noisy_targets(400, 1)


def make_noisy_targets(n_samples, random_state):
    X, y = make_blobs_of_light(n_samples, random_state=random_state, side=8)
    std = 0.1 * (y[:, 0] - 60)
    rng = np.random.default_rng(random_state + 100)
    return X, rng.normal(y[:, 0], std), std


def test_deviations_follow_the_noise_of_the_targets(noisy):
    model, X, _, true_std = noisy
    _, y_std = model.predict(X, return_std=True)
    ratio = y_std / true_std
    assert np.median(ratio) == pytest.approx(1, abs=0.2)
    assert np.quantile(ratio, 0.01) > 0.75
    assert np.quantile(ratio, 0.99) < 1.6
    assert np.corrcoef(y_std, true_std)[0, 1] > 0.95


def test_errors_are_as_large_as_predicted(noisy):
    model, X, y, true_std = noisy
    y_pred, y_std = model.predict(X, return_std=True)
    pulls = (y - y_pred) / y_std
    for part in (true_std < 14, true_std >= 14):
        assert pulls[part].std() == pytest.approx(1, abs=0.2)
        assert abs(pulls[part].mean()) < 0.3
    assert np.mean(np.abs(pulls) < 2) > 0.9


def test_predictions_are_those_without_deviations(fitted, blobs):
    y_pred, y_std = fitted.predict(blobs[0], return_std=True)
    np.testing.assert_array_equal(y_pred, fitted.predict(blobs[0]))
    assert (y_std > 0).all()
    assert y_std.dtype == np.float64


@pytest.mark.parametrize("n_targets", [None, 1, 2])
def test_deviations_have_the_shape_of_y(blobs, n_targets):
    X, y = blobs
    y = y[:, 0] if n_targets is None else y[:, :n_targets]
    for part in uncertain().fit(X, y).predict(X[:7], return_std=True):
        assert part.shape == y[:7].shape


def test_deviations_are_in_the_units_of_the_targets(blobs):
    X, y = blobs
    _, y_std = uncertain().fit(X, y).predict(X, return_std=True)
    scale = np.array([100.0, 0.01])
    _, other = uncertain().fit(X, 5 + y * scale).predict(X, return_std=True)
    np.testing.assert_allclose(other, y_std * scale, rtol=1e-3)


def test_names_of_targets_leave_arrays(blobs):
    X, y = blobs
    model = uncertain().fit(X, pd.DataFrame(y, columns=["flux", "width"]))
    assert all(type(part) is np.ndarray for part in model.predict(X, return_std=True))


def test_masked_pixels_and_missing_targets(blobs):
    X, y = blobs
    X, y = X.copy(), y.copy()
    X[::2, :5] = np.nan
    y[:40, 1] = np.nan
    model = uncertain(allow_nan=True).fit(X, y)
    assert np.isfinite(model.predict(X, return_std=True)).all()


def test_physical_loss_has_an_effect(blobs):
    assert weights_differ(quick().fit(*blobs), uncertain().fit(*blobs))
    first, second = (uncertain(alpha=a).fit(*blobs) for a in (1.0, 0.0))
    assert weights_differ(first, second)


# Always the same -----------------------------------------------------------------


def test_deviations_do_not_depend_on_order_and_batches(fitted, blobs):
    def predict(X):
        return np.stack(fitted.predict(X, return_std=True))

    assert_same_for_any_split(predict, blobs[0], [1, 2, 50])


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_deviations_are_the_same_for_any_number_of_threads(fitted, blobs, n_threads):
    X, y = blobs
    before = torch.get_num_threads()
    expected = fitted.predict(X, return_std=True)
    torch.set_num_threads(n_threads)
    try:
        again = clone(fitted).fit(X, y)
        for model in (fitted, again):
            np.testing.assert_array_equal(model.predict(X, return_std=True), expected)
    finally:
        torch.set_num_threads(before)


def test_pickle_and_file_keep_the_deviations(fitted, blobs, tmp_path):
    X, _ = blobs
    fitted.save(tmp_path / "model")
    copies = [
        pickle.loads(pickle.dumps(fitted)),
        ConditionalAutoencoderRegressor.load(tmp_path / "model"),
    ]
    expected = fitted.predict(X, return_std=True)
    for copy in copies:
        np.testing.assert_array_equal(copy.predict(X, return_std=True), expected)


# What is refused -----------------------------------------------------------------


def test_model_without_deviations_says_so(blobs):
    model = quick().fit(*blobs)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"return_std=True needs.*'squared_error'"):
            model.predict(blobs[0], return_std=True)
        # What was fitted decides, not what a fit to come would be.
        model.set_params(physical_loss="gaussian_likelihood")


def test_parameter_that_is_changed_later_takes_no_deviations_away(blobs):
    X, _ = blobs
    model = uncertain().fit(*blobs)
    expected = model.predict(X, return_std=True)
    model.set_params(physical_loss="squared_error")
    for same in (model, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(same.predict(X, return_std=True), expected)


@pytest.mark.parametrize("first", ["squared_error", "gaussian_likelihood"])
@pytest.mark.parametrize("way", ["partial_fit", "warm_start"])
def test_going_on_with_the_other_loss_is_refused(blobs, first, way):
    model = quick(physical_loss=first, warm_start=True, max_epochs=1).fit(*blobs)
    losses = {"squared_error", "gaussian_likelihood"}
    model.set_params(physical_loss=(losses - {first}).pop())
    go_on = model.fit if way == "warm_start" else model.partial_fit
    with pytest.raises(ValueError, match=f"'physical_loss' parameter.*'{first}'"):
        go_on(*blobs)
    go_on = getattr(model.set_params(physical_loss=first), go_on.__name__)
    assert go_on(*blobs).n_iter_ == 2


def test_images_of_another_shape_are_refused(fitted):
    with pytest.raises(ValueError, match="X has 100 features"):
        fitted.predict(np.zeros((3, 100)), return_std=True)
    with pytest.raises(ValueError, match="must have images"):
        fitted.predict(np.zeros((3, SIDE // 2, SIDE * 2)), return_std=True)
