"""
==================================================
The methods that astronomers use, and their cost
==================================================

The same 300 galaxies of the paper's Table 1 - 100 bright ones, 100 faint ones, 100 cut
by the edge of their stamps - are measured by

- GalSim and ``scipy.optimize.least_squares``: a profile fit written by hand;
- ``ProfileFitRegressor`` of sklcae, which starts from image moments, once with a known
  sky as the other fits, and once with a free sky;
- AstroPhot: a Sersic model, fitted by Levenberg and Marquardt's method;
- statmorph: the Sersic fit of a package for morphology;
- sep: the catalogue of Source Extractor (Kron flux, half-light radius, moments);
- PCA and PLS: linear regressions on 64 components;
- the paper's network, the strided one and the neural field, the last one also by the
  mean over the flips and rotations of a stamp;
- the "sersic" network of sklcae, which is given the PSF and draws its training stamps
  itself, with the parameters of the training set.

The tables show the bias, the dispersion and the outliers of seven parameters, and the
core-seconds of each method per galaxy. The fits and sep are given the true noise, and
the fits are also given the true PSF. The other methods are trained on 909 galaxies of
the same kind, and so learn the range of the parameters. The smallest possible
dispersion with all of this knowledge, from the Cramer-Rao bound, is shown too.

A method fails on a stamp if it raises, does not converge, or gives a flag that its
documentation calls bad. Such a stamp counts as a failure **and is left out of the
scores of this method**: a method that gives up on the hard stamps looks better on the
others.

The script needs ``pip install 'sklcae[simulate,plot]'``, and ``sklcae[compare]`` for
the third-party tools. It reports missing tools and runs the others. ``--only`` selects
the methods to run. The results are written to the folder ``profile_fitting`` (or
``--output``). ``--models`` names a folder with the networks. Missing networks are
trained and saved there; training takes most of the time. ``--quick`` is a small run to
check that the script works.
"""

import argparse
import copy
import importlib
import logging
import math
import time
import warnings
from functools import cache
from pathlib import Path

import galsim
import matplotlib as mpl
import numpy as np
import pandas as pd
from _figures import NAMES, save
from compare_networks import MODELS, TARGETS
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares
from scipy.special import gamma, gammaincinv
from sklearn.base import clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch
from threadpoolctl import threadpool_limits

from sklcae import ConditionalAutoencoderRegressor, ProfileFitRegressor
from sklcae.baselines import make_pca_baseline
from sklcae.datasets import cramer_rao_bound, make_galaxies, signal_to_noise
from sklcae.metrics import best_dispersion, dispersion, median_bias, outlier_share

# The defaults of make_galaxies: pixels and PSF in arcsec, noise in ADU and electrons.
SIDE, PIXEL_SCALE, PSF_FWHM = 64, 0.2, 0.7
SKY_LEVEL, GAIN, READ_NOISE = 10.0, 1.0, 2.0
SKY_NOISE = math.sqrt(SKY_LEVEL / GAIN + (READ_NOISE / GAIN) ** 2)
# Threshold between bright and faint: half of all galaxies are above 92.
BRIGHT = 75.0
BOUND = "Cramer-Rao bound"


class MeasurementError(Exception):
    """A measurement that its own method calls bad; the message gives the reason."""


# %%
# Conventions
# -----------
# Conventions of sklcae: the half-light radius is circularised, ``sqrt(a b)``, in
# arcsec; ellipticity is the distortion ``(a^2 - b^2) / (a^2 + b^2)``; x0 and y0 are in
# pixels from the outer corner of the first pixel; flux is the total flux of the galaxy,
# including the part outside the stamp. The tools give semi-major axes, axis ratios, and
# pixels from the centre of the first pixel.


def distortion(axis_ratio, angle):
    """Return e1 and e2 of an ellipse, its angle in radians from +x towards +y."""
    e = (1 - axis_ratio**2) / (1 + axis_ratio**2)
    return {"e1": e * np.cos(2 * angle), "e2": e * np.sin(2 * angle)}


