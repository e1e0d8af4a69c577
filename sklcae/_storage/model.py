"""Save a fitted estimator to one file, and load it without trusting the file.

The file is described in `sklcae._storage.archive`: arrays, and a manifest of plain
values. The manifest names the class, one of `CLASSES`; no name in it is imported and
nothing in it is executed. Everything that is loaded is checked before a network is
built: the parameters by the estimator's own constraints, the fitted attributes by the
table `FITTED` and against each other, and the weights against the shapes of the
network. Types and shapes are checked a first time before the arrays are read, so that a
small file cannot claim large arrays.

A new constructor parameter needs nothing here. A new fitted attribute needs a line in
`FITTED`; without it saving raises. The rules must allow arrays of ones, which stand for
the arrays that are not read yet.
"""

import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from math import prod
from types import SimpleNamespace

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklcae._codec import architecture_of as architecture_of_codec
from sklcae._inputs import Layout, target_names_of
from sklcae._novelty import (
    MAX_IMAGES,
    N_STATISTICS,
    TrainingRange,
    planes_with_range,
)
from sklcae._planes import check_psf, is_kinds
from sklcae._profile_training import parameters_of_layout
from sklcae._scaling import LIMITS, STRETCHES
from sklcae._storage.archive import (
    naming_file,
    read_archive,
    short_repr,
    write_archive,
)
from sklcae._storage.rules import (
    ARRAYS,
    BOOL,
    COUNT,
    DICT,
    DOUBLES,
    FLOATS,
    SEED,
    SINGLES,
    TEXT,
    TRUE,
    Rule,
    check_table,
    is_array,
    is_count,
    is_integer,
    is_names,
    is_positive,
    none_or,
    wrong_arrays,
)
from sklcae._storage.values import pack, unpack
from sklcae._torch import NETWORKS, name_of, weight_specs
from sklcae._torch.training import HISTORY
from sklcae._version import __version__
from sklcae._warning import warn_user
from sklcae.exceptions import ModelFileError

KIND = "fitted model"
# The classes that a file may hold, and the modules that they are imported from.
CLASSES = {
    "ConditionalAutoencoderRegressor": "sklcae._conditional_autoencoder",
    "ProfileFitRegressor": "sklcae._profile_fit",
}
# The modules that know the content of a class, by `content_of`, `check_content` and
# `make_model`.
CONTENTS = {
    "ConditionalAutoencoderRegressor": "sklcae._storage.model",
    "ProfileFitRegressor": "sklcae._storage.profile_fit",
}
PACKAGES = ("numpy", "scikit-learn", "torch")

# Parameters that name files on this machine: a saved model does not decide them.
LOCAL_PARAMETERS = {"checkpoint"}
# The optimizer of partial_fit; a loaded model begins with a new one.
TRAINING_ATTRIBUTES = {"_optimizer_state_"}
# Attributes in which scikit-learn keeps objects of its own.
OBJECT_ATTRIBUTES = {"_metadata_request", "_skl_callbacks"}


def save_model(model, path):
    """Save a fitted estimator to one file, see its method ``save``.

    Parameters that are not plain values are left out with a warning, and ``checkpoint``
    without one; a loaded model has their defaults. TypeError is raised for another
    class or an attribute that is not a plain value. ValueError is raised if the model
    could not be loaded again, for example because its network is not registered.
    """
    name = _name_of_class(model)
    check_is_fitted(model)
    contents = import_module(CONTENTS[name])
    content, tensors = pack(contents.content_of(model))
    manifest = {
        "kind": KIND,
        "class": name,
        "versions": _versions(),
        "content": content,
    }
    try:
        contents.make_model(_check_file(manifest, tensors))
    except ModelFileError as error:
        raise ValueError(f"This {name} cannot be saved: {error}.") from None
    write_archive(path, manifest, tensors)


def load_model(path, name=None):
    """Load an estimator of the class with this name. Safe for untrusted files.

    None takes the class that the file has. ModelFileError is raised unless it is a
    whole model of this class that this version can load.
    """
    manifest, tensors = read_archive(path, _check_file)
    with naming_file(path):
        content = _check_file(manifest, tensors)
        held = manifest["class"]
        if name not in (held, None):
            raise ModelFileError(
                f"it holds a {held}, which the method 'load' of that class reads"
            )
        return import_module(CONTENTS[held]).make_model(content)


