"""The parameter table: ranges, numbers, arrays, distributions and their errors."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sklcae.datasets._parameters import ALLOWED, COLUMNS, draw_parameters
from sklcae.datasets._parameters import parse_parameters as parse
from tests.quantities import Quantity

RANGES = {
    "flux": (500.0, 50_000.0),
    "half_light_radius": (0.3, 5.0),
    "sersic_index": (0.5, 4.0),
    "ellipticity": (0.0, 0.6),
    "position_angle": (0.0, 180.0),
    "x0": (0.0, 64.0),
    "y0": (0.0, 64.0),
}


def draw(n_samples=50, *, step=0.05, seed=0, **changes):
    sources = parse({**RANGES, **changes}, n_samples)
    entropy = (seed, 2, 3, 4)
    return draw_parameters(sources, n_samples, sersic_index_step=step, entropy=entropy)


def test_columns_and_their_order():
    # The order guarantees that old seeds still give the same galaxies.
    assert list(ALLOWED) == list(RANGES)
    assert list(draw()) == list(COLUMNS) == [*RANGES, "e1", "e2"]


@given(st.data(), st.sampled_from(sorted(RANGES)), st.integers(1, 8), st.integers(0))
def test_draws_lie_in_their_range(data, name, n_samples, seed):
    least, most = RANGES[name]
    low = data.draw(st.floats(least, most))
    high = data.draw(st.floats(low, most))
    values = draw(n_samples, seed=seed, **{name: (low, high)})[name]
    assert values.shape == (n_samples,)
    assert values.dtype == np.float64
    # low + (high - low) * u may be off in the last bit.
    assert (values >= low).all()
    assert (values <= np.nextafter(high, np.inf)).all()


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0))
def test_more_samples_begin_with_the_same_galaxies(n_samples, more, seed):
    few, many = draw(n_samples, seed=seed), draw(n_samples + more, seed=seed)
    for name in COLUMNS:
        np.testing.assert_array_equal(few[name], many[name][:n_samples])


@pytest.mark.parametrize("name", sorted(RANGES))
def test_ranges_are_uniform_and_filled(name):
    values = draw(2000, step=None)[name]
    low, high = RANGES[name]
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_parameters_are_independent():
    table = draw(2000, step=None)
    correlations = np.corrcoef([table[name] for name in RANGES])
    assert abs(correlations - np.eye(len(RANGES))).max() < 5 / np.sqrt(2000)


def test_seeds_differ():
    assert (draw(seed=0)["flux"] != draw(seed=1)["flux"]).all()


@pytest.mark.parametrize("name", sorted(RANGES))
def test_fixing_one_parameter_does_not_change_the_others(name):
    free, fixed = draw(), draw(**{name: 0.5})
    assert (fixed[name] == 0.5).all()
    for other in set(RANGES) - {name}:
        np.testing.assert_array_equal(free[other], fixed[other])


@pytest.mark.parametrize("number", [2, 2.5, np.float32(2.5), np.int64(2)])
def test_numbers_are_held_fixed(number):
    np.testing.assert_array_equal(draw(5, flux=number)["flux"], np.full(5, number))


@pytest.mark.parametrize("kind", [list, np.array, np.float32])
def test_arrays_are_not_changed(kind):
    values = draw(3, flux=kind([1.0, 3.0, 2.0]))["flux"]
    np.testing.assert_array_equal(values, [1.0, 3.0, 2.0])


def test_only_tuples_are_ranges():
    np.testing.assert_array_equal(draw(2, flux=[1.0, 3.0])["flux"], [1.0, 3.0])
    assert draw(2, flux=(1.0, 3.0))["flux"].tolist() != [1.0, 3.0]


def test_changing_the_result_does_not_change_the_given_array():
    given_flux = np.array([1.0, 2.0, 3.0])
    draw(3, flux=given_flux)["flux"][0] = 9.0
    assert given_flux[0] == 1.0


@pytest.mark.parametrize(
    ("distribution", "reference"),
    [
        (stats.loguniform(500, 50_000), stats.loguniform(500, 50_000)),
        (stats.Uniform(a=1.0, b=9.0), stats.uniform(1, 8)),
        (stats.truncnorm(-2, 2, loc=10, scale=3), stats.truncnorm(-2, 2, 10, 3)),
        (stats.Normal(mu=100.0, sigma=1.0), stats.norm(100, 1)),
    ],
)
def test_distributions(distribution, reference):
    values = draw(1000, flux=distribution)["flux"]
    assert stats.kstest(values, reference.cdf).pvalue > 1e-3


def test_discrete_distributions():
    values = draw(200, sersic_index=stats.randint(1, 5))["sersic_index"]
    assert set(values) == {1.0, 2.0, 3.0, 4.0}


def test_a_wide_range_and_its_distribution_are_the_same():
    by_range = draw(flux=(10.0, 30.0))["flux"]
    by_distribution = draw(flux=stats.uniform(10, 20))["flux"]
    np.testing.assert_allclose(by_range, by_distribution, rtol=1e-12)


@pytest.mark.parametrize("source", [(0.5, 4.0), stats.uniform(0.5, 3.5)])
@pytest.mark.parametrize("step", [0.05, 0.3])
def test_drawn_sersic_indices_are_rounded(source, step):
    values = draw(200, step=step, sersic_index=source)["sersic_index"]
    steps = values / step
    on_grid = np.isclose(steps, np.round(steps), atol=1e-9)
    # If the range does not end on the grid, its ends are drawn as well.
    assert (on_grid | (values == 0.5) | (values == 4.0)).all()
    assert len(set(values)) <= 3.5 / step + 3
    exact = draw(200, step=None, sersic_index=source)["sersic_index"]
    assert abs(values - exact).max() <= step / 2 + 1e-12
    assert len(set(exact)) == 200


def test_rounded_values_are_the_decimal_numbers():
    values = draw(300)["sersic_index"]
    assert set(values) <= {round(0.05 * k, 2) for k in range(10, 81)}


@pytest.mark.parametrize("source", [(0.32, 0.34), stats.uniform(6.18, 0.02)])
def test_rounding_stays_in_the_range(source):
    values = draw(sersic_index=source)["sersic_index"]
    low, high = (0.32, 0.34) if isinstance(source, tuple) else (6.18, 6.2)
    assert (values >= low).all()
    assert (values <= high + 1e-12).all()


@pytest.mark.parametrize("source", [1.2345, np.full(50, 1.2345)])
def test_given_sersic_indices_are_not_rounded(source):
    assert (draw(sersic_index=source)["sersic_index"] == 1.2345).all()


def test_ellipticity_components():
    table = draw(3, ellipticity=0.4, position_angle=[0.0, 45.0, 120.0])
    np.testing.assert_allclose(table["e1"], [0.4, 0.0, -0.2], atol=1e-15)
    np.testing.assert_allclose(table["e2"], [0.0, 0.4, -0.4 * 0.75**0.5], atol=1e-15)


def test_a_half_turn_is_the_same_galaxy():
    first, second = draw(1, position_angle=10.0), draw(1, position_angle=190.0)
    np.testing.assert_allclose(first["e1"], second["e1"])
    np.testing.assert_allclose(first["e2"], second["e2"])


KINDS = "a (low, high) tuple of numbers, a number, a 1-D array of n_samples numbers or"
BAD = [
    ("flux", (5, 1), "a (low, high) tuple with low <= high. Got (5, 1)"),
    ("flux", (0, 10), "every value in (0, inf). Got (0, 10)"),
    ("flux", 0.0, "every value in (0, inf). Got 0.0"),
    ("flux", -3, "every value in (0, inf). Got -3"),
    ("flux", float("nan"), "finite with every value in (0, inf). Got nan"),
    ("flux", float("inf"), "finite with every value in (0, inf). Got inf"),
    (
        "flux",
        (1.0, float("inf")),
        "finite with every value in (0, inf). Got (1.0, inf)",
    ),
    ("flux", (float("nan"), 1.0), "Got (nan, 1.0)"),
    ("flux", [1.0, float("nan"), 2.0], "Got nan at index 1"),
    ("flux", [1.0, 2.0, -5.0], "Got -5 at index 2"),
    ("flux", [1.0, 2.0], "an array of n_samples=3 values. Got an array of 2 values"),
    ("flux", [], "Got an array of 0 values"),
    ("flux", np.ones((3, 1)), KINDS),
    ("flux", np.array(1.0), KINDS),
    ("flux", [[1.0], [1.0, 2.0]], KINDS),
    ("flux", "bright", KINDS),
    ("flux", ("a", "b"), KINDS),
    ("flux", (1, 2, 3), "of scipy.stats. Got (1, 2, 3) instead"),
    ("flux", (True, 2), KINDS),
    ("flux", 1j, KINDS),
    ("flux", True, KINDS),
    ("flux", None, KINDS),
    ("flux", ["a", "b", "c"], KINDS),
    ("flux", {"low": 1}, KINDS),
    ("flux", stats.norm, KINDS),
    ("flux", stats.Normal, KINDS),
    ("flux", stats.norm([1.0, 2.0, 3.0]), "a distribution of single numbers"),
    ("flux", stats.norm(-9, 1), "a distribution with the support [-inf, inf], which"),
    ("flux", stats.norm(0, -1), "which gave nan"),
    ("flux", 10**400, "finite with every value in (0, inf). Got 1000"),
    ("flux", (1.0, 10**400), "finite with every value in (0, inf). Got (1.0, 1000"),
    ("half_light_radius", (0.0, 1.0), "every value in [1e-30, 1e+30]"),
    ("half_light_radius", -1.0, "every value in [1e-30, 1e+30]"),
    ("half_light_radius", [1.0, 2.0, 1e300], "Got 1e+300 at index 2"),
    ("sersic_index", (0.2, 4.0), "every value in [0.3, 6.2]. Got (0.2, 4.0)"),
    ("sersic_index", (0.5, 6.3), "every value in [0.3, 6.2]. Got (0.5, 6.3)"),
    ("sersic_index", 6.21, "every value in [0.3, 6.2]. Got 6.21"),
    ("sersic_index", [1.0, 7.0, 2.0], "Got 7 at index 1"),
    ("sersic_index", stats.uniform(7, 1), "support [7, 8], which gave 7."),
    ("sersic_index", stats.Uniform(a=0.0, b=0.1), "support [0, 0.1], which gave 0.0"),
    ("ellipticity", (0.0, 1.0), "every value in [0, 1). Got (0.0, 1.0)"),
    ("ellipticity", -0.1, "every value in [0, 1). Got -0.1"),
    ("position_angle", float("inf"), "finite. Got inf"),
    ("x0", float("nan"), "finite. Got nan"),
    ("y0", (64, 0), "a (low, high) tuple with low <= high. Got (64, 0)"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_bad_parameters(name, value, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        draw(3, **{name: value})
    start = f"The '{name}' parameter of make_galaxies must be "
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith(" instead.")


@pytest.mark.parametrize("name", sorted(RANGES))
@pytest.mark.parametrize("bad", ["1", (1,), None, float("nan")])
def test_every_parameter_is_checked(name, bad):
    with pytest.raises(ValueError, match=f"^The '{name}' parameter"):
        draw(3, **{name: bad})


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("flux", "adu"),
        ("half_light_radius", "arcsec"),
        ("position_angle", "deg"),
        ("x0", "pix"),
        ("y0", "pix"),
    ],
)
def test_quantities_are_refused_with_the_unit_of_the_parameter(name, unit):
    one = Quantity(1.0, "lyr")
    message = f"{name} must be plain numbers in {unit}. Got a Quantity in lyr: pass its"
    for value in (one, (one, one), [one, one, one], Quantity([1.0] * 3, "lyr")):
        with pytest.raises(TypeError, match=re.escape(message)):
            draw(3, **{name: value})


def test_quantities_of_parameters_without_a_unit():
    with pytest.raises(TypeError, match=r"ellipticity must be plain numbers\. Got"):
        draw(3, ellipticity=Quantity(0.3, ""))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sersic_index", (0.3, 6.2)),
        ("ellipticity", 0.0),
        ("flux", (3.0, 3.0)),
        ("position_angle", (-90, 90)),
        ("x0", (-10.0, 74.0)),
    ],
)
def test_limits_that_are_allowed(name, value):
    assert np.isfinite(draw(**{name: value})[name]).all()
