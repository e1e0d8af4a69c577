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


def generate(folder, n, n_jobs=1):
    """Simulate galaxies of Table 1 with make_galaxies."""
    with Memory() as memory:
        duration = seconds(lambda: make_galaxies(n, random_state=2, n_jobs=n_jobs))
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
    fit_profiles,
    predict_profiles,
)
