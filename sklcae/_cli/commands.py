"""The commands of the command line. Each takes its arguments and returns a report."""

import inspect
import json
import os
from contextlib import ExitStack, closing, contextmanager, suppress
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from sklcae._compat import import_optional
from sklcae._conditional_autoencoder import ConditionalAutoencoderRegressor
from sklcae._pretrained import SUFFIX
from sklcae._storage.model import load_model
from sklcae.survey import (
    measure as measure_image,
)
from sklcae.survey import (
    open_stamps,
    predict_catalog,
    read_catalog,
    simulate_stamps,
    verify_catalog,
    write_catalog,
)
from sklcae.survey._catalog_file import BIT_MASK
from sklcae.survey._columns import PREFIX
from sklcae.survey._formats import open_contents
from sklcae.survey._plan import read_plan
from sklcae.survey._simulate import check_simulation

# Parameters of functions that have arguments of their own.
OF_SIMULATE = {
    "path": "OUT",
    "n_samples": "-n",
    "random_state": "--seed",
    "client": "--workers or --scheduler",
    "rows_per_part": "--rows-per-part",
    "verbose": "--quiet",
}
OF_MEASURE = {
    "model": "MODEL",
    "image": "IMAGE",
    "positions": "--positions",
    "wcs": "the WCS of IMAGE",
    **{
        name: f"--{name}"
        for name in (
            *("size", "gain", "hdu", "weight", "variance", "mask", "psf"),
            *("background",),
        )
    },
    "flags": "--no-flags",
}
CATALOGUES = (".parquet", ".fits")
# Dask looks at the stack of a worker a hundred times a second, for its dashboard.
UNWATCHED = {"distributed.worker.profile.enabled": False}
# Fractions of a core-hour cost so much to read.
DIGITS = 4


@contextmanager
def _client(options):
    """Connect to the cluster of the arguments; None is this process."""
    is_cluster = options.scheduler or options.scheduler_file or options.workers
    if not is_cluster:
        yield None
        return
    distributed = import_optional("distributed", extra="survey", purpose="A cluster")
    if options.workers:
        cluster = distributed.LocalCluster(
            n_workers=options.workers,
            threads_per_worker=1,
            dashboard_address=":0",
            config=UNWATCHED,
        )
        with cluster, distributed.Client(cluster) as client:
            yield client
        return
    with distributed.Client(
        address=options.scheduler, scheduler_file=options.scheduler_file
    ) as client:
        yield client


@contextmanager
def _model_file(name):
    """Give the path of a model: a file, or one that comes with the package."""
    shipped = files("sklcae") / "weights" / f"{name}{SUFFIX}"
    if not Path(name).exists() and os.sep not in name and shipped.is_file():
        with as_file(shipped) as path:
            yield path
    else:
        yield Path(name)


def _given(options, *names):
    """Return those of some arguments that are given, by name."""
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _opening(options):
    """Return the options of `open_stamps` by name, or raise ValueError."""
    names = list(inspect.signature(open_stamps).parameters)[1:]
    _check_names("--open", options.open, names)
    return dict(options.open)


def _check_names(argument, given, names):
    """Raise ValueError if an argument NAME=VALUE has another name than these."""
    for name in dict(given):
        if name not in names:
            raise ValueError(
                f"{argument} must have one of the names {list(names)}. Got {name!r}."
            )


def _settings(options, arguments):
    """Return the parameters of --set, but those that have arguments of their own."""
    for name, _ in options.set:
        if name in arguments:
            raise ValueError(
                f"--set must not have a parameter with an argument of its own: "
                f"{name!r} is {arguments[name]}."
            )
    return dict(options.set)


def _check_new(path, name, overwrite, ends=None):
    """Raise an error unless a file can be made, before any work."""
    if Path(path).exists() and not overwrite:
        raise FileExistsError(
            f"{name} must be a new file, unless there is --overwrite. Got {path!r}."
        )
    if ends is not None and not path.lower().endswith(ends):
        raise ValueError(
            f"{name} must have a name that ends in one of {', '.join(ends)}. Got "
            f"{path!r}."
        )
    if Path(path).is_dir() or not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(
            f"{name} must be a file in a folder that exists. Got {path!r}."
        )


def simulate(options):
    """Simulate stamps into a Zarr store."""
    settings = {
        **_given(options, "targets", "planes"),
        **_settings(options, OF_SIMULATE),
    }
    settings = {name: _as_tuple(value) for name, value in settings.items()}
    rows = {} if options.rows_per_part is None else _given(options, "rows_per_part")
    if options.dry_run:
        part = options.rows_per_part or "auto"
        check_simulation(options.out, options.n_samples, options.seed, part, settings)
        return _cost_of_simulation(options, settings)
    with (
        _client(options) as client,
        simulate_stamps(
            options.out,
            options.n_samples,
            options.seed,
            client=client,
            verbose=not options.quiet,
            **rows,
            **settings,
        ) as stamps,
    ):
        return _of_stamps(stamps)


