"""Survey images: pixels, noise, mask and WCS, of files and of arrays."""

import os
import warnings
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import median_abs_deviation

from sklcae._array_likes import without_traps
from sklcae._compat import import_optional
from sklcae._warning import warn_user

# The names of HDUs that are looked for, in small letters.
NAMES = {
    "image": ("sci", "image"),
    "variance": ("var", "variance"),
    "weight": ("wht", "wgt", "weight", "ivar"),
    "mask": ("mask", "msk", "dq"),
}
AUTO = "auto"
# The mesh background of sep, and its dispersion as the noise.
MESH = "sep"

# The noise of an image is measured with so many pixels, between those so far apart, and
# must not differ from that of the variance by a larger factor.
ENOUGH_PIXELS, LAG, WRONG_NOISE = 2**21, 4, 2.0


class SurveyImage(NamedTuple):
    """An image without its background.

    Parameters
    ----------
    pixels : ndarray of shape (H, W)
        The image, NaN where a pixel is masked.
    variance : ndarray of shape (H, W), float or None
        The variance of pixels that are not masked.
    wcs : astropy.wcs.WCS or None
        The WCS of the celestial axes.
    unit : str or None
        The unit of the pixels.
    name : str
        The name of the image in messages.
    gain : float or None
        The gain in the header of the image, which nothing uses but a warning.
    raw : ndarray of shape (H, W) or None
        The image with its background, if that is not a number.
    """

    pixels: np.ndarray
    variance: Any
    wcs: Any
    unit: str | None
    name: str
    gain: float | None = None
    raw: Any = None


def library(name):
    """Return a module of the extra "survey"."""
    return import_optional(name, extra="survey", purpose="A survey image")


def is_path(value):
    """Return whether this is the name of a file or of an HDU."""
    return isinstance(value, str | os.PathLike)


def read_image(
    image,
    *,
    hdu=None,
    weight=AUTO,
    variance=AUTO,
    mask=AUTO,
    mask_bits=None,
    wcs=None,
    background=None,
    background_size=128,
):
    """Return the `SurveyImage` of the parameters of `cutouts`."""
    _check_once(weight, variance)
    with _opened(image, hdu) as source:
        pixels = _as_pixels(source.pixels, "image")
        shape = pixels.shape
        bad = ~np.isfinite(pixels)
        masked = source.part("mask", mask)
        if masked is not None:
            bad |= _as_mask(masked, mask_bits, shape)
        elif mask_bits is not None:
            raise ValueError(f"mask_bits must be None without a mask. Got {mask_bits}.")
        noise, unseen = _noise_of(source, weight, variance, shape)
        bad |= unseen | _without_weight(source, weight, shape)
        sky = None if _is_mesh(background) else source.part("background", background)
        wcs = source.wcs if wcs is None else wcs
        unit, name, gain = source.unit, source.name, source.gain
    if _is_mesh(background) or _is_mesh(variance):
        mesh = mesh_background(pixels, bad, background_size)
        sky = mesh.back() if _is_mesh(background) else sky
        noise = mesh.rms().astype(np.float64) ** 2 if _is_mesh(variance) else noise
    pixels[bad] = np.nan
    raw = None
    if sky is not None:
        sky = _as_values(sky, "background", shape).astype(pixels.dtype)
        raw = pixels if sky.ndim else None
        pixels = pixels - sky
    return SurveyImage(pixels, noise, _celestial(wcs), unit, name, gain, raw)


def masked_share(image):
    """Return the share of the pixels of a `SurveyImage` that are masked."""
    return np.isnan(image.pixels).mean()


def warn_of_background_and_noise(image):
    """Warn of a background that is left on a `SurveyImage`, and of a wrong variance."""
    step = 1 + image.pixels.size // ENOUGH_PIXELS
    pixels = image.pixels[::step]
    differences = pixels[:, LAG:] - pixels[:, :-LAG]
    differences = differences[np.isfinite(differences)]
    if not len(differences):
        return
    # Most pixels are sky, and light is about the same so few pixels further.
    noise = median_abs_deviation(differences, scale="normal") / np.sqrt(2)
    level = np.nanmedian(pixels)
    if abs(level) > noise > 0:
        warn_user(
            f"The median of {image.name} is {level:.3g}, {abs(level) / noise:.1f} "
            "times the noise of a pixel: the image seems to have a background. Pass "
            "background='sep' to subtract it."
        )
    if image.variance is None:
        return
    good = np.isfinite(pixels)
    variance = np.broadcast_to(image.variance, image.pixels.shape)[::step][good]
    given = np.sqrt(np.median(variance))
    if noise > 0 and not 1 / WRONG_NOISE < given / noise < WRONG_NOISE:
        warn_user(
            f"The noise of a pixel of {image.name} is {noise:.3g}, but its weight or "
            f"variance stands for {given:.3g}. The variance must be the square of the "
            "noise, and the weight one over the variance; variance='sep' measures it."
        )


