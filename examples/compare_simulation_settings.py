"""
========================================================
Noise levels and pixel scales that the paper leaves open
========================================================

The paper gives neither the pixel scale nor the sky level, gain and read noise of its
stamps. This script simulates 1,000 galaxies with several values of them. It prints the
six R2 values that the paper publishes: for the best single principal component, for all
64 components and for the autoencoder, each for flux and half-light radius. The last
column is the root mean square difference from the paper's values.

The autoencoder takes ten minutes for each setting. ``--settings`` selects settings, and
``--epochs 0`` leaves the autoencoder out.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from sklcae import ConditionalAutoencoderRegressor
from sklcae.baselines import make_pca_baseline, make_single_component_baseline
from sklcae.datasets import make_galaxies

SETTINGS = {
    "noise-free": {"noise": False},
    "sky 10": {},
    "sky 1000": {"sky_level": 1000.0},
    "sky 4000": {"sky_level": 4000.0},
    "sky 1000, 0.1 arcsec": {"sky_level": 1000.0, "pixel_scale": 0.1},
    "sky 4000, 0.15 arcsec": {"sky_level": 4000.0, "pixel_scale": 0.15},
    "sky 10, 0.4 arcsec": {"pixel_scale": 0.4},
    "sky 1000, 0.4 arcsec": {"sky_level": 1000.0, "pixel_scale": 0.4},
}
PAPER = {"single": (0.0, 0.0), "PCA 64": (0.467, 0.137), "CAE": (0.775, 0.722)}


def simulate(n_samples, random_state, settings):
    return make_galaxies(n_samples, random_state=random_state, n_jobs=-1, **settings)


def score_setting(settings, models, n_samples):
    """Return the R2 of flux and radius of each model, on fresh galaxies."""
    X, y = simulate(n_samples, 0, settings)
    X, _, y, _ = train_test_split(X, y, test_size=1 / 11, random_state=0)
    X_fresh, y_fresh = simulate(n_samples, 1, settings)
    return {
        name: r2_score(
            y_fresh, model.fit(X, y).predict(X_fresh), multioutput="raw_values"
        )
        for name, model in models.items()
    }


def as_row(scores):
    row = {
        f"{name}, {target}": score
        for name, pair in scores.items()
        for target, score in zip(("flux", "radius"), pair, strict=True)
    }
    differences = np.ravel([np.subtract(scores[n], PAPER[n]) for n in scores])
    return row | {"rms difference": np.sqrt(np.mean(differences**2))}


def make_models(epochs, stretch):
    models = {
        "single": make_single_component_baseline(),
        "PCA 64": make_pca_baseline(),
    }
    if epochs:
        models["CAE"] = ConditionalAutoencoderRegressor(
            stretch=stretch, max_epochs=epochs, random_state=0
        )
    return models


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Noise levels and pixel scales.")
    parser.add_argument("--output", type=Path, default=Path("simulation_settings"))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=[*SETTINGS])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--stretch", default="linear")
    parser.add_argument("--quick", action="store_true", help="a small run")
    options = parser.parse_args(arguments)
    n_samples = 100 if options.quick else 1000
    epochs = min(options.epochs, 1) if options.quick else options.epochs
    options.output.mkdir(parents=True, exist_ok=True)

    rows = {"paper": as_row(PAPER)}
    for name in options.settings:
        models = make_models(epochs, options.stretch)
        rows[name] = as_row(score_setting(SETTINGS[name], models, n_samples))
        print(pd.Series(rows[name], name=name).round(3).to_string(), flush=True)
    table = pd.DataFrame.from_dict(rows, orient="index")
    print(table.round(3).to_string())
    table.to_csv(options.output / "simulation_settings.csv")


if __name__ == "__main__":
    main()
