"""
===================================
Do the latents set flux and radius?
===================================

This script measures closure. The latents of flux and half-light radius of a galaxy are
set to requested values and the stamp is decoded. Its flux and radius are then measured
without the network, by the sum of the pixels and by the growth curve. The reference is
GalSim's own noiseless stamp of the requested galaxy, measured in the same way, because
seeing widens small galaxies and the edge of the stamp cuts large ones.

The paper's network with the paper's loss is compared with the neural field with the
exchange loss (``gamma``), trained on the same stamps. The neural field is trained
twice: on all seven parameters, and on flux and radius alone. In the second case
``make_galaxy_variants`` makes two stamps of each galaxy that differ in flux and radius
only. These pairs are the groups of the exchange loss.
"""

import argparse
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from _figures import NAMES, UNITS, save
from compare_networks import MODELS as NETWORKS
from compare_networks import TARGETS
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from sklearn.base import clone
from sklearn.metrics import r2_score

from sklcae import ConditionalAutoencoderRegressor
from sklcae.datasets import make_galaxies, make_galaxy_variants
from sklcae.metrics import (
    closure_scores,
    dci_scores,
    half_light_radius,
    mutual_information_gap,
    separated_attribute_predictability,
    total_flux,
)

SWEPT = ("flux", "half_light_radius")
# The requested values in ADU and arcsec: the ranges of Table 1 without their ends.
ASKED = {
    "flux": np.geomspace(3300, 46_400, 7),
    "half_light_radius": np.geomspace(0.72, 4.65, 7),
}
SHAPE = ("sersic_index", "ellipticity", "position_angle", "x0", "y0")
PIXEL_SCALE = 0.2
NOISE_VARIANCE = 14.0

# %%
# The models
# ----------

MODELS = {
    "paper": (ConditionalAutoencoderRegressor(), SWEPT),
    "neural field, pairs": (NETWORKS["neural_field"], SWEPT),
    "neural field, all": (NETWORKS["neural_field"], TARGETS),
}


def make_data(n_train, n_test, seed):
    """Return pairs of stamps with their groups, and fresh galaxies."""
    settings = {"targets": TARGETS, "return_X_y": False, "n_jobs": -1}
    train = make_galaxy_variants(n_train, random_state=seed, **settings)
    return train, make_galaxies(n_test, random_state=seed + 1, **settings)


def fit_model(name, train, options):
    model, targets = MODELS[name]
    stem = name.replace(", ", "_").replace(" ", "_")
    run = f"{stem}_{options.n_train}_{options.max_epochs}_{options.seed}"
    path = options.output / f"{run}.sklcae"
    if path.exists():
        print(f"{name}: loaded {path}")
        return ConditionalAutoencoderRegressor.load(path)
    model = clone(model).set_params(
        max_epochs=options.max_epochs, random_state=options.seed, verbose=1
    )
    y = pd.DataFrame(train.target, columns=TARGETS)[list(targets)]
    # With all targets, all galaxies form one group.
    groups = train.groups if name == "neural field, pairs" else None
    start = time.perf_counter()
    model.fit(train.data, y, groups=groups)
    print(f"{name}: fit took {(time.perf_counter() - start) / 60:.1f} minutes")
    model.save(path)
    return model


# %%
# The measurement
# ---------------
# Galaxies well inside the stamp. The parameter that is not swept keeps the value that
# the network predicts for the stamp.


def choose_galaxies(frame, n_galaxies):
    inside = frame["x0"].between(16, 48) & frame["y0"].between(16, 48)
    return np.flatnonzero(inside)[:n_galaxies]


def ask(model, latents, target):
    """Return the requested values (n, n_steps, 2), and latents (n * n_steps, ...)."""
    values = ASKED[target]
    n_targets, n_steps = model.n_targets_, len(values)
    asked = np.repeat(latents, n_steps, axis=0)
    y = model.target_scaler_.inverse_transform(asked[:, :n_targets])
    y[:, SWEPT.index(target)] = np.tile(values, len(latents))
    asked[:, :n_targets] = model.target_scaler_.transform(y)
    return y[:, :2].reshape(-1, n_steps, 2), asked


