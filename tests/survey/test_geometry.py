"""Results of stamps on the sky: places, radii and angles, for WCS of all kinds."""

import astropy.units as u
import numpy as np
import pytest
from astropy.wcs import WCS

from sklcae.survey import cutouts
from tests.survey.images import PIXEL_SCALE, make_wcs

SHAPE = (200, 300)
XY = np.array([[30.3, 40.0], [150.0, 99.5], [280.7, 180.2]])
ANGLES = (0.0, 40.0, 137.0, 290.0)


def stamps_with(wcs, size=32):
    return cutouts(np.zeros(SHAPE), XY, size, wcs=wcs)


def pixel_angle_of(wcs, x, y, angle):
    """Return the angle in pixels, from +x to +y, of a direction on the sky."""
    place = wcs.pixel_to_world(x, y).icrs
    step = place.directional_offset_by(angle * u.deg, 0.03 * u.arcsec)
    to_x, to_y = wcs.world_to_pixel(step)
    return np.rad2deg(np.arctan2(to_y - y, to_x - x))


@pytest.mark.parametrize("parity", [1, -1])
@pytest.mark.parametrize("angle", ANGLES)
def test_frames_are_those_of_the_wcs(angle, parity):
    stamps = stamps_with(make_wcs(angle, parity, shape=SHAPE))
    np.testing.assert_allclose(stamps.pixel_scale, PIXEL_SCALE, rtol=1e-6)
    turn = (stamps.position_angle - angle + 180) % 360
    np.testing.assert_allclose(turn, 180, atol=0.01)
    np.testing.assert_array_equal(stamps.parity, parity)


@pytest.mark.parametrize("parity", [1, -1])
@pytest.mark.parametrize("angle", ANGLES)
def test_angles_and_ellipticities_are_on_the_sky(angle, parity):
    wcs = make_wcs(angle, parity, shape=SHAPE)
    stamps = stamps_with(wcs)
    on_sky = np.array([10.0, 77.0, 160.0])
    pixels = [pixel_angle_of(wcs, *xy, one) for xy, one in zip(XY, on_sky, strict=True)]
    twice, e = np.deg2rad(2 * np.array(pixels)), np.array([0.1, 0.3, 0.6])
    found = stamps.to_sky(
        {"position_angle": pixels, "e1": e * np.cos(twice), "e2": e * np.sin(twice)}
    )
    np.testing.assert_allclose(found["position_angle"], on_sky, atol=0.01)
    twice = np.deg2rad(2 * on_sky)
    np.testing.assert_allclose(found["e1"], e * np.cos(twice), atol=1e-3)
    np.testing.assert_allclose(found["e2"], e * np.sin(twice), atol=1e-3)


@pytest.mark.parametrize("parity", [1, -1])
def test_errors_turn_with_ellipticities(parity):
    stamps = stamps_with(make_wcs(25.0, parity, shape=SHAPE))
    rng = np.random.default_rng(0)
    covariance = np.array([[0.04, 0.01], [0.01, 0.02]])
    mean = np.array([0.1, -0.2])
    draws = rng.multivariate_normal(mean, covariance, 20_000)
    many = cutouts(
        np.zeros(SHAPE), np.tile(XY[1], (len(draws), 1)), 8, wcs=stamps._image.wcs
    )
    sky = many.to_sky({"e1": draws[:, 0], "e2": draws[:, 1]})
    expected = np.cov(sky["e1"], sky["e2"])
    found = stamps.to_sky(
        {
            "e1": np.full(3, mean[0]),
            "e2": np.full(3, mean[1]),
            "e1_err": np.full(3, 0.2),
            "e2_err": np.full(3, 0.02**0.5),
            "e1_e2_cov": np.full(3, 0.01),
        }
    )
    np.testing.assert_allclose(found["e1_err"][1], expected[0, 0] ** 0.5, rtol=0.02)
    np.testing.assert_allclose(found["e2_err"][1], expected[1, 1] ** 0.5, rtol=0.02)
    np.testing.assert_allclose(found["e1_e2_cov"][1], expected[0, 1], atol=6e-4)


