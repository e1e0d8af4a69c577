"""Catalogue of a simulated survey image, against the galaxies that were drawn.

    PYTHONPATH=. python tests/benchmarks/survey_image.py --folder /tmp/survey

The image has 4096 x 4096 pixels of 0.2 arcsec on a turned WCS, with 2,000 galaxies at
random places, which have the flux, index, ellipticity and angle of `make_galaxies` and
half-light radii up to ``--radius`` arcsec (5 with the defaults of `make_galaxies`, of
which the largest are wider than the stamps). The PSF is a model of PSFEx that changes
over the image, from 3.4 to 4.2 pixels (FWHM). There are a sky with a slope, a weight
map, and a mask with bad columns and saturated pixels. The image is kept in the folder
and is used again.

`measure` finds the galaxies, cuts 64 x 64 pixels and fits profiles. Printed are the
time, the completeness as a function of the signal-to-noise ratio, and for detected
galaxies without a flag the errors over their predicted errors: "bias" is the median,
"width" the dispersion (1 for right errors), "in 68" and "in 95" the percentages within
one and two. Errors in "median" are relative for flux, radius and index. The last row
is the distance on the sky in pixels. ``--all`` includes the flagged ones.
"""

import argparse
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from records import Record, add_option
from scipy.stats import median_abs_deviation

from sklcae import load_pretrained
from sklcae._fixed_psf import gaussian_psf
from sklcae.survey import measure
from tests.survey.images import (
    NOISE,
    make_wcs,
    simulate_galaxies,
    with_noise,
    write_psfex,
)

SIDE, PIXEL_SCALE, ANGLE = 4096, 0.2, 30.0
N_PSF = 51
SATURATION = 2500.0
MATCH_RADIUS = 3.0
EDGES = (0, 10, 20, 40, 80, 160, 1e9)
NAMES = ("flux", "half_light_radius", "sersic_index", "e1", "e2", "x", "y")


def psf_model():
    """Return the images of a PSFEx model: constant, linear in x, linear in y."""
    shape = (1, N_PSF, N_PSF)
    # A core and wings.
    core, wide, wings = (gaussian_psf(f, shape)[0, 0] for f in (3.4, 4.6, 8.0))
    constant = 0.65 * core + 0.25 * wide + 0.1 * wings
    return np.array([constant, 0.5 * (wide - core), 0.3 * (wide - core)])


def psf_at(x, y):
    """Return the PSF at a place, in pixels from the centre of the first pixel."""
    constant, in_x, in_y = psf_model()
    return constant + ((x + 1) / SIDE - 0.5) * in_x + ((y + 1) / SIDE - 0.5) * in_y


def spoil(image):
    """Return an image with bad pixels, and their mask."""
    mask = np.zeros(image.shape, np.uint8)
    for column in np.random.default_rng(5).choice(SIDE, 8, replace=False):
        mask[:, column] |= 1
    mask[image > SATURATION] |= 2
    image = np.minimum(image, SATURATION)
    image[:, mask[0] > 0] = 0
    return image, mask