def render(frame, asked):
    """Return GalSim's noiseless stamps of the requested galaxies."""
    n_steps = asked.shape[1]
    shape = {name: np.repeat(frame[name].to_numpy(), n_steps) for name in SHAPE}
    # The values that a network predicts for a faint stamp may be too low to simulate.
    flux, radius = np.maximum(asked.reshape(-1, 2), [1.0, 0.05]).T
    return make_galaxies(
        len(flux),
        flux=flux,
        half_light_radius=radius,
        noise=False,
        n_jobs=-1,
        **shape,
    )[0]


def measure(images, frame, n_steps):
    """Return flux and radius, each (n, n_steps)."""
    images = images.reshape(-1, 64, 64)
    centers = np.repeat(frame[["x0", "y0"]].to_numpy(), n_steps, axis=0)
    flux = total_flux(images)
    radius = half_light_radius(images, pixel_scale=PIXEL_SCALE, centers=centers)
    return {
        "flux": flux.reshape(-1, n_steps),
        "half_light_radius": radius.reshape(-1, n_steps),
    }


def sweep(model, stamps, frame, target):
    """Return the measurements of the decoded stamps and of GalSim's stamps."""
    latents = model.transform(stamps).astype(np.float64)
    asked, wanted = ask(model, latents, target)
    images = model.inverse_transform(wanted)
    n_steps = asked.shape[1]
    return (
        measure(images, frame, n_steps),
        measure(render(frame, asked), frame, n_steps),
    )


def closure(model, stamps, frame):
    """Return the scores of both sweeps, and the measurements to draw."""
    rows, drawn = {}, {}
    for target, other in (SWEPT, SWEPT[::-1]):
        found, expected = sweep(model, stamps, frame, target)
        scores = closure_scores(
            expected[target], found[target], other=found[other] / expected[other]
        )
        names = ("r2", "slope", "change", "change_of_median", "n_unusable")
        rows[target] = {name: scores[name] for name in names}
        drawn[target] = found[target] / expected[target], found[other] / expected[other]
    return pd.DataFrame(rows).T, drawn


# %%
# Reconstruction and disentanglement
# ----------------------------------


def reconstruction(model, galaxies):
    """Return the mean squared residual over the variance of the noise, and R2."""
    images = model.reconstruct(galaxies.data)
    variance = NOISE_VARIANCE + np.maximum(images, 0)
    y = galaxies.target[:, : model.n_targets_]
    flux, radius = r2_score(y, model.predict(galaxies.data), multioutput=ALL)[:2]
    return {
        "R2 of flux": flux,
        "R2 of radius": radius,
        "reconstruction, chi-square a pixel": np.mean(
            (galaxies.data - images) ** 2 / variance
        ),
        "its median over stamps": np.median(
            np.mean((galaxies.data - images) ** 2 / variance, axis=1)
        ),
        "rms of the residual, ADU": np.mean((galaxies.data - images) ** 2) ** 0.5,
    }


ALL = "raw_values"


def disentanglement(model, galaxies):
    latents = model.transform(galaxies.data)
    y = galaxies.target[:, :2]
    dci = dci_scores(latents, y, random_state=0, n_estimators=50)
    return {
        "DCI, disentanglement": dci.disentanglement,
        "DCI, completeness": dci.completeness,
        "DCI, informativeness": dci.informativeness,
        "MIG": mutual_information_gap(latents, y),
        "SAP": separated_attribute_predictability(latents, y),
    }


# %%
# The figure
# ----------
# The ratio of measured to correct values has a logarithmic axis, so that half and twice
# the correct value are equally far from 1.

WIDEST, NARROWEST = 10.0, 1.25
FAR = (0.1, 0.2, 0.5, 0.8, 1, 1.25, 2, 5, 10)
NEAR = (0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2)
TICKS = {"flux": [5000, 10_000, 20_000, 40_000], "half_light_radius": [1, 2, 4]}
CAPTION = (
    "Lines: median of the galaxies; bands: central 68 %; triangles: beyond the axis;\n"
    "open symbols: not measurable on more than a tenth of the stamps"
)


def quantiles(ratios):
    """Return 16, 50 and 84 % of the ratios that could be measured at each step."""
    measured = [ratio[np.isfinite(ratio)] for ratio in ratios.T]
    levels = [
        np.percentile(ratio, [16, 50, 84]) if len(ratio) else [np.nan] * 3
        for ratio in measured
    ]
    return np.transpose(levels)