# Saving -------------------------------------------------------------------------


def _name_of_class(model):
    name = type(model).__name__
    if name not in CLASSES or type(model) is not class_of(name):
        raise TypeError(f"The model must be one of {list(CLASSES)}. Got {type(model)}.")
    return name


def class_of(name):
    return getattr(import_module(CLASSES[name]), name)


def content_of(model):
    """Return the parameters and the fitted attributes that a file can hold."""
    state = model.__getstate__()
    parameters = {name: state.pop(name) for name in model.get_params(deep=False)}
    for name in ("gain", "psf"):
        if np.ndim(parameters[name]) == 1:
            parameters[name] = np.asarray(parameters[name], dtype=float).tolist()
    if np.ndim(parameters["psf"]) > 1:
        # The codec has it.
        del parameters["psf"]
    for part in (parameters, state["codec_"]):
        part["network"] = _registered_name(part["network"])
    left_out = [
        *(name for name in parameters if not is_plain(parameters[name])),
        *OBJECT_ATTRIBUTES.intersection(state),
    ]
    left_out = [name for name in left_out if name not in LOCAL_PARAMETERS]
    warn_of_left_out(left_out)
    hidden = {*left_out, *LOCAL_PARAMETERS, *TRAINING_ATTRIBUTES, *OBJECT_ATTRIBUTES}
    # Sorted, so that equal models make equal files.
    return {
        "parameters": _without(parameters, hidden),
        "fitted": dict(sorted(_without(state, hidden).items())),
    }


def warn_of_left_out(names):
    """Warn of parameters that a file cannot hold."""
    if names:
        warn_user(
            f"{names} are not saved, since they are not plain values. A model that is "
            "loaded from the file has their defaults."
        )


def _registered_name(network):
    name = name_of(network)
    if name is None:
        raise ValueError(
            "The 'network' of a model that is saved must have a name, since a file "
            "holds no code: register it by sklcae.networks.register_network. Got "
            f"{short_repr(network)}."
        )
    return name


def _without(values, names):
    return {name: value for name, value in values.items() if name not in names}


def is_plain(value):
    """Return whether a value is made of plain values, without arrays."""
    try:
        _, arrays = pack(value)
    except TypeError:
        return False
    return not any(array.ndim for array in arrays.values())


