"""Profile fits of crowded and spoiled stamps, against the Cramer-Rao bound.

    PYTHONPATH=. python tests/benchmarks/crowded.py one four correlated --n 500

Galaxies have radii of 0.3 to 3 arcsec, centres within 4 pixels of the middle, a PSF of
0.7 arcsec in pixels of 0.2 arcsec, and otherwise the ranges of Table 1. The cases:

isolated      no neighbours, fitted as if there could be some
one, four     so many neighbours at 1.6 to 6 arcsec, of 0.2 to 1 times the flux
correlated    noise smoothed by a Gaussian of 0.8 pixels, its correlation estimated
cosmic        cosmic rays, two on average
bulge         a bulge of 0.1 to 0.6 of the light, with the de Vaucouleurs profile
colours       three bands with fluxes of their own; errors of magnitudes

The rows are galaxies with a flux above 15,000 ADU, and all. Columns: "outliers" is the
share with a flux wrong by more than half; "bias" the median relative error in percent,
and "over" the dispersion over the bound with all sources and the sky free, for each
parameter; "in 68" is the percentage of galaxies within one standard deviation. The
bound of a parameter is the median of its errors. With ``--model`` the predictions of a
saved model are scored too, with the same bound, or alone with ``--one-pass``; "ground"
is the model of `load_pretrained`.

"psf" gives stamps of 1.2 arcsec seeing to fits that are told 0.7, and prints the area
under the curve (ROC AUC) of the flag's statistic. "flags" prints which errors above
three standard deviations are flagged, of fits with neighbours and masked cosmic rays.
"""

import argparse
import time
import warnings

import numpy as np
import pandas as pd
import torch
from records import Record, add_option
from sklearn.metrics import roc_auc_score

from sklcae import (
    ConditionalAutoencoderRegressor,
    ProfileFitRegressor,
    load_pretrained,
)
from sklcae._profiles import ONE_BAND, PARAMETERS
from sklcae._torch.sersic import psf_waves, render_with_jacobian, transform_size
from sklcae.datasets import make_galaxies

NAMES = list(PARAMETERS)
PLANES = ("image", "variance", "psf")
PIXEL_SCALE, FWHM, BRIGHT = 0.2, 0.7, 15_000.0
STAMPS = {
    "half_light_radius": (0.3, 3.0),
    "x0": (28.0, 36.0),
    "y0": (28.0, 36.0),
    "targets": NAMES,
    "planes": PLANES,
    "return_X_y": False,
    "psf_fwhm": FWHM,
}
MOST_NEIGHBOURS = 8
OUTLIER = 0.5


def simulate(case, n, seed):
    """Return the galaxies of a case, from `make_galaxies`."""
    settings = {
        "isolated": {},
        "one": {"neighbours": np.full(n, 1)},
        "four": {"neighbours": np.full(n, 4)},
        "correlated": {"noise_correlation": 0.8},
        "cosmic": {"cosmic_rays": 2.0},
        "bulge": {"bulge_fraction": (0.1, 0.6), "sersic_index": 1.0},
    }
    return make_galaxies(n, random_state=seed, **STAMPS, **settings[case])


def make_fitter(case, **kwargs):
    """Return the estimator for a case."""
    options = {
        "isolated": {"max_neighbours": MOST_NEIGHBOURS},
        "one": {"max_neighbours": MOST_NEIGHBOURS},
        "four": {"max_neighbours": MOST_NEIGHBOURS},
        "correlated": {"noise_correlation": "estimate"},
        "cosmic": {"mask_cosmic_rays": True},
        "bulge": {"bulge": True},
    }
    return ProfileFitRegressor(
        planes=PLANES,
        pixel_scale=PIXEL_SCALE,
        target_names=NAMES,
        **{**options.get(case, {}), **kwargs},
    )


def joint_errors(galaxies):
    """Return the errors (n, 7) of the bound in which all sources and the sky are free.

    Relative for flux, radius and index.
    """
    y, shape = galaxies.target, galaxies.images.shape[1:]
    sources = [[row] for row in y]
    if len(galaxies.get("neighbours", [])):
        for row in galaxies.neighbours.itertuples():
            sources[row.stamp].append([getattr(row, name) for name in NAMES])
    errors = np.empty((len(y), len(NAMES)))
    for i, one in enumerate(sources):
        theta = ONE_BAND.rendered(np.array(one, dtype=float), NAMES, PIXEL_SCALE)
        psf = torch.from_numpy(galaxies.psf_images[i][None].astype(np.float64))
        waves = psf_waves(psf, transform_size(shape)).expand(len(theta), -1, -1)
        jacobian = render_with_jacobian(torch.from_numpy(theta), waves, shape).numpy()
        light = np.maximum(jacobian[:, 0].sum(axis=0), 0) / galaxies.gain
        noise = np.sqrt(galaxies.variance_images[i] + light)
        derivatives = np.concatenate(
            [jacobian.reshape(-1, *shape), np.ones((1, *shape))]
        )
        flat = (derivatives / noise).reshape(len(derivatives), -1)
        scale = np.linalg.norm(flat, axis=1).clip(min=1e-30)
        inverse = np.linalg.pinv((flat / scale[:, None]) @ (flat / scale[:, None]).T)
        errors[i] = np.sqrt(np.diagonal(inverse)[:7]) / scale[:7]
    return errors


