"""Galaxies of a bulge and a disc: their light, their size and their settings."""

import galsim
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sklcae.datasets import cramer_rao_bound, make_galaxies
from sklcae.datasets._bulges import (
    enclosed_light,
    relative_disc_radius,
    split_galaxy,
)
from sklcae.datasets._parameters import COLUMNS
from tests.quantities import Quantity

ROW = {
    "flux": 1000.0,
    "half_light_radius": 1.0,
    "sersic_index": 1.0,
    "ellipticity": 0.4,
    "position_angle": 30.0,
    "x0": 64.0,
    "y0": 64.0,
    "bulge_fraction": 0.4,
    "bulge_sersic_index": 4.0,
    "bulge_radius_ratio": 0.2,
}
QUICK = {"sersic_index": 1.0, "image_shape": (16, 16), "random_state": 0}
BULGES = {
    "bulge_fraction": (0.1, 0.9),
    "bulge_sersic_index": (2.0, 4.0),
    "bulge_radius_ratio": (0.1, 0.5),
}
fractions = st.floats(0, 1)
indices = st.floats(0.3, 6.2)
ratios = st.floats(0.01, 10)


def make(n_samples=6, **changes):
    return make_galaxies(n_samples, **{**QUICK, "return_X_y": False, **changes})


@pytest.mark.parametrize("sersic_index", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("radius", [0.1, 1.0, 3.0])
def test_enclosed_light_is_that_of_galsim(radius, sersic_index):
    # The flux of a truncated profile is the light within the radius.
    options = {"half_light_radius": 1.0, "trunc": radius, "flux_untruncated": True}
    flux = galsim.Sersic(n=sersic_index, **options).flux
    assert enclosed_light(radius, sersic_index) == pytest.approx(flux, rel=1e-6)


def test_half_of_the_light_is_within_the_half_light_radius():
    assert enclosed_light(1.0, 2.5) == pytest.approx(0.5, rel=1e-12)


@given(fractions, indices, indices, ratios)
def test_half_of_the_light_of_both_is_within_the_radius_of_both(f, disc, bulge, ratio):
    radius = relative_disc_radius(f, disc, bulge, ratio)
    within = (1 - f) * enclosed_light(1 / radius, disc)
    within += f * enclosed_light(1 / (ratio * radius), bulge)
    assert within == pytest.approx(0.5, abs=1e-11)
    # The radius of the whole is between the radii of its parts.
    assert min(1, ratio) * radius <= 1 + 1e-9
    assert max(1, ratio) * radius >= 1 - 1e-9


@given(fractions, indices, indices, ratios)
def test_flux_and_shape_of_the_parts(fraction, disc_index, bulge_index, ratio):
    given_bulge = (fraction, bulge_index, ratio)
    bulge = dict(zip(BULGES, given_bulge, strict=True))
    parts = split_galaxy({**ROW, "sersic_index": disc_index, **bulge})
    assert sum(one["flux"] for one in parts) == pytest.approx(1000.0, rel=1e-12)
    same = ("ellipticity", "position_angle", "x0", "y0")
    assert all(one[name] == ROW[name] for one in parts for name in same)
    if len(parts) == 2:
        disc, bulge = parts
        assert bulge["flux"] == pytest.approx(1000.0 * fraction)
        relative = bulge["half_light_radius"] / disc["half_light_radius"]
        assert relative == pytest.approx(ratio)
        assert (disc["sersic_index"], bulge["sersic_index"]) == (
            disc_index,
            bulge_index,
        )


@pytest.mark.parametrize(("fraction", "index"), [(0.0, 1.0), (1.0, 4.0)])
def test_a_disc_or_a_bulge_alone_keeps_its_radius(fraction, index):
    (alone,) = split_galaxy({**ROW, "bulge_fraction": fraction})
    kept = ("flux", "half_light_radius")
    assert [alone[name] for name in kept] == [ROW[name] for name in kept]
    assert alone["sersic_index"] == index


@pytest.mark.parametrize("fraction", [0.2, 0.7])
@pytest.mark.parametrize("ratio", [0.3, 0.9])
def test_half_of_the_light_of_a_stamp_is_within_the_ellipse(fraction, ratio):
    side, scale, radius = 513, 0.05, 2.0
    stamp = make(
        1,
        flux=1.0,
        half_light_radius=radius,
        ellipticity=0.4,
        position_angle=30.0,
        x0=side / 2,
        y0=side / 2,
        bulge_fraction=fraction,
        bulge_radius_ratio=ratio,
        bulge_sersic_index=2.0,
        image_shape=(side, side),
        pixel_scale=scale,
        psf_fwhm=0.1,
        noise=False,
    ).images[0]
    y, x = (np.indices(stamp.shape) - side // 2) * scale
    angle, q = np.deg2rad(30.0), np.sqrt((1 - 0.4) / (1 + 0.4))
    major = x * np.cos(angle) + y * np.sin(angle)
    minor = y * np.cos(angle) - x * np.sin(angle)
    within = stamp[major**2 * q + minor**2 / q <= radius**2].sum()
    # The narrow PSF and the pixels at the edge of the ellipse move little light.
    assert within == pytest.approx(0.5, abs=2e-3)


def test_the_stamp_is_that_of_galsim():
    settings = {name: ROW[name] for name in ROW if name not in ("x0", "y0")}
    settings["bulge_sersic_index"] = 3.0
    stamp = make(
        1, **{**settings, "x0": 24.0, "y0": 24.0}, image_shape=(48, 48), noise=False
    ).images[0]
    disc_radius = relative_disc_radius(0.4, 1.0, 3.0, 0.2)
    profile = galsim.Sersic(n=1.0, half_light_radius=disc_radius, flux=600.0)
    profile += galsim.Sersic(n=3.0, half_light_radius=0.2 * disc_radius, flux=400.0)
    profile = profile.shear(e=0.4, beta=30.0 * galsim.degrees)
    seen = galsim.Convolve(profile, galsim.Gaussian(fwhm=0.7))
    expected = seen.drawImage(nx=48, ny=48, scale=0.2, dtype=float).array
    np.testing.assert_allclose(stamp, expected, atol=2e-3 * expected.max())


def test_no_bulge_by_default():
    plain = make()
    unused = make(bulge_sersic_index=2.0, bulge_radius_ratio=0.3)
    np.testing.assert_array_equal(plain.data, unused.data)
    assert list(unused.frame) == list(COLUMNS)


def test_bulges_change_the_stamps_and_leave_the_parameters_alone():
    plain, changed = make(noise=False), make(noise=False, bulge_fraction=0.5)
    assert (plain.data != changed.data).mean() > 0.9
    assert plain.frame.equals(changed.frame[list(COLUMNS)])
    np.testing.assert_array_equal(plain.target, changed.target)


def test_a_fraction_of_zero_for_a_stamp_is_a_disc():
    some = make(bulge_fraction=[0.0, 0.5, 0.0, 0.5, 1.0, 0.5])
    np.testing.assert_array_equal(some.data[[0, 2]], make().data[[0, 2]])
    assert (some.data[1] != make().data[1]).any()


@pytest.mark.parametrize("name", BULGES)
def test_range_number_array_and_distribution(name):
    low, high = BULGES[name]
    values = np.linspace(low, high, 6)
    width = stats.uniform(low, high - low)
    ranged, fixed, given_values, drawn = (
        make(**{**BULGES, name: value}, sersic_index_step=None).frame[name].to_numpy()
        for value in ((low, high), high, values, width)
    )
    assert ((ranged >= low) & (ranged <= high)).all()
    assert len(set(ranged)) == 6
    np.testing.assert_array_equal(fixed, high)
    np.testing.assert_array_equal(given_values, values)
    np.testing.assert_allclose(drawn, ranged, rtol=1e-12)


@pytest.mark.parametrize("name", BULGES)
def test_fixing_one_does_not_change_the_others(name):
    free, fixed = make(**BULGES), make(**{**BULGES, name: 0.5})
    assert free.frame.drop(columns=name).equals(fixed.frame.drop(columns=name))


def test_bulges_have_random_numbers_of_their_own():
    unit = (0.5, 1.0)
    frame = make(
        **dict.fromkeys(("flux", "half_light_radius", "sersic_index", *BULGES), unit),
        sersic_index_step=None,
    ).frame
    numbers = frame[["flux", "half_light_radius", "sersic_index", *BULGES]]
    assert len(set(numbers.to_numpy().ravel().round(12))) == 6 * 6


def test_the_index_of_the_bulge_is_rounded():
    drawn = make(**BULGES, sersic_index_step=0.5).frame["bulge_sersic_index"]
    assert set(drawn) <= {2.0, 2.5, 3.0, 3.5, 4.0}
    kept = make(**{**BULGES, "bulge_sersic_index": 2.7}, sersic_index_step=0.5)
    assert set(kept.frame["bulge_sersic_index"]) == {2.7}


def test_bulges_do_not_depend_on_other_stamps():
    few, many = make(3, **BULGES), make(9, **BULGES, n_jobs=2)
    np.testing.assert_array_equal(few.data, many.data[:3])


def test_targets_and_description():
    galaxies = make(**BULGES, targets=["bulge_fraction", "flux"])
    np.testing.assert_array_equal(
        galaxies.target, galaxies.frame[["bulge_fraction", "flux"]]
    )
    assert "bulge_fraction uniform in [0.1, 0.9]" in galaxies.DESCR
    assert "bulge" not in make().DESCR


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"bulge_fraction": 1.1}, "in [0, 1]. Got 1.1"),
        ({"bulge_fraction": (0.5, 0.1)}, "low <= high. Got (0.5, 0.1)"),
        ({"bulge_fraction": [0.5]}, "n_samples=6 values. Got an array of 1 values"),
        ({"bulge_sersic_index": 7}, "in [0.3, 6.2]. Got 7"),
        ({"bulge_radius_ratio": 0.0}, "in [0.01, 10]. Got 0.0"),
        ({"targets": "bulge_fraction"}, "Got 'bulge_fraction' instead."),
    ],
)
def test_bad_input(bad, text):
    (name,) = bad
    message = f"The '{name}' parameter of make_galaxies must be "
    with pytest.raises(ValueError, match=message) as raised:
        make(**bad)
    assert text in str(raised.value)


def test_quantities_are_refused():
    with pytest.raises(TypeError, match="bulge_fraction must be plain numbers"):
        make(bulge_fraction=Quantity(0.5, ""))


def test_the_bound_refuses_bulges():
    message = "'galaxies' parameter of cramer_rao_bound .* Got galaxies with bulges"
    with pytest.raises(ValueError, match=message):
        cramer_rao_bound(make(**BULGES))
