"""Simulated stamps, rendered part by part into a Zarr store."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
from contextlib import contextmanager
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from sklcae._compat import (
    InvalidParameterError,
    import_optional,
    validate_parameter_constraints,
    validate_params,
)
from sklcae._profiles import kind_of
from sklcae._typing import File
from sklcae._units import PlainNumber
from sklcae._version import __version__
from sklcae.datasets._galaxies import CONSTRAINTS, make_galaxies, plan_galaxies
from sklcae.datasets._galsim import import_galsim
from sklcae.datasets._parameters import ALLOWED, BULGE
from sklcae.datasets._simulation import make_stamps
from sklcae.survey._atomic import new_file, remove_left_over
from sklcae.survey._runners import run_on
from sklcae.survey._stamps import open_stamps

if TYPE_CHECKING:
    from distributed import Client

    from sklcae.survey._stamps import Stamps

# A chunk has so many stamps, or fewer if they are larger than this.
STAMPS_IN_CHUNK, CHUNK_BYTES = 100, 2**23
# A part has about so many bytes: 2,000 stamps of 64 x 64 pixels.
PART_BYTES = 2**25
# Arguments of make_galaxies that the caller does not give.
RESERVED = ("n_samples", "random_state", "return_X_y", "n_jobs", "verbose")
# Beside the arrays, in a group of its own: Zarr warns of files that it does not know.
RECORD, ARGUMENTS, SUCCESS = "parts", "arguments.json", "_SUCCESS"
LOCK = "_lock"
# The folders in which shards are made begin like this.
UNFINISHED = ".shards-"
# Probabilities at which two distributions are compared.
QUANTILES = np.linspace(0.01, 0.99, 33)


@validate_params(
    {
        "path": [str, os.PathLike],
        "n_samples": CONSTRAINTS["n_samples"],
        "random_state": [
            PlainNumber("random_state", Integral, 0, 2**32, closed="left")
        ],
        "client": "no_validation",
        "rows_per_part": [
            PlainNumber("rows_per_part", Integral, 1, None, closed="left"),
            str,
        ],
        "verbose": ["verbose"],
        "options": "no_validation",
    },
    prefer_skip_nested_validation=True,
)
def simulate_stamps(
    path: File,
    n_samples: int,
    random_state: int,
    *,
    client: Client | None = None,
    rows_per_part: int | Literal["auto"] = "auto",
    verbose: int = 0,
    **options: Any,
) -> Stamps:
    """Simulate stamps of galaxies into a Zarr store, a part at a time.

    Stamp i is bitwise stamp i of :func:`~sklcae.datasets.make_galaxies` with the same
    `n_samples`, `random_state` and options, for any parts and workers. The
    memory holds one part for each worker, and a table of the parameters of all stamps.

    An interrupted call is continued by the same call: parts that are complete are not
    made again, and the store becomes the same.

    Parameters
    ----------
    path : str or path-like
        The folder of the store, with a name that ends in ``.zarr``. It may be new, or
        of an earlier call with the same arguments. The workers of a cluster must see it
        by the same name.
    n_samples : int
        Number of stamps.
    random_state : int
        The seed. It must be an int, so that a later call can continue.
    client : distributed.Client or None, default=None
        The client of a Dask cluster whose workers make the parts. Give workers one
        thread each. None makes them in this process, by the jobs of
        `joblib.parallel_config`, if any.
    rows_per_part : int or "auto", default="auto"
        Stamps of a part, which is a shard of each array. Up to the number of stamps in
        a chunk, or a multiple of it: a chunk has 100 stamps, or fewer if these take
        more than 8 MiB. "auto" takes whole chunks of together about 32 MiB.
    verbose : int, default=0
        A value above 0 shows a progress bar on standard error.
    **options : dict
        Parameters of :func:`~sklcae.datasets.make_galaxies`: all but `n_samples`,
        `random_state`, `return_X_y`, `n_jobs` and `verbose`.

    Returns
    -------
    stamps : Stamps
        The open store, see :func:`open_stamps`.

    Raises
    ------
    FileExistsError
        If the folder holds something else, or stamps of other arguments or of other
        versions of sklcae, GalSim or NumPy. The message names the difference.
    RuntimeError
        If another call writes into the folder.
    ImportError
        If Zarr, filelock, tqdm, GalSim, joblib, or distributed with a client, is not
        installed.
    TypeError
        If an option is not a parameter of `make_galaxies`, or `client` is no client.
    ValueError
        If a parameter or an option is not allowed.

    Notes
    -----
    The arrays are ``image`` (n_samples, H, W), or (n_samples, n_bands, H, W) with
    `bands`, in ADU, with the attributes ``pixel_scale`` and ``gain``; ``variance`` and
    ``psf`` of the same shape, if they are among `planes`; ``target``
    (n_samples, n_targets), or (n_samples,), with the attributes
    ``target_names`` and ``units``; and ``object_id``, the number of the stamp. With
    `cosmic_rays` and `saturation` there are the masks of `make_galaxies` too. The group
    ``parts`` has a file for each complete part, and ``_SUCCESS`` in the end.

    :class:`Stamps` scales PSFs to the sum 1 again when it reads them, which may change
    their last bit.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklcae.survey import simulate_stamps
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stamps = simulate_stamps(
    ...         Path(folder) / "galaxies.zarr", 20, random_state=0, image_shape=(16, 16)
    ...     )
    ...     print(stamps.shape, stamps.target.shape, stamps.target_names)
    (20, 1, 16, 16) (20, 2) ['flux', 'half_light_radius']
    """
    _check_client(client)
    store = check_simulation(path, n_samples, random_state, rows_per_part, options)
    record, plan, arrays, rows_per_part = store
    if not record.is_complete:
        with record.locked():
            # Another call may have begun, or ended, since the first check.
            record.check()
            if not record.is_complete:
                _create(record, plan, arrays, rows_per_part)
                _make_parts(record, plan, rows_per_part, client, verbose)
                record.finish()
    return open_stamps(path)


def check_simulation(path, n_samples, random_state, rows_per_part, options):
    """Check the arguments of `simulate_stamps` and its folder, and write nothing.

    Returns the record, the plan, the arrays and the number of stamps of a part.
    """
    given = _arguments(n_samples, random_state, options)
    plan = plan_galaxies(given)
    arrays = _arrays_of(plan)
    rows_per_part = _resolve_rows(rows_per_part, n_samples, arrays)
    record = _Record(Path(path), _description(given, rows_per_part))
    record.check()
    return record, plan, arrays, rows_per_part


# The arguments -----------------------------------------------------------------------


def _check_client(client):
    if client is None:
        return
    distributed = _library("distributed")
    if not isinstance(client, distributed.Client):
        raise TypeError(
            "client must be a distributed.Client of Dask, or None. Got "
            f"{type(client).__name__}."
        )


def _library(name):
    return import_optional(name, extra="survey", purpose="simulate_stamps")


def _arguments(n_samples, random_state, options):
    """Return all arguments of `make_galaxies` by name, checked as it does."""
    parameters = inspect.signature(make_galaxies).parameters
    allowed = [name for name in parameters if name not in RESERVED]
    for name in options:
        if name not in allowed:
            raise TypeError(
                f"The options of simulate_stamps must be parameters of make_galaxies, "
                f"but {', '.join(RESERVED)}. Got {name!r}."
            )
    given = {name: parameter.default for name, parameter in parameters.items()}
    given |= options
    given |= {"n_samples": int(n_samples), "random_state": int(random_state)}
    validate_parameter_constraints(CONSTRAINTS, given, caller_name="simulate_stamps")
    return given


class _Array(NamedTuple):
    """The shape of a stamp in an array of the store, its type and its attributes."""

    shape: tuple
    dtype: Any
    attributes: dict


def _arrays_of(plan):
    """Return the `_Array` of each array that is written part by part."""
    n_bands, *sides = plan.simulation.stamps_shape[1:]
    shape = (n_bands, *sides) if plan.bands else tuple(sides)
    telescopes = plan.simulation.telescopes
    gains = [float(telescope.gain) for telescope in telescopes]
    settings = {
        "pixel_scale": float(telescopes[0].pixel_scale),
        "gain": gains if plan.bands else gains[0],
    }
    attributes = {
        "image": {"units": "adu", **settings},
        "variance": {"units": "adu2"},
        "psf": {},
    }
    arrays = {kind: _Array(shape, np.float32, attributes[kind]) for kind in plan.kinds}
    masks = plan.simulation.part(slice(0, 1)).masks()
    return arrays | {mask: _Array(shape, np.bool_, {}) for mask in masks}


def _rows_of_chunk(arrays):
    """Return the number of stamps of a chunk."""
    return max(1, min(STAMPS_IN_CHUNK, CHUNK_BYTES // _bytes_of(arrays["image"])))


def _bytes_of(array):
    return int(np.prod(array.shape)) * np.dtype(array.dtype).itemsize


def _resolve_rows(rows_per_part, n_samples, arrays):
    """Return the number of stamps of a part, or raise ValueError."""
    n_chunk = _rows_of_chunk(arrays)
    if rows_per_part == "auto":
        n_bytes = n_chunk * sum(map(_bytes_of, arrays.values()))
        most = -(-n_samples // n_chunk)
        return n_chunk * max(1, min(most, PART_BYTES // n_bytes))
    whole = isinstance(rows_per_part, Integral) and (
        rows_per_part <= n_chunk or rows_per_part % n_chunk == 0
    )
    if whole:
        return int(rows_per_part)
    raise InvalidParameterError(
        "The 'rows_per_part' parameter of simulate_stamps must be 'auto', at most "
        f"{n_chunk}, the stamps of a chunk, or a multiple of it. Got "
        f"{rows_per_part!r} instead."
    )


# The record of an earlier call -------------------------------------------------------


def _description(given, rows_per_part):
    """Return all that decides the content of a store, as plain values by name."""
    options = {name: given[name] for name in given if name not in RESERVED[2:]}
    described = {name: _plain(value) for name, value in options.items()}
    return {
        **described,
        "rows_per_part": rows_per_part,
        "version of sklcae": __version__,
        "version of GalSim": import_galsim().__version__,
        "version of NumPy": np.__version__,
    }


def _plain(value):
    """Return a value as JSON has it: arrays by a hash, distributions by quantiles."""
    if value is None or isinstance(value, str | bool | np.bool_):
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if hasattr(value, "support"):
        quantile = value.icdf if hasattr(value, "icdf") else value.ppf
        return {"quantiles": np.asarray(quantile(QUANTILES), float).tolist()}
    # A tuple is a range, and a list has values of the stamps.
    if isinstance(value, tuple) or any(hasattr(one, "support") for one in value):
        return {type(value).__name__: [_plain(one) for one in value]}
    array = np.ascontiguousarray(value)
    if array.dtype.kind not in "biuf":
        return {type(value).__name__: [_plain(one) for one in value]}
    return {"shape": list(array.shape), "sha256": _hash(array.astype(float).tobytes())}


def _hash(content):
    return hashlib.sha256(content).hexdigest()


class _Record:
    """The parts of a store that are complete, and the arguments that it is made of."""

    def __init__(self, path, description):
        self.path, self.folder = path, path / RECORD
        self.description = description
        self.hash = _hash(json.dumps(description, sort_keys=True).encode())

    def check(self):
        """Raise an error unless the folder is new or is for the same arguments."""
        name = self.path.name.lower()
        if not name.endswith(".zarr"):
            raise ValueError(
                "path must be a folder with a name that ends in .zarr. Got "
                f"{str(self.path)!r}."
            )
        files = (path for path in self.path.rglob("*") if path.is_file())
        lock = self.folder / LOCK
        if all(path == lock for path in files):
            return
        earlier = self._earlier()
        names = dict.fromkeys([*self.description, *earlier])
        differences = [
            f"{name} was {earlier.get(name)!r:.60} and is "
            f"{self.description.get(name)!r:.60}"
            for name in names
            if earlier.get(name) != self.description.get(name)
        ]
        if differences:
            raise FileExistsError(
                "path must be a new folder, or one of stamps that were simulated with "
                f"the same arguments. Got {str(self.path)!r}, where "
                f"{'; '.join(differences)}."
            )

    def _earlier(self):
        """Return the description of the store in the folder."""
        try:
            return dict(json.loads((self.folder / ARGUMENTS).read_text()))
        except (OSError, ValueError, TypeError):
            raise FileExistsError(
                "path must be a new folder, or one of simulate_stamps. Got "
                f"{str(self.path)!r}, which has other files."
            ) from None

    @contextmanager
    def locked(self):
        """Keep other calls out of the folder."""
        filelock = _library("filelock")
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise RuntimeError(
                "path must be a store that no other run writes into. Got "
                f"{str(self.path)!r}, in which one is at work."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def begin(self):
        """Write the description, and return the group of the arrays."""
        self._remove_left_over()
        content = json.dumps(self.description, sort_keys=True, indent=1)
        self._write(ARGUMENTS, content)
        group = _library("zarr").open_group(self.path, mode="a")
        group.require_group(RECORD)
        return group

    def _write(self, name, content):
        """Write a file at once, or not at all."""
        with new_file(self.folder / name) as file:
            file.write(content.encode())

    def _remove_left_over(self):
        """Remove the unfinished files of killed processes."""
        remove_left_over(self.folder)
        for folder in self.folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def is_complete(self):
        """Whether all parts are complete."""
        return self._has(SUCCESS)

    def has_part(self, number):
        """Return whether a part is complete."""
        return self._has(f"part-{number}")

    def _has(self, name):
        path = self.folder / name
        return path.is_file() and path.read_text() == self.hash

    def add_part(self, number):
        """Record that a part is complete."""
        self._write(f"part-{number}", self.hash)

    def finish(self):
        """Record that all parts are complete."""
        self._remove_left_over()
        self._write(SUCCESS, self.hash)


# The store ---------------------------------------------------------------------------


def _create(record, plan, arrays, rows_per_part):
    """Create the arrays of a store, and write those that need no rendering."""
    group = record.begin()
    n = plan.simulation.stamps_shape[0]
    n_chunk = min(_rows_of_chunk(arrays), rows_per_part)
    for name, array in arrays.items():
        if name in group:
            continue
        group.create_array(
            name,
            shape=(n, *array.shape),
            chunks=(n_chunk, *array.shape),
            shards=(rows_per_part, *array.shape),
            dtype=array.dtype,
            attributes=array.attributes,
        )
    names = plan.target_names
    known = {
        "target": (plan.target(), {"target_names": names, "units": _units(names)}),
        "object_id": (np.arange(n), {}),
    }
    for name, (values, attributes) in known.items():
        group.create_array(name, data=values, attributes=attributes, overwrite=True)


def _units(names):
    """Return the unit of each target, as astropy writes it; "" if there is none."""
    allowed = {**ALLOWED, **BULGE}
    kinds = [allowed.get(kind_of(name)) for name in names]
    return [(kind.unit if kind else None) or "" for kind in kinds]


class _Part(NamedTuple):
    """A part to be made: its number, its rows in the store and its simulation."""

    number: int
    rows: tuple
    simulation: Any
    kinds: tuple
    has_bands: bool

    @property
    def name(self):
        """A name of the part."""
        return f"part-{self.number}"


def _parts_of(plan, rows_per_part, wanted):
    """Yield the parts with the wanted numbers."""
    n = plan.simulation.stamps_shape[0]
    for number in wanted:
        start = number * rows_per_part
        rows = start, min(start + rows_per_part, n)
        simulation = plan.simulation.part(slice(*rows))
        yield _Part(number, rows, simulation, plan.kinds, plan.bands is not None)


def _make_parts(record, plan, rows_per_part, client, verbose):
    """Make the parts that are missing, with a progress bar."""
    n = plan.simulation.stamps_shape[0]
    numbers = range(-(-n // rows_per_part))
    missing = [number for number in numbers if not record.has_part(number)]
    parts = _parts_of(plan, rows_per_part, missing)
    made = (_make_part(record, part) for part in parts)
    if client is not None:
        made = _made_by(client, record, parts)
    n_before = n - sum(min(rows_per_part, n - i * rows_per_part) for i in missing)
    options = {"desc": "stamps", "unit": "stamp", "disable": not verbose}
    tqdm = _library("tqdm").tqdm
    with tqdm(total=n, initial=n_before, **options) as bar:
        for n_made in made:
            bar.update(n_made)


def _made_by(client, record, parts):
    """Yield the size of each part that the workers of a cluster have made."""
    record = _Record(record.path.absolute(), record.description)
    for _, n_made, error in run_on(client, partial(_make_part, record), parts):
        if error is not None:
            raise error
        yield n_made


def _make_part(record, part):
    """Render a part, write its shards, record it, and return its number of stamps."""
    planes, masks = make_stamps(part.simulation, part.kinds, n_jobs=None, verbose=0)
    arrays = dict(zip(part.kinds, planes.swapaxes(0, 1), strict=True)) | masks
    # A worker may still make this part for a call that was killed.
    if not record.has_part(part.number):
        for name, array in arrays.items():
            array = array if part.has_bands else array[:, 0]
            _write_shard(record, name, part.number, array)
        record.add_part(part.number)
    return len(planes)


def _write_shard(record, name, number, values):
    """Write a shard of an array of the store, whole or not at all.

    Zarr makes it elsewhere, and it takes its place in one step: others who write the
    same part put the same bytes there.
    """
    zarr = _library("zarr")
    like = zarr.open_array(record.path / name, mode="r")
    place = record.path / name / "c" / str(number)
    with TemporaryDirectory(dir=record.folder, prefix=UNFINISHED) as folder:
        array = zarr.create_array(
            Path(folder) / "shard",
            shape=values.shape,
            chunks=like.chunks,
            shards=like.shards,
            dtype=like.dtype,
        )
        array[:] = values
        # Arrays of nothing but the fill value have no shard.
        made = Path(folder) / "shard" / "c" / "0"
        for path in (path for path in made.rglob("*") if path.is_file()):
            wanted = place / path.relative_to(made)
            wanted.parent.mkdir(parents=True, exist_ok=True)
            path.replace(wanted)