def simulate(folder, n, radius, seed):
    """Write image, PSF and truth into a folder."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, SIDE - 1, (n, 2))
    drawn = simulate_galaxies(
        xy,
        psf_at,
        (SIDE, SIDE),
        PIXEL_SCALE,
        side=256,
        half_light_radius=(0.3, radius),
        random_state=seed,
    )
    image, mask = spoil(with_noise(drawn.light, seed))
    rows, columns = np.indices(image.shape)
    image += 20 + 0.002 * rows + 0.001 * columns
    weight = np.full(image.shape, NOISE**-2, np.float32)
    header = make_wcs(ANGLE, 1, PIXEL_SCALE, shape=image.shape).to_header()
    hdus = [fits.PrimaryHDU()]
    parts = (("SCI", image.astype(np.float32)), ("WHT", weight), ("MASK", mask))
    hdus += [fits.ImageHDU(array, header, name=name) for name, array in parts]
    folder.mkdir(parents=True, exist_ok=True)
    write_psfex(folder / "model.psf", psf_model(), middle=SIDE / 2, step=SIDE)
    fits.HDUList(hdus).writeto(folder / "image.fits")
    drawn.truth.to_csv(folder / "truth.csv")


def on_sky(truth):
    """Return the ellipticities on the sky, for the known angle of the image."""
    # The y axis is at ANGLE, and angles from north are those from +y, counterclockwise.
    angle = np.arctan2(truth["e2"], truth["e1"]) / 2 - np.pi / 2 + np.deg2rad(ANGLE)
    e = np.hypot(truth["e1"], truth["e2"])
    return truth.assign(e1=e * np.cos(2 * angle), e2=e * np.sin(2 * angle))


def match(catalog, truth, wcs):
    """Return for each galaxy its row in the catalogue, or -1, and the distance."""
    sky = SkyCoord(catalog["ra"], catalog["dec"])
    places = wcs.pixel_to_world(truth["x"].to_numpy(), truth["y"].to_numpy())
    rows, distance, _ = places.match_to_catalog_sky(sky)
    back, _, _ = sky.match_to_catalog_sky(places)
    pixels = distance.arcsec / PIXEL_SCALE
    same = (back[rows] == np.arange(len(truth))) & (pixels < MATCH_RADIUS)
    return np.where(same, rows, -1), pixels


def completeness(truth, rows, flagged):
    """Return the share of found and of flagged galaxies by signal-to-noise."""
    table = []
    for low, high in pairwise(EDGES):
        inside = (truth["signal_to_noise"] >= low) & (truth["signal_to_noise"] < high)
        found = rows[inside] >= 0
        table.append(
            {
                "S/N from": low,
                "galaxies": inside.sum(),
                "found": 100 * found.mean() if len(found) else np.nan,
                "flagged": 100
                * flagged[rows[inside][found]].sum()
                / max(found.sum(), 1),
            }
        )
    return pd.DataFrame(table)


def print_errors(found, truth, pixels):
    """Print the errors over their predicted errors, and return them."""
    table = []
    for name in NAMES:
        error = found[name] - truth[name].to_numpy()
        pull = error / found[f"{name}_err"]
        pull = pull[np.isfinite(pull)]
        unit = truth[name].to_numpy() if name in NAMES[:3] else 1.0
        table.append(
            {
                "": name,
                "median error": np.nanmedian(abs(error / unit)),
                "bias": np.median(pull),
                "width": median_abs_deviation(pull, scale="normal"),
                "in 68": 100 * np.mean(abs(pull) < 1),
                "in 95": 100 * np.mean(abs(pull) < 2),
            }
        )
    table = pd.DataFrame(table)
    print(table.round(3).to_string(index=False))
    error = np.hypot(found["x_err"], found["y_err"]) / np.sqrt(2)
    ratio = pixels / error
    # Distances over their errors have a Rayleigh distribution.
    print(
        f"distance on the sky: median {np.median(pixels):.3f}, 68 % "
        f"{np.quantile(pixels, 0.68):.3f}, 95 % {np.quantile(pixels, 0.95):.3f} pixels;"
        f" over the error of a coordinate: 68 % {np.nanquantile(ratio, 0.68):.2f} "
        f"(1.51), 95 % {np.nanquantile(ratio, 0.95):.2f} (2.45)"
    )
    return table


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--radius", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--one-pass", action="store_true")
    add_option(parser)
    args, record = parser.parse_args(), Record()
    if not (args.folder / "truth.csv").exists():
        start = time.perf_counter()
        simulate(args.folder, args.n, args.radius, args.seed)
        print(f"simulated in {time.perf_counter() - start:.0f} s")
    truth = on_sky(pd.read_csv(args.folder / "truth.csv", index_col=0))
    start, core = time.perf_counter(), time.process_time()
    catalog = measure(
        load_pretrained("ground"),
        args.folder / "image.fits",
        psf=args.folder / "model.psf",
        background="sep",
        polish=not args.one_pass,
    )
    wall, core = time.perf_counter() - start, time.process_time() - core
    print(f"{len(catalog)} sources in {wall:.0f} s, {core:.0f} core-seconds")
    header = fits.getheader(args.folder / "image.fits", 1)
    rows, pixels = match(catalog, truth, WCS(header))
    flagged = np.array(catalog["sklcae_flag"])
    n_false = len(catalog) - (rows >= 0).sum()
    print(f"{n_false} sources are no galaxy within {MATCH_RADIUS:g} pixels\n")
    table = completeness(truth, rows, flagged)
    print(table.round(1).to_string(index=False))
    record.add("completeness", table)
    counts = pd.Series(
        {
            name.removeprefix("sklcae_flag_"): 100 * np.mean(catalog[name])
            for name in catalog.colnames
            if name.startswith("sklcae_flag_")
        }
    )
    print("\nflags in %:", counts[counts > 0].round(1).to_dict())
    for title, least in (("all", 0), ("S/N above 40", 40)):
        chosen = (rows >= 0) & (truth["signal_to_noise"] > least).to_numpy()
        if not args.all:
            chosen &= ~flagged[rows]
        print(f"\n{title}, {chosen.sum()} galaxies")
        table = print_errors(catalog[rows[chosen]], truth[chosen], pixels[chosen])
        record.add("errors", table.assign(galaxies=title))
    record.write(args.json)


if __name__ == "__main__":
    main()
