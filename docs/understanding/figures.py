"""Draw the figures of these pages, and print the numbers that their text states.

``PYTHONPATH=. python docs/understanding/figures.py`` draws all of them beside this
file, and ``... figures.py bound limits`` some. It takes a few minutes of a core.
"""

import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Ellipse, FancyBboxPatch
from PIL import Image
from scipy.stats import norm
from sklearn.metrics import r2_score

from sklcae import ProfileFitRegressor, load_pretrained, stack_planes
from sklcae.datasets import cramer_rao_bound, make_galaxies
from sklcae.metrics import best_r2, dispersion, efficiency

FOLDER = Path(__file__).parent
PLANES = ("image", "variance", "psf")
# The colours of Okabe and Ito, which colour-blind readers can distinguish.
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#666666"
# A white background, so that the figures are the same in light and dark mode.
STYLE = {
    "font.size": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "savefig.dpi": 100,
    "legend.frameon": False,
}


def save(figure, name):
    """Write a figure beside this file."""
    path = FOLDER / f"{name}.png"
    figure.savefig(path, bbox_inches="tight", pad_inches=0.1)
    # Few colours, for a small file.
    Image.open(path).quantize(256).save(path, optimize=True)
    plt.close(figure)


# The method --------------------------------------------------------------------------


def box(axes, x, y, width, text, color, height=1.0):
    """Draw a box with a text, its lower left corner at x and y."""
    style = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0.06", fc=color, ec="black", lw=1.5
    )
    axes.add_patch(style)
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center")


def arrow(axes, start, end, text="", color="black", style="-|>", above=0.12):
    """Draw an arrow from start to end, with a text above its middle."""
    line = {"arrowstyle": style, "color": color, "lw": 2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=line)
    middle = np.mean([start, end], axis=0)
    axes.text(middle[0], middle[1] + above, text, ha="center", color=color)


def loss(weight, term):
    """Return the formula of a term of the loss."""
    return f"$\\{weight}\\, L_{{\\mathrm{{{term}}}}}$"


def draw_method():
    """Draw the autoencoder with its losses."""
    figure, axes = plt.subplots(figsize=(11.5, 5.2))
    axes.set(xlim=(-0.2, 13.4), ylim=(-2, 4.2))
    axes.set_axis_off()
    light, pale = "#DCEBF5", "#F8E3D3"
    box(axes, 0, 0.8, 1.5, "stamp\n$x$", "white", 1.2)
    box(axes, 2.8, 0.8, 1.9, "encoder\n$f_\\theta$", light, 1.2)
    box(axes, 6.0, 1.6, 1.5, "$\\hat z^{\\mathrm{phy}}$", pale)
    box(axes, 6.0, 0.2, 1.5, "$\\hat z^{\\mathrm{rest}}$", light)
    box(axes, 8.8, 0.8, 1.9, "decoder\n$g_\\phi$", light, 1.2)
    box(axes, 11.6, 0.8, 1.5, "image\n$\\hat x$", "white", 1.2)
    box(axes, 5.35, 3.2, 2.8, "targets $y$, scaled", pale, 0.8)
    arrow(axes, (1.6, 1.4), (2.7, 1.4))
    arrow(axes, (4.8, 1.6), (5.9, 2.1))
    arrow(axes, (4.8, 1.2), (5.9, 0.7))
    arrow(axes, (7.6, 2.1), (8.7, 1.6))
    arrow(axes, (7.6, 0.7), (8.7, 1.2))
    arrow(axes, (10.8, 1.4), (11.5, 1.4))
    arrow(axes, (6.75, 2.7), (6.75, 3.1), color=ORANGE, style="<|-|>")
    axes.text(6.95, 2.8, loss("alpha", "phy"), color=ORANGE)
    axes.text(6.75, -0.35, loss("beta", "reg"), color=ORANGE, ha="center")
    edge = [0.75, 0.75, 12.35, 12.35], [0.65, -1.2, -1.2, 0.65]
    axes.plot(*edge, color=ORANGE, lw=2)
    axes.text(6.75, -1.05, "$L_{\\mathrm{rec}}$", color=ORANGE, ha="center")
    optics = {"ha": "center", "color": BLUE}
    axes.text(9.85, 3.05, "PSF of the stamp", **optics)
    arrow(axes, (9.75, 2.95), (9.75, 2.15), color=BLUE)
    names = "transform: $x \\to \\hat z$", "inverse_transform: $\\hat z \\to \\hat x$"
    axes.text(3.75, -1.75, names[0], color=GRAY, ha="center")
    axes.text(9.75, -1.75, names[1], color=GRAY, ha="center")
    axes.text(3.2, 3.45, "predict: $x \\to y$", color=GRAY, ha="center")
    axes.text(11.6, 3.75, "generate: $y \\to \\hat x$", color=GRAY, ha="center")
    save(figure, "method")


