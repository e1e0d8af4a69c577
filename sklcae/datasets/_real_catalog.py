"""Catalogues of real galaxies in GalSim's format, and the labels of their galaxies."""

import os
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sklcae._compat import InvalidParameterError
from sklcae._units import check_numbers
from sklcae.datasets._galsim import import_galsim
from sklcae.datasets._parameters import FITTED, parameter_error

_NEEDED = (
    "IDENT",
    "GAL_FILENAME",
    "GAL_HDU",
    "PSF_FILENAME",
    "PSF_HDU",
    "PIXEL_SCALE",
    "NOISE_VARIANCE",
)
# The columns of the published fits that have the labels.
_PUBLISHED = ("IDENT", "sersicfit", "flux", "hlr")
_POSITIVE = ("flux", "half_light_radius", "sersic_index")


class RealCatalog(NamedTuple):
    """A catalogue of real galaxies.

    Parameters
    ----------
    path : str
        The path of the catalogue file.
    idents : ndarray of shape (n_galaxies,)
        The identifiers of the galaxies, as strings.
    """

    path: str
    idents: np.ndarray


def find_catalog(catalog_dir, catalog_name):
    """Return the `RealCatalog` in a folder, or raise FileNotFoundError."""
    path = _find_file(Path(catalog_dir), catalog_name)
    try:
        catalog = import_galsim().RealGalaxyCatalog(str(path))
        names = {name.upper() for name in catalog.cat.names}
    except (AttributeError, IndexError, OSError) as error:
        raise _no_catalog(path, "cannot be read as a FITS table") from error
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise _no_catalog(path, f"lacks the columns {', '.join(missing)}")
    with closing(catalog):
        _check_files(catalog)
        return RealCatalog(str(path), np.array(catalog.ident, dtype=str))


def read_labels(catalog, labels):
    """Return the labels of all galaxies: a dict of `FITTED`, NaN if unknown.

    ``labels`` is a table of the user, or None for the published fits.
    """
    table = _published(catalog.path) if labels is None else _given(labels)
    known = {name: np.full(len(catalog.idents), np.nan) for name in FITTED}
    if table is None:
        return known
    idents = table.pop("ident")
    rows = {ident: row for row, ident in enumerate(idents)}
    row = np.array([rows.get(ident, -1) for ident in catalog.idents])
    if labels is not None and (row < 0).all():
        raise parameter_error(
            "labels",
            f"a table with an 'ident' of the catalogue, such as {catalog.idents[0]!r}",
            f"idents such as {idents[0]!r}",
        )
    for name, values in table.items():
        known[name][row >= 0] = values[row[row >= 0]]
    return known


def _find_file(folder, name):
    if not folder.is_dir():
        raise FileNotFoundError(
            "The 'catalog_dir' parameter of make_real_galaxies must be a folder with a "
            f"RealGalaxyCatalog of GalSim. Got {str(folder)!r}, which is not a folder."
        )
    if name is not None:
        if (folder / name).is_file():
            return folder / name
        raise FileNotFoundError(
            "The 'catalog_name' parameter of make_real_galaxies must be a file in "
            f"{str(folder)!r}. Got {name!r}, which is not in it."
        )
    found = sorted(
        path
        for path in folder.glob("*catalog*.fits")
        if not path.stem.endswith(("_fits", "_selection"))
    )
    if len(found) == 1:
        return found[0]
    got = ", ".join(path.name for path in found) or "no such file"
    raise FileNotFoundError(
        "The 'catalog_dir' parameter of make_real_galaxies must have one file "
        f"'*catalog*.fits', or catalog_name must name it. Got {got} in {str(folder)!r}."
    )


def _no_catalog(path, reason):
    return InvalidParameterError(
        "The 'catalog_dir' parameter of make_real_galaxies must have a "
        f"RealGalaxyCatalog of GalSim. Got {str(path)!r}, which {reason}."
    )


def _check_files(catalog):
    noise = catalog.noise_file_name or []
    needed = [*catalog.gal_file_name, *catalog.psf_file_name, *noise]
    for path in dict.fromkeys(needed):
        if not os.path.isfile(path):
            raise FileNotFoundError(
                "The 'catalog_dir' parameter of make_real_galaxies must have the files "
                f"that the catalogue names. Got a folder without {path!r}."
            )


# Labels ------------------------------------------------------------------------------


def _published(path):
    """Return the published Sersic fits beside a catalogue, or None without them."""
    from astropy.io import fits

    stem, end = os.path.splitext(path)
    if not os.path.isfile(f"{stem}_fits{end}"):
        return None
    with fits.open(f"{stem}_fits{end}") as file:
        table = file[1].data
        names = {name.upper() for name in table.names}
        if not names.issuperset(name.upper() for name in _PUBLISHED):
            return None
        return _from_published({name: np.array(table[name]) for name in table.names})


def _from_published(table):
    """Convert the columns of the fits of GalSim's COSMOS catalogues."""
    table = {name.lower(): values for name, values in table.items()}
    fit = table["sersicfit"].astype(float)
    axis_ratio, angle = fit[:, 3], fit[:, 7]
    ellipticity = (1 - axis_ratio**2) / (1 + axis_ratio**2)
    labels = {
        "flux": table["flux"][:, 0],
        # In arcsec and circularised, unlike the radius in sersicfit.
        "half_light_radius": table["hlr"][:, 0],
        "sersic_index": fit[:, 2],
        "e1": ellipticity * np.cos(2 * angle),
        "e2": ellipticity * np.sin(2 * angle),
        # The fits count pixels from 0, at the centre of the first one.
        "x0": fit[:, 5] + 0.5,
        "y0": fit[:, 6] + 0.5,
    }
    known = np.all([values > 0 for values in map(labels.get, _POSITIVE)], axis=0)
    if "fit_status" in table:
        status = table["fit_status"][:, 4]
        known &= (status > 0) & (status < 5)
    labels = {n: np.where(known, v, np.nan).astype(float) for n, v in labels.items()}
    return {"ident": _as_idents(table["ident"]), **labels}


def _given(labels):
    """Check a table of the user, and return its columns as a dict."""
    columns = list(labels.keys()) if hasattr(labels, "keys") else []
    names = [name for name in FITTED if name in columns]
    if "ident" not in columns or not names:
        wanted = f"a table with the column 'ident' and some of {', '.join(FITTED)}"
        raise parameter_error("labels", wanted, f"the columns {columns}")
    idents = _as_idents(np.asarray(labels["ident"]))
    if len(set(idents)) < len(idents):
        raise parameter_error(
            "labels", "a table with each 'ident' once", "repeated ones"
        )
    table = {name: _column(name, labels[name], len(idents)) for name in names}
    e1, e2 = (table.get(name, np.zeros(len(idents))) for name in ("e1", "e2"))
    if (np.hypot(e1, e2) >= 1).any():
        got = f"{np.nanmax(np.hypot(e1, e2)):g}"
        raise parameter_error("labels", "an ellipticity (e1, e2) below 1", got)
    return {"ident": idents, **table}


def _column(name, values, length):
    values = check_numbers(values, name, ensure_all_finite="allow-nan")
    if values.shape != (length,):
        got = f"{name!r} of shape {values.shape}"
        raise parameter_error(
            "labels", f"a table with {length} numbers in each column", got
        )
    if name in _POSITIVE and (values <= 0).any():
        got = f"{np.nanmin(values):g}"
        raise parameter_error("labels", f"a table with {name!r} above 0", got)
    return values


def _as_idents(values):
    return np.array([str(value) for value in values.tolist()])
