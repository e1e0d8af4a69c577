"""Defects in the stamps of make_galaxies: their order, their settings, their masks."""

import numpy as np
import pytest
from scipy import stats

from sklcae.datasets import cramer_rao_bound, make_galaxies
from sklcae.datasets._defects import noise_autocorrelation
from sklcae.datasets._exposures import StampDefects, expose
from sklcae.datasets._noise import noise_variance
from sklcae.datasets._parameters import COLUMNS
from tests.quantities import Quantity

QUICK = {"sersic_index": 1.0, "image_shape": (24, 32), "random_state": 0}
DEFECTS = {
    "sky_offset": 3.0,
    "sky_gradient": 0.2,
    "cosmic_rays": 2.0,
    "dead_columns": 1.0,
    "saturation": 200.0,
    "noise_correlation": 1.0,
}


def make(n_samples=6, **changes):
    return make_galaxies(n_samples, **{**QUICK, "return_X_y": False, **changes})


def test_no_defects_by_default():
    galaxies = make()
    assert list(galaxies.frame) == list(COLUMNS)
    assert not {"cosmic_ray_mask", "saturated_mask"} & set(galaxies)
    off = {name: 0.0 for name in DEFECTS if name != "saturation"}
    assert {name: galaxies[name] for name in off} == off
    assert galaxies.saturation is None
    assert "Defects" not in galaxies.DESCR


@pytest.mark.parametrize("name", DEFECTS)
def test_each_changes_the_stamps_and_leaves_the_galaxies_alone(name):
    plain, changed = make(), make(**{name: DEFECTS[name]})
    different = ~(plain.data == changed.data)
    assert different.any()
    assert plain.frame.equals(changed.frame[list(COLUMNS)])
    assert f"Defects: {name} {DEFECTS[name]}." in changed.DESCR
    assert changed[name] == DEFECTS[name]


@pytest.mark.parametrize("name", DEFECTS)
def test_each_has_random_numbers_of_its_own(name):
    rest = {other: DEFECTS[other] for other in DEFECTS if other != name}
    others, all_of_them = make(**rest), make(**DEFECTS)
    for mask in ("cosmic_ray_mask",):
        if name != "cosmic_rays":
            np.testing.assert_array_equal(others[mask], all_of_them[mask])
    if name != "dead_columns":
        np.testing.assert_array_equal(np.isnan(others.data), np.isnan(all_of_them.data))
    if name not in ("sky_offset", "sky_gradient"):
        sky = [column for column in others.frame if column.startswith("sky")]
        assert others.frame[sky].equals(all_of_them.frame[sky])


def test_stamps_do_not_depend_on_other_stamps():
    few, many = make(3, **DEFECTS), make(8, n_jobs=2, **DEFECTS)
    np.testing.assert_array_equal(few.data, many.data[:3])
    for name in ("cosmic_ray_mask", "saturated_mask"):
        np.testing.assert_array_equal(few[name], many[name][:3])


class TestSky:
    def test_offset_and_gradient_are_those_of_the_frame(self):
        sky = {"sky_offset": (-2.0, 4.0), "sky_gradient": (0.1, 0.5)}
        galaxies = make(**sky)
        frame = galaxies.frame
        left = galaxies.images.astype(float) - make().images
        np.testing.assert_allclose(
            left.mean(axis=(1, 2)), frame["sky_offset"], atol=1e-3
        )
        along_y, along_x = np.gradient(left, axis=(1, 2))
        for gradient, name in ((along_x, "x"), (along_y, "y")):
            expected = frame[f"sky_gradient_{name}"]
            np.testing.assert_allclose(gradient.mean(axis=(1, 2)), expected, atol=1e-3)
            np.testing.assert_allclose(gradient.std(axis=(1, 2)), 0, atol=3e-3)
        size = np.hypot(frame["sky_gradient_x"], frame["sky_gradient_y"])
        assert size.between(0.1, 0.5).all()
        assert frame["sky_offset"].nunique() == 6

    def test_range_number_array_and_distribution(self):
        values = np.linspace(1.0, 2.0, 6)
        width = stats.uniform(1.0, 1.0)
        ranged, given, drawn, fixed = (
            make(sky_gradient=value, sky_offset=value).frame
            for value in ((1.0, 2.0), values, width, 1.5)
        )
        np.testing.assert_allclose(ranged["sky_offset"], drawn["sky_offset"])
        np.testing.assert_array_equal(given["sky_offset"], values)
        for frame, size in ((given, values), (fixed, 1.5)):
            gradient = frame[["sky_gradient_x", "sky_gradient_y"]].to_numpy()
            np.testing.assert_allclose(np.linalg.norm(gradient, axis=1), size)
        angles = [
            np.arctan2(f["sky_gradient_y"], f["sky_gradient_x"])
            for f in (ranged, given)
        ]
        np.testing.assert_allclose(*angles)

    def test_directions_are_uniform(self):
        frame = make(300, image_shape=(1, 1), noise=False, sky_gradient=1.0).frame
        angles = np.arctan2(frame["sky_gradient_y"], frame["sky_gradient_x"])
        uniform = stats.uniform(-np.pi, 2 * np.pi)
        assert stats.kstest(angles, uniform.cdf).pvalue > 1e-3

    def test_only_the_columns_that_are_used(self):
        assert list(make(sky_offset=1.0).frame) == [*COLUMNS, "sky_offset"]
        columns = [*COLUMNS, "sky_gradient_x", "sky_gradient_y"]
        assert list(make(sky_gradient=1.0).frame) == columns


