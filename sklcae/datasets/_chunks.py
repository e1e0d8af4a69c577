"""Render a chunk of stamps and add noise: the work of one parallel job.

A new worker process imports only this module and its imports, so neither scikit-learn
nor `scipy.stats`. Importing them takes longer than rendering a hundred stamps.
"""

import numpy as np

from sklcae.datasets._noise import add_noise
from sklcae.datasets._psf import effective_psf
from sklcae.datasets._render import render_stamp


def make_chunk(rows, generators, optics, detectors, with_psf=False):
    """Return the stamps of a list of parameters, and their PSFs or None.

    Both are float32, (n_stamps, height, width), the stamps in ADU. ``generators``,
    ``optics`` and ``detectors`` have one item for each stamp: a generator, and the
    keyword arguments of ``render_stamp`` and ``add_noise``; a detector of None adds no
    noise.
    """
    stamps, psfs = [], []
    for row, generator, one, detector in zip(
        rows, generators, optics, detectors, strict=True
    ):
        stamps.append(_make_stamp(row, generator, one, detector))
        if with_psf:
            psfs.append(effective_psf(one["psf"], one["image_shape"]))
    return _as_singles(stamps), _as_singles(psfs) if with_psf else None


def _make_stamp(row, generator, optics, detector):
    stamp = render_stamp(row, **optics)
    if detector is None:
        return stamp
    return add_noise(stamp, generator=generator, **detector)


def _as_singles(images):
    return np.stack(images).astype(np.float32)
