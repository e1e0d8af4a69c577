"""What a model is made of when it is pickled or copied."""

import copy
import pickle
import subprocess
import sys

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from sklcae import ConditionalAutoencoderRegressor
from tests.blobs import assert_same_model, make_blobs_of_light, quick

PLAIN = (type(None), bool, int, float, str)


@pytest.fixture(scope="module")
def model():
    X, y = make_blobs_of_light(96)
    X = pd.DataFrame(X, columns=[f"pixel{i}" for i in range(X.shape[1])])
    y = pd.DataFrame(y, columns=["flux", "half_light_radius"])
    model = quick(early_stopping=True, stretch="asinh").set_output(transform="pandas")
    return model.fit(X, y), X


def through_joblib(model, folder):
    joblib.dump(model, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


ROUND_TRIPS = {
    "pickle": lambda model, folder: pickle.loads(pickle.dumps(model)),
    "joblib": through_joblib,
    "cloudpickle": lambda model, folder: pickle.loads(cloudpickle.dumps(model)),
    "deepcopy": lambda model, folder: copy.deepcopy(model),
    "save and load": lambda model, folder: (
        model.save(folder / "model") or model.load(folder / "model")
    ),
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_round_trip_is_bitwise_the_same(model, tmp_path, name):
    model, X = model
    copied = ROUND_TRIPS[name](model, tmp_path)
    assert copied is not model
    assert_same_model(copied, model)
    Z = model.transform(X)
    pd.testing.assert_frame_equal(copied.transform(X), Z, check_exact=True)
    np.testing.assert_array_equal(copied.predict(X), model.predict(X))
    np.testing.assert_array_equal(
        copied.inverse_transform(Z), model.inverse_transform(Z)
    )
    assert copied.best_epoch_ == model.best_epoch_
    assert copied.get_params() == model.get_params()
    with pytest.raises(ValueError, match="feature names"):
        copied.predict(X.rename(columns={"pixel0": "other"}))


@pytest.mark.parametrize("partial", [False, True])
def test_state_is_arrays_and_plain_values(model, partial):
    model, X = model
    if partial:
        model = quick().partial_fit(X.to_numpy(), np.arange(96.0))
    assert not list(what_is_not_plain(model.__getstate__()))


def what_is_not_plain(value):
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from what_is_not_plain(key)
            yield from what_is_not_plain(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from what_is_not_plain(entry)
    elif isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in "fiub":
            yield value
    elif type(value) not in PLAIN:
        yield value


@pytest.mark.parametrize("way", ["pickle", "load"])
def test_model_is_read_by_a_process_without_torch(model, tmp_path, way):
    model, X = model
    X.to_pickle(tmp_path / "X")
    if way == "pickle":
        (tmp_path / "model").write_bytes(pickle.dumps(model))
        read = "pickle.load(open('model', 'rb'))"
    else:
        model.save(tmp_path / "model")
        read = "sklcae.ConditionalAutoencoderRegressor.load('model')"
    code = (
        "import pickle, sys, numpy, pandas, sklcae; assert 'torch' not in sys.modules; "
        f"model = {read}; X = pandas.read_pickle('X'); "
        "numpy.save('y.npy', model.predict(X))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model.predict(X))


class Preset(ConditionalAutoencoderRegressor):
    """Fewer parameters of its own than the class has."""

    def __init__(self, *, max_epochs=2):
        super().__init__(latent_dim=8, max_epochs=max_epochs, random_state=0)


def test_a_subclass_may_set_parameters_itself():
    X, y = make_blobs_of_light(96)
    model = Preset().fit(X, y)
    assert_same_model(model, quick(max_epochs=2).fit(X, y))
    model.partial_fit(X, y)
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict(X), model.predict(X))


def test_a_state_without_a_codec_is_not_fitted():
    """For example of an earlier version."""
    model = quick()
    model.__setstate__(model.__getstate__() | {"weights_": {}, "history_": {}})
    with pytest.raises(NotFittedError):
        model.predict(np.zeros((2, 144)))
