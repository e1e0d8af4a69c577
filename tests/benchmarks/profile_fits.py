"""ProfileFitRegressor against the Cramer-Rao bound, in fifths of signal-to-noise.

    PYTHONPATH=. python tests/benchmarks/profile_fits.py [--psf mixed] [--sky 1]

The stamps are centred within 4 pixels and have radii of 0.3 to 3 arcsec, otherwise the
ranges of Table 1. "mixed" gives each stamp a PSF of its own, in a plane: 0.5 to 1.2
arcsec wide, ellipticity up to 0.1, half of them Gaussian and half Moffat. ``--sky`` is
a background left in the stamps, in units of the noise of an empty pixel.

``cramer_rao_bound`` has no sky. Without a sky in the stamps, fits with a fixed sky are
compared with it. Fits with a free sky are compared with the bound of the renderer's own
derivatives and a column of ones. Both ratios are printed for both fits.

``--estimator`` names a saved model, from whose predictions the fits start. With
``--one-pass`` the predictions of the model itself are scored, with ``--turned`` also
their mean over all flips and rotations.
``--fwhm`` is the width of the one PSF in arcsec, for models with a plane "psf".
``--cost`` measures core-seconds a stamp, on one thread, against GalSim and
``least_squares`` on the same stamps.

Columns, each in units of the median error of the bound in the fifth: "over" is the
dispersion, over the bound with a free and with a fixed sky; "best" the smallest
possible dispersion, over the bound of the fit; "bias" the median error. Errors are
relative for flux, radius and index. "in 68" and "in 95" are the percentages of stamps
within the intervals, symmetric from ``return_std`` and of ``predict_interval``.
Stamps without an error bar count as outside. "R2" is that of all stamps with a result,
"best R2" that of an estimator at the bound.
"""

import argparse
import time
import warnings

import numpy as np
import pandas as pd
import torch
from profile_fit import fit_profile
from records import Record, add_option
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.utils import Bunch
from threadpoolctl import threadpool_limits

from sklcae import ConditionalAutoencoderRegressor, ProfileFitRegressor
from sklcae._profiles import PARAMETERS, to_rendered
from sklcae._torch.sersic import psf_waves, render_with_jacobian, transform_size
from sklcae.datasets import cramer_rao_bound, make_galaxies
from sklcae.exceptions import OutsideTrainingWarning
from sklcae.metrics import best_dispersion, best_r2, dispersion, median_bias

NAMES = list(PARAMETERS)
ERRORS = ["relative"] * 3 + ["absolute"] * 4
PLANES = ("image", "variance", "psf")
PIXEL_SCALE, PSF_FWHM = 0.2, 0.7
STAMPS = {
    "half_light_radius": (0.3, 3.0),
    "x0": (28.0, 36.0),
    "y0": (28.0, 36.0),
    "targets": NAMES,
    "planes": PLANES,
    "return_X_y": False,
}
MIXED = {"psf_fwhm": (0.5, 1.2), "psf_ellipticity": (0.0, 0.1)}
MIXED |= {"psf_position_angle": (0.0, 180.0), "moffat_beta": (2.5, 5.0)}
SKIES = ("free", "fixed")
LEVELS = (0.68, 0.95)
N_BINS = 5
N_FOR_COST = 250


# Stamps and their bounds --------------------------------------------------------------


