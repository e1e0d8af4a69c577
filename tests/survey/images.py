"""Small survey images with known galaxies, WCS and PSF models."""

import numpy as np
from astropy.io import fits
from astropy.nddata import overlap_slices
from astropy.wcs import WCS

from sklcae._fixed_psf import FWHM_OF_SIGMA

PIXEL_SCALE = 0.263
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
