"""Errors of fits and of a network on real galaxies, and on Sersic profiles like them.

    PYTHONPATH=. python tests/benchmarks/real_galaxies.py DIR [--labels labels.csv]

DIR has a RealGalaxyCatalog of GalSim. Its galaxies are re-observed with a Gaussian PSF
of 0.7 arcsec at 0.2 arcsec a pixel, in several rotations, places and realisations of
the noise. The errors are relative to the published fits in DIR, or to the columns of a
CSV file: ident, flux in counts, half_light_radius in arcsec, sersic_index, e1, e2, x0
and y0 in pixels of the original image, as for ``make_real_galaxies``.

The twins are stamps of ``make_galaxies`` with exactly the parameters of the labels, the
same PSF and the same noise. The copies have the same profiles, but drawn into images
with the size, PSF and noise of the originals, and re-observed like them. Copies differ
from twins by the noise of the originals and by the light beyond their edges, real
galaxies from copies by their shapes and by the errors of the labels.

Labels whose Sersic index is at a bound of their fit are left out by ``--index``, faint
galaxies by ``--least``, the signal-to-noise ratio of a twin. ``--missing`` leaves out
galaxies whose label and whose sum of the original image differ by more, because the
image is smaller than the galaxy. ``--flux-scale`` is ADU for each count; a larger one
shows brighter galaxies in the same noise.

``--model`` adds one pass of a saved model with the planes image, variance and psf.
``--galsim`` adds GalSim and ``least_squares`` on the first so many stamps.

"bias" is the median error and "width" the dispersion, relative for flux, radius and
index, of the stamps with a result.
"""

import argparse
import os
import tempfile
import warnings
from functools import partial

import galsim
import numpy as np
import pandas as pd
from astropy.table import Table
from profile_fit import fit_profile
from records import Record, add_option
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch

from sklcae import ConditionalAutoencoderRegressor, ProfileFitRegressor
from sklcae.datasets import make_galaxies, make_real_galaxies, signal_to_noise
from sklcae.datasets._real_catalog import find_catalog, read_labels
from sklcae.exceptions import OutsideTrainingWarning
from sklcae.metrics import dispersion, median_bias

NAMES = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
SCORED = NAMES[:5]
ERRORS = ["relative"] * 3 + ["absolute"] * 2
PLANES = ("image", "variance", "psf")
KINDS = ("real", "copies", "twins")
PIXEL_SCALE, PSF_FWHM = 0.2, 0.7
OPTICS = {"pixel_scale": PIXEL_SCALE, "psf_fwhm": PSF_FWHM, "planes": PLANES}
DETECTOR = {"sky_level": 10.0, "gain": 1.0, "read_noise": 2.0}
CENTER = (28.0, 36.0)


# Stamps -------------------------------------------------------------------------------


def simulate(options):
    """Return the stamps of each kind, X and y, and the noise of the originals."""
    catalog = find_catalog(options.folder, None)
    given = None if options.labels is None else pd.read_csv(options.labels)
    labels = pd.DataFrame(read_labels(catalog, given)).assign(ident=catalog.idents)
    labels = labels.dropna()
    with tempfile.TemporaryDirectory() as copies:
        write_copies(catalog, labels, copies)
        folders = {"real": options.folder, "copies": copies}
        seeds = range(options.seed, options.seed + options.repeats)
        parts = [simulate_once(folders, labels, options, seed) for seed in seeds]
    joined = {
        kind: Bunch(
            **{key: np.concatenate([p[kind][key] for p in parts]) for key in "Xy"}
        )
        for kind in KINDS
    }
    return joined, np.concatenate([part["noise"] for part in parts])


def simulate_once(folders, labels, options, seed):
    """Return the stamps of one realisation."""
    observe = partial(
        make_real_galaxies,
        labels=labels,
        targets=NAMES,
        x0=CENTER,
        y0=CENTER,
        flux_scale=options.flux_scale,
        return_X_y=False,
        random_state=seed,
        **OPTICS,
        **DETECTOR,
    )
    galaxies = observe(folders["real"], idents=labels.ident)
    frame = galaxies.frame
    complete = abs(frame.image_flux / frame.flux - 1) < options.missing
    rows = np.flatnonzero(complete & frame.sersic_index.between(*options.index))
    rows = rows[is_bright(frame.iloc[rows], options.least)]
    copies = observe(folders["copies"], idents=frame.ident.iloc[rows])
    twins = make_twins(frame.iloc[rows], seed)
    return {
        "real": {"X": galaxies.data[rows], "y": galaxies.target[rows]},
        "copies": {"X": copies.data, "y": copies.target},
        "twins": {"X": twins.data, "y": twins.target},
        "noise": frame.original_noise.to_numpy()[rows],
    }


def write_copies(catalog, labels, folder):
    """Write a catalogue of Sersic profiles with the PSFs and noise of the originals."""
    originals = galsim.RealGalaxyCatalog(catalog.path)
    rows = labels.index.to_numpy()
    deviate = galsim.BaseDeviate(1)
    images = [
        draw_copy(originals, row, label, deviate)
        for row, label in zip(rows, labels.itertuples(), strict=True)
    ]
    galsim.fits.writeMulti(images, f"{folder}/images.fits")
    table = Table(originals.cat[rows])
    table["GAL_FILENAME"], table["GAL_HDU"] = "images.fits", np.arange(len(rows))
    table["PSF_FILENAME"] = np.array(originals.psf_file_name)[rows]
    if originals.noise_file_name is not None:
        table["NOISE_FILENAME"] = np.array(originals.noise_file_name)[rows]
    table.write(f"{folder}/catalog.fits")