def mesh_background(pixels, bad, size):
    """Return the `sep.Background` of an image, meshes of some pixels a side."""
    filled = np.where(bad, 0, pixels)
    return library("sep").Background(filled, mask=bad, bw=size, bh=size)


def _is_mesh(value):
    return isinstance(value, str) and value == MESH


def _check_once(weight, variance):
    """Raise ValueError if the noise is given twice."""
    if not any(part is None or _is_auto(part) for part in (weight, variance)):
        raise ValueError(
            "weight must be None or 'auto' if there is a variance. Got both."
        )


def _is_auto(value):
    return isinstance(value, str) and value == AUTO


# Files and arrays --------------------------------------------------------------------


@contextmanager
def _opened(image, hdu):
    """Yield the source of an image: a file or an array."""
    if not is_path(image):
        if hdu is not None:
            raise ValueError(
                f"hdu must be None if image is not a file. Got {hdu!r} with a "
                f"{type(image).__name__}."
            )
        yield _ArraySource(image)
        return
    with _open_fits(image, "image") as hdus:
        yield _FileSource(hdus, hdu, Path(image))


@contextmanager
def _open_fits(path, name):
    fits = library("astropy.io.fits")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{name} must be a FITS file. Got {str(path)!r}: no such file."
        )
    try:
        hdus = fits.open(path, memmap=False)
    except OSError as error:
        raise ValueError(
            f"{name} must be a FITS file. Got {str(path)!r}, which cannot be read: "
            f"{error}"
        ) from error
    with hdus:
        yield hdus


class _Source:
    """An image with the parts that come with it."""

    pixels: Any
    wcs: Any = None
    unit: str | None = None
    gain: float | None = None
    name: str

    def found(self, kind):
        """Return the array of a kind that comes with the image, or None."""

    def named(self, name):
        """Return the array of an HDU in the file of the image, or None."""

    def names(self):
        """Return the names of the HDUs in the file of the image."""
        return []

    def part(self, kind, given):
        """Return a number or an array (H, W) for a parameter, or None."""
        if given is None:
            return None
        if _is_auto(given) and kind in NAMES:
            return self.found(kind)
        if not is_path(given):
            return given
        array = self.named(given) if isinstance(given, str) else None
        if array is None and Path(given).is_file():
            with _open_fits(given, kind) as hdus:
                return np.array(_first_image(hdus, given, kind).data)
        if array is None:
            raise ValueError(
                f"{kind} must be an array, a FITS file or the name of an HDU in the "
                f"file of the image, one of {self.names()}. Got {str(given)!r}: no "
                "such file or HDU."
            )
        return array


class _FileSource(_Source):
    """An HDU of a file, and its other HDUs."""

    def __init__(self, hdus, hdu, path):
        self.hdus, self.name = hdus, repr(str(path))
        self.hdu = _chosen(hdus, hdu, path)
        self.pixels = np.array(self.hdu.data)
        self.wcs = _wcs_of(self.hdu.header, hdus)
        self.unit = self.hdu.header.get("BUNIT")
        gain = self.hdu.header.get("GAIN")
        is_number = isinstance(gain, Real) and not isinstance(gain, bool)
        self.gain = float(gain) if is_number and gain > 0 else None

    def found(self, kind):
        """Return the array of a usual name, of the version of the image."""
        for hdu in self.hdus:
            is_named = hdu.name.lower() in NAMES[kind] and hdu.ver == self.hdu.ver
            if is_named and getattr(hdu, "shape", None) == self.hdu.shape:
                return np.array(hdu.data)
        return None

    def named(self, name):
        """Return the array of the HDU of a name, or None."""
        return np.array(self.hdus[name].data) if name in self.hdus else None

    def names(self):
        """Return the names of all HDUs."""
        return [hdu.name for hdu in self.hdus]


class _ArraySource(_Source):
    """An array, or an object of `astropy.nddata`."""

    def __init__(self, image):
        self.name = f"<{type(image).__name__}>"
        self.uncertainty = getattr(image, "uncertainty", None)
        self.mask, self.wcs = None, getattr(image, "wcs", None)
        if hasattr(image, "uncertainty"):
            self.mask, unit = image.mask, image.unit
            self.unit = None if unit is None else str(unit)
            image = image.data
        self.pixels = without_traps(image, "image", masked=True)

    def found(self, kind):
        """Return the variance or the mask of an `NDData`."""
        if kind == "mask":
            return self.mask
        if kind == "weight" or self.uncertainty is None:
            return None
        nddata = library("astropy.nddata")
        with np.errstate(divide="ignore"):
            # Pixels without a weight are masked.
            return self.uncertainty.represent_as(nddata.VarianceUncertainty).array


