"""Save a fitted estimator to one file, and load it without trusting the file.

What is in such a file is said in `sklcae._archive`: arrays, and a manifest of plain
values. The manifest names the class, one of `CLASSES`; no name in it is imported and
nothing in it is run. All that is loaded is checked before a network is built: the
parameters by the estimator's own constraints, the fitted attributes by the tables below
and against each other, and the weights against the shapes that the network asks for.

A new constructor parameter needs nothing here. A new fitted attribute needs a line in
`FITTED`; without it saving raises.
"""

import platform
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from math import prod
from numbers import Integral, Real
from reprlib import repr as short_repr
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklcae._archive import naming_file, read_archive, write_archive
from sklcae._images import STRETCHES
from sklcae._plain_values import pack, unpack
from sklcae._reference import MAX_IMAGES
from sklcae._targets import target_names_of
from sklcae._torch._shapes import weight_shapes
from sklcae._version import __version__
from sklcae.exceptions import ModelFileError

__all__ = ["load_model", "save_model"]

KIND = "fitted model"
# What may be in a file, and where it is imported from when it is first needed.
CLASSES = {"ConditionalAutoencoderRegressor": "sklcae._conditional_autoencoder"}
PACKAGES = ("numpy", "scikit-learn", "torch")

# Parameters that say where to write on this machine: a file does not decide that.
LOCAL_PARAMETERS = {"checkpoint"}
# What a training goes on with; a loaded model begins with a new optimizer.
TRAINING_ATTRIBUTES = {"_optimizer_state_", "_training_state_"}
# What scikit-learn keeps as objects of its own.
OBJECT_ATTRIBUTES = {"_metadata_request", "_skl_callbacks"}


def save_model(model, path):
    """Save a fitted estimator to one file.

    The file is a safetensors file without pickled objects. Parameters that are no
    plain values, such as a RandomState as `random_state`, are left out with a warning,
    and `checkpoint` without one; a loaded model has their defaults. The file is
    replaced in one step: whatever happens, it is the old one or the new one.

    Parameters
    ----------
    model : ConditionalAutoencoderRegressor
        The fitted estimator.
    path : str or path-like
        The file. A temporary file ``.sklcae-<16 digits>.tmp`` beside it is left over
        only where the process is killed, and may then be removed.

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    TypeError
        If the model is of another class, or an attribute is no plain value.
    ValueError
        If the model has parameters or attributes that could not be loaded again.
    OSError
        If the file cannot be written.
    """
    name = _name_of_class(model)
    check_is_fitted(model)
    parameters, fitted = _split_state(model)
    content, tensors = pack({"parameters": parameters, "fitted": fitted})
    manifest = {
        "kind": KIND,
        "class": name,
        "versions": _versions(),
        "content": content,
    }
    try:
        _check_content(manifest, tensors)
    except ModelFileError as error:
        raise ValueError(f"This {name} cannot be saved: {error}.") from None
    write_archive(path, manifest, tensors)


def load_model(path):
    """Load an estimator that `save_model` has saved, from anyone.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    ConditionalAutoencoderRegressor
        The fitted estimator.

    Raises
    ------
    ModelFileError
        If the file does not hold a whole model that this version can load.
    OSError
        If it cannot be read; FileNotFoundError if there is none.
    """
    manifest, tensors = read_archive(path)
    with naming_file(path):
        model, fitted = _check_content(manifest, tensors)
    model.__setstate__(fitted)
    return model


# Saving -------------------------------------------------------------------------


def _name_of_class(model):
    name = type(model).__name__
    if name not in CLASSES or type(model) is not _class_of_name(name):
        raise TypeError(f"The model must be one of {list(CLASSES)}. Got {type(model)}.")
    return name


def _class_of_name(name):
    return getattr(import_module(CLASSES[name]), name)


def _split_state(model):
    """Return the parameters and the fitted attributes that a file can hold."""
    state = model.__getstate__()
    parameters = {name: state.pop(name) for name in model.get_params(deep=False)}
    left_out = [
        *(name for name in parameters if not _is_plain(parameters[name])),
        *OBJECT_ATTRIBUTES.intersection(state),
    ]
    left_out = [name for name in left_out if name not in LOCAL_PARAMETERS]
    if left_out:
        warnings.warn(
            f"{left_out} are not saved, since they are no plain values. A model that "
            "is loaded from the file has their defaults.",
            UserWarning,
            stacklevel=4,
        )
    hidden = {*left_out, *LOCAL_PARAMETERS, *TRAINING_ATTRIBUTES, *OBJECT_ATTRIBUTES}
    # Sorted, so that the same model makes the same file whatever became of it.
    return _without(parameters, hidden), dict(sorted(_without(state, hidden).items()))


