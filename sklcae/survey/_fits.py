"""FITS files: cubes, columns of tables, and images of single stamps."""

from contextlib import ExitStack

import numpy as np

from sklcae.survey._contents import Contents, library

# FITS images without a name of their own.
UNNAMED = "HDU"
GZIPPED = "is compressed with gzip"
SUFFIXES = (".fits.gz", ".fits.fz", ".fits", ".fit")
MANY_FILES = "has one FITS file for each stamp"


def read_fits(path):
    """Cubes and columns of tables are arrays; images of one name are stacked."""
    fits = library("astropy.io.fits")
    # Memory maps are fast, but refuse images of scaled integers.
    with ExitStack() as files:
        cubes = files.enter_context(fits.open(path, memmap=False))
        mapped = files.enter_context(fits.open(path, memmap=True))
        arrays, units = _arrays_of(cubes, mapped)
        close = files.pop_all().close
    units = {name: unit for name, unit in units.items() if unit}
    slow = dict.fromkeys(arrays, GZIPPED) if path.name.lower().endswith(".gz") else {}
    return Contents(arrays, lambda: [path], units, slow, close)


def _arrays_of(cubes, mapped):
    """Return arrays and units, by name, of the HDUs of a file that is open twice."""
    fits = library("astropy.io.fits")
    arrays, units, images = {}, {}, {}
    for number, (hdu, same) in enumerate(zip(cubes, mapped, strict=True)):
        name = hdu.name if hdu.name else f"{UNNAMED}{number}"
        if isinstance(hdu, fits.BinTableHDU) and not isinstance(hdu, fits.CompImageHDU):
            for column in hdu.columns:
                arrays[column.name] = _TableColumn(same, column.name)
                units[column.name] = column.unit
        elif len(getattr(hdu, "shape", ())) in (3, 4):
            arrays[name] = np.asarray(same.data) if _is_plain(same) else _Section(hdu)
            units[name] = hdu.header.get("BUNIT")
        elif len(getattr(hdu, "shape", ())) == 2:
            images.setdefault(hdu.name or UNNAMED, []).append(hdu)
    for name, hdus in images.items():
        arrays[name] = hdus[0].data if len(hdus) == 1 else _Stack(hdus, name)
        units[name] = hdus[0].header.get("BUNIT")
    return arrays, units


def _is_plain(hdu):
    """Return whether the pixels are in the file as they are: not packed or scaled."""
    fits = library("astropy.io.fits")
    header = hdu.header
    scaled = header.get("BSCALE", 1) != 1 or header.get("BZERO", 0) != 0
    packed = isinstance(hdu, fits.CompImageHDU) or hdu.fileinfo()["file"].compression
    return not (scaled or packed or "BLANK" in header)


class _Section:
    """A cube whose rows are read and scaled when they are taken."""

    def __init__(self, hdu):
        self.hdu, self.shape = hdu, tuple(hdu.shape)
        self.dtype = np.asarray(hdu.section[:1]).dtype

    def __getitem__(self, rows):
        return np.asarray(self.hdu.section[rows])


class _TableColumn:
    """A column of a table."""

    # Each row belongs to one stamp, also if the rows are flat.
    has_rows_of_stamps = True

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


# A file for each stamp ---------------------------------------------------------------


def read_fits_files(folder, paths):
    """Images of all files are stacked by the name of their HDU; ids are file names."""
    fits = library("astropy.io.fits")
    with fits.open(paths[0]) as first:
        images = {
            name: hdu
            for name, hdu in _by_name(first).items()
            if hdu.is_image and len(hdu.shape) in (2, 3)
        }
        units = {name: hdu.header.get("BUNIT") for name, hdu in images.items()}
    arrays = {name: _Files(paths, name) for name in images}
    slow = dict.fromkeys(arrays, MANY_FILES)
    arrays["id"] = np.array(_ids_of(folder, paths))
    units = {name: unit for name, unit in units.items() if unit}
    return Contents(arrays, lambda: list(paths), units, slow)


def _by_name(hdus):
    """Return the first HDU of each name; those without one have their numbers."""
    named = {}
    for number, hdu in enumerate(hdus):
        named.setdefault(hdu.name or f"{UNNAMED}{number}", hdu)
    return named


def _ids_of(folder, paths):
    """Return the shortest names of files that differ: the first of these three."""
    inside = [path.relative_to(folder).as_posix() for path in paths]
    names = [_without_suffix(path.name) for path in paths]
    short = [_without_suffix(name) for name in inside]
    return next(ids for ids in (names, short, inside) if len({*ids}) == len(paths))


def _without_suffix(name):
    """Return a name without the end of FITS files; other dots stay."""
    end = next(end for end in SUFFIXES if name.lower().endswith(end))
    return name[: -len(end)]


class _Files:
    """The HDU of a name in files that have a stamp each."""

    def __init__(self, paths, name):
        self.paths, self.name = paths, name
        first = self._read(paths[0])
        self.shape, self.dtype = (len(paths), *first.shape), first.dtype

    def _read(self, path):
        fits = library("astropy.io.fits")
        with fits.open(path, memmap=False) as hdus:
            hdu = _by_name(hdus).get(self.name)
            if hdu is None or not hdu.is_image or hdu.data is None:
                raise ValueError(
                    f"{path.name!r} must have an image in an HDU {self.name!r}, as "
                    f"{self.paths[0].name!r}. Got {[hdu.name for hdu in hdus]}."
                )
            return hdu.data

    def __getitem__(self, rows):
        stamps = []
        for path in self.paths[rows]:
            stamp = self._read(path)
            if np.shape(stamp) != self.shape[1:]:
                raise ValueError(
                    f"{path.name!r} must have a stamp of the shape {self.shape[1:]}, "
                    f"as {self.paths[0].name!r}. Got {np.shape(stamp)}."
                )
            stamps.append(stamp)
        return np.stack(stamps)
