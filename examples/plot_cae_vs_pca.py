"""
==============================================
The autoencoder and PCA, side by side
==============================================

Both are scikit-learn estimators. One line of cross-validation therefore compares them
on the same galaxies and the same folds. With small stamps and few epochs the script
takes some minutes. ``plot_paper_results.py`` uses the sizes of the paper.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from _figures import NAMES, save
from matplotlib.figure import Figure
from sklearn.metrics import make_scorer, r2_score
from sklearn.model_selection import KFold, cross_validate

from sklcae import ConditionalAutoencoderRegressor
from sklcae.baselines import make_pca_baseline, make_single_component_baseline
from sklcae.datasets import make_galaxies

TARGETS = ["flux", "half_light_radius"]
LEAST_R2 = -0.25

# %%
# Galaxies on stamps of 32 x 32 pixels, half as wide as in the paper. y is a DataFrame,
# because the augmentation needs the names of the targets.


def make_data(n_samples):
    X, y = make_galaxies(
        n_samples, image_shape=(32, 32), n_jobs=-1, random_state=0, verbose=1
    )
    return X, pd.DataFrame(y, columns=TARGETS)


# %%
# The baselines of the paper's section 4.1, the paper's network with its defaults, and
# the same network with an asinh stretch and with flips and rotations by 90 degrees.


def make_models(max_epochs):
    settings = {"max_epochs": max_epochs, "random_state": 0}
    return {
        "PCA, best single component": make_single_component_baseline(),
        "PCA, 64 components": make_pca_baseline(),
        "CAE": ConditionalAutoencoderRegressor(**settings),
        "CAE, asinh, dihedral": ConditionalAutoencoderRegressor(
            stretch="asinh", augmentation="dihedral", **settings
        ),
    }


# %%
# One R2 for each target and fold.


def r2_of(target):
    index = TARGETS.index(target)

    def score(y_true, y_pred):
        return r2_score(np.asarray(y_true)[:, index], y_pred[:, index])

    return make_scorer(score)


def compare(models, X, y):
    folds = KFold(4, shuffle=True, random_state=0)
    scoring = {target: r2_of(target) for target in TARGETS}
    rows = []
    for name, model in models.items():
        results = cross_validate(model, X, y, cv=folds, scoring=scoring)
        for target in TARGETS:
            scores = results[f"test_{target}"]
            rows.append((name, target, scores.mean(), scores.std()))
        print(f"{name}: done in {results['fit_time'].sum():.0f} s", flush=True)
    return pd.DataFrame(rows, columns=["method", "target", "R2", "std over folds"])


def draw(table):
    figure = Figure(figsize=(9, 4), layout="constrained")
    for ax, target in zip(figure.subplots(1, 2, sharey=True), TARGETS, strict=True):
        rows = table[table["target"] == target]
        scores, spread = rows["R2"], rows["std over folds"]
        # A very negative R2 only shows in its number.
        ax.barh(rows["method"], scores.clip(lower=LEAST_R2), color="C0", alpha=0.6)
        ax.errorbar(scores, rows["method"], xerr=spread, fmt="none", color="black")
        for row, score in enumerate(scores):
            ax.text(0.02, row - 0.25, f"{score:.2f}", va="center", fontsize="small")
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set(title=NAMES[target], xlabel="cross-validated $R^2$", xlim=(LEAST_R2, 1))
    ax.invert_yaxis()
    return figure


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Cross-validate the CAE and PCA.")
    parser.add_argument("--output", type=Path, default=Path("cae_vs_pca"))
    parser.add_argument("--quick", action="store_true", help="a small run")
    options = parser.parse_args(arguments)
    n_samples, max_epochs = (120, 2) if options.quick else (600, 60)
    options.output.mkdir(parents=True, exist_ok=True)

    table = compare(make_models(max_epochs), *make_data(n_samples))
    print(table.round(3).to_string(index=False))
    table.to_csv(options.output / "cae_vs_pca.csv", index=False)
    save(draw(table), options.output / "cae_vs_pca.png", options.quick)
    print(f"Wrote cae_vs_pca.csv to {options.output}")


if __name__ == "__main__":
    mpl.use("Agg")
    main()
