"""The content of a file with a `ProfileFitRegressor`, and the rules for it.

The file holds the estimator that the fits start from, too.
"""

from dataclasses import fields

import numpy as np

from sklcae._codec import usable_device
from sklcae._inputs import Layout
from sklcae._noise import is_correlation
from sklcae._profile_fitter import ProfileFitter, are_bounds
from sklcae._profiles import ProfileParameters
from sklcae._storage import model as autoencoder
from sklcae._storage.archive import short_repr
from sklcae._storage.rules import (
    COUNT,
    DICT,
    Rule,
    check_table,
    is_array,
    is_positive,
    none_or,
)
from sklcae.exceptions import ModelFileError

NAME = "ProfileFitRegressor"
ESTIMATOR = "ConditionalAutoencoderRegressor"
# Of these parameters the content has a part of its own.
APART = ("estimator", "psf", "noise_correlation")


def is_gain(value):
    """Return whether this is a positive number, or a tuple of them."""
    return is_positive(value) or (isinstance(value, tuple) and is_noise(list(value)))


def is_noise(value):
    """Return whether this is a list of positive numbers."""
    return isinstance(value, list) and bool(value) and all(map(is_positive, value))


def is_count_or_zero(value):
    """Return whether this is an int of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


CONTENT = {
    "parameters": DICT,
    "fitted": DICT,
    "estimator": none_or("a dict", lambda value: isinstance(value, dict)),
}
FITTED = {
    "layout": autoencoder.FITTED["codec_"]["layout"],
    "pixel_scale": Rule("a positive number", is_positive),
    "gain": none_or("a positive number, or one for each band", is_gain),
    "noise": none_or("a list of positive numbers", is_noise),
    "psf": none_or("an array of float64", lambda v: is_array(v, np.float64)),
    "bounds": DICT,
    "fit_sky": Rule(
        "True, False or a positive number",
        lambda value: isinstance(value, bool) or is_positive(value),
    ),
    "max_steps": COUNT,
    "max_neighbours": Rule("an int of at least 0", is_count_or_zero),
    "mask_cosmic_rays": Rule("a bool", lambda value: isinstance(value, bool)),
    "bulge": Rule("a bool", lambda value: isinstance(value, bool)),
    "noise_correlation": none_or(
        "an array of float64", lambda v: is_array(v, np.float64)
    ),
}


def content_of(model):
    """Return the parameters, the fitted attributes and the estimator of a model.

    TypeError is raised if its estimator is of a class that no file may hold.
    """
    estimator = model.estimator_
    if type(estimator) not in (type(None), autoencoder.class_of(ESTIMATOR)):
        raise TypeError(
            f"The 'estimator' of a {NAME} that is saved must be None or a {ESTIMATOR}. "
            f"Got {short_repr(estimator)}."
        )
    parameters = model.get_params(deep=False)
    left_out = [name for name in parameters if name not in APART]
    left_out = [n for n in left_out if not autoencoder.is_plain(parameters[n])]
    autoencoder.warn_of_left_out(left_out)
    hidden = {*APART, *left_out}
    parameters = {name: parameters[name] for name in parameters if name not in hidden}
    names = [field.name for field in fields(model.fitter_) if field.name != "device"]
    fitter = {name: getattr(model.fitter_, name) for name in names}
    # A number stays the parameter; a PSF is the same in both places.
    if np.ndim(model.psf) == 0:
        parameters["psf"] = model.psf
    if isinstance(model.noise_correlation, str):
        parameters["noise_correlation"] = model.noise_correlation
    return {
        "parameters": parameters,
        "fitted": fitter | {"layout": fitter["layout"]._asdict()},
        "estimator": estimator and autoencoder.content_of(estimator),
    }


def check_content(content, version):
    """Raise ModelFileError unless this is the content of a fitted model."""
    check_table(content, CONTENT, "its content")
    autoencoder.check_parameters(NAME, content["parameters"], version)
    if "estimator" in content["parameters"]:
        raise ModelFileError("its 'estimator' must not be among its parameters")
    check_table(content["fitted"], FITTED, "the fitted model")
    for problem in _contradictions(**content["fitted"]):
        raise ModelFileError(problem)
    if content["estimator"] is not None:
        autoencoder.check_content(content["estimator"], version)


def _contradictions(**fitted):
    """Yield the errors in fitted attributes that are each of the right type."""
    layout = Layout(**fitted["layout"])
    yield from autoencoder.wrong_layout(*layout)
    n_bands, names = layout.band_shape[0], layout.target_names or [None]
    try:
        profile = ProfileParameters.of_targets(names, n_bands)
    except (ValueError, AttributeError) as error:
        raise ModelFileError(f"its target_names are wrong: {error}") from None
    unknown = [name for name in names if name not in profile.all_names]
    if unknown:
        yield f"target_names must be names of parameters, not {short_repr(unknown)}"
    for name in ("noise", "gain"):
        if np.size(fitted[name]) not in (1, n_bands):
            yield f"{name} must have one number for each of {n_bands} bands"
    yield from _wrong_planes(layout, fitted["noise"], fitted["gain"], fitted["psf"])
    bounds = fitted["bounds"]
    wrong = [n for n, ends in bounds.items() if not are_bounds(n, ends, profile.names)]
    if wrong:
        yield f"bounds of {short_repr(wrong)} are wrong"
    shape = np.shape(fitted["noise_correlation"])
    if shape and (len(shape) != 2 or not all(side % 2 for side in shape)):
        yield f"noise_correlation must have two odd sides, not the shape {shape}"


def _wrong_planes(layout, noise, gain, psf):
    """Yield the errors of noise and PSF for the planes of the stamps."""
    has_variance = "variance" in layout.planes
    if (noise is None) != has_variance or (gain is None and not has_variance):
        yield f"noise is {noise} and gain {gain}, but the planes are {layout.planes}"
    if psf is None and not layout.has_psf:
        yield f"there must be a PSF for the planes {layout.planes}"
    yield from autoencoder.wrong_psf(psf, layout)


def make_model(content):
    """Return the fitted model of a checked content."""
    parameters, fitted = content["parameters"], content["fitted"]
    if "psf" not in parameters and fitted["psf"] is not None:
        parameters = parameters | {"psf": fitted["psf"][0, 0]}
    correlation = fitted["noise_correlation"]
    if "noise_correlation" not in parameters and correlation is not None:
        parameters = parameters | {"noise_correlation": correlation}
    model = autoencoder.make_unfitted(NAME, parameters)
    estimator = content["estimator"]
    if estimator is not None:
        model.estimator_ = autoencoder.make_model(estimator)
        model.estimator = model.estimator_
        if not model.prefit:
            model.estimator = type(model.estimator_)(**estimator["parameters"])
    else:
        model.estimator_ = None
    layout, psf = Layout(**fitted["layout"]), fitted["psf"]
    autoencoder.check_psf_values(psf, layout)
    if not is_correlation(fitted["noise_correlation"]):
        raise ModelFileError("its noise_correlation is no autocorrelation")
    device = usable_device(model.device)
    model.fitter_ = ProfileFitter(**fitted | {"layout": layout, "device": device})
    return model