def relative(y, truth):
    """Return errors, relative for flux, radius and index."""
    unit = np.ones_like(truth)
    unit[:, :3] = truth[:, :3]
    return (y - truth) / unit


def robust(errors):
    """Return the dispersion of errors (n, k), from the median absolute deviation."""
    return 1.4826 * np.nanmedian(abs(errors - np.nanmedian(errors, axis=0)), axis=0)


def score(y, y_std, truth, bound):
    """Return a row of scores for bright galaxies and for all."""
    error = relative(y, truth)
    inside = abs(y - truth) < y_std
    rows = []
    for title, chosen in (("bright", truth[:, 0] > BRIGHT), ("all", truth[:, 0] > 0)):
        one = error[chosen]
        width = robust(one) / np.median(bound[chosen], axis=0)
        row = {"": title, "outliers": 100 * np.mean(~(abs(one[:, 0]) < OUTLIER))}
        for i, name in enumerate(NAMES[:4]):
            row[f"bias {name[:4]}"] = 100 * np.nanmedian(one[:, i])
            row[f"over {name[:4]}"] = width[i]
            row[f"in 68 {name[:4]}"] = 100 * inside[chosen, i].mean()
        rows.append(row)
    return pd.DataFrame(rows)


def predict(estimator, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.process_time()
        y, y_std = estimator.predict(X, return_std=True)
    return y, y_std, 1000 * (time.process_time() - start) / len(X)


def run_case(case, n, seed, model, record, fits=True):
    galaxies = simulate(case, n, seed)
    bound, X, y = joint_errors(galaxies), galaxies.data, galaxies.target
    methods = {}
    if fits:
        methods["fit"] = make_fitter(case).fit(X)
    if fits and case != "isolated":
        methods["fit, plain"] = make_fitter("plain").fit(X)
    if model is not None:
        methods["one pass"] = model
    for name, estimator in methods.items():
        found, std, cost = predict(estimator, X)
        print(f"\n{case}, {name}: {cost:.1f} core-ms a stamp")
        table = score(found, std, y, bound)
        print(table.round(2).to_string(index=False), flush=True)
        record.add("cases", table.assign(case=case, method=name, n=n))
        if case == "cosmic" and fits:
            flagged = estimator.flags(X)["cosmic_ray"]
            hit = galaxies.cosmic_ray_mask.any(axis=(1, 2))
            shares = {
                kind: 100 * flagged[chosen].mean()
                for kind, chosen in (("hit", hit), ("others", ~hit))
            }
            print("flagged, in %:", shares)
            record.add("cosmic rays", pd.DataFrame([{"method": name, **shares}]))


def run_colours(n, seed, model, record):
    """Print the errors of colours over those of the bound, and of an aperture."""
    bands = ("g", "r", "i")
    settings = {**STAMPS, "targets": [f"flux_{b}" for b in bands] + NAMES[1:]}
    galaxies = make_galaxies(n, bands=bands, random_state=seed, **settings)
    X, y = galaxies.data, galaxies.target
    fitter = ProfileFitRegressor(
        planes=PLANES, pixel_scale=PIXEL_SCALE, target_names=settings["targets"]
    ).fit(X)
    found, covariance = fitter.predict(X, return_cov=True)
    truth, colours = (np.diff(-2.5 * np.log10(f[:, :3]), axis=1) for f in (y, found))
    slopes = -2.5 / np.log(10) / found[:, :3]
    variance = covariance[:, :3, :3] * slopes[:, :, None] * slopes[:, None]
    d = np.array([[-1.0, 1, 0], [0, -1, 1]])
    std = np.sqrt(np.einsum("ai,nij,aj->na", d, variance, d))
    rows, columns = np.indices(X.shape[2:]) + 0.5
    x, y0 = y[:, -2, None, None], y[:, -1, None, None]
    inside = np.hypot(columns - x, rows - y0) < 1.5 / PIXEL_SCALE
    fluxes = (X[:, :3] * inside[:, None]).sum(axis=(2, 3)).clip(min=1)
    aperture = np.diff(-2.5 * np.log10(fluxes), axis=1)
    for title, chosen in (("bright", y[:, 0] > BRIGHT), ("all", y[:, 0] > 0)):
        error = (colours - truth)[chosen]
        other = (aperture - truth)[chosen]
        ratio = robust(error) / np.median(std[chosen], axis=0)
        within = 100 * (abs(error) < std[chosen]).mean(axis=0)
        over_fit = robust(other) / robust(error)
        columns = {
            "colour": ["g - r", "r - i"],
            "over the predicted error": ratio,
            "bias [mag]": np.median(error, axis=0),
            "in 68": within,
            "aperture of 1.5 arcsec over the fit": over_fit,
        }
        table = pd.DataFrame(columns)
        print(f"\ncolours, {title}\n{table.round(4).to_string(index=False)}")
        record.add("colours", table.assign(galaxies=title))


def run_psf(n, seed, model, record):
    """Print how well the flag finds a PSF of 1.2 arcsec that is given as 0.7."""
    right = make_galaxies(n, random_state=seed, **STAMPS)
    wrong = make_galaxies(n, random_state=seed + 1, **{**STAMPS, "psf_fwhm": 1.2})
    X = np.concatenate([right.data, wrong.data])
    X[n:, 2] = right.data[:, 2]
    is_wrong, flux = np.repeat([0, 1], n), np.concatenate([right.target, wrong.target])
    fitter = make_fitter("isolated").fit(X)
    _, measured = fitter._measure(X, warn=False, checks=True)
    statistic = abs(np.nan_to_num(measured.psf_misfit))
    flagged = fitter.flags(X)["wrong_psf"]
    for title, chosen in (("bright", flux[:, 0] > BRIGHT), ("all", flux[:, 0] > 0)):
        area = roc_auc_score(is_wrong[chosen], statistic[chosen])
        row = {"galaxies": title, "ROC AUC": area}
        for kind, name in enumerate(("right", "wrong")):
            row[f"flagged, {name}"] = 100 * flagged[chosen & (is_wrong == kind)].mean()
        print("psf", row)
        record.add("psf", pd.DataFrame([row]))


SPOILED = {
    "sky": {"sky_offset": (2.0, 10.0)},
    "cosmic": {"cosmic_rays": 3.0},
    "neighbours": {"neighbours": 1.5},
    "correlated": {"noise_correlation": 0.8},
    "bulge": {"bulge_fraction": (0.2, 0.6), "sersic_index": 1.0},
    "saturation": {"saturation": 150.0},
}


def run_flags(n, seed, model, record):
    """Print which errors above three standard deviations are flagged."""
    plain = make_galaxies(n, random_state=seed, **STAMPS)
    parts = {"clean": (plain.data, plain.target)}
    for i, (name, settings) in enumerate(SPOILED.items()):
        one = make_galaxies(n // 4, random_state=seed + 2 + i, **STAMPS, **settings)
        parts[name] = one.data, one.target
    wrong = make_galaxies(n // 4, random_state=seed + 1, **{**STAMPS, "psf_fwhm": 1.2})
    X = wrong.data.copy()
    X[:, 2] = plain.data[0, 2]
    parts["psf"] = X, wrong.target
    fitter = make_fitter("isolated", mask_cosmic_rays=True)
    estimators = {"fit": fitter.fit(plain.data)}
    if model is not None:
        estimators["one pass"] = model
    for title, estimator in estimators.items():
        caught, bad = [], []
        for name, (X, y) in parts.items():
            found, std, _ = predict(estimator, X)
            flags = pd.DataFrame(estimator.flags(X)).drop(columns="neighbours")
            flagged = flags.any(axis=1).to_numpy()
            wrong = ~(abs(found - y) < 3 * std).all(axis=1)
            row = {
                "method": title,
                "case": name,
                "wrong": 100 * wrong.mean(),
                "flagged": 100 * flagged[wrong].mean(),
                "false": 100 * flagged[~wrong].mean(),
            }
            print(row, flags.mean().nlargest(3).round(2).to_dict(), flush=True)
            record.add("flags", pd.DataFrame([row]))
            if name != "clean":
                caught.append(flagged)
                bad.append(wrong)
        caught, bad = np.concatenate(caught), np.concatenate(bad)
        row = {"method": title, "case": "spoiled", "flagged": 100 * caught[bad].mean()}
        print(row)
        record.add("flags", pd.DataFrame([row]))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cases = ["isolated", "one", "four", "correlated", "cosmic", "bulge"]
    parser.add_argument("cases", nargs="+", choices=[*cases, "colours", "psf", "flags"])
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--model", help="a saved model, or 'ground'")
    parser.add_argument("--one-pass", action="store_true", help="the model alone")
    add_option(parser)
    options = parser.parse_args()
    model, record = None, Record()
    if options.model == "ground":
        model = load_pretrained(options.model)
    elif options.model:
        model = ConditionalAutoencoderRegressor.load(options.model)
    others = {"colours": run_colours, "psf": run_psf, "flags": run_flags}
    for case in options.cases:
        asked = options.n, options.seed, model, record
        if case in others:
            others[case](*asked)
        else:
            run_case(case, *asked, fits=not options.one_pass)
    record.write(options.json)


if __name__ == "__main__":
    main()