def _versions():
    versions = {"sklcae": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions


# The table ----------------------------------------------------------------------


def _is_shape(value):
    return isinstance(value, tuple) and all(map(is_count, value))


def _is_columns(value):
    return (
        isinstance(value, tuple)
        and all(is_integer(column) and column >= 0 for column in value)
        and list(value) == sorted(set(value))
    )


def _is_history(value):
    """Return whether this is a history as a training writes it."""
    if not isinstance(value, dict) or not {"epoch"} <= value.keys() <= HISTORY.keys():
        return False
    epochs = value["epoch"]
    return (
        isinstance(epochs, list)
        and len(epochs) > 0
        and all(map(is_count, epochs))
        and epochs == list(range(1, len(epochs) + 1))
        and all(
            isinstance(column, list)
            and len(column) == len(epochs)
            and all(isinstance(entry, float) for entry in column)
            for name, column in value.items()
            if name != "epoch"
        )
    )


def _is_gain(value):
    if isinstance(value, tuple):
        return len(value) > 0 and all(map(is_positive, value))
    return is_positive(value)


def _is_target_names(value):
    try:
        return is_names(value) and value == target_names_of(
            SimpleNamespace(columns=value)
        )
    except ValueError:
        return False


def _is_seen(value):
    """Return whether this is a number of samples, or an array of such."""
    return is_array(value, np.float64, np.int64) or is_positive(value)


def _is_output_config(value):
    return isinstance(value, dict) and all(
        name == "transform" and isinstance(kind, str) for name, kind in value.items()
    )


# The fitted attributes, with the state of the codec.
FITTED: dict = {
    "codec_": {
        "layout": {
            "image_shape": Rule(
                "three positive integers",
                lambda value: _is_shape(value) and len(value) == 3,
            ),
            "sample_shape": Rule("a tuple of positive integers", _is_shape),
            "n_targets": COUNT,
            "y_ndim": Rule("1 or 2", lambda v: is_integer(v) and v in (1, 2)),
            "target_names": none_or("a list of different names", _is_target_names),
            "feature_names": none_or("a list of str", is_names),
            "planes": Rule("a tuple of kinds of planes", is_kinds),
        },
        "image_scaler": {
            "stretch": Rule(
                f"one of {list(STRETCHES)}",
                lambda value: isinstance(value, str) and value in STRETCHES,
            ),
            "softening": none_or("a positive number", is_positive),
            "limits": Rule(
                f"one of {list(LIMITS)}",
                lambda value: isinstance(value, str) and value in LIMITS,
            ),
            "lower_fence_": FLOATS,
            "upper_fence_": FLOATS,
            "sky_": FLOATS,
            "background_": FLOATS,
            "softening_": FLOATS,
            "minimum_": FLOATS,
            "range_": FLOATS,
            "noise_": FLOATS,
        },
        "target_scaler": {
            "with_mean": TRUE,
            "with_std": TRUE,
            "copy": BOOL,
            "n_features_in_": COUNT,
            "n_samples_seen_": Rule("a positive number or an array", _is_seen),
            "mean_": DOUBLES,
            "var_": DOUBLES,
            "scale_": DOUBLES,
            "logarithmic": Rule("a tuple of different columns", _is_columns),
        },
        "gain": none_or("a positive number, or a tuple of such", _is_gain),
        "pixel_scale": none_or("a positive number", is_positive),
        "psf": none_or("an array of float64", lambda v: is_array(v, np.float64)),
        "guess": none_or("an array of float64", lambda v: is_array(v, np.float64)),
        "network": TEXT,
        "latent_dim": COUNT,
        "predicts_variance": BOOL,
        "seed": SEED,
        "weights": ARRAYS,
        "training_range": {
            "lowest": DOUBLES,
            "highest": DOUBLES,
            "targets": DOUBLES,
        },
        "reference": {
            "latents": SINGLES,
            "misfits": SINGLES,
            "variances": SINGLES._replace(required=False),
        },
        "error_scale": DOUBLES,
    },
    "history_": Rule("a dict of lists of floats, with the epochs", _is_history),
    "best_epoch_": Rule("an integer", is_integer, required=False),
    "_sklearn_output_config": Rule("a dict of str", _is_output_config, required=False),
}
MANIFEST = {
    "kind": Rule(f"{KIND!r}", lambda value: value == KIND),
    "class": Rule(
        f"one of {list(CLASSES)}",
        lambda value: isinstance(value, str) and value in CLASSES,
    ),
    "versions": Rule(
        "a dict of str",
        lambda value: isinstance(value, dict) and is_names(list(value.values())),
    ),
    "content": DICT,
}
CONTENT = {"parameters": DICT, "fitted": DICT}


# Checking -----------------------------------------------------------------------


def _check_file(manifest, tensors):
    """Return the content of a file; parameters are not yet checked by their values."""
    check_table(manifest, MANIFEST, "its manifest")
    content = unpack(manifest["content"], tensors)
    contents = import_module(CONTENTS[manifest["class"]])
    contents.check_content(content, manifest["versions"].get("sklcae"))
    return content


def check_content(content, version):
    """Raise ModelFileError unless this is the content of a fitted autoencoder."""
    check_table(content, CONTENT, "its content")
    check_parameters("ConditionalAutoencoderRegressor", content["parameters"], version)
    _check_network(content["parameters"])
    check_table(content["fitted"], FITTED, "the fitted model")
    for problem in _contradictions(content["fitted"]):
        raise ModelFileError(problem)


def check_parameters(name, parameters, version):
    """Raise ModelFileError unless a class has such parameters, plain values."""
    known = set(class_of(name)().get_params(deep=False)) - LOCAL_PARAMETERS
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise ModelFileError(
            f"it has the parameters {short_repr(unknown)}, which sklcae {__version__} "
            "does not know; it was saved by sklcae "
            f"{short_repr(version)}"
        )
    for name, value in parameters.items():
        if not is_plain(value):
            raise ModelFileError(f"its parameter {name!r} must not hold arrays")


def _check_network(parameters):
    network = parameters.get("network")
    if isinstance(network, str) and network not in NETWORKS:
        raise ModelFileError(
            f"its 'network' is {short_repr(network)}, which must be registered by "
            "sklcae.networks.register_network before the model is loaded"
        )


def make_model(content):
    """Return the fitted model of a checked content."""
    parameters, codec = content["parameters"], content["fitted"]["codec_"]
    check_psf_values(codec["psf"], Layout(**codec["layout"]))
    if codec["psf"] is not None and "psf" not in parameters:
        [psf] = codec["psf"]
        parameters = parameters | {"psf": psf[0] if len(psf) == 1 else psf}
    model = make_unfitted("ConditionalAutoencoderRegressor", parameters)
    model.__setstate__(content["fitted"])
    return model


def make_unfitted(name, parameters):
    """Return an unfitted model of a class, whose parameters are checked."""
    model = class_of(name)(**parameters)
    try:
        model._validate_params()
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"its parameters are wrong: {error}") from None
    return model


