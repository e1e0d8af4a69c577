"""From a survey image to a catalogue in one pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree
from sklearn.utils.validation import check_is_fitted

from sklcae._blocks import blocks_of
from sklcae._compat import import_optional, validate_params
from sklcae._conditional_autoencoder import ConditionalAutoencoderRegressor
from sklcae._neighbours import check_neighbours
from sklcae._typing import Columns, File
from sklcae._warning import warn_user
from sklcae.survey._columns import (
    HARMLESS,
    PREFIX,
    Column,
    columns_of_names,
    columns_of_results,
    flag_names,
    is_unit,
    units_of,
)
from sklcae.survey._cutouts import cutouts
from sklcae.survey._image import AUTO, masked_share, warn_of_background_and_noise
from sklcae.survey._measurement import (
    MeasurementOptions,
    bad_rows,
    join_results,
    measure_rows,
    read_rows,
)
from sklcae.survey._polishing import check_polish, make_fitter
from sklcae.survey._positions import read_positions

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.io.fits import Header
    from astropy.nddata import NDData
    from astropy.table import Table
    from astropy.wcs import WCS

# Parameters of the fit that `measure` sets.
OWN_OF_FIT = ("pixel_scale", "max_neighbours")
# Parameters of the planes of a model, and advice for an image without them.
PARTS = {
    "variance": (
        "weight or variance",
        "variance='sep' (--variance sep) measures its noise",
    ),
    "psf": ("psf", "psf=0.8 (--psf 0.8) is a Gaussian of this FWHM in arcsec"),
}
# Positions that are nearer to each other, in pixels, are one source.
SAME_SOURCE = 1.0
# So many stamps prepare the fit.
N_PREPARED = 256
# Meanings of columns that differ on the sky.
ON_SKY = {
    "e1": "Ellipticity (a^2 - b^2) / (a^2 + b^2) times cos(2 position angle), from "
    "north through east",
    "e2": "Ellipticity (a^2 - b^2) / (a^2 + b^2) times sin(2 position angle), from "
    "north through east",
    "position_angle": "Angle of the major axis, from north through east",
}


@validate_params(
    {
        "polish": ["boolean", dict],
        "flags": ["boolean"],
        "mask_others": ["boolean", None],
    },
    prefer_skip_nested_validation=True,
)
def measure(
    model: ConditionalAutoencoderRegressor,
    image: File | ArrayLike | NDData,
    positions: File | Columns | ArrayLike | SkyCoord | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    polish: bool | dict[str, Any] = True,
    neighbours: Literal["positions"] | int | Columns | ArrayLike = "positions",
    flags: bool = True,
    gain: float | None = None,
    hdu: int | str | None = None,
    weight: File | ArrayLike | None = AUTO,
    variance: File | ArrayLike | None = AUTO,
    mask: File | ArrayLike | None = AUTO,
    mask_bits: int | None = None,
    psf: File | ArrayLike | Callable[..., Any] | None = None,
    wcs: WCS | Header | None = None,
    background: File | ArrayLike | None = None,
    background_size: int = 128,
    mask_others: bool | None = None,
    detection: dict[str, Any] | None = None,
) -> Table:
    """Measure the galaxies of a survey image, and return a catalogue.

    Sources are found if there are no `positions`, stamps are cut, the network reads
    them, and profile fits start from its predictions. The results are on the sky.

    Parameters
    ----------
    model : ConditionalAutoencoderRegressor
        A fitted model for stamps of one band, such as that of
        :func:`~sklcae.load_pretrained`. A copy is rescaled to the median pixel scale of
        the image, see :meth:`~sklcae.ConditionalAutoencoderRegressor.rescale`.
    image : str, PathLike, array-like of shape (H, W) or NDData
        The image, which needs a WCS, as in :func:`cutouts`.
    positions : table, str, PathLike, SkyCoord, array-like of shape (n, 2) or None, \
            default=None
        The sources, as in :func:`cutouts`. None finds them.
    size : int or tuple of int, default=None
        Side of the stamps, or height and width: those of the model, as None takes them.
    polish : bool or dict, default=True
        Whether the predictions start profile fits. A dict has parameters of
        :class:`~sklcae.ProfileFitRegressor`, such as ``{"mask_cosmic_rays": True}``.
    neighbours : "positions", int or table, default="positions"
        The sources that are fitted together with a galaxy if they are on its stamp:
        those at the other `positions`, or a table of positions of all sources. An int
        is the largest number of neighbours that the fit finds by itself; use it for the
        positions of a few galaxies.
    flags : bool, default=True
        Whether there are all flags of
        :meth:`~sklcae.ProfileFitRegressor.flags`. Without, there are "bad_stamp",
        "no_pixels" and "outside_training".
    gain : float, default=None
        Electrons for each unit of light in the image. None takes that of the model,
        which is 1 for :func:`~sklcae.load_pretrained`.
    hdu : int or str, default=None
        The HDU of the image in its file, as in :func:`cutouts`.
    weight, variance, mask : float, array-like of shape (H, W), str, PathLike or None, \
            default="auto"
        The noise and the mask, as in :func:`cutouts`.
    mask_bits : int, default=None
        The sum of the bits of `mask` that make a pixel bad. None takes all.
    psf : float, array-like of shape (h, w), str, PathLike or callable, default=None
        The PSF, as in :func:`cutouts`.
    wcs : astropy.wcs.WCS or Header, default=None
        The WCS, in place of the one that comes with the image.
    background : float, array-like of shape (H, W), str, PathLike or None, default=None
        The background, "sep" for a mesh, as in :func:`cutouts`.
    background_size : int, default=128
        Side of a mesh of the background, in pixels.
    mask_others : bool, default=None
        Whether the pixels of sources are masked whose centre is not on the stamp, as in
        :func:`cutouts`. None is True with `polish`, as fits do not need these pixels,
        and False without: the network has learned whole stamps.
    detection : dict, default=None
        Parameters of :func:`detect_sources`, as in :func:`cutouts`.

    Returns
    -------
    catalog : astropy.table.Table
        One row for each source, with units and descriptions:

        object_id : int or str
            The names of the positions, or their rows.
        ra, dec : float
            The fitted centre in degrees, in ICRS; the given position if there is none.
        x, y, x_err, y_err : float
            The same in pixels from the centre of the first pixel of the image.
        flux, flux_err, ... : float
            The other targets of the model and their standard deviations. Radii are in
            arcsec. e1, e2 and position angles are from north through east.
        chi_square : float
            With `polish`, chi-square per pixel.
        sklcae_flag : bool
            Whether there is any of the next flags but "neighbours", and with `polish`
            but "outside_training": a fit does not rely on the training set.
        sklcae_flag_bad_stamp, ... : bool
            The flags. Stamps off the image have "no_pixels"; stamps that cannot be
            measured have "bad_stamp".

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    TypeError
        If the model is of another class.
    ValueError
        If a parameter is not as described, the image has no WCS, or the stamps do not
        have the planes and the shape of the model.

    Warns
    -----
    UserWarning
        As in :func:`cutouts`; if the image seems to have a background, if its noise is
        not that of the variance, or if its header has a gain that is not used; if
        positions are nearer to each other than a pixel; and if stamps, or all rows,
        cannot be measured.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.wcs import WCS
    >>> from sklcae import load_pretrained
    >>> from sklcae.survey import measure
    >>> y, x = np.indices((200, 200))
    >>> image = np.random.default_rng(0).normal(scale=5.0, size=(200, 200))
    >>> image += 300 * np.exp(-((x - 90.0) ** 2 + (y - 120.0) ** 2) / 32)
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 2.0]
    >>> wcs.wcs.cdelt = [-0.2 / 3600, 0.2 / 3600]
    >>> model = load_pretrained("ground")
    >>> catalog = measure(model, image, variance=25.0, psf=0.8, wcs=wcs)
    >>> len(catalog), round(catalog["x"][0]), round(catalog["y"][0])
    (1, 90, 120)
    """
    _check_model(model)
    fit_options = _check_polish(polish, neighbours)
    if mask_others is None:
        mask_others = fit_options is not None
    if size is None:
        size = tuple(model.codec_.layout.image_shape[1:])
    stamps = cutouts(
        image,
        positions,
        size,
        hdu=hdu,
        weight=weight,
        variance=variance,
        mask=mask,
        mask_bits=mask_bits,
        psf=psf,
        wcs=wcs,
        background=background,
        background_size=background_size,
        mask_others=mask_others,
        detection=detection,
    )
    _check_stamps(stamps, model)
    _warn_of_image(stamps._image, model, gain)
    places = None
    if fit_options is not None and not _is_count(neighbours):
        if _is_positions(neighbours):
            _check_same_places(stamps)
        places = _places_of_neighbours(stamps, neighbours)
    scale = _median_scale(stamps, model)
    model = copy.deepcopy(model).rescale(pixel_scale=scale, gain=gain)
    model.set_params(allow_nan=True, handle_empty="nan")
    prepared = _some_stamps(stamps)
    if fit_options is not None and len(prepared):
        options = {"max_neighbours": 0, **fit_options}
        estimator = make_fitter(model, options).fit(prepared)
    else:
        estimator = model
    options = _options_of(model, stamps, scale, fit_options is not None, flags)
    results, bad = _measure_blocks(estimator, stamps, options, places)
    _warn_of_rows(stamps, results, bad, model.target_names_[0])
    results[PREFIX] = _any_of_flags(results, options)
    return _table_of(stamps, results, options, model.target_names_, scale)


# Checks ------------------------------------------------------------------------------


def _check_model(model):
    if not isinstance(model, ConditionalAutoencoderRegressor):
        raise TypeError(
            "model must be a fitted ConditionalAutoencoderRegressor. Got a "
            f"{type(model).__name__}."
        )
    check_is_fitted(model)
    n_bands = model.codec_.layout.band_shape[0]
    if n_bands > 1 or not model.target_names_:
        raise ValueError(
            "model must be for stamps of one band, with named targets. Got one for "
            f"{n_bands} bands with the targets {model.target_names_}."
        )


def _check_polish(polish, neighbours):
    """Return the parameters of the fit by name, or None without one."""
    is_table = not (neighbours is None or isinstance(neighbours, str | Real))
    if not (_is_positions(neighbours) or _is_count(neighbours) or is_table):
        raise ValueError(
            "neighbours must be 'positions', an int of 0 or more, or a table. Got "
            f"{neighbours!r}."
        )
    if polish is False:
        if not _is_positions(neighbours):
            raise ValueError(
                "neighbours must be 'positions' with polish=False, as only fits have "
                f"neighbours. Got {neighbours!r:.80}."
            )
        return None
    options = check_polish(polish, also_set=OWN_OF_FIT)
    if _is_count(neighbours):
        options["max_neighbours"] = int(neighbours)
    return options


def _is_positions(neighbours):
    return isinstance(neighbours, str) and neighbours == "positions"


def _is_count(neighbours):
    is_int = isinstance(neighbours, int | np.integer)
    return is_int and not isinstance(neighbours, bool) and neighbours >= 0


def _check_stamps(stamps, model):
    """Raise ValueError unless the stamps are those of the model, with a WCS."""
    stamps._check_wcs("measure")
    _, *sides = model.codec_.layout.image_shape
    if tuple(sides) != stamps.shape[2:]:
        raise ValueError(
            f"size must be that of the stamps of the model, {tuple(sides)}. Got "
            f"{stamps.shape[2:]}."
        )
    planes = tuple(model.codec_.layout.planes)
    for kind in planes:
        if kind not in stamps.planes:
            part, advice = PARTS[kind]
            raise ValueError(
                f"{part} must be given for a model with the planes {planes}. Got an "
                f"image with {stamps.planes}: {advice}."
            )
    if "psf" in stamps.planes and "psf" not in planes:
        raise ValueError(
            f"psf must be None for a model with the planes {planes}, which has a PSF "
            "of its own or none."
        )
    # The noise is not needed then, but its masked pixels are.
    stamps._set_planes(planes, stamps.shape[2:])


def _warn_of_image(image, model, gain):
    """Warn of the likeliest mistakes that an image shows."""
    warn_of_background_and_noise(image)
    if gain is None and image.gain not in (None, model.gain_):
        warn_user(
            f"The header of {image.name} has GAIN = {image.gain:g}, but the gain of "
            f"the model, {model.gain_:g}, is used. Pass gain={image.gain:g} for an "
            f"image in ADU, or gain={model.gain_:g} to confirm."
        )


def _check_same_places(stamps):
    """Warn of positions of one source; ValueError if there is no other place."""
    places = np.column_stack([stamps.x, stamps.y])[stamps.is_inside]
    if len(places) > 2 and (np.ptp(places, axis=0) < SAME_SOURCE).all():
        raise ValueError(
            "positions must be those of different sources. Got "
            f"{len(places)} within a pixel, at x={places[0, 0]:g} and "
            f"y={places[0, 1]:g}. An array has x and y in pixels; ra and dec need a "
            "table or a SkyCoord."
        )
    distances, _ = cKDTree(places).query(places, k=2)
    n_same = (distances[:, 1] < SAME_SOURCE).sum()
    if n_same:
        warn_user(
            f"{n_same} of {len(stamps)} positions are within a pixel of another one. "
            "They are fitted together and share the light: give each source once."
        )


def _warn_of_rows(stamps, results, bad, name):
    """Warn of stamps that cannot be measured, and of catalogues without any row.

    ``bad`` has the message by row, and ``name`` is a column that is NaN without a
    measurement.
    """
    n, image = len(stamps), stamps._image
    if bad:
        first = min(bad)
        warn_user(
            f"{len(bad)} of {n} rows have the flag 'bad_stamp', the first is row "
            f"{first}: {bad[first]}"
        )
    elif n and np.isnan(results[name]).all():
        flags = ", ".join(
            f"{column.removeprefix(f'{PREFIX}_')} {flag.sum()}"
            for column, flag in results.items()
            if column.startswith(f"{PREFIX}_") and flag.any()
        )
        warn_user(
            f"None of {n} rows could be measured: {flags}. {image.name} has "
            f"{stamps.is_inside.sum()} of the positions; {masked_share(image):.0%} of "
            "its pixels are masked or have no positive weight or variance. A PSF "
            "without light masks its stamp."
        )


# Measurement -------------------------------------------------------------------------


def _places_of_neighbours(stamps, neighbours):
    """Return the `Places` of other sources on each stamp."""
    others = None
    if not _is_positions(neighbours):
        given = read_positions(neighbours, stamps._image.wcs, "neighbours")
        others = {"x": given.x, "y": given.y}
    return check_neighbours(stamps.find_neighbours(others), len(stamps))


def _median_scale(stamps, model):
    """Return the median pixel scale of stamps on the image, or that of the model."""
    inside = stamps.pixel_scale[stamps.is_inside]
    return float(np.median(inside)) if len(inside) else model.codec_.pixel_scale


def _some_stamps(stamps):
    """Return some of the stamps that can be measured, evenly spaced, if there are any.

    All are tried if none of those can be measured.
    """
    rows = np.flatnonzero(stamps.is_inside)
    some = rows[:: max(1, len(rows) // N_PREPARED)]
    for chosen in (some, np.setdiff1d(rows, some)):
        good = [stamp for row in chosen for stamp in _usable(stamps, row)]
        if good:
            return np.stack(good)
    return stamps[:0]


def _usable(stamps, row):
    """Yield a stamp if it has pixels and a PSF."""
    try:
        stamp = read_rows(stamps._read, range(row, row + 1))[0]
    except ValueError:
        # Its row gets the flag "bad_stamp".
        return
    if np.isfinite(stamp[0]).any():
        yield stamp


def _options_of(model, stamps, scale, has_fits, flags):
    unit = stamps.unit
    names = [name for name in (unit, str(unit).lower()) if unit and is_unit(name)]
    units = units_of(model.target_names_, names[0] if names else None, scale, {})
    has_std = has_fits or model.physical_loss == "gaussian_likelihood"
    return MeasurementOptions(
        columns=None,
        units={**units, "half_light_radius": "arcsec"},
        return_std=has_std,
        return_cov=has_fits,
        flags=flags,
        has_chi_square=has_fits,
    )


def _measure_blocks(estimator, stamps, options, places):
    """Return the columns of all stamps, and the errors of bad stamps by row."""
    if not len(stamps):
        return bad_rows(estimator, 0, options), {}
    results, bad = [], {}
    for block in blocks_of(stamps):
        rows = range(len(stamps))[block]
        found, errors = measure_rows(estimator, stamps._read, rows, options, places)
        results.append(found)
        bad |= errors
    return join_results(results), bad


def _any_of_flags(results, options):
    """Return whether a result has a flag that makes it useless, (n,)."""
    harmless = (*HARMLESS, *(("outside_training",) if options.has_chi_square else ()))
    names = [name for name in flag_names(options.flags) if name not in harmless]
    return np.logical_or.reduce([results[f"{PREFIX}_{name}"] for name in names])


# Table -------------------------------------------------------------------------------


def _table_of(stamps, results, options, target_names, scale):
    """Return the catalogue on the sky."""
    sky = stamps.to_sky(results, pixel_scale=scale)
    for name in ("x", "y", "ra", "dec"):
        given = getattr(stamps, name)
        found = sky.get(name, given)
        sky[name] = np.where(np.isfinite(found), found, given)
    sky["object_id"] = stamps.ids
    module = import_optional("astropy.table", extra="survey", purpose="measure")
    table = module.Table()
    for column in _columns_on_sky(stamps, options, target_names):
        table[column.name] = module.Column(
            sky[column.name],
            unit=column.unit,
            description=column.description,
            meta={"ucd": column.ucd},
        )
    return table


def _columns_on_sky(stamps, options, target_names):
    """Return the columns of the catalogue, in order."""
    columns = columns_of_names(stamps.ids.dtype, has_places=True)
    columns += [
        Column(
            name,
            "float64",
            "pixel",
            f"pos.cartesian.{name}",
            f"Centre along {name} in the image, from the centre of the first pixel",
        )
        for name in ("x", "y")
    ]
    has_place = {"x0", "y0"} <= set(target_names)
    if options.return_std and has_place:
        columns += [
            Column(
                f"{name}_err",
                "float64",
                "pixel",
                f"stat.error;pos.cartesian.{name}",
                f"Standard deviation of {name}",
            )
            for name in ("x", "y")
        ]
    measured = columns_of_results(options._replace(return_cov=False), target_names)
    in_stamp = ("x0", "y0", "x0_err", "y0_err")
    return columns + [
        column._replace(description=ON_SKY.get(column.name, column.description))
        for column in measured
        if column.name not in in_stamp
    ]
