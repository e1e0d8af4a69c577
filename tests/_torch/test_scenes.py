"""Scenes: which fitted parameters belong to which profile."""

import numpy as np
import pytest

from sklcae._profiles import ONE_BAND, ProfileParameters
from sklcae._torch.scenes import SKY, Scene


def test_one_source_in_one_band():
    scene = Scene.of_sources(ONE_BAND.columns, 1)
    assert scene.components == ((0, (0, 1, 2, 3, 4, 5, 6)),)
    assert (scene.n_parameters, scene.n_fitted) == (7, 8)
    np.testing.assert_array_equal(scene.kinds, [*range(7), SKY])
    np.testing.assert_array_equal(scene.skies, [7])


@pytest.mark.parametrize("n_sources", [1, 2, 5])
@pytest.mark.parametrize("n_bands", [1, 2, 3])
def test_sources_in_bands(n_bands, n_sources):
    profile = ProfileParameters.of_targets(None, n_bands)
    scene = Scene.of_sources(profile.columns, n_sources)
    n_each = n_bands + 6
    assert scene.n_sources == n_sources
    assert scene.n_parameters == n_each * n_sources
    assert scene.n_fitted == n_each * n_sources + n_bands
    numbers, bands = scene.fluxes
    np.testing.assert_array_equal(bands, np.tile(np.arange(n_bands), n_sources))
    assert (scene.kinds[numbers] == 0).all()
    assert len(scene.ellipticities) == n_sources
    for band in range(n_bands):
        of_band = np.array(scene.in_band(band))
        assert of_band.shape == (n_sources, 7)
        np.testing.assert_array_equal(
            scene.kinds[of_band], np.tile(np.arange(7), (n_sources, 1))
        )
        np.testing.assert_array_equal(of_band[:, 1] // n_each, np.arange(n_sources))
