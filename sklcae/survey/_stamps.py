"""Stamps of a file, with their planes and names, read when they are needed."""

from typing import Any, NamedTuple

import numpy as np

from sklcae._blocks import rows_of_chunk
from sklcae._fixed_psf import gaussian_psf
from sklcae._planes import stack_planes
from sklcae._warning import warn_user
from sklcae.survey._formats import open_contents

# The names that are looked for in a file, in small letters, for each part of stamps.
# image_array and the names that begin like it are those of the Multimodal Universe.
NAMES = {
    "image": ("image", "images", "image_array", "stamps", "sci"),
    "variance": ("variance", "image_variance", "var"),
    "inverse_variance": ("inverse_variance", "image_ivar", "ivar", "invvar", "weight"),
    "mask": ("mask", "image_mask"),
    "psf": ("psf", "image_psf", "psfs"),
    "psf_fwhm": ("psf_fwhm", "image_psf_fwhm"),
    "pixel_scale": ("pixel_scale", "image_scale"),
    "id": ("object_id", "id", "ids", "source_id"),
}
# In the masks of these names True is a good pixel.
GOOD_WHERE_TRUE = ("image_mask",)
# Chunks with fewer stamps are slow to read.
FEWEST_IN_CHUNK = 8


class _Parts(NamedTuple):
    """The arrays that make up stamps; None if there is none."""

    image: Any
    variance: Any = None
    inverse_variance: Any = None
    mask: Any = None
    psf: Any = None
    psf_fwhm: Any = None
    pixel_scale: Any = None
    id: Any = None


class Stamps:
    """Stamps of a file, as `open_stamps` returns them.

    They are X for :class:`~sklcae.ConditionalAutoencoderRegressor` and
    :class:`~sklcae.ProfileFitRegressor`, which measure them a block at a time. A slice
    of rows reads these.

    Parameters
    ----------
    contents : Contents
        The open file.
    parts : tuple of arrays
        The arrays that make up the stamps.
    good_where_true : bool
        Whether True in the mask is a good pixel.
    unit : str or None
        The unit of the images.
    source : tuple of str and dict
        The path and the options of `open_stamps`.

    Attributes
    ----------
    shape : tuple of int
        (n_samples, C, H, W), all planes of each stamp.
    dtype : dtype
        float32.
    planes : tuple of str
        The kinds of planes, for the parameter `planes`.
    unit : str or None
        The unit of the images, as the file has it.
    ids : ndarray of shape (n_samples,)
        The names of the stamps, or their rows.
    chunks : tuple of int
        The stamps that are read together.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, contents, parts, good_where_true, unit, source):
        self._contents, self._parts = contents, parts
        self._good_where_true, self._source = good_where_true, source
        self.unit = unit
        n, *bands, height, width = parts.image.shape
        self._band_shape = (*(bands or [1]), height, width)
        has_variance = parts.variance is not None or parts.inverse_variance is not None
        has_psf = parts.psf is not None or parts.psf_fwhm is not None
        kinds = {"image": True, "variance": has_variance, "psf": has_psf}
        self.planes = tuple(kind for kind, has in kinds.items() if has)
        n_bands = self._band_shape[0]
        self.shape = (n, n_bands * len(self.planes), height, width)
        self.chunks = (rows_of_chunk(parts.image), *self.shape[1:])

    @property
    def ids(self):
        """The names of the stamps, or their rows."""
        given = self._parts.id
        return np.arange(len(self)) if given is None else np.asarray(given[:])

    def __len__(self):
        return self.shape[0]

    def __repr__(self):
        return (
            f"<Stamps of {self._source[0]!r}: {len(self)} with the planes "
            f"{self.planes}, {self.shape[1:]}, unit {self.unit}>"
        )

    def __reduce__(self):
        path, options = self._source
        return _reopen, (path, options)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Close the file."""
        self._contents.close()

    def __array__(self, dtype=None, copy=None):
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, rows):
        if isinstance(rows, slice):
            return self._read(range(len(self))[rows])
        rows = np.arange(len(self))[rows]
        if rows.ndim == 0:
            return self._read(range(rows, rows + 1))[0]
        parts = [self._read(range(row, row + 1)) for row in rows]
        return np.concatenate(parts) if parts else self._read(range(0))

    def _read(self, chosen):
        """Return the rows of a range with all of their planes, float32."""
        if not chosen:
            return np.zeros((0, *self.shape[1:]), self.dtype)
        first = min(chosen)
        try:
            stamps = stack_planes(**self._planes_of(slice(first, max(chosen) + 1)))
        except ValueError as error:
            error.add_note(f"Rows are counted from row {first} of {self!r}.")
            raise
        return stamps[:: chosen.step].astype(self.dtype, copy=False)

    def _planes_of(self, rows):
        """Return the arguments of `stack_planes` for some rows."""
        parts = self._parts
        image = parts.image[rows]
        planes = {"image": image.astype(self.dtype, copy=False)}
        if parts.variance is not None:
            planes["variance"] = _rows_of(parts.variance, rows, image.shape)
        elif parts.inverse_variance is not None:
            weights = _rows_of(parts.inverse_variance, rows, image.shape)
            with np.errstate(divide="ignore"):
                # A pixel without a weight is masked.
                planes["variance"] = 1 / weights.astype(np.float64).clip(min=0)
        if parts.mask is not None:
            mask = _rows_of(parts.mask, rows, image.shape) != 0
            planes["mask"] = ~mask if self._good_where_true else mask
        if parts.psf is not None:
            planes["psf"] = _rows_of(parts.psf, rows, image.shape)
        elif parts.psf_fwhm is not None:
            planes["psf"] = self._gaussians(rows, image.shape)
        return planes

    def _gaussians(self, rows, shape):
        """Return Gaussian PSFs of the shape of some images, from their widths."""
        n_bands, *sides = self._band_shape
        widths, scales = (
            np.broadcast_to(_per_band(part, rows), (shape[0], n_bands))
            for part in (self._parts.psf_fwhm, self._parts.pixel_scale)
        )
        psfs = [
            gaussian_psf(width / scale, (1, *sides))
            for width, scale in zip(widths.ravel(), scales.ravel(), strict=True)
        ]
        return np.reshape(psfs, shape)


