"""
==============================================
Error bars, and images unlike the training set
==============================================

The neural field of ``compare_networks.py`` predicts a standard deviation for each
parameter. This script counts how many of 5,000 fresh galaxies lie within the resulting
68 and 95 % intervals: all galaxies, five bins of signal-to-noise ratio, and galaxies
cut by the edge. MAPIE's split conformal intervals are computed for comparison, with one
width for all galaxies and in units of the predicted standard deviation.

The script also tests which stamps ``score_samples`` distinguishes from galaxies of the
training set: two galaxies at once, stars, noise alone, other pixels, another seeing,
cosmic rays.

``--models`` names saved models, for example of several seeds. The tables show their
mean and range. Without ``--models`` one model is trained, on fewer galaxies. With
``--turned`` predictions are means over the flips and rotations of a stamp.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from _figures import NAMES, save
from compare_networks import TARGETS, make_model
from mapie.conformity_scores import AbsoluteConformityScore, ResidualNormalisedScore
from mapie.regression import SplitConformalRegressor
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy.stats import norm
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import roc_auc_score
from sklearn.utils import Bunch

from sklcae import ConditionalAutoencoderRegressor
from sklcae.datasets import make_galaxies, signal_to_noise

LEVELS = (0.68, 0.95)
PIXEL_SCALE, SIDE = 0.2, 64
SKY, READ_NOISE = 10.0, 2.0


def simulate(n_samples, seed, **kwargs):
    settings = {"targets": TARGETS, "return_X_y": False, "n_jobs": -1}
    return make_galaxies(n_samples, random_state=seed, **{**settings, **kwargs})


def get_models(options):
    """Return the saved models by name, or one model that is trained now."""
    models = {
        path.stem: ConditionalAutoencoderRegressor.load(path) for path in options.models
    } or {"trained_now": train_model(options)}
    for model in models.values():
        model.set_params(test_time_augmentation=options.turned)
    return models


def train_model(options):
    train = simulate(options.n_train, 0)
    model = make_model("neural_field", 0, options.max_epochs)
    y = pd.DataFrame(train.target, columns=TARGETS)
    return model.fit(train.data, y)


# %%
# Coverage
# --------


def parts_of(galaxies):
    """Return rows of all galaxies, of bins of signal-to-noise, and of cut galaxies."""
    frame = galaxies.frame
    shapes = frame.drop(columns=["e1", "e2"]).to_dict("list")
    clean = make_galaxies(len(frame), noise=False, n_jobs=-1, **shapes)[0]
    ratio = signal_to_noise(clean)
    edges = np.quantile(ratio, [0, 0.2, 0.4, 0.6, 0.8, 1])
    bins = np.digitize(ratio, edges[1:-1])
    to_edge = np.minimum.reduce([frame.x0, SIDE - frame.x0, frame.y0, SIDE - frame.y0])
    cut = to_edge < frame.half_light_radius.to_numpy() / PIXEL_SCALE
    names = [f"S/N {low:.0f} to {high:.0f}" for low, high in pairwise(edges)]
    return {
        "all": np.full(len(frame), True),
        **{name: bins == index for index, name in enumerate(names)},
        "cut by the edge": cut,
    }


def coverage(pulls, parts, level):
    """Return the shares of galaxies within the interval, in per cent."""
    within = pulls < norm.ppf(0.5 + level / 2)
    shares = {name: within[rows].mean(axis=0) for name, rows in parts.items()}
    return pd.DataFrame(shares, index=TARGETS).T * 100


# %%
# Intervals by MAPIE
# ------------------
# MAPIE needs an estimator of one target, and an estimator of the size of its errors.


class OneTarget(RegressorMixin, BaseEstimator):
    """One target of a fitted model, or its standard deviation."""

    def __init__(self, model, index, std=False):
        self.model = model
        self.index = index
        self.std = std

    def fit(self, X, y):
        """Do nothing: the model is fitted."""
        return self

    @property
    def n_features_in_(self):
        """Show MAPIE that the model is fitted."""
        return self.model.n_features_in_

    def predict(self, X):
        """Return the target, or its standard deviation."""
        return self.model.predict(X, return_std=True)[int(self.std)][:, self.index]


def conformal_coverage(model, calibration, fresh, parts, level):
    """Return the coverage of MAPIE's intervals of the flux, and their mean widths."""
    rows = {}
    for name, score in {
        "MAPIE, one width": AbsoluteConformityScore(),
        "MAPIE, predicted widths": ResidualNormalisedScore(
            residual_estimator=OneTarget(model, 0, std=True), prefit=True
        ),
    }.items():
        conformal = SplitConformalRegressor(
            OneTarget(model, 0),
            confidence_level=level,
            conformity_score=score,
            prefit=True,
        )
        conformal.conformalize(calibration.data, calibration.target[:, 0])
        _, intervals = conformal.predict_interval(fresh.data)
        low, high = intervals[:, :, 0].T
        flux = fresh.target[:, 0]
        within = (low <= flux) & (flux <= high)
        rows[name] = {
            part: 100 * within[chosen].mean() for part, chosen in parts.items()
        }
        rows[name]["median width, ADU"] = np.median(high - low)
    return pd.DataFrame(rows)


