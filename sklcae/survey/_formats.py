"""Files with stamps, as arrays by name whose rows are read when needed."""

from functools import partial
from pathlib import Path

import numpy as np

from sklcae.survey._arrow import read_arrow, read_parquet
from sklcae.survey._contents import Contents, files_below, library
from sklcae.survey._cutana import is_cutana, read_cutana
from sklcae.survey._fits import read_fits, read_fits_files


def open_contents(path):
    """Return the `Contents` of a file or a folder, by the end of its name.

    Raises FileNotFoundError or ValueError that names the file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"path must be a file with stamps. Got {str(path)!r}: no such file."
        )
    read, source = _reader_of(path)
    try:
        return read(source)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"path must be a file with stamps. Got {str(path)!r}, which cannot be "
            f"read: {error}"
        ) from error


def _reader_of(path):
    """Return a reader and its argument for a path, or raise ValueError."""
    if is_cutana(path):
        return read_cutana, path
    for ends, reader in READERS.items():
        if path.name.lower().endswith(ends):
            if path.is_dir() and ends in READERS_OF_PARTS:
                break
            return reader, path
    if path.is_dir():
        return _reader_of_parts(path)
    ends = ", ".join(end for ends in READERS for end in ends)
    raise ValueError(
        f"path must have a name that ends in one of {ends}. Got {str(path)!r}."
    )


def _reader_of_parts(folder):
    """Return a reader and the files of one format in a folder."""
    files = [file for file in files_below(folder) if file.name[0] not in "._"]
    for ends, reader in READERS_OF_PARTS.items():
        parts = [file for file in files if file.name.lower().endswith(ends)]
        if parts:
            # Names of stamps in files of their own depend on the folder.
            return (partial(reader, folder) if ends is FITS else reader), parts
    ends = ", ".join(end for ends in READERS_OF_PARTS for end in ends)
    raise ValueError(
        "path must be a file, a Zarr store, a folder of cutana, or a folder with files "
        f"that end in one of {ends}. Got the folder {str(folder)!r} with "
        f"{len(files)} other files."
    )


# NumPy -------------------------------------------------------------------------------


class _Beside(dict):
    """The array of a file, and those of other files in its folder by their names."""

    def __init__(self, path):
        super().__init__()
        self.folder = path.parent
        self[path.name]

    def __contains__(self, name):
        return super().__contains__(name) or (self.folder / name).is_file()

    def __missing__(self, name):
        array = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        self[name] = array
        return array

    def files(self):
        return [self.folder / name for name in self]


def _read_npy(path):
    arrays = _Beside(path)
    return Contents(arrays, arrays.files)


# HDF5 and Zarr -----------------------------------------------------------------------


def _read_hdf5(path):
    h5py = library("h5py")
    file = h5py.File(path, "r")
    arrays = {n: item for n, item in file.items() if isinstance(item, h5py.Dataset)}
    slow = {
        name: "is compressed with gzip"
        for name, array in arrays.items()
        if array.compression == "gzip"
    }
    return Contents(arrays, lambda: [path], _units_of(arrays), slow, file.close)


def _read_zarr(path):
    zarr = library("zarr")
    found = zarr.open(path, mode="r")
    is_array = isinstance(found, zarr.Array)
    arrays = {"image": found} if is_array else dict(found.arrays())
    return Contents(arrays, lambda: files_below(path), _units_of(arrays))


def _units_of(arrays):
    """Return the attributes "unit" or "units" of arrays."""
    units = {}
    for name, array in arrays.items():
        unit = array.attrs.get("unit", array.attrs.get("units"))
        if isinstance(unit, str):
            units[name] = unit
    return units


FITS = (".fits", ".fit", ".fits.gz", ".fits.fz")
PARQUET = (".parquet",)
ARROW = (".arrow", ".feather")

READERS = {
    (".npy",): _read_npy,
    FITS: read_fits,
    (".h5", ".hdf5"): _read_hdf5,
    (".zarr",): _read_zarr,
    PARQUET: lambda path: read_parquet([path]),
    ARROW: lambda path: read_arrow([path]),
}
READERS_OF_PARTS = {PARQUET: read_parquet, ARROW: read_arrow, FITS: read_fits_files}