def from_ellipse(semi_major, axis_ratio, angle, x, y):
    """Return radius, e1, e2 and centre of a half-light ellipse, all in pixels."""
    return {
        "half_light_radius": PIXEL_SCALE * semi_major * np.sqrt(axis_ratio),
        **distortion(axis_ratio, angle),
        "x0": x + 0.5,
        "y0": y + 0.5,
    }


def sersic_flux(intensity, semi_major, axis_ratio, index):
    """Return the total flux, from the intensity at the half-light ellipse."""
    b = gammaincinv(2 * index, 0.5)
    area = 2 * np.pi * axis_ratio * semi_major**2
    return intensity * area * index * np.exp(b) * b ** (-2 * index) * gamma(2 * index)


def noise_variance(expected):
    """Return the variance of pixels with this expected light, the sky subtracted."""
    electrons = np.clip(expected, 0, None) + SKY_LEVEL
    return electrons / GAIN + (READ_NOISE / GAIN) ** 2


def estimated_variance(stamp):
    """Return the variance of the noise, estimated from the smoothed stamp.

    If it were estimated from single pixels, low pixels would get more weight than high
    ones.
    """
    return noise_variance(gaussian_filter(stamp, 2.0))


@cache
def psf_image(upsample, with_pixel):
    """Draw the PSF on 21 x 21 pixels, each divided into upsample**2 pixels."""
    image = galsim.Gaussian(fwhm=PSF_FWHM).drawImage(
        nx=21 * upsample,
        ny=21 * upsample,
        scale=PIXEL_SCALE / upsample,
        method="auto" if with_pixel else "no_pixel",
    )
    return image.array.astype(float) / image.array.sum(dtype=float)


# %%
# GalSim and least squares
# ------------------------
# Moments give the initial guess. The weights come from the smoothed stamp first and
# then from the model, because weights from the noisy pixels would make galaxies too
# faint. The derivatives have steps that suit GalSim's tables. Bounds are wider than
# Table 1.

LOW = np.array([50.0, 0.1, 0.4, -0.65, -0.65, -4.0, -4.0])
HIGH = np.array([5e5, 8.0, 5.0, 0.65, 0.65, SIDE + 4.0, SIDE + 4.0])
SCALES = np.array([1e4, 1.0, 1.0, 0.1, 0.1, 1.0, 1.0])
STEPS = np.array([1e-3, 1e-3, 1e-2, 1e-3, 1e-3, 1e-2, 1e-2])


def draw_galaxy(parameters):
    flux, half_light_radius, sersic_index, e1, e2, x0, y0 = parameters
    galaxy = galsim.Sersic(sersic_index, half_light_radius=half_light_radius, flux=flux)
    seen = galsim.Convolve(galaxy.shear(e1=e1, e2=e2), galsim.Gaussian(fwhm=PSF_FWHM))
    image = galsim.ImageD(SIDE, SIDE, scale=PIXEL_SCALE)
    # GalSim calls the centre of the first pixel 1.
    return seen.drawImage(image, center=galsim.PositionD(x0 + 0.5, y0 + 0.5)).array


def guess_parameters(stamp):
    """Return initial parameters, from the moments of the pixels above the noise."""
    width = 2.0
    smooth = gaussian_filter(stamp, width)
    noise = SKY_NOISE / (2 * width * np.sqrt(np.pi))
    light = np.where(smooth > max(3 * noise, 0.02 * smooth.max()), smooth, 0)
    light.flat[smooth.argmax()] += noise
    y, x = np.indices(stamp.shape) + 0.5
    x0, y0 = np.average(x, weights=light), np.average(y, weights=light)
    # A tenth of a pixel squared keeps a single pixel round.
    xx = np.average((x - x0) ** 2, weights=light) + 0.1
    yy = np.average((y - y0) ** 2, weights=light) + 0.1
    xy = np.average((x - x0) * (y - y0), weights=light)
    blur = (PSF_FWHM / PIXEL_SCALE / 2.355) ** 2 + width**2
    size = np.sqrt(max((xx + yy) / 2 - blur, 1.0))
    # 1.18 is the half-light radius of a Gaussian; the outskirts are in the noise.
    radius, flux = 1.3 * 1.18 * size * PIXEL_SCALE, 1.3 * light.sum() + 100
    guess = [flux, radius, 1.5, (xx - yy) / (xx + yy), 2 * xy / (xx + yy), x0, y0]
    return np.clip(guess, LOW + 1e-3, HIGH - 1e-3)


