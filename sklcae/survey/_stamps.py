"""Stamps of a file, with their planes and names, read when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import isqrt, prod
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from sklcae._blocks import rows_of_chunk
from sklcae._fixed_psf import FWHM_OF_SIGMA
from sklcae._typing import File, Floats
from sklcae._warning import warn_user
from sklcae.survey._contents import library
from sklcae.survey._formats import open_contents
from sklcae.survey._identity import identify
from sklcae.survey._rows import LazyStamps

if TYPE_CHECKING:
    from sklcae.survey._contents import Contents

# The names that are looked for in a file, in small letters, for each part of stamps.
# image_array and the names that begin like it are those of the Multimodal Universe;
# image.flux and the like are fields of its structures in Parquet and Arrow files.
NAMES = {
    "image": (
        *("image", "images", "image_array", "stamps", "sci"),
        *("image.flux", "image.array"),
    ),
    "variance": ("variance", "image_variance", "var"),
    "inverse_variance": (
        *("inverse_variance", "image_ivar", "ivar", "invvar", "weight"),
        "image.ivar",
    ),
    "mask": ("mask", "image_mask", "image.mask", "image.bit_mask"),
    "psf": ("psf", "image_psf", "psfs"),
    "psf_fwhm": ("psf_fwhm", "image_psf_fwhm", "image.psf_fwhm"),
    "pixel_scale": ("pixel_scale", "image_scale", "image.scale"),
    "id": ("object_id", "id", "ids", "source_id"),
    "ra": ("ra", "object_ra", "ra_deg", "coord_ra", "alpha_j2000", "right_ascension"),
    "dec": ("dec", "object_dec", "dec_deg", "coord_dec", "delta_j2000", "declination"),
    "target": ("target", "targets"),
}
# In the masks of these names True is a good pixel.
GOOD_WHERE_TRUE = ("image_mask", "image.mask", "image.bit_mask")
# Chunks with fewer stamps are slow to read.
FEWEST_IN_CHUNK = 8
# Parts with a value for each pixel, and with one for each stamp.
PIXELS = ("image", "variance", "inverse_variance", "mask", "psf")
OF_STAMPS = ("id", "ra", "dec")
ADVICE = (
    "Write it again as a FITS cube, or as Zarr with about a hundred stamps in each "
    "chunk."
)


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
    ra: Any = None
    dec: Any = None


class _Targets(NamedTuple):
    """Arrays of targets, (n,) or one of (n, n_targets), and their names or None."""

    arrays: list
    names: list | None

    def read(self):
        """Return all targets."""
        read = [np.asarray(array[:]) for array in self.arrays]
        return read[0] if len(read) == 1 else np.column_stack(read)


class Stamps(LazyStamps):
    """Stamps of a file, which are read when a slice of rows is taken.

    :func:`open_stamps` and :func:`simulate_stamps` return them. They are X for
    :class:`~sklcae.ConditionalAutoencoderRegressor` and
    :class:`~sklcae.ProfileFitRegressor`, which measure them a block at a time.

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
        The names of the stamps, integers or strings, or their rows. They are read when
        they are first asked for, as are `ra` and `dec`.
    ra, dec : ndarray of shape (n_samples,) or None
        The positions in degrees. None if the file has none.
    target : ndarray of shape (n_samples,) or (n_samples, n_targets), or None
        The targets, read anew each time.
    target_names : list of str or None
        The columns of the target, if they have names.
    pixel_scale : float or None
        The side of a pixel, in the unit of the radii: the number given to
        :func:`open_stamps`, or the attribute "pixel_scale" of the images in a Zarr or
        HDF5 file.
    gain : float, list of float or None
        Electrons for each unit of light, one number or one for each band: the attribute
        "gain" of the images.
    chunks, shards : tuple of int
        The stamps that are read together, and those of a shard of several chunks, or
        None.
    identity : dict
        A description of the stamps that can be written as JSON. Jobs that are resumed
        compare it, see `Notes`.

    Notes
    -----
    The identity has the name of the file without its folder, the shape, the planes, the
    options of `open_stamps`, and two digests (SHA-256): of the names, sizes and times
    of modification of all files that are read, and of the pixels of the first, middle
    and last stamp. It is made anew each time. It is the same when the file is opened
    again, and another one if the file was changed or replaced.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sklcae.survey import open_stamps
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "stamps.npy", np.zeros((9, 32, 32), np.float32))
    ...     stamps = open_stamps(Path(folder) / "stamps.npy")
    ...     print(stamps.shape, stamps.ids[:3], stamps[2:4].shape)
    (9, 1, 32, 32) [0 1 2] (2, 1, 32, 32)
    """

    def __init__(
        self,
        contents: Contents,
        parts: _Parts,
        good_where_true: bool,
        unit: str | None,
        degrees: dict[str, float],
        source: tuple[str, dict[str, Any]],
        targets: _Targets | None = None,
    ) -> None:
        """Join the arrays of a file.

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
        degrees : dict
            The degrees of the units of "ra" and "dec".
        source : tuple of str and dict
            The path and the options of `open_stamps`.
        targets : _Targets or None
            The arrays of the targets.
        """
        self._contents, self._parts, self._degrees = contents, parts, degrees
        self._good_where_true, self._source = good_where_true, source
        self.unit, self._targets = unit, targets
        self.gain = _setting_of(parts.image, "gain")
        self.pixel_scale = parts.pixel_scale
        if not isinstance(self.pixel_scale, float):
            self.pixel_scale = _setting_of(parts.image, "pixel_scale")
        n, *bands, height, width = parts.image.shape
        self._band_shape = (*(bands or [1]), height, width)
        has_variance = parts.variance is not None or parts.inverse_variance is not None
        has_psf = parts.psf is not None or parts.psf_fwhm is not None
        kinds = {"image": True, "variance": has_variance, "psf": has_psf}
        self.planes = tuple(kind for kind, has in kinds.items() if has)
        n_bands = self._band_shape[0]
        self.shape = (n, n_bands * len(self.planes), height, width)
        shards = getattr(parts.image, "shards", None)
        chunks = parts.image.chunks if shards else (rows_of_chunk(parts.image),)
        self.chunks = (chunks[0], *self.shape[1:])
        self.shards = (shards[0], *self.shape[1:]) if shards else None

    @property
    def target(self) -> NDArray[Any] | None:
        """The targets, or None if there are none."""
        return None if self._targets is None else self._targets.read()

    @property
    def target_names(self) -> list[str] | None:
        """The columns of the target, or None if they have no names."""
        return None if self._targets is None else self._targets.names

    @cached_property
    def ids(self) -> NDArray[Any]:
        """The names of the stamps, or their rows."""
        return self._ids_of(slice(0, len(self)))

    def _ids_of(self, rows):
        """Return the names of a slice of rows, and read no others."""
        given = self._parts.id
        return np.arange(len(self))[rows] if given is None else _as_ids(given[rows])

    @cached_property
    def ra(self) -> Floats | None:
        """The right ascensions in degrees, or None."""
        return self._degrees_of("ra", slice(0, len(self)))

    @cached_property
    def dec(self) -> Floats | None:
        """The declinations in degrees, or None."""
        return self._degrees_of("dec", slice(0, len(self)))

    def _degrees_of(self, kind, rows):
        """Return "ra" or "dec" of a slice of rows in degrees, None if unknown."""
        given = getattr(self._parts, kind)
        if given is None:
            return None
        return np.asarray(given[rows], dtype=np.float64) * self._degrees[kind]

    @property
    def identity(self) -> dict[str, Any]:
        """A description of the stamps that can be written as JSON."""
        path, options = self._source
        rows = sorted({0, len(self) // 2, max(0, len(self) - 1)})
        pixels = (self._readable_planes(row) for row in rows)
        return {
            "name": Path(path).absolute().name,
            "shape": list(self.shape),
            "planes": list(self.planes),
            **identify(options, self._contents.files(), Path(path), pixels),
        }

    def _readable_planes(self, row):
        """Return the arrays of a stamp, or the kind of error in its place."""
        try:
            return self._planes_of(slice(row, row + 1))
        except (OSError, RuntimeError, ValueError) as error:
            return {type(error).__name__: np.zeros(0)}

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

    def close(self) -> None:
        """Close the file.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from sklcae.survey import open_stamps
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(Path(folder) / "stamps.npy", np.zeros((9, 32, 32), np.float32))
        ...     stamps = open_stamps(Path(folder) / "stamps.npy")
        ...     stamps.close()
        """
        self._contents.close()

    def _planes_of(self, rows):
        """Return the arguments of `stack_planes` for some rows."""
        parts = self._parts
        image = np.asarray(parts.image[rows])
        if np.result_type(image.dtype, self.dtype) != self.dtype:
            image = image.astype(self.dtype)
        planes = {"image": image}
        if parts.variance is not None:
            planes["variance"] = _rows_of(parts.variance, rows, image.shape)
        elif parts.inverse_variance is not None:
            weights = _rows_of(parts.inverse_variance, rows, image.shape)
            planes["variance"] = _inverted(weights)
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
        fwhm = widths / scales
        wrong = ~((fwhm > 0) & np.isfinite(fwhm)).all(axis=1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                "psf_fwhm and pixel_scale must be positive and finite. Got "
                f"{widths[row]} and {scales[row]}, first in row {row}."
            )
        along_y, along_x = (_gaussian_pixels(fwhm, side) for side in sides)
        return np.einsum("nby,nbx->nbyx", along_y, along_x).reshape(shape)


def _setting_of(array, name):
    """Return a number, or a list of them, of the attributes of an array, or None."""
    try:
        return np.asarray(getattr(array, "attrs", {})[name], dtype=float).tolist()
    except (KeyError, TypeError, ValueError):
        return None


def _gaussian_pixels(fwhm, length):
    """Return the light of Gaussians (n, n_bands) in the pixels of an axis."""
    edges = np.arange(length + 1) - length // 2 - 0.5
    sigma = fwhm[..., None] / FWHM_OF_SIGMA
    return np.diff(ndtr(edges / sigma), axis=-1)


def _inverted(weights):
    """Return variances, infinite where a pixel has no weight: it is masked."""
    with np.errstate(divide="ignore"):
        # Division rounds correctly, so that float32 needs no wider type.
        weights = weights.astype(np.result_type(weights.dtype, np.float32), copy=False)
        return 1 / weights.clip(min=0)


def _as_ids(values):
    """Return integers or strings; HDF5 and FITS have bytes."""
    values = np.asarray(values)
    if values.dtype.kind not in "SO":
        return values
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values])


class _Unflattened:
    """Flat rows as images."""

    def __init__(self, array, sides):
        self.array, self.sides = array, sides
        self.shape, self.dtype = (array.shape[0], *sides), array.dtype
        if getattr(array, "chunks", None):
            self.chunks = (rows_of_chunk(array), *sides)

    def __getitem__(self, rows):
        flat = np.asarray(self.array[rows])
        return flat.reshape(len(flat), *self.sides)


def _rows_of(array, rows, shape):
    """Return rows of an array, or all of it if all stamps share it."""
    if len(array.shape) < 3:
        return np.asarray(array[:])
    values = np.asarray(array[rows])
    if len(array.shape) == len(shape):
        return values
    # A mask of all bands.
    return np.broadcast_to(values[:, None], (len(values), *shape[1:]))


def _per_band(array, rows):
    """Return a number, or numbers (n, 1) or (n, n_bands) for each stamp."""
    if np.ndim(array) == 0 and not hasattr(array, "shape"):
        return array
    values = np.asarray(array[rows], dtype=np.float64)
    return values[:, None] if values.ndim == 1 else values


def _reopen(path, options):
    return open_stamps(path, **options)


def open_stamps(
    path: File,
    *,
    image: str | None = "auto",
    variance: str | None = "auto",
    inverse_variance: str | None = "auto",
    mask: str | None = "auto",
    psf: str | None = "auto",
    psf_fwhm: str | None = "auto",
    id: str | None = "auto",
    ra: str | None = "auto",
    dec: str | None = "auto",
    target: str | Sequence[str] | None = "auto",
    pixel_scale: str | float | None = "auto",
    mask_is_good: bool | Literal["auto"] = "auto",
    image_shape: Sequence[int] | None = None,
) -> Stamps:
    """Open a file or a folder of stamps without reading them.

    Parameters
    ----------
    path : str or PathLike
        The file or the folder, see `Notes`.
    image, variance, inverse_variance, mask, psf, psf_fwhm, id, ra, dec : str or None, \
            default="auto"
        The names of the arrays. "auto" looks for usual names, and None leaves a part
        out. Images have the shape (n, H, W) or (n, n_bands, H, W), or are flat rows
        (n, n_pixels), see `image_shape`. The others have that shape too, or (H, W) for
        all stamps; a mask may be (n, H, W) for all bands, and a PSF may have odd sides
        of its own. ``psf_fwhm`` are widths of Gaussian PSFs, (n,) or (n, n_bands), in
        the unit of the pixel scale; they are used if there is no ``psf``. An inverse
        variance of 0 is a masked pixel. ``id`` are names or numbers, (n,); ``ra`` and
        ``dec`` are positions, (n,), in degrees or in a unit of angles that the file
        names.
    target : str, list of str or None, default="auto"
        The names of the targets: an array (n,) or (n, n_targets), or several arrays
        (n,), which become columns. "auto" takes an array "target" or "targets" of
        numbers, if there is one.
    pixel_scale : str, float or None, default="auto"
        The side of a pixel for ``psf_fwhm``, or the name of an array of them.
    mask_is_good : bool or "auto", default="auto"
        Whether True, or a number other than 0, is a good pixel. "auto" is True for
        the names "image_mask", "image.mask" and "image.bit_mask" of the Multimodal
        Universe, and else False.
    image_shape : tuple of int or None, default=None
        The (H, W) or (n_bands, H, W) of flat rows. Without it flat rows of tables are
        square images of one band, and other arrays are never flat.

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
        If the file is slow to read: fewer than 8 stamps in a chunk, compressed with
        gzip, or one FITS file for each stamp.

    Notes
    -----
    The formats are recognised by the end of the name:

    - NumPy (``.npy``). Other files of the folder are arrays too, by their names.
    - FITS (``.fits``, ``.fit``, ``.fits.gz``, ``.fits.fz``). An array is a cube of an
      HDU, a column of a table, or all two-dimensional HDUs of one name.
    - HDF5 (``.h5``, ``.hdf5``) and Zarr (``.zarr``). An array is a dataset at the top.
    - Parquet (``.parquet``) and Arrow (``.arrow``, ``.feather``). An array is a column
      of numbers, strings, lists, lists in lists or tensors
      (``arrow.fixed_shape_tensor``), or a field of a structure by the name
      "column.field". Rows are read by row groups or record batches. Flat lists get the
      shape of the entry "shape" in the metadata of the column, JSON, if there is one.
      A null is an error, but for single numbers, where it is NaN.
    - A folder with Parquet, Arrow or FITS files, sorted by their names. Each FITS file
      has one stamp: arrays are the images by the names of their HDUs, and ids are the
      names of the files without their suffix, with their subfolders if names are equal.
    - A folder of cutana [2]_ with ``images.zarr`` and ``images_metadata.parquet``, or a
      folder with several such batches, sorted by their names. Channels are bands.
      Images that cutana has normalised are refused.

    In the files of the Multimodal Universe [1]_ all parts are found by their names, in
    HDF5 ("image_array", "image_ivar" and so on) and in the Parquet files of Hugging
    Face, whose column "image" has the fields "flux" (or "array"), "ivar", "mask" (or
    "bit_mask"), "psf_fwhm" and "scale", each a list of the bands.

    References
    ----------
    .. [1] The Multimodal Universe Collaboration, "The Multimodal Universe: enabling
       large-scale machine learning with 100 TB of astronomical scientific data",
       arXiv:2412.02527 (2024).
    .. [2] European Space Agency, "Cutana", https://github.com/esa/Cutana.

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
        "ra": ra,
        "dec": dec,
        "pixel_scale": pixel_scale,
    }
    _check_image_shape(image_shape)
    if isinstance(pixel_scale, Real):
        names["pixel_scale"] = float(pixel_scale)
    options = {
        **names,
        "target": target,
        "mask_is_good": mask_is_good,
        "image_shape": image_shape,
    }
    contents = open_contents(path)
    try:
        found = {kind: _find(contents, kind, name) for kind, name in names.items()}
        if found["image"] is None:
            n_axes = (3, 4) if image_shape is None else (2, 3, 4)
            found["image"] = _only_cube(contents, found, path, n_axes)
        parts = _Parts(
            **{
                kind: contents.arrays[name] if isinstance(name, str) else name
                for kind, name in found.items()
            }
        )
        parts = _unflatten(parts, image_shape, path)
        _check_shapes(parts, found, path)
        targets = _find_targets(contents, target, parts.image.shape[0], path)
        degrees = {
            kind: _degrees_in(contents.units.get(found[kind]), kind, path)
            for kind in ("ra", "dec")
        }
    except BaseException:
        contents.close()
        raise
    if mask_is_good == "auto":
        mask_is_good = str(found["mask"]).lower() in GOOD_WHERE_TRUE
    unit = contents.units.get(found["image"])
    source = str(path), options
    stamps = Stamps(contents, parts, mask_is_good, unit, degrees, source, targets)
    _warn_of_slow_files(stamps, contents.slow.get(found["image"]), path)
    return stamps


