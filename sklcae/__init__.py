"""Physical parameters of galaxies from their images, and images from parameters.

The estimator and with it PyTorch are imported when they are first asked for.
"""

from sklcae._version import __version__

__all__ = ["ConditionalAutoencoderRegressor", "__version__"]


def __getattr__(name):
    if name == "ConditionalAutoencoderRegressor":
        from sklcae._conditional_autoencoder import ConditionalAutoencoderRegressor

        return ConditionalAutoencoderRegressor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