def _contradictions(fitted):
    """Yield the errors in fitted attributes that are each of the right type."""
    codec, n_epochs = fitted["codec_"], len(fitted["history_"]["epoch"])
    if not 0 <= fitted.get("best_epoch_", 0) <= n_epochs:
        yield f"best_epoch_ is {fitted['best_epoch_']} of {n_epochs} epochs"
    yield from wrong_codec(codec)
    architecture = architecture_of(codec)
    try:
        specs = weight_specs(codec["network"], architecture)
    except ValueError as error:
        raise ModelFileError(str(error)) from None
    yield from wrong_arrays("weights", codec["weights"], specs)
    yield from _wrong_reference(codec["reference"], architecture)


def architecture_of(codec):
    """Return the architecture in the state of a codec."""
    parts = SimpleNamespace(**codec)
    parts.layout = Layout(**codec["layout"])
    if codec.get("training_range"):
        parts.training_range = TrainingRange(**codec["training_range"])
    if codec["guess"] is not None:
        parts.image_scaler = SimpleNamespace(**codec["image_scaler"])
        parts.target_scaler = SimpleNamespace(**codec["target_scaler"])
    return architecture_of_codec(parts)


def wrong_codec(codec):
    """Yield the errors in the state of a codec, its weights and reference apart."""
    layout = Layout(**codec["layout"])
    yield from wrong_layout(*layout)
    n_bands = layout.band_shape[0]
    yield from _wrong_gain(codec["gain"], n_bands, layout)
    yield from wrong_psf(codec["psf"], layout)
    yield from _wrong_guess(codec["guess"], codec["pixel_scale"], layout)
    yield from _wrong_image_scaler(codec["image_scaler"], n_bands)
    yield from _wrong_target_scaler(codec["target_scaler"], layout.n_targets)
    yield from _wrong_range(codec["training_range"], n_bands, layout)
    yield from _wrong_error_scale(codec["error_scale"], layout.n_targets)


def _wrong_gain(gain, n_bands, layout):
    if gain is None and "variance" not in layout.planes:
        yield f"gain is None, but the planes are {layout.planes}"
    if isinstance(gain, tuple) and len(gain) != n_bands:
        yield f"gain has {len(gain)} numbers for {n_bands} bands"


def wrong_psf(psf, layout):
    """Yield the errors in the PSF of all stamps, or None."""
    if psf is None:
        return
    if layout.has_psf:
        yield f"psf must be None for the planes {layout.planes}"
    if psf.shape != (1, *layout.band_shape):
        yield f"psf must have the shape {(1, *layout.band_shape)}, not {psf.shape}"


def check_psf_values(psf, layout):
    """Raise ModelFileError unless a PSF, if there is one, can be used."""
    try:
        if psf is not None:
            check_psf(psf, 1, layout.band_shape)
    except ValueError as error:
        raise ModelFileError(str(error)) from None


def _wrong_guess(guess, pixel_scale, layout):
    if guess is None:
        return
    if pixel_scale is None or layout.target_names is None:
        yield "guess needs a pixel_scale and target_names"
    try:
        shape = 2, len(parameters_of_layout(layout).names)
    except ValueError as error:
        yield str(error)
        return
    if guess.shape != shape:
        yield f"guess must have the shape {shape}, not {guess.shape}"
    elif not (np.isfinite(guess).all() and (guess[1] > 0).all()):
        yield "guess must be finite, with positive spreads"


