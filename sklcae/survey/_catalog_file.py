"""Catalogues as files: Parquet in the VOParquet convention, and FITS."""

from __future__ import annotations

import io
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sklcae._compat import import_optional
from sklcae._typing import File
from sklcae._warning import warn_user
from sklcae.survey._atomic import new_file
from sklcae.survey._columns import PREFIX, Column, flag_names
from sklcae.survey._plan import read_plan

if TYPE_CHECKING:
    from astropy.table import Table

_library = partial(import_optional, extra="survey", purpose="A catalogue")

# Keys of the VOParquet convention, IVOA Note 1.0 (2025).
VERSION_KEY = b"IVOA.VOTable-Parquet.version"
CONTENT_KEY = b"IVOA.VOTable-Parquet.content"
NAMESPACE = "{http://www.ivoa.net/xml/VOTable/v1.3}"
DATATYPES = {"float64": "double", "int64": "long", "bool": "boolean"}
BIT_MASK = "sklcae_flags"
PARTS = "part-*.parquet"


def votable_of(columns):
    """Return the VOTable of columns, XML without data, as bytes."""
    tree = _library("astropy.io.votable.tree")
    file = tree.VOTableFile(version="1.4")
    resource = tree.Resource()
    file.resources.append(resource)
    table = tree.TableElement(file)
    resource.tables.append(table)
    for column in columns:
        is_text = column.dtype == "str"
        field = tree.Field(
            file,
            name=column.name,
            datatype="unicodeChar" if is_text else DATATYPES[column.dtype],
            arraysize="*" if is_text else None,
            unit=_unit_of(column.unit),
            ucd=column.ucd,
        )
        field.description = column.description
        table.fields.append(field)
    content = io.BytesIO()
    file.to_xml(content)
    return _without_data(content.getvalue())


def _unit_of(unit):
    """Return a unit as a VOTable writes it, None for none.

    Units that the VO standard lacks, such as electron, stay as astropy writes them.
    """
    if unit is None:
        return None
    unit = _library("astropy.units").Unit(unit)
    try:
        return unit.to_string("vounit")
    except ValueError:
        return str(unit)


def _without_data(content):
    """Return a VOTable whose data is in the Parquet file that has it."""
    root = ElementTree.fromstring(content)
    table = root.find(f"{NAMESPACE}RESOURCE/{NAMESPACE}TABLE")
    for data in table.findall(f"{NAMESPACE}DATA"):
        table.remove(data)
    ElementTree.SubElement(table, f"{NAMESPACE}PARQUET", type="Parquet-local-XML")
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def write_part(path, columns, results, metadata):
    """Write rows of a catalogue to a Parquet file, whole or not at all.

    Parameters
    ----------
    path : Path
        The file.
    columns : list of Column
        The columns.
    results : dict of ndarrays
        Their values by name.
    metadata : dict of str
        Further entries of the metadata of the file.
    """
    pyarrow, parquet = _library("pyarrow"), _library("pyarrow.parquet")
    fields = [
        pyarrow.field(c.name, pyarrow.string() if c.dtype == "str" else c.dtype)
        for c in columns
    ]
    entries = {VERSION_KEY: b"1.0", CONTENT_KEY: votable_of(columns)}
    entries |= {key.encode(): value.encode() for key, value in metadata.items()}
    schema = pyarrow.schema(fields, metadata=entries)
    arrays = [_as_arrow(results[field.name], field) for field in fields]
    table = pyarrow.Table.from_arrays(arrays, schema=schema)
    with new_file(path) as file:
        parquet.write_table(table, file, compression="zstd", write_page_checksum=True)


def _as_arrow(values, field):
    """Return values as an array of Arrow; masked ones are null."""
    pyarrow = _library("pyarrow")
    mask = np.ma.getmaskarray(values) if np.ma.isMaskedArray(values) else None
    values = np.asarray(values)
    if pyarrow.types.is_string(field.type):
        values = [v.decode() if isinstance(v, bytes) else str(v) for v in values]
        values = np.array(values, dtype=object)
    return pyarrow.array(values, type=field.type, mask=mask)


