"""The columns of a catalogue: names, types, units, UCDs and descriptions."""

from typing import NamedTuple

import numpy as np

from sklcae._compat import import_optional
from sklcae._flags import FLAGS
from sklcae._profiles import kind_of
from sklcae._warning import warn_user

# Units of parameters that do not depend on the images.
UNITS = {"x0": "pixel", "y0": "pixel", "position_angle": "deg"}
# Unified content descriptors (UCD1+, IVOA recommendation 1.5) by kind of parameter.
UCDS = {
    "flux": "phot.flux",
    "half_light_radius": "phys.angSize;src.morph.param",
    "sersic_index": "src.morph.param",
    "e1": "src.ellipticity",
    "e2": "src.ellipticity",
    "ellipticity": "src.ellipticity",
    "position_angle": "pos.posAng",
    "x0": "pos.cartesian.x",
    "y0": "pos.cartesian.y",
}
MEANINGS = {
    "flux": "Flux",
    "half_light_radius": "Half-light radius, circularised",
    "sersic_index": "Sersic index",
    "e1": "Ellipticity (a^2 - b^2) / (a^2 + b^2) times cos(2 position angle)",
    "e2": "Ellipticity (a^2 - b^2) / (a^2 + b^2) times sin(2 position angle)",
    "ellipticity": "Ellipticity (a^2 - b^2) / (a^2 + b^2)",
    "position_angle": "Angle of the major axis from x to y",
    "x0": "Centre along x, from the centre of the first pixel of the stamp",
    "y0": "Centre along y, from the centre of the first pixel of the stamp",
}
PLACES = ("ra", "dec")
PREFIX = "sklcae_flag"
BAD_STAMP = "bad_stamp"
# Flags that every catalogue has, and their meaning.
ALWAYS = {
    BAD_STAMP: "The stamp cannot be read or measured.",
    "no_pixels": FLAGS["no_pixels"],
    "outside_training": FLAGS["outside_training"],
}
# A neighbour that is known is no reason for alarm.
HARMLESS = ("neighbours",)


class Column(NamedTuple):
    """A column of a catalogue.

    Parameters
    ----------
    name : str
        The name.
    dtype : str
        A type of NumPy, or "str".
    unit : str or None
        The unit, as astropy writes it.
    ucd : str or None
        The unified content descriptor.
    description : str
        The meaning.
    """

    name: str
    dtype: str
    unit: str | None = None
    ucd: str | None = None
    description: str = ""


def flag_names(with_flags):
    """Return the names of the flags of a catalogue and their meanings."""
    return {**ALWAYS, **FLAGS} if with_flags else ALWAYS


def units_of(target_names, image_unit, pixel_scale, given):
    """Return the units of parameters by name, None where there is none.

    Radii are in arcsec, or in pixels if these have the side 1. Units that are given
    replace these; ValueError if astropy does not know one.
    """
    for name, unit in given.items():
        if not is_unit(unit):
            raise ValueError(
                "units must have units that astropy knows, such as 'nJy'. Got "
                f"{unit!r} for {name!r}."
            )
    if image_unit is not None and not is_unit(image_unit):
        warn_user(
            f"The images have the unit {image_unit!r}, which is unknown. The catalogue "
            "has none for the flux: give it by units."
        )
        image_unit = None
    radius = "pixel" if pixel_scale == 1 else "arcsec"
    by_kind = {**UNITS, "flux": image_unit, "half_light_radius": radius}
    return {name: by_kind.get(kind_of(name)) for name in target_names} | given


def is_unit(name):
    """Return whether astropy knows a unit."""
    units = import_optional("astropy.units", extra="survey", purpose="A catalogue")
    try:
        units.Unit(name)
    except (TypeError, ValueError):
        return False
    return True


def columns_of_places(stamps):
    """Return the columns that name `Stamps`."""
    first = slice(0, 1)
    has_places = all(stamps._degrees_of(name, first) is not None for name in PLACES)
    return columns_of_names(stamps._ids_of(first).dtype, has_places)


def columns_of_names(id_dtype, has_places):
    """Return the columns of names of a type, and of places on the sky."""
    is_int = id_dtype.kind in "iu" and np.can_cast(id_dtype, np.int64)
    columns = [
        Column(
            "object_id",
            "int64" if is_int else "str",
            None,
            "meta.id;meta.main",
            "Name of the stamp, or its row in the source",
        )
    ]
    if has_places:
        columns += [
            Column("ra", "float64", "deg", "pos.eq.ra;meta.main", "Right ascension"),
            Column("dec", "float64", "deg", "pos.eq.dec;meta.main", "Declination"),
        ]
    return columns


def columns_of_results(options, target_names):
    """Return the columns that are measured, for `MeasurementOptions`."""
    columns = []
    names = options.columns or target_names
    for name in names:
        columns += _columns_of_parameter(name, options)
    if options.return_cov:
        in_order = [name for name in target_names if name in names]
        columns += _columns_of_covariances(in_order, options.units)
    if options.score:
        text = "Score of the image; low for images unlike the training set"
        columns.append(Column("score", "float64", None, "stat.value", text))
    if options.has_chi_square:
        text = "Chi-square per pixel of the fit"
        columns.append(Column("chi_square", "float64", None, "stat.fit.chi2", text))
    flags = flag_names(options.flags)
    text = "One of the flags below" + (" except neighbours" if options.flags else "")
    columns.append(Column(PREFIX, "bool", None, "meta.code.qual", text))
    columns += [
        Column(f"{PREFIX}_{name}", "bool", None, "meta.code.qual", meaning)
        for name, meaning in flags.items()
    ]
    return columns


def _columns_of_parameter(name, options):
    kind, unit = kind_of(name), options.units.get(name)
    band = name[len(kind) :].strip("_")
    text = MEANINGS.get(kind, name) + (f", band {band}" if band else "")
    ucd = UCDS.get(kind)
    columns = [Column(name, "float64", unit, ucd, text)]
    if options.return_std:
        ucd_of_error = f"stat.error;{ucd}" if ucd else "stat.error"
        text = f"Standard deviation of {name}"
        columns.append(Column(f"{name}_err", "float64", unit, ucd_of_error, text))
    return columns


def _columns_of_covariances(names, units):
    """Return a column for each pair of different parameters."""
    return [
        Column(
            f"{first}_{second}_cov",
            "float64",
            _product(units, first, second),
            "stat.covariance",
            f"Covariance of {first} and {second}",
        )
        for first, second in pairs_of(names)
    ]


def _product(units, *names):
    """Return the unit of a product, None if that of a flux is unknown."""
    if any(kind_of(name) == "flux" and not units.get(name) for name in names):
        return None
    return " ".join(units[name] for name in names if units.get(name)) or None


def pairs_of(names):
    """Return all pairs of different names, in their order."""
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
