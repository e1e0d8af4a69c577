"""Files with stamps, as arrays by name whose rows are read when needed."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sklcae._compat import import_optional

# FITS images without a name of their own.
UNNAMED = "HDU"


class Contents(NamedTuple):
    """The arrays of a file.

    Parameters
    ----------
    arrays : mapping
        Arrays by name. Each has shape and dtype, and slices of rows are read when they
        are taken.
    units : dict
        The units of some of them.
    close : callable
        Closes the file.
    """

    arrays: Any
    units: dict
    close: Any


def open_contents(path):
    """Return the `Contents` of a file, by the end of its name.

    Raises FileNotFoundError or ValueError that names the file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path must be a file with stamps. Got {str(path)!r}.")
    for ends, reader in READERS.items():
        if path.name.lower().endswith(ends):
            try:
                return reader(path)
            except (OSError, ValueError, KeyError) as error:
                raise ValueError(
                    f"path must be a file with stamps. Got {str(path)!r}, which cannot "
                    f"be read: {error}"
                ) from error
    ends = ", ".join(end for ends in READERS for end in ends)
    raise ValueError(
        f"path must have a name that ends in one of {ends}. Got {str(path)!r}."
    )


def _library(name):
    return import_optional(name, extra="survey", purpose="open_stamps")


def _nothing():
    pass


# NumPy -------------------------------------------------------------------------------


class _Beside(dict):
    """The array of a file, and those of other files in its folder by their names."""

    def __init__(self, path):
        super().__init__({path.name: np.load(path, mmap_mode="r", allow_pickle=False)})
        self.folder = path.parent

    def __contains__(self, name):
        return super().__contains__(name) or (self.folder / name).is_file()

    def __missing__(self, name):
        return np.load(self.folder / name, mmap_mode="r", allow_pickle=False)


def _read_npy(path):
    return Contents(_Beside(path), {}, _nothing)


# FITS --------------------------------------------------------------------------------


def _read_fits(path):
    """Cubes and columns of tables are arrays; images of one name are stacked."""
    fits = _library("astropy.io.fits")
    # Only memory maps read rows of tables, and they refuse images of scaled integers.
    with ExitStack() as files:
        cubes = files.enter_context(fits.open(path, memmap=False))
        tables = files.enter_context(fits.open(path, memmap=True))
        arrays, units = _arrays_of(cubes, tables)
        close = files.pop_all().close
    return Contents(arrays, {n: unit for n, unit in units.items() if unit}, close)


def _arrays_of(cubes, tables):
    """Return arrays and units, by name, of the HDUs of a file that is open twice."""
    fits = _library("astropy.io.fits")
    arrays, units, images = {}, {}, {}
    for number, (hdu, mapped) in enumerate(zip(cubes, tables, strict=True)):
        name = hdu.name if hdu.name else f"{UNNAMED}{number}"
        if isinstance(hdu, fits.BinTableHDU) and not isinstance(hdu, fits.CompImageHDU):
            for column in hdu.columns:
                arrays[column.name] = _TableColumn(mapped, column.name)
                units[column.name] = column.unit
        elif len(hdu.shape) in (3, 4):
            arrays[name], units[name] = _Section(hdu), hdu.header.get("BUNIT")
        elif len(hdu.shape) == 2:
            images.setdefault(hdu.name or UNNAMED, []).append(hdu)
    for name, hdus in images.items():
        arrays[name] = hdus[0].data if len(hdus) == 1 else _Stack(hdus, name)
        units[name] = hdus[0].header.get("BUNIT")
    return arrays, units


class _Section:
    """A cube whose rows are read and scaled when they are taken."""

    def __init__(self, hdu):
        self.hdu, self.shape = hdu, tuple(hdu.shape)
        self.dtype = np.asarray(hdu.section[:1]).dtype

    def __getitem__(self, rows):
        return np.asarray(self.hdu.section[rows])


class _TableColumn:
    """A column of a table."""

    def __init__(self, hdu, name):
        self.hdu, self.name = hdu, name
        first = np.asarray(hdu.data[:1][name])
        self.shape, self.dtype = (len(hdu.data), *first.shape[1:]), first.dtype

    def __getitem__(self, rows):
        return np.asarray(self.hdu.data[rows][self.name])


class _Stack:
    """Images of one name, in the order of their versions in the file."""

    def __init__(self, hdus, name):
        shapes = {tuple(hdu.shape) for hdu in hdus}
        if len(shapes) > 1:
            raise ValueError(
                f"the images {name!r} have different shapes, {sorted(shapes)}"
            )
        self.hdus, self.shape = hdus, (len(hdus), *shapes.pop())
        self.dtype = self[:1].dtype

    def __getitem__(self, rows):
        # A section is not kept in memory.
        return np.stack([hdu.section[:, :] for hdu in self.hdus[rows]])


# HDF5 and Zarr -----------------------------------------------------------------------


def _read_hdf5(path):
    h5py = _library("h5py")
    file = h5py.File(path, "r")
    arrays = {n: item for n, item in file.items() if isinstance(item, h5py.Dataset)}
    return Contents(arrays, _units_of(arrays), file.close)


def _read_zarr(path):
    zarr = _library("zarr")
    found = zarr.open(path, mode="r")
    is_array = isinstance(found, zarr.Array)
    arrays = {"image": found} if is_array else dict(found.arrays())
    return Contents(arrays, _units_of(arrays), _nothing)


def _units_of(arrays):
    """Return the attributes "unit" or "units" of arrays."""
    units = {}
    for name, array in arrays.items():
        unit = array.attrs.get("unit", array.attrs.get("units"))
        if isinstance(unit, str):
            units[name] = unit
    return units


READERS = {
    (".npy",): _read_npy,
    (".fits", ".fit", ".fits.gz", ".fits.fz"): _read_fits,
    (".h5", ".hdf5"): _read_hdf5,
    (".zarr",): _read_zarr,
}
