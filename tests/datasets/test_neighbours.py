"""Neighbours: their number, their places, their light and their settings."""

import galsim
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sklcae.datasets import cramer_rao_bound, make_galaxies
from sklcae.datasets._distant import distant_light, is_distant
from sklcae.datasets._folding import Wings
from sklcae.datasets._parameters import ALLOWED, COLUMNS
from sklcae.datasets._psf import ModelPSF, StampPSF
from sklcae.datasets._render import render_neighbour, render_stamp
from tests.quantities import Quantity

QUICK = {"sersic_index": 1.0, "image_shape": (16, 16), "random_state": 0}
SETTINGS = {
    "neighbour_distance": (1.6, 6.0),
    "neighbour_flux_ratio": (0.2, 1.0),
    "neighbour_half_light_radius": (0.3, 1.5),
}
ROW = {
    "flux": 1.0,
    "half_light_radius": 1.5,
    "sersic_index": 4.0,
    "ellipticity": 0.4,
    "position_angle": 30.0,
}
OPTICS = {"image_shape": (32, 32), "pixel_scale": 0.2}
GAUSSIAN = ModelPSF("gaussian", 0.7, 4.765, 0.0, 0.0, 0.2)


def make(n_samples=6, **changes):
    return make_galaxies(n_samples, **{**QUICK, "return_X_y": False, **changes})


def make_tiny(n_samples, **changes):
    """Return a Bunch that takes little time to render."""
    return make(n_samples, image_shape=(1, 1), noise=False, **changes)


def distances(galaxies):
    near = galaxies.neighbours
    central = galaxies.frame.loc[near["stamp"]].reset_index(drop=True)
    offsets = [near[name] - central[name] for name in ("x0", "y0")]
    return np.array(offsets) * galaxies.pixel_scale, central


def test_no_neighbours_by_default():
    galaxies = make()
    assert "neighbours" not in galaxies
    unused = make(neighbour_distance=1.0, neighbour_flux_ratio=1.0)
    np.testing.assert_array_equal(galaxies.data, unused.data)
    zeros = make(neighbours=np.zeros(6, int))
    np.testing.assert_array_equal(galaxies.data, zeros.data)


def test_an_array_has_the_number_of_every_stamp():
    counts = [2, 0, 1, 0, 0, 3]
    for value in (counts, np.array(counts), np.array(counts, np.uint8)):
        stamps = make(neighbours=value).neighbours["stamp"]
        assert stamps.tolist() == [0, 0, 2, 5, 5, 5]


@pytest.mark.parametrize("mean", [0.5, 3])
def test_numbers_are_poisson_distributed(mean):
    stamps = make_tiny(300, neighbours=mean).neighbours["stamp"]
    counts = np.bincount(stamps, minlength=300)
    assert counts.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / 300))
    assert counts.var() == pytest.approx(mean, rel=0.4)


def test_a_call_without_any_neighbour_has_an_empty_frame():
    galaxies = make(neighbours=1e-9)
    assert galaxies.neighbours.shape == (0, 10)
    np.testing.assert_array_equal(galaxies.data, make().data)


def test_frame_of_neighbours():
    galaxies = make(neighbours=4)
    near = galaxies.neighbours
    assert list(near) == ["stamp", *COLUMNS]
    angle = 2 * np.deg2rad(near["position_angle"])
    np.testing.assert_allclose(near["e1"], near["ellipticity"] * np.cos(angle))
    np.testing.assert_allclose(near["e2"], near["ellipticity"] * np.sin(angle))