def draw_derivatives(parameters):
    """Return the derivative of the stamp by each parameter, (7, height, width)."""
    here = draw_galaxy(parameters)
    steps = STEPS * np.where(np.arange(7) == 1, parameters, 1.0)
    steps = np.where(parameters + steps > HIGH, -steps, steps)
    moved = [
        (draw_galaxy(parameters + step) - here) / step.sum()
        for step in np.diag(steps)[1:]
    ]
    return np.stack([here / parameters[0], *moved])


def fit_once(stamp, variance, start):
    root = np.sqrt(variance)
    return least_squares(
        lambda parameters: ((draw_galaxy(parameters) - stamp) / root).ravel(),
        start,
        jac=lambda parameters: (draw_derivatives(parameters) / root).reshape(7, -1).T,
        bounds=(LOW, HIGH),
        x_scale=SCALES,
        xtol=1e-3,
        ftol=1e-4,
        max_nfev=50,
    )


def fit_with_galsim(stamp):
    first = fit_once(stamp, estimated_variance(stamp), guess_parameters(stamp))
    result = fit_once(stamp, noise_variance(draw_galaxy(first.x)), first.x)
    if not result.success:
        raise MeasurementError("not converged")
    return dict(zip(TARGETS, result.x, strict=True))


# %%
# AstroPhot
# ---------
# The call follows its introduction: a target with pixel scale, variance and PSF, the
# model's own initialization, and ``fit.LM``, its recommended fitter. AstroPhot
# recommends a PSF finer than the pixels. It integrates the galaxy over the (fine)
# pixels before it convolves, so the PSF must not include the pixel response. Otherwise
# noiseless galaxies come out too small. Its angles are from north to east, its centres
# in arcsec.

UPSAMPLE = 3


def fit_with_astrophot(stamp):
    import astrophot

    astrophot.config.set_logging_output(stdout=False)
    psf = psf_image(UPSAMPLE, with_pixel=False)
    target = astrophot.TargetImage(
        data=stamp,
        variance=estimated_variance(stamp),
        pixelscale=PIXEL_SCALE,
        psf=astrophot.PSFImage(data=psf, upsample=UPSAMPLE),
    )
    model = astrophot.Model(
        model_type="sersic galaxy model", target=target, sampling_mode="midpoint"
    )
    model.initialize()
    result = astrophot.fit.LM(model, verbose=0).fit()
    if "fail" in result.message:
        raise MeasurementError(result.message)
    return read_astrophot(model)


def read_astrophot(model):
    index, radius, intensity, axis_ratio, angle = (
        float(model[name].npvalue) for name in ("n", "Re", "Ie", "q", "PA")
    )
    x, y = model["center"].npvalue / PIXEL_SCALE
    return {
        "flux": sersic_flux(intensity, radius, axis_ratio, index),
        "sersic_index": index,
        **from_ellipse(radius / PIXEL_SCALE, axis_ratio, angle - np.pi / 2, x, y),
    }


# %%
# statmorph
# ---------
# The call follows its tutorial: photutils finds the source 1.5 sigma above the noise on
# the stamp smoothed by the PSF. statmorph evaluates the galaxy at the centres of the
# pixels, so the PSF has to include the pixel response. ``flag`` and ``flag_sersic``
# above 1 are "bad".


def segment(stamp):
    """Return the segmentation map of the largest source."""
    from photutils.segmentation import detect_sources

    smooth = gaussian_filter(stamp, PSF_FWHM / PIXEL_SCALE / 2.355)
    segments = detect_sources(smooth, 1.5 * SKY_NOISE, 5)
    if segments is None:
        raise MeasurementError("not detected")
    segments.keep_label(segments.labels[np.argmax(segments.areas)], relabel=True)
    return segments


