"""How often the slow proofs, fuzzing and killing, are repeated."""

import os

__all__ = ["repeats"]

# 1 for a full proof; continuous integration takes less.
SHARE = float(os.environ.get("SKLCAE_SLOW_SHARE", "1"))


def repeats(full_count):
    """Return the number of repeats that the environment asks for, at least 20."""
    return max(20, round(SHARE * full_count))
