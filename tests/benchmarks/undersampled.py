"""Errors of profile fits through PSFs that the pixels hardly sample.

    PYTHONPATH=. python tests/benchmarks/undersampled.py

GalSim draws 80 galaxies without noise, with radii of 1.5 to 12 pixels, through
effective Gaussian PSFs. The fits get these PSFs at the pixels. Printed is the relative
error of flux, radius and index that 95 % of the fits are below.
"""

import argparse
import warnings

import galsim
import numpy as np
import pandas as pd
from records import Record, add_option

from sklcae import ProfileFitRegressor

N, SIDE, NOISE = 80, 48, 3.7
WIDTHS = (1.0, 1.5, 2.0, 2.5, 3.5)
ACCURATE = galsim.GSParams(maximum_fft_size=2**14, folding_threshold=1e-4)


def draw(galaxy, psf):
    """Return the image of parameters through an effective PSF."""
    flux, radius, index, e1, e2, x0, y0 = map(float, galaxy)
    profile = galsim.Sersic(
        index, half_light_radius=radius, flux=flux, gsparams=ACCURATE
    )
    seen = galsim.Convolve(profile.shear(e1=e1, e2=e2), psf, gsparams=ACCURATE)
    # GalSim calls the centre of the first pixel 1.
    center = galsim.PositionD(x0 + 0.5, y0 + 0.5)
    image = galsim.ImageD(SIDE, SIDE, scale=1.0)
    return seen.drawImage(image, center=center, method="no_pixel").array


def main():
    """Print a line for each width."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_option(parser)
    options = parser.parse_args()
    record = Record()
    rng = np.random.default_rng(3)
    low, high = np.log([500.0, 1.5, 0.5]), np.log([5e4, 12.0, 4.0])
    sizes = np.exp(rng.uniform(low, high, (N, 3)))
    # A few decimals, so that GalSim's tables are exact for the index.
    sizes[:, 2] = sizes[:, 2].round(2)
    e, angle = rng.uniform(0, 0.6, N), rng.uniform(0, 2 * np.pi, N)
    shapes = np.stack([e * np.cos(angle), e * np.sin(angle)], axis=1)
    galaxies = np.hstack([sizes, shapes, rng.uniform(22.5, 26.5, (N, 2))])
    for width in WIDTHS:
        psf = galsim.Gaussian(fwhm=width)
        stamp = psf.drawImage(nx=95, ny=95, scale=1.0, method="no_pixel", dtype=float)
        images = np.array([draw(galaxy, psf) for galaxy in galaxies])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            fitter = ProfileFitRegressor(psf=stamp.array, noise=NOISE).fit(images)
            error = np.abs(fitter.predict(images)[:, :3] / galaxies[:, :3] - 1)
        found = 100 * np.quantile(error, 0.95, axis=0)
        print(f"FWHM {width} pixels: flux, radius, index {found.round(3).tolist()} %")
        row = dict(zip(("flux", "radius", "index"), found, strict=True))
        record.add("errors", pd.DataFrame([{"FWHM": width, **row}]))
    record.write(options.json)


if __name__ == "__main__":
    main()
