"""One file of named arrays and a manifest, safe to read from untrusted sources.

The file is a plain safetensors file: eight bytes of length, a JSON header with the
place of each array, and the bytes of the arrays. It holds no path, link, compressed
block or code, and pickle is not used. The manifest is a JSON object, stored as text in
the header's ``__metadata__``. Besides the caller's entries it has ``format``,
``format_version`` and ``sha256``, a hash of the rest of the manifest and of the names,
types, shapes and bytes of all arrays. The hash detects damage. It is not a signature:
the author of a file can also compute its hash.

A file is written under another name in the same folder, ``.sklcae-<16 digits>.tmp``,
and renamed when all of it is on the disk. If the process is killed before that, the
file of that name stays and may be removed.
"""

import errno
import hashlib
import json
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from math import isfinite, prod
from reprlib import Repr

import numpy as np
from safetensors.numpy import save

from sklcae.exceptions import ModelFileError

FORMAT = "sklcae"
FORMAT_VERSION = 1
RESERVED = ("format", "format_version", "sha256")
METADATA_KEY = "manifest"
# The types that an array may have, by safetensors' names for them.
DTYPES = {
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "I64": np.dtype(np.int64),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
ENTRY_KEYS = {"dtype", "shape", "data_offsets"}
CHANGED = "its size changed while it was read"

LENGTH_SIZE = 8
# Room for the names of a million columns; a larger header is not parsed.
MAX_HEADER_SIZE = 2**24
# An empty list is two bytes in JSON and more than thirty times as many in memory.
MAX_BRACKETS = 2**17
MAX_DIMENSIONS = 16
# Largest number of elements, not counting axes of length zero, that NumPy can count.
MAX_SIZE = 2**48

TEMPORARY_NAME = ".sklcae-{}.tmp"

# Messages show the names of weights, but never the content of a whole file.
_REPR = Repr()
_REPR.maxstring = 60
short_repr = _REPR.repr


def write_archive(path, manifest, tensors):
    """Write a manifest and arrays to a file, see `replace_file`.

    The manifest must be values that JSON can hold, with finite numbers only, and
    without the keys in ``RESERVED``. The arrays must be of a type in ``DTYPES``, with
    finite values only. ValueError is raised otherwise.
    """
    replace_file(path, _to_bytes(manifest, tensors))


def read_archive(path, check):
    """Read the manifest and the arrays of a file from any source.

    ``check(manifest, arrays)`` must raise ModelFileError if the manifest, or a name,
    type or shape of an array, is wrong. It is called before the bytes of the arrays are
    read, with arrays of ones in their place, which take no memory. The values remain to
    be checked.

    ModelFileError is raised unless the file is exactly as `write_archive` writes it.
    The size of the file limits the memory that this takes: the size of the arrays and a
    quarter of it, or up to sixteen times the size of the header, which may be 16 MiB.
    """
    with naming_file(path), _open_regular(path) as file:
        manifest, ones = _read_header(file)
        content = {k: manifest[k] for k in manifest if k not in RESERVED}
        check(content, ones)
        tensors = {name: _read_array(file, like) for name, like in ones.items()}
        if file.read(1):
            raise ModelFileError(CHANGED)
        _check_digest(manifest, tensors)
        _check_values(tensors)
        return content, tensors


@contextmanager
def naming_file(path):
    """Name the file in every `ModelFileError` that is raised inside."""
    try:
        yield
    except ModelFileError as error:
        problem = str(error)
    except RecursionError:
        problem = "its JSON is nested too deep"
    else:
        return
    raise ModelFileError(f"The file {os.fspath(path)!r} cannot be used: {problem}.")


# Reading ------------------------------------------------------------------------


@contextmanager
def _open_regular(path):
    # Opening a device may already have effects, so its kind is checked before.
    _check_regular(os.stat(path))
    with open(path, "rb", opener=_open_without_waiting) as file:
        _check_regular(os.fstat(file.fileno()))
        yield file


def _open_without_waiting(path, flags):
    # A pipe that takes the place of the file must not block.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_regular(status):
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError("it is not a regular file")


def _read_header(file):
    """Return the manifest, and an array of ones for each array of the file."""
    file_size = os.fstat(file.fileno()).st_size
    header_size = _check_header_size(file.read(LENGTH_SIZE), file_size)
    n_bytes = file_size - LENGTH_SIZE - header_size
    return _check_header(file.read(header_size), n_bytes)


def _check_header_size(start, file_size):
    if len(start) < LENGTH_SIZE:
        raise ModelFileError(f"it is too short, {file_size} bytes")
    header_size = int.from_bytes(start, "little")
    if header_size > MAX_HEADER_SIZE:
        raise ModelFileError(
            f"its header would have {header_size} bytes, more than {MAX_HEADER_SIZE}; "
            "it is no file of sklcae or damaged"
        )
    if header_size > file_size - LENGTH_SIZE:
        raise ModelFileError(
            f"its header would have {header_size} bytes, more than the file"
        )
    return header_size


def _check_header(header, n_bytes):
    """Check a header against the number of bytes behind it, see `_read_header`."""
    entries = _parse_object(_decode(header), "header")
    metadata = entries.pop("__metadata__", None)
    if not isinstance(metadata, dict) or list(metadata) != [METADATA_KEY]:
        raise ModelFileError(
            f"its header must have metadata with nothing but {METADATA_KEY!r}"
        )
    ones, end = {}, 0
    for name, entry in entries.items():
        ones[name] = _check_entry(name, entry, end)
        end += ones[name].nbytes
    if end != n_bytes:
        raise ModelFileError(f"its arrays have {end} bytes, but the file has {n_bytes}")
    return _check_manifest(metadata[METADATA_KEY]), ones


def _decode(header):
    try:
        return header.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelFileError(f"its header is not UTF-8: {error}") from None


def _parse_object(text, part):
    """Return the JSON object in a text of strict JSON."""
    if text.count("[") + text.count("{") > MAX_BRACKETS:
        raise ModelFileError(f"its {part} has more than {MAX_BRACKETS} brackets")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique_dict,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
        )
    except ValueError as error:
        raise ModelFileError(f"its {part} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ModelFileError(f"its {part} is not a JSON object")
    return value


def _unique_dict(pairs):
    result = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {short_repr(key)} is there twice")
        result[key] = value
    return result


def _refuse_constant(name):
    raise ValueError(f"{name} is not a number of JSON")


def _finite_float(text):
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"the number {short_repr(text)} is too large")
    return value


