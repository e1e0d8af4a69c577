"""Independent random generators for the stamps of a call, from one random_state."""

from enum import IntEnum

import numpy as np
from sklearn.utils import check_random_state


class Stream(IntEnum):
    """The uses of random numbers within a stamp, each with numbers of its own.

    Add new uses at the end, so that old seeds still give the same galaxies.
    """

    PARAMETERS = 0
    NOISE = 1
    TELESCOPE = 2
    BULGES = 3
    NEIGHBOUR_COUNTS = 4
    NEIGHBOURS = 5
    COLORS = 6
    NEIGHBOUR_COLORS = 7
    SKY = 8
    COSMIC_RAYS = 9
    DEAD_COLUMNS = 10


def draw_entropy(random_state):
    """Turn a scikit-learn random_state into the entropy that all stamps share.

    A RandomState instance is advanced, as in every scikit-learn function.
    """
    words = check_random_state(random_state).randint(2**32, size=4, dtype=np.uint32)
    return tuple(int(word) for word in words)


def stamp_generator(entropy, index, stream, band=0):
    """Return the generator of one stamp, independent of all other stamps.

    ``stream`` separates the uses within a stamp, such as parameters and noise, and
    ``band`` the bands of a stamp. The first band has the numbers of a single band.
    """
    key = (index, int(stream), band) if band else (index, int(stream))
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=key))


def draw_uniforms(n_samples, n_numbers, *, entropy, stream, band=0):
    """Return random numbers from 0 to 1, a row of n_numbers for each stamp."""
    uniforms = np.empty((n_samples, n_numbers))
    for index in range(n_samples):
        generator = stamp_generator(entropy, index, stream, band)
        uniforms[index] = generator.random(n_numbers)
    return uniforms
