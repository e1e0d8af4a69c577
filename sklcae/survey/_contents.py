"""The arrays of a file or folder, as all readers return them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from sklcae._compat import import_optional


def _nothing():
    pass


class Contents(NamedTuple):
    """The arrays of a file or a folder.

    Parameters
    ----------
    arrays : mapping
        Arrays by name. Each has shape and dtype, and slices of rows are read when they
        are taken.
    files : callable
        Returns the paths of all files that have been opened.
    units : mapping
        The units of some of the arrays.
    slow : mapping
        The reason why some of the arrays are slow to read.
    close : callable
        Closes the files.
    """

    arrays: Any
    files: Callable[[], list[Path]]
    units: Mapping = MappingProxyType({})
    slow: Mapping = MappingProxyType({})
    close: Callable[[], None] = _nothing


def library(name):
    """Import a module of the library for a format."""
    return import_optional(name, extra="survey", purpose="open_stamps")


def files_below(folder):
    """Return all files in a folder and its subfolders, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
