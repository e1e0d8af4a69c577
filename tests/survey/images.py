"""Small survey images with known galaxies, WCS and PSF models."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.nddata import overlap_slices
from astropy.wcs import WCS

from sklcae._fixed_psf import FWHM_OF_SIGMA, gaussian_psf
from sklcae._profiles import PARAMETERS
from sklcae.datasets import make_galaxies

NAMES = list(PARAMETERS)
PIXEL_SCALE = 0.263
# Standard deviation of an empty pixel.
NOISE = 3.7
CENTER = 150.1, 2.2


def make_wcs(angle=0.0, parity=1, scale=PIXEL_SCALE, center=CENTER, shape=(512, 512)):
    """Return a tangential WCS whose y axis has an angle, from north through east."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = center
    wcs.wcs.crpix = (shape[1] + 1) / 2, (shape[0] + 1) / 2
    sin, cos = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    columns = [[-parity * cos, parity * sin], [sin, cos]]
    wcs.wcs.cd = np.array(columns).T * scale / 3600
    return wcs


def gaussian_stamp(fwhm, side=31):
    """Return a Gaussian sampled at pixels, of sum 1."""
    sigma = fwhm / FWHM_OF_SIGMA
    along = np.exp(-((np.arange(side) - side // 2) ** 2) / (2 * sigma**2))
    stamp = np.outer(along, along)
    return stamp / stamp.sum()


def paste(image, stamp, x, y):
    """Add a stamp whose middle pixel is (H // 2, W // 2) at a place of whole pixels."""
    # An even side has its middle half a pixel before that pixel.
    height, width = stamp.shape
    middle = y - (1 - height % 2) / 2, x - (1 - width % 2) / 2
    in_image, in_stamp = overlap_slices(image.shape, stamp.shape, middle)
    image[in_image] += stamp[in_stamp]


def write_psfex(path, cube, sampling=1.0, middle=256.0, step=512.0):
    """Write a model of PSFEx, linear in x and y: a constant, x and y (3, h, w)."""
    _, height, width = cube.shape
    column = fits.Column(
        name="PSF_MASK",
        format=f"{cube.size}E",
        dim=str((width, height, 3)),
        array=cube[None].astype(np.float32),
    )
    hdu = fits.BinTableHDU.from_columns([column], name="PSF_DATA")
    hdu.header.update(
        {
            "POLNAXIS": 2,
            "POLGRP1": 1,
            "POLNAME1": "X_IMAGE",
            "POLZERO1": middle,
            "POLSCAL1": step,
            "POLGRP2": 1,
            "POLNAME2": "Y_IMAGE",
            "POLZERO2": middle,
            "POLSCAL2": step,
            "POLNGRP": 1,
            "POLDEG1": 1,
            "PSF_SAMP": sampling,
            "PSFNAXIS": 3,
            "PSFAXIS1": width,
            "PSFAXIS2": height,
            "PSFAXIS3": 3,
        }
    )
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)


class SimulatedImage(NamedTuple):
    """A survey image without noise, and the galaxies on it.

    ``truth`` has the parameters of `make_galaxies` in the frame of the pixels, with x
    and y in pixels from the centre of the first pixel, and "signal_to_noise" for the
    noise of empty pixels.
    """

    light: np.ndarray
    truth: pd.DataFrame


def simulate_galaxies(xy, psf, shape, pixel_scale=PIXEL_SCALE, side=128, **settings):
    """Return the `SimulatedImage` of galaxies at some places, each with its PSF.

    ``psf`` is a function of x and y, and ``settings`` are those of `make_galaxies`.
    """
    origin = np.ceil(xy - side / 2)
    x0, y0 = (xy - origin + 0.5).T
    galaxies = make_galaxies(
        len(xy),
        x0=x0,
        y0=y0,
        psf=np.array([psf(x, y) for x, y in xy]),
        image_shape=(side, side),
        pixel_scale=pixel_scale,
        noise=False,
        targets=NAMES,
        return_X_y=False,
        **settings,
    )
    light = np.zeros(shape)
    for stamp, (x, y) in zip(galaxies.images, origin, strict=True):
        paste(light, stamp, int(x) + side // 2, int(y) + side // 2)
    truth = pd.DataFrame(galaxies.target, columns=NAMES)
    truth["x"], truth["y"] = xy.T
    noise = np.sqrt(NOISE**2 + galaxies.images.clip(0))
    truth["signal_to_noise"] = np.sqrt(((galaxies.images / noise) ** 2).sum((1, 2)))
    return SimulatedImage(light, truth)


def with_noise(light, random_state):
    """Add the noise of the sky and of the light, for a gain of 1."""
    rng = np.random.default_rng(random_state)
    return light + rng.normal(size=light.shape) * np.sqrt(NOISE**2 + light.clip(0))


def gaussian_varying(x, y):
    """Return a Gaussian PSF: a FWHM of 3 pixels at the origin, and larger beyond."""
    return gaussian_psf(3.0 + (x + y) / 1600, (1, 41, 41))[0, 0]
