"""Names, units and numbers, as the displays write them."""

import numpy as np
import pytest

from sklcae.datasets._parameters import COLUMNS
from sklcae.inspection._labels import label_of, number_text, row_texts


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("flux", "flux [ADU]"),
        ("half_light_radius", "half-light radius [arcsec]"),
        ("sersic_index", "Sersic index"),
        ("x0", "x0 [pixel]"),
        ("e1", "e1"),
        ("target 0", "target 0"),
        ("stellar_mass", "stellar mass"),
        ("flux [uJy]", "flux [uJy]"),
        (r"$\log_{10} M_\star$", r"$\log_{10} M_\star$"),
        ("z_phy0", "z_phy0"),
        ("z_rest12", "z_rest12"),
    ],
)
def test_label(name, label):
    assert label_of(name) == label


def test_labels_of_simulated_targets_have_no_underscores():
    assert not any("_" in label_of(name) for name in COLUMNS)


def test_number_text():
    numbers = [12_345.6, 999.4, 0.12345, -2.0, np.nan]
    texts = ["12,346", "999", "0.123", "-2", "nan"]
    assert [number_text(number) for number in numbers] == texts


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([3416.2, 45_098.7], ["3,416", "45,099"]),
        ([0.3, 1.0, 4.75], ["0.30", "1.00", "4.75"]),
        ([-0.25, -1e-9, 0.25], ["-0.250", "0.000", "0.250"]),
        ([2.9, 30.84, 58.7], ["2.9", "30.8", "58.7"]),
        ([1.5], ["1.5"]),
        ([7.0, 7.0], ["7", "7"]),
    ],
)
def test_numbers_of_a_row(values, texts):
    assert row_texts(np.array(values)) == texts