def fit_with_statmorph(stamp):
    import statmorph

    (source,) = statmorph.source_morphology(
        stamp,
        segment(stamp),
        weightmap=np.sqrt(estimated_variance(stamp)),
        psf=psf_image(1, with_pixel=True),
    )
    for flag in ("flag", "flag_sersic"):
        if source[flag] > 1:
            raise MeasurementError(f"{flag} = {source[flag]}")
    ellipse = source.sersic_rhalf, 1 - source.sersic_ellip
    return {
        "flux": sersic_flux(source.sersic_amplitude, *ellipse, source.sersic_n),
        "sersic_index": source.sersic_n,
        **from_ellipse(
            *ellipse, source.sersic_theta, source.sersic_xc, source.sersic_yc
        ),
    }


# %%
# sep
# ---
# The call follows its documentation: the brightest of the sources 1.5 sigma above the
# noise, FLUX_AUTO (within 2.5 Kron radii, or within a circle if these are too small)
# and the radius that holds half of this flux. The PSF is not corrected for, and there
# is no Sersic index. A flag for a source cut by the edge does not make a measurement
# bad.


def measure_with_sep(stamp):
    import sep

    objects = sep.extract(stamp, 1.5, err=SKY_NOISE)
    if len(objects) == 0:
        raise MeasurementError("not detected")
    # The functions of sep need an array, here of one source.
    one = objects[[np.argmax(objects["flux"])]]
    flux, flag = auto_flux(stamp, one)
    if (flag & (sep.APER_ALLMASKED | sep.APER_NONPOSITIVE) | (flux <= 0)).any():
        raise MeasurementError("no Kron flux")
    radius, _ = sep.flux_radius(
        stamp, one["x"], one["y"], 6.0 * one["a"], 0.5, normflux=flux, subpix=5
    )
    a, b, theta, x, y = (one[name].item() for name in ("a", "b", "theta", "x", "y"))
    return {
        **from_ellipse(a, b / a, theta, x, y),
        "flux": flux.item(),
        "half_light_radius": PIXEL_SCALE * radius.item(),
    }


def auto_flux(stamp, one):
    """Return Source Extractor's FLUX_AUTO and its flags."""
    import sep

    smallest = 1.75
    x, y, *ellipse = (one[name] for name in ("x", "y", "a", "b", "theta"))
    kron, kron_flag = sep.kron_radius(stamp, x, y, *ellipse, 6.0)
    if (kron * np.sqrt(one["a"] * one["b"]) < smallest).item():
        flux, _, flag = sep.sum_circle(stamp, x, y, smallest, subpix=1)
    else:
        flux, _, flag = sep.sum_ellipse(stamp, x, y, *ellipse, 2.5 * kron, subpix=1)
    return flux, flag | kron_flag


# %%
# The tools that take one stamp at a time, and the packages that they need.

TOOLS = {
    "GalSim, least squares": (fit_with_galsim, ["galsim"]),
    "AstroPhot": (fit_with_astrophot, ["astrophot"]),
    "statmorph": (fit_with_statmorph, ["statmorph", "photutils"]),
    "sep": (measure_with_sep, ["sep"]),
}


def missing_packages(packages):
    """Import packages and return the missing ones."""
    # Without a handler AstroPhot would write a log file when it is imported.
    logging.getLogger().addHandler(logging.NullHandler())
    missing = []
    for package in packages:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(package)
        except ImportError:
            missing.append(package)
    return missing


def choose_tools(only=()):
    """Return the selected tools that are installed, and report the missing ones."""
    tools = {}
    for name, (measure, packages) in wanted(TOOLS, only).items():
        if missing := missing_packages(packages):
            print(
                f"Left out: {name}, for lack of {', '.join(missing)}: "
                "pip install 'sklcae[compare]'"
            )
        else:
            tools[name] = measure
    return tools


# %%
# sklcae's profile fit
# --------------------
# It takes all stamps at once, needs no training, and starts from image moments. A fit
# that has not converged, which has no error bars, is a failure.


def make_fits():
    """Return the profile fits by name."""
    settings = {
        "psf": PSF_FWHM,
        "noise": SKY_NOISE,
        "pixel_scale": PIXEL_SCALE,
        "gain": GAIN,
        "target_names": TARGETS,
    }
    return {
        "sklcae's profile fit": ProfileFitRegressor(**settings, fit_sky=False),
        "sklcae's profile fit, free sky": ProfileFitRegressor(**settings),
    }