def _check_entry(name, entry, start):
    """Return ones for an array whose bytes must begin at a place."""
    if not isinstance(entry, dict) or set(entry) != ENTRY_KEYS:
        raise ModelFileError(f"its array {short_repr(name)} is not described properly")
    dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ModelFileError(
            f"its array {short_repr(name)} has the type {short_repr(dtype)}, which is "
            f"none of {list(DTYPES)}"
        )
    if not _is_shape(shape):
        raise ModelFileError(
            f"its array {short_repr(name)} has no valid shape: {short_repr(shape)}"
        )
    ones = np.broadcast_to(np.ones((), DTYPES[dtype]), shape)
    # The arrays lie in the order of the header, without a hole or an overlap.
    wanted = [start, start + ones.nbytes]
    if span != wanted:
        raise ModelFileError(
            f"its array {short_repr(name)} must have the offsets {wanted} for the "
            f"shape {short_repr(shape)} and the type {dtype}, not {short_repr(span)}"
        )
    return ones


def _is_shape(value):
    return (
        isinstance(value, list)
        and len(value) <= MAX_DIMENSIONS
        and all(type(length) is int and length >= 0 for length in value)
        and prod(max(length, 1) for length in value) <= MAX_SIZE
    )


def _check_manifest(text):
    if not isinstance(text, str):
        raise ModelFileError("its manifest is not a text")
    manifest = _parse_object(text, "manifest")
    if manifest.get("format") != FORMAT:
        raise ModelFileError(f"its format must be {FORMAT!r}")
    version = manifest.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise ModelFileError(
            f"it has format version {short_repr(version)}, and this version of sklcae "
            f"reads version {FORMAT_VERSION} only"
        )
    return manifest