class TestCosmicRays:
    def test_charge_is_in_the_mask_alone_and_counts_in_electrons(self):
        plain, hit = make(gain=2.0), make(gain=2.0, cosmic_rays=3.0)
        added = 2.0 * (hit.images - plain.images)
        mask = hit.cosmic_ray_mask
        assert mask.shape == hit.images.shape
        assert mask.dtype == bool
        assert mask.any()
        np.testing.assert_allclose(added[~mask], 0)
        other = make(gain=4.0, cosmic_rays=3.0)
        np.testing.assert_array_equal(other.cosmic_ray_mask, mask)
        again = 4.0 * (other.images - make(gain=4.0).images)
        np.testing.assert_allclose(again[mask], added[mask], rtol=1e-3, atol=0.1)

    def test_they_come_without_noise_too(self):
        hit = make(noise=False, cosmic_rays=3.0)
        assert (hit.images[hit.cosmic_ray_mask] > make(noise=False).images.max()).any()


class TestSaturation:
    def test_pixels_are_clipped_and_marked(self):
        plain, clipped = make(), make(saturation=200.0)
        assert clipped.images.max() == 200.0
        np.testing.assert_array_equal(clipped.images, np.minimum(plain.images, 200.0))
        np.testing.assert_array_equal(clipped.saturated_mask, plain.images > 200.0)
        assert clipped.saturated_mask.any()

    def test_cosmic_rays_and_sky_saturate(self):
        dark = {"flux": 1e-3, "saturation": 100.0, "noise": False}
        hit = make(cosmic_rays=5.0, **dark)
        assert hit.images.max() == 100.0
        assert hit.saturated_mask.sum() > 0
        assert (hit.cosmic_ray_mask | ~hit.saturated_mask).all()
        assert make(sky_offset=101.0, **dark).saturated_mask.all()


def test_dead_columns_are_nan_after_all_else():
    galaxies = make(20, **{**DEFECTS, "dead_columns": 1.0})
    dead = np.isnan(galaxies.images)
    columns = dead.any(axis=1)
    np.testing.assert_array_equal(dead, columns[:, np.newaxis] & np.ones_like(dead))
    assert columns.sum() == pytest.approx(20, abs=5 * np.sqrt(20))
    # A mask marks the pixels of dead columns as well.
    assert galaxies.saturated_mask[dead].any()


def test_cosmic_rays_and_dead_columns_are_independent():
    galaxies = make(40, cosmic_rays=1.0, dead_columns=1.0)
    hit = galaxies.cosmic_ray_mask.any(axis=(1, 2))
    dead = np.isnan(galaxies.images).any(axis=(1, 2))
    assert (hit != dead).sum() > 5