def wrong_layout(
    image_shape, sample_shape, n_targets, y_ndim, target_names, feature_names, planes
):
    n_features = prod(image_shape)
    if image_shape[0] % len(planes):
        yield f"image_shape is {image_shape} for the planes {planes}"
    shapes = [(n_features,), image_shape] + [image_shape[1:]] * (image_shape[0] == 1)
    if sample_shape not in shapes:
        yield f"sample_shape is {sample_shape}, but image_shape is {image_shape}"
    if target_names is not None and len(target_names) != n_targets:
        yield f"target_names has {len(target_names)} names for {n_targets} targets"
    if feature_names is not None and len(feature_names) != n_features:
        yield f"feature_names has {len(feature_names)} names for {n_features} pixels"
    if y_ndim == 1 and n_targets != 1:
        yield f"y_ndim is 1 for {n_targets} targets"


def _wrong_image_scaler(scaler, n_channels):
    arrays = {name: value for name, value in scaler.items() if name[-1] == "_"}
    for name, array in arrays.items():
        if array.shape != (n_channels, 1, 1):
            yield f"{name} of image_scaler has the shape {array.shape}"
    if len({array.dtype for array in arrays.values()}) != 1:
        yield "image_scaler has arrays of different types"
    for name in ("range_", "softening_", "noise_"):
        if not (arrays[name] > 0).all():
            yield f"{name} of image_scaler must be positive"
    if scaler["stretch"] == "asinh" and (arrays["sky_"] != arrays["background_"]).any():
        yield "sky_ and background_ of image_scaler must be the same with 'asinh'"


def _wrong_target_scaler(scaler, n_targets):
    if scaler["n_features_in_"] != n_targets:
        yield f"n_features_in_ of target_scaler must be {n_targets}"
    for name in ("mean_", "var_", "scale_"):
        if scaler[name].shape != (n_targets,):
            yield f"{name} of target_scaler has the shape {scaler[name].shape}"
    if np.shape(scaler["n_samples_seen_"]) not in ((), (n_targets,)):
        yield "n_samples_seen_ of target_scaler has another length"
    if any(column >= n_targets for column in scaler["logarithmic"]):
        yield f"logarithmic of target_scaler must be columns of {n_targets} targets"
    if not np.all(scaler["n_samples_seen_"] > 0):
        yield "n_samples_seen_ of target_scaler must be positive"
    if not ((scaler["scale_"] > 0).all() and (scaler["var_"] >= 0).all()):
        yield "scale_ and var_ of target_scaler must be positive"


def _wrong_range(ranges, n_bands, layout):
    shape = N_STATISTICS + len(planes_with_range(layout.planes)), n_bands
    shapes = {"lowest": shape, "highest": shape, "targets": (2, layout.n_targets)}
    for name, wanted in shapes.items():
        if ranges[name].shape != wanted:
            yield f"{name} of training_range must have the shape {wanted}"
            return
    if (ranges["lowest"] > ranges["highest"]).any() or (
        ranges["targets"][0] > ranges["targets"][1]
    ).any():
        yield "training_range must not end before it begins"


def _wrong_error_scale(scale, n_targets):
    if scale.shape != (n_targets,) or not (scale > 0).all():
        yield f"error_scale must be {n_targets} positive numbers"


def _wrong_reference(reference, architecture):
    n_images = len(reference["latents"]) if reference["latents"].ndim else 0
    if not 0 < n_images <= MAX_IMAGES:
        yield f"reference must have 1 to {MAX_IMAGES} images, not {n_images}"
    widths = {"latents": architecture.latent_dim, "misfits": 2}
    if architecture.predicts_variance:
        widths["variances"] = architecture.n_targets
    if reference.keys() != widths.keys():
        yield f"reference must have {list(widths)}, not {list(reference)}"
    for name, width in widths.items():
        if reference[name].shape != (n_images, width):
            yield (
                f"{name} of reference must have the shape {(n_images, width)}, not "
                f"{reference[name].shape}"
            )
        if name != "latents" and not (reference[name] >= 0).all():
            yield f"{name} of reference must not be negative"
