"""Saved models: the same when loaded, and refused when anything is wrong with them."""

import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression

from sklcae import ConditionalAutoencoderRegressor, __version__
from sklcae._storage import model as storage
from sklcae._storage.model import save_model
from sklcae.exceptions import ModelFileError
from tests.effort import repeats
from tests.forging import claim, forge, memory_below, read, same_array, take_apart
from tests.fuzzing import at, damaged, forgeries, places

# What loading takes at most besides the file: the objects of scikit-learn and skorch.
MEMORY = 2_000_000

load_model = ConditionalAutoencoderRegressor.load


def quick(**kwargs):
    settings = {"latent_dim": 4, "max_epochs": 1, "random_state": 0}
    return ConditionalAutoencoderRegressor(**{**settings, **kwargs})


def make_data(shape=(12, 64), n_targets=2, dtype=np.float32):
    rng = np.random.default_rng(0)
    y_shape = shape[:1] if n_targets is None else (shape[0], n_targets)
    return rng.normal(size=shape).astype(dtype), rng.normal(size=y_shape)


def make_frames():
    X, y = make_data()
    columns = [f"pixel {i} Å" for i in range(64)]
    return pd.DataFrame(X, columns=columns), pd.DataFrame(y, columns=["flux", "β"])


def make_incomplete_data():
    X, y = make_data()
    y[0, 1] = np.nan
    return X, y


