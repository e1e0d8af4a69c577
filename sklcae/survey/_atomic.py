"""Files that are written whole or not at all."""

import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def new_file(path):
    """Open a file for bytes, which takes its name when all of it is on the disk.

    After an exception there is no new file, and an older one is unchanged. A killed
    process leaves a file whose name begins with a dot, see `remove_left_over`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _synchronise(path.parent)


def _synchronise(folder):
    """Write the names of a folder to the disk, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path, content):
    """Write values to a JSON file, whole or not at all."""
    with new_file(path) as file:
        file.write(json.dumps(content, indent=1, allow_nan=False).encode())


def remove_left_over(folder, journals=False):
    """Remove the unfinished files of killed processes, and maybe journals."""
    for pattern in (".*.tmp", ".*.journal") if journals else (".*.tmp",):
        for path in Path(folder).glob(pattern):
            path.unlink(missing_ok=True)