def _without(values, names):
    return {name: value for name, value in values.items() if name not in names}


def _is_plain(value):
    try:
        pack(value)
    except TypeError:
        return False
    return True


def _versions():
    versions = {"sklcae": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions


# The tables ---------------------------------------------------------------------


class Rule(NamedTuple):
    """What a value must be, in words and as a function."""

    what: str
    holds: Callable
    required: bool = True


def _is_count(value):
    return _is_integer(value) and 0 < value < 2**63


def _is_integer(value):
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def _is_positive(value):
    return _is_number(value) and 0 < value < np.inf


def _is_shape(value):
    return isinstance(value, tuple) and all(map(_is_count, value))


def _is_table(value):
    """Tell whether this is a dict of lists of numbers, as many in each."""
    return (
        isinstance(value, dict)
        and all(isinstance(column, list) for column in value.values())
        and len({len(column) for column in value.values()}) == 1
        and all(_is_number(entry) for column in value.values() for entry in column)
        and all(map(_is_count, value.get("epoch", [None])))
    )


def _is_names(value):
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_target_names(value):
    try:
        return _is_names(value) and value == target_names_of(
            SimpleNamespace(columns=value)
        )
    except ValueError:
        return False


def _is_array(value, *dtypes):
    return isinstance(value, np.ndarray) and value.dtype in dtypes


def _is_floats(value):
    return _is_array(value, np.float32, np.float64)


def _is_singles(value):
    return _is_array(value, np.float32)


def _is_doubles(value):
    return _is_array(value, np.float64)


def _is_seen(value):
    """Tell whether this is a number of samples, or one for each target."""
    if isinstance(value, np.ndarray):
        return _is_array(value, np.float64, np.int64) and bool((value > 0).all())
    return _is_positive(value)


def _is_weights(value):
    return isinstance(value, dict) and all(map(_is_singles, value.values()))


def _is_output_config(value):
    return isinstance(value, dict) and all(
        name == "transform" and isinstance(kind, str) for name, kind in value.items()
    )


FITTED = {
    "n_features_in_": Rule("a positive integer", _is_count),
    "feature_names_in_": Rule("a list of str", _is_names, required=False),
    "image_shape_": Rule(
        "three positive integers", lambda value: _is_shape(value) and len(value) == 3
    ),
    "_input_shape_": Rule("a tuple of positive integers", _is_shape),
    "n_targets_": Rule("a positive integer", _is_count),
    "target_names_": Rule(
        "None or a list of different names",
        lambda value: value is None or _is_target_names(value),
    ),
    "_y_ndim_": Rule("1 or 2", lambda value: _is_integer(value) and value in (1, 2)),
    "image_scaler_": Rule("a dict", lambda value: isinstance(value, dict)),
    "target_scaler_": Rule("a dict", lambda value: isinstance(value, dict)),
    "_architecture_": Rule("a dict", lambda value: isinstance(value, dict)),
    "net_": Rule("a dict of float32 arrays", _is_weights),
    "_gain_": Rule("a positive number", _is_positive),
    "_reference_": Rule("a dict", lambda value: isinstance(value, dict)),
    "history_": Rule("a dict of lists of numbers, with the epochs", _is_table),
    "n_iter_": Rule("a positive integer", _is_count),
    "best_epoch_": Rule("an integer", _is_integer, required=False),
    "_sklearn_output_config": Rule("a dict of str", _is_output_config, required=False),
}
IMAGE_SCALER = {
    "stretch": Rule(
        f"one of {list(STRETCHES)}",
        lambda value: isinstance(value, str) and value in STRETCHES,
    ),
    "softening": Rule(
        "None or a positive number", lambda value: value is None or _is_positive(value)
    ),
    "sky_": Rule("an array of floats", _is_floats),
    "background_": Rule("an array of floats", _is_floats),
    "softening_": Rule("an array of floats", _is_floats),
    "minimum_": Rule("an array of floats", _is_floats),
    "range_": Rule("an array of floats", _is_floats),
    "noise_": Rule("an array of floats", _is_floats),
}
TARGET_SCALER = {
    "with_mean": Rule("True", lambda value: value is True),
    "with_std": Rule("True", lambda value: value is True),
    "copy": Rule("True or False", lambda value: isinstance(value, bool)),
    "n_features_in_": Rule("a positive integer", _is_count),
    "n_samples_seen_": Rule("positive", _is_seen),
    "mean_": Rule("an array of float64", _is_doubles),
    "var_": Rule("an array of float64", _is_doubles),
    "scale_": Rule("an array of float64", _is_doubles),
}
ARCHITECTURE = {
    "network": Rule("a str", lambda value: isinstance(value, str)),
    "image_shape": Rule("a tuple of positive integers", _is_shape),
    "n_targets": Rule("a positive integer", _is_count),
    "latent_dim": Rule("a positive integer", _is_count),
    "predicts_variance": Rule("True or False", lambda value: isinstance(value, bool)),
}
REFERENCE = {
    "latents": Rule("an array of float32", _is_singles),
    "misfits": Rule("an array of float32", _is_singles),
    "variances": Rule("an array of float32", _is_singles, required=False),
}
MANIFEST = {
    "kind": Rule(f"{KIND!r}", lambda value: value == KIND),
    "class": Rule(
        f"one of {list(CLASSES)}",
        lambda value: isinstance(value, str) and value in CLASSES,
    ),
    "versions": Rule(
        "a dict of str",
        lambda value: isinstance(value, dict) and _is_names(list(value.values())),
    ),
    "content": Rule("a dict", lambda value: isinstance(value, dict)),
}
CONTENT = {
    "parameters": Rule("a dict", lambda value: isinstance(value, dict)),
    "fitted": Rule("a dict", lambda value: isinstance(value, dict)),
}


# Checking -----------------------------------------------------------------------


def _check_content(manifest, tensors):
    """Return an unfitted model and the checked state that makes it a fitted one."""
    _check_table(manifest, MANIFEST, "its manifest")
    content = unpack(manifest["content"], tensors)
    _check_table(content, CONTENT, "its content")
    model = _make_model(manifest, content["parameters"])
    fitted = content["fitted"]
    _check_table(fitted, FITTED, "the fitted model")
    _check_table(fitted["image_scaler_"], IMAGE_SCALER, "image_scaler_")
    _check_table(fitted["target_scaler_"], TARGET_SCALER, "target_scaler_")
    _check_table(fitted["_architecture_"], ARCHITECTURE, "_architecture_")
    _check_table(fitted["_reference_"], REFERENCE, "_reference_")
    for problem in _contradictions(fitted):
        raise ModelFileError(problem)
    _check_weights(fitted["net_"], fitted["_architecture_"])
    for problem in _wrong_reference(fitted["_reference_"], fitted["_architecture_"]):
        raise ModelFileError(problem)
    return model, fitted


def _check_table(values, rules, what):
    if not isinstance(values, dict):
        raise ModelFileError(f"{what} is not a dict")
    for name, rule in rules.items():
        if name in values and not rule.holds(values[name]):
            raise ModelFileError(
                f"{name!r} in {what} must be {rule.what}, not "
                f"{short_repr(values[name])}"
            )
    missing = [n for n, rule in rules.items() if rule.required and n not in values]
    unknown = [name for name in values if name not in rules]
    if missing or unknown:
        raise ModelFileError(
            f"{what} lacks {short_repr(missing)} and has {short_repr(unknown)}, which "
            f"sklcae {__version__} does not know"
        )


def _make_model(manifest, parameters):
    model_class = _class_of_name(manifest["class"])
    known = set(model_class().get_params(deep=False)) - LOCAL_PARAMETERS
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise ModelFileError(
            f"it has the parameters {short_repr(unknown)}, which sklcae {__version__} "
            "does not know; it was saved by sklcae "
            f"{short_repr(manifest['versions'].get('sklcae'))}"
        )
    model = model_class(**parameters)
    try:
        model._validate_params()
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"its parameters are wrong: {error}") from None
    return model


