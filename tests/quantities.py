"""A stand-in for astropy's Quantity; astropy need not be installed."""

import numpy as np


class Quantity:
    """Numbers with a unit, which NumPy turns into plain numbers."""

    def __init__(self, value, unit):
        self.value, self.unit = value, unit

    def to_value(self, unit):
        raise NotImplementedError

    def __array__(self, dtype=None, copy=None):
        return np.array(self.value, dtype=dtype)