def _rows_of(array, rows, shape):
    """Return rows of an array, or all of it if all stamps share it."""
    return array[rows] if len(array.shape) == len(shape) else np.asarray(array[:])


def _per_band(array, rows):
    """Return a number, or numbers (n, 1) or (n, n_bands) for each stamp."""
    if np.ndim(array) == 0 and not hasattr(array, "shape"):
        return array
    values = np.asarray(array[rows], dtype=np.float64)
    return values[:, None] if values.ndim == 1 else values


def _reopen(path, options):
    return open_stamps(path, **options)


def open_stamps(
    path,
    *,
    image="auto",
    variance="auto",
    inverse_variance="auto",
    mask="auto",
    psf="auto",
    psf_fwhm="auto",
    id="auto",
    pixel_scale="auto",
    mask_is_good="auto",
):
    """Open a file of stamps without reading them.

    The formats are NumPy (``.npy``), FITS (``.fits``, ``.fit``, ``.fits.gz``,
    ``.fits.fz``), HDF5 (``.h5``, ``.hdf5``) and Zarr (``.zarr``). In FITS an array is a
    cube of an HDU, a column of a table, or all two-dimensional HDUs of one name. In
    HDF5 and Zarr it is a dataset at the top. Beside a NumPy file, other files of its
    folder are arrays. In the files of the Multimodal Universe [1]_ all parts are found
    by their names.

    Parameters
    ----------
    path : str or PathLike
        The file, or the folder of a Zarr store.
    image, variance, inverse_variance, mask, psf, psf_fwhm, id : str or None, \
            default="auto"
        The names of the arrays. "auto" looks for usual names, and None leaves a part
        out. Images have the shape (n, H, W) or (n, n_bands, H, W). The others have that
        shape too, or (H, W) for all stamps; a PSF may have odd sides of its own.
        ``psf_fwhm`` are widths of Gaussian PSFs, (n,) or (n, n_bands), in the unit of
        the pixel scale; they are used if there is no ``psf``. An inverse variance
        of 0 is a masked pixel. ``id`` are names or numbers, (n,).
    pixel_scale : str, float or None, default="auto"
        The side of a pixel for ``psf_fwhm``, or the name of an array of them.
    mask_is_good : bool or "auto", default="auto"
        Whether True, or a number other than 0, is a good pixel. "auto" is True for
        the name "image_mask" of the Multimodal Universe, and else False.

    Returns
    -------
    stamps : Stamps
        The stamps, which are read when rows are taken.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If the library for the format is not installed.
    ValueError
        If the file cannot be read, lacks an array that is named, or has arrays whose
        shapes do not match.

    Warns
    -----
    UserWarning
        If the file is slow to read: fewer than 8 stamps in a chunk.

    References
    ----------
    .. [1] The Multimodal Universe Collaboration, "The Multimodal Universe: enabling
       large-scale machine learning with 100 TB of astronomical scientific data",
       arXiv:2412.02527 (2024).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sklcae.survey import open_stamps
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "stamps.npy", np.zeros((9, 32, 32), np.float32))
    ...     stamps = open_stamps(Path(folder) / "stamps.npy")
    ...     print(len(stamps), stamps.planes, stamps[:2].shape)
    9 ('image',) (2, 1, 32, 32)
    """
    names = {
        "image": image,
        "variance": variance,
        "inverse_variance": inverse_variance,
        "mask": mask,
        "psf": psf,
        "psf_fwhm": psf_fwhm,
        "id": id,
        "pixel_scale": pixel_scale,
    }
    source = str(path), {**names, "mask_is_good": mask_is_good}
    contents = open_contents(path)
    try:
        found = {kind: _find(contents, kind, name) for kind, name in names.items()}
        if found["image"] is None:
            found["image"] = _only_cube(contents, found, path)
        parts = _Parts(
            **{
                kind: contents.arrays[name] if isinstance(name, str) else name
                for kind, name in found.items()
            }
        )
        _check_shapes(parts, found, path)
    except BaseException:
        contents.close()
        raise
    if mask_is_good == "auto":
        mask_is_good = str(found["mask"]).lower() in GOOD_WHERE_TRUE
    unit = contents.units.get(found["image"])
    stamps = Stamps(contents, parts, mask_is_good, unit, source)
    if getattr(parts.image, "chunks", None) and stamps.chunks[0] < FEWEST_IN_CHUNK:
        warn_user(
            f"{str(path)!r} has {stamps.chunks[0]} stamps in each chunk, which is slow "
            "to read. Write it again with chunks of about a hundred stamps."
        )
    return stamps


