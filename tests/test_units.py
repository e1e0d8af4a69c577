"""Quantities are refused, and numbers are checked before they are used."""

import re
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sklcae._units import PlainNumber, as_float, check_no_unit, check_numbers
from tests.quantities import Quantity

ARCMIN = Quantity([1.0, 2.0], "arcmin")
ONE = Quantity(1.0, "arcmin")


@pytest.mark.parametrize("value", [ARCMIN, ONE, [ONE, ONE], (ONE, 2.0), [1.0, ONE]])
def test_quantity_is_refused_with_the_right_unit(value):
    message = (
        "radius must be plain numbers in arcsec. Got a Quantity in arcmin: pass its "
        "numbers by .to_value('arcsec')."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        check_no_unit(value, "radius", "arcsec")


def test_quantity_where_numbers_have_no_unit():
    message = (
        "X must be plain numbers. Got a Quantity without dimension: pass its numbers "
        "by .to_value()."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        check_no_unit(Quantity(1.0, ""), "X")


def test_quantity_of_astropy_is_recognised():
    units = pytest.importorskip("astropy.units")
    for value in ([1, 2] * units.arcmin, 1 * units.arcmin, (1 * units.arcmin, 2)):
        with pytest.raises(TypeError, match=r"Got a Quantity in arcmin"):
            check_no_unit(value, "X")


@pytest.mark.parametrize(
    "value",
    [1, None, "arcmin", [], [1.0, None], np.ones(2), pd.DataFrame({"unit": [1.0]})],
)
def test_anything_else_passes(value):
    check_no_unit(value, "X", "arcsec")


def test_numbers_become_float64():
    assert check_numbers([1, 2], "y").dtype == np.float64
    assert check_numbers(np.ones((2, 3, 4), np.float32), "X").shape == (2, 3, 4)


STRUCTURED = np.zeros(2, dtype=[("flux", float), ("e1", float)])


@pytest.mark.parametrize(
    "value",
    [
        "stamps.fits",
        Path("stamps.fits"),
        {"flux": 1.0},
        [1j],
        [10**400],
        [1.0, [2.0, 3.0]],
        [],
        [np.nan],
        [np.inf],
        STRUCTURED,
        5.0,
        lambda: None,
    ],
)
def test_anything_but_numbers_is_refused_by_name(value):
    message = f"^images must be an array of numbers, got {type(value).__name__}: "
    with pytest.raises(ValueError, match=message):
        check_numbers(value, "images")


def test_masked_entries_and_quantities_are_no_numbers():
    with pytest.raises(ValueError, match="y_true must not have masked entries"):
        check_numbers(np.ma.array([1.0, 2.0], mask=[True, False]), "y_true")
    with pytest.raises(TypeError, match=r"images must be plain numbers in adu\."):
        check_numbers(ARCMIN, "images", unit="adu")


class TestPlainNumber:
    scale = PlainNumber("scale", Real, 0, None, closed="neither", unit="arcsec")
    number = PlainNumber("number", Integral, 1, None, closed="left")

    @pytest.mark.parametrize("value", [1, 0.2, np.float32(0.2), np.int64(3)])
    def test_numbers(self, value):
        assert self.scale.is_satisfied_by(value)

    @pytest.mark.parametrize(
        "value", [True, 10**400, -(10**400), 0, np.inf, np.nan, "1", None, [1.0]]
    )
    def test_no_numbers(self, value):
        assert not self.scale.is_satisfied_by(value)

    def test_whole_numbers(self):
        assert self.number.is_satisfied_by(2)
        assert not self.number.is_satisfied_by(True)
        assert not self.number.is_satisfied_by(2.0)

    def test_quantity(self):
        with pytest.raises(TypeError, match="scale must be plain numbers in arcsec"):
            self.scale.is_satisfied_by(ONE)


def test_numbers_too_large_for_a_float_are_infinite():
    assert (as_float(2), as_float(10**400), as_float(-(10**400))) == (
        2,
        np.inf,
        -np.inf,
    )
