"""
==============================================
All parameters, and the best possible R2
==============================================

The paper's network and the deeper ones are trained with several seeds to read flux,
half-light radius, Sersic index, ellipticity and position at once, one latent for each.
Their R2 is compared with the best R2 that the noise of the stamps allows. Predictions
are made from each stamp as it is, and as the mean over its flips and rotations.

With ``--n-train 20000 --max-epochs 12`` training the neural field takes a quarter of an
hour on two cores. An interrupted run resumes from its checkpoint, and a saved model is
not trained again.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
from sklearn.base import clone
from sklearn.metrics import r2_score

from sklcae import ConditionalAutoencoderRegressor
from sklcae.datasets import cramer_rao_bound, make_galaxies
from sklcae.metrics import best_r2

TARGETS = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
CONCENTRATED = 3.0
ALL = "raw_values"

# %%
# The recommended settings, those for a known PSF (of 0.7 arcsec, with new galaxies in
# every step), the strided network with the losses and the image limits of
# the paper, and the paper's network. All have the asinh stretch and the augmentation.
# `score` sets whether predictions are means over the flips and rotations.

PAPER = ConditionalAutoencoderRegressor().get_params()
OF_PAPER = ("reconstruction_loss", "physical_loss", "alpha", "gamma", "limits")
MODELS = {
    "neural_field": ConditionalAutoencoderRegressor.recommended(
        test_time_augmentation=False
    ),
    "sersic": ConditionalAutoencoderRegressor.recommended(
        psf=0.7, pixel_scale=0.2, target_names=TARGETS
    ),
    "strided": ConditionalAutoencoderRegressor.recommended(
        network="strided",
        test_time_augmentation=False,
        **{name: PAPER[name] for name in OF_PAPER},
    ),
    "paper": ConditionalAutoencoderRegressor(stretch="asinh", augmentation="dihedral"),
}


def make_model(network, seed, max_epochs, checkpoint=None):
    return clone(MODELS[network]).set_params(
        max_epochs=max_epochs, random_state=seed, checkpoint=checkpoint, verbose=1
    )


# %%
# Galaxies of the paper's Table 1. The test set has another seed. The bound is computed
# for a part of its stamps only, which takes minutes.


def make_data(n_train, n_test):
    settings = {"targets": TARGETS, "return_X_y": False, "n_jobs": -1, "verbose": 1}
    return [
        make_galaxies(n, random_state=seed, **settings)
        for seed, n in enumerate((n_train, n_test))
    ]


def find_ceiling(galaxies, n_stamps):
    part = {**galaxies, "frame": galaxies.frame[:n_stamps]}
    bound = cramer_rao_bound(part, targets=TARGETS, n_jobs=-1, verbose=1)
    return best_r2(galaxies.target[:n_stamps], bound.variance, multioutput=ALL)


# %%
# Training takes some minutes for each model. The trained models are saved.


def fit_model(network, seed, train, options):
    path = options.output / f"{network}_{options.n_train}_{options.max_epochs}_{seed}"
    if path.with_suffix(".sklcae").exists():
        print(f"{network}, seed {seed}: loaded {path}.sklcae")
        return ConditionalAutoencoderRegressor.load(path.with_suffix(".sklcae"))
    model = make_model(network, seed, options.max_epochs, path.with_suffix(".part"))
    y = pd.DataFrame(train.target, columns=TARGETS)
    start = time.perf_counter()
    model.fit(train.data, y)
    minutes = (time.perf_counter() - start) / 60
    print(f"{network}, seed {seed}: fit took {minutes:.1f} minutes", flush=True)
    model.set_params(checkpoint=None).save(path.with_suffix(".sklcae"))
    return model


def score(model, galaxies):
    """Return the R2 of each target, for all galaxies and for the concentrated ones."""
    concentrated = (galaxies.frame["sersic_index"] > CONCENTRATED).to_numpy()
    parts = {"all": slice(None), f"n > {CONCENTRATED:g}": concentrated}
    columns = {}
    for turned, suffix in ((False, ""), (True, ", turned")):
        y_pred = model.set_params(test_time_augmentation=turned).predict(galaxies.data)
        for name, rows in parts.items():
            true = galaxies.target[rows]
            columns[name + suffix] = r2_score(true, y_pred[rows], multioutput=ALL)
    return pd.DataFrame(columns, index=pd.Index(TARGETS, name="target"))


def compare(train, test, options):
    tables = {
        (network, seed): score(fit_model(network, seed, train, options), test)
        for network in options.networks
        for seed in options.seeds
    }
    return pd.concat(tables, names=["network", "seed"])


def summarize(scores, ceiling):
    """Return mean and range over the seeds, and the best possible R2 of all stamps."""
    by_target = scores.groupby(level=["network", "target"], sort=False)
    table = by_target.mean().add_prefix("R2, ")
    spread = by_target.max() - by_target.min()
    table = table.join(spread.add_prefix("range over seeds, "))
    return table.join(pd.Series(ceiling, pd.Index(TARGETS, name="target"), name="best"))


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description="Compare networks on all parameters.")
    parser.add_argument("--output", type=Path, default=Path("networks"))
    parser.add_argument("--networks", nargs="+", default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--n-train", type=int, default=909)
    parser.add_argument("--n-test", type=int, default=5000)
    parser.add_argument("--n-bounds", type=int, default=1000)
    parser.add_argument("--max-epochs", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="a small run")
    options = parser.parse_args(arguments)
    if options.quick:
        small = {"n_train": 40, "n_test": 60, "n_bounds": 4, "max_epochs": 1}
        vars(options).update(small, seeds=[0])
    return options


def main(arguments=None):
    options = parse_arguments(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    train, test = make_data(options.n_train, options.n_test)
    ceiling = find_ceiling(test, options.n_bounds)
    table = summarize(compare(train, test, options), ceiling)
    print(table.round(3).to_string())
    path = options.output / f"networks_{options.n_train}.csv"
    table.to_csv(path)
    print(f"Wrote {path} and the models to {options.output}")


if __name__ == "__main__":
    main()
