"""Training with Sersic profiles: first guesses, checks, and simulated galaxies."""

import numpy as np

from sklcae._profiles import (
    CORNER,
    LOGARITHMIC,
    PARAMETERS,
    ProfileParameters,
    kind_of,
    uses_profiles,
)
from sklcae._torch import ProfileUnits
from sklcae._torch.moments import guess_all
from sklcae._torch.sersic import E1

NAME = "ConditionalAutoencoderRegressor"
# So many images of the training set give first guesses.
N_GUESSED = 256
# Centres are sought so many pixels beyond those of the training set.
ROOM_OF_CENTERS = 0.5
# The least spread of a guessed parameter, in its unit or logarithm.
LEAST_SPREAD = 0.1


def parameters_of_layout(layout):
    """Return the `ProfileParameters` of stamps and targets with a layout."""
    return ProfileParameters.of_targets(layout.target_names, layout.band_shape[0])


def check_profiles(settings, layout, logarithmic=()):
    """Raise ValueError unless stamps and targets are those of Sersic profiles.

    The targets in the ``logarithmic`` columns are regressed in their logarithm.
    """
    _check_simulated(settings)
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
    names, parameters = layout.target_names or [], parameters_of_layout(layout)
    wanted = parameters.names
    logs = [names[i] for i in logarithmic if kind_of(names[i]) not in LOGARITHMIC]
    if logs and settings.network == "sersic":
        raise ValueError(
            f"The 'log_targets' parameter of {NAME} must be among {LOGARITHMIC} with "
            f"{cause}. Got {logs}."
        )
    if settings.network == "sersic":
        wrong = [name for name in names if name not in wanted]
        _check_names(names, wrong, wanted, cause)
        n_free = len(set(wanted) - set(names))
        if settings.latent_dim < layout.n_targets + n_free:
            raise ValueError(
                f"The 'latent_dim' parameter of {NAME} must be at least "
                f"{layout.n_targets + n_free} with {cause}: one for each target and "
                f"each other parameter of the profile. Got {settings.latent_dim}."
            )
    if settings.augmentation == "simulation":
        cause = "augmentation='simulation'"
        missing = [name for name in wanted if name not in names]
        _check_names(names, missing, wanted, cause)
        _check_known(names, parameters.all_names)
        if settings.gain is None:
            raise ValueError(
                f"The 'gain' parameter of {NAME} must be a number, or one for each "
                f"band, with {cause}, for the noise of new galaxies. Got None."
            )


def _check_simulated(settings):
    """Raise ValueError if simulated galaxies are asked for that nobody makes."""
    for name in ("simulated_neighbours", "simulated_sky"):
        value = getattr(settings, name)
        if value and settings.augmentation != "simulation":
            raise ValueError(
                f"The {name!r} parameter of {NAME} must be 0 unless "
                f"augmentation='simulation'. Got {value!r} with "
                f"augmentation={settings.augmentation!r}."
            )