def find_limits(sweeps):
    """Return limits that contain the medians, but not beyond WIDEST."""
    medians = [
        quantiles(ratios)[1]
        for drawn in sweeps.values()
        for panels in drawn.values()
        for ratios in panels
    ]
    # A negative median is beyond any limit.
    usable = np.maximum(np.concatenate(medians), 1 / WIDEST)
    reach = np.exp(1.1 * np.nanmax(np.abs(np.log(usable)), initial=0))
    reach = np.clip(reach, NARROWEST, WIDEST)
    return 1 / reach, reach


def draw_curve(ax, asked, ratios, limits, name):
    low, middle, high = quantiles(ratios).clip(*limits)
    (line,) = ax.plot(asked, middle, label=name)
    color = line.get_color()
    ax.fill_between(asked, low, high, color=color, alpha=0.15, linewidth=0)
    usable = np.isfinite(ratios).mean(axis=0) >= 0.9
    markers = np.select([middle >= limits[1], middle <= limits[0]], ["^", "v"], "o")
    for x, y, full, marker in zip(asked, middle, usable, markers, strict=True):
        face = color if full else "white"
        style = {"color": color, "markerfacecolor": face, "clip_on": False}
        ax.plot(x, y, marker, zorder=3, **style)


def draw(sweeps):
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    limits = find_limits(sweeps)
    ratios = [
        r for r in (FAR if limits[1] > 2 else NEAR) if limits[0] <= r <= limits[1]
    ]
    for column, target in zip(axes.T, SWEPT, strict=True):
        other = SWEPT[1 - SWEPT.index(target)]
        for row, (ax, measured) in enumerate(zip(column, (target, other), strict=True)):
            for name, drawn in sweeps.items():
                draw_curve(ax, ASKED[target], drawn[target][row], limits, name)
            ax.axhline(1, color="black", linewidth=0.8)
            ax.set(
                xscale="log",
                yscale="log",
                ylim=limits,
                xlabel=f"requested {NAMES[target]} [{UNITS[target]}]",
                ylabel=f"measured {NAMES[measured]} / GalSim's",
            )
            set_ticks(ax.xaxis, TICKS[target])
            set_ticks(ax.yaxis, ratios)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper")
    figure.supxlabel(CAPTION, fontsize="small")
    return figure


def set_ticks(axis, ticks):
    axis.set_ticks(ticks, [f"{tick:,g}" for tick in ticks])
    axis.set_minor_formatter(NullFormatter())


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Measure the effect of latents.")
    parser.add_argument("--output", type=Path, default=Path("closure"))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument(
        "--extra", nargs="*", type=Path, default=[], help="saved models"
    )
    parser.add_argument("--n-train", type=int, default=455)
    parser.add_argument("--n-test", type=int, default=1000)
    parser.add_argument("--n-galaxies", type=int, default=100)
    parser.add_argument("--max-epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a small run")
    options = parser.parse_args(arguments)
    if options.quick:
        small = {"n_train": 40, "n_test": 120, "n_galaxies": 4}
        vars(options).update(small, max_epochs=1)
    options.output.mkdir(parents=True, exist_ok=True)

    train, test = make_data(options.n_train, options.n_test, options.seed)
    models = {name: fit_model(name, train, options) for name in options.models}
    for path in options.extra:
        models[path.stem] = ConditionalAutoencoderRegressor.load(path)
    chosen = choose_galaxies(test.frame, options.n_galaxies)
    tables, sweeps, others = {}, {}, {}
    for name, model in models.items():
        tables[name], sweeps[name] = closure(
            model, test.data[chosen], test.frame.iloc[chosen]
        )
        others[name] = reconstruction(model, test) | disentanglement(model, test)
    table = pd.concat(tables, names=["model", "swept"])
    print(table.round(3).to_string())
    table.to_csv(options.output / "closure.csv")
    others = pd.DataFrame(others)
    print(others.round(3).to_string())
    others.to_csv(options.output / "reconstruction.csv")
    save(draw(sweeps), options.output / "closure.png", options.quick)
    print(f"Wrote the tables to {options.output}")


if __name__ == "__main__":
    mpl.use("Agg")
    main()
