"""Catalogues of many stamps, in parts, which continue after crashes."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from sklcae._blocks import bytes_of_row, rows_of_chunk, warn_of_other_pixels
from sklcae._compat import import_optional
from sklcae._profile_fit import ProfileFitRegressor
from sklcae._storage.model import load_model
from sklcae._typing import File
from sklcae.exceptions import CatalogError
from sklcae.survey._atomic import remove_left_over, write_json
from sklcae.survey._catalog_file import read_catalog
from sklcae.survey._columns import (
    columns_of_places,
    columns_of_results,
    units_of,
)
from sklcae.survey._measurement import MeasurementOptions, measure_rows
from sklcae.survey._parts import (
    Task,
    bad_stamps_of,
    hash_of,
    is_done,
    load_by_hash,
    measure_part,
)
from sklcae.survey._plan import (
    Plan,
    check_same,
    plain_values,
    read_plan,
    rows_of_parts,
)
from sklcae.survey._polishing import check_polish, make_fitter
from sklcae.survey._runners import run_here, run_on
from sklcae.survey._stamps import Stamps, open_stamps
from sklcae.survey._verify import verify_catalog

if TYPE_CHECKING:
    from astropy.table import Table
    from distributed import Client

_library = partial(import_optional, extra="survey", purpose="predict_catalog")

SUCCESS_FILE, FAILED_FILE, LOCK_FILE = "_SUCCESS", "_failed.json", "_lock"
FITTER_FILE = "_fitter-{}.sklcae"
# So many stamps prepare a fitter, and give the time of one.
N_PREPARED = N_TIMED = 256
# Errors of the disk that concern all parts.
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def predict_catalog(
    model_path: File,
    stamps: Stamps | File,
    out: File,
    *,
    columns: Sequence[str] | None = None,
    units: dict[str, str] | None = None,
    return_std: bool = True,
    return_cov: bool = False,
    score: bool = False,
    polish: bool | dict[str, Any] = False,
    flags: bool = False,
    rows_per_part: int | Literal["auto"] = "auto",
    client: Client | None = None,
    on_bad_stamp: Literal["flag", "raise"] = "flag",
    dry_run: bool = False,
    verbose: int = 0,
) -> CatalogRun:
    """Measure all stamps of a source, and write a catalogue.

    The stamps are measured in parts, each of a fixed range of rows. A part is a Parquet
    file, which appears when it is whole. After any crash, the same call continues with
    the parts that are missing. The rows are bitwise those of ``predict``, for any parts
    and workers.

    Parameters
    ----------
    model_path : str or PathLike
        A saved :class:`~sklcae.ConditionalAutoencoderRegressor` or
        :class:`~sklcae.ProfileFitRegressor`. In its stamps NaN is a masked pixel.
    stamps : Stamps, str or PathLike
        The stamps, or their file as for :func:`open_stamps`.
    out : str or PathLike
        The folder of the catalogue. It is made if needed.
    columns : sequence of str, default=None
        The parameters in the catalogue, some targets of the model; None is all.
    units : dict, default=None
        Units of the values of parameters, such as ``{"flux": "nJy"}``; nothing is
        converted. Fluxes without one have the unit of the images if it is known; radii
        are in arcsec, or in pixels if `pixel_scale` is 1.
    return_std : bool, default=True
        Whether there are standard deviations, the columns with ``_err``. A network
        needs ``physical_loss="gaussian_likelihood"``.
    return_cov : bool, default=False
        Whether there are covariances of all pairs, such as ``flux_e1_cov``. For fits
        only, as a network predicts none.
    score : bool, default=False
        Whether there is a column ``score``, the result of
        :meth:`~sklcae.ConditionalAutoencoderRegressor.score_samples`.
    polish : bool or dict, default=False
        Whether the predictions of a network start profile fits. A dict has parameters
        of :class:`~sklcae.ProfileFitRegressor`, such as ``{"max_neighbours": 4}``;
        pixel scale and gain are those of the network.
    flags : bool, default=False
        Whether there are all flags of
        :meth:`~sklcae.ProfileFitRegressor.flags`. Without, there are "bad_stamp",
        "no_pixels" and "outside_training". They cost several times a prediction.
    rows_per_part : int or "auto", default="auto"
        Stamps of a part. "auto" has at most about 1 GiB of stamps and whole chunks of
        the source, and 16 parts or more unless these have fewer than 4,096 stamps.
    client : distributed.Client or None, default=None
        The cluster that measures. Its workers must see all paths. None is this process.
    on_bad_stamp : {"flag", "raise"}, default="flag"
        With "flag" the row of a stamp that cannot be read or measured is NaN, with the
        flag "bad_stamp". With "raise" its part fails.
    dry_run : bool, default=False
        Whether nothing is measured and written: see :meth:`CatalogRun.estimate`.
    verbose : int, default=0
        A value above 0 shows a progress bar on standard error.

    Returns
    -------
    run : CatalogRun
        The run, with the parts that failed in `failed`.

    Raises
    ------
    CatalogError
        If `out` has the catalogue of another plan (another model, source or option), or
        if another run is writing into it; if the model or the stamps change meanwhile.
    FileNotFoundError, ModelFileError
        If there is no model or no source, or the file is no model.
    ImportError
        If a library of ``pip install "sklcae[survey]"`` is missing.
    OSError
        If the disk is full. The parts that are done stay.
    TypeError, ValueError
        If a parameter is not as described, or the planes of the stamps are not those of
        the model.

    See Also
    --------
    read_catalog : Reads the catalogue.
    write_catalog : Writes it to one file, Parquet or FITS.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sklcae import ProfileFitRegressor
    >>> from sklcae.datasets import make_galaxies
    >>> from sklcae.survey import predict_catalog, read_catalog
    >>> X, y = make_galaxies(20, x0=32.0, y0=32.0, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     folder = Path(folder)
    ...     np.save(folder / "stamps.npy", X.reshape(-1, 64, 64))
    ...     fitter = ProfileFitRegressor(psf=0.7, pixel_scale=0.2)
    ...     fitter.fit(X.reshape(-1, 1, 64, 64), y).save(folder / "fitter.sklcae")
    ...     run = predict_catalog(
    ...         folder / "fitter.sklcae", folder / "stamps.npy", folder / "catalogue"
    ...     )
    ...     table = read_catalog(folder / "catalogue")
    >>> len(table), table.colnames[:3]
    (20, ['object_id', 'flux', 'flux_err'])
    """
    _check_choices(rows_per_part, on_bad_stamp, client)
    wanted = {
        "columns": None if columns is None else list(columns),
        "units": {name: str(unit) for name, unit in (units or {}).items()},
        "return_std": bool(return_std),
        "return_cov": bool(return_cov),
        "score": bool(score),
        "flags": bool(flags),
        "on_bad_stamp": on_bad_stamp,
        "polish": check_polish(polish),
    }
    with _opened(stamps) as source:
        run = CatalogRun(model_path, source, out, wanted, rows_per_part)
    return run if dry_run else run.run(client, verbose=verbose)


def _check_choices(rows_per_part, on_bad_stamp, client):
    is_count = isinstance(rows_per_part, Integral) and rows_per_part > 0
    if rows_per_part != "auto" and not is_count:
        raise ValueError(
            "The 'rows_per_part' parameter must be a positive int or 'auto'. Got "
            f"{rows_per_part!r}."
        )
    if on_bad_stamp not in ("flag", "raise"):
        raise ValueError(
            "The 'on_bad_stamp' parameter must be 'flag' or 'raise'. Got "
            f"{on_bad_stamp!r}."
        )
    if client is not None and not hasattr(client, "submit"):
        raise TypeError(
            "The 'client' parameter must be a distributed.Client or None. Got "
            f"{client!r}."
        )


@contextmanager
def _opened(stamps):
    """Open a file of stamps, and close it again; open ones stay open."""
    if isinstance(stamps, str | os.PathLike):
        with open_stamps(stamps) as opened:
            yield opened
    elif isinstance(stamps, Stamps):
        yield stamps
    else:
        raise TypeError(
            "stamps must be the path of a file, or Stamps of open_stamps. Got "
            f"{type(stamps).__name__}."
        )


class CatalogRun:
    """A catalogue that is being made, a part at a time.

    :func:`predict_catalog` returns it.

    Attributes
    ----------
    plan : Plan
        The plan: model, source, options, columns and parts.
    failed : list of dict
        For each part that failed in the last :meth:`run`: "part", its number, "rows",
        the first row and the one behind the last, and "error", the message.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sklcae import ProfileFitRegressor
    >>> from sklcae.datasets import make_galaxies
    >>> from sklcae.survey import predict_catalog
    >>> X, y = make_galaxies(5, x0=32.0, y0=32.0, random_state=0)
    >>> X = X.reshape(-1, 1, 64, 64)
    >>> fitter = ProfileFitRegressor(psf=0.7, pixel_scale=0.2).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     folder, out = Path(folder), Path(folder) / "catalogue"
    ...     model, stamps = folder / "model.sklcae", folder / "stamps.npy"
    ...     np.save(stamps, X)
    ...     fitter.save(model)
    ...     run = predict_catalog(model, stamps, out)
    ...     print(run.plan.n_parts, run.failed)
    1 []
    """

    def __init__(
        self,
        model_path: File,
        stamps: Stamps,
        out: File,
        wanted: dict[str, Any],
        rows_per_part: int | Literal["auto"],
    ) -> None:
        """Make the plan, or compare it with that of the folder.

        Parameters
        ----------
        model_path : str or PathLike
            The model.
        stamps : Stamps
            The source.
        out : str or PathLike
            The folder of the catalogue.
        wanted : dict
            The options of `predict_catalog`.
        rows_per_part : int or "auto"
            Stamps of a part.
        """
        self.folder = Path(out).absolute()
        self.failed: list[dict[str, Any]] = []
        path, opening = stamps._source
        self._source = str(Path(path).absolute()), opening
        wanted = plain_values(wanted)
        self._model = str(Path(model_path).absolute()), hash_of(model_path)
        model = load_model(model_path)
        _check_model(model, stamps, wanted)
        self._options = _options_of(model, stamps, wanted)
        names = list(model.target_names_)
        places = columns_of_places(stamps)
        existing = read_plan(self.folder)
        if existing is not None and rows_per_part == "auto":
            rows_per_part = existing.rows_per_part
        self.plan = Plan(
            model=self._model[1],
            source=stamps.identity,
            options={**wanted, "units": self._options.units},
            columns=[*places, *columns_of_results(self._options, names)],
            n_rows=len(stamps),
            rows_per_part=rows_of_parts(
                len(stamps), bytes_of_row(stamps), rows_of_chunk(stamps), rows_per_part
            ),
        )
        if existing is not None:
            check_same(existing, self.plan, self.folder)

    def __repr__(self):
        return (
            f"<CatalogRun in {str(self.folder)!r}: {self.plan.n_rows} stamps in "
            f"{self.plan.n_parts} parts, {len(self.failed)} failed>"
        )

    def run(self, client: Client | None = None, verbose: int = 0) -> Self:
        """Measure the parts that are missing.

        Parameters
        ----------
        client : distributed.Client or None, default=None
            The cluster; None is this process.
        verbose : int, default=0
            A value above 0 shows a progress bar on standard error.

        Returns
        -------
        self : CatalogRun
            The run. If no part failed, the folder has the file ``_SUCCESS``.

        Raises
        ------
        CatalogError
            If another run is writing into the folder, or the model or the stamps have
            changed.
        OSError
            If the disk is full.

        Examples
        --------
        A dry run measures nothing; `run` then measures the parts that are missing:

        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from sklcae import ProfileFitRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> from sklcae.survey import predict_catalog
        >>> X, y = make_galaxies(5, x0=32.0, y0=32.0, random_state=0)
        >>> X = X.reshape(-1, 1, 64, 64)
        >>> fitter = ProfileFitRegressor(psf=0.7, pixel_scale=0.2).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     folder, out = Path(folder), Path(folder) / "catalogue"
        ...     model, stamps = folder / "model.sklcae", folder / "stamps.npy"
        ...     np.save(stamps, X)
        ...     fitter.save(model)
        ...     run = predict_catalog(model, stamps, out, dry_run=True)
        ...     print(run.run().verify())
        5
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._begin()
            tasks = [task for task in self._tasks() if not is_done(task)]
            if tasks:
                (self.folder / SUCCESS_FILE).unlink(missing_ok=True)
            done = self.plan.n_rows - sum(len(task.rows) for task in tasks)
            runner = run_here if client is None else partial(run_on, client)
            self.failed = []
            with _progress(self.plan.n_rows, done, verbose) as advance:
                for task, _, error in runner(measure_part, tasks):
                    advance(len(task.rows))
                    if error is not None:
                        self._note_failure(task, error)
            self._finish()
        return self

    def _note_failure(self, task, error):
        """Remember a part that failed, or raise if all others would fail too."""
        if isinstance(error, CatalogError):
            raise error
        if isinstance(error, OSError) and error.errno in OF_THE_DISK:
            error.add_note(
                f"The parts in {str(self.folder)!r} that are done stay. Make room, and "
                "call it again."
            )
            raise error
        rows = [task.rows.start, task.rows.stop]
        message = f"{type(error).__name__}: {error}"
        self.failed.append({"part": task.number, "rows": rows, "error": message})

    @contextmanager
    def _locked(self):
        filelock = _library("filelock")
        lock = filelock.FileLock(self.folder / LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise CatalogError(
                f"out must be a folder that no other run writes into. Got "
                f"{str(self.folder)!r}, in which one is at work."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _begin(self):
        """Write the plan, or check that of an earlier run, and prepare the fitter."""
        existing = read_plan(self.folder)
        if existing is not None:
            check_same(existing, self.plan, self.folder)
        elif any(self.folder.glob("part-*")):
            raise CatalogError(
                "out must be a new folder, or one with a plan. Got "
                f"{str(self.folder)!r} with parts and no plan."
            )
        remove_left_over(self.folder)
        if existing is None:
            self.plan.write(self.folder)
        if self._polishes and not self._fitter_path.exists():
            path, opening = self._source
            with open_stamps(path, **opening) as stamps:
                self._fitter_for(stamps).save(self._fitter_path)

    @property
    def _polishes(self):
        return self.plan.options["polish"] is not None

    @property
    def _fitter_path(self):
        """The file of the fitter, which belongs to this plan."""
        return self.folder / FITTER_FILE.format(self.plan.identity[:16])

    def _fitter_for(self, stamps):
        """Return a fitted `ProfileFitRegressor` that starts from the model."""
        fitter = make_fitter(load_by_hash(*self._model), self.plan.options["polish"])
        return fitter.fit(_readable(stamps, N_PREPARED))

    def _tasks(self):
        model = self._model
        if self._polishes and self._fitter_path.exists():
            model = str(self._fitter_path), hash_of(self._fitter_path)
        return [
            Task(
                folder=str(self.folder),
                number=number,
                rows=self.plan.rows_of(number),
                plan=self.plan.identity,
                model=model,
                source=self._source,
                identity=self.plan.source,
                columns=self.plan.columns,
                options=self._options,
            )
            for number in range(self.plan.n_parts)
        ]

    def _finish(self):
        """Write the failures, or count all rows and note the success."""
        if self.failed:
            write_json(self.folder / FAILED_FILE, self.failed)
            return
        with suppress(FileNotFoundError):
            (self.folder / FAILED_FILE).unlink()
        verify_catalog(self.folder, read=False)
        # A worker may have died behind the last line of a part.
        remove_left_over(self.folder, journals=True)
        write_json(self.folder / SUCCESS_FILE, {"rows": self.plan.n_rows})

    def verify(self) -> int:
        """Check that the catalogue is complete and undamaged.

        Returns
        -------
        n_rows : int
            The number of its rows.

        Raises
        ------
        CatalogError
            If parts are missing, damaged or of another plan; the message names them.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from sklcae import ProfileFitRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> from sklcae.survey import predict_catalog
        >>> X, y = make_galaxies(5, x0=32.0, y0=32.0, random_state=0)
        >>> X = X.reshape(-1, 1, 64, 64)
        >>> fitter = ProfileFitRegressor(psf=0.7, pixel_scale=0.2).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     folder, out = Path(folder), Path(folder) / "catalogue"
        ...     model, stamps = folder / "model.sklcae", folder / "stamps.npy"
        ...     np.save(stamps, X)
        ...     fitter.save(model)
        ...     run = predict_catalog(model, stamps, out)
        ...     print(run.verify())
        5
        """
        return verify_catalog(self.folder)

    def bad_stamps(self) -> dict[int, str]:
        """Return the stamps that could not be read or measured.

        Returns
        -------
        bad : dict
            The message of the error by row of the source, of all parts that are done.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from sklcae import ProfileFitRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> from sklcae.survey import predict_catalog
        >>> X, y = make_galaxies(5, x0=32.0, y0=32.0, random_state=0)
        >>> X = X.reshape(-1, 1, 64, 64)
        >>> fitter = ProfileFitRegressor(psf=0.7, pixel_scale=0.2).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     folder, out = Path(folder), Path(folder) / "catalogue"
        ...     model, stamps = folder / "model.sklcae", folder / "stamps.npy"
        ...     np.save(stamps, X)
        ...     fitter.save(model)
        ...     run = predict_catalog(model, stamps, out)
        ...     print(run.bad_stamps())
        {}
        """
        bad: dict[int, str] = {}
        for task in self._tasks():
            if is_done(task):
                bad |= bad_stamps_of(task)
        return bad

    def read(self, columns: Sequence[str] | None = None) -> Table:
        """Read the catalogue, see :func:`read_catalog`.

        Parameters
        ----------
        columns : sequence of str, default=None
            The names of the columns; None reads all.

        Returns
        -------
        table : astropy.table.Table
            The rows of the parts that are done.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from sklcae import ProfileFitRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> from sklcae.survey import predict_catalog
        >>> X, y = make_galaxies(5, x0=32.0, y0=32.0, random_state=0)
        >>> X = X.reshape(-1, 1, 64, 64)
        >>> fitter = ProfileFitRegressor(psf=0.7, pixel_scale=0.2).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     folder, out = Path(folder), Path(folder) / "catalogue"
        ...     model, stamps = folder / "model.sklcae", folder / "stamps.npy"
        ...     np.save(stamps, X)
        ...     fitter.save(model)
        ...     run = predict_catalog(model, stamps, out)
        ...     print(run.read(["object_id", "flux"]).colnames)
        ['object_id', 'flux']
        """
        return read_catalog(self.folder, columns)

    def estimate(self) -> dict[str, Any]:
        """Estimate the cost, from the time of some stamps.

        Returns
        -------
        cost : dict
            "rows", "parts" and "parts_done"; "bytes_in" and "bytes_out", of the stamps
            and of the catalogue before compression; "core_hours" for the parts that are
            missing, from the processor time of 256 stamps in this process.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from sklcae import ProfileFitRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> from sklcae.survey import predict_catalog
        >>> X, y = make_galaxies(5, x0=32.0, y0=32.0, random_state=0)
        >>> X = X.reshape(-1, 1, 64, 64)
        >>> fitter = ProfileFitRegressor(psf=0.7, pixel_scale=0.2).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     folder, out = Path(folder), Path(folder) / "catalogue"
        ...     model, stamps = folder / "model.sklcae", folder / "stamps.npy"
        ...     np.save(stamps, X)
        ...     fitter.save(model)
        ...     run = predict_catalog(model, stamps, out, dry_run=True)
        ...     cost = run.estimate()
        >>> cost["rows"], cost["parts"], cost["parts_done"]
        (5, 1, 0)
        """
        path, opening = self._source
        model = load_by_hash(*self._model)
        with open_stamps(path, **opening) as stamps:
            bytes_in = self.plan.n_rows * bytes_of_row(stamps)
            seconds = self._seconds_of_stamp(model, stamps)
        tasks = self._tasks() if read_plan(self.folder) else []
        done = [task for task in tasks if is_done(task)]
        missing = self.plan.n_rows - sum(len(task.rows) for task in done)
        sizes = {"float64": 8, "int64": 8, "bool": 1, "str": 16}
        width = sum(sizes[column.dtype] for column in self.plan.columns)
        return {
            "rows": self.plan.n_rows,
            "parts": self.plan.n_parts,
            "parts_done": len(done),
            "bytes_in": bytes_in,
            "bytes_out": self.plan.n_rows * width,
            "core_hours": seconds * missing / 3600,
        }

    def _seconds_of_stamp(self, model, stamps):
        """Return the processor time for a stamp."""
        n = min(N_TIMED, self.plan.n_rows)
        if n == 0:
            return 0.0
        if self._polishes:
            model = self._fitter_for(stamps)
        options = self._options._replace(raises=False)
        # The first call has costs of its own.
        read = partial(_read_rows, stamps)
        measure_rows(model, read, range(min(8, n)), options)
        start = time.process_time()
        measure_rows(model, read, range(n), options)
        return (time.process_time() - start) / n


def _read_rows(stamps, rows):
    return stamps[rows.start : rows.stop]


def _check_model(model, stamps, wanted):
    """Raise ValueError unless a model can measure stamps as they are wanted.

    Warns of pixels of another side.
    """
    warn_of_other_pixels(model, stamps)
    planes = tuple(model.planes or ("image",))
    if planes != stamps.planes:
        raise ValueError(
            f"stamps must have the planes of the model, {planes}. Got {stamps.planes}: "
            "name the arrays of missing planes in open_stamps, or set planes to None "
            "there."
        )
    n_features = int(np.prod(stamps.shape[1:]))
    if n_features != model.n_features_in_:
        raise ValueError(
            f"stamps must have the shape of the model, {model.n_features_in_} pixels "
            f"with all planes. Got {stamps.shape[1:]}."
        )
    if not model.target_names_:
        raise ValueError(
            "model_path must be a model with named targets: set target_names before "
            f"its fit. Got one with the names {model.target_names_}."
        )
    _check_columns(wanted["columns"])
    is_fitter = isinstance(model, ProfileFitRegressor)
    names = list(model.target_names_)
    unknown = [
        n for n in [*(wanted["columns"] or ()), *wanted["units"]] if n not in names
    ]
    if unknown:
        raise ValueError(
            f"columns and units must name targets of the model, {names}. Got {unknown}."
        )
    polishes = wanted["polish"] is not None
    if polishes and is_fitter:
        raise ValueError(
            "The 'polish' parameter must be False for a ProfileFitRegressor, which "
            f"fits already. Got {wanted['polish']!r}."
        )
    fits = is_fitter or polishes
    scorer = getattr(model, "estimator_", model)
    if wanted["score"] and not hasattr(scorer, "score_samples"):
        raise ValueError(
            "The 'score' parameter must be False for fits that start from no network. "
            "Got True."
        )
    if wanted["return_cov"] and not fits:
        raise ValueError(
            "The 'return_cov' parameter must be False for a network, which predicts no "
            "covariances: set polish=True. Got True."
        )
    if wanted["return_std"] and not fits:
        model._check_predicts_variance("return_std=True")


def _check_columns(columns):
    if columns is not None and (not columns or len(set(columns)) < len(columns)):
        raise ValueError(
            "The 'columns' parameter must be None or different names, at least one. "
            f"Got {columns}."
        )


def _options_of(model, stamps, wanted):
    """Return the `MeasurementOptions` for the options of `predict_catalog`."""
    names = list(model.target_names_)
    scale = getattr(model, "pixel_scale_", model.pixel_scale)
    columns = wanted["columns"]
    return MeasurementOptions(
        columns=None if columns is None else tuple(columns),
        units=units_of(names, stamps.unit, scale, wanted["units"]),
        return_std=wanted["return_std"],
        return_cov=wanted["return_cov"],
        score=wanted["score"],
        flags=wanted["flags"],
        has_chi_square=wanted["polish"] is not None
        or isinstance(model, ProfileFitRegressor),
        raises=wanted["on_bad_stamp"] == "raise",
    )


def _readable(stamps, n):
    """Return the first n stamps that can be read."""
    rows, found = 0, []
    while len(found) < n and rows < len(stamps):
        with suppress(ValueError):
            found.append(stamps[rows])
        rows += 1
    return np.stack(found)


@contextmanager
def _progress(total, done, verbose):
    """Give a function that advances a progress bar, if there is one."""
    if not verbose:
        yield lambda n: None
        return
    with _library("tqdm").tqdm(total=total, initial=done, unit="stamp") as bar:
        yield bar.update