def _degrees_in(unit, kind, path):
    """Return the degrees of a unit, 1 without one, or raise ValueError."""
    name = str(unit or "deg").strip()
    if name.lower() in ("deg", "degree", "degrees"):
        return 1.0
    units = library("astropy.units")
    if name.lower() in ("rad", "radian", "radians"):
        return units.rad.to("deg")
    try:
        return float(units.Unit(name).to("deg"))
    except (ValueError, units.UnitConversionError):
        raise ValueError(
            f"{kind} must have a unit of angles, such as deg or hourangle, or be None. "
            f"Got {name!r} in {str(path)!r}."
        ) from None


def _warn_of_slow_files(stamps, reason, path):
    image = stamps._parts.image
    n_read = stamps.chunks[0]
    if reason is None and getattr(image, "chunks", None) and n_read < FEWEST_IN_CHUNK:
        reason = f"has {n_read} stamps in each chunk"
    if reason is not None:
        warn_user(f"{str(path)!r} {reason}, which is slow to read. {ADVICE}")


def _check_image_shape(shape):
    if shape is None:
        return
    if (
        not isinstance(shape, tuple | list)
        or len(shape) not in (2, 3)
        or not all(isinstance(side, Integral) and side > 0 for side in shape)
    ):
        raise ValueError(
            "image_shape must be (H, W) or (n_bands, H, W) with positive integers, or "
            f"None. Got {shape!r}."
        )


