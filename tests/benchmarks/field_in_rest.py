"""The network "sersic" with and without coefficients of shapelets in z_rest.

    PYTHONPATH=. python tests/benchmarks/field_in_rest.py --simulations
    PYTHONPATH=. python tests/benchmarks/field_in_rest.py --cosmos DIR [--labels flux]

Each row of the printed tables is a model. "latents" are 8 or 64: seven parameters and
1 or 57 coefficients; a model needs one at least. "chi-square" is per pixel, its mean
and its median over the stamps that were held out; it is 1 for the true galaxies.
"coefficients" is the mean of their absolute values.

``--simulations`` trains on Sersic profiles with the PSFs of ``profile_fits.py --psf
mixed``. Under the name of each parameter is the 68 % quantile of the absolute error,
over the error of the Cramer-Rao bound of the stamp with a fixed sky.

``--cosmos`` trains on galaxies seen by Hubble. DIR has a catalogue of
``galsim.RealGalaxyCatalog`` and Sersic fits of its images in labels.csv, with the
columns that ``real_galaxies.py --labels`` takes. The images are turned, shifted and
convolved with a Gaussian PSF. White noise is added, with the variance that the noise of
Hubble has left in them. One galaxy in five is held out. Under the name of each
parameter are bias and dispersion of its error against the fits: relative for flux,
radius and index. ``--labels flux`` trains without labels of the others. Two rows are
not of models: ProfileFitRegressor, and its profiles with the coefficients that fit each
stamp best, by least squares.
"""

import argparse
import time
import warnings
from pathlib import Path

import galsim
import numpy as np
import pandas as pd
import torch
from profile_fits import ERRORS, NAMES, PIXEL_SCALE, PLANES, simulate
from records import Record, add_option

from sklcae import ConditionalAutoencoderRegressor, ProfileFitRegressor, stack_planes
from sklcae._profiles import to_rendered
from sklcae._torch.sersic import psf_waves, render, transform_size
from sklcae._torch.shapelets import render_shapelets
from sklcae.metrics import dispersion, median_bias

LATENTS = (8, 64)
N_PROFILE = 7
# Stamps of COSMOS: side in pixels, pixel and FWHM of the PSF in arcsec. Half of the
# galaxies have half-light radii below 0.16 arcsec.
SIDE, SCALE, FWHM = 48, 0.06, 0.2
HUBBLE_SCALE = 0.03
CATALOGUE = "real_galaxy_catalog_26_extension_example.fits"
FITS = "labels.csv"
# Fits with another index or a smaller radius in arcsec have reached a bound.
TRUSTED_INDICES, LEAST_RADIUS = (0.4, 4.85), 0.03
# The largest shift of a centre, in pixels.
SHIFT = 1.0
# Of each so many galaxies, by magnitude, the middle one is held out.
TEST_EVERY = 5


# Training and chi-square --------------------------------------------------------------


