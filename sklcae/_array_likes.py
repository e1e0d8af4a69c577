"""Array-likes that NumPy would take for something else: units, masks, names, files."""

import os

import numpy as np

from sklcae._masking import check_not_masked, masked_to_nan
from sklcae._units import check_no_unit


def without_traps(values, name, masked=False):
    """Return an array-like; refuse those that NumPy would take for something else.

    Masked entries become NaN if they are allowed. Arrays of other libraries become
    arrays of NumPy. Tables stay as they are, since they have names.
    """
    if isinstance(values, str | os.PathLike):
        raise TypeError(
            f"{name} must be an array. Got the name {os.fspath(values)!r}: read the "
            "file first, for example by numpy.load or astropy.io.fits.getdata."
        )
    check_no_unit(values, name)
    elements = values if isinstance(values, list | tuple) else ()
    for value in (values, *elements):
        dtype = getattr(value, "dtype", None)
        if hasattr(value, "colnames") or getattr(dtype, "names", None):
            raise TypeError(
                f"{name} must be an array of numbers or a DataFrame. Got a "
                f"{type(value).__name__} with named columns: pass its method "
                "to_pandas(), or a list of its columns by numpy.column_stack."
            )
        if hasattr(value, "mask") and hasattr(value, "uncertainty"):
            raise TypeError(
                f"{name} must be plain numbers. Got a {type(value).__name__}: pass "
                "numpy.ma.masked_array(image.data, image.mask), which keeps its mask."
            )
    shapes = dict.fromkeys(np.shape(v) for v in elements if hasattr(v, "shape"))
    if len(shapes) > 1:
        first, second, *_ = shapes
        raise ValueError(
            f"{name} must have elements of one shape. Got arrays of the shapes {first} "
            f"and {second}."
        )
    if any(isinstance(value, np.ma.MaskedArray) for value in elements):
        values = np.ma.stack(elements)
    if masked:
        return _to_numpy(masked_to_nan(values))
    hint = "fill or drop them first"
    if name == "X":
        hint = "set allow_nan=True if they are masked pixels, or fill them first"
    check_not_masked(values, name, hint)
    return _to_numpy(values)


def _to_numpy(values):
    if isinstance(values, np.ndarray) or not hasattr(values, "__array__"):
        return values
    is_table = hasattr(values, "to_numpy")
    return values if is_table else np.asarray(values)