# %%
# Unlike the training set
# -----------------------


def add_noise(images, rng):
    counts = rng.poisson(np.maximum(images, 0) + SKY) - SKY
    return (counts + rng.normal(scale=READ_NOISE, size=images.shape)).astype(np.float32)


def strange_stamps(n_samples, seed):
    """Return stamps of each kind."""
    rng = np.random.default_rng(seed)
    first, second = (simulate(n_samples, seed + i, noise=False).data for i in (1, 2))
    hit = simulate(n_samples, seed + 3).data
    struck = rng.integers(hit.shape[1], size=(n_samples, 5))
    hit[np.arange(n_samples)[:, None], struck] += 500.0
    return {
        "fresh galaxies (control)": simulate(n_samples, seed + 4).data,
        "two galaxies": add_noise(first + second, rng),
        "star": simulate(n_samples, seed + 5, half_light_radius=0.01).data,
        "noise alone": add_noise(np.zeros_like(first), rng),
        "pixels of 0.1 arcsec": simulate(n_samples, seed + 6, pixel_scale=0.1).data,
        "pixels of 0.4 arcsec": simulate(n_samples, seed + 7, pixel_scale=0.4).data,
        "seeing of 1.2 arcsec": simulate(n_samples, seed + 8, psf_fwhm=1.2).data,
        "five cosmic rays of 500 ADU": hit,
    }


def areas(usual, strange):
    """Return the area under the ROC curve of each kind, and the flagged share.

    A stamp is flagged if its score is below the first percentile of the usual scores.
    """
    threshold = np.percentile(usual, 1)
    rows = {}
    for kind, scores in strange.items():
        labels = np.repeat([0, 1], [len(usual), len(scores)])
        rows[kind] = {
            "ROC AUC": roc_auc_score(labels, -np.concatenate([usual, scores])),
            "flagged, %": 100 * np.mean(scores < threshold),
        }
    return pd.DataFrame(rows).T


def draw(pulls, usual, strange_scores):
    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    expected = np.linspace(0.01, 0.99, 50)
    for index, target in enumerate(TARGETS):
        limits = norm.ppf(0.5 + expected / 2)
        within = [100 * np.mean(pulls[:, index] < x) for x in limits]
        left.plot(100 * expected, within, label=NAMES.get(target, target))
    left.plot([0, 100], [0, 100], color="black", linewidth=0.8)
    left.set(
        xlabel="predicted coverage of the interval [%]",
        ylabel="galaxies within the interval [%]",
        aspect="equal",
    )
    left.legend(fontsize="small")
    for kind, scores in {"training-like": usual, **strange_scores}.items():
        distance = np.sort(-scores)
        share = np.linspace(0, 100, len(distance))
        right.plot(distance, share, label=kind)
    right.set(
        xscale="log",
        xlabel="-score_samples: distance from the training set",
        ylabel="stamps with a smaller distance [%]",
    )
    right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.xaxis.set_major_formatter("{x:,g}")
    right.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(
        *right.get_legend_handles_labels(),
        loc="outside right upper",
        fontsize="small",
    )
    return figure