# The telescope -----------------------------------------------------------------------

# The brightest pixel of the colours, in ADU.
BRIGHTEST = 1_000


def gaussian(fwhm):
    """Return the effective PSF of a Gaussian, FWHM in pixels, (33, 33)."""
    edges = (np.arange(34) - 16.5) * np.sqrt(8 * np.log(2)) / fwhm
    share = np.diff(norm.cdf(edges))
    return np.outer(share, share)


def draw_telescope():
    """Draw one galaxy through three PSFs."""
    model = load_pretrained("ground")
    wanted = [[20_000.0, 0.7, 1.5, 0.45, 0.35, 32.0, 32.0]]
    fwhms = 2.0, 4.0, 7.0
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="compressed")
    shown = np.array([0, 10, 100, 1000])
    half = 32 * model.pixel_scale
    for ax, fwhm in zip(axes, fwhms, strict=True):
        image = model.generate(wanted, psf=gaussian(fwhm), random_state=0)[0, 0]
        print(f"FWHM {fwhm} pixels: peak {image.max():.0f}, sum {image.sum():.0f} ADU")
        drawn = ax.imshow(
            np.arcsinh(image),
            origin="lower",
            cmap="cividis",
            extent=(-half, half, -half, half),
            vmin=0,
            vmax=np.arcsinh(BRIGHTEST),
        )
        ax.set(title=f"FWHM {fwhm * model.pixel_scale:.1f} arcsec", xlabel="x (arcsec)")
        ax.set(xlim=(-4, 4), ylim=(-4, 4), xticks=[-3, 0, 3], yticks=[-3, 0, 3])
    axes[0].set_ylabel("y (arcsec)")
    bar = figure.colorbar(drawn, ax=axes, ticks=np.arcsinh(shown))
    bar.ax.set_yticklabels([f"{value:g}" for value in shown])
    bar.set_label("light (ADU per pixel)")
    save(figure, "telescope")


# The bound ---------------------------------------------------------------------------


def draw_bound():
    """Compare two estimators of the radius by R2 and in bins of signal-to-noise."""
    name = "half_light_radius"
    galaxies = make_galaxies(1_000, targets=name, return_X_y=False, random_state=1)
    bound = cramer_rao_bound(galaxies)
    generator = np.random.default_rng(0)
    rows = np.repeat(np.arange(1_000), 50)
    y, variance = galaxies.target[rows], bound.variance[rows]
    ratio = bound.signal_to_noise[rows]
    best = y + np.sqrt(variance) * generator.standard_normal(len(y))
    rough = best + 0.05 * y * generator.standard_normal(len(y))
    print(f"best possible R2 {best_r2(y, variance):.3f}")
    for kind, predicted in (("at the bound", best), ("with 5 % more", rough)):
        print(
            f"{kind}: R2 {r2_score(y, predicted):.3f}, efficiency "
            f"{efficiency(y, predicted, variance):.2f}"
        )
    edges = np.quantile(bound.signal_to_noise, np.linspace(0, 1, 6))
    fifth = np.digitize(ratio, edges[1:-1])
    middles = [np.median(ratio[fifth == one]) for one in range(5)]
    spreads = {
        kind: [
            dispersion(y[fifth == one], predicted[fifth == one], target_names=name)
            for one in range(5)
        ]
        for kind, predicted in (("best", best), ("rough", rough))
    }
    share = np.bincount(fifth, variance) / variance.sum()
    print("dispersion", {kind: np.round(row, 3) for kind, row in spreads.items()})
    over = np.array(spreads["rough"]) / spreads["best"]
    print("over the best", over.round(2), "share of the squared error", share.round(3))
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 4.4), layout="constrained")
    relative = np.sqrt(bound.variance) / galaxies.target
    axes[0].loglog(
        bound.signal_to_noise[::4],
        relative[::4],
        ".",
        color="#AAAAAA",
        label="bound of a galaxy",
    )
    axes[0].loglog(
        middles, spreads["best"], "o-", color=BLUE, label="errors at the bound"
    )
    axes[0].loglog(middles, spreads["rough"], "s--", color=ORANGE, label="and 5 % more")
    axes[0].set(xlabel="signal-to-noise ratio", ylabel="relative error of the radius")
    axes[0].set(xticks=[10, 30, 100], xticklabels=[10, 30, 100])
    axes[0].set(yticks=[0.01, 0.1, 1], yticklabels=["1 %", "10 %", "100 %"])
    axes[0].xaxis.set_minor_formatter("")
    axes[0].legend()
    axes[1].bar(range(5), 100 * share, color=GREEN)
    axes[1].set_xticks(
        range(5), [f"{low:.0f} to\n{high:.0f}" for low, high in pairwise(edges)]
    )
    axes[1].set(xlabel="signal-to-noise ratio", ylabel="share of the squared error (%)")
    save(figure, "bound")


