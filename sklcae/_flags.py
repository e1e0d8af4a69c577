"""Flags: for each stamp, the reasons not to trust its parameters."""

import numpy as np
from scipy.stats import median_abs_deviation, norm

from sklcae._cosmic_rays import find_cosmic_rays
from sklcae._images import parts_of
from sklcae._noise import is_correlated
from sklcae._novelty import misfits_of
from sklcae._profile_fitter import ProfileFitter
from sklcae._sources import find_others

# Name and meaning of each flag, in the order of the columns.
FLAGS = {
    "no_pixels": "All pixels are masked.",
    "masked": "More than a tenth of the light of the galaxy is in masked pixels.",
    "saturated": "Three pixels or more share the highest value of the stamp, which is "
    "more than ten deviations of the pixels above their median.",
    "cosmic_ray": "A cosmic ray was found.",
    "edge": "More than a third of the light of the galaxy is outside of the stamp.",
    "neighbours": "There are other sources on the stamp.",
    "blended": "Their light is more than a twentieth of the light where the galaxy is.",
    "sky_off": "The background differs from 0 by more than five of its errors.",
    "correlated_noise": "The noise of adjacent pixels is correlated by more than about "
    "0.2, and the errors do not allow for it.",
    "poor_fit": "Chi-square is more than five of its deviations too large.",
    "wrong_psf": "The width of the PSF is wrong by more than three of its errors.",
    "at_bound": "A parameter is at its bound.",
    "not_converged": "A step of the fit would move a parameter by two of its errors, "
    "or there are no errors.",
    "outside_training": "The image is unlike the images of the training set.",
}
MOST_MASKED, MOST_OUTSIDE = 0.1, 1 / 3
MOST_BLENDED = 0.05
LARGEST_SKY, LARGEST_EXCESS, LARGEST_PSF_MISFIT = 5.0, 5.0, 3.0
LARGEST_STEP = 2.0
# Pixels are saturated if so many share the highest value, which is above the median by
# so many times the median deviation.
LEAST_SATURATED, LEAST_CONTRAST = 3, 10.0


def no_flags(n):
    """Return all flags of n stamps, unset."""
    return {name: np.zeros(n, bool) for name in FLAGS}


def _of_seen(flags, images):
    """Return flags with no other than "no_pixels" for empty stamps."""
    for flag in flags.values():
        flag[images.empty] = False
    flags["no_pixels"][images.empty] = True
    return flags


