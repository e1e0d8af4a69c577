"""Render a chunk of stamps and add noise: the work of one parallel job.

A new worker process imports only this module and its imports, so neither scikit-learn
nor `scipy.stats`. Importing them takes longer than rendering a hundred stamps.
"""

import numpy as np

from sklcae.datasets._noise import add_noise
from sklcae.datasets._render import render_stamp


def make_chunk(rows, generators, optics, detector):
    """Return the stamps of a list of parameters as float32 rows of pixels in ADU.

    ``generators`` has one generator for each stamp. ``optics`` and ``detector`` are the
    keyword arguments of ``render_stamp`` and ``add_noise``; a detector of None adds no
    noise.
    """
    stamps = [
        _make_stamp(row, generator, optics, detector)
        for row, generator in zip(rows, generators, strict=True)
    ]
    return np.stack(stamps).astype(np.float32).reshape(len(rows), -1)


def _make_stamp(row, generator, optics, detector):
    stamp = render_stamp(row, **optics)
    if detector is None:
        return stamp
    return add_noise(stamp, generator=generator, **detector)