def leave_out_outside(model, galaxies):
    """Return galaxies within the range of the training set, and their rows.

    The others have no standard deviation.
    """
    rows = ~model.is_outside(galaxies.data)
    print(f"{np.count_nonzero(~rows)} of {len(rows)} galaxies outside are left out")
    return Bunch(data=galaxies.data[rows], target=galaxies.target[rows]), rows


def evaluate(model, fresh, calibration, parts, stamps):
    """Return the tables of a model, its pulls, and its scores."""
    fresh, rows = leave_out_outside(model, fresh)
    calibration, _ = leave_out_outside(model, calibration)
    parts = {name: chosen[rows] for name, chosen in parts.items()}
    y, y_std = model.predict(fresh.data, return_std=True)
    pulls = np.abs(y - fresh.target) / y_std
    tables = {
        f"coverage_{level:.0%}": coverage(pulls, parts, level) for level in LEVELS
    }
    for level in LEVELS:
        tables[f"mapie_flux_{level:.0%}"] = conformal_coverage(
            model, calibration, fresh, parts, level
        )
    usual = model.score_samples(calibration.data)
    strange = {kind: model.score_samples(X) for kind, X in stamps.items()}
    tables["unlike"] = areas(usual, strange)
    return tables, pulls, usual, strange


def show(name, table):
    """Print the mean of a table over the models and, for several models, the range."""
    by_row = table.groupby(level=1, sort=False)
    print(f"\n{name}, mean\n{by_row.mean().round(3).to_string()}")
    if table.index.levshape[0] > 1:
        spread = by_row.max() - by_row.min()
        print(f"\n{name}, range\n{spread.round(3).to_string()}")


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description="Test error bars and warnings.")
    parser.add_argument("--output", type=Path, default=Path("uncertainty"))
    parser.add_argument(
        "--models", type=Path, nargs="*", default=[], help="saved models to evaluate"
    )
    parser.add_argument(
        "--turned",
        action="store_true",
        help="predict the mean over all flips and rotations, with every model",
    )
    parser.add_argument("--n-train", type=int, default=4000)
    parser.add_argument("--max-epochs", type=int, default=12)
    parser.add_argument("--n-test", type=int, default=5000)
    parser.add_argument("--n-strange", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="a small run")
    options = parser.parse_args(arguments)
    if len({path.stem for path in options.models}) < len(options.models):
        parser.error(f"--models must have different names. Got {options.models}.")
    if options.quick:
        small = {"n_train": 100, "max_epochs": 1, "n_test": 100, "n_strange": 20}
        vars(options).update(small)
    return options


def main(arguments=None):
    options = parse_arguments(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    models = get_models(options)
    fresh = simulate(options.n_test, 1)
    calibration = simulate(max(options.n_test // 5, 50), 2)
    parts, stamps = parts_of(fresh), strange_stamps(options.n_strange, 10)
    of_models, suffix = {}, "_turned" if options.turned else ""
    for name, model in models.items():
        of_models[name], *drawn = evaluate(model, fresh, calibration, parts, stamps)
        path = options.output / f"{name}{suffix}.png"
        save(draw(*drawn), path, options.quick)
    for name in of_models[next(iter(models))]:
        table = pd.concat({model: tables[name] for model, tables in of_models.items()})
        show(name, table)
        table.to_csv(options.output / f"{name.replace('%', '')}{suffix}.csv")
    print(f"Wrote the tables, and a figure for each model, to {options.output}")


if __name__ == "__main__":
    mpl.use("Agg")
    main()
