"""No second copy of the images: NumPy's memory as tracemalloc counts it."""

import tracemalloc

import numpy as np
import pytest
import torch

from sklcae import ConditionalAutoencoderRegressor
from tests.blobs import make_blobs_of_light


@pytest.fixture(scope="module")
def many():
    X, y = make_blobs_of_light(64)
    # What is imported late is not to be counted.
    quick().fit(X, y)
    return np.tile(X, (32, 4)), np.tile(y, (32, 1))


def numpy_peak(function):
    """Return the most bytes that were allocated at once during a call."""
    tracemalloc.start()
    try:
        result = function()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def one_thread():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def quick(**parameters):
    return ConditionalAutoencoderRegressor(
        max_epochs=1, latent_dim=4, random_state=0, **parameters
    )


@pytest.mark.parametrize(
    "parameters",
    [{}, {"stretch": "asinh", "augmentation": "dihedral", "early_stopping": True}],
)
def test_fit_holds_no_second_copy_of_the_images(many, parameters, monkeypatch):
    X, y = many
    monkeypatch.setattr("sklcae._scaling.SAMPLE_PIXELS", X.size // 16)
    if parameters:
        parameters["invariant_targets"] = "all"
    _, peak = numpy_peak(lambda: quick(**parameters).fit(X, y))
    assert peak < 0.5 * X.nbytes


@pytest.mark.parametrize(
    ("method", "row"),
    [("predict", 2 * 8), ("transform", 4 * 4), ("score_samples", 10 * 8)],
)
def test_inference_needs_as_much_for_many_as_for_few(many, method, row, one_thread):
    X, y = many
    apply = getattr(quick().fit(X[:64], y[:64]), method)
    # The least of a few, on one thread: on several more batches are underway at times.
    few, most = (
        min(numpy_peak(lambda X=X[:n]: apply(X))[1] for _ in range(3))
        for n in (512, len(X))
    )
    # Twice the output: predict turns float32 into float64.
    assert most - few < 2 * row * len(X) + 0.02 * X.nbytes


def test_turned_predictions_hold_no_turned_images(many):
    X, y = many
    settings = {"augmentation": "dihedral", "invariant_targets": "all"}
    model = quick(**settings, test_time_augmentation=True).fit(X[:64], y[:64])
    few, most = (numpy_peak(lambda X=X[:n]: model.predict(X))[1] for n in (512, len(X)))
    # Eight times two numbers an image, some of them in float64; an image has 576.
    assert most - few < 0.3 * X.nbytes


@pytest.mark.parametrize("kind", [">f4", "u2"])
def test_other_types_are_not_copied_as_a_whole(many, kind, tmp_path, monkeypatch):
    X, y = many
    monkeypatch.setattr("sklcae._scaling.SAMPLE_PIXELS", X.size // 16)
    other = np.memmap(tmp_path / "stamps", kind, "w+", shape=X.shape)
    other[:] = X + 50
    model, peak = numpy_peak(lambda: quick().fit(other, y))
    assert peak < 0.5 * X.nbytes
    _, peak = numpy_peak(lambda: model.predict(other))
    assert peak < 0.2 * X.nbytes


def test_one_masked_pixel_and_a_weight_of_zero_copy_nothing(many, monkeypatch):
    X, y = many
    monkeypatch.setattr("sklcae._scaling.SAMPLE_PIXELS", X.size // 16)
    X = X.copy()
    X[5, 7] = np.nan
    weights = np.ones(len(X))
    weights[3] = 0
    model = quick(allow_nan=True)
    _, peak = numpy_peak(lambda: model.fit(X, y, sample_weight=weights))
    assert peak < 0.6 * X.nbytes
