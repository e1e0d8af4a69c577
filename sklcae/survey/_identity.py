"""The identity of a source of stamps: which files, read how, with which pixels."""

from hashlib import sha256

import numpy as np


def identify(options, files, path, pixels):
    """Return the options and digests of files and of pixels, as JSON has them.

    The names of files are relative to the folder of the path, and the pixels are dicts
    of arrays.
    """
    return {
        "options": {name: _as_json(value) for name, value in options.items()},
        "files": _digest(_lines_of(files, path.parent)),
        "pixels": _digest(_bytes_of(pixels)),
    }


def _as_json(value):
    if isinstance(value, tuple | list):
        return [_as_json(part) for part in value]
    # Numbers of NumPy have no form in JSON.
    return value.item() if isinstance(value, np.generic) else value


def _lines_of(files, folder):
    for file in sorted(files):
        status = file.stat()
        name = file.relative_to(folder).as_posix()
        yield f"{name} {status.st_size} {status.st_mtime_ns}\n".encode()


def _bytes_of(pixels):
    for planes in pixels:
        for kind, array in planes.items():
            yield f"{kind} {array.shape}".encode()
            # The byte order of the file is not that of the machine.
            yield np.ascontiguousarray(array, dtype="<f8").tobytes()


def _digest(parts):
    digest = sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
