"""
==================================
Masked pixels and missing targets
==================================

Real stamps have dead columns and cosmic rays, and most of them have no measured
parameters. This script answers two questions, on fresh galaxies:

- How much accuracy does a fitted model lose when pixels are masked (``allow_nan=True``,
  masked pixels are NaN)?
- How much do 900 galaxies without known parameters (NaN in y) add to 100 galaxies with
  known parameters?

The results are written to the folder ``incomplete_data`` (or ``--output``).
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from _figures import NAMES, save
from matplotlib.figure import Figure
from sklearn.metrics import r2_score

from sklcae import ConditionalAutoencoderRegressor
from sklcae.datasets import make_galaxies

TARGETS = ["flux", "half_light_radius"]
SIDE = 64


def simulate(n_samples, random_state):
    galaxies = make_galaxies(
        n_samples, random_state=random_state, return_X_y=False, n_jobs=-1, verbose=1
    )
    return galaxies.data, galaxies.frame[TARGETS]


def make_model(max_epochs):
    return ConditionalAutoencoderRegressor(
        stretch="asinh",
        augmentation="dihedral",
        max_epochs=max_epochs,
        random_state=0,
        verbose=1,
    )


def r2_of(model, X, y):
    scores = r2_score(y, model.predict(X), multioutput="raw_values")
    return dict(zip(TARGETS, scores, strict=True))


# %%
# Masked pixels
# -------------
# Half of the masked pixels lie in dead columns, which differ from stamp to stamp. The
# other half are single pixels, like those hit by cosmic rays.


def mask(X, share, seed=0):
    rng = np.random.default_rng(seed)
    masked = rng.random((len(X), SIDE, SIDE)) < share / 2
    masked |= rng.random((len(X), 1, SIDE)) < share / 2
    return np.where(masked.reshape(X.shape), np.float32(np.nan), X)


def score_masked(model, X, y):
    model.set_params(allow_nan=True)
    rows = {}
    for share in (0.0, 0.02, 0.05, 0.1):
        images = mask(X, share)
        found = np.isnan(images).mean()
        rows[share] = {"share masked": found, **r2_of(model, images, y)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("share asked")


# %%
# Missing targets
# ---------------
# The same 100 galaxies with known parameters, alone and together with 900 galaxies
# without. Alone they give ten times fewer steps in the same number of epochs. A third
# run therefore has the same number of steps.


def score_semi_supervised(X, y, X_test, y_test, n_labeled, max_epochs):
    partly = y.copy()
    partly.iloc[n_labeled:] = np.nan
    alone = X[:n_labeled], y[:n_labeled]
    runs = {
        f"{n_labeled} labeled": (*alone, max_epochs),
        f"{n_labeled} labeled, as many steps": (
            *alone,
            max_epochs * len(X) // n_labeled,
        ),
        f"{n_labeled} labeled, {len(X) - n_labeled} unlabeled": (X, partly, max_epochs),
    }
    rows = {}
    for name, (images, targets, epochs) in runs.items():
        print(f"\nFitting: {name}", flush=True)
        model = make_model(epochs).fit(images, targets)
        rows[name] = r2_of(model, X_test, y_test)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("trained on")


def draw(masked, partly):
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    share = 100 * masked["share masked"]
    lines = left.plot(share, masked[TARGETS], marker="o")
    for line, target in zip(lines, TARGETS, strict=True):
        line.set_label(NAMES[target])
    left.set(xlabel="masked pixels [%]", ylabel="$R^2$")
    # From 0 to 1, and wider for a negative R2.
    left.set_ylim(min(0, left.get_ylim()[0] - 0.05), 1)
    left.legend()
    partly[TARGETS].plot.barh(ax=right, legend=False)
    right.axvline(0, color="black", linewidth=0.8)
    right.set(xlabel="$R^2$", ylabel="")
    right.invert_yaxis()
    return figure


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Masked pixels and missing targets.")
    parser.add_argument("--output", type=Path, default=Path("incomplete_data"))
    parser.add_argument("--quick", action="store_true", help="a small run")
    options = parser.parse_args(arguments)
    n_samples, n_labeled, max_epochs = (
        (80, 20, 2) if options.quick else (1000, 100, 100)
    )
    options.output.mkdir(parents=True, exist_ok=True)

    X, y = simulate(n_samples, 0)
    X_test, y_test = simulate(n_samples, 1)
    print("\nFitting: all targets known", flush=True)
    masked = score_masked(make_model(max_epochs).fit(X, y), X_test, y_test)
    partly = score_semi_supervised(X, y, X_test, y_test, n_labeled, max_epochs)
    for name, table in (("masked_pixels", masked), ("missing_targets", partly)):
        print(f"\n{name}: R2 on {len(X_test)} fresh galaxies")
        print(table.round(3).to_string(), flush=True)
        table.to_csv(options.output / f"{name}.csv")
    figure = draw(masked, partly)
    save(figure, options.output / "incomplete_data.png", options.quick)
    print(f"Wrote two tables to {options.output}")


if __name__ == "__main__":
    mpl.use("Agg")
    main()
