"""Simulated galaxy stamps with known physical parameters, and their Cramer-Rao bound.

Functions are imported on first access. The worker processes of parallel jobs import
other modules of this package and load scikit-learn only if they need it.
"""

from importlib import import_module

_MODULES = {
    "cramer_rao_bound": "_bounds",
    "make_galaxies": "_galaxies",
    "make_galaxy_variants": "_variants",
    "make_real_galaxies": "_real_galaxies",
    "signal_to_noise": "_signal_to_noise",
}

__all__ = list(_MODULES)


def __getattr__(name):
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