def _unflatten(parts, image_shape, path):
    """Return parts whose flat rows have become images."""
    image = parts.image
    if image_shape is not None and len(image.shape) > 2:
        if tuple(image.shape[1:]) == tuple(image_shape):
            return parts
        raise ValueError(
            f"image_shape must be the shape of the images, {tuple(image.shape[1:])}, "
            f"or None. Got {image_shape!r} for {str(path)!r}."
        )
    changed = {}
    for kind in PIXELS:
        array = getattr(parts, kind)
        # Other arrays with two axes may be one image: of a field, or for all stamps.
        is_asked = image_shape is not None and len(image.shape) == 2
        may_be_flat = is_asked or hasattr(array, "has_rows_of_stamps")
        if not may_be_flat or len(getattr(array, "shape", ())) != 2:
            continue
        if array.shape[0] == image.shape[0]:
            like = changed.get("image", image).shape[1:] if kind != "image" else None
            sides = _sides(kind, array.shape[1], image_shape, like, path)
            changed[kind] = _Unflattened(array, sides)
    return parts._replace(**changed)


def _sides(kind, n_pixels, image_shape, like, path):
    """Return the shape of an image of some pixels, or raise ValueError."""
    for shape in (image_shape, like):
        if shape is not None and prod(shape) == n_pixels:
            return tuple(shape)
    side = isqrt(n_pixels)
    # Other PSFs may have sides of their own.
    if side**2 == n_pixels and (kind == "psf" or image_shape is None):
        return side, side
    raise ValueError(
        f"image_shape must be (H, W) or (n_bands, H, W) with the {n_pixels} values in "
        f"the flat rows of {kind} in {str(path)!r}. Got {image_shape!r}."
    )


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