def simulate(n, psf, sky, seed, fwhm=PSF_FWHM):
    """Return X with all planes, y, the bounds by sky and the signal-to-noise ratios."""
    if psf == "one":
        parts = [make_galaxies(n, psf_fwhm=fwhm, random_state=seed, **STAMPS)]
    else:
        sizes = {"gaussian": n - n // 2, "moffat": n // 2}
        parts = [
            make_galaxies(size, psf=kind, random_state=seed + i, **STAMPS, **MIXED)
            for i, (kind, size) in enumerate(sizes.items())
        ]
    bounds = [bounds_of(part) for part in parts]
    X = np.concatenate([part.data for part in parts])
    X[:, 0] += sky * np.sqrt(X[:, 1])
    joined = {key: np.concatenate([one[key] for one in bounds]) for key in bounds[0]}
    return Bunch(X=X, y=np.concatenate([part.target for part in parts]), **joined)


def bounds_of(galaxies):
    """Return the variances (n, 7) with a free and a fixed sky, and signal-to-noise."""
    bound = cramer_rao_bound(galaxies, prior=None, n_jobs=-1)
    return {
        "free": variances_with_sky(galaxies),
        "fixed": np.diagonal(bound.covariance, axis1=1, axis2=2),
        "signal_to_noise": bound.signal_to_noise,
    }


def variances_with_sky(galaxies):
    """Return the variances of the bound with a free sky, (n, 7).

    The derivatives are those of the renderer: numerical ones are too coarse for
    parameters that a sky nearly imitates.
    """
    y, n = galaxies.target, len(galaxies.target)
    parameters = np.column_stack(
        [to_rendered(name, y[:, i], PIXEL_SCALE) for i, name in enumerate(NAMES)]
    )
    # From logarithms and pixels to the units of y.
    units = np.ones_like(y)
    units[:, :3] = y[:, :3]
    shape = galaxies.images.shape[1:]
    variances = np.empty((n, len(NAMES)))
    for i in range(n):
        psf = torch.from_numpy(galaxies.psf_images[i][None].astype(np.float64))
        waves = psf_waves(psf, transform_size(shape))
        theta = torch.from_numpy(parameters[i][None])
        jacobian = render_with_jacobian(theta, waves, shape)[0].numpy()
        light = np.maximum(jacobian[0], 0) / galaxies.gain
        derivatives = np.concatenate([jacobian, np.ones_like(jacobian[:1])])
        derivatives /= np.sqrt(galaxies.variance_images[i] + light)
        fisher = np.tensordot(derivatives, derivatives, ([1, 2], [1, 2]))
        variances[i] = np.diagonal(np.linalg.inv(fisher))[:-1]
    return variances * units**2


# Measurements -------------------------------------------------------------------------


def make_fitter(model, psf, fit_sky):
    """Return a ProfileFitRegressor for stamps with the planes of the model."""
    planes = PLANES if model is None else model.planes
    if "psf" not in planes and psf != "one":
        raise SystemExit("A model without a plane 'psf' needs --psf one.")
    is_known = "psf" in planes or getattr(model, "psf", None) is not None
    return ProfileFitRegressor(
        model,
        prefit=model is not None,
        planes=planes,
        psf=None if is_known else PSF_FWHM,
        pixel_scale=PIXEL_SCALE,
        target_names=NAMES,
        fit_sky=fit_sky,
    )


def planes_of(X, planes):
    """Return the planes that an estimator takes; plain images are flat rows."""
    if tuple(planes) == ("image",):
        return X[:, 0].reshape(len(X), -1)
    return X[:, [PLANES.index(kind) for kind in planes]]


def read(model, X):
    """Return predictions and intervals by kind and level, without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", OutsideTrainingWarning)
        y, std = model.predict(X, return_std=True)
        intervals = {
            ("interval", level): model.predict_interval(X, level) for level in LEVELS
        }
    for level in LEVELS:
        width = norm.isf((1 - level) / 2) * std
        intervals["std", level] = y - width, y + width
    return y, std, intervals


def methods_of(model, options):
    """Yield the name of each method, its estimator, and the sky of its bound."""
    if options.one_pass:
        for turned in (False, True)[: 1 + options.turned]:
            model.set_params(test_time_augmentation=turned)
            yield ("turned" if turned else "one pass"), model, "fixed"
        return
    for sky in SKIES if options.sky == 0 else SKIES[:1]:
        yield f"fit, {sky} sky", make_fitter(model, options.psf, sky == "free"), sky


# Scores -------------------------------------------------------------------------------


def score(galaxies, sky, y, std, intervals):
    """Return a row for each fifth of signal-to-noise and each parameter."""
    edges = np.quantile(galaxies.signal_to_noise, np.linspace(0, 1, N_BINS + 1))
    bins = np.searchsorted(edges[1:-1], galaxies.signal_to_noise, side="right")
    rows = []
    for i in range(N_BINS):
        chosen = np.flatnonzero(bins == i)
        title = f"{edges[i]:.0f} to {edges[i + 1]:.0f}"
        scores = score_bin(galaxies, sky, y, std, intervals, chosen)
        rows += [{"S/N": title, "of": name, **one} for name, one in scores.items()]
    return pd.DataFrame(rows)


def score_bin(galaxies, sky, y, std, intervals, chosen):
    """Return the scores of some stamps by parameter."""
    true, found = galaxies.y[chosen], y[chosen]
    known = np.isfinite(found).all(axis=1)
    kinds = {"errors": ERRORS, "multioutput": "raw_values"}
    unit = {one: median_error(true, galaxies[one][chosen]) for one in SKIES}
    width = dispersion(true[known], found[known], **kinds)
    best = best_dispersion(true, galaxies[sky][chosen], **kinds)
    columns = {
        **{f"over, {one}": width / unit[one] for one in SKIES},
        "best": best / unit[sky],
        "bias": median_bias(true[known], found[known], **kinds) / unit[sky],
    }
    for (kind, level), (low, high) in intervals.items():
        inside = (low[chosen] < true) & (true < high[chosen])
        columns[f"in {100 * level:.0f}, {kind}"] = 100 * inside.mean(axis=0)
    columns["no error, %"] = 100 * np.isnan(std[chosen]).mean(axis=0)
    return pd.DataFrame(columns, index=NAMES).T.to_dict()


def score_r2(galaxies, sky, y):
    """Return R2 of the stamps with a result, and the best possible one."""
    known = np.isfinite(y).all(axis=1)
    true, kind = galaxies.y, {"multioutput": "raw_values"}
    columns = {
        "of": NAMES,
        "R2": r2_score(true[known], y[known], **kind),
        "best R2": best_r2(true, galaxies[sky], **kind),
    }
    return pd.DataFrame(columns)


def median_error(true, variance):
    """Return the median error of the bound, relative for some of the parameters."""
    scale = [1 / np.abs(true[:, i]) if i < 3 else 1 for i in range(len(NAMES))]
    return np.array(
        [np.median(np.sqrt(variance[:, i]) * scale[i]) for i in range(len(NAMES))]
    )


# Cost ---------------------------------------------------------------------------------


def compare_cost(model, seed):
    """Print core-seconds a stamp of the fits and of GalSim's, and their errors.

    GalSim's fit takes the sky as known.
    """
    galaxies = simulate(N_FOR_COST, "one", 0, seed)
    measures = {f"fit, {sky} sky": make_measure(model, sky, galaxies) for sky in SKIES}
    measures["GalSim, least squares"] = fit_all
    torch.set_num_threads(1)
    seconds = {}
    for name, measure in measures.items():
        with threadpool_limits(1):
            # The first call makes tables.
            measure(galaxies.X[:2])
            start = time.process_time()
            found = measure(galaxies.X)
            seconds[name] = (time.process_time() - start) / N_FOR_COST
        error = np.abs(found - galaxies.y) / np.sqrt(galaxies.fixed)
        print(f"{name}: {1000 * seconds[name]:.1f} core-ms a stamp; 68 % of the errors")
        print("  over those of the bound with a fixed sky are below", end=" ")
        print(np.quantile(error, 0.68, axis=0).round(2).tolist(), flush=True)
    *ours, theirs = seconds.values()
    print("GalSim's fit costs", [round(theirs / own) for own in ours], "times as much")


def make_measure(model, sky, galaxies):
    fitter = make_fitter(model, "one", fit_sky=sky == "free")
    fitter.fit(planes_of(galaxies.X, fitter.planes))
    return lambda X: fitter.predict(planes_of(X, fitter.planes))


def fit_all(X):
    return np.array([fit_profile(image)[0] for image in X[:, 0]])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=2500)
    parser.add_argument("--psf", choices=["one", "mixed"], default="one")
    parser.add_argument("--fwhm", type=float, default=PSF_FWHM, help="of the one PSF")
    parser.add_argument("--sky", type=float, default=0.0)
    parser.add_argument("--estimator", help="a saved model")
    parser.add_argument("--one-pass", action="store_true")
    parser.add_argument("--turned", action="store_true")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--seed", type=int, default=77)
    add_option(parser)
    options = parser.parse_args()
    if options.one_pass and not options.estimator:
        parser.error("--one-pass needs --estimator")
    model = None
    if options.estimator:
        model = ConditionalAutoencoderRegressor.load(options.estimator)
        # Turned predictions are more accurate than a start needs to be.
        model.set_params(test_time_augmentation=False)
    if options.cost:
        compare_cost(model, options.seed)
        return
    record = Record()
    asked = options.n, options.psf, options.sky, options.seed, options.fwhm
    galaxies = simulate(*asked)
    for name, estimator, sky in methods_of(model, options):
        X = planes_of(galaxies.X, estimator.planes)
        if not options.one_pass:
            # Shape and names alone: fits of stamps are not compared with y.
            estimator.fit(X)
        start = time.process_time()
        found = read(estimator, X)
        # Three predictions: with standard deviations, and two intervals.
        cost = 1000 * (time.process_time() - start) / (3 * options.n)
        print(f"\n{name}: {cost:.1f} core-ms a stamp")
        tables = {"bins": score(galaxies, sky, *found)}
        tables["R2"] = score_r2(galaxies, sky, found[0])
        for kind, table in tables.items():
            print(table.round(3).to_string(index=False), flush=True)
            record.add(kind, table.assign(method=name, n=options.n))
    record.write(options.json)


if __name__ == "__main__":
    main()
