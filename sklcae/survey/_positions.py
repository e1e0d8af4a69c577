"""Positions of sources on an image: tables, arrays and places on the sky."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sklcae._warning import warn_user
from sklcae.survey._geometry import sky_of_pixels
from sklcae.survey._image import is_path, library
from sklcae.survey._stamps import NAMES

# Ends of the names of files with tables that astropy recognises.
FORMATS = ".csv, .ecsv, .fits, .parquet, .vot or .xml"
# Places in pixels and on the sky may differ by so many pixels.
LARGEST_DIFFERENCE = 0.5


class Positions(NamedTuple):
    """Positions, arrays (n,).

    Parameters
    ----------
    x, y : ndarray
        Pixels from the centre of the first pixel; NaN where unknown.
    ra, dec : ndarray or None
        Degrees in ICRS; None without a WCS.
    ids : ndarray
        Names, or rows.
    """

    x: np.ndarray
    y: np.ndarray
    ra: Any
    dec: Any
    ids: np.ndarray


def read_positions(positions, wcs, name="positions"):
    """Return the `Positions` of a table, a file, an array or coordinates."""
    if is_path(positions):
        positions = _read_table(Path(positions), name)
    if hasattr(positions, "icrs"):
        return _of_sky(np.atleast_1d(positions), wcs, None, name)
    columns = _columns_of(positions)
    if columns is None:
        x, y = _of_array(positions, name)
        return _of_pixels(x, y, wcs, None)
    ids = next((columns[n] for n in NAMES["id"] if n in columns), None)
    ids = None if ids is None else np.asarray(ids)
    if {"x", "y"} <= set(columns):
        x, y = (_as_floats(columns[n], name) for n in ("x", "y"))
        if wcs is not None and _has_degrees(columns):
            _warn_of_difference(x, y, _sky_of(columns, name), wcs, name)
        return _of_pixels(x, y, wcs, ids)
    if not {"ra", "dec"} <= set(columns):
        raise ValueError(
            f"{name} must have the columns 'x' and 'y' or 'ra' and 'dec'. Got "
            f"{list(columns)}."
        )
    return _of_sky(_sky_of(columns, name), wcs, ids, name)


def _read_table(path, name):
    """Return the table of a file."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{name} must be a file with a table. Got {str(path)!r}: no such file."
        )
    registry = library("astropy.io.registry")
    try:
        return library("astropy.table").Table.read(path)
    except registry.IORegistryError as error:
        raise ValueError(
            f"{name} must be a table in a file whose name ends in {FORMATS}. Got "
            f"{str(path)!r}. A CSV file begins with the names of its columns: ra,dec."
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{name} must be a table in a file. Got {str(path)!r}, which cannot be "
            f"read: {error}"
        ) from error


def _sky_of(columns, name):
    """Return the SkyCoord of the columns ra and dec."""
    return library("astropy.coordinates").SkyCoord(
        *(_as_degrees(columns[n], name) for n in ("ra", "dec")), unit="deg"
    )


def _has_degrees(columns):
    """Return whether there are columns ra and dec of numbers."""
    return all(
        n in columns and np.asarray(columns[n]).dtype.kind in "iuf"
        for n in ("ra", "dec")
    )


def _warn_of_difference(x, y, sky, wcs, name):
    """Warn if the pixels and the places on the sky of a table differ."""
    others = _of_sky(sky, wcs, None, name)
    distances = np.hypot(others.x - x, others.y - y)
    known = np.isfinite(distances)
    distance = np.median(distances[known]) if known.any() else 0
    if distance > LARGEST_DIFFERENCE:
        warn_user(
            f"{name} have x, y and ra, dec that differ by {distance:.3g} pixels in the "
            "median. x and y are used, which count from 0 at the centre of the first "
            "pixel. Leave them out to use ra and dec."
        )


def _columns_of(table):
    """Return the columns of a table by their names in small letters, or None."""
    names = getattr(table, "colnames", None)
    if names is None and getattr(getattr(table, "dtype", None), "names", None):
        names = table.dtype.names
    if names is None and hasattr(table, "columns"):
        names = list(table.columns)
    if names is None and isinstance(table, dict):
        names = list(table)
    if names is None:
        return None
    return {str(name).lower(): table[name] for name in names}


def _of_array(values, name):
    try:
        values = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.ndim != 2 or values.shape[1] != 2:
        raise ValueError(
            f"{name} must be None, a table with x and y or ra and dec, a SkyCoord or "
            f"an array (n, 2) of x and y. Got an array of the shape {values.shape}."
        )
    return values.T


def _as_floats(column, name):
    """Return the numbers of a column, NaN where they are masked."""
    values = getattr(column, "value", column)
    try:
        if hasattr(values, "filled"):
            values = values.astype(np.float64).filled(np.nan)
        elif hasattr(values, "to_numpy"):
            values = values.to_numpy(np.float64, na_value=np.nan)
        values = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must have columns of numbers: {error}") from error
    if values.ndim != 1:
        raise ValueError(
            f"{name} must have columns of the shape (n,). Got the shape {values.shape}."
        )
    return values


def _as_degrees(column, name):
    """Return the numbers of a column in degrees, NaN where they are masked."""
    values, unit = _as_floats(column, name), getattr(column, "unit", None)
    if unit is None:
        return values
    units = library("astropy.units")
    return units.Quantity(values, unit).to_value(units.deg)


def _of_pixels(x, y, wcs, ids):
    known = np.isfinite(x) & np.isfinite(y)
    x, y = np.where(known, x, np.nan), np.where(known, y, np.nan)
    ids = np.arange(len(x)) if ids is None else ids
    if wcs is None:
        return Positions(x, y, None, None, ids)
    return Positions(x, y, *sky_of_pixels(wcs, x, y), ids)


def _of_sky(sky, wcs, ids, name):
    if wcs is None:
        raise ValueError(
            f"{name} must have x and y for an image without a WCS. Got ra and dec: "
            "pass the WCS as wcs."
        )
    sky = sky.icrs
    ra, dec = np.array(sky.ra.deg), np.array(sky.dec.deg)
    known = np.isfinite(ra) & np.isfinite(dec)
    x, y = np.full((2, len(ra)), np.nan)
    x[known], y[known] = wcs.world_to_pixel(sky[known])
    ids = np.arange(len(ra)) if ids is None else ids
    return Positions(x, y, ra, dec, ids)