MODELS = {
    "plain": lambda: quick().fit(*make_data()),
    "frames": lambda: quick().set_output(transform="pandas").fit(*make_frames()),
    "one target": lambda: quick(random_state=None).fit(*make_data(n_targets=None)),
    "colours": lambda: quick().fit(*make_data((9, 3, 6, 5), 1, np.float64)),
    "shaped": lambda: quick(image_shape=(1, 6, 9)).fit(*make_data((9, 6, 9))),
    "asinh": lambda: quick(stretch="asinh", softening=np.float32(0.3), alpha=2).fit(
        *make_data()
    ),
    "dihedral": lambda: quick(
        augmentation="dihedral", invariant_targets=["flux", "β"], latent_dim=np.int64(5)
    ).fit(*make_frames()),
    "early stopping": lambda: quick(early_stopping=True, max_epochs=3).fit(
        *make_data((40, 64))
    ),
    "missing targets": lambda: quick().fit(*make_incomplete_data()),
    "weighted": lambda: quick().fit(*make_data(), sample_weight=np.arange(12.0)),
    "continued": lambda: quick(warm_start=True).fit(*make_data()).fit(*make_data()),
    "partial": lambda: quick().partial_fit(*make_data()).partial_fit(*make_data()),
    "changed": lambda: quick().fit(*make_data()).set_params(latent_dim=9, alpha=7.0),
    "uncertain": lambda: quick(physical_loss="gaussian_likelihood").fit(*make_data()),
    "exchanged": lambda: quick(
        gamma=1.0, network="neural_field", reconstruction_loss="chi_square", gain=2
    ).fit(*make_data(), groups=["a", "b"] * 6),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def models():
    return {name: make() for name, make in MODELS.items()}


@pytest.fixture(scope="module")
def whole(models, folder):
    """Return the bytes of a model's file."""
    path = folder / "whole"
    save_model(models["plain"], path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def other(models, folder):
    path = folder / "other"
    save_model(models["asinh"], path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.sklcae"


# Round trips --------------------------------------------------------------------


def same(one, other):
    """Tell whether two nested values are the same, with the same types."""
    if isinstance(one, dict):
        keys = isinstance(other, dict) and list(one) == list(other)
        return keys and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        alike = type(one) is type(other) and len(one) == len(other)
        return alike and all(map(same, one, other))
    if isinstance(one, np.ndarray | np.generic):
        return type(one) is type(other) and same_array(one, other)
    return type(one) is type(other) and repr(one) == repr(other)


def saved_part(model):
    return {
        name: value
        for name, value in sorted(model.__getstate__().items())
        if name not in storage.TRAINING_ATTRIBUTES
    }


def images_for(model):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(40, *model.codec_.layout.sample_shape))
    names = getattr(model, "feature_names_in_", None)
    return X if names is None else pd.DataFrame(X, columns=names)


@pytest.mark.parametrize("name", MODELS)
def test_loaded_model_is_the_same_to_the_last_bit(models, path, name):
    model = models[name]
    save_model(model, path)
    loaded = load_model(path)
    assert type(loaded) is type(model)
    assert same(saved_part(loaded), saved_part(model))
    X, Z = images_for(model), np.random.default_rng(2).normal(size=(40, 5))
    Z = Z[:, : model.codec_.latent_dim]
    for method, data in (("predict", X), ("transform", X), ("reconstruct", X)):
        results = [np.asarray(getattr(m, method)(data)) for m in (model, loaded)]
        assert same_array(*results)
    assert same_array(loaded.inverse_transform(Z), model.inverse_transform(Z))
    assert same_array(loaded.score_samples(X), model.score_samples(X))
    wanted = model.predict(X)
    assert same_array(loaded.generate(wanted, 0), model.generate(wanted, 0))
    assert list(loaded.get_feature_names_out()) == list(model.get_feature_names_out())


@pytest.mark.parametrize("name", ["plain", "frames"])
def test_loaded_model_can_be_pickled_saved_and_fitted(models, path, name):
    model = models[name]
    save_model(model, path)
    first = path.read_bytes()
    loaded = load_model(path)
    copied = pickle.loads(pickle.dumps(loaded))
    save_model(copied, path)
    assert path.read_bytes() == first
    X, y = make_frames() if name == "frames" else make_data()
    np.testing.assert_array_equal(loaded.fit(X, y).predict(X), model.predict(X))


def test_every_fitted_attribute_of_every_model_is_in_the_table(models):
    """A new fitted attribute needs a line in FITTED, with how it is checked."""
    for model in models.values():
        fitted = set(model.__getstate__()) - set(model.get_params())
        known = {*storage.FITTED, *storage.TRAINING_ATTRIBUTES}
        assert fitted <= known
        assert {"codec_", "history_"} <= fitted


def test_the_file_says_what_made_it(whole):
    _, manifest, _ = take_apart(whole)
    assert manifest["class"] == "ConditionalAutoencoderRegressor"
    assert manifest["versions"]["sklcae"] == __version__
    assert manifest["versions"]["numpy"] == np.__version__
    assert set(manifest["versions"]) >= {"python", "scikit-learn", "torch"}


def test_the_optimizer_is_not_saved(models, path):
    assert hasattr(models["partial"], "_optimizer_state_")
    save_model(models["partial"], path)
    assert not hasattr(load_model(path), "_optimizer_state_")
    assert hasattr(load_model(path).partial_fit(*make_data()), "_optimizer_state_")


def test_history_may_have_values_that_are_not_finite(models, path):
    model = deepcopy(models["plain"])
    model.history_["validation_loss"] = [float("nan")]
    save_model(model, path)
    assert same(load_model(path).history_, model.history_)


# What is not saved --------------------------------------------------------------


class NoPlainValue:
    pass


@pytest.mark.parametrize(
    ("name", "value"),
    [("random_state", np.random.RandomState(0)), ("callbacks", [NoPlainValue()])],
)
def test_parameters_that_are_no_plain_values_are_named(models, path, name, value):
    model = deepcopy(models["plain"]).set_params(**{name: value})
    with pytest.warns(UserWarning, match=rf"\['{name}'\] are not saved"):
        save_model(model, path)
    loaded = load_model(path)
    assert getattr(loaded, name) is None
    assert loaded.latent_dim == 4
    X = images_for(model)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


@pytest.mark.parametrize("name", ["_skl_callbacks", "_metadata_request"])
def test_objects_of_scikit_learn_are_named(models, path, name):
    model = deepcopy(models["plain"])
    setattr(model, name, [NoPlainValue()])
    with pytest.warns(UserWarning, match=rf"\['{name}'\] are not saved"):
        save_model(model, path)
    assert not hasattr(load_model(path), name)


@pytest.mark.parametrize("kind", [str, Path])
def test_the_path_of_a_checkpoint_is_not_saved(models, path, kind):
    model = deepcopy(models["plain"]).set_params(checkpoint=kind("fit.checkpoint"))
    save_model(model, path)
    assert load_model(path).checkpoint is None


def test_unfitted_model(path):
    with pytest.raises(NotFittedError):
        save_model(quick(), path)
    assert not path.exists()


class Derived(ConditionalAutoencoderRegressor):
    pass


Namesake = type("ConditionalAutoencoderRegressor", (BaseEstimator,), {})


@pytest.mark.parametrize(
    "model", [Derived(), Namesake(), LinearRegression(), {"codec_": {}}]
)
def test_other_classes_are_not_saved(path, model):
    with pytest.raises(TypeError, match="must be one of"):
        save_model(model, path)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m: setattr(m, "new_", 1), ValueError, "cannot be saved.*'new_'"),
        (lambda m: setattr(m, "note", 1), ValueError, "cannot be saved.*'note'"),
        (lambda m: setattr(m, "new_", object()), TypeError, "fitted/new_ must be made"),
        (lambda m: m.set_params(lr=-1.0), ValueError, "cannot be saved.*'lr'"),
        (lambda m: delattr(m, "history_"), ValueError, "cannot be saved.*'history_'"),
        (
            lambda m: m.net_.module_.encoder.conv1.bias.data.fill_(np.nan),
            ValueError,
            "finite",
        ),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(models, path, change, error, message):
    model = deepcopy(models["plain"])
    path.write_bytes(b"old")
    change(model)
    with pytest.raises(error, match=message):
        save_model(model, path)
    assert path.read_bytes() == b"old"


def test_new_parameters_and_attributes_need_no_new_format(models, path, monkeypatch):
    """What a later version adds: a parameter just so, an attribute with a rule."""
    save_model(models["plain"], path)

    class Later(ConditionalAutoencoderRegressor):
        def __init__(self, *, latent_dim=64, momentum=0.9):
            super().__init__(latent_dim=latent_dim)
            self.momentum = momentum

    Later.__name__ = "ConditionalAutoencoderRegressor"
    Later._parameter_constraints = {"latent_dim": [int], "momentum": [float]}
    old = {"latent_dim": 4}
    monkeypatch.setattr(storage, "class_of", lambda name: Later)
    manifest, tensors = read(path)
    parameters_of(manifest).clear()
    parameters_of(manifest).update(old)
    path.write_bytes(forge(manifest, tensors))
    loaded = load_model(path)
    assert loaded.get_params() == {"latent_dim": 4, "momentum": 0.9}


# Forged files -------------------------------------------------------------------


def parameters_of(manifest):
    return manifest["content"]["dict"]["parameters"]["dict"]


def fitted_of(manifest):
    return manifest["content"]["dict"]["fitted"]["dict"]


def part_of(manifest, *names):
    part = fitted_of(manifest)
    for name in names:
        part = part[name]["dict"]
    return part


def set_top(name, value):
    return lambda manifest, tensors: manifest.update({name: value})


def drop_top(name):
    return lambda manifest, tensors: manifest.pop(name)


def set_parameter(name, value):
    return lambda manifest, tensors: parameters_of(manifest).update({name: value})


def set_fitted(name, value, *parts):
    return lambda manifest, tensors: part_of(manifest, *parts).update({name: value})


def drop_fitted(name, *parts):
    return lambda manifest, tensors: part_of(manifest, *parts).pop(name)


def set_array(name, change):
    def apply(manifest, tensors):
        tensors[f"fitted/{name}"] = np.asarray(change(tensors[f"fitted/{name}"]))

    return apply


def drop_array(parts, name):
    def apply(manifest, tensors):
        del part_of(manifest, *parts)[name]
        del tensors["/".join(["fitted", *parts, name])]

    return apply


def add_array(parts, name, array):
    def apply(manifest, tensors):
        tensors["new"] = array
        part_of(manifest, *parts)[name] = {"array": "new"}

    return apply


def replace_part(name, value):
    """Put something in the place of a part of the codec, and drop its arrays."""

    def apply(manifest, tensors):
        part_of(manifest, "codec_")[name] = value
        for tensor in [*tensors]:
            if f"/{name}/" in tensor:
                del tensors[tensor]

    return apply


def set_sizes(latent_dim=4, image_shape=(1, 8, 8), n_targets=2):
    """Claim another architecture, and everything else that follows from it."""

    def apply(manifest, tensors):
        n_features = image_shape[0] * image_shape[1] * image_shape[2]
        part_of(manifest, "codec_").update(latent_dim=latent_dim)
        part_of(manifest, *LAYOUT).update(
            image_shape={"tuple": list(image_shape)},
            sample_shape={"tuple": [n_features]},
            n_targets=n_targets,
        )

    return apply


def set_seen(array):
    def apply(manifest, tensors):
        name = "fitted/codec_/target_scaler/n_samples_seen_"
        tensors[name] = array
        part_of(manifest, *TARGET)["n_samples_seen_"] = {"array": name}

    return apply


CODEC = ("codec_",)
LAYOUT, WEIGHTS = ("codec_", "layout"), ("codec_", "weights")
IMAGE, TARGET = ("codec_", "image_scaler"), ("codec_", "target_scaler")
REFERENCE = ("codec_", "reference")
FIRST_BIAS = "encoder.conv1.bias"
LATENTS, MISFITS = "codec_/reference/latents", "codec_/reference/misfits"

FORGERIES = {
    "checkpoint": (set_top("kind", "checkpoint of a fit"), "'kind' .*fitted model"),
    "no kind": (drop_top("kind"), "lacks.*'kind'"),
    "more in the manifest": (set_top("code", "import os"), "has.*'code'"),
    "unknown class": (set_top("class", "os.system"), "'class' .* must be one of"),
    "class of scikit-learn": (set_top("class", "LinearRegression"), "must be one of"),
    "class no text": (set_top("class", ["a"]), "'class' .* must be one of"),
    "versions no dict": (set_top("versions", []), "'versions'.*must be a dict"),
    "versions no texts": (set_top("versions", {"a": 1}), "must be a dict of str"),
    "no versions": (drop_top("versions"), "lacks.*'versions'"),
    "content no dict": (set_top("content", []), "'content' .*must be a dict"),
    "content unknown": (set_top("content", {"pickle": ""}), "must have one of"),
    "content empty": (set_top("content", {"dict": {}}), "arrays without a place"),
    "no parameters": (
        lambda m, t: m["content"]["dict"].pop("parameters"),
        "lacks.*'parameters'",
    ),
    "unknown parameter": (
        set_parameter("momentum", 0.9),
        r"parameters \['momentum'\], which sklcae .* does not know; it was saved by",
    ),
    "parameter checkpoint": (
        set_parameter("checkpoint", "/etc/passwd"),
        "parameters.*'checkpoint'",
    ),
    "parameter out of range": (set_parameter("latent_dim", 0), "'latent_dim'.*Got 0"),
    "parameter of another type": (set_parameter("lr", "fast"), "'lr'.*Got 'fast'"),
    "parameter not a choice": (set_parameter("network", "vgg"), "'network'.*'vgg'"),
    "parameter a dict": (set_parameter("device", {"dict": {}}), "'device'.*Got {}"),
    "parameter not finite": (set_parameter("alpha", {"float": "nan"}), "'alpha'"),
    "parameter an array without a place": (
        set_parameter("alpha", {"array": "nothere"}),
        "lacks the array 'nothere'",
    ),
    "parameter of an array": (
        lambda m, t: [
            t.update(x=np.ones(2)),
            parameters_of(m).update(callbacks=[{"array": "x"}]),
        ],
        "'callbacks' must not hold arrays",
    ),
    "parameters no dict": (
        lambda m, t: m["content"]["dict"].update(parameters=[]),
        "'parameters' .*must be a dict",
    ),
    "unknown attribute": (set_fitted("predict", "x"), "has.*'predict'"),
    "unknown fitted attribute": (set_fitted("new_", 1), "has.*'new_'"),
    "method": (set_fitted("__class__", "x"), "has.*'__class__'"),
    "optimizer": (set_fitted("_optimizer_state_", {"dict": {}}), "_optimizer_state_"),
    "no codec": (drop_fitted("codec_"), "arrays without a place"),
    "no layout": (drop_fitted("layout", *CODEC), "lacks.*'layout'"),
    "no history": (drop_fitted("history_"), "lacks.*'history_'"),
    "layout has more": (set_fitted("n_features", 64, *LAYOUT), "has.*'n_features'"),
    "layout no dict": (replace_part("layout", []), "'layout' must be a dict"),
    "names of features": (
        set_fitted("feature_names", ["a"], *LAYOUT),
        "feature_names has 1 names for 64 pixels",
    ),
    "names of features no texts": (
        set_fitted("feature_names", [1] * 64, *LAYOUT),
        "'feature_names' .*a list of str",
    ),
    "shape a list": (
        set_fitted("image_shape", [1, 8, 8], *LAYOUT),
        "'image_shape' .*three",
    ),
    "shape of two": (
        set_fitted("image_shape", {"tuple": [8, 8]}, *LAYOUT),
        "'image_shape'",
    ),
    "shape of zero": (
        set_fitted("image_shape", {"tuple": [1, 0, 8]}, *LAYOUT),
        "three posit",
    ),
    "shape of bool": (
        set_fitted("image_shape", {"tuple": [True, 8, 8]}, *LAYOUT),
        "three posit",
    ),
    "shape of floats": (
        set_fitted("image_shape", {"tuple": [1.0, 8, 8]}, *LAYOUT),
        "three posit",
    ),
    "shape of many": (
        set_fitted("image_shape", {"tuple": [1, 10**40, 8]}, *LAYOUT),
        "three posit",
    ),
    "shape of texts": (
        set_fitted("image_shape", {"tuple": ["1", "8", "8"]}, *LAYOUT),
        "three positive",
    ),
    "shape of another size": (
        set_fitted("image_shape", {"tuple": [1, 7, 9]}, *LAYOUT),
        "but image_shape is",
    ),
    "shape of the other order": (
        set_fitted("image_shape", {"tuple": [1, 2, 32]}, *LAYOUT),
        "its weights .*not of the shape",
    ),
    "sample shape": (
        set_fitted("sample_shape", {"tuple": [4, 16]}, *LAYOUT),
        "sample_shape is",
    ),
    "sample shape empty": (
        set_fitted("sample_shape", {"tuple": []}, *LAYOUT),
        "sample_shape",
    ),
    "sample shape a list": (
        set_fitted("sample_shape", [64], *LAYOUT),
        "must be a tuple",
    ),
    "planes a list": (
        set_fitted("planes", ["image"], *LAYOUT),
        "'planes' .*a tuple of kinds",
    ),
    "planes of another kind": (
        set_fitted("planes", {"tuple": ["image", "mask"]}, *LAYOUT),
        "'planes' .*a tuple of kinds",
    ),
    "planes more than channels": (
        set_fitted("planes", {"tuple": ["image", "psf"]}, *LAYOUT),
        "for the planes",
    ),
    "no gain and no variance": (set_fitted("gain", None, *CODEC), "gain is None"),
    "gain a text": (set_fitted("gain", "1", *CODEC), "'gain' .*positive number"),
    "targets none": (set_fitted("n_targets", 0, *LAYOUT), "'n_targets'"),
    "targets another number": (set_fitted("n_targets", 3, *LAYOUT), "must be 3"),
    "names of targets": (
        set_fitted("target_names", ["a"], *LAYOUT),
        "has 1 names for 2",
    ),
    "names of targets twice": (
        set_fitted("target_names", ["a", "a"], *LAYOUT),
        "'target_names' .*different names",
    ),
    "names of latents": (
        set_fitted("target_names", ["a", "z_rest0"], *LAYOUT),
        "'target_names'",
    ),
    "names of targets empty": (set_fitted("target_names", [], *LAYOUT), "'target_na"),
    "names of targets no texts": (
        set_fitted("target_names", [1, 2], *LAYOUT),
        "'target_names'",
    ),
    "names of targets a text": (
        set_fitted("target_names", "ab", *LAYOUT),
        "'target_names'",
    ),
    "y with three axes": (set_fitted("y_ndim", 3, *LAYOUT), "'y_ndim' .*1 or 2"),
    "y of bool": (set_fitted("y_ndim", True, *LAYOUT), "'y_ndim' .*1 or 2"),
    "y with one axis": (set_fitted("y_ndim", 1, *LAYOUT), "y_ndim is 1 for 2 targets"),
    "seed negative": (set_fitted("seed", -1, *CODEC), "'seed' .*31 bits"),
    "seed of NumPy": (
        lambda m, t: [
            t.update(x=np.array(1)),
            part_of(m, *CODEC).update(seed={"scalar": "x"}),
        ],
        "'seed' .*31 bits",
    ),
    "gain too large": (set_fitted("gain", 10**400, *CODEC), "'gain'"),
    "gain": (set_fitted("gain", 0.0, *CODEC), "'gain' .*a positive number"),
    "gain infinite": (set_fitted("gain", {"float": "inf"}, *CODEC), "'gain'"),
    "best epoch": (set_fitted("best_epoch_", 2), "best_epoch_ is 2 of 1"),
    "best epoch no number": (set_fitted("best_epoch_", "1"), "'best_epoch_'"),
    "history no dict": (set_fitted("history_", []), "'history_'"),
    "history empty": (set_fitted("history_", {"dict": {}}), "'history_'"),
    "history without epochs": (drop_fitted("epoch", "history_"), "'history_'"),
    "history of no epoch": (
        set_fitted("history_", {"dict": {"epoch": [], "train_loss": []}}),
        "'history_'",
    ),
    "history of other lengths": (set_fitted("epoch", [1, 2], "history_"), "'history_'"),
    "history of texts": (set_fitted("train_loss", ["low"], "history_"), "'history_'"),
    "history with a number": (set_fitted("train_loss", 1.0, "history_"), "'history_'"),
    "history with odd epochs": (set_fitted("epoch", [-1], "history_"), "'history_'"),
    "history with later epochs": (set_fitted("epoch", [2], "history_"), "'history_'"),
    "history of integers": (
        set_fitted("duration", [10**400], "history_"),
        "'history_'",
    ),
    "history of others": (set_fitted("batches", [1.0], "history_"), "'history_'"),
    "output": (set_fitted("_sklearn_output_config", []), "_sklearn_output_config"),
    "output of a method": (
        set_fitted("_sklearn_output_config", {"dict": {"fit": "pandas"}}),
        "_sklearn_output_config",
    ),
    "scaler no dict": (
        replace_part("image_scaler", None),
        "'image_scaler' must be a dict",
    ),
    "scaler lacks": (drop_array(IMAGE, "range_"), "image_scaler lacks.*'range_'"),
    "scaler has more": (set_fitted("fit", 1, *IMAGE), "image_scaler .*has.*'fit'"),
    "stretch": (set_fitted("stretch", "log", *IMAGE), "'stretch' .* one of"),
    "stretch no text": (set_fitted("stretch", [], *IMAGE), "'stretch' .* one of"),
    "softening": (set_fitted("softening", -1.0, *IMAGE), "'softening'"),
    "softening infinite": (
        set_fitted("softening", {"float": "inf"}, *IMAGE),
        "'softening'",
    ),
    "softening_ zero": (
        set_array("codec_/image_scaler/softening_", np.zeros_like),
        "positive",
    ),
    "range_ zero": (
        set_array("codec_/image_scaler/range_", np.zeros_like),
        "range_ .*posit",
    ),
    "range_ negative": (
        set_array("codec_/image_scaler/range_", np.negative),
        "range_ .*pos",
    ),
    "range_ flat": (set_array("codec_/image_scaler/range_", np.ravel), r"shape \(1,\)"),
    "minimum_ for two": (
        set_array("codec_/image_scaler/minimum_", lambda a: np.repeat(a, 2, 0)),
        r"minimum_ of image_scaler has the shape \(2, 1, 1\)",
    ),
    "minimum_ double": (
        set_array("codec_/image_scaler/minimum_", lambda a: a.astype(float)),
        "different types",
    ),
    "noise_ missing": (drop_array(IMAGE, "noise_"), "image_scaler lacks.*'noise_'"),
    "noise_ zero": (
        set_array("codec_/image_scaler/noise_", np.zeros_like),
        "noise_ .*posit",
    ),
    "noise_ negative": (
        set_array("codec_/image_scaler/noise_", np.negative),
        "noise_ .*pos",
    ),
    "noise_ double": (
        set_array("codec_/image_scaler/noise_", lambda a: a.astype(float)),
        "different types",
    ),
    "noise_ for two": (
        set_array("codec_/image_scaler/noise_", lambda a: np.repeat(a, 2, 0)),
        r"noise_ of image_scaler has the shape \(2, 1, 1\)",
    ),
    "sky_ missing": (drop_array(IMAGE, "sky_"), "image_scaler lacks.*'sky_'"),
    "sky_ not finite": (
        set_array("codec_/image_scaler/sky_", lambda a: np.full_like(a, np.nan)),
        "sky_' has values that are not finite",
    ),
    "sky_ for two": (
        set_array("codec_/image_scaler/sky_", lambda a: np.repeat(a, 2, 0)),
        r"sky_ of image_scaler has the shape \(2, 1, 1\)",
    ),
    "another sky_ than the stretch has": (
        lambda m, t: [
            set_fitted("stretch", "asinh", *IMAGE)(m, t),
            set_array("codec_/image_scaler/sky_", lambda a: a + 1)(m, t),
        ],
        "sky_ and background_ .* the same",
    ),
    "background_ of integers": (
        set_array("codec_/image_scaler/background_", lambda a: a.astype(np.int64)),
        "'background_' .*an array of floats",
    ),
    "background_ a number": (
        lambda m, t: [
            t.pop("fitted/codec_/image_scaler/background_"),
            part_of(m, *IMAGE).update(background_=0.0),
        ],
        "'background_' .*an array of floats",
    ),
    "target scaler lacks": (drop_array(TARGET, "mean_"), "target_scaler lacks"),
    "target scaler of three": (set_fitted("n_features_in_", 3, *TARGET), "must be 2"),
    "with_mean": (set_fitted("with_mean", False, *TARGET), "'with_mean' .*True"),
    "with_std": (set_fitted("with_std", 1, *TARGET), "'with_std' .*True"),
    "copy": (set_fitted("copy", None, *TARGET), "'copy'"),
    "mean_ of one": (
        set_array("codec_/target_scaler/mean_", lambda a: a[:1]),
        "mean_ of tar",
    ),
    "mean_ single": (
        set_array("codec_/target_scaler/mean_", lambda a: a.astype(np.float32)),
        "'mean_' .*float64",
    ),
    "scale_ zero": (
        set_array("codec_/target_scaler/scale_", np.zeros_like),
        "positive",
    ),
    "scale_ negative": (
        set_array("codec_/target_scaler/scale_", np.negative),
        "positive",
    ),
    "var_ negative": (set_array("codec_/target_scaler/var_", np.negative), "positive"),
    "seen negative": (
        set_array("codec_/target_scaler/n_samples_seen_", np.negative),
        "'n_samples_seen_' .*positive",
    ),
    "seen of three": (
        set_seen(np.ones(3)),
        "n_samples_seen_ of target_scaler has another length",
    ),
    "seen of two negative": (
        set_seen(-np.ones(2)),
        "n_samples_seen_ of target_scaler must be positive",
    ),
    "network": (set_fitted("network", "vgg", *CODEC), "must be registered"),
    "network no text": (set_fitted("network", None, *CODEC), "'network' .*str"),
    "codec lacks": (drop_fitted("latent_dim", *CODEC), "lacks.*'latent_dim'"),
    "codec has more": (set_fitted("depth", 3, *CODEC), "has.*'depth'"),
    "latents fewer than targets": (
        set_fitted("latent_dim", 2, *CODEC),
        "more latents than targets",
    ),
    "latents another number": (
        set_fitted("latent_dim", 5, *CODEC),
        "its weights .*dense_",
    ),
    "latents a text": (set_fitted("latent_dim", "4", *CODEC), "'latent_dim'"),
    "variances of a network without": (
        set_fitted("predicts_variance", True, *CODEC),
        "its weights .*dense_variance",
    ),
    "variances no bool": (
        set_fitted("predicts_variance", 1, *CODEC),
        "'predicts_variance' .*True or False",
    ),
    "variances missing": (
        drop_fitted("predicts_variance", *CODEC),
        "lacks.*'predicts_variance'",
    ),
    "no reference": (replace_part("reference", None), "'reference' must be a dict"),
    "reference lacks": (drop_array(REFERENCE, "misfits"), "lacks.*'misfits'"),
    "reference has more": (
        add_array(REFERENCE, "weights", np.ones(12, np.float32)),
        "reference .*has.*'weights'",
    ),
    "reference with variances that are not predicted": (
        add_array(REFERENCE, "variances", np.ones((12, 2), np.float32)),
        r"must have \['latents', 'misfits'\], not",
    ),
    "latents double": (
        set_array(LATENTS, lambda a: a.astype(float)),
        "'latents' in reference .*float32",
    ),
    "misfits of integers": (
        set_array(MISFITS, lambda a: a.astype(np.int64)),
        "'misfits' in reference .*float32",
    ),
    "latents of no image": (
        set_array(LATENTS, lambda a: a[:0]),
        "1 to 1000 images, not 0",
    ),
    "latents of too many": (
        lambda m, t: [
            set_array(LATENTS, lambda a: np.ones((1001, 4), np.float32))(m, t),
            set_array(MISFITS, lambda a: np.ones((1001, 2), np.float32))(m, t),
        ],
        "1 to 1000 images, not 1001",
    ),
    "latents of one axis": (set_array(LATENTS, np.ravel), r"shape \(48, 4\), not"),
    "latents no axis": (
        set_array(LATENTS, lambda a: a[0, 0]),
        "1 to 1000 images, not 0",
    ),
    "latents of another width": (
        set_array(LATENTS, lambda a: a[:, :3]),
        r"latents of reference must have the shape \(12, 4\)",
    ),
    "misfits of another length": (
        set_array(MISFITS, lambda a: a[:5]),
        r"misfits of reference must have the shape \(12, 2\)",
    ),
    "misfits of one column": (
        set_array(MISFITS, lambda a: a[:, :1]),
        r"misfits of reference must have the shape \(12, 2\)",
    ),
    "misfits negative": (
        set_array(MISFITS, lambda a: a - 1e6),
        "misfits of reference must not be negative",
    ),
    "latents not finite": (
        set_array(LATENTS, lambda a: np.full_like(a, np.inf)),
        "codec_/reference/latents' has values that are not finite",
    ),
    "weights no dict": (replace_part("weights", []), "'weights' .*a dict of arrays"),
    "weight missing": (
        drop_array(WEIGHTS, FIRST_BIAS),
        "'encoder.conv1.bias'.*missing",
    ),
    "weight unknown": (
        add_array(WEIGHTS, "encoder.conv9.bias", np.zeros(3, np.float32)),
        "'encoder.conv9.bias'.*unknown",
    ),
    "weight of another shape": (
        set_array("codec_/weights/encoder.conv1.weight", np.transpose),
        "'encoder.conv1.weight'.*not of the shape",
    ),
    "weight double": (
        set_array(f"codec_/weights/{FIRST_BIAS}", lambda a: a.astype(float)),
        "'encoder.conv1.bias'.*not of the shape and type",
    ),
    "weight no array": (
        lambda m, t: [
            t.pop(f"fitted/codec_/weights/{FIRST_BIAS}"),
            part_of(m, *WEIGHTS).update({FIRST_BIAS: [0.0] * 32}),
        ],
        "'weights' .*a dict of arrays",
    ),
    "weight not finite": (
        set_array(f"codec_/weights/{FIRST_BIAS}", lambda a: np.full_like(a, np.nan)),
        "encoder.conv1.bias' has values that are not finite",
    ),
    "array without a place": (lambda m, t: t.update(x=np.ones(2)), "without a place"),
    "array with two places": (
        set_fitted(
            FIRST_BIAS,
            {"array": "fitted/codec_/weights/encoder.conv2.bias"},
            *WEIGHTS,
        ),
        "two places",
    ),
}

SIZES = {
    "latents": set_sizes(latent_dim=2**20),
    "latents beyond counting": set_sizes(latent_dim=10**30),
    "wide images": set_sizes(image_shape=(1, 2**14, 2**14)),
    "images beyond memory": set_sizes(image_shape=(1, 2**30, 2**30)),
    "images beyond counting": set_sizes(image_shape=(1, 2**62, 2**62)),
    "channels": set_sizes(image_shape=(2**24, 1, 1)),
    "targets": set_sizes(n_targets=2**22, latent_dim=2**22 + 1),
}


def forged(whole, change, path):
    """Write a model's file with something changed, and the right hash."""
    path.write_bytes(whole)
    manifest, tensors = read(path)
    change(manifest, tensors)
    data = forge(manifest, tensors)
    path.write_bytes(data)
    return data


def test_a_file_forged_without_a_change_is_loaded(whole, models, path):
    forged(whole, lambda manifest, tensors: None, path)
    assert same(saved_part(load_model(path)), saved_part(models["plain"]))


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_file_is_refused(whole, path, name):
    change, message = FORGERIES[name]
    data = forged(whole, change, path)
    with (
        memory_below(MEMORY + 4 * len(data)),
        pytest.raises(ModelFileError, match=message) as caught,
    ):
        load_model(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000 + len(str(path))


@contextmanager
def address_space_limited(extra):
    """Let the process take no more than a number of bytes besides what it has."""
    resource = pytest.importorskip("resource")
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + extra, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", SIZES)
def test_claimed_sizes_cost_no_memory(whole, path, name):
    forged(whole, SIZES[name], path)
    with address_space_limited(2**26), pytest.raises(ModelFileError):
        load_model(path)


@pytest.mark.parametrize("kind", ["plain", "missing targets", "uncertain"])
def test_claimed_arrays_are_not_read(models, path, kind):
    save_model(models[kind], path)
    data = path.read_bytes()
    for name in read(path)[1]:
        claim(path, data, name)
        with pytest.raises(ModelFileError):
            load_model(path)


def test_a_file_of_another_version_says_so(whole, path):
    forged(whole, lambda m, t: m.update(format_version=2), path)
    with pytest.raises(ModelFileError, match=r"format version 2.*reads version 1 only"):
        load_model(path)


def test_missing_parameters_have_their_defaults(whole, path):
    forged(whole, lambda m, t: parameters_of(m).pop("lr"), path)
    assert load_model(path).lr == ConditionalAutoencoderRegressor().lr


@pytest.mark.parametrize(
    "device", ["cuda:99", "nonsense", "meta", "cpu\0", "\ud800", "hpu", "privateuseone"]
)
def test_model_for_another_device_is_loaded_to_the_cpu(whole, models, path, device):
    forged(whole, set_parameter("device", device), path)
    with pytest.warns(UserWarning, match="loaded to the CPU"):
        loaded = load_model(path)
    X = images_for(loaded)
    np.testing.assert_array_equal(loaded.predict(X), models["plain"].predict(X))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_not_run(models, path, protocol):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(path) + " evil",)

    path.write_bytes(pickle.dumps(Evil(), protocol=protocol))
    with pytest.raises(ModelFileError):
        load_model(path)
    path.write_bytes(pickle.dumps(models["plain"], protocol=protocol))
    with pytest.raises(ModelFileError):
        load_model(path)
    assert list(path.parent.iterdir()) == [path]


def test_missing_file(path):
    with pytest.raises(FileNotFoundError):
        load_model(path)


# Damage -------------------------------------------------------------------------


def check_damage_is_found(data, path, whole):
    path.write_bytes(data)
    with memory_below(MEMORY + 4 * len(data)):
        try:
            loaded = load_model(path)
        except ModelFileError:
            return
    path.write_bytes(whole)
    assert same(saved_part(loaded), saved_part(load_model(path)))


FUZZ = {"suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}


@settings(max_examples=150, **FUZZ)
@given(data=st.data())
def test_damage_is_found(folder, whole, other, data):
    check_damage_is_found(data.draw(damaged(whole, other)), folder / "damaged", whole)


@pytest.mark.slow
@settings(max_examples=repeats(3000), **FUZZ)
@given(data=st.data())
def test_damage_is_found_in_many_files(folder, whole, other, data):
    check_damage_is_found(data.draw(damaged(whole, other)), folder / "damaged", whole)


def check_forgery(data, path):
    """Load a file; a model that comes of it must do what a model does."""
    path.write_bytes(data)
    # Odd numbers may well overflow, and odd devices are not there.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with memory_below(MEMORY + 4 * len(data)):
                loaded = load_model(path)
        except ModelFileError:
            return False
        use(loaded)
        return True


def use(model):
    X = np.linspace(-1, 1, 2 * model.n_features_in_).reshape(2, -1)
    try:
        y = model.predict(X)
        model.inverse_transform(np.asarray(model.transform(X)))
        model.score_samples(X)
        model.generate(y, 0)
    except ValueError:
        # Such as values that overflow when they are scaled.
        return
    assert len(y) == 2
    pickle.loads(pickle.dumps(model))


@settings(max_examples=150, **FUZZ)
@given(data=st.data())
def test_forgeries_are_refused_or_models(folder, whole, data):
    path = folder / "forged"
    path.write_bytes(whole)
    check_forgery(data.draw(forgeries(*read(path))), path)


@pytest.mark.slow
@settings(max_examples=repeats(3000), **FUZZ)
@given(data=st.data())
def test_many_forgeries_are_refused_or_models(folder, whole, data):
    path = folder / "forged"
    path.write_bytes(whole)
    check_forgery(data.draw(forgeries(*read(path))), path)


# Killed and failed savings ------------------------------------------------------

SAVE_IN_A_LOOP = """
import sys
from itertools import cycle
from sklcae._storage.archive import write_archive
from tests.forging import read

path, *versions = sys.argv[1:]
versions = [read(version) for version in versions]
print("ready", flush=True)
for version in cycle(versions):
    write_archive(path, *version)
"""


def kill_while_saving(path, versions, rng):
    """Kill a process that saves all the time, and return if it left half a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", SAVE_IN_A_LOOP, path, *versions], stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return remove_leftovers(path.parent)


def remove_leftovers(folder):
    left = [file for file in folder.iterdir() if file.suffix == ".tmp"]
    for file in left:
        assert re.fullmatch(r"\.sklcae-[0-9a-f]{16}\.tmp", file.name)
        file.unlink()
    return len(left)


def check_killed_savings(path, whole, other, n_kills):
    rng = random.Random(0)
    versions = [path.with_name("whole"), path.with_name("other")]
    for version, data in zip(versions, (whole, other), strict=True):
        version.write_bytes(data)
    path.write_bytes(whole)
    n_halves, seen = 0, set()
    for _ in range(n_kills):
        n_halves += kill_while_saving(path, versions, rng)
        assert path.read_bytes() in (whole, other)
        seen.add(path.read_bytes() == whole)
        load_model(path)
    return n_halves, seen


def test_killed_saving_leaves_a_whole_model(path, whole, other):
    check_killed_savings(path, whole, other, 5)


@pytest.mark.slow
def test_many_killed_savings_leave_whole_models(path, whole, other):
    n_halves, seen = check_killed_savings(path, whole, other, repeats(60))
    assert n_halves > 0
    assert seen == {True, False}


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_saving_leaves_the_old_model(models, path, monkeypatch, step):
    save_model(models["plain"], path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        save_model(models["asinh"], path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_manifest_is_readable_by_anyone(whole):
    """What the documentation says of the file: JSON in the header of safetensors."""
    header, manifest, _ = take_apart(whole)
    assert set(header) == {"__metadata__", *names_of_arrays(manifest)}
    assert json.loads(header["__metadata__"]["manifest"])["format"] == "sklcae"


def names_of_arrays(tree):
    return {way[-1] and at(tree, way) for way in places(tree)
            if way[-1] in ("array", "scalar")}  # fmt: skip
