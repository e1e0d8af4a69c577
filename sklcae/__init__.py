"""Physical parameters of galaxies from their images, and images from parameters.

The estimators and with them PyTorch are imported when they are first asked for.
"""

from importlib import import_module

from sklcae._version import __version__

_MODULES = {
    "ConditionalAutoencoderRegressor": "_conditional_autoencoder",
    "ProfileFitRegressor": "_profile_fit",
    "load_pretrained": "_pretrained",
    "stack_planes": "_planes",
}

__all__ = [*_MODULES, "__version__"]


def __getattr__(name):
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
