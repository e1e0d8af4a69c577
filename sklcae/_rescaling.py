"""A fitted model in other units: another pixel scale, another unit of the light."""

import copy
from dataclasses import replace

import numpy as np

from sklcae._gain import as_gain, check_gain
from sklcae._novelty import rows_of_statistics
from sklcae._profile_training import parameters_of_layout
from sklcae._profiles import LOGARITHMIC, kind_of

NAME = "ConditionalAutoencoderRegressor"


def rescaled(codec, pixel_scale, gain):
    """Return a codec for stamps with another pixel scale and gain.

    None leaves the pixel scale or the gain as it is.

    A network of Sersic profiles works in pixels and electrons. So only its scalers and
    its training range change, and the same light in the same pixels has the same
    latents. Raises ValueError if the codec has no such network.
    """
    if codec.guess is None:
        raise ValueError(
            f"rescale needs a {NAME} that was fitted with network='sersic' or "
            f"augmentation='simulation'. Got one with network={codec.network!r}."
        )
    radius, light = 1.0, 1.0
    if pixel_scale is not None:
        radius = pixel_scale / codec.pixel_scale
        codec = replace(codec, pixel_scale=float(pixel_scale))
    if gain is not None:
        light = _ratio_of_units(codec, gain)
        codec = replace(codec, gain=as_gain(gain))
    factors = {"flux": light, "half_light_radius": radius}
    names = codec.layout.target_names
    changed = {
        "target_scaler": _rescaled_targets(codec.target_scaler, names, factors),
        "image_scaler": _rescaled_images(codec.image_scaler, light),
        "training_range": _rescaled_range(codec, names, factors),
        "guess": _rescaled_guess(codec, factors),
    }
    codec = replace(codec, **changed)
    # The network knows its units.
    return codec.copy()


def rescaled_width(psf, ratio):
    """Return the parameter `psf`, with widths times a ratio."""
    if psf is None or np.ndim(psf) > 1:
        return psf
    return psf * ratio if np.ndim(psf) == 0 else [width * ratio for width in psf]


def _ratio_of_units(codec, gain):
    """Return the numbers for some light in the new unit over those in the old one."""
    if codec.gain is None:
        raise ValueError(
            f"The 'gain' parameter of rescale must be None for a {NAME} that was "
            f"fitted with gain=None. Got {gain!r}."
        )
    check_gain(gain, codec.layout.band_shape[0], "rescale")
    ratios = np.ravel(codec.gain) / np.ravel(as_gain(gain))
    if not np.allclose(ratios, ratios[0]):
        raise ValueError(
            "The 'gain' parameter of rescale must be a multiple of the gains of all "
            f"bands, which are {codec.gain}. Got {gain!r}."
        )
    return float(ratios[0])


def _rescaled_targets(scaler, names, factors):
    scaler = copy.deepcopy(scaler)
    for column, name in enumerate(names):
        factor = factors.get(kind_of(name), 1.0)
        if column in scaler.logarithmic:
            scaler.mean_[column] += np.log(factor)
        else:
            scaler.mean_[column] *= factor
            scaler.scale_[column] *= factor
            scaler.var_[column] *= factor**2
    return scaler


def _rescaled_images(scaler, light):
    scaler = copy.deepcopy(scaler)
    names = ["noise_", "sky_", "background_", "lower_fence_", "upper_fence_"]
    # Without a stretch the scaled quantity has the unit of the images.
    is_linear = scaler.stretch == "linear"
    names += ["minimum_", "range_"] if is_linear else ["softening_"]
    for name in names:
        values = getattr(scaler, name)
        # Fences may be the largest numbers.
        largest = np.finfo(values.dtype).max
        changed = (values.astype(np.float64) * light).clip(-largest, largest)
        setattr(scaler, name, changed.astype(values.dtype))
    used = scaler.noise_, scaler.range_, scaler.softening_
    if not all((part > 0).all() and (part < largest).all() for part in used):
        raise ValueError(
            "The 'gain' parameter of rescale must leave the noise within the range of "
            f"{scaler.noise_.dtype}. Got a gain {1 / light:g} times that of the fit."
        )
    if scaler.softening is not None:
        scaler.softening = scaler.softening * light
    return scaler


def _rescaled_range(codec, names, factors):
    seen, light = codec.training_range, factors["flux"]
    linear, logarithmic = rows_of_statistics(codec.layout.planes)
    lowest, highest = seen.lowest.copy(), seen.highest.copy()
    for bound in (lowest, highest):
        bound[linear] *= light
        bound[logarithmic] += np.log(light)
    targets = seen.targets * [factors.get(kind_of(name), 1.0) for name in names]
    return seen._replace(lowest=lowest, highest=highest, targets=targets)


def _rescaled_guess(codec, factors):
    """Return the guessed median and spread of parameters, see `guess_parameters`."""
    guess = codec.guess.copy()
    for column, name in enumerate(parameters_of_layout(codec.layout).names):
        factor = factors.get(kind_of(name), 1.0)
        if kind_of(name) in LOGARITHMIC:
            guess[0, column] += np.log(factor)
    return guess