def _contradictions(fitted):
    """Yield what is wrong in fitted attributes that are each of the right type."""
    yield from _wrong_shapes(fitted)
    yield from _wrong_lengths(fitted)
    yield from _wrong_image_scaler(fitted["image_scaler_"], fitted["image_shape_"][0])
    yield from _wrong_target_scaler(fitted["target_scaler_"], fitted["n_targets_"])


def _wrong_shapes(fitted):
    shape, n_features = fitted["image_shape_"], fitted["n_features_in_"]
    layouts = [(n_features,), shape] + [shape[1:]] * (shape[0] == 1)
    if prod(shape) != n_features:
        yield f"n_features_in_ is {n_features}, but image_shape_ is {shape}"
    if fitted["_input_shape_"] not in layouts:
        yield f"_input_shape_ is {fitted['_input_shape_']}, but image_shape_ is {shape}"
    for name, attribute in (
        ("image_shape", "image_shape_"),
        ("n_targets", "n_targets_"),
    ):
        if fitted["_architecture_"][name] != fitted[attribute]:
            yield f"_architecture_ has another {name} than {attribute} says"


def _wrong_lengths(fitted):
    n_targets, n_epochs = fitted["n_targets_"], fitted["n_iter_"]
    names, features = fitted["target_names_"], fitted.get("feature_names_in_")
    if names is not None and len(names) != n_targets:
        yield f"target_names_ has {len(names)} names for {n_targets} targets"
    if features is not None and len(features) != fitted["n_features_in_"]:
        yield f"feature_names_in_ has {len(features)} names, n_features_in_ is another"
    if fitted["_y_ndim_"] == 1 and n_targets != 1:
        yield f"_y_ndim_ is 1 for {n_targets} targets"
    if len(fitted["history_"]["epoch"]) != n_epochs:
        yield f"history_ has another number of epochs than n_iter_, {n_epochs}"
    if not 0 <= fitted.get("best_epoch_", 0) <= n_epochs:
        yield f"best_epoch_ is {fitted['best_epoch_']} of {n_epochs} epochs"


