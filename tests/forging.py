"""Make files of the archive's format by hand, right or wrong in any place.

The format is written down here a second time, so that a change of it does not go
unseen, and so that files can be made that `write_archive` would refuse to write.
"""

import hashlib
import json
import os
import tracemalloc
from contextlib import contextmanager

import numpy as np

from sklcae._storage.archive import read_archive

CODES = {
    "float32": "F32",
    "float64": "F64",
    "int64": "I64",
    "uint8": "U8",
    "bool": "BOOL",
    "float16": "F16",
}


def to_json(value):
    return json.dumps(value, separators=(",", ":"))


def signed(manifest, tensors):
    """Return a manifest with the format's own keys and the right hash."""
    document = {"format": "sklcae", "format_version": 1, **manifest}
    document.pop("sha256", None)
    digest = hashlib.sha256(to_json(document).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(to_json([name, array.dtype.name, array.shape]).encode())
        digest.update(array.tobytes())
    return {**document, "sha256": digest.hexdigest()}


def layout(tensors):
    """Return the header's entries and the bytes behind the header."""
    entries, data = {}, b""
    for name, array in tensors.items():
        stop = len(data) + array.nbytes
        entries[name] = {
            "dtype": CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [len(data), stop],
        }
        data += array.tobytes()
    return entries, data


def assemble(header, data, length=None):
    """Return the bytes of a file; a header of str or bytes is taken as it is."""
    header = to_json(header) if isinstance(header, dict) else header
    header = header.encode() if isinstance(header, str) else header
    length = len(header) if length is None else length
    return length.to_bytes(8, "little") + header + data


def forge(manifest, tensors, **changes):
    """Return the bytes of a file with the right hash, but for changed header entries.

    A manifest of str is taken as it is.
    """
    if not isinstance(manifest, str):
        manifest = to_json(signed(manifest, tensors))
    entries, data = layout(tensors)
    return assemble(
        {"__metadata__": {"manifest": manifest}, **entries, **changes}, data
    )


def read(path):
    """Return the manifest and the arrays of a file, whatever it is for."""
    return read_archive(path, lambda manifest, arrays: None)


def claim(path, data, name, size=2**42):
    """Write a file with an array that is said to be huge, in a hole of the file."""
    header, _, _ = take_apart(data)
    end = 0
    for key, entry in header.items():
        if key != "__metadata__":
            start, stop = entry["data_offsets"]
            n_copies = size // (stop - start) if key == name else 1
            if key == name:
                entry["shape"].insert(0, n_copies)
            entry["data_offsets"] = [end, end + n_copies * (stop - start)]
            end = entry["data_offsets"][1]
    start = assemble(header, b"")
    path.write_bytes(start)
    os.truncate(path, len(start) + end)


def take_apart(data):
    """Return the header of a file, the manifest in it, and the bytes behind it."""
    stop = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:stop])
    return header, json.loads(header["__metadata__"]["manifest"]), data[stop:]


@contextmanager
def memory_below(limit):
    """Fail where Python and NumPy take more bytes at a time than the limit."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak} bytes of memory, allowed are {limit}"


def same_content(one, other):
    """Tell whether two contents of archives are the same to the last bit."""
    (manifest, tensors), (other_manifest, other_tensors) = one, other
    return (
        to_json(manifest) == to_json(other_manifest)
        and tensors.keys() == other_tensors.keys()
        and all(same_array(tensors[name], other_tensors[name]) for name in tensors)
    )


def same_array(one, other):
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and np.asarray(one).tobytes() == np.asarray(other).tobytes()
    )
