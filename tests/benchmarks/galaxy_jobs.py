"""Measurements of make_galaxies, plain GalSim and the profile fit, one process each."""

import time
from pathlib import Path

import numpy as np
import plain
from measuring import Memory, seconds
from network_jobs import load_model
from profile_fit import fit_profile
from sklearn.metrics import r2_score

from sklcae.datasets import make_galaxies

NAMES = ("flux", "half_light_radius")

# Telescopes that differ from stamp to stamp.
VARIED = {
    "psf_fwhm": (0.5, 1.2),
    "psf_ellipticity": (0.0, 0.1),
    "psf_position_angle": (0.0, 180.0),
    "moffat_beta": (2.5, 5.0),
    "sky_level": (5.0, 20.0),
    "read_noise": (1.0, 5.0),
}


def generate(folder, n, n_jobs=1, psf="gaussian", varied=False):
    """Simulate galaxies of Table 1 with make_galaxies."""
    options = {"psf": psf, "n_jobs": n_jobs, **(VARIED if varied else {})}
    with Memory() as memory:
        duration = seconds(lambda: make_galaxies(n, random_state=2, **options))
    return {"rate": n / duration, **memory.peaks()}


def plain_generate(folder, n):
    """Simulate galaxies of Table 1 with plain GalSim."""
    with Memory() as memory:
        duration = seconds(lambda: plain.generate(n, seed=2))
    return {"rate": n / duration, **memory.peaks()}


def compare_images(folder, n):
    """Compare noiseless stamps with plain GalSim's, in units of the pixel noise."""
    galaxies = make_galaxies(n, random_state=3, noise=False, return_X_y=False)
    columns = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
    plain_images = np.stack(
        [plain.draw_stamp(*row).array for row in galaxies.frame[columns].to_numpy()]
    )
    difference = (galaxies.images - plain_images) / noise_per_pixel()
    rms = np.sqrt(np.mean(difference.astype(float) ** 2, axis=(1, 2)))
    return {
        "rms": float(np.sqrt(np.mean(rms**2))),
        "rms_of_each": rms.tolist(),
        "parameters": galaxies.frame.to_dict("list"),
    }


def compare_optics(folder, n, psf, from_images):
    """Compare stamps of many PSFs with plain GalSim's, in units of the pixel noise.

    With ``from_images`` both take the planes "psf" of the galaxies as arrays of PSFs.
    """
    settings = {"random_state": 7, "noise": False, "return_X_y": False}
    settings |= {"planes": ("image", "psf"), "psf": psf, "sersic_index_step": 0.25}
    galaxies = make_galaxies(n, **settings, **VARIED)
    profiles = [plain.model_psf(psf, row) for row in galaxies.frame.to_dict("records")]
    if from_images:
        galaxies = make_galaxies(n, **{**settings, "psf": galaxies.psf_images})
        profiles = [plain.image_psf(image) for image in galaxies.psf_images]
    columns = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
    plain_images = np.stack(
        [
            plain.draw_accurately(*row, profile, with_pixel=not from_images)
            for row, profile in zip(
                galaxies.frame[columns].to_numpy(), profiles, strict=True
            )
        ]
    )
    difference = (galaxies.images - plain_images) / noise_per_pixel()
    rms = np.sqrt(np.mean(difference.astype(float) ** 2, axis=(1, 2)))
    return {"rms": float(np.sqrt(np.mean(rms**2))), "worst": float(rms.max())}


def noise_per_pixel():
    """Return the noise of an empty pixel in ADU, the lowest noise of any pixel."""
    return np.hypot(
        np.sqrt(plain.SKY_LEVEL / plain.GAIN), plain.READ_NOISE / plain.GAIN
    )


def fit_profiles(folder, n):
    """Fit profiles to fresh galaxies."""
    galaxies = fresh_galaxies(n)
    start = time.process_time()
    fits = [fit_profile(stamp) for stamp in galaxies.images]
    duration = time.process_time() - start
    found = np.array([parameters[:2] for parameters, _ in fits])
    return {
        "rate": n / duration,
        "images_drawn": float(np.mean([drawn for _, drawn in fits])),
        "accuracy": accuracy(galaxies.target, found),
    }


def predict_profiles(folder, n, model=None):
    """Predict the same galaxies with a model; the speed is measured on many stamps."""
    galaxies = fresh_galaxies(n)
    regressor = load_model(model or Path(folder, "model"))
    names = list(regressor.target_names_ or NAMES)
    columns = [names.index(name) for name in NAMES]
    many = np.tile(galaxies.data, (2000 // n, 1))
    regressor.predict(many[:8])
    start = time.process_time()
    predicted = regressor.predict(many)
    duration = time.process_time() - start
    return {
        "rate": len(many) / duration,
        "accuracy": accuracy(galaxies.target, predicted[:n, columns]),
    }


def fresh_galaxies(n):
    """Return galaxies of Table 1 that no model was trained on."""
    return make_galaxies(n, random_state=4, return_X_y=False)


def accuracy(true, found):
    """Return R2 and the median relative error of flux and half-light radius."""
    errors = np.median(np.abs(found / true - 1), axis=0)
    scores = r2_score(true, found, multioutput="raw_values")
    return {
        name: {"r2": float(score), "median_relative_error": float(error)}
        for name, score, error in zip(NAMES, scores, errors, strict=True)
    }


JOBS = (
    generate,
    plain_generate,
    compare_images,
    compare_optics,
    fit_profiles,
    predict_profiles,
)