class TestCorrelatedNoise:
    def test_variance_and_correlation(self):
        dark = make(200, flux=1e-9, noise_correlation=1.0).images
        assert dark.var() == pytest.approx(14.0, rel=0.02)
        expected = noise_autocorrelation(1.0)
        middle = len(expected) // 2
        for step in (1, 2):
            covariance = (dark[:, :, step:] * dark[:, :, :-step]).mean()
            correlation = covariance / dark.var()
            assert correlation == pytest.approx(
                expected[middle, middle + step], abs=0.03
            )

    def test_the_light_is_not_smoothed(self):
        bright = {"flux": 1e7, "half_light_radius": 0.3, "x0": 16.0, "y0": 12.0}
        noisy = make(1, noise_correlation=2.0, **bright).images
        clean = make(1, noise=False, **bright).images
        # The largest deviation from a light of 1e5 ADU is a few of its square roots.
        assert abs(noisy - clean).max() < 6 * np.sqrt(clean.max())

    def test_the_variance_of_bright_pixels_is_kept(self):
        bright = {"flux": 1e6, "half_light_radius": 0.5, "x0": 16.0, "y0": 12.0}
        noisy = make(300, noise_correlation=1.0, **bright, ellipticity=0.0).images
        clean = make(1, noise=False, **bright, ellipticity=0.0).images
        ratio = (noisy - clean).var(axis=0) / (clean[0] + 14.0)
        # The variance of 300 values scatters by 8 %.
        assert np.mean(ratio) == pytest.approx(1.0, abs=0.02)
        assert abs(ratio - 1).max() < 0.5

    def test_variance_of_the_noise(self):
        stamp = np.array([[100.0, -3.0, -50.0]])
        variance = noise_variance(stamp, sky_level=10.0, gain=2.0, read_noise=4.0)
        # Light below zero has no Poisson noise.
        np.testing.assert_allclose(variance, [[110 / 2 + 4, 7 / 2 + 4, 4]])

    def test_no_noise_has_no_correlation(self):
        plain, changed = make(noise=False), make(noise=False, noise_correlation=1.0)
        np.testing.assert_array_equal(plain.data, changed.data)

    def test_a_detector_without_noise_in_empty_pixels(self):
        empty = {"sky_level": 0.0, "read_noise": 0.0}
        assert np.isfinite(make(noise_correlation=1.0, **empty).data).all()


def test_expose_does_all_in_order():
    light = np.full((3, 4), 10.0)
    # The first dead column and the cosmic rays come from generators of their own.
    defects = StampDefects(
        gain=1.0,
        cosmic_rays=0.0,
        dead_columns=0.0,
        saturation=12.0,
        noise_correlation=0.0,
        sky_offset=1.0,
        gradient=(1.0, 0.0),
        ray_generator=np.random.default_rng(0),
        column_generator=np.random.default_rng(1),
    )
    exposure = expose(light, None, None, defects)
    np.testing.assert_allclose(exposure.image, [[9.5, 10.5, 11.5, 12.0]] * 3)
    assert exposure.saturated_mask.sum(axis=0).tolist() == [0, 0, 0, 3]
    np.testing.assert_array_equal(light, 10.0)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("sky_offset", "low"),
        ("sky_offset", float("nan")),
        ("sky_gradient", -0.1),
        ("sky_gradient", [0.1]),
        ("cosmic_rays", -1.0),
        ("cosmic_rays", 1001),
        ("cosmic_rays", (0.0, 1.0)),
        ("dead_columns", -1.0),
        ("dead_columns", True),
        ("saturation", 0.0),
        ("saturation", "full"),
        ("noise_correlation", -0.5),
        ("noise_correlation", 101),
        ("noise_correlation", None),
    ],
)
def test_bad_input(name, bad):
    message = f"^The '{name}' parameter of make_galaxies must be .*Got .* instead.$"
    with pytest.raises(ValueError, match=message):
        make(**{name: bad})


@pytest.mark.parametrize("name", DEFECTS)
def test_quantities_are_refused(name):
    with pytest.raises(TypeError, match=f"{name} must be plain numbers"):
        make(**{name: Quantity(1.0, "lyr")})


def test_the_bound_refuses_correlated_noise_and_ignores_the_rest():
    message = "'galaxies' parameter of cramer_rao_bound .* Got .* correlated noise"
    with pytest.raises(ValueError, match=message):
        cramer_rao_bound(make(noise_correlation=1.0))
    rest = {**DEFECTS, "noise_correlation": 0.0}
    bounds = [cramer_rao_bound(make(2, **one), prior=None) for one in ({}, rest)]
    np.testing.assert_array_equal(*(bound.covariance for bound in bounds))
