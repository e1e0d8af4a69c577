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


def test_bulges_share_centre_and_ellipticity():
    scene = Scene.of_sources(ONE_BAND.columns, 2, has_bulge=True)
    disc, bulge, neighbour = (columns for _, columns in scene.components)
    assert disc == (0, 1, 2, 3, 4, 5, 6)
    assert bulge == (14, 15, 16, 3, 4, 5, 6)
    assert neighbour == (7, 8, 9, 10, 11, 12, 13)
    assert scene.bulge == [14, 15, 16]
    assert (scene.n_sources, scene.n_central, scene.n_parameters) == (2, 2, 17)
    assert len(scene.ellipticities) == 2
    assert Scene.of_sources(ONE_BAND.columns, 2).bulge == []


def test_bulges_of_bands_have_their_fluxes():
    profile = ProfileParameters.of_targets(None, 2)
    scene = Scene.of_sources(profile.columns, 1, has_bulge=True)
    assert [columns[:3] for _, columns in scene.components] == [
        (0, 2, 3),
        (1, 2, 3),
        (8, 10, 11),
        (9, 10, 11),
    ]