def _as_tuple(value):
    """Return a list of JSON as the range that make_galaxies takes."""
    return tuple(value) if isinstance(value, list) else value


def _cost_of_simulation(options, settings):
    """Return what the simulation costs, from the time of a few stamps."""
    import time

    from sklcae.datasets import make_galaxies

    n = min(50, max(1, options.n_samples))
    start = time.process_time()
    galaxies = make_galaxies(n, random_state=options.seed, return_X_y=False, **settings)
    seconds = (time.process_time() - start) / n
    return {
        "rows": options.n_samples,
        "bytes_out": galaxies.data[0].nbytes * options.n_samples,
        "core_hours": round(seconds * options.n_samples / 3600, DIGITS),
    }


def train(options):
    """Train a model on stamps with targets, and save it."""
    settings = {"random_state": options.seed, "verbose": int(not options.quiet)}
    parameters = inspect.signature(ConditionalAutoencoderRegressor).parameters
    _check_names("--set", options.set, parameters)
    settings |= dict(options.set)
    _check_new(options.model, "MODEL", options.overwrite)
    opening, given = _opening(options), settings.get("target_names")
    with ExitStack() as files:
        stamps = files.enter_context(open_stamps(options.stamps, **opening))
        names = _names_of(stamps, given, options.stamps)
        test = None
        if options.test:
            test = files.enter_context(open_stamps(options.test, **opening))
            order = _order_of(test, names, given, options.test)
        y = np.asarray(stamps.target)
        settings = {**_known_of(stamps), "target_names": names, **settings}
        make = ConditionalAutoencoderRegressor
        model = (make if options.plain else make.recommended)(**settings)
        model.fit(stamps, y)
        model.save(options.model)
        names = list(model.target_names_)
        report = {"model": options.model, "epochs": model.n_iter_, "targets": names}
        if test is not None:
            report["r2"] = _r2_of(model, test, order)
    return report


def _known_of(stamps):
    """Return the parameters of a model that a file of stamps knows."""
    settings = {name: getattr(stamps, name) for name in ("pixel_scale", "gain")}
    known = {name: value for name, value in settings.items() if value is not None}
    return {"planes": stamps.planes, **known}


def _names_of(stamps, given, path):
    """Return the names of the targets of a file, or those that are given."""
    target = stamps.target
    if target is None:
        raise ValueError(
            f"STAMPS must have targets: an array or columns that --open target=NAME "
            f"names. Got {path!r} without them."
        )
    names = stamps.target_names or given
    n_targets = 1 if target.ndim == 1 else target.shape[1]
    if isinstance(names, list) and len(names) == n_targets:
        return list(names)
    raise ValueError(
        f"The {n_targets} targets in {path!r} must have a name each. Use --set "
        f"target_names='[\"flux\", ...]', a list in JSON. Got {names!r}."
    )


def _order_of(test, names, given, path):
    """Return the columns of the targets of other stamps in the order of the names."""
    others = _names_of(test, given if test.target_names is None else None, path)
    if test.target_names is None:
        # They have the order of --set target_names, as the others.
        return list(range(len(others)))
    if sorted(others) != sorted(names):
        raise ValueError(
            f"--test must have the targets {names} of STAMPS. Got {path!r} with "
            f"{others}."
        )
    return [others.index(name) for name in names]


def _r2_of(model, stamps, order):
    """Return R2 by target."""
    from sklearn.metrics import r2_score

    y = np.reshape(stamps.target, (len(stamps), -1))[:, order]
    y_pred = np.reshape(model.predict(stamps), y.shape)
    scores = r2_score(y, y_pred, multioutput="raw_values")
    return dict(zip(model.target_names_, map(float, scores), strict=True))


def predict(options):
    """Measure all stamps of a file into a catalogue."""
    polish = dict(options.polish_set) or options.polish
    with (
        _model_file(options.model) as path,
        open_stamps(options.stamps, **_opening(options)) as stamps,
    ):
        run = predict_catalog(
            path,
            stamps,
            options.out,
            columns=options.columns,
            units=dict(options.unit),
            return_std=not options.no_std,
            return_cov=options.cov,
            score=options.score,
            polish=polish,
            flags=options.flags,
            rows_per_part=options.rows_per_part or "auto",
            on_bad_stamp=options.on_bad_stamp,
            dry_run=True,
        )
        if options.dry_run:
            cost = run.estimate()
            return {**cost, "core_hours": round(cost["core_hours"], DIGITS)}
        with _client(options) as client:
            run.run(client, verbose=not options.quiet)
        return {
            "catalogue": str(run.folder),
            "rows": run.plan.n_rows,
            "parts": run.plan.n_parts,
            "bad_stamps": len(run.bad_stamps()),
            "failed": run.failed,
        }