def part_metadata(path):
    """Return the number of rows and the entries of the metadata of a part.

    Raises ValueError if the file is not whole.
    """
    parquet = _library("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:
            entries = file.metadata.metadata or {}
            n_rows = file.metadata.num_rows
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} is no whole Parquet file: {error} A catalogue in FITS is "
            "read by Table.read of astropy."
        ) from error
    return n_rows, {k.decode(): v.decode() for k, v in entries.items()}


def check_part(path):
    """Read all of a part, with its checksums; ValueError if it is damaged."""
    parquet = _library("pyarrow.parquet")
    try:
        parquet.read_table(path, page_checksum_verification=True)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} is damaged, so delete it and make it again: {error}"
        ) from error


def parts_in(path):
    """Return the files of a catalogue, in order: those of a folder, or one file.

    Raises FileNotFoundError if there are none.
    """
    path = Path(path)
    parts = sorted(path.glob(PARTS)) if path.is_dir() else [path]
    if not parts or not parts[0].is_file():
        raise FileNotFoundError(
            "path must be a catalogue: a folder that predict_catalog wrote, or a "
            f"Parquet file of it. Got {str(path)!r}."
        )
    return parts


def read_catalog(path: File, columns: Sequence[str] | None = None) -> Table:
    """Read a catalogue.

    Parameters
    ----------
    path : str or PathLike
        The folder that :func:`predict_catalog` wrote, or a Parquet file of it.
    columns : sequence of str, default=None
        The names of the columns that are read; None reads all.

    Returns
    -------
    table : astropy.table.Table
        The rows of all parts, in their order, with units, descriptions and UCDs (the
        entry "ucd" of ``table[name].meta``).

    Raises
    ------
    FileNotFoundError
        If there is no catalogue.
    ImportError
        If astropy or pyarrow is not installed.
    ValueError
        If a column does not exist, or the file is no catalogue of sklcae.

    Warns
    -----
    UserWarning
        If parts are missing.

    Notes
    -----
    The files follow the VOParquet convention [1]_, so that
    ``Table.read(file, format="parquet.votable")`` of astropy reads a part with units,
    too. pandas, Polars and Dask read the folder.

    References
    ----------
    .. [1] G. Landais, M. Taylor et al., "Parquet in the VO", IVOA Note 1.0 (2025).

    Examples
    --------
    >>> from sklcae.survey import read_catalog
    >>> read_catalog("nothing")
    Traceback (most recent call last):
    ...
    FileNotFoundError: path must be a catalogue: ... Got 'nothing'.
    """
    parts = parts_in(path)
    _warn_of_missing(path, parts)
    pyarrow, parquet = _library("pyarrow"), _library("pyarrow.parquet")
    content = part_metadata(parts[0])[1].get(CONTENT_KEY.decode())
    if content is None:
        raise ValueError(
            "path must be a catalogue with the metadata of a VOTable. Got "
            f"{str(parts[0])!r} without it."
        )
    fields = _fields_of(content)
    names = list(fields) if columns is None else list(columns)
    unknown = [name for name in names if name not in fields]
    if unknown:
        raise ValueError(f"columns must be some of {list(fields)}. Got {unknown}.")
    rows = [parquet.read_table(part, columns=names) for part in parts]
    return _table_of(pyarrow.concat_tables(rows), [fields[name] for name in names])


def _warn_of_missing(path, parts):
    """Warn if parts of the plan of a folder are missing."""
    plan = read_plan(path)
    if plan is not None and len(parts) < plan.n_parts:
        warn_user(
            f"The catalogue {str(path)!r} has {len(parts)} of {plan.n_parts} parts. "
            "Call predict_catalog again to make the others."
        )


def _fields_of(content):
    """Return the fields of a VOTable, by name."""
    votable = _library("astropy.io.votable")
    with warnings.catch_warnings():
        # Of units that the VO standard lacks.
        warnings.simplefilter("ignore")
        file = votable.parse(io.BytesIO(content.encode()))
    return {field.name: field for field in file.get_first_table().fields}


def _table_of(rows, fields):
    """Return an astropy Table of rows, with units and descriptions."""
    table = _library("astropy.table").Table()
    for field in fields:
        values = rows[field.name].to_numpy()
        if values.dtype == object:
            values = values.astype(str)
        table[field.name] = values
        column = table[field.name]
        # The XML has broken the lines.
        column.description = " ".join((field.description or "").split())
        column.unit = field.unit
        column.meta["ucd"] = field.ucd
    return table