def _read_array(file, like):
    array = np.empty(like.shape, like.dtype)
    if file.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:
        raise ModelFileError(CHANGED)
    return array


def _check_digest(manifest, tensors):
    digest = manifest.pop("sha256", None)
    if digest != _digest(manifest, tensors):
        raise ModelFileError("its content does not match its hash, it is damaged")


def _check_values(tensors):
    for name, tensor in tensors.items():
        if tensor.dtype == np.bool_ and tensor.view(np.uint8).max(initial=0) > 1:
            raise ModelFileError(f"its array {short_repr(name)} is not of bool values")
        if not np.isfinite(tensor).all():
            raise ModelFileError(
                f"its array {short_repr(name)} has values that are not finite"
            )


def _digest(manifest, tensors):
    digest = hashlib.sha256(_to_json(manifest))
    for name, tensor in sorted(tensors.items()):
        digest.update(_to_json([name, tensor.dtype.name, tensor.shape]))
        digest.update(tensor.reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _to_json(value):
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


# Writing ------------------------------------------------------------------------


def _to_bytes(manifest, tensors):
    tensors = {name: _check_array(name, array) for name, array in tensors.items()}
    if not set(RESERVED).isdisjoint(manifest):
        raise ValueError(
            f"The manifest must not have the keys {RESERVED}. Got {list(manifest)}."
        )
    document = {"format": FORMAT, "format_version": FORMAT_VERSION, **manifest}
    document["sha256"] = _digest(document, tensors)
    data = save(tensors, {METADATA_KEY: _to_json(document).decode()})
    _check_readable(data)
    return data


def _check_array(name, array):
    array = np.asarray(array, order="C")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype not in DTYPES.values():
        raise ValueError(
            f"The array {name!r} must be of one of the types "
            f"{[str(dtype) for dtype in DTYPES.values()]}. Got {array.dtype}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"The array {name!r} must have finite values only.")
    return array


def _check_readable(data):
    """Raise ValueError if a reader would refuse the bytes to be written."""
    try:
        header_size = _check_header_size(data[:LENGTH_SIZE], len(data))
        stop = LENGTH_SIZE + header_size
        _check_header(data[LENGTH_SIZE:stop], len(data) - stop)
    except (ModelFileError, RecursionError) as error:
        raise ValueError(f"The file could not be read again: {error}.") from None


def replace_file(path, data):
    """Write bytes to a file, whole or not at all.

    An existing file is replaced in one step when all of the new file is on the disk.
    The same OSError as from ``open(path, "wb")`` is raised if the user may not write
    to it. The new file has the permissions of the old one, and its owner and group if
    the system allows this. A symbolic link is followed; a hard link to the old file
    keeps the old content. After an OSError an existing file is unchanged, except that
    it may be the new one after a failed synchronisation of the folder.
    """
    path = os.path.realpath(path)
    old = _status_of_existing(path)
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, TEMPORARY_NAME.format(secrets.token_hex(8)))
    try:
        with open(temporary, "xb") as file:
            if old is not None:
                _copy_ownership(old, temporary)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if getattr(error, "filename", None) == temporary:
            # Nobody gave this name.
            error.filename = folder
        raise
    _sync_folder(folder)


def _status_of_existing(path):
    """Return the status of a file that may be written to, None if it does not exist."""
    try:
        status = os.stat(path)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise OSError(errno.EINVAL, "It exists and is not a regular file", path)
        # A folder is refused here, as is a file that the user may not write to.
        os.close(_open_without_waiting(path, os.O_WRONLY))
    except FileNotFoundError:
        return None
    return status


def _copy_ownership(status, path):
    """Give a file the group, the owner and the permissions of another."""
    if hasattr(os, "chown"):
        # An owner may often change the group only.
        for uid, gid in ((-1, status.st_gid), (status.st_uid, -1)):
            with suppress(OSError):
                os.chown(path, uid, gid)
    os.chmod(path, status.st_mode & 0o777)


def _sync_folder(folder):
    """Make sure that a renaming is on the disk, if folders can be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