def _check_known(names, known):
    """Raise ValueError if a target of new galaxies would be unknown."""
    others = [name for name in names if name not in known]
    if others:
        raise ValueError(
            f"The targets must be among {list(known)} with augmentation='simulation', "
            f"which makes new galaxies. Got others too: {others}."
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


def _check_names(names, wrong, wanted, cause):
    if wrong or not names:
        share, hint = "among", ""
        if cause.startswith("aug"):
            share = "all of"
            hint = f" For fewer pass 'target_names' to {NAME}.recommended."
        raise ValueError(
            f"The targets must be {share} {list(wanted)} with {cause}: the column "
            f"names of y, or the parameter 'target_names'. Got {names or None}.{hint}"
        )


def units_of_profile(layout, target_scaler, pixel_scale, light_unit, guess, seen):
    """Return the `ProfileUnits` of a network for stamps and targets with a layout.

    The targets are scaled by mean and scale, or in the logarithm. A parameter that is
    no target takes the next of the other latents, scaled by its guess, see
    `guess_parameters`. The light is in a unit of the images. ``seen`` (2, n_targets)
    are the least and the largest targets of the training set, or None.
    """
    names, parameters = layout.target_names, parameters_of_layout(layout)
    columns, mean, scale, is_logarithm = [], [], [], []
    n_free = 0
    for i, name in enumerate(parameters.names):
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
            is_logarithm.append(kind_of(name) in LOGARITHMIC)
    kinds = [kind_of(name) for name in parameters.names]
    units = {"flux": float(light_unit), "half_light_radius": float(pixel_scale)}
    origins = dict.fromkeys(("x0", "y0"), CORNER)
    return ProfileUnits(
        tuple(columns),
        tuple(mean),
        tuple(scale),
        tuple(is_logarithm),
        tuple(units.get(kind, 1.0) for kind in kinds),
        tuple(origins.get(kind, 0.0) for kind in kinds),
        parameters.columns,
        _window_of_centers(names, seen),
    )


def _window_of_centers(names, seen):
    """Return the least and the largest x and y of the centres, or None if unknown."""
    if seen is None or not {"x0", "y0"} <= set(names):
        return None
    low, high = (ends[[names.index(name) for name in ("x0", "y0")]] for ends in seen)
    room = ROOM_OF_CENTERS
    return tuple(map(tuple, np.stack([low - room, high + room]) - CORNER))


def guess_parameters(images, noise, pixel_scale, parameters):
    """Guess median and spread (2, n_parameters) of the parameters of galaxies.

    They come from the moments of the images (n, n_bands, H, W) with some noise
    (n_bands,), without regard to the PSF. A parameter that several bands have in common
    is the mean of their guesses. Those in ``LOGARITHMIC`` are logarithms, in the units
    of the parameters.
    """
    of_bands = [
        _guess_band(images[:, band], float(level), pixel_scale)
        for band, level in enumerate(noise)
    ]
    guesses = np.zeros((len(images), len(parameters.names)))
    n_guesses = np.bincount(np.ravel(parameters.columns))
    for guess, columns in zip(of_bands, parameters.columns, strict=True):
        guesses[:, list(columns)] += guess
    guesses = guesses / n_guesses
    guesses = guesses[np.isfinite(guesses).all(axis=1)]
    if not len(guesses):
        return np.repeat([[0.0], [1.0]], len(parameters.names), axis=1)
    middle = np.median(guesses, axis=0)
    return np.stack([middle, guesses.std(axis=0).clip(min=LEAST_SPREAD)])


def _guess_band(images, noise, pixel_scale):
    """Guess the seven parameters (n, 7) of images (n, H, W) of one band."""
    counts = ~np.isnan(images)
    pixels = np.where(counts, images, 0) / noise
    point = np.zeros_like(pixels)
    point[:, point.shape[1] // 2, point.shape[2] // 2] = 1
    guesses = guess_all(pixels, counts, point)[:, : len(PARAMETERS)]
    guesses[:, 0] += np.log(noise)
    guesses[:, 1] += np.log(pixel_scale)
    guesses[:, -2:] += CORNER
    return guesses


def guess_from(images, rows, scaler, pixel_scale, parameters):
    """Guess the `ProfileParameters` of some images, see `guess_parameters`."""
    some = rows[np.linspace(0, len(rows) - 1, min(N_GUESSED, len(rows))).astype(int)]
    noise = scaler.noise_.ravel()
    return guess_parameters(images[some], noise, pixel_scale, parameters)


def guess_of_targets(guess, parameters, names, logarithmic):
    """Return mean and scale (2, n_targets) of targets, from guessed parameters.

    They are those of the logarithm for targets that are regressed in it.
    """
    middle, spread = (part.copy() for part in guess)
    for i, name in enumerate(parameters.names):
        is_plain = name in names and names.index(name) not in logarithmic
        if kind_of(name) in LOGARITHMIC and is_plain:
            middle[i] = np.exp(middle[i])
            spread[i] *= middle[i]
    columns = [parameters.names.index(name) for name in names]
    return np.stack([middle, spread])[:, columns]


def make_simulation(codec, y, settings):
    """Return the arguments of `SimulatedGalaxies` by name, but scale and generator.

    The light is in the unit of the network.
    """
    names, scale = codec.layout.target_names, codec.pixel_scale
    parameters = parameters_of_layout(codec.layout)
    known = y[~np.isnan(y).any(axis=1)]
    if not len(known):
        raise ValueError(
            "y must have an image for which all targets are known, with "
            "augmentation='simulation'. Got none."
        )
    values = parameters.rendered(known, names, scale)
    e1 = parameters.columns[0][E1]
    too_elliptical = np.hypot(*values.T[e1 : e1 + 2]) >= 1
    if not np.isfinite(values).all() or too_elliptical.any():
        raise ValueError(
            "y must have positive fluxes, radii and indices, and ellipticities below "
            "1, with augmentation='simulation'. Got others."
        )
    unit = np.zeros(len(parameters.names))
    unit[parameters.of_kind("flux")] = np.log(codec.light_unit)

    def standardise(values):
        return codec.scale_targets(parameters.named(values + unit, names, scale))

    return {
        "parameters": values - unit,
        "standardise": standardise,
        "bands": parameters.columns,
        "n_neighbours": settings.simulated_neighbours,
        "sky": settings.simulated_sky,
    }