def draw_copy(originals, row, label, deviate):
    """Return the image of a Sersic profile with the size of an original image."""
    image = originals.getGalImage(row)
    profile = galsim.Sersic(
        # A few decimals, so that GalSim needs fewer tables.
        round(label.sersic_index, 2),
        half_light_radius=label.half_light_radius,
        flux=label.flux,
    ).shear(e1=label.e1, e2=label.e2)
    seen = galsim.Convolve(profile, originals.getPSF(row))
    center = galsim.PositionD(label.x0 + 0.5, label.y0 + 0.5)
    seen.drawImage(image, center=center, method="no_pixel")
    image.addNoise(originals.getNoise(row, rng=deviate))
    return image


def is_bright(frame, least):
    """Return whether the signal-to-noise ratio of each twin is above a least one."""
    images = make_twins(frame, seed=0, noise=False).images
    return signal_to_noise(images, **DETECTOR) > least


def make_twins(frame, seed, noise=True):
    """Return Sersic profiles with the parameters of a frame."""
    names = ("flux", "half_light_radius", "sersic_index", "ellipticity")
    columns = {n: frame[n].to_numpy() for n in (*names, "position_angle", "x0", "y0")}
    # A few decimals, so that GalSim needs fewer tables.
    columns["sersic_index"] = columns["sersic_index"].round(2)
    return make_galaxies(
        len(frame),
        **columns,
        targets=NAMES,
        return_X_y=False,
        random_state=seed + 10_000,
        noise=noise,
        **OPTICS,
        **DETECTOR,
    )


# Methods ------------------------------------------------------------------------------


def methods_of(options):
    """Yield the name of each method, its function of X, and its number of stamps."""
    model = None
    if options.model:
        model = ConditionalAutoencoderRegressor.load(options.model)
        yield "one pass", lambda X: by_name(model, X), None
    for fit_sky in (True, False):
        name = "fit, free sky" if fit_sky else "fit, fixed sky"
        yield name, fit_with(model, fit_sky), None
    if options.galsim:
        yield "GalSim, least squares", fit_all, options.galsim


def by_name(model, X):
    """Return the predictions in the order of the names, NaN where there are none."""
    found = pd.DataFrame(model.predict(X), columns=list(model.target_names))
    return found.reindex(columns=NAMES).to_numpy()


def fit_with(model, fit_sky):
    """Return a function that fits profiles, from predictions of a model if given."""

    def fit(X):
        fitter = ProfileFitRegressor(
            model,
            prefit=model is not None,
            planes=PLANES,
            pixel_scale=PIXEL_SCALE,
            target_names=NAMES,
            fit_sky=fit_sky,
        )
        return fitter.fit(X).predict(X)

    return fit


def fit_all(X):
    return np.array([fit_profile(image)[0] for image in X[:, 0]])


# Scores -------------------------------------------------------------------------------


def compare(stamps, measure, n):
    """Return the scores on each kind of stamps, with a row for each parameter."""
    table = pd.DataFrame(index=SCORED)
    for kind in KINDS:
        X, y = stamps[kind].X[:n], stamps[kind].y[:n, : len(SCORED)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("ignore", OutsideTrainingWarning)
            found = measure(X)[:, : len(SCORED)]
        good = np.isfinite(found).all(axis=1)
        options = {"errors": ERRORS, "multioutput": "raw_values"}
        table[f"bias, {kind}"] = median_bias(y[good], found[good], **options)
        table[f"width, {kind}"] = dispersion(y[good], found[good], **options)
    for kind in KINDS[1:]:
        table[f"real / {kind}"] = table["width, real"] / table[f"width, {kind}"]
    return table


def main():
    """Print a table for each method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # The copies name the PSFs of the originals, and so the path is absolute.
    parser.add_argument("folder", type=os.path.abspath)
    parser.add_argument("--labels", help="a CSV file")
    parser.add_argument("--model", help="a saved model")
    parser.add_argument("--galsim", type=int, default=0, help="number of stamps")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--flux-scale", type=float, default=100.0)
    parser.add_argument("--index", type=float, nargs=2, default=(0.4, 4.8))
    parser.add_argument("--missing", type=float, default=0.1, help="share of the flux")
    parser.add_argument("--least", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    add_option(parser)
    options, record = parser.parse_args(), Record()
    stamps, noise = simulate(options)
    n_stamps = len(noise)
    print(
        f"{n_stamps} stamps; noise of the originals: {np.median(noise):.2f} ADU a pixel"
    )
    for name, measure, n in methods_of(options):
        table = compare(stamps, measure, n)
        print(f"\n{name}, {min(n or n_stamps, n_stamps)} stamps")
        print(table.round(3).to_string(), flush=True)
        record.add("scores", table.rename_axis("of").reset_index().assign(method=name))
    record.write(options.json)


if __name__ == "__main__":
    main()