def train(X, y, pixel_scale, options, **changed):
    """Train the recommended model on the stamps themselves."""
    model = ConditionalAutoencoderRegressor.recommended(
        planes=PLANES,
        pixel_scale=pixel_scale,
        target_names=NAMES,
        augmentation="dihedral",
        reconstruction_loss="chi_square",
        alpha=options.alpha,
        max_epochs=options.max_epochs,
        random_state=0,
        **changed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return model.fit(X, y)


def describe(model, X):
    """Return predictions, chi-square per pixel (n,) and the size of coefficients."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        light = model.reconstruct(X)[:, 0]
        coefficients = model.transform(X)[:, N_PROFILE:]
        found = model.predict(X)
    variance = X[:, 1]
    if model.gain is not None:
        variance = variance + light.clip(min=0) / model.gain
    chi_square = ((X[:, 0] - light) ** 2 / variance).mean((1, 2))
    return found, chi_square, np.abs(coefficients).mean()


def row_of(model, chi_square, size, seconds):
    """Return the columns that all tables have."""
    return {
        "latents": model.latent_dim,
        "beta": model.beta,
        "minutes": round(seconds / 60, 1),
        "chi-square": mean_and_median(chi_square),
        "coefficients": round(float(size), 4),
    }


def mean_and_median(values):
    return f"{np.mean(values):.3f} {np.median(values):.3f}"


def report(rows, record):
    table = pd.DataFrame(rows)
    print(table.to_string(index=False), flush=True)
    record.add("models", table)


# Simulations --------------------------------------------------------------------------


def compare_on_simulations(options, record):
    """Print a table for Sersic profiles, which need no coefficients."""
    training = simulate(options.n or 4000, "mixed", 0, 1000)
    held_out = simulate(options.n_test, "mixed", 0, 77)
    rows = []
    for latent_dim in LATENTS:
        for beta in options.beta if latent_dim > min(LATENTS) else options.beta[:1]:
            start = time.perf_counter()
            changed = {"latent_dim": latent_dim, "beta": beta}
            model = train(training.X, training.y, PIXEL_SCALE, options, **changed)
            seconds = time.perf_counter() - start
            found, *described = describe(model, held_out.X)
            over = np.abs(found - held_out.y) / np.sqrt(held_out.fixed)
            scores = np.quantile(over, 0.68, axis=0).round(2)
            row = row_of(model, *described, seconds)
            rows.append(row | dict(zip(NAMES, scores, strict=True)))
    report(rows, record)


# Galaxies seen by Hubble --------------------------------------------------------------


def observe_all(folder, n_turns, seed=0):
    """Return X (n, 3, H, W), labels (n, 7) and the rank of the galaxy of each stamp.

    The brightest galaxy has the rank 0. Labels are NaN where a fit has reached a bound.
    """
    catalogue = galsim.RealGalaxyCatalog(CATALOGUE, dir=str(folder))
    fits = pd.read_csv(folder / FITS).set_index("ident")
    psf = galsim.Gaussian(fwhm=FWHM)
    rng = np.random.default_rng(seed)
    images, variances, labels, ranks = [], [], [], []
    for rank, number in enumerate(np.argsort(catalogue.mag)):
        fit = fits.loc[fits.index == int(catalogue.ident[number])]
        shape = catalogue.getGalImage(number).array.shape
        left = noise_left(catalogue, number, psf)
        for _ in range(n_turns):
            angle, shift = rng.uniform(0, 2 * np.pi), rng.uniform(-SHIFT, SHIFT, 2)
            noise = galsim.BaseDeviate(int(rng.integers(1, 2**31)))
            image = observe(catalogue, number, psf, angle, shift, noise)
            image.addNoise(galsim.GaussianNoise(noise, sigma=np.sqrt(left)))
            images.append(image.array)
            variances.append(2 * left)
            labels.append(labels_of(fit, shape, angle, shift))
            ranks.append(rank)
    variance = np.array(variances)[:, None, None]
    stamp = psf.drawImage(nx=SIDE - 1, ny=SIDE - 1, scale=SCALE, dtype=float).array
    X = stack_planes(np.array(images), variance, stamp)
    return X, np.array(labels), np.array(ranks)


def noise_left(catalogue, number, psf):
    """Return the variance of the noise of Hubble in an image through another PSF."""
    seen = galsim.Convolve(galsim.RealGalaxy(catalogue, index=number), psf)
    # GalSim counts it in pixels of Hubble, with their area.
    return seen.noise.getVariance() * (SCALE / HUBBLE_SCALE) ** 4


def observe(catalogue, number, psf, angle, shift, noise):
    """Return the image of a turned and shifted galaxy, with the noise of Hubble.

    The stamp of Hubble is continued by noise that is correlated in the same way.
    """
    galaxy = galsim.RealGalaxy(
        catalogue, index=number, rng=noise, noise_pad_size=2 * SIDE * SCALE
    )
    seen = galsim.Convolve(galaxy.rotate(angle * galsim.radians), psf)
    image = galsim.ImageD(SIDE, SIDE, scale=SCALE)
    return seen.drawImage(image, offset=tuple(shift))


def labels_of(fit, shape, angle, shift):
    """Return the parameters (7,) of a turned and shifted fit, a table of 0 or 1 row."""
    low, high = TRUSTED_INDICES
    trusted = fit.sersic_index.between(low, high)
    trusted &= fit.half_light_radius > LEAST_RADIUS
    if not trusted.any():
        return np.full(len(NAMES), np.nan)
    fit = fit.iloc[0]
    e = (fit.e1 + 1j * fit.e2) * np.exp(2j * angle)
    height, width = shape
    off = (fit.x0 - width / 2 + 1j * (fit.y0 - height / 2)) * np.exp(1j * angle)
    turned = np.array([off.real, off.imag])
    center = SIDE / 2 + shift + turned * HUBBLE_SCALE / SCALE
    sizes = fit.flux, fit.half_light_radius, fit.sersic_index
    return np.array([*sizes, e.real, e.imag, *center])


def compare_on_cosmos(options, record):
    """Print a table for galaxies seen by Hubble."""
    X, y, ranks = observe_all(options.cosmos, options.n or 12)
    is_test = ranks % TEST_EVERY == TEST_EVERY // 2
    labels = y.copy()
    if options.labels == "flux":
        labels[:, 1:] = np.nan
    rows = []
    for latent_dim in LATENTS:
        for beta in options.beta if latent_dim > min(LATENTS) else options.beta[:1]:
            start = time.perf_counter()
            changed = {"latent_dim": latent_dim, "beta": beta, "gain": None}
            model = train(X[~is_test], labels[~is_test], SCALE, options, **changed)
            seconds = time.perf_counter() - start
            found, *described = describe(model, X[is_test])
            row = row_of(model, *described, seconds)
            rows.append(row | errors_of(y[is_test], found))
    rows += rows_of_fits(X[is_test], y[is_test])
    report(rows, record)


def errors_of(y, found):
    """Return bias and dispersion by parameter, of stamps with labels."""
    known = np.isfinite(y).all(axis=1) & np.isfinite(found).all(axis=1)
    kinds = {"errors": ERRORS, "multioutput": "raw_values"}
    bias = median_bias(y[known], found[known], **kinds)
    width = dispersion(y[known], found[known], **kinds)
    pairs = zip(NAMES, bias, width, strict=True)
    return {name: f"{one:+.3f} {other:.3f}" for name, one, other in pairs}


def rows_of_fits(X, y):
    """Return the rows of profile fits, and of these and shapelets."""
    fitter = ProfileFitRegressor(
        planes=PLANES,
        pixel_scale=SCALE,
        target_names=NAMES,
        gain=None,
        fit_sky=False,
    ).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = fitter.predict(X)
    known = np.isfinite(found).all(axis=1)
    fitted = [fit_shapelets(*pair) for pair in zip(X[known], found[known], strict=True)]
    rows = [
        {"latents": name, "chi-square": mean_and_median(values)}
        for name, values in zip(
            ("profile fit", "and shapelets"), np.transpose(fitted), strict=True
        )
    ]
    return [rows[0] | errors_of(y, found), rows[1]]


def fit_shapelets(stamp, galaxy):
    """Return chi-square per pixel of a profile, without and with coefficients."""
    n, shape = max(LATENTS) - N_PROFILE, stamp.shape[1:]
    image, variance, psf = torch.from_numpy(stamp.astype(np.float64))
    columns = [
        to_rendered(name, value, SCALE)
        for name, value in zip(NAMES, galaxy, strict=True)
    ]
    parameters = torch.tensor([columns], dtype=torch.float64)
    waves = psf_waves(psf[None], transform_size(shape))
    residual = (image - render(parameters, waves, shape)[0]).flatten()
    shapelets = render_shapelets(
        torch.eye(n, dtype=torch.float64),
        parameters.expand(n, -1),
        waves.expand(n, -1, -1),
        shape,
    )
    noise = variance.sqrt().flatten()
    A, b = (shapelets.flatten(1) / noise).T.numpy(), (residual / noise).numpy()
    left = b - A @ np.linalg.lstsq(A, b, rcond=None)[0]
    return (b**2).mean(), (left**2).mean()


def main():
    """Train and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    part = parser.add_mutually_exclusive_group(required=True)
    part.add_argument("--simulations", action="store_true")
    part.add_argument("--cosmos", type=Path, metavar="DIR")
    parser.add_argument("--n", type=int, help="stamps, or turns of each galaxy")
    parser.add_argument("--n-test", type=int, default=1000, help="of the simulations")
    parser.add_argument("--max-epochs", type=int, default=30)
    parser.add_argument("--beta", type=float, nargs="+", default=[1e-4, 1.0, 100.0])
    parser.add_argument("--alpha", type=float, default=0.1)
    parser.add_argument("--labels", choices=["all", "flux"], default="all")
    add_option(parser)
    options, record = parser.parse_args(), Record()
    compare = compare_on_simulations if options.simulations else compare_on_cosmos
    compare(options, record)
    record.write(options.json)


if __name__ == "__main__":
    main()
