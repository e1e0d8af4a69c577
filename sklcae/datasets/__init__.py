"""Simulated galaxy stamps with known physical parameters, and what they can tell.

A function is imported when it is first asked for, so that parallel jobs, which run
other files of this folder, need not import it and scikit-learn.
"""

from importlib import import_module

_MODULES = {
    "cramer_rao_bound": "_bounds",
    "make_galaxies": "_galaxies",
    "make_galaxy_variants": "_variants",
    "signal_to_noise": "_bounds",
}

__all__ = [
    "cramer_rao_bound",
    "make_galaxies",
    "make_galaxy_variants",
    "signal_to_noise",
]


def __getattr__(name):
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