# Error bars --------------------------------------------------------------------------

ONE_GALAXY = {
    "half_light_radius": 1.5,
    "sersic_index": 2.0,
    "ellipticity": 0.3,
    "position_angle": 30.0,
    "x0": 32.0,
    "y0": 32.0,
    "planes": PLANES,
}


def draw_error_bars():
    """Fit one galaxy with 300 draws of its noise, the sky free and fixed."""
    figure, axes = plt.subplots(figsize=(7.5, 5.0), layout="constrained")
    X, y = make_galaxies(300, flux=8_000.0, random_state=0, **ONE_GALAXY)
    for fit_sky, color, mark in ((True, BLUE, "o"), (False, ORANGE, "^")):
        fitter = ProfileFitRegressor(planes=PLANES, pixel_scale=0.2, fit_sky=fit_sky)
        fits, covariance = fitter.fit(X, y).predict(X, return_cov=True)
        errors = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        inside = (abs(fits - y) < errors).mean(axis=0)
        predicted = np.median(covariance, axis=0)
        print(
            f"sky {'free' if fit_sky else 'fixed'}: errors "
            f"{np.sqrt(np.diagonal(predicted)).round(3)}, in 68 {inside.round(3)}, "
            f"scatter {(fits.std(axis=0)).round(3)}, correlation "
            f"{predicted[0, 1] / np.sqrt(predicted[0, 0] * predicted[1, 1]):.2f}"
        )
        label = "sky free" if fit_sky else "sky known"
        axes.plot(*fits.T, mark, color=color, ms=3, alpha=0.4)
        axes.plot([], [], mark, color=color, label=label)
        for sigmas in (1, 2):
            add_ellipse(axes, y[0], predicted, sigmas, color)
    axes.plot(*y[0], "k+", ms=14, mew=2, label="truth")
    axes.set(xlabel="flux (ADU)", ylabel="half-light radius (arcsec)")
    axes.legend()
    save(figure, "error_bars")


def add_ellipse(axes, center, covariance, sigmas, color):
    """Draw the ellipse of so many standard deviations."""
    values, vectors = np.linalg.eigh(covariance)
    width, height = 2 * sigmas * np.sqrt(values)
    angle = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
    ellipse = Ellipse(center, width, height, angle=angle, fill=False, ec=color, lw=2.5)
    axes.add_patch(ellipse)


# Limits ------------------------------------------------------------------------------


def draw_limits():
    """Draw the effect of a wrong PSF, and of galaxies smaller than the PSF."""
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 4.4), layout="constrained")
    draw_wrong_psf(axes[0])
    draw_small_galaxies(axes[1])
    save(figure, "limits")
    print_flags_of_others()
    print_self_as_neighbour()
    print_many_neighbours()


def draw_wrong_psf(axes):
    """Fit galaxies with a PSF of 0.7 arcsec with PSFs of other widths."""
    names = ["flux", "half_light_radius", "sersic_index"]
    labels = "flux", "half-light radius", "Sersic index"
    galaxies = make_galaxies(
        150,
        flux=(10_000.0, 30_000.0),
        half_light_radius=(0.5, 1.5),
        x0=32.0,
        y0=32.0,
        targets=names,
        planes=PLANES,
        return_X_y=False,
        random_state=0,
    )
    given = np.array([0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9])
    bias = []
    for fwhm in given:
        X = stack_planes(
            galaxies.data[:, 0],
            variance=galaxies.data[:, 1],
            psf=gaussian(fwhm / 0.2),
        )
        fitter = ProfileFitRegressor(planes=PLANES, pixel_scale=0.2, target_names=names)
        fitter.fit(X)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            error = np.median(fitter.predict(X) / galaxies.target, axis=0) - 1
            flagged = np.mean(fitter.flags(X)["wrong_psf"])
        bias.append(error)
        print(f"PSF {fwhm}: {100 * error.round(3)} %, flagged {flagged:.2f}")
    bias = 100 * np.array(bias)
    styles = ("o-", BLUE), ("s--", ORANGE), ("^:", GREEN)
    for row, name, (mark, color) in zip(bias.T, labels, styles, strict=True):
        axes.plot(given, row, mark, color=color, label=name)
    axes.axhline(0, color=GRAY, lw=0.8)
    axes.set(xlabel="FWHM given to the fit (arcsec)", ylabel="median bias (%)")
    axes.legend(fontsize=12)