def _find_targets(contents, target, n_stamps, path):
    """Return the `_Targets` of a file, or None."""
    several = isinstance(target, list | tuple)
    names = [_find(contents, "target", n) for n in (target if several else [target])]
    if names == [None]:
        return None
    arrays = [contents.arrays[name] for name in names]
    for name, array in zip(names, arrays, strict=True):
        shape, kind = tuple(array.shape), np.dtype(array.dtype).kind
        n_axes = (1,) if several else (1, 2)
        if shape[:1] == (n_stamps,) and len(shape) in n_axes and kind in "buif":
            continue
        if target == "auto":
            # Another use of the name.
            return None
        wanted = "(n,)" if several else "(n,) or (n, n_targets)"
        raise ValueError(
            f"target must be numbers of the shape {wanted}, with n={n_stamps}. Got "
            f"{shape} of the type {array.dtype} for {name!r} in {str(path)!r}."
        )
    given = getattr(arrays[0], "attrs", {}).get("target_names")
    if several:
        return _Targets(arrays, names)
    if given is not None:
        return _Targets(arrays, [str(name) for name in given])
    is_named = target != "auto" and len(arrays[0].shape) == 1
    return _Targets(arrays, names if is_named else None)


def _only_cube(contents, found, path, n_axes):
    """Return the name of the only array that can be images, or raise ValueError."""
    others = {name for name in found.values() if isinstance(name, str)}
    cubes = [
        name
        for name, array in contents.arrays.items()
        if len(array.shape) in n_axes and name not in others
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
        if kind in ("psf_fwhm", "pixel_scale"):
            is_right = given in (shape[:1], shape[:-2])
        elif kind == "psf":
            is_right = len(given) == 2 or given[:-2] == shape[:-2]
        elif kind in OF_STAMPS:
            is_right = given == shape[:1]
        else:
            shared = [shape, shape[-2:]]
            # A mask of all bands.
            shared += [(shape[0], *shape[-2:])] if kind == "mask" else []
            is_right = given in shared
        if not is_right:
            raise ValueError(
                f"{kind} must have the shape of the images, {shape}, or belong to each "
                f"or all of them. Got {given} for {names[kind]!r} in {str(path)!r}."
            )