def _chosen(hdus, hdu, path):
    """Return the HDU of a name or a number, by default that of a usual name."""
    if hdu is None:
        for name in NAMES["image"]:
            for one in hdus:
                if one.name.lower() == name and is_image(one):
                    return one
        return _first_image(hdus, path, "image")
    try:
        one = hdus[hdu]
    except (KeyError, IndexError):
        one = None
    if one is None or not is_image(one):
        raise ValueError(
            f"hdu must be the name or the number of an image in {str(path)!r}, which "
            f"has {[h.name for h in hdus]}. Got {hdu!r}."
        )
    return one


def _first_image(hdus, path, name):
    for hdu in hdus:
        if is_image(hdu):
            return hdu
    raise ValueError(
        f"{name} must be a file with an image (H, W). Got {str(path)!r} without any."
    )


def is_image(hdu):
    """Return whether an HDU has an image (H, W)."""
    return len(getattr(hdu, "shape", ())) == 2


# WCS ---------------------------------------------------------------------------------


def _wcs_of(header, hdus):
    """Return the WCS of a header, None without one."""
    module = library("astropy.wcs")
    with warnings.catch_warnings():
        # Astropy repairs old keywords, and says so.
        warnings.simplefilter("ignore", module.FITSFixedWarning)
        return module.WCS(header, fobj=hdus)


def _celestial(wcs):
    """Return the celestial axes of a WCS or a header, or None."""
    if wcs is None:
        return None
    if hasattr(wcs, "cards"):
        wcs = _wcs_of(wcs, None)
    if not hasattr(wcs, "has_celestial"):
        raise TypeError(
            "wcs must be an astropy.wcs.WCS or a FITS header. Got a "
            f"{type(wcs).__name__}."
        )
    return wcs.celestial if wcs.has_celestial else None


# Pixels ------------------------------------------------------------------------------


def _as_pixels(values, name):
    """Return a copy (H, W) of an image, float32 or float64 of this machine."""
    pixels = np.asarray(values)
    if pixels.dtype.kind not in "buif":
        raise ValueError(f"{name} must be an array of numbers. Got {pixels.dtype}.")
    if pixels.ndim != 2 or not pixels.size:
        raise ValueError(
            f"{name} must have the shape (H, W). Got an array of the shape "
            f"{pixels.shape}."
        )
    single = pixels.dtype.kind == "f" and pixels.dtype.itemsize <= 4
    return pixels.astype(np.float32 if single else np.float64, order="C", copy=True)


def _as_values(values, name, shape):
    """Return a number, or an array of the shape of the image, float64."""
    values = np.asarray(without_traps(values, name))
    if values.dtype.kind not in "buif" or values.shape not in ((), shape):
        raise ValueError(
            f"{name} must be a number or an array of the shape of the image, {shape}. "
            f"Got {values.dtype} of the shape {values.shape}."
        )
    return values.astype(np.float64)


def _as_mask(values, bits, shape):
    """Return a bool array, True where a pixel is bad."""
    values = np.asarray(without_traps(values, "mask"))
    if values.shape != shape or values.dtype.kind not in "buif":
        raise ValueError(
            f"mask must have the shape of the image, {shape}. Got {values.dtype} of "
            f"the shape {values.shape}."
        )
    if bits is None:
        return values != 0
    if not isinstance(bits, Integral) or bits < 1 or values.dtype.kind not in "ui":
        raise ValueError(
            "mask_bits must be a positive int, the sum of the bits of bad pixels in a "
            f"mask of ints. Got {bits!r} for a mask of {values.dtype}."
        )
    return (values.astype(np.int64) & int(bits)) != 0


def _noise_of(source, weight, variance, shape):
    """Return the variance, and where a pixel has none."""
    nowhere = np.zeros(shape, bool)
    if _is_mesh(variance):
        return None, nowhere
    found = source.part("variance", None if _is_given(weight) else variance)
    name = "variance"
    if found is None:
        found, name = source.part("weight", weight), "weight"
    if found is None:
        return None, nowhere
    values = _as_values(found, name, shape)
    unseen = ~((values > 0) & np.isfinite(values))
    if values.ndim == 0:
        if unseen:
            raise ValueError(f"{name} must be positive and finite. Got {found!r}.")
        return float(1 / values if name == "weight" else values), nowhere
    values = np.where(unseen, 1, values)
    return (1 / values if name == "weight" else values), unseen


def _without_weight(source, weight, shape):
    """Return where the weight that comes with the image is not positive.

    Nothing was observed there, also if the variance is of another source.
    """
    found = source.found("weight") if _is_auto(weight) else None
    if found is None:
        return np.zeros(shape, bool)
    values = _as_values(found, "weight", shape)
    return ~((values > 0) & np.isfinite(values))


def _is_given(value):
    return value is not None and not _is_auto(value)