def _find(contents, kind, name):
    """Return the name of an array in a file, or None."""
    if name == "auto":
        small = {str(given).lower(): given for given in contents.arrays}
        return next((small[n] for n in NAMES[kind] if n in small), None)
    if isinstance(name, str) and name not in contents.arrays:
        raise ValueError(
            f"{kind} must be the name of an array in the file, one of "
            f"{sorted(map(str, contents.arrays))}. Got {name!r}."
        )
    return name


def _only_cube(contents, found, path):
    """Return the name of the only array that can be images, or raise ValueError."""
    others = {name for name in found.values() if isinstance(name, str)}
    cubes = [
        name
        for name, array in contents.arrays.items()
        if len(array.shape) in (3, 4) and name not in others
    ]
    if len(cubes) == 1:
        return cubes[0]
    raise ValueError(
        "image must be the name of an array of the shape (n, H, W) or (n, n_bands, H, "
        f"W), as none has a usual name. Got {str(path)!r} with the arrays "
        f"{ {str(n): tuple(a.shape) for n, a in contents.arrays.items()} }."
    )


def _check_shapes(parts, names, path):
    """Raise ValueError unless the parts belong to the same stamps."""
    shape = tuple(parts.image.shape)
    if len(shape) not in (3, 4):
        raise ValueError(
            f"image must have the shape (n, H, W) or (n, n_bands, H, W). Got {shape} "
            f"for {names['image']!r} in {str(path)!r}."
        )
    if parts.psf is None and parts.psf_fwhm is not None and parts.pixel_scale is None:
        raise ValueError(
            "pixel_scale must be a number or the name of an array, to make PSFs of "
            f"psf_fwhm. Got None for {str(path)!r}."
        )
    for kind, array in parts._asdict().items():
        if kind == "image" or not hasattr(array, "shape"):
            continue
        given = tuple(array.shape)
        wanted = {"psf": shape[:-2], "id": shape[:1]}.get(kind, shape)
        if kind in ("psf_fwhm", "pixel_scale"):
            is_right = given in (shape[:1], shape[:-2])
        elif kind == "psf":
            is_right = len(given) == 2 or given[:-2] == wanted
        else:
            is_right = given == wanted or (kind != "id" and given == shape[-2:])
        if not is_right:
            raise ValueError(
                f"{kind} must have the shape of the images, {shape}, or belong to each "
                f"or all of them. Got {given} for {names[kind]!r} in {str(path)!r}."
            )
