"""Columns of Parquet and Arrow files, and of folders of them, as arrays."""

import json
from functools import cached_property
from itertools import accumulate

import numpy as np

from sklcae.survey._contents import Contents, library


def read_parquet(paths):
    """Columns of Parquet files are arrays, read row group by row group."""
    return _contents_of([_ParquetPart(path) for path in paths])


def read_arrow(paths):
    """Columns of Arrow files are arrays, read record batch by record batch."""
    return _contents_of([_ipc_part(path) for path in paths])


def _contents_of(parts):
    table = _Table(parts)
    fields = _fields_of(table.schema)
    arrays = {".".join(path): _Column(table, path) for path in fields}
    units = _units_of_astropy(parts[0].schema.metadata or {})
    for field in table.schema:
        unit = (field.metadata or {}).get(b"unit")
        if unit:
            units[field.name] = unit.decode()
    return Contents(arrays, lambda: [part.path for part in parts], units)


def _units_of_astropy(metadata):
    """Return the units of a table that astropy has written, by column."""
    header = metadata.get(b"table_meta_yaml")
    if header is None:
        return {}
    read = library("astropy.table.meta").get_header_from_yaml
    columns = read(header.decode().split("\n")).get("datatype", [])
    return {c["name"]: str(c["unit"]) for c in columns if c.get("unit")}


def _fields_of(schema):
    """Return the paths of all columns of numbers and strings, in structures too."""
    return [path for field in schema for path in _paths((field.name,), field.type)]


def _paths(path, kind):
    types = library("pyarrow").types
    kind = getattr(kind, "storage_type", kind)
    if types.is_struct(kind):
        children = (kind.field(i) for i in range(kind.num_fields))
        return [p for c in children for p in _paths((*path, c.name), c.type)]
    if _is_list(kind):
        return _paths(path, kind.value_type)
    if types.is_dictionary(kind):
        return _paths(path, kind.value_type)
    numbers = types.is_integer(kind) or types.is_floating(kind)
    known = numbers or types.is_boolean(kind) or _is_string(kind)
    return [path] if known else []


def _is_list(kind):
    types = library("pyarrow").types
    variable = types.is_list(kind) or types.is_large_list(kind)
    return variable or types.is_fixed_size_list(kind)


def _is_string(kind):
    types = library("pyarrow").types
    return types.is_string(kind) or types.is_large_string(kind)


# Parts: files with pieces (row groups or record batches) that are read together -------


class _ParquetPart:
    """A Parquet file; its pieces are row groups."""

    def __init__(self, path):
        parquet = library("pyarrow.parquet")
        self.path, self.metadata = path, parquet.read_metadata(path)
        self.schema = self.metadata.schema.to_arrow_schema()
        groups = map(self.metadata.row_group, range(self.metadata.num_row_groups))
        self.lengths = [group.num_rows for group in groups]

    def _open(self):
        return library("pyarrow.parquet").ParquetFile(self.path, metadata=self.metadata)

    def _columns(self, path):
        """Return the names of the columns on disk of a field, which may be nested."""
        schema = self.metadata.schema
        names = [schema.column(i).path for i in range(len(schema))]
        return [name for name in names if _leads_to(path, name.split("."))]

    def read(self, piece, path):
        with self._open() as file:
            table = file.read_row_group(piece, columns=self._columns(path))
        return table.column(path[0]).combine_chunks()

    def read_first(self, piece, path):
        with self._open() as file:
            columns = self._columns(path)
            rows = file.iter_batches(1, row_groups=[piece], columns=columns)
            return next(rows).column(path[0])


def _leads_to(path, names):
    """Return whether names of nested columns have those of a path, in their order.

    Between them are names of the levels of lists: "image.list.element.flux".
    """
    rest = iter(names)
    return names[0] == path[0] and all(name in rest for name in path)


class _FilePart:
    """A file of Arrow's IPC format; its pieces are record batches."""

    def __init__(self, path):
        self.path = path
        with self._open() as file:
            self.schema, n_batches = file.schema, file.num_record_batches
        # A column of numbers is quick to read, also if it is compressed.
        numbers = [p for p in _fields_of(self.schema) if len(p) == 1]
        flat = [p for p in numbers if not _is_list(self.schema.field(p[0]).type)]
        shortest = (flat or numbers or [(self.schema.names[0],)])[0]
        with self._open(shortest) as file:
            self.lengths = [file.get_batch(i).num_rows for i in range(n_batches)]

    def _open(self, path=None):
        pyarrow, ipc = library("pyarrow"), library("pyarrow.ipc")
        fields = [] if path is None else [self.schema.get_field_index(path[0])]
        options = ipc.IpcReadOptions(included_fields=fields)
        return ipc.open_file(pyarrow.memory_map(str(self.path)), options=options)

    def read(self, piece, path):
        with self._open(path) as file:
            return file.get_batch(piece).column(0)

    def read_first(self, piece, path):
        return self.read(piece, path)[:1]


class _StreamPart:
    """A file of Arrow's stream format, as the library datasets writes it.

    The record batches are memory maps, unless they are compressed.
    """

    def __init__(self, path):
        pyarrow, ipc = library("pyarrow"), library("pyarrow.ipc")
        self.path = path
        with ipc.open_stream(pyarrow.memory_map(str(path))) as stream:
            self.schema, self.batches = stream.schema, list(stream)
        self.lengths = [batch.num_rows for batch in self.batches]

    def read(self, piece, path):
        return self.batches[piece].column(path[0])

    def read_first(self, piece, path):
        return self.read(piece, path)[:1]


def _ipc_part(path):
    try:
        return _FilePart(path)
    except library("pyarrow").ArrowInvalid:
        return _StreamPart(path)


