"""The same bits, however and beside whatever a model is fitted and used."""

import multiprocessing
import pickle
import random
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import Parallel, delayed

from sklcae.datasets import make_galaxies
from tests.blobs import assert_same_model, make_blobs_of_light, quick

VARIANTS = [
    {},
    {"augmentation": "dihedral", "invariant_targets": "all", "stretch": "asinh"},
    {"early_stopping": True, "validation_fraction": 0.3},
    {
        "network": "neural_field",
        "reconstruction_loss": "chi_square",
        "physical_loss": "gaussian_likelihood",
    },
]


@pytest.fixture(scope="module")
def blobs():
    return make_blobs_of_light(96)


@pytest.fixture(scope="module")
def fitted(blobs):
    return quick().fit(*blobs)


@pytest.fixture
def threads():
    """Set the number of threads of PyTorch for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def fit(settings, X, y):
    return quick(**settings).fit(X, y)


@pytest.mark.parametrize("settings", VARIANTS)
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_fit_is_the_same_in_workers_and_threads(blobs, settings, backend):
    expected = fit(settings, *blobs)
    with Parallel(n_jobs=2, backend=backend) as parallel:
        for model in parallel(delayed(fit)(settings, *blobs) for _ in range(3)):
            assert_same_model(model, expected)


@pytest.mark.parametrize("settings", VARIANTS)
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_fit_is_the_same_for_any_number_of_threads(blobs, settings, n_threads, threads):
    expected = fit(settings, *blobs)
    threads(n_threads)
    assert_same_model(fit(settings, *blobs), expected)
    assert torch.get_num_threads() == n_threads


@pytest.mark.parametrize("n_threads", [1, 2])
def test_stamps_of_full_size_are_the_same_for_any_number_of_threads(threads, n_threads):
    """The sums over a full stamp are long enough for threads to cut them up."""
    X, y = make_galaxies(40, random_state=0)
    expected = quick(max_epochs=1, latent_dim=64).fit(X, y)
    latents = expected.transform(X)
    images = expected.inverse_transform(latents)
    threads(n_threads)
    model = quick(max_epochs=1, latent_dim=64).fit(X, y)
    assert_same_model(model, expected)
    np.testing.assert_array_equal(model.transform(X), latents)
    np.testing.assert_array_equal(model.inverse_transform(latents), images)


@settings(max_examples=25)
@given(data=st.data())
def test_inference_is_the_same_for_any_split_order_and_batch(blobs, fitted, data):
    X, _ = blobs
    order = np.array(data.draw(st.permutations(range(len(X)))))
    cuts = sorted(data.draw(st.lists(st.integers(1, len(X) - 1), unique=True)))
    for method in (fitted.predict, fitted.transform, fitted.reconstruct):
        parts = [method(part) for part in np.split(X[order], cuts)]
        np.testing.assert_array_equal(np.concatenate(parts), method(X)[order])


def test_prediction_in_threads_is_that_of_one(blobs, fitted):
    X, _ = blobs
    expected = fitted.predict(X)
    results = Parallel(n_jobs=4, backend="threading")(
        delayed(fitted.predict)(X) for _ in range(8)
    )
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_global_random_state_is_neither_read_nor_written(blobs, tmp_path):
    X, y = blobs
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
        model = quick(augmentation="dihedral", invariant_targets="all").fit(X, y)
        model.partial_fit(X, y)
        model.save(tmp_path / "model")
        model = model.load(tmp_path / "model")
        results.append((model.predict(X), model.inverse_transform(model.transform(X))))
        make_galaxies(3, image_shape=(16, 16), random_state=0)
        after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
        assert torch.equal(before[0], after[0])
        np.testing.assert_array_equal(before[1], after[1])
        assert before[2] == after[2]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_generator_as_random_state_is_used_and_moved_on(blobs):
    rng = np.random.RandomState(3)
    first, second = (quick(random_state=rng).fit(*blobs) for _ in range(2))
    assert not np.array_equal(first.predict(blobs[0]), second.predict(blobs[0]))
    again = quick(random_state=np.random.RandomState(3)).fit(*blobs)
    assert_same_model(first, again)


# In any surroundings of PyTorch ---------------------------------------------------


@contextmanager
def default_device():
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic_algorithms():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "device context": lambda: torch.device("meta"),
    "default device": default_device,
    "default type": default_dtype,
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "deterministic": deterministic_algorithms,
}


@pytest.mark.parametrize("surroundings", SURROUNDINGS.values(), ids=SURROUNDINGS)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_modes_of_the_caller_change_nothing(blobs, surroundings, n_threads, threads):
    X, y = blobs
    settings = VARIANTS[1] | VARIANTS[2]
    expected = fit(settings, X, y)
    latents = expected.transform(X)
    images = expected.inverse_transform(latents)
    threads(n_threads)
    with surroundings():
        model = pickle.loads(pickle.dumps(fit(settings, X, y)))
        np.testing.assert_array_equal(model.transform(X), latents)
        np.testing.assert_array_equal(model.inverse_transform(latents), images)
    assert_same_model(model, expected)


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="needs os.fork"
)
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_pool_of_forked_processes_predicts_and_fits_after_a_fit(threads):
    threads(2)
    X, y = make_galaxies(20, random_state=0)
    model = quick(max_epochs=1, latent_dim=64).fit(X, y)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for result in pool.map_async(model.predict, [X, X]).get(60):
            np.testing.assert_array_equal(result, model.predict(X))
        (again,) = pool.starmap_async(model.fit, [(X, y)]).get(60)
    assert_same_model(again, model)