FITS = list(make_fits())


def fit_with_sklcae(fitter, galaxies):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        y, std = fitter.predict(galaxies.data, return_std=True)
    failed = np.isnan(std).any(axis=1)
    return pd.DataFrame(y, columns=TARGETS).assign(
        failure=np.where(failed, "not converged", "")
    )


# %%
# Learned methods
# ---------------

NETWORKS = {
    "paper's network": ConditionalAutoencoderRegressor(),
    # As many epochs as in docs/results/comparison.rst.
    "strided network": clone(MODELS["strided"]).set_params(max_epochs=60),
    "neural field": MODELS["neural_field"],
    # It sees new galaxies in every epoch.
    "sersic network": clone(MODELS["sersic"]).set_params(max_epochs=300),
}
TURNED = "neural field, turned"


def file_of(network):
    return f"{NETWORKS[network].network}.sklcae"


def make_models(options):
    """Return the models that are not fitted yet, and the loaded models."""
    quick = {"max_epochs": 2} if options.quick else {}
    models = {"PCA, 64": make_pca_baseline(), "PLS, 64": PLSRegression(64)}
    loaded = {}
    for name, model in NETWORKS.items():
        path = options.models and options.models / file_of(name)
        if path and path.exists():
            loaded[name] = ConditionalAutoencoderRegressor.load(path)
        else:
            models[name] = clone(model).set_params(random_state=options.seed, **quick)
    return wanted(models, options.only), wanted(loaded, options.only)


def wanted(methods, only):
    """Return the selected methods."""
    if not only:
        return methods
    return {name: method for name, method in methods.items() if name in only}


def fit_models(models, X, y, folder):
    for name, model in models.items():
        start = time.process_time()
        model.fit(X, y)
        print(
            f"{name}: trained in {time.process_time() - start:.0f} core-s", flush=True
        )
        if folder is not None and name in NETWORKS:
            folder.mkdir(parents=True, exist_ok=True)
            model.save(folder / file_of(name))


# %%
# Galaxies
# --------
# Simulated by make_galaxies and sorted into three groups. A galaxy is cut if its centre
# is nearer to an edge than its half-light radius.


def make_groups(pool_size, group_size, seed):
    """Return the galaxies of each group, from a pool of `pool_size` galaxies."""
    pool = make_galaxies(pool_size, random_state=seed, return_X_y=False, n_jobs=-1)
    clean, _ = make_galaxies(pool_size, random_state=seed, noise=False, n_jobs=-1)
    frame = pool.frame
    sides = [frame["x0"], SIDE - frame["x0"], frame["y0"], SIDE - frame["y0"]]
    cut = np.minimum.reduce(sides) < frame["half_light_radius"] / PIXEL_SCALE
    bright = signal_to_noise(clean) >= BRIGHT
    members = {"bright": bright & ~cut, "faint": ~bright & ~cut, "cut": cut}
    return {
        name: choose(pool, np.flatnonzero(chosen)[:group_size])
        for name, chosen in members.items()
    }


def choose(galaxies, rows):
    """Return some of the galaxies, with all entries that cramer_rao_bound needs."""
    arrays = {name: galaxies[name][rows] for name in ("data", "images", "target")}
    frame = galaxies.frame.iloc[rows].reset_index(drop=True)
    return Bunch(**{**galaxies, **arrays, "frame": frame})


# %%
# Measurements
# ------------
# The cost is the CPU time of all threads of this process; no tool starts other
# processes. Packages are imported before. The learned methods get all stamps of a group
# at once.


