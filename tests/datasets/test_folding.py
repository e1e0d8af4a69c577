"""The light of a galaxy's copies against GalSim and against sums of all copies."""

import math

import galsim
import numpy as np
import pytest

from sklcae.datasets._folding import Wings, folded_light, largest_fft, small_fft_size

SHAPE = (40, 64)
CENTER = (12.3, 35.5)
GALAXIES = [(0.5, 25.0, 0.0), (1.0, 15.0, 0.4), (2.5, 10.0, 0.3), (4.0, 15.0, 0.5)]


def make_wings(sersic_index=1.0, half_light_radius=10.0, ellipticity=0.4, angle=30.0):
    shear = galsim.Shear(e=ellipticity, beta=angle * galsim.degrees)
    inverse = np.linalg.inv(shear.getMatrix())
    return Wings(sersic_index, half_light_radius, shear.q, inverse)


def galsim_profile(sersic_index, half_light_radius, ellipticity, angle=30.0):
    profile = galsim.Sersic(n=sersic_index, half_light_radius=half_light_radius)
    return profile.shear(e=ellipticity, beta=angle * galsim.degrees)


def no_psf(distance):
    return 0.0


def choose_size(wings, psf_light=no_psf, psf_radius=1.75, shape=SHAPE, center=CENTER):
    return small_fft_size(wings, psf_light, psf_radius, shape, center)


@pytest.mark.parametrize("galaxy", GALAXIES)
def test_light_equals_galsims_profile(galaxy):
    wings, profile = make_wings(*galaxy), galsim_profile(*galaxy)
    dx, dy = np.array([3.0, -20.0, 64.5]), np.array([0.5, 31.0])
    expected = [[profile.xValue(x, y) for x in dx] for y in dy]
    np.testing.assert_allclose(wings.light(dx, dy), expected, rtol=1e-6)


@pytest.mark.parametrize("galaxy", GALAXIES)
@pytest.mark.parametrize("side", [30, 150])
def test_light_outside_a_square(galaxy, side):
    # A thousand points along each side of the square, without the cusp.
    points = (np.arange(1000) + 0.5) * side / 1000 - side / 2
    inside = make_wings(*galaxy).light(points, points).sum() * (side / 1000) ** 2
    outside = make_wings(*galaxy).light_outside(side)
    assert outside == pytest.approx(1 - inside, abs=2e-3)


@pytest.mark.parametrize("galaxy", GALAXIES)
def test_folded_light_is_the_sum_of_all_copies(galaxy):
    wings = make_wings(*galaxy)
    size = 120
    copies = size * np.arange(-20, 21)
    dx, dy = (
        np.add.outer(np.arange(pixels) - middle, copies)
        for pixels, middle in zip(SHAPE[::-1], CENTER, strict=True)
    )
    light = wings.light(dx.ravel(), dy.ravel()).reshape(*dy.shape, *dx.shape)
    light[:, 20, :, 20] = 0
    expected = light.sum(axis=(1, 3)) + wings.light_outside(41 * size) / size**2
    folded = folded_light(wings, SHAPE, CENTER, size)
    np.testing.assert_allclose(folded, expected, atol=1e-8)
    assert folded.max() > 2e-7


@pytest.mark.parametrize("galaxy", GALAXIES)
def test_a_small_fft_holds_the_stamp(galaxy):
    size = choose_size(make_wings(*galaxy))
    assert size % 2 == 0
    # From the centre to the farthest pixel plus the distance to the nearest copy.
    assert size >= 64 - 1 - CENTER[0] + max(SHAPE) / 2


def test_a_center_outside_needs_a_larger_fft():
    near, far = (choose_size(make_wings(), center=(x, 20.0)) for x in (32.0, -100.0))
    assert far >= near + 100


def test_a_larger_psf_needs_a_larger_fft():
    wings = make_wings(half_light_radius=1.0)
    small, large = (choose_size(wings, psf_radius=radius) for radius in (2.0, 30.0))
    assert large > small


def test_wings_of_the_psf_need_a_larger_fft():
    def psf_light(distance):
        return 0.1 * (1 + distance) ** -3.0

    size = choose_size(make_wings(), psf_light)
    reach = 63 - CENTER[0]
    assert psf_light(size - reach) < 1e-7
    assert size > choose_size(make_wings())


@pytest.mark.parametrize(
    "hopeless",
    [
        {"half_light_radius": 2000.0},
        # A needle, too thin for a few interpolation points.
        {"half_light_radius": 500.0, "ellipticity": 0.999, "sersic_index": 4.0},
        {"half_light_radius": 1e-200},
    ],
)
def test_no_small_fft_is_accurate_enough(hopeless):
    assert choose_size(make_wings(**hopeless)) is None


def test_no_small_fft_for_a_psf_of_endless_wings():
    assert choose_size(make_wings(), lambda distance: 1e-6) is None


def test_a_small_fft_is_not_larger_than_allowed():
    assert largest_fft((16, 64)) == 1024
    assert largest_fft((512, 64)) == 4096
    for radius in np.geomspace(1, 2000, 40):
        size = choose_size(make_wings(half_light_radius=radius))
        assert size is None or size <= 1.1 * 1024


def test_extreme_numbers_raise_no_error():
    for n in (0.3, 0.5, 6.2):
        for radius in (1e-30, 1e-3, 1e6):
            with np.errstate(all="raise", under="ignore"):
                choose_size(make_wings(n, radius))
    assert math.isfinite(folded_light(make_wings(0.3, 1e-30), SHAPE, CENTER, 128).sum())


def test_copies_of_a_blurred_point_keep_their_distance():
    # The profile has no wings. The wings of the PSF, unknown here, must stay far away.
    point = make_wings(half_light_radius=0.01)
    size = choose_size(point, psf_radius=20.0, shape=(8, 8), center=(4.0, 4.0))
    assert size >= 4.0 + 6 * 20.0
