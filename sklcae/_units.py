"""Plain numbers: a Quantity is refused, because NumPy would drop its unit silently."""

import math

import numpy as np
from sklearn.utils import check_array

from sklcae._compat import Interval
from sklcae._masking import check_not_masked


def check_no_unit(value, name, unit=None):
    """Raise TypeError if a value, or an element of a list or tuple, is a Quantity.

    ``unit`` is the unit of the plain numbers as astropy writes it, if they have one.
    A Quantity is recognised by its attributes, without importing astropy.
    """
    elements = value if isinstance(value, (list, tuple)) else ()
    for one in (value, *elements):
        if hasattr(one, "unit") and hasattr(one, "to_value"):
            wanted, call = (f" in {unit}", f"{unit!r}") if unit else ("", "")
            # A dimensionless unit is written as an empty string.
            got = f"in {one.unit}" if str(one.unit) else "without dimension"
            raise TypeError(
                f"{name} must be plain numbers{wanted}. Got a Quantity {got}: pass its "
                f"numbers by .to_value({call})."
            )


def check_numbers(values, name, *, unit=None, **options):
    """Return an array of float64. The options are parameters of `check_array`."""
    check_no_unit(values, name, unit)
    check_not_masked(values, name)
    options = {"ensure_2d": False, "allow_nd": True, **options}
    try:
        return check_array(values, dtype=np.float64, input_name=name, **options)
    except (OverflowError, TypeError, ValueError) as error:
        # Most messages of NumPy and scikit-learn do not name the array.
        raise ValueError(
            f"{name} must be an array of numbers, got {type(values).__name__}: {error}"
        ) from error


def as_float(number):
    """Return a real number as a float, infinite if it is too large for one."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


class PlainNumber(Interval):
    """Constraint of a parameter: a number in an interval, not a bool or a Quantity."""

    def __init__(self, name, type, left, right, *, closed, unit=None):
        super().__init__(type, left, right, closed=closed)
        self.name = name
        self.unit = unit

    def is_satisfied_by(self, val):
        """Return whether a value is allowed, or raise TypeError for a Quantity."""
        check_no_unit(val, self.name, self.unit)
        is_number = isinstance(val, self.type) and not isinstance(val, bool)
        return is_number and as_float(val) in self
