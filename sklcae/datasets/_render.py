"""From one row of physical parameters to a noiseless stamp, with GalSim."""

import math

from sklcae._compat import import_optional

# The fraction of light that GalSim's FFT may fold back into an image: GalSim's
# default, then looser ones for galaxies much larger than their stamp.
_FOLDING_THRESHOLDS = (0.005, 0.02, 0.05, 0.1)

# Light folded into a stamp comes from at least this many stamp sides away, and is
# then far below the light that is there: no finer threshold is needed.
_FFT_SIDES = 16
_MIN_FFT_LIMIT = 1024

# Half a gigabyte for the image in Fourier space.
_MAX_FFT_SIZE = 8192


def _import_galsim():
    return import_optional("galsim", extra="simulate", purpose="make_galaxies")


def _gaussian(fwhm, moffat_beta, gsparams):
    return _import_galsim().Gaussian(fwhm=fwhm, gsparams=gsparams)


def _moffat(fwhm, moffat_beta, gsparams):
    return _import_galsim().Moffat(beta=moffat_beta, fwhm=fwhm, gsparams=gsparams)


PSFS = {"gaussian": _gaussian, "moffat": _moffat}


def render_stamp(row, *, image_shape, pixel_scale, psf, psf_fwhm, moffat_beta):
    """Render one galaxy without noise.

    Parameters
    ----------
    row : mapping of str to float
        The seven physical parameters, in the units of ``make_galaxies``.
    image_shape : tuple of two ints
        Height and width in pixels.
    pixel_scale : float
        Arcsec per pixel.
    psf : key of PSFS or None
        The point spread function; None for no PSF.
    psf_fwhm, moffat_beta : float
        Full width at half maximum in arcsec, and the Moffat exponent.

    Returns
    -------
    ndarray of shape image_shape, float64
        ADU per pixel.
    """
    galsim = _import_galsim()
    height, width = image_shape
    image = galsim.ImageD(width, height, scale=pixel_scale)
    # GalSim counts from the centre of the first pixel, which it calls 1.
    center = galsim.PositionD(row["x0"] + 0.5, row["y0"] + 0.5)
    if psf is None:
        # The cusp of a galaxy that no PSF smooths would need a vast FFT.
        galaxy = _galaxy(row, galsim.GSParams())
        galaxy.drawImage(image, center=center, method="real_space")
    else:
        profile = _seen_profile(row, image, psf, psf_fwhm, moffat_beta)
        profile.drawImage(image, center=center)
    return image.array


def _galaxy(row, gsparams):
    galsim = _import_galsim()
    galaxy = galsim.Sersic(
        n=row["sersic_index"],
        half_light_radius=row["half_light_radius"],
        flux=row["flux"],
        gsparams=gsparams,
    )
    angle = row["position_angle"] * galsim.degrees
    return galaxy.shear(e=row["ellipticity"], beta=angle)


def _seen_profile(row, image, psf, psf_fwhm, moffat_beta):
    """Convolve galaxy and PSF, with the finest folding threshold that is affordable."""
    galsim = _import_galsim()
    limit = max(_MIN_FFT_LIMIT, _FFT_SIDES * max(image.array.shape))
    for threshold in _FOLDING_THRESHOLDS:
        gsparams = galsim.GSParams(
            folding_threshold=threshold, maximum_fft_size=max(limit, _MAX_FFT_SIZE)
        )
        blur = PSFS[psf](psf_fwhm, moffat_beta, gsparams)
        profile = galsim.Convolve(_galaxy(row, gsparams), blur)
        size = _fft_size(profile, image)
        if size <= limit:
            break
    if size > gsparams.maximum_fft_size:
        raise ValueError(
            f"A galaxy with half_light_radius={row['half_light_radius']} and "
            f"ellipticity={row['ellipticity']}, seen with psf_fwhm={psf_fwhm} at "
            f"pixel_scale={image.scale}, needs an FFT of {size} pixels a "
            f"side; at most {gsparams.maximum_fft_size} are allowed. Make the galaxy "
            "smaller or the pixels larger, or leave the PSF out with psf=None."
        )
    return profile


def _fft_size(profile, image):
    """Estimate the side of the FFT that GalSim will take for a profile."""
    side = max(profile.getGoodImageSize(image.scale), *image.array.shape)
    # A PSF finer than the pixels needs higher frequencies than the image holds.
    side = max(side, profile.gsparams.minimum_fft_size)
    return int(side * max(1.0, profile.maxk * image.scale / math.pi))
