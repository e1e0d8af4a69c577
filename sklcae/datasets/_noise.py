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


def inverse_variance(stamp, *, sky_level, gain, read_noise):
    """Return the inverse variance of each pixel, or 0 if the variance is 0."""
    noise = NoiseModel((read_noise / gain) ** 2, gain)
    variance = noise.variance(stamp + sky_level)
    return np.divide(1.0, variance, out=np.zeros_like(variance), where=variance > 0)