def test_places_and_radii_are_on_the_sky():
    wcs = make_wcs(40.0, scale=0.5, shape=SHAPE)
    stamps = stamps_with(wcs, (24, 32))
    x0, y0 = (XY - stamps.origin + [0.8, 0.1]).T
    results = {
        "flux": np.arange(3.0),
        "flux_err": np.ones(3),
        "half_light_radius": np.array([1.0, 2, 3]),
        "half_light_radius_err": np.full(3, 0.1),
        "x0": x0,
        "y0": y0,
        "x0_err": np.full(3, 0.2),
        "y0_err": np.full(3, 0.3),
    }
    found = stamps.to_sky(results, pixel_scale=0.25)
    # The centre of the first pixel is at 0.5 on the stamp.
    np.testing.assert_allclose(found["x"], XY[:, 0] + 0.3)
    np.testing.assert_allclose(found["y"], XY[:, 1] - 0.4)
    sky = wcs.pixel_to_world(XY[:, 0] + 0.3, XY[:, 1] - 0.4)
    np.testing.assert_allclose(found["ra"], sky.ra.deg)
    np.testing.assert_allclose(found["dec"], sky.dec.deg)
    np.testing.assert_allclose(found["half_light_radius"], [2, 4, 6], rtol=1e-6)
    np.testing.assert_allclose(found["half_light_radius_err"], 0.2, rtol=1e-6)
    np.testing.assert_allclose([found["x_err"], found["y_err"]], [[0.2] * 3, [0.3] * 3])
    np.testing.assert_array_equal(found["flux"], results["flux"])
    assert not {"x0", "y0", "x0_err"} & set(found)
    results["x0"] = np.array([np.nan, *x0[1:]])
    assert np.isnan(stamps.to_sky(results)["ra"]).tolist() == [True, False, False]


def test_the_local_scale_of_a_distorted_image():
    wcs = make_wcs(shape=SHAPE)
    header = wcs.to_header(relax=True)
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header.update({"A_ORDER": 2, "A_2_0": 1e-5, "B_ORDER": 2, "B_1_1": 1e-5})
    header.update({"A_0_2": 0.0, "B_0_2": 0.0, "B_2_0": 0.0, "A_1_1": 0.0})
    stamps = stamps_with(WCS(header))
    from_center = XY[:, 0] + 1 - wcs.wcs.crpix[0]
    np.testing.assert_allclose(
        stamps.pixel_scale,
        PIXEL_SCALE * np.sqrt((1 + 2e-5 * from_center) * (1 + 1e-5 * from_center)),
        rtol=1e-5,
    )
    place = stamps.wcs_of(2).pixel_to_world(*(XY[2] - stamps.origin[2]))
    assert place.separation(WCS(header).pixel_to_world(*XY[2])).arcsec < 1e-6


def test_other_frames_and_the_pole():
    wcs = make_wcs(0.0, center=(96.3, -60.2), shape=SHAPE)
    galactic = wcs.deepcopy()
    galactic.wcs.ctype = ["GLON-TAN", "GLAT-TAN"]
    stamps = stamps_with(galactic)
    sky = galactic.pixel_to_world(*XY.T).icrs
    np.testing.assert_allclose(stamps.ra, sky.ra.deg)
    for row, xy in enumerate(XY):
        angle = stamps.position_angle[row]
        np.testing.assert_allclose(pixel_angle_of(galactic, *xy, angle), 90, atol=0.01)
    pole = stamps_with(make_wcs(center=(0.0, 90.0), shape=SHAPE))
    np.testing.assert_allclose(pole.pixel_scale, PIXEL_SCALE, rtol=1e-6)
    near_zero = stamps_with(make_wcs(30.0, center=(0.0, 0.0), shape=SHAPE))
    np.testing.assert_allclose(near_zero.position_angle, 30, atol=0.01)
    assert near_zero.ra.max() > 359


def test_oblong_pixels_warn():
    wcs = make_wcs(shape=SHAPE)
    wcs.wcs.cd = wcs.wcs.cd * [[1.03, 1], [1.03, 1]]
    with pytest.warns(UserWarning, match="longer on one side by up to 3.0%"):
        stamps_with(wcs)
    wcs.wcs.cd = wcs.wcs.cd * [[1 / 1.02, 1], [1 / 1.02, 1]]
    np.testing.assert_allclose(
        stamps_with(wcs).pixel_scale, PIXEL_SCALE * (1.03 / 1.02) ** 0.5, rtol=1e-5
    )


def test_wrong_results():
    stamps = stamps_with(make_wcs(shape=SHAPE))
    with pytest.raises(ValueError, match="both of 'e1' and 'e2'"):
        stamps.to_sky({"e1": np.zeros(3)})
    with pytest.raises(ValueError, match="both of 'x0' and 'y0'"):
        stamps.to_sky({"x0": np.zeros(3)})
    with pytest.raises(ValueError, match="to_sky needs an image with a WCS"):
        cutouts(np.zeros(SHAPE), XY, 16).to_sky({"flux": np.zeros(3)})