# Columns -----------------------------------------------------------------------------


def _without_nulls(schema):
    """Return a schema without columns that have nothing but nulls in a file."""
    pyarrow = library("pyarrow")
    return pyarrow.schema(f for f in schema if not pyarrow.types.is_null(f.type))


class _Table:
    """The rows of several files, one after the other."""

    def __init__(self, parts):
        schemas = [_without_nulls(part.schema) for part in parts]
        names = set.intersection(*(set(schema.names) for schema in schemas))
        self.schema = library("pyarrow").schema(
            f for f in schemas[0] if f.name in names
        )
        for part, schema in zip(parts, schemas, strict=True):
            same = all(schema.field(f.name).equals(f) for f in self.schema)
            if not same or part.schema.names != parts[0].schema.names:
                raise ValueError(
                    f"{part.path.name!r} must have the columns of "
                    f"{parts[0].path.name!r}, {parts[0].schema.names}, with their "
                    f"types. Got {part.schema.names}"
                )
        self.pieces = [
            (part, piece, length)
            for part in parts
            for piece, length in enumerate(part.lengths)
            if length
        ]
        if not self.pieces:
            raise ValueError("it has no rows")
        self.starts = [0, *accumulate(length for _, _, length in self.pieces)]


class _Column:
    """A column of a table, or a field of a structure in it.

    Lists in lists are axes of the array. The piece that was read last is kept.
    """

    # Each row belongs to one stamp, also if the rows are flat.
    has_rows_of_stamps = True

    def __init__(self, table, path):
        self.table, self.path = table, path
        self._last = None, None

    @cached_property
    def _first(self):
        """The first row."""
        part, piece, _ = self.table.pieces[0]
        return self._as_numpy(part.read_first(piece, self.path), 0)

    @property
    def shape(self):
        return (self.table.starts[-1], *self._first.shape[1:])

    @property
    def dtype(self):
        return self._first.dtype

    @property
    def chunks(self):
        longest = max(length for _, _, length in self.table.pieces)
        return (longest, *self.shape[1:])

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(self.shape[0])
        starts, found = self.table.starts, [self._first[:0]]
        first = int(np.searchsorted(starts, start, side="right")) - 1
        for piece in range(first, len(self.table.pieces)):
            if starts[piece] >= stop:
                break
            some = slice(max(0, start - starts[piece]), stop - starts[piece])
            found.append(self._read(piece)[some])
        return found[1] if len(found) == 2 else np.concatenate(found)

    def _read(self, piece):
        number, values = self._last
        if number != piece:
            part, inside, _ = self.table.pieces[piece]
            first = self.table.starts[piece]
            values = self._as_numpy(part.read(inside, self.path), first)
            if values.shape[1:] != self._first.shape[1:]:
                raise ValueError(
                    f"The column {'.'.join(self.path)!r} must have the same shape in "
                    f"all rows, {self._first.shape[1:]}. Got {values.shape[1:]} from "
                    f"row {first}."
                )
            self._last = piece, values
        return values

    def _as_numpy(self, array, first):
        """Return the values of an Arrow array that begins at a row."""
        values = _Reader(self.path, first, len(array)).read(array, self.path[1:])
        shape = self._declared_shape()
        if shape is not None and values.ndim == 2:
            values = values.reshape(len(values), *shape)
        return values

    def _declared_shape(self):
        """Return the entry "shape" of the metadata of the column, JSON, or None."""
        field = self.table.schema.field(self.path[0])
        shape = (field.metadata or {}).get(b"shape")
        return None if shape is None else tuple(json.loads(shape))


class _Reader:
    """Arrow arrays as NumPy arrays, with errors that name the column and the row."""

    def __init__(self, path, first, n_rows):
        self.name, self.first, self.n_rows = ".".join(path), first, n_rows

    def read(self, array, path, in_list=False):
        """Return an array whose lists are axes, of one field if it has structures."""
        pyarrow = library("pyarrow")
        if isinstance(array, pyarrow.FixedShapeTensorArray):
            self._refuse_nulls(array)
            tensor = array.to_numpy_ndarray()
            self._refuse_nulls(array.storage.flatten())
            return tensor
        array = getattr(array, "storage", array)
        if pyarrow.types.is_struct(array.type):
            self._refuse_nulls(array)
            return self.read(array.field(path[0]), path[1:], in_list)
        if _is_list(array.type):
            self._refuse_nulls(array)
            inner = self.read(array.flatten(), path, in_list=True)
            return inner.reshape(len(array), self._length(array), *inner.shape[1:])
        if pyarrow.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if in_list or not pyarrow.types.is_floating(array.type):
            self._refuse_nulls(array)
        if _is_string(array.type):
            return np.array(array.to_pylist(), dtype=str)
        return array.to_numpy(zero_copy_only=False)

    def _refuse_nulls(self, array):
        if array.null_count:
            nulls = np.asarray(array.is_null())
            raise ValueError(
                f"The column {self.name!r} must have no nulls; a masked pixel is NaN. "
                f"Got {array.null_count}, the first in row {self._row(nulls)}."
            )

    def _length(self, array):
        """Return the length of all lists, or raise ValueError."""
        lengths = library("pyarrow.compute").list_value_length(array)
        lengths = np.asarray(lengths)
        if len(lengths) and (lengths != lengths[0]).any():
            row = self._row(lengths != lengths[0])
            raise ValueError(
                f"The column {self.name!r} must have lists of one length. Got from "
                f"{lengths.min()} to {lengths.max()}, another one first in row {row}."
            )
        return lengths[0] if len(lengths) else 0

    def _row(self, wrong):
        """Return the row of the first wrong value, of all values in the rows."""
        return self.first + int(np.argmax(wrong)) * self.n_rows // len(wrong)
