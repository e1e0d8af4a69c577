"""Physical parameters of galaxies from their images, and images from parameters.

The estimators and with them PyTorch are imported when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sklcae._version import __version__

if TYPE_CHECKING:
    from sklcae._conditional_autoencoder import ConditionalAutoencoderRegressor
    from sklcae._planes import stack_planes
    from sklcae._pretrained import load_pretrained
    from sklcae._profile_fit import ProfileFitRegressor

_MODULES = {
    "ConditionalAutoencoderRegressor": "_conditional_autoencoder",
    "ProfileFitRegressor": "_profile_fit",
    "load_pretrained": "_pretrained",
    "stack_planes": "_planes",
}

__all__ = [
    "ConditionalAutoencoderRegressor",
    "ProfileFitRegressor",
    "__version__",
    "load_pretrained",
    "stack_planes",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
