"""Simulated galaxy stamps with known physical parameters.

The function is imported when it is first asked for, so that parallel jobs, which run
other files of this folder, need not import it and scikit-learn.
"""

__all__ = ["make_galaxies"]


def __getattr__(name):
    if name == "make_galaxies":
        from sklcae.datasets._galaxies import make_galaxies

        return make_galaxies
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
