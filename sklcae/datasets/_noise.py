"""Sky, Poisson and read noise of a CCD."""

import numpy as np


def add_noise(stamp, *, sky_level, gain, read_noise, generator):
    """Return a stamp with noise, in ADU, from which the mean sky is subtracted.

    The variance of a pixel is (stamp + sky_level) / gain + (read_noise / gain)^2
    in ADU^2: the model of ``galsim.CCDNoise``.
    """
    # Fourier ringing can leave a pixel slightly below zero: no Poisson mean is.
    electrons = np.clip(stamp + sky_level, 0.0, None) * gain
    noisy = generator.poisson(electrons) / gain - sky_level
    if read_noise > 0:
        noisy += generator.normal(scale=read_noise / gain, size=noisy.shape)
    return noisy
