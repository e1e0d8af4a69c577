"""Rules for nested values from any source.

A table is a dict of rules, one for each name that a dict must have, and of tables for
the dicts in it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sklcae._storage.archive import short_repr
from sklcae._version import __version__
from sklcae.exceptions import ModelFileError


class Rule(NamedTuple):
    """The allowed values, in words and as a function."""

    wanted: str
    holds: Callable
    required: bool = True


def check_table(values, rules, part):
    """Raise ModelFileError unless values are a dict that keeps the rules of a table."""
    if not isinstance(values, dict):
        raise ModelFileError(f"{part!r} must be a dict, not {short_repr(values)}")
    for name, rule in rules.items():
        if isinstance(rule, dict) and name in values:
            check_table(values[name], rule, name)
        elif name in values and not rule.holds(values[name]):
            raise ModelFileError(
                f"{name!r} in {part} must be {rule.wanted}, not "
                f"{_described(values[name])}"
            )
    missing = [n for n in rules if getattr(rules[n], "required", 1) and n not in values]
    unknown = [name for name in values if name not in rules]
    if missing or unknown:
        raise ModelFileError(
            f"{part} lacks {short_repr(missing)} and has {short_repr(unknown)}, which "
            f"sklcae {__version__} does not know"
        )


def _described(value):
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of the shape {value.shape}"
    return short_repr(value)


def wrong_arrays(part, arrays, specs):
    """Yield an error unless arrays have the names, shapes and types of the specs."""
    found = specs_of(arrays)
    names = sorted({*found, *specs})
    wrong = [name for name in names if found.get(name) != specs.get(name)]
    if wrong:
        yield (
            f"its {part} {short_repr(wrong)} are missing, unknown, or not of the "
            "shape and type of the network"
        )


def specs_of(arrays):
    """Return shape and type of each array."""
    return {name: (array.shape, array.dtype.name) for name, array in arrays.items()}


def is_integer(value):
    """Return whether this is an int of 64 bits."""
    return type(value) is int and -(2**63) <= value < 2**63


def is_count(value):
    """Return whether this is a positive int of 64 bits."""
    return is_integer(value) and value > 0


def is_number(value):
    """Return whether this is a number, of Python or NumPy, that fits a float."""
    return isinstance(value, float | np.floating | np.integer) or is_integer(value)


def is_positive(value):
    """Return whether this is a positive finite number."""
    return is_number(value) and 0 < value < np.inf


def is_names(value):
    """Return whether this is a list of str."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def is_array(value, *dtypes):
    """Return whether this is an array of one of some types."""
    return isinstance(value, np.ndarray) and value.dtype in dtypes


def none_or(wanted, holds):
    """Return the rule that allows None too."""
    return Rule(f"None or {wanted}", lambda value: value is None or holds(value))


COUNT = Rule("a positive integer", is_count)
SEED = Rule("an integer of 31 bits", lambda v: is_integer(v) and 0 <= v < 2**31)
BOOL = Rule("True or False", lambda value: isinstance(value, bool))
TRUE = Rule("True", lambda value: value is True)
TEXT = Rule("a str", lambda value: isinstance(value, str))
DICT = Rule("a dict", lambda value: isinstance(value, dict))
FLOATS = Rule(
    "an array of floats", lambda value: is_array(value, np.float32, np.float64)
)
SINGLES = Rule("an array of float32", lambda value: is_array(value, np.float32))
DOUBLES = Rule("an array of float64", lambda value: is_array(value, np.float64))
ARRAYS = Rule(
    "a dict of arrays",
    lambda value: (
        isinstance(value, dict)
        and all(isinstance(array, np.ndarray) for array in value.values())
    ),
)
