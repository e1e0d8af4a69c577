"""Independent random generators for the stamps of a call, from one random_state."""

import numpy as np
from sklearn.utils import check_random_state


def draw_entropy(random_state):
    """Turn a scikit-learn random_state into the entropy that all stamps share.

    A RandomState instance is advanced, as in every scikit-learn function.
    """
    words = check_random_state(random_state).randint(2**32, size=4, dtype=np.uint32)
    return tuple(int(word) for word in words)


def stamp_generator(entropy, index, stream):
    """Return the generator of one stamp, independent of all other stamps.

    ``stream`` separates the uses within a stamp, such as parameters and noise.
    """
    seed = np.random.SeedSequence(entropy, spawn_key=(index, stream))
    return np.random.default_rng(seed)
