"""The PSF and the noise of every stamp: check the given values, then draw."""

from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from sklcae import _planes
from sklcae._compat import InvalidParameterError, validate_parameter_constraints
from sklcae._units import PlainNumber, check_numbers
from sklcae.datasets._noise import background_variance
from sklcae.datasets._parameters import (
    TELESCOPE,
    draw_telescope,
    is_number,
    parameter_error,
    parse_parameters,
    parse_values,
)
from sklcae.datasets._psf import PSFS, ModelPSF, StampPSF

DETECTOR = ("sky_level", "read_noise")
# With these limits noise and variance do not overflow float32 and float64.
GAIN = {
    "gain": [
        PlainNumber("gain", Real, 1e-25, 1e25, closed="both", unit="electron / adu")
    ],
}
_SHAPE = tuple(name for name in TELESCOPE if name not in DETECTOR)
# The settings that a mapping of galaxies may lack.
DEFAULTS = {"psf_ellipticity": 0.0, "psf_position_angle": 0.0}

_PSF_KINDS = "'gaussian', 'moffat', None or an array of effective PSFs"


@dataclass(frozen=True)
class Telescope:
    """The PSF and the noise of every stamp.

    Parameters
    ----------
    image_shape : tuple of two ints
    pixel_scale : float
    psf : "gaussian", "moffat", None or list of StampPSF
    gain : float or None
        None if the background variance holds the noise of the galaxy too.
    values : dict of name -> array of shape (n_samples,)
        The settings of `TELESCOPE`; and "psf_index", the place in the list of PSFs.
    varies : set of str
        The names of the settings that may differ between stamps.
    background : ndarray of shape (n_samples, height, width), default=None
        Variance of each pixel in ADU squared, instead of sky level and read noise.
    """

    image_shape: tuple
    pixel_scale: float
    psf: Any
    gain: float | None
    values: dict
    varies: frozenset
    background: Any = None

    def part(self, rows):
        """Return the telescope of a slice of the stamps, with the PSFs in use."""
        values = {name: array[rows] for name, array in self.values.items()}
        psf, background = self.psf, self.background
        if "psf_index" in values and isinstance(psf, list):
            used, values["psf_index"] = np.unique(
                values["psf_index"], return_inverse=True
            )
            psf = [psf[index] for index in used]
        if background is not None:
            background = background[rows]
        return replace(self, values=values, psf=psf, background=background)

    def optics(self, index):
        """Return the keyword arguments of `render_stamp` for one stamp."""
        return {
            "image_shape": self.image_shape,
            "pixel_scale": self.pixel_scale,
            "psf": self._psf(index),
        }

    def detector(self, index):
        """Return the keyword arguments of `inverse_variance` for one stamp."""
        if self.background is not None:
            return {"background": self.background[index], "gain": self.gain}
        noise = {name: float(self.values[name][index]) for name in DETECTOR}
        return {**noise, "gain": self.gain}

    def background_variance(self):
        """Return the variance of a pixel without light, for each stamp."""
        noise = {name: self.values[name] for name in DETECTOR}
        return background_variance(**noise, gain=self.gain)

    def columns(self):
        """Return the settings that concern the stamps, if one of them varies."""
        names = [name for name in self.values if name in used_settings(self.psf)]
        return {n: self.values[n] for n in names} if self.varies & set(names) else {}

    def _psf(self, index):
        if self.psf is None:
            return None
        if not isinstance(self.psf, str):
            return self.psf[int(self.values["psf_index"][index])]
        shape = {n: float(self.values[n][index]) for n in _SHAPE if n in self.values}
        return ModelPSF(
            self.psf,
            shape["psf_fwhm"],
            shape.get("moffat_beta"),
            shape["psf_ellipticity"],
            shape["psf_position_angle"],
            self.pixel_scale,
            tabulated=bool(self.varies & set(_SHAPE)),
        )


def used_settings(psf):
    """Return the names of the settings that matter with this PSF."""
    if psf is None:
        return set(DETECTOR)
    if not isinstance(psf, str):
        return {"psf_index", *DETECTOR}
    return set(TELESCOPE) - (set() if psf == "moffat" else {"moffat_beta"})


class TelescopeSources(NamedTuple):
    """Checked settings from which a `Telescope` is drawn.

    ``psf`` is a PSF from `check_psf`. ``varies`` are the names of the settings that may
    differ between stamps.
    """

    sources: dict
    psf: Any
    varies: set
    gain: float


def check_gain(gain):
    """Raise an error unless the gain of one band is allowed."""
    validate_parameter_constraints(GAIN, {"gain": gain}, caller_name="make_galaxies")


def parse_telescope(given, n_samples, image_shape):
    """Check the settings of `TELESCOPE`, psf and gain."""
    check_gain(given["gain"])
    sources = parse_parameters(given, n_samples)
    psf = check_psf(given["psf"], image_shape)
    varies = {name for name in sources if not is_number(given[name])}
    return TelescopeSources(sources, psf, varies, given["gain"])


