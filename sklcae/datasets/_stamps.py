"""Stamps with noise, a chunk of them at a time: the work of one parallel job.

A new process imports only what this file does, so neither scikit-learn nor
`scipy.stats`: they take longer to import than a hundred stamps take to render.
"""

import numpy as np

from sklcae.datasets._noise import add_noise
from sklcae.datasets._render import render_stamp


def make_chunk(rows, optics, detector, generators):
    """Render stamps and add noise.

    Parameters
    ----------
    rows : list of dict
        The physical parameters of each stamp.
    optics : dict
        Keyword arguments of ``render_stamp``.
    detector : dict or None
        Keyword arguments of ``add_noise``; None for no noise.
    generators : list of numpy.random.Generator
        One for each stamp.

    Returns
    -------
    ndarray of shape (len(rows), height * width), float32
        ADU per pixel.
    """
    stamps = [
        _make_stamp(row, optics, detector, generator)
        for row, generator in zip(rows, generators, strict=True)
    ]
    return np.stack(stamps).astype(np.float32).reshape(len(rows), -1)


def _make_stamp(row, optics, detector, generator):
    stamp = render_stamp(row, **optics)
    if detector is None:
        return stamp
    return add_noise(stamp, generator=generator, **detector)
