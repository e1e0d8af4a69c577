"""Sky, Poisson and read noise of a CCD."""

import numpy as np

from sklcae._noise import NoiseModel


def add_noise(stamp, *, sky_level, gain, read_noise, generator):
    """Return a stamp in ADU with noise and with the mean sky subtracted.

    The variance of a pixel is (stamp + sky_level) / gain + (read_noise / gain)^2
    in ADU^2, as in ``galsim.CCDNoise``.
    """
    # Fourier ringing can make a pixel slightly negative; a Poisson mean cannot be.
    electrons = np.clip(stamp + sky_level, 0.0, None) * gain
    noisy = generator.poisson(electrons) / gain - sky_level
    if read_noise > 0:
        noisy += generator.normal(scale=read_noise / gain, size=noisy.shape)
    return noisy


def noise_variance(stamp, *, sky_level, gain, read_noise):
    """Return the variance of the noise of each pixel in ADU squared."""
    background = (read_noise / gain) ** 2
    return NoiseModel(background, gain).variance(stamp + sky_level)


def background_variance(*, sky_level, gain, read_noise):
    """Return the variance of a pixel without light in ADU squared."""
    return sky_level / gain + (read_noise / gain) ** 2


def inverse_variance(stamp, *, gain, sky_level=0.0, read_noise=0.0, background=None):
    """Return the inverse variance of each pixel, or 0 if the variance is 0.

    ``background`` is the variance of each pixel without light, in ADU squared, instead
    of sky level and read noise.
    """
    light = stamp
    if background is None:
        background, light = (read_noise / gain) ** 2, stamp + sky_level
    variance = NoiseModel(background, gain).variance(light)
    return np.divide(1.0, variance, out=np.zeros_like(variance), where=variance > 0)
