"""The gain: one number for all bands, or one for each."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis.strategies import floats, lists

from sklcae._gain import as_gain, check_gain, gain_of_light
from sklcae._noise import NoiseModel
from tests.quantities import Quantity

GAINS = floats(1e-6, 1e6)


@given(lists(GAINS, min_size=1, max_size=5))
def test_each_band_has_the_noise_of_its_gain(gains):
    check_gain(gains, len(gains), "Owner")
    light = np.full((2, len(gains), 3, 4), 7.0)
    noise = NoiseModel(2.0, gain_of_light(as_gain(gains))).variance(light)
    for band, gain in enumerate(gains):
        expected = NoiseModel(2.0, gain_of_light(as_gain(gain))).variance(light)
        assert np.array_equal(noise[:, band], expected[:, band])


@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Series, np.float32])
def test_any_sequence_becomes_a_tuple_of_floats(kind):
    gains = kind([1, 2, 4])
    check_gain(gains, 3, "Owner")
    assert as_gain(gains) == (1.0, 2.0, 4.0)
    assert set(map(type, as_gain(gains))) == {float}


def test_numbers_and_none_stay():
    for gain in (None, 2, 2.5, np.float32(0.5)):
        check_gain(gain, 3, "Owner")
        assert as_gain(gain) == gain
        assert gain_of_light(as_gain(gain)) == gain


@pytest.mark.parametrize("gain", [[1.0], [1.0, -1.0], {}, [[1.0, 2.0]], [None, 1.0]])
def test_errors_name_the_owner_and_the_bands(gain):
    with pytest.raises(ValueError, match=r"'gain' .*of Owner .*each band: 2 .*Got"):
        check_gain(gain, 2, "Owner")


def test_units_are_refused():
    with pytest.raises(TypeError, match=r"gain .*electron"):
        check_gain(Quantity([1.0, 2.0], "electron / adu"), 2, "Owner")
