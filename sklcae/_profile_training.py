"""Training with Sersic profiles: first guesses, checks, and simulated galaxies."""

import numpy as np

from sklcae._profiles import (
    CORNER,
    LOGARITHMIC,
    PARAMETERS,
    to_named,
    to_rendered,
    uses_profiles,
)
from sklcae._torch import ProfileUnits
from sklcae._torch.moments import guess_all

NAME = "ConditionalAutoencoderRegressor"
# So many images of the training set give first guesses.
N_GUESSED = 256
# The least spread of a guessed parameter, in its unit or logarithm.
LEAST_SPREAD = 0.1


def check_profiles(settings, layout):
    """Raise ValueError unless stamps and targets are those of Sersic profiles."""
    if not uses_profiles(settings):
        return
    cause = "network='sersic'"
    if settings.network != "sersic":
        cause = "augmentation='simulation'"
    if settings.pixel_scale is None:
        raise ValueError(
            f"The 'pixel_scale' parameter of {NAME} must be the side of a pixel, in "
            f"the unit of the radii, with {cause}. Got None."
        )
    if not layout.has_psf and settings.psf is None:
        raise ValueError(
            f"The 'psf' parameter of {NAME} must be the PSF, a FWHM or a stamp, with "
            f"{cause}, unless 'planes' have a 'psf', see sklcae.stack_planes. Got None "
            f"with planes={layout.planes}."
        )
    if layout.band_shape[0] != 1:
        raise ValueError(
            f"X must have stamps of one band with {cause}. Got {layout.band_shape[0]} "
            f"bands in stamps of the shape {layout.image_shape}."
        )
    names = layout.target_names or []
    if settings.network == "sersic":
        _check_names(names, [name for name in names if name not in PARAMETERS], cause)
        n_free = len(set(PARAMETERS) - set(names))
        if settings.latent_dim < layout.n_targets + n_free:
            raise ValueError(
                f"The 'latent_dim' parameter of {NAME} must be at least "
                f"{layout.n_targets + n_free} with {cause}: one for each target and "
                f"each other parameter of the profile. Got {settings.latent_dim}."
            )
    if settings.augmentation == "simulation":
        cause = "augmentation='simulation'"
        _check_names(names, [name for name in PARAMETERS if name not in names], cause)
        if settings.gain is None:
            raise ValueError(
                f"The 'gain' parameter of {NAME} must be a number with {cause}, for "
                "the noise of new galaxies. Got None."
            )


def check_reconstruction(settings):
    """Raise ValueError if a reconstruction loss is missing where one is needed."""
    if settings.reconstruction_loss is not None:
        return
    wanted = {"network": "sersic", "augmentation": "simulation"}
    got = {name: getattr(settings, name) for name in wanted}
    if got != wanted or settings.gamma:
        raise ValueError(
            f"The 'reconstruction_loss' parameter of {NAME} must be a loss, such as "
            "'chi_square'. None needs network='sersic', augmentation='simulation' and "
            f"gamma=0. Got None with {got} and gamma={settings.gamma:g}."
        )


def _check_names(names, wrong, cause):
    if wrong or not names:
        wanted = "all of" if cause.startswith("aug") else "among"
        raise ValueError(
            f"The targets must be {wanted} {list(PARAMETERS)} with {cause}: the column "
            f"names of y, or the parameter 'target_names'. Got {names or None}."
        )


def units_of_profile(names, target_scaler, pixel_scale, light_unit, guess):
    """Return the `ProfileUnits` of a network whose targets have these names.

    The targets are scaled by mean and scale, or in the logarithm. A parameter that is
    no target takes the next of the other latents, scaled by its guess, see
    `guess_parameters`. The light is in a unit of the images.
    """
    columns, mean, scale, is_logarithm = [], [], [], []
    n_free = 0
    for i, name in enumerate(PARAMETERS):
        if name in names:
            column = names.index(name)
            columns.append(column)
            mean.append(float(target_scaler.mean_[column]))
            scale.append(float(target_scaler.scale_[column]))
            is_logarithm.append(column in target_scaler.logarithmic)
        else:
            columns.append(len(names) + n_free)
            n_free += 1
            mean.append(float(guess[0, i]))
            scale.append(float(guess[1, i]))
            is_logarithm.append(i < LOGARITHMIC)
    return ProfileUnits(
        tuple(columns),
        tuple(mean),
        tuple(scale),
        tuple(is_logarithm),
        (float(light_unit), float(pixel_scale), 1.0, 1.0, 1.0, 1.0, 1.0),
        (0.0, 0.0, 0.0, 0.0, 0.0, CORNER, CORNER),
    )


def guess_parameters(images, noise, pixel_scale):
    """Guess median and spread (2, 7) of the parameters of images (n, H, W).

    They come from the moments of the images, without regard to the PSF. The first three
    are logarithms, in the units of the parameters.
    """
    counts = ~np.isnan(images)
    pixels = np.where(counts, images, 0) / noise
    point = np.zeros_like(pixels)
    point[:, point.shape[1] // 2, point.shape[2] // 2] = 1
    guesses = guess_all(pixels, counts, point)[:, : len(PARAMETERS)]
    guesses[:, 0] += np.log(noise)
    guesses[:, 1] += np.log(pixel_scale)
    guesses[:, -2:] += CORNER
    guesses = guesses[np.isfinite(guesses).all(axis=1)]
    if not len(guesses):
        return np.stack([np.zeros(len(PARAMETERS)), np.ones(len(PARAMETERS))])
    middle = np.median(guesses, axis=0)
    return np.stack([middle, guesses.std(axis=0).clip(min=LEAST_SPREAD)])


def guess_from(images, rows, scaler, pixel_scale):
    """Guess the parameters of Sersic profiles in some images, see `_profiles`."""
    some = rows[np.linspace(0, len(rows) - 1, min(N_GUESSED, len(rows))).astype(int)]
    return guess_parameters(
        images[some][:, 0], float(scaler.noise_.mean()), pixel_scale
    )


def guess_of_targets(guess, names, logarithmic):
    """Return mean and scale (2, n_targets) of targets, from guessed parameters.

    They are those of the logarithm for targets that are regressed in it.
    """
    middle, spread = (part.copy() for part in guess)
    for i in range(LOGARITHMIC):
        if PARAMETERS[i] in names and names.index(PARAMETERS[i]) not in logarithmic:
            middle[i] = np.exp(middle[i])
            spread[i] *= middle[i]
    columns = [PARAMETERS.index(name) for name in names]
    return np.stack([middle, spread])[:, columns]


def make_simulation(codec, y):
    """Return parameters to simulate from, and the function that scales targets.

    Both are those of `SimulatedGalaxies`; the light is in the unit of the network.
    """
    names, scale = codec.layout.target_names, codec.pixel_scale
    known = y[~np.isnan(y).any(axis=1)]
    if not len(known):
        raise ValueError(
            "y must have an image for which all targets are known, with "
            "augmentation='simulation'. Got none."
        )
    parameters = np.column_stack(
        [to_rendered(name, known[:, names.index(name)], scale) for name in PARAMETERS]
    )
    if not np.isfinite(parameters).all():
        raise ValueError(
            "y must have positive fluxes, radii and indices with "
            "augmentation='simulation'. Got others."
        )
    unit = np.zeros(len(PARAMETERS))
    unit[0] = np.log(codec.light_unit)

    def standardise(parameters):
        return codec.scale_targets(to_named(parameters + unit, names, scale))

    return parameters - unit, standardise