def measure(options):
    """Measure the galaxies of a survey image into a catalogue."""
    _check_new(options.out, "OUT", options.overwrite, CATALOGUES)
    settings = _measure_settings(options)
    parts = _given(options, "weight", "variance", "mask", "background", "psf", "hdu")
    parts = {name: _as_number(value) for name, value in parts.items()}
    with _model_file(options.model) as path:
        catalog = measure_image(
            load_model(path),
            options.image,
            options.positions,
            size=options.size,
            gain=options.gain,
            flags=not options.no_flags,
            **parts,
            **settings,
        )
    write_catalog(catalog, options.out, overwrite=options.overwrite)
    flagged = int(np.sum(catalog["sklcae_flag"]))
    return {"catalogue": options.out, "rows": len(catalog), "flagged": flagged}


def _measure_settings(options):
    """Return the parameters of `measure` without an argument of their own."""
    settings = {"polish": not options.no_polish, **_settings(options, OF_MEASURE)}
    parameters = inspect.signature(measure_image).parameters
    names = [name for name in parameters if name not in OF_MEASURE]
    _check_names("--set", settings, names)
    if options.no_polish and settings["polish"]:
        raise ValueError("--set must not have polish with --no-polish. Got both.")
    return settings


def _as_number(text):
    """Return a value of JSON or another number, such as .8, if the text is one."""
    for read in (json.loads, float):
        with suppress(ValueError):
            return read(text)
    return text


def export(options):
    """Export a model to ONNX, or a catalogue to one file."""
    _check_new(options.out, "OUT", options.overwrite, (".onnx", *CATALOGUES))
    if options.out.endswith(".onnx"):
        with _model_file(options.source) as path:
            model = load_model(path)
        if not isinstance(model, ConditionalAutoencoderRegressor):
            raise TypeError(
                "MODEL must be a ConditionalAutoencoderRegressor: profile fits cannot "
                f"be exported. Got a {type(model).__name__} in {options.source!r}."
            )
        model.to_onnx(options.out)
    else:
        table = read_catalog(options.source)
        write_catalog(table, options.out, overwrite=options.overwrite)
    return {"written": options.out, "bytes": Path(options.out).stat().st_size}


def info(options):
    """Describe a model, a file of stamps or a catalogue."""
    path = Path(options.file)
    if read_plan(path) is not None:
        return _of_catalog(path)
    with _model_file(options.file) as model_path:
        if model_path.suffix == SUFFIX:
            return _of_model(load_model(model_path))
    with closing(open_contents(path)) as contents:
        if {PREFIX, BIT_MASK} & set(contents.arrays):
            return _of_table(contents.arrays)
    with open_stamps(path, **_opening(options)) as stamps:
        return _of_stamps(stamps)


def _of_catalog(folder):
    plan = read_plan(folder)
    parts = len(list(folder.glob("part-*.parquet")))
    failed = folder / "_failed.json"
    return {
        "kind": "catalogue",
        "rows": plan.n_rows,
        "parts": plan.n_parts,
        "parts_done": parts,
        "complete": (folder / "_SUCCESS").exists(),
        "failed_parts": json.loads(failed.read_text()) if failed.exists() else [],
        "source": plan.source.get("name"),
        "columns": [column.name for column in plan.columns],
    }


def _of_table(columns):
    """Describe a catalogue in one file."""
    names = list(columns)
    rows = columns[names[0]].shape[0]
    return {"kind": "catalogue", "rows": rows, "columns": names}


def _of_model(model):
    report = {
        "kind": type(model).__name__,
        "targets": list(model.target_names_ or ()),
        "planes": list(model.planes or ("image",)),
        "shape": list(model.image_shape_),
        "pixel_scale": model.pixel_scale_,
        "gain": model.gain_,
    }
    if isinstance(model, ConditionalAutoencoderRegressor):
        report |= {
            "network": str(model.network),
            "epochs": model.n_iter_,
            "errors": model.physical_loss == "gaussian_likelihood",
        }
    return report


def _of_stamps(stamps):
    return {
        "kind": "stamps",
        "rows": len(stamps),
        "shape": list(stamps.shape[1:]),
        "planes": list(stamps.planes),
        "unit": stamps.unit,
        "pixel_scale": stamps.pixel_scale,
        "gain": stamps.gain,
        "positions": stamps.ra is not None,
        "targets": list(stamps.target_names or ()),
        "rows_in_chunk": stamps.chunks[0],
    }


def verify(options):
    """Check that a catalogue is complete and undamaged."""
    return {"catalogue": options.out, "rows": verify_catalog(options.out)}