def draw_small_galaxies(axes):
    """Compare the radii of small galaxies from one pass and from profile fits."""
    model = load_pretrained("ground")
    radii = np.array([0.08, 0.12, 0.17, 0.25, 0.35, 0.5, 0.7, 1.0])
    ratios, flagged = {"one pass": [], "profile fit": []}, []
    for radius in radii:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            X, y = make_galaxies(
                100,
                flux=20_000.0,
                half_light_radius=radius,
                x0=32.0,
                y0=32.0,
                targets=model.target_names_,
                planes=PLANES,
                random_state=0,
            )
            fitter = ProfileFitRegressor(model, prefit=True).fit(X, y)
            for kind, measured in zip(ratios, (model, fitter), strict=True):
                ratios[kind].append(np.median(measured.predict(X)[:, 1]) / radius)
            flagged.append(model.flags(X)["not_converged"].mean())
    for (kind, row), mark in zip(ratios.items(), ("o-", "s--"), strict=True):
        color = BLUE if kind == "one pass" else ORANGE
        axes.semilogx(radii / 0.7, row, mark, color=color, label=kind)
        print(kind, dict(zip(radii.tolist(), np.round(row, 2).tolist(), strict=True)))
    print("one pass, not_converged", np.round(flagged, 2))
    axes.axhline(1, color=GRAY, lw=0.8)
    axes.set(xticks=[0.1, 0.3, 1], xticklabels=[0.1, 0.3, 1])
    axes.xaxis.set_minor_formatter("")
    axes.set(
        xlabel="radius over the FWHM of the PSF", ylabel="measured over true radius"
    )
    axes.legend()


def print_flags_of_others():
    """Print the flags of bright galaxies with a bulge and a disc, and of stars."""
    model = load_pretrained("ground")
    bright = {"flux": (15_000.0, 50_000.0), "x0": 32.0, "y0": 32.0, "planes": PLANES}
    kinds = {
        "bulge and disc": {
            "half_light_radius": (0.5, 2.0),
            "bulge_fraction": (0.1, 0.6),
        },
        "star": {"half_light_radius": 0.01},
    }
    for kind, given in kinds.items():
        X, _ = make_galaxies(100, random_state=0, **bright, **given)
        fitter = ProfileFitRegressor(planes=PLANES, pixel_scale=0.2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for method in fitter.fit(X), model:
                flags = pd.DataFrame(method.flags(X))
                shares = flags.mean()[flags.any()].to_dict()
                radius = np.median(method.predict(X)[:, 1])
                print(
                    f"{kind}: radius {radius:.2f}, any {flags.any(axis=1).mean()}",
                    shares,
                )


def print_self_as_neighbour():
    """Fit galaxies with a table of neighbours that contains the galaxies."""
    X, y = make_galaxies(100, flux=20_000.0, random_state=0, **ONE_GALAXY)
    fitter = ProfileFitRegressor(planes=PLANES, pixel_scale=0.2).fit(X, y)
    table = pd.DataFrame({"stamp": np.arange(100), "x0": 32.0, "y0": 32.0})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flux = fitter.predict(X, neighbours=table)[:, 0]
    print(
        "galaxy in its table of neighbours:", np.quantile(flux / 2e4, [0.16, 0.5, 0.84])
    )


def print_many_neighbours():
    """Print the time of fits with many known neighbours."""
    for n in (0, 5, 10, 20, 40):
        galaxies = make_galaxies(
            1,
            flux=20_000.0,
            neighbours=n,
            return_X_y=False,
            random_state=0,
            **ONE_GALAXY,
        )
        fitter = ProfileFitRegressor(planes=PLANES, pixel_scale=0.2).fit(galaxies.data)
        table = None if n == 0 else galaxies.neighbours
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitter.predict(galaxies.data, neighbours=table)
        found = 0 if n == 0 else len(table)
        print(f"{found} neighbours: {time.process_time() - start:.2f} core-seconds")


FIGURES = {
    "method": draw_method,
    "telescope": draw_telescope,
    "bound": draw_bound,
    "error_bars": draw_error_bars,
    "limits": draw_limits,
}

if __name__ == "__main__":
    mpl.use("Agg")
    with mpl.rc_context(STYLE):
        for wanted in sys.argv[1:] or FIGURES:
            FIGURES[wanted]()
