"""The effective PSF at places of a survey image."""

import inspect
from numbers import Real
from pathlib import Path

import numpy as np

from sklcae._array_likes import without_traps
from sklcae._fixed_psf import check_fwhm, gaussian_psf
from sklcae._planes import LEAST_SUM, check_psf
from sklcae._units import check_no_unit
from sklcae.datasets._galsim import draw_psfex, read_psfex
from sklcae.survey._image import is_image, is_path, library

OWNER = "cutouts"
# The PSF in place of one that cannot be used, FWHM in pixels: its stamp is masked.
ANY_FWHM = 3.0


def image_psf(psf, shape, scale):
    """Return the PSF of an image: an object with the method `stamps`.

    ``shape`` (H, W) is that of the stamps, ``scale`` the largest pixel scale or None.
    """
    check_no_unit(psf, "psf", "arcsec")
    if callable(psf):
        return FunctionPSF(psf, shape)
    if is_path(psf):
        return _psf_of_file(Path(psf), shape)
    if isinstance(psf, Real) and not isinstance(psf, bool):
        return GaussianPSF(float(psf), shape, scale)
    return ConstantPSF(psf, shape)


def _psf_of_file(path, shape):
    """Return the PSF of a FITS file: an image of the PSF, or a model of PSFEx."""
    if not path.is_file():
        raise FileNotFoundError(
            "psf must be a FITS file with an image of the PSF or a model of PSFEx. Got "
            f"{str(path)!r}: no such file."
        )
    try:
        with library("astropy.io.fits").open(path) as hdus:
            images = [hdu.data for hdu in hdus if is_image(hdu)]
    except OSError as error:
        raise _unreadable(path, error) from error
    if images:
        return ConstantPSF(images[0], shape)
    return FunctionPSF(_PSFEx(path, shape), shape)


def _unreadable(path, error):
    return ValueError(
        "psf must be a FITS file with an image of the PSF or a model of PSFEx. Got "
        f"{str(path)!r}, which cannot be read: {error}"
    )


class ConstantPSF:
    """One PSF for all stamps."""

    def __init__(self, psf, shape):
        self.psf = check_psf(without_traps(psf, "psf"), 1, (1, *shape))[0, 0]

    def stamps(self, x, y, scales):
        """Return PSFs and whether they can be used."""
        return np.broadcast_to(self.psf, (len(x), *self.psf.shape)), np.ones(
            len(x), bool
        )


class GaussianPSF:
    """A Gaussian of some FWHM in arcsec."""

    def __init__(self, fwhm, shape, scale):
        if not 0 < fwhm < np.inf:
            raise ValueError(f"psf must be a positive FWHM in arcsec. Got {fwhm!r}.")
        if scale is None:
            raise ValueError(
                "psf must be an array, a file or a callable for an image without "
                f"a WCS, as the width of a pixel is unknown. Got {fwhm!r}."
            )
        check_fwhm(fwhm, scale, (1, *shape), OWNER)
        self.fwhm, self.shape = fwhm, shape

    def stamps(self, x, y, scales):
        """Return PSFs and whether they can be used."""
        widths = self.fwhm / scales
        psfs = [gaussian_psf(width, (1, *self.shape))[0, 0] for width in widths]
        return np.array(psfs).reshape(-1, *self.shape), np.ones(len(x), bool)


class FunctionPSF:
    """A PSF that is a function of the place."""

    def __init__(self, function, shape):
        _check_takes_places(function)
        self.function, self.shape = function, shape

    def check(self, x, y):
        """Raise the error of a PSF at a place, unless it is only not finite there."""
        self.stamps(np.atleast_1d(x), np.atleast_1d(y), None)

    def stamps(self, x, y, scales):
        """Return PSFs and whether they can be used."""
        places = zip(x.tolist(), y.tolist(), strict=True)
        given = [self._at(*place) for place in places]
        usable = np.array([_is_usable(psf) for psf in given], bool)
        other = gaussian_psf(ANY_FWHM, (1, *self.shape))[0, 0]
        psfs = [psf if good else other for psf, good in zip(given, usable, strict=True)]
        return np.concatenate([self._fitted(psf) for psf in psfs]), usable

    def _at(self, x, y):
        psf = np.asarray(self.function(x, y))
        if psf.ndim != 2 or psf.dtype.kind not in "buif":
            raise ValueError(
                "psf must return an array (h, w) of numbers. Got "
                f"{psf.dtype} of the shape {psf.shape} for x={x:g} and y={y:g}."
            )
        return psf

    def _fitted(self, psf):
        """Return a PSF (1, H, W) with the sides of the stamps."""
        return check_psf(psf, 1, (1, *self.shape))[0]


def _check_takes_places(function):
    """Raise TypeError unless a function has the arguments x and y."""
    try:
        inspect.signature(function).bind(0.0, 0.0)
    except TypeError as error:
        raise TypeError(
            f"psf must be a function of x and y. Got {function!r}: {error}."
        ) from error
    except ValueError:
        # Functions of compiled libraries have no signature.
        return


def _is_usable(psf):
    """Return whether a PSF is finite and has light."""
    if not psf.size or not np.isfinite(psf).all():
        return False
    return psf.sum(dtype=np.float64) > LEAST_SUM * abs(psf).max()


class _PSFEx:
    """The model of a PSFEx file, drawn at the pixels of the image."""

    def __init__(self, path, shape):
        self.path, self.model = path, _read_psfex(path)
        # The largest odd side within the stamp.
        self.side = min(shape) - 1 + min(shape) % 2

    def __call__(self, x, y):
        return draw_psfex(self.model, x, y, self.side)

    def __reduce__(self):
        return _PSFEx, (self.path, (self.side, self.side))


def _read_psfex(path):
    try:
        with library("astropy.io.fits").open(path) as hdus:
            return read_psfex(hdus[1])
    except (OSError, KeyError, IndexError, AttributeError) as error:
        raise _unreadable(path, error) from error