def test_places_fluxes_and_radii_are_uniform_in_their_ranges():
    galaxies = make_tiny(300, neighbours=1, flux=(1e-3, 1.0))
    (dx, dy), central = distances(galaxies)
    near = galaxies.neighbours
    drawn = {
        "neighbour_distance": np.hypot(dx, dy),
        "neighbour_flux_ratio": near["flux"] / central["flux"],
        "neighbour_half_light_radius": near["half_light_radius"],
    }
    for name, (low, high) in SETTINGS.items():
        uniform = stats.uniform(low, high - low)
        assert stats.kstest(drawn[name], uniform.cdf).pvalue > 1e-3
    directions = stats.uniform(-np.pi, 2 * np.pi)
    assert stats.kstest(np.arctan2(dy, dx), directions.cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", SETTINGS)
def test_number_and_distribution(name):
    low, high = SETTINGS[name]
    ranged, drawn, fixed = (
        make(neighbours=2, **{name: value}).neighbours
        for value in ((low, high), stats.uniform(low, high - low), low)
    )
    np.testing.assert_allclose(ranged, drawn, rtol=1e-12)
    kept = {
        "neighbour_distance": ["x0", "y0"],
        "neighbour_flux_ratio": ["flux"],
        "neighbour_half_light_radius": ["half_light_radius"],
    }[name]
    assert ranged.drop(columns=kept).equals(fixed.drop(columns=kept))
    assert not (ranged[kept] == fixed[kept]).any().any()


def test_index_and_shape_are_drawn_as_those_of_the_central_galaxies():
    ranges = {"ellipticity": (0.2, 0.3), "position_angle": (10.0, 20.0)}
    near = make(sersic_index=(0.5, 1.5), neighbours=5, **ranges).neighbours
    for name, (low, high) in {**ranges, "sersic_index": (0.5, 1.5)}.items():
        assert near[name].between(low, high).all()
        assert near[name].nunique() > 5
    steps = near["sersic_index"] / 0.05
    np.testing.assert_allclose(steps, np.round(steps))


def test_index_and_shape_of_a_number_and_of_an_array():
    near = make(
        ellipticity=0.25, position_angle=[0, 1, 2, 3, 4, 5], neighbours=9
    ).neighbours
    assert set(near["ellipticity"]) == {0.25}
    assert set(near["sersic_index"]) == {1.0}
    assert set(near["position_angle"]) == {0, 1, 2, 3, 4, 5}


def test_neighbours_leave_the_galaxies_and_the_targets_alone():
    plain, crowded = make(), make(neighbours=3)
    assert plain.frame.equals(crowded.frame)
    np.testing.assert_array_equal(plain.target, crowded.target)
    assert (plain.data != crowded.data).mean() > 0.5


def test_a_neighbour_does_not_depend_on_the_number_of_neighbours():
    few, many = (make(neighbours=np.full(6, n)).neighbours for n in (2, 5))
    kept = many[many.groupby("stamp").cumcount() < 2]
    assert few.equals(kept.reset_index(drop=True))


def test_neighbours_do_not_depend_on_other_stamps():
    few, many = make(3, neighbours=2.0), make(9, neighbours=2.0, n_jobs=2)
    np.testing.assert_array_equal(few.data, many.data[:3])
    near = many.neighbours
    assert few.neighbours.equals(near[near["stamp"] < 3])


def test_a_stamp_is_the_sum_of_the_light_of_all():
    settings = {"noise": False, "x0": 8.0, "y0": 8.0, "neighbour_distance": (0.2, 2.0)}
    crowded, plain = make(neighbours=2, **settings), make(**settings)
    expected = plain.images.astype(float)
    for _, row in crowded.neighbours.iterrows():
        alone = make(1, **{name: row[name] for name in ALLOWED}, noise=False)
        expected[int(row["stamp"])] += alone.images[0]
    np.testing.assert_allclose(
        crowded.images, expected, atol=1e-6 * expected.max(), rtol=1e-5
    )


def test_the_light_of_neighbours_has_noise():
    settings = {
        "flux": 1e-3,
        "neighbour_flux_ratio": 1e9,
        "neighbour_distance": 0.4,
        "neighbour_half_light_radius": 1.0,
        "neighbours": np.ones(200, int),
    }
    noise = make(200, **settings).images - make(200, **settings, noise=False).images
    light = make(200, **settings, noise=False).images + 14.0
    assert light.mean() > 1000
    assert np.mean(noise**2 / light) == pytest.approx(1.0, abs=0.05)


class TestDistantNeighbours:
    @pytest.mark.parametrize(
        "psf",
        [GAUSSIAN, GAUSSIAN._replace(kind="moffat", moffat_beta=3.0), None],
        ids=["gaussian", "moffat", "none"],
    )
    @pytest.mark.parametrize("distance", [10, 30, 60, 120])
    @pytest.mark.parametrize("sersic_index", [0.5, 1.0, 4.0, 6.0])
    def test_light_is_that_of_galsim(self, psf, distance, sersic_index):
        row = {**ROW, "x0": 32.0 + distance, "y0": 20.0}
        row["sersic_index"] = sersic_index
        near = render_neighbour(row, psf=psf, **OPTICS)
        exact = render_stamp(row, psf=psf, **OPTICS)
        assert abs(near - exact).max() < 2e-7

    def test_close_neighbours_are_drawn_through_the_psf(self):
        row = {**ROW, "x0": 34.0, "y0": 20.0}
        near = render_neighbour(row, psf=GAUSSIAN, **OPTICS)
        exact = render_stamp(row, psf=GAUSSIAN, **OPTICS)
        np.testing.assert_array_equal(near, exact)

    def test_distant_light_is_the_profile_of_galsim(self):
        galaxy = galsim.Sersic(n=4.0, half_light_radius=1.5).shear(
            e=0.4, beta=30.0 * galsim.degrees
        )
        shear = galsim.Shear(e=0.4, beta=30.0 * galsim.degrees)
        wings = Wings(4.0, 7.5, shear.q, (-shear).getMatrix())
        light = distant_light(wings, (3, 2), (50.0, -40.0))
        for row in range(3):
            for column in range(2):
                at = galsim.PositionD((column - 50) * 0.2, (row + 40) * 0.2)
                expected = galaxy.xValue(at) * 0.2**2
                assert light[row, column] == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("side", [1, 32, 300])
    def test_the_farthest_are_never_drawn(self, side):
        wings = Wings(4.0, 100.0, 1.0, np.eye(2))
        winged = ModelPSF("moffat", 5.0, 1.2, 0.0, 0.0, 0.2)
        limit = max(512, 4 * side)
        for distance, expected in ((limit - 1, False), (limit + 1, True)):
            center = (side - 1 + distance, 0.0)
            assert is_distant(wings, winged, (side, side), center) == expected

    def test_a_smooth_galaxy_at_the_edge_is_drawn(self):
        wings = Wings(0.5, 1000.0, 1.0, np.eye(2))
        for distance, expected in ((2.0, False), (4.0, True)):
            center = (7 + distance, 0.0)
            assert is_distant(wings, None, (8, 8), center) == expected

    def test_a_psf_from_an_image_ends_with_it(self):
        wings = Wings(1.0, 1.0, 1.0, np.eye(2))
        image = np.exp(-((np.indices((61, 61)) - 30) ** 2).sum(axis=0) / 8)
        psf = StampPSF(image / image.sum(), 0.2)
        assert not is_distant(wings, psf, (8, 8), (7 + 29.0, 0.0))
        assert is_distant(wings, psf, (8, 8), (7 + 31.0, 0.0))

    @pytest.mark.parametrize("psf", ["gaussian", "moffat", None, "image"])
    @pytest.mark.parametrize("distance", [0.0, 100.0, 1e4, 1e30])
    def test_any_distance(self, psf, distance):
        if psf == "image":
            psf = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])
        settings = {"neighbours": [3], "neighbour_distance": distance}
        crowded = make(1, psf=psf, **settings)
        assert np.isfinite(crowded.data).all()
        if distance >= 1e4:
            np.testing.assert_array_equal(crowded.data, make(1, psf=psf).data)

    @given(st.floats(0, 1e30), st.floats(1e-30, 1e30), st.floats(1e-30, 1e30))
    def test_extreme_wings_are_finite(self, distance, scale, radius):
        wings = Wings(6.2, max(radius / scale, 1e-30), 0.1, np.eye(2))
        light = distant_light(wings, (2, 2), (distance / scale + 2e3, 0.0))
        assert np.isfinite(light).all()