def make_telescope(given, n_samples, *, entropy, band=0, **fixed):
    """Return the `Telescope` of all stamps in a band from `TelescopeSources`.

    ``fixed`` are attributes of the telescope.
    """
    psf, varies = given.psf, given.varies
    stamps = not (psf is None or isinstance(psf, str))
    n_psfs = len(psf) if stamps and len(psf) not in (1, n_samples) else None
    values = draw_telescope(
        given.sources, n_samples, n_psfs=n_psfs, entropy=entropy, band=band
    )
    if stamps:
        each = np.arange(n_samples) if len(psf) > 1 else np.zeros(n_samples, np.intp)
        values.setdefault("psf_index", each)
        varies = varies | ({"psf_index"} if len(psf) > 1 else set())
        psf = stamp_psfs(psf, fixed["pixel_scale"])
    return Telescope(
        psf=psf, gain=given.gain, values=values, varies=frozenset(varies), **fixed
    )


def needed_settings(galaxies, *, with_psf, with_noise):
    """Return the names of the settings of galaxies that their bound depends on."""
    kind = galaxies.get("psf") if with_psf else None
    names = used_settings(kind) - set(() if with_noise else DETECTOR)
    return [*(["psf"] if with_psf else []), *(n for n in TELESCOPE if n in names)]


def read_telescope(galaxies, frame, needed, n_samples):
    """Return the `Telescope` of a Bunch of make_galaxies or of a similar mapping.

    ``frame`` is a dict of its columns, which take precedence.
    """
    given = {**DEFAULTS, **galaxies, **frame}
    known = {n: given[n] for n in TELESCOPE if n in given}
    values = {
        name: parse_values(name, value, n_samples, "n_samples")
        for name, value in known.items()
        if name in needed or is_number(value)
    }
    telescope = Telescope(
        tuple(galaxies["image_shape"]),
        galaxies["pixel_scale"],
        None,
        galaxies["gain"],
        values,
        frozenset(n for n in values if not is_number(known[n])),
    )
    if "psf" not in needed:
        return telescope
    psf = check_psf(galaxies["psf"], telescope.image_shape)
    if isinstance(psf, np.ndarray):
        return with_images(telescope, psf, n_samples, frame.get("psf_index"))
    return replace(telescope, psf=psf)


def with_images(telescope, images, n_samples, index=None):
    """Return the `Telescope` with PSFs from images, of a given index or one of each."""
    if index is None and len(images) not in (1, n_samples):
        wanted = f"one PSF, or one for each of the {n_samples} stamps"
        raise parameter_error("psf", wanted, f"{len(images)} PSFs")
    if index is None:
        index = np.arange(n_samples) if len(images) > 1 else np.zeros(n_samples, int)
    elif not np.isin(index, np.arange(len(images))).all():
        wanted = f"an array with a PSF for each psf_index, up to {np.max(index)}"
        raise parameter_error("psf", wanted, f"{len(images)} PSFs")
    values = {**telescope.values, "psf_index": np.asarray(index, np.intp)}
    psfs = stamp_psfs(images, telescope.pixel_scale)
    return replace(telescope, psf=psfs, values=values)


def stamp_psfs(images, pixel_scale):
    """Return a list of `StampPSF` from an array (m, h, w)."""
    return [StampPSF(image, pixel_scale) for image in images]


def check_psf(psf, image_shape):
    """Return the name of a PSF, None, or an array (m, h, w) of PSFs of sum 1."""
    if psf is None or isinstance(psf, str):
        if psf is None or psf in PSFS:
            return psf
        raise parameter_error("psf", _PSF_KINDS, repr(psf))
    shape = _shape_of(psf)
    if len(shape) not in (2, 3) or 0 in shape:
        got = f"an array of shape {shape}" if shape else repr(psf)
        raise parameter_error("psf", f"{_PSF_KINDS}, (h, w) or (m, h, w)", got)
    sides = shape[-2:]
    if sides != tuple(image_shape) and not all(side % 2 for side in sides):
        wanted = (
            f"{_PSF_KINDS} with odd sides and the centre in the middle pixel, or with "
            f"the sides of the stamp, {tuple(image_shape)}"
        )
        raise parameter_error("psf", wanted, f"the sides {sides}")
    return fit_psfs(psf, sides)


def fit_psfs(psf, image_shape):
    """Return PSFs of sum 1 with the sides of the stamp, an array (m, height, width)."""
    n_psfs = 1 if np.ndim(psf) == 2 else len(psf)
    try:
        return _planes.check_psf(psf, n_psfs, (1, *image_shape))[:, 0]
    except ValueError as error:
        raise InvalidParameterError(
            f"The 'psf' parameter of make_galaxies must be {_PSF_KINDS}. {error}"
        ) from error


def _shape_of(values):
    try:
        return np.shape(values)
    except ValueError:  # Lists of different lengths.
        return ()


def check_variance(variance, shape):
    """Return background variances (n_samples, ...) of the pixels of all stamps."""
    variance = check_numbers(
        variance, "variance", unit="adu2", ensure_min_samples=0, ensure_all_finite=False
    )
    if variance.shape not in ((), shape[1:], shape):
        wanted = f"a number, or an array of shape {shape[1:]} or {shape}"
        got = f"an array of shape {variance.shape}"
        raise parameter_error("variance", wanted, got)
    # Also NaN is refused. Infinity is a masked pixel.
    wrong = ~(variance > 0)
    if wrong.any():
        got = f"{variance[wrong][0]:g} in {wrong.sum()} pixels"
        raise parameter_error("variance", "above 0 in all pixels", got)
    return np.broadcast_to(variance, shape)