def write_catalog(table: Table, path: File, overwrite: bool = False) -> None:
    """Write a catalogue to one file, Parquet or FITS.

    In a FITS file the boolean flags become one column of integers, "sklcae_flags", in
    which each flag has a bit: "bad_stamp" has bit 0, of value 1, and the others follow
    in the order of the flags. The keywords SKLFLG0, SKLFLG1, ... of the header have
    their names.

    Parameters
    ----------
    table : astropy.table.Table
        The catalogue, of :func:`read_catalog` or :func:`measure`.
    path : str or PathLike
        The file. Its name ends in ``.parquet`` or ``.fits``. A Parquet file follows the
        VOParquet convention, as those of :func:`predict_catalog`.
    overwrite : bool, default=False
        Whether an older file is replaced.

    Raises
    ------
    FileExistsError
        If the file exists, without `overwrite`.
    ImportError
        If astropy or pyarrow is not installed.
    TypeError, ValueError
        If the name of the file has another end, or if this is no astropy Table of plain
        columns.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from astropy.table import Table
    >>> from sklcae.survey import read_catalog, write_catalog
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "catalogue.parquet"
    ...     table = Table({"flux": [3.0, 4.0]}, units={"flux": "nJy"})
    ...     write_catalog(table, path)
    ...     read_catalog(path)["flux"].unit
    Unit("nJy")
    """
    path = Path(path)
    writer = _writer_for(path)
    table = _checked_table(table)
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"path must be a new file, unless overwrite=True. Got {str(path)!r}, which "
            "exists."
        )
    writer(table, path)


def _checked_table(table):
    """Return a Table of columns of numbers or text; TypeError or ValueError if not."""
    tables = _library("astropy.table")
    if not isinstance(table, tables.Table):
        raise TypeError(
            "table must be an astropy Table: Table.from_pandas makes one of a "
            f"DataFrame. Got {type(table).__name__}."
        )
    # Quantities become columns with units.
    table = tables.Table(table)
    for column in table.itercols():
        if column.ndim != 1:
            raise ValueError(
                "table must have columns with one value in each row. Got "
                f"{column.name!r} of the shape {column.shape}."
            )
    return table


def _writer_for(path):
    """Return the function that writes a table to a file, by the end of its name."""
    for ends, writer in WRITERS.items():
        if path.name.lower().endswith(ends):
            return writer
    ends = [end for ends in WRITERS for end in ends]
    raise ValueError(f"path must have a name that ends in one of {ends}. Got {path!s}.")


def _write_parquet(table, path):
    columns = [
        Column(
            column.name,
            "str" if column.dtype.kind in "USO" else _plain_type(column.dtype),
            None if column.unit is None else str(column.unit),
            column.meta.get("ucd"),
            column.description or "",
        )
        for column in table.itercols()
    ]
    write_part(path, columns, {name: table[name] for name in table.colnames}, {})


def _plain_type(dtype):
    """Return the type of a catalogue that holds numbers of some type."""
    return {"f": "float64", "b": "bool"}.get(dtype.kind, "int64")


def _write_fits(table, path):
    table = table.copy()
    names = [name for name in flag_names(True) if f"{PREFIX}_{name}" in table.colnames]
    mask = np.zeros(len(table), np.int32)
    for bit, name in enumerate(flag_names(True)):
        if name in names:
            mask |= np.asarray(table[f"{PREFIX}_{name}"], np.int32) << bit
            table.meta[f"SKLFLG{bit}"] = name
            table.remove_column(f"{PREFIX}_{name}")
    if PREFIX in table.colnames:
        table.remove_column(PREFIX)
    if names:
        table[BIT_MASK] = mask
        table[BIT_MASK].description = "Bit mask of the flags SKLFLG0, SKLFLG1, ..."
    for column in table.itercols():
        # FITS has no place for it.
        column.meta.pop("ucd", None)
    with new_file(path) as file:
        table.write(file, format="fits")


WRITERS = {
    (".parquet",): _write_parquet,
    (".fits",): _write_fits,
}
