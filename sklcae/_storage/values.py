"""Nested plain values and arrays, split into JSON and arrays.

JSON has no tuples, no infinity and no arrays. A list and a number are stored as they
are, and every JSON object has one key, the kind of value that it stands for::

    {"dict": {...}}     a dict
    {"tuple": [...]}    a tuple
    {"float": "nan"}    a float that is not finite
    {"array": name}     an array
    {"scalar": name}    a NumPy scalar, kept as an array without axes
"""

from math import isfinite

import numpy as np

from sklcae._storage.archive import DTYPES, short_repr
from sklcae.exceptions import ModelFileError

FLOATS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def pack(value):
    """Split a value into JSON and a dict of arrays, named by the path to them.

    The value may be None, bool, int, float, str, a NumPy scalar or an array of one of
    the types of an archive, or a list, a tuple or a dict (with str as keys) of such.
    TypeError is raised if it contains anything else.
    """
    arrays = {}
    return _pack(value, "", arrays), arrays


def unpack(packed, arrays):
    """Restore a value that `pack` has split; the JSON may come from any source.

    ModelFileError is raised if `pack` cannot have made it. An array must be used once.
    """
    left = dict(arrays)
    value = _unpack(packed, left)
    if left:
        raise ModelFileError(f"it has arrays without a place: {short_repr(list(left))}")
    return value


def _pack(value, name, arrays):
    if isinstance(value, np.generic) and value.dtype not in DTYPES.values():
        value = value.item()
    if isinstance(value, np.ndarray | np.generic):
        return _pack_array(value, name, arrays)
    if isinstance(value, float) and not isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        items = [_pack(item, _join(name, i), arrays) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        items = {k: _pack(item, _join(name, k), arrays) for k, item in value.items()}
        return {"dict": items}
    raise TypeError(
        f"{name or 'The value'} must be made of plain values and arrays. Got "
        f"{short_repr(value)}."
    )


def _join(name, key):
    return f"{name}/{key}" if name else str(key)


def _pack_array(value, name, arrays):
    if value.dtype not in DTYPES.values():
        raise TypeError(
            f"{name or 'The value'} must be of one of the types "
            f"{[str(dtype) for dtype in DTYPES.values()]}. Got {value.dtype}."
        )
    if name in arrays:
        raise ValueError(f"Two arrays would have the name {name!r}.")
    arrays[name] = np.asarray(value)
    return {"array" if isinstance(value, np.ndarray) else "scalar": name}


def _unpack(packed, arrays):
    if isinstance(packed, list):
        return [_unpack(item, arrays) for item in packed]
    if not isinstance(packed, dict):
        return packed
    [tag] = packed if len(packed) == 1 else [None]
    if tag not in UNPACKERS:
        raise ModelFileError(
            f"its manifest has an object with the keys {short_repr(list(packed))}, "
            f"which must have one of {list(UNPACKERS)}"
        )
    return UNPACKERS[tag](packed[tag], arrays)


def _unpack_dict(content, arrays):
    _check_kind(content, dict)
    return {key: _unpack(item, arrays) for key, item in content.items()}


def _unpack_tuple(content, arrays):
    _check_kind(content, list)
    return tuple(_unpack(item, arrays) for item in content)


def _unpack_float(content, arrays):
    _check_kind(content, str)
    if content not in FLOATS:
        raise ModelFileError(f"its manifest has the float {short_repr(content)}")
    return FLOATS[content]


def _unpack_array(content, arrays):
    _check_kind(content, str)
    if content not in arrays:
        raise ModelFileError(
            f"it lacks the array {short_repr(content)}, or has two places for it"
        )
    return arrays.pop(content)


def _unpack_scalar(content, arrays):
    array = _unpack_array(content, arrays)
    if array.ndim:
        raise ModelFileError(f"its array {short_repr(content)} is not a scalar")
    return array[()]


def _check_kind(content, kind):
    if not isinstance(content, kind):
        raise ModelFileError(
            f"its manifest has {short_repr(content)} in place of a {kind.__name__}"
        )


UNPACKERS = {
    "dict": _unpack_dict,
    "tuple": _unpack_tuple,
    "float": _unpack_float,
    "array": _unpack_array,
    "scalar": _unpack_scalar,
}