def _wrong_image_scaler(scaler, n_channels):
    arrays = {name: value for name, value in scaler.items() if name[-1] == "_"}
    for name, array in arrays.items():
        if array.shape != (n_channels, 1, 1):
            yield f"{name} of image_scaler_ has the shape {array.shape}"
    if len({array.dtype for array in arrays.values()}) != 1:
        yield "image_scaler_ has arrays of different types"
    for name in ("range_", "softening_", "noise_"):
        if not (arrays[name] > 0).all():
            yield f"{name} of image_scaler_ must be positive"
    if scaler["stretch"] == "asinh" and (arrays["sky_"] != arrays["background_"]).any():
        yield "sky_ and background_ of image_scaler_ must be the same with 'asinh'"


def _wrong_target_scaler(scaler, n_targets):
    if scaler["n_features_in_"] != n_targets:
        yield f"n_features_in_ of target_scaler_ must be {n_targets}"
    for name in ("mean_", "var_", "scale_"):
        if scaler[name].shape != (n_targets,):
            yield f"{name} of target_scaler_ has the shape {scaler[name].shape}"
    if np.shape(scaler["n_samples_seen_"]) not in ((), (n_targets,)):
        yield "n_samples_seen_ of target_scaler_ has another length"
    if not ((scaler["scale_"] > 0).all() and (scaler["var_"] >= 0).all()):
        yield "scale_ and var_ of target_scaler_ must be positive"


def _wrong_reference(reference, architecture):
    n_images = len(reference["latents"]) if reference["latents"].ndim else 0
    if not 0 < n_images <= MAX_IMAGES:
        yield f"_reference_ must be of 1 to {MAX_IMAGES} images, not {n_images}"
    widths = {"latents": architecture["latent_dim"], "misfits": 2}
    if architecture["predicts_variance"]:
        widths["variances"] = architecture["n_targets"]
    if reference.keys() != widths.keys():
        yield f"_reference_ must have {list(widths)}, not {list(reference)}"
    for name, width in widths.items():
        if reference[name].shape != (n_images, width):
            yield (
                f"{name} of _reference_ must have the shape {(n_images, width)}, not "
                f"{reference[name].shape}"
            )
        if name != "latents" and not (reference[name] >= 0).all():
            yield f"{name} of _reference_ must not be negative"


def _check_weights(weights, architecture):
    try:
        shapes = weight_shapes(**architecture)
    except ValueError as error:
        raise ModelFileError(str(error)) from None
    found = {name: array.shape for name, array in weights.items()}
    wrong = sorted(
        name for name in {*found, *shapes} if found.get(name) != shapes.get(name)
    )
    if wrong:
        raise ModelFileError(
            f"its weights {short_repr(wrong)} are missing, unknown, or not of the "
            "shape that the network asks for"
        )
