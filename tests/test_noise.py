"""The one formula of the noise, for arrays of NumPy and of PyTorch."""

import numpy as np
import pytest
import torch

from sklcae._noise import NoiseModel
from sklcae.datasets._noise import add_noise, inverse_variance

LIGHT = np.array([[-3.0, 0.0], [2.0, 1000.0]])


def test_variance_is_background_and_poisson_noise():
    variance = NoiseModel(9.0, 4.0).variance(LIGHT)
    np.testing.assert_allclose(variance, [[9.0, 9.0], [9.5, 259.0]])


def test_it_is_the_same_in_pytorch():
    background = np.array([[1.0, 2.0], [3.0, 4.0]])
    expected = NoiseModel(background, 2.5).variance(LIGHT)
    noise = NoiseModel(torch.from_numpy(background), 2.5)
    np.testing.assert_array_equal(noise.variance(torch.from_numpy(LIGHT)), expected)


@pytest.mark.parametrize("light", [0.0, 400.0])
def test_it_is_the_noise_of_the_simulation(light):
    detector = {"sky_level": 20.0, "gain": 2.5, "read_noise": 4.0}
    stamp = np.full((300, 300), light)
    noisy = add_noise(stamp, generator=np.random.default_rng(0), **detector)
    variance = 1 / inverse_variance(stamp, **detector)
    np.testing.assert_allclose(variance, (light + 20) / 2.5 + (4 / 2.5) ** 2)
    # The variance of 90,000 pixels scatters by 0.5 %.
    assert (noisy - stamp).var() == pytest.approx(variance[0, 0], rel=0.02)