def flag_profiles(fitter, images, measured):
    """Return the flags of the fits of `Images`, by name, each (n,).

    Parameters
    ----------
    fitter : ProfileFitter
        The fitter.
    images : Images
        The stamps as they were fitted.
    measured : MeasuredProfiles
        Fits of them, with ``checks``.
    """
    flags = no_flags(len(images))
    flags["at_bound"] = measured.at_limit.any(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        flags["not_converged"] = ~_are_small(measured.steps, measured.errors)
        flags["sky_off"] = _is_sky_off(measured)
        flags["poor_fit"] = _excess_of_chi_square(fitter, measured) > LARGEST_EXCESS
        flags["wrong_psf"] = abs(measured.psf_misfit) > LARGEST_PSF_MISFIT
    central = fitter.render(images, measured, central=True)
    total = fitter.render(images, measured)
    fluxes = measured.parameters[:, fitter.profile.of_kind("flux")]
    for row in np.setdiff1d(np.arange(len(images)), images.empty):
        stamp = fitter.stamp(images, row)
        found = _flags_of_stamp(stamp, central[row], total[row], np.exp(fluxes[row]))
        for name, flag in found.items():
            flags[name][row] = flag
        if fitter.noise_correlation is None:
            flags["correlated_noise"][row] = _has_correlated_noise(
                stamp, total[row], measured.sky[row]
            )
    flags["neighbours"] |= measured.n_neighbours > 0
    return _of_seen(flags, images)


def _are_small(steps, errors):
    """Return whether the next step (n, m) is small, and there are errors, (n,)."""
    # A sky that is not fitted has no step and no error.
    return (abs(steps) <= LARGEST_STEP * errors).all(axis=1)


def _is_sky_off(measured):
    n_bands = measured.sky.shape[1]
    steps, errors = measured.steps[:, -n_bands:], measured.errors[:, -n_bands:]
    sky = measured.sky + np.nan_to_num(steps)
    return ((errors > 0) & (abs(sky) > LARGEST_SKY * errors)).any(axis=1)


def _excess_of_chi_square(fitter, measured):
    """Return by how many of its deviations chi-square is too large, (n,).

    It is that after the next step of the fit.
    """
    n_fitted = measured.steps.shape[1]
    n_fitted = n_fitted + measured.n_neighbours * measured.parameters.shape[1]
    n_free = np.maximum(measured.n_pixels - n_fitted, 1)
    correlation = fitter.noise_correlation
    widening = 1.0 if correlation is None else (correlation**2).sum()
    left = measured.chi_square - n_free
    for fitted in measured.scenes:
        left[fitted.rows] -= fitted.decrease
    return left / np.sqrt(2 * n_free * widening)


def _flags_of_stamp(stamp, central, total, fluxes):
    """Return the flags that depend on the pixels of one stamp."""
    # In units of the brightest pixel, for images in any unit.
    unit = np.abs(central).max().astype(np.float64) or 1.0
    central, total = central / unit, total / unit
    fluxes = fluxes / unit
    stamp = stamp._replace(
        images=stamp.images / unit, variance=stamp.variance / unit**2
    )
    stamp = stamp._replace(noise_of_light=stamp.noise_of_light / unit)
    inside, light = central.sum(axis=(1, 2)), central.sum()
    hidden = np.where(stamp.counts, 0, central).sum()
    others = _light_of_others(stamp, central, total)
    overlap = (central * others).sum() / max((central**2).sum(), 1e-30)
    return {
        "masked": not hidden <= MOST_MASKED * light,
        "edge": not (inside >= (1 - MOST_OUTSIDE) * fluxes).all(),
        "saturated": _is_saturated(stamp.images, stamp.counts),
        "neighbours": bool(others.any()),
        "blended": bool(overlap / (1 + overlap) > MOST_BLENDED),
    }


def _has_correlated_noise(stamp, light, sky):
    """Return whether the noise around the sources is correlated, in any band.

    In bright pixels a small error of the model is larger than the noise.
    """
    noise = np.sqrt(stamp.variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        residuals = (stamp.images - light - sky[:, None, None]) / noise
    residuals[~stamp.counts | (light > noise)] = np.nan
    return any(map(is_correlated, residuals))


def _light_of_others(stamp, central, total):
    """Return the light (n_bands, H, W) of the fitted neighbours, or of those found.

    Those found are drawn as Gaussians with their moments.
    """
    fitted = total - central
    return fitted if fitted.any() else find_others(stamp, central)


def _is_saturated(image, counts):
    """Return whether pixels of a stamp (n_bands, H, W) share the highest value."""
    return any(
        _shares_highest(band[seen]) for band, seen in zip(image, counts, strict=True)
    )


def _shares_highest(pixels):
    """Return whether enough of some pixels have the highest value, far above most."""
    if not len(pixels):
        return False
    highest, middle = pixels.max(), np.median(pixels)
    noise = median_abs_deviation(pixels, scale="normal")
    shared = (pixels == highest).sum() >= LEAST_SATURATED
    return bool(shared and highest - middle > LEAST_CONTRAST * noise > 0)


def find_hit_stamps(fitter, images):
    """Return whether a cosmic ray is found on each of the `Images`, (n,)."""
    hit = np.zeros(len(images), bool)
    for row in np.setdiff1d(np.arange(len(images)), images.empty):
        hit[row] = _has_cosmic_ray(fitter.stamp(images, row))
    return hit


def _has_cosmic_ray(stamp):
    """Return whether a cosmic ray is found on a stamp (n_bands, H, W)."""
    for image, variance, counts, psf, noise in zip(*stamp, strict=True):
        gain = 1 / noise if noise else None
        if find_cosmic_rays(image, variance, counts > 0, psf, gain).any():
            return True
    return False


# Predictions of a network ------------------------------------------------------------


def flag_predictions(codec, images):
    """Return the flags of the predictions for `Images`, by name, each (n,).

    For a network of Sersic profiles the flags come from chi-square at its predictions,
    without a fit, and a step may be twice the predicted error. For other networks the
    reconstructions are compared with the images.
    """
    targets = codec.read_targets(images)
    if codec.architecture.profile is None:
        flags = _flag_reconstructions(codec, images)
    else:
        fitter = ProfileFitter.of_codec(codec, max_steps=0)
        start = fitter.start_from(targets.median())
        measured = fitter.fit(images, start, checks=True)
        flags = flag_profiles(fitter, images, measured)
        flags["cosmic_ray"] = find_hit_stamps(fitter, images)
        flags["not_converged"] = _are_off(fitter, targets, measured)
        flags["not_converged"] &= ~flags["no_pixels"]
    flags["outside_training"] = targets.outside & ~flags["no_pixels"]
    return flags


def _are_off(fitter, targets, measured):
    """Return whether predictions are far from the minimum of chi-square, (n,).

    The larger of the predicted error and of that of chi-square counts. The network does
    not predict the background.
    """
    n = len(fitter.profile.names)
    steps, errors = measured.steps[:, :n], measured.errors[:, :n]
    if targets.variance is not None:
        within_one_sigma = 2 * norm.cdf(1) - 1
        low, high = map(fitter.start_from, targets.interval(within_one_sigma))
        errors = np.fmax(errors, abs(high - low) / 2)
    return ~_are_small(steps, errors)


def _flag_reconstructions(codec, images):
    """Return the flags that need no profile and no PSF.

    A fit is poor if its misfit is larger than that of all images of the reference.
    """
    flags = no_flags(len(images))
    for part in parts_of(len(images)):
        some = images.take(np.arange(len(images))[part])
        latents = codec.encode(some)
        residuals = codec.residuals(some, latents)
        most = codec.reference.misfits[:, 0].max()
        flags["poor_fit"][part] = misfits_of(residuals)[:, 0] > most
        light = codec.light_of(some, latents)
        hidden = np.isnan(residuals)
        share = (light * hidden).sum(axis=(1, 2, 3)) / light.sum(axis=(1, 2, 3))
        flags["masked"][part] = share > MOST_MASKED
        flags["saturated"][part] = [
            _is_saturated(*pair) for pair in zip(some[:], ~hidden, strict=True)
        ]
    return _of_seen(flags, images)
