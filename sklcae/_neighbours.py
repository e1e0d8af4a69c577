"""The places of neighbours that the user knows."""

import numpy as np

from sklcae._profiles import CORNER
from sklcae._warning import warn_user

# A neighbour that is nearer to the expected centre of the galaxy, in pixels, is taken
# for the galaxy.
SAME_GALAXY = 1.0


class Places(list):
    """For each stamp the places (k, 2) of its neighbours, in pixels."""


def check_neighbours(neighbours, n_stamps):
    """Return the `Places` of the neighbours of each stamp, or None.

    A table has the columns stamp, x0 and y0. Raises ValueError if it is no such table.
    """
    if neighbours is None or isinstance(neighbours, Places):
        return neighbours
    try:
        columns = [np.asarray(neighbours[name]) for name in ("stamp", "x0", "y0")]
        stamp, x, y = np.array(columns, dtype=np.float64)
    except (KeyError, IndexError, TypeError, ValueError):
        raise ValueError(
            "neighbours must be a table with the columns 'stamp', 'x0' and 'y0', of "
            f"one number for each neighbour. Got {neighbours!r:.80}."
        ) from None
    if stamp.ndim != 1:
        raise ValueError(
            "neighbours must have one number for each neighbour in the columns "
            f"'stamp', 'x0' and 'y0'. Got columns of the shape {stamp.shape}."
        )
    wrong = ~(np.isin(stamp, np.arange(n_stamps)) & np.isfinite(x) & np.isfinite(y))
    if wrong.any():
        index = int(np.argmax(wrong))
        raise ValueError(
            f"neighbours must have stamps from 0 to {n_stamps - 1} and finite places. "
            f"Got stamp={stamp[index]:g}, x0={x[index]:g} and y0={y[index]:g} in row "
            f"{index}."
        )
    places = np.column_stack([x, y]) - CORNER
    return Places(places[stamp == row] for row in range(n_stamps))


def warn_of_galaxies(places, centers):
    """Warn of galaxies that are among their own neighbours.

    ``centers`` are the expected places (2,) of the galaxies, one for each stamp.
    """
    distances = [
        np.hypot(*(near - center).T).min(initial=np.inf)
        for near, center in zip(places, centers, strict=True)
    ]
    same = np.array(distances) < SAME_GALAXY
    if same.any():
        warn_user(
            "neighbours must not contain the galaxies themselves, or they are fitted "
            f"twice. In {same.sum()} of {len(same)} stamps a neighbour is less than "
            f"{SAME_GALAXY:g} pixel from the expected centre of the galaxy, first in "
            f"row {int(np.argmax(same))} of X."
        )
