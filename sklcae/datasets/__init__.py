"""Simulated galaxy stamps with known physical parameters, and their Cramer-Rao bound.

Functions are imported on first access. The worker processes of parallel jobs import
other modules of this package and load scikit-learn only if they need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklcae.datasets._bounds import cramer_rao_bound
    from sklcae.datasets._galaxies import make_galaxies
    from sklcae.datasets._real_galaxies import make_real_galaxies
    from sklcae.datasets._signal_to_noise import signal_to_noise
    from sklcae.datasets._variants import make_galaxy_variants

_MODULES = {
    "cramer_rao_bound": "_bounds",
    "make_galaxies": "_galaxies",
    "make_galaxy_variants": "_variants",
    "make_real_galaxies": "_real_galaxies",
    "signal_to_noise": "_signal_to_noise",
}

__all__ = [
    "cramer_rao_bound",
    "make_galaxies",
    "make_galaxy_variants",
    "make_real_galaxies",
    "signal_to_noise",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
