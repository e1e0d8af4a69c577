"""Render a chunk of stamps and add noise: the work of one parallel job.

A new worker process imports only this module and its imports, so neither scikit-learn
nor `scipy.stats`. Importing them takes longer than rendering a hundred stamps.
"""

from typing import Any, NamedTuple

import numpy as np

from sklcae.datasets._exposures import Exposure, expose
from sklcae.datasets._psf import effective_psf
from sklcae.datasets._render import render_neighbour, render_stamp


class StampSettings(NamedTuple):
    """All that determines one stamp in one band.

    ``galaxy`` has the Sersic profiles of the central galaxy and ``neighbours`` those of
    other galaxies, each a dict of parameters. ``optics`` and ``detector`` have the
    keyword arguments of `render_stamp` and `add_noise`; a detector of None adds no
    noise. ``defects`` is a `StampDefects` or None.
    """

    galaxy: list
    neighbours: list
    optics: dict
    detector: dict | None
    generator: Any
    defects: Any = None


def make_chunk(chunk, with_psf=False):
    """Return the stamps of a list of `StampSettings`, and their PSFs or None.

    The stamps are an `Exposure` of arrays (n_stamps, height, width), float32 in ADU and
    bool. The PSFs are float32.
    """
    exposures, psfs = [], []
    for stamp in chunk:
        light = _light(stamp)
        exposures.append(expose(light, stamp.detector, stamp.generator, stamp.defects))
        if with_psf:
            psfs.append(effective_psf(stamp.optics["psf"], stamp.optics["image_shape"]))
    images, *masks = zip(*exposures, strict=True)
    masks = [None if one[0] is None else np.stack(one) for one in masks]
    psfs = _as_singles(psfs) if with_psf else None
    return Exposure(_as_singles(images), *masks), psfs


def _light(stamp):
    """Return the light of all galaxies in ADU."""
    light = [render_stamp(row, **stamp.optics) for row in stamp.galaxy]
    light += [render_neighbour(row, **stamp.optics) for row in stamp.neighbours]
    return sum(light[1:], start=light[0])


def _as_singles(images):
    return np.stack(images).astype(np.float32)