def attempt(measure, stamp):
    """Return the parameters of a stamp, or the reason for a failure."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = measure(stamp)
    # Every exception of a tool counts as a failure.
    except Exception as error:
        reason = str(error) if isinstance(error, MeasurementError) else repr(error)
        return {"failure": reason[:80]}
    finite = np.isfinite(list(values.values())).all()
    return {**values, "failure": "" if finite else "not finite"}


def measure_with_tool(measure, galaxies):
    rows = [attempt(measure, stamp.astype(float)) for stamp in galaxies.images]
    return pd.DataFrame(rows, columns=[*TARGETS, "failure"])


def measure_with_model(model, galaxies):
    return pd.DataFrame(model.predict(galaxies.data), columns=TARGETS).assign(
        failure=""
    )


def measure_all(groups, tools, fits, models):
    """Return a row for each method, group and stamp."""
    tables = []
    jobs = [(name, measure_with_tool, tool) for name, tool in tools.items()]
    jobs += [(name, fit_with_sklcae, fitter) for name, fitter in fits.items()]
    jobs += [(name, measure_with_model, model) for name, model in models.items()]
    for name, measure, method in jobs:
        for group, galaxies in groups.items():
            start = time.process_time()
            table = measure(method, galaxies)
            cost = (time.process_time() - start) / len(table)
            columns = {"method": name, "group": group, "stamp": table.index}
            tables.append(table.assign(**columns, core_seconds=cost))
        print(f"{name}: {cost:.2g} core-s a galaxy in the last group", flush=True)
    return pd.concat(tables, ignore_index=True)


# %%
# Scores
# ------


def score(groups, measurements):
    """Return a row for each group, method and target."""
    rows = [
        {"group": group, "method": method, "target": target, **scores}
        for (group, method), table in measurements.groupby(
            ["group", "method"], sort=False
        )
        for target, scores in score_table(groups[group].frame, table).items()
    ]
    return pd.DataFrame(rows)


def score_table(frame, table):
    """Return the scores of one method in one group, for each target."""
    good = table[table["failure"] == ""]
    common = {
        "n_measured": len(good),
        "n_failed": len(table) - len(good),
        "core_seconds": table["core_seconds"].iloc[0],
    }
    scores = {}
    for target in TARGETS:
        pair = frame.loc[good["stamp"], target], good[target].to_numpy()
        if len(good) and not good[target].isna().all():
            scores[target] = {
                "bias": median_bias(*pair, target_names=target),
                "dispersion": dispersion(*pair, target_names=target),
                "outlier_share": outlier_share(*pair, target_names=target),
            }
    return {target: {**scores.get(target, {}), **common} for target in TARGETS}


def score_bound(groups):
    """Return the smallest possible dispersions, in the same columns."""
    rows = []
    for group, galaxies in groups.items():
        variance = cramer_rao_bound(galaxies, targets=TARGETS, n_jobs=-1).variance
        best = best_dispersion(
            galaxies.frame[TARGETS], variance, multioutput="raw_values"
        )
        for target, value in zip(TARGETS, best, strict=True):
            row = {"group": group, "method": BOUND, "target": target}
            rows.append({**row, "dispersion": value, "n_measured": len(variance)})
    return pd.DataFrame(rows)


# %%
# Tables and figure
# -----------------


def cell(row):
    if np.isnan(row.bias):
        return "" if np.isnan(row.dispersion) else f"{row.dispersion:.3f}"
    return f"{row.bias:+.3f}, {row.dispersion:.3f}, {row.outlier_share:.0%}"


def as_markdown(scores, left_out):
    """Return a table for each group, a line for each method."""
    lines = [
        *(f"Not installed, and so left out: {name}." for name in left_out),
        "Median bias, dispersion, outliers (error above 0.5) of the stamps that were "
        "measured; those that failed are left out. Errors are relative for flux and "
        "radius, in dex for the Sersic index, and absolute for the others, x0 and y0 "
        "in pixels. Cost in core-seconds per galaxy.",
    ]
    head = ["method", "cost", "measured", "failed", *TARGETS]
    for group, table in scores.groupby("group", sort=False):
        lines += ["", f"## {group}", "", bar(head), bar(["---"] * len(head))]
        for method, rows in table.groupby("method", sort=False):
            cells = [method, *numbers(rows.iloc[0]), *map(cell, rows.itertuples())]
            lines.append(bar(cells))
    return "\n".join(lines) + "\n"


def numbers(row):
    formats = {"core_seconds": "{:.2g}", "n_measured": "{:.0f}", "n_failed": "{:.0f}"}
    return [
        "" if np.isnan(row[name]) else form.format(row[name])
        for name, form in formats.items()
    ]


def bar(cells):
    return f"| {' | '.join(cells)} |"


def draw(scores, targets=("flux", "half_light_radius")):
    """Draw the dispersion against the cost, a column for each group."""
    groups = scores["group"].unique()
    figure = Figure(figsize=(12, 7.5), layout="constrained")
    axes = figure.subplots(
        len(targets), len(groups), sharex=True, sharey="row", squeeze=False
    )
    for row, target in zip(axes, targets, strict=True):
        for ax, group in zip(row, groups, strict=True):
            chosen = (scores["group"] == group) & (scores["target"] == target)
            draw_panel(ax, scores[chosen])
            ax.set_title(f"{NAMES[target]}, {group}")
        row[0].set_ylabel("relative dispersion")
    for ax in axes[-1]:
        ax.set_xlabel("time per galaxy [core-second]")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=5,
        title="Percentages are the stamps on which a method failed, which are left out",
    )
    return figure


def draw_panel(ax, table):
    for row in table.itertuples():
        if row.method == BOUND:
            ax.axhline(row.dispersion, color="gray", ls="--", label=BOUND)
            continue
        ax.loglog(row.core_seconds, row.dispersion, "o", label=row.method)
        if row.n_failed:
            share = row.n_failed / (row.n_failed + row.n_measured)
            ax.annotate(
                f"{share:.0%}",
                (row.core_seconds, row.dispersion),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                fontsize="small",
            )


# %%
# The whole run
# -------------


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description="Compare with profile fitting.")
    parser.add_argument("--output", type=Path, default=Path("profile_fitting"))
    parser.add_argument(
        "--models", type=Path, help="folder of the networks, loaded or saved there"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        choices=[*TOOLS, *FITS, "PCA, 64", "PLS, 64", *NETWORKS],
        help="the methods to run, default all; the neural field in both ways",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="a small run; its scores are meaningless"
    )
    return parser.parse_args(arguments)


def prepare_models(options):
    models, loaded = make_models(options)
    n_samples = 80 if options.quick else 909
    training = make_galaxies(
        n_samples, random_state=options.seed, return_X_y=False, n_jobs=-1
    )
    fit_models(models, training.data, training.frame[TARGETS], options.models)
    return {**models, **loaded}


def prepare_fits(groups, only):
    """Return the selected fits, after a first call that makes their tables."""
    stamps = next(iter(groups.values())).data
    fits = wanted(make_fits(), only)
    for fitter in fits.values():
        fitter.fit(stamps).predict(stamps[:1])
    return fits


def add_turned(models):
    """Add a copy of the neural field that predicts with test-time augmentation."""
    if "neural field" not in models:
        return models
    turned = copy.deepcopy(models["neural field"])
    return {**models, TURNED: turned.set_params(test_time_augmentation=True)}


def tell_failures(measurements):
    failed = measurements[measurements["failure"] != ""]
    if len(failed):
        counts = failed.groupby(["method", "group", "failure"]).size()
        print(f"\nFailures\n{counts.to_string()}", flush=True)


def main(arguments=None):
    options = parse_arguments(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    sizes = (120, 3) if options.quick else (1500, 100)
    tools = choose_tools(options.only)
    # One thread for each tool, so that a core-second is a second of one core.
    with threadpool_limits(1):
        models = add_turned(prepare_models(options))
        groups = make_groups(*sizes, options.seed + 1)
        fits = prepare_fits(groups, options.only)
        measurements = measure_all(groups, tools, fits, models)
        scores = pd.concat([score(groups, measurements), score_bound(groups)])
    tell_failures(measurements)
    measurements.to_csv(options.output / "measurements.csv", index=False)
    scores.to_csv(options.output / "profile_fitting.csv", index=False)
    left_out = [name for name in wanted(TOOLS, options.only) if name not in tools]
    markdown = as_markdown(scores, left_out)
    print(f"\n{markdown}", flush=True)
    (options.output / "profile_fitting.md").write_text(markdown, encoding="utf-8")
    save(draw(scores), options.output / "profile_fitting.png", options.quick)
    print(f"Wrote three tables to {options.output}")


if __name__ == "__main__":
    mpl.use("Agg")
    main()