def test_description():
    text = make(neighbours=2.5).DESCR
    assert "a central galaxy and its neighbours" in text
    assert "neighbours 2.5" in text
    assert "neighbour_flux_ratio uniform in [0.2, 1.0]" in text
    assert "neighbour" not in make().DESCR


def test_the_bound_sees_the_central_galaxy_alone():
    settings = {"flux": 1000.0, "half_light_radius": 0.5, "x0": 8.0, "y0": 8.0}
    plain = cramer_rao_bound(make(2, **settings), prior=None)
    crowded = cramer_rao_bound(make(2, **settings, neighbours=3), prior=None)
    np.testing.assert_array_equal(plain.covariance, crowded.covariance)


BAD = [
    ({"neighbours": -1}, "Got -1 instead."),
    ({"neighbours": 1001}, "from 0 to 1000, or a 1-D array"),
    ({"neighbours": float("nan")}, "Got nan instead."),
    ({"neighbours": 10**400}, "from 0 to 1000"),
    ({"neighbours": True}, "Got True instead."),
    ({"neighbours": None}, "Got None instead."),
    ({"neighbours": "many"}, "Got 'many' instead."),
    ({"neighbours": (1, 2)}, "Got (1, 2) instead."),
    ({"neighbours": [1.5] * 6}, "integers"),
    ({"neighbours": [1, 2]}, "n_samples=6 integers from 0 to 1000. Got the shape (2,)"),
    ({"neighbours": [1, 2, -3, 4, 5, 6]}, "Got -3 at index 2 instead."),
    ({"neighbours": [1, 2, 3, 4, 5, 6000]}, "Got 6000 at index 5 instead."),
    ({"neighbour_distance": -1.0}, "in [0, 1e+30]. Got -1.0"),
    (
        {"neighbour_distance": [1.0] * 6},
        "a (low, high) tuple of numbers, a number or a",
    ),
    ({"neighbour_distance": (2.0, 1.0)}, "low <= high. Got (2.0, 1.0)"),
    ({"neighbour_distance": (1.0, 2.0, 3.0)}, "Got (1.0, 2.0, 3.0) instead."),
    ({"neighbour_flux_ratio": 0.0}, "in (0, 1e+30]. Got 0.0"),
    ({"neighbour_flux_ratio": np.ones(6)}, "a number or a frozen distribution"),
    ({"neighbour_half_light_radius": 0.0}, "in [1e-30, 1e+30]. Got 0.0"),
]


@pytest.mark.parametrize(("bad", "text"), BAD)
def test_bad_input(bad, text):
    (name,) = bad
    message = f"^The '{name}' parameter of make_galaxies must be "
    with pytest.raises(ValueError, match=message) as raised:
        make(**bad)
    assert text in str(raised.value)


def test_bright_neighbours_are_refused_before_rendering():
    settings = {"flux": 1e10, "neighbour_flux_ratio": 1e29, "neighbours": [1] * 6}
    with pytest.raises(
        ValueError, match=r"all galaxies of a stamp together. Got 1e\+39"
    ):
        make(noise=False, **settings)
    with pytest.raises(ValueError, match=r"less than 9e\+18 electrons"):
        make(**{**settings, "neighbour_flux_ratio": 1e12})


@pytest.mark.parametrize(
    ("name", "unit"),
    [("neighbour_distance", " in arcsec"), ("neighbours", "")],
)
def test_quantities_are_refused(name, unit):
    with pytest.raises(TypeError, match=f"{name} must be plain numbers{unit}. Got"):
        make(**{name: Quantity(1.0, "lyr")})
