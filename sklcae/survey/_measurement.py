"""What is measured of each stamp for a catalogue, with a row for every stamp."""

import errno
import warnings
from typing import NamedTuple

import numpy as np

from sklcae._neighbours import Places
from sklcae._profile_fit import ProfileFitRegressor
from sklcae.survey._columns import (
    BAD_STAMP,
    HARMLESS,
    PREFIX,
    columns_of_results,
    flag_names,
    pairs_of,
)

# Errors of the machine or of a program.
NEVER_OF_DATA = (
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    TypeError,
)


class MeasurementOptions(NamedTuple):
    """What a catalogue has of each stamp.

    Parameters
    ----------
    columns : tuple of str or None
        The parameters; None is all targets.
    units : dict
        Units of parameters by name.
    return_std, return_cov, score, flags : bool
        Whether there are errors, covariances, scores and all flags.
    has_chi_square : bool
        Whether the stamps are fitted.
    raises : bool
        Whether a bad stamp is an error.
    """

    columns: tuple | None
    units: dict
    return_std: bool = True
    return_cov: bool = False
    score: bool = False
    flags: bool = False
    has_chi_square: bool = False
    raises: bool = False


def measure_rows(model, read, rows, options, places=None):
    """Return the measured columns of a range of rows, and the errors of bad stamps.

    Rows that cannot be read or measured are found by halving. They are NaN, with the
    flag "bad_stamp".

    Parameters
    ----------
    model : estimator
        A fitted estimator of sklcae.
    read : callable
        Returns the stamps of a range of rows.
    rows : range
        The rows.
    options : MeasurementOptions
        What is measured.
    places : Places or None, default=None
        The places of the neighbours of all stamps, for profile fits.

    Returns
    -------
    results : dict of ndarrays
        The columns by name.
    bad : dict
        The message of the error by row.
    """
    if not len(rows):
        return empty_rows(model, 0, options), {}
    near = None if places is None else Places(places[rows.start : rows.stop])
    try:
        stamps = read_rows(read, rows)
        return measure_stamps(model, stamps, options, near), {}
    except (ArithmeticError, ValueError) as error:
        if options.raises:
            raise
        if len(rows) == 1:
            return bad_rows(model, 1, options), {rows.start: str(error)}
    middle = rows.start + len(rows) // 2
    halves = [range(rows.start, middle), range(middle, rows.stop)]
    first, second = (
        measure_rows(model, read, half, options, places) for half in halves
    )
    return join_results([first[0], second[0]]), {**first[1], **second[1]}


def read_rows(read, rows):
    """Return the stamps of a range of rows; ValueError if their data are damaged.

    Other errors are those of the machine or of a program.
    """
    try:
        return read(rows)
    except Exception as error:
        if _is_of_the_system(error):
            raise
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _is_of_the_system(error):
    """Return whether an error in reading is not the fault of the data.

    Libraries raise OSError without a number for damaged data.
    """
    if isinstance(error, OSError):
        return error.errno is not None and error.errno != errno.EINVAL
    return isinstance(error, NEVER_OF_DATA)


def measure_stamps(model, X, options, neighbours=None):
    """Return the columns of stamps, a dict of arrays (n,)."""
    with warnings.catch_warnings():
        # The catalogue has them as flags and NaN.
        warnings.simplefilter("ignore")
        if isinstance(model, ProfileFitRegressor):
            measured = _fit_stamps(model, X, options, neighbours)
        else:
            measured = _read_stamps(model, X, options)
        if options.score:
            scorer = getattr(model, "estimator_", model)
            measured["score"] = np.asarray(scorer.score_samples(X), dtype=np.float64)
    return _in_order(model, measured, options)


def _read_stamps(model, X, options):
    """Return the results of one pass through a network."""
    targets = model._read_targets(X)
    std = targets.std() if options.return_std else None
    results = _named(model, targets.median(), std, None)
    results |= _flags(model.flags(X)) if options.flags else {}
    empty = _has_no_pixels(model, X)
    results[f"{PREFIX}_no_pixels"] = empty
    results[f"{PREFIX}_outside_training"] = np.asarray(targets.outside) & ~empty
    return results


def _fit_stamps(model, X, options, neighbours):
    """Return the results of profile fits."""
    found = model._measure_all(X, neighbours, flags=options.flags)
    std = np.sqrt(np.diagonal(found.covariance, axis1=1, axis2=2))
    results = _named(model, found.y, std, found.covariance)
    results["chi_square"] = found.chi_square
    empty = _has_no_pixels(model, X)
    if options.flags:
        results |= _flags(found.flags)
    elif hasattr(model.estimator_, "is_outside"):
        outside = model.estimator_.is_outside(X)
        results[f"{PREFIX}_outside_training"] = outside & ~empty
    results[f"{PREFIX}_no_pixels"] = empty
    return results


def _named(model, y, std, covariance):
    results = {}
    names = list(model.target_names_)
    for column, name in enumerate(names):
        results[name] = y[:, column]
        if std is not None:
            results[f"{name}_err"] = std[:, column]
    if covariance is not None:
        for first, second in pairs_of(names):
            place = names.index(first), names.index(second)
            results[f"{first}_{second}_cov"] = covariance[:, *place]
    return results


def _flags(flags):
    return {f"{PREFIX}_{name}": np.asarray(flag) for name, flag in flags.items()}


def _has_no_pixels(model, X):
    n_bands = X.shape[1] // len(model.planes or ("image",)) if X.ndim == 4 else None
    images = X[:, :n_bands].reshape(len(X), -1)
    # Few stamps have a NaN in their first pixel, and the others need no further look.
    empty = np.isnan(images[:, 0])
    empty[empty] = np.isnan(images[empty]).all(axis=1)
    return empty


def _in_order(model, measured, options):
    """Return the columns of the catalogue, with the flag of all flags."""
    n = len(measured[model.target_names_[0]])
    results = empty_rows(model, n, options)
    for name in results:
        if name in measured:
            results[name] = measured[name]
    return _with_summary(results, options)


def _with_summary(results, options):
    names = [n for n in flag_names(options.flags) if n not in HARMLESS]
    flags = [results[f"{PREFIX}_{name}"] for name in names]
    results[PREFIX] = np.logical_or.reduce(flags)
    return results


def empty_rows(model, n, options):
    """Return columns of n rows: NaN, and flags that are not set."""
    fills = {"float64": np.nan, "bool": False}
    return {
        column.name: np.full(n, fills[column.dtype], dtype=column.dtype)
        for column in columns_of_results(options, model.target_names_)
    }


def bad_rows(model, n, options):
    """Return columns of n stamps that cannot be measured."""
    results = empty_rows(model, n, options)
    results[f"{PREFIX}_{BAD_STAMP}"][:] = True
    return _with_summary(results, options)


def join_results(results):
    """Return columns one after another."""
    return {
        name: np.concatenate([result[name] for result in results])
        for name in results[0]
    }
