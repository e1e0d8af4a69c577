"""make_galaxy_variants: shared and varied parameters, reproducibility and errors."""

import re
from inspect import signature

import numpy as np
import pytest
from scipy import stats
from sklearn.model_selection import GroupKFold

from sklcae.datasets import (
    _chunks,
    _variants,
    cramer_rao_bound,
    make_galaxies,
    make_galaxy_variants,
)
from sklcae.datasets._parameters import ALLOWED, BULGE
from tests.quantities import Quantity

# A coarse grid of Sersic indices and small stamps: quick to render.
QUICK = {"image_shape": (16, 16), "sersic_index_step": 1.0, "random_state": 0}
# Every parameter varies from galaxy to galaxy.
ALL = {"varied": list(ALLOWED), "targets": list(ALLOWED)}


def make(n_galaxies=4, **changes):
    return make_galaxy_variants(n_galaxies, **{**QUICK, **changes})


def make_bunch(*args, **changes):
    return make(*args, return_X_y=False, **changes)


def by_galaxy(values, n_variants=2):
    """Return the values with one row per galaxy and one column per variant."""
    values = np.asarray(values)
    return values.reshape(-1, n_variants, *values.shape[1:])


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_keywords_and_defaults_equal_make_galaxies():
    own = dict(signature(make_galaxy_variants).parameters)
    for name in ("n_galaxies", "n_variants", "varied"):
        del own[name]
    theirs = dict(signature(make_galaxies).parameters)
    del theirs["n_samples"]
    assert list(own.values()) == list(theirs.values())


def test_every_keyword_reaches_make_galaxies(monkeypatch):
    passed_on = {}

    def record(n_samples, **keywords):
        passed_on.update(keywords)
        return "X", "y"

    monkeypatch.setattr(_variants, "make_galaxies", record)
    given = {name: object() for name in signature(make_galaxies).parameters}
    del given["n_samples"]
    make_galaxy_variants(4, varied="flux", **given)
    wrapped = (*ALLOWED, *BULGE, "colors")
    parameters = {name: passed_on[name].value for name in wrapped}
    assert {**passed_on, **parameters} == given


def test_X_y_and_groups():
    X, y, groups = make(3, n_variants=4)
    assert (X.shape, X.dtype) == ((12, 256), np.float32)
    assert (y.shape, y.dtype) == ((12, 2), np.float64)
    assert groups.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert groups.dtype.kind == "i"


def test_n_galaxies_may_be_positional_and_has_a_default():
    groups = make_galaxy_variants(image_shape=(4, 4), sersic_index=1.0, noise=False)[2]
    assert np.bincount(groups).tolist() == [2] * 100


def test_bunch():
    X, y, groups = make()
    galaxies = make_bunch()
    assert_same((X, y, groups), (galaxies.data, galaxies.target, galaxies.groups))
    assert galaxies.images.shape == (8, 16, 16)
    assert "4 galaxies in 2 variants each" in galaxies.DESCR
    assert "differ in flux, half_light_radius, noise and" in galaxies.DESCR
    assert "uniform in [0.0, 0.6]\n" in galaxies.DESCR
    assert "differ in noise and" in make_bunch(varied=()).DESCR
    assert "differ in nothing and" in make_bunch(varied=(), noise=False).DESCR


def test_cramer_rao_bound_accepts_the_bunch():
    assert cramer_rao_bound(make_bunch(1)).variance.shape == (2, 2)


@pytest.mark.parametrize("varied", [*ALLOWED, (), ["x0", "flux"], tuple(ALLOWED)])
@pytest.mark.parametrize("n_variants", [2, 3])
def test_the_varied_parameters_differ_and_the_others_are_shared(varied, n_variants):
    frame = make_bunch(
        varied=varied, n_variants=n_variants, sersic_index_step=None, noise=False
    ).frame
    for name in ALLOWED:
        values = by_galaxy(frame[name], n_variants)
        each = [len(set(row)) for row in values]
        is_varied = name == varied or name in list(varied)
        assert each == [n_variants if is_varied else 1] * 4, name
        # All galaxies differ.
        assert len(set(values[:, 0])) == 4


def test_the_defaults_vary_flux_and_radius():
    assert_same(make(), make(varied=("flux", "half_light_radius")))


def test_one_name_is_a_sequence_of_one():
    assert_same(make(varied="ellipticity"), make(varied=["ellipticity"]))


def test_variants_have_independent_noise():
    pairs = by_galaxy(make(30, flux=1e-6, half_light_radius=1.0, varied=())[0])
    # These stamps contain only the noise of sky and detector.
    correlations = [np.corrcoef(pair)[0, 1] for pair in pairs]
    assert max(np.abs(correlations)) < 6 / np.sqrt(256)
    noiseless = by_galaxy(make(varied=(), noise=False)[0])
    np.testing.assert_array_equal(noiseless[:, 0], noiseless[:, 1])


def test_noiseless_variants_in_flux_are_multiples():
    X, flux, _ = make(6, varied="flux", targets="flux", noise=False)
    for stamps, fluxes in zip(by_galaxy(X), by_galaxy(flux), strict=True):
        first, second = stamps / fluxes[:, np.newaxis]
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-9 * first.max())
        assert fluxes[0] != fluxes[1]


@pytest.mark.parametrize("name", ALLOWED)
def test_each_parameter_changes_the_stamp(name):
    first, second = make(1, varied=name, noise=False, sersic_index_step=None)[0]
    assert (first != second).mean() > 0.1


def test_the_first_variants_are_galaxies_of_make_galaxies():
    n_variants = 3
    X, y, _ = make(4, n_variants=n_variants, targets=ALL["targets"])
    X_alone, y_alone = make_galaxies(12, targets=ALL["targets"], **QUICK)
    assert_same(
        (X[::n_variants], y[::n_variants]),
        (X_alone[::n_variants], y_alone[::n_variants]),
    )
    assert_same(make(4, n_variants=3, **ALL)[:2], (X_alone, y_alone))
    assert_same(make(12, n_variants=1)[:2], make_galaxies(12, **QUICK))


def test_varying_one_more_parameter_does_not_change_the_others():
    few = make_bunch(varied="flux", noise=False).frame
    more = make_bunch(varied=("flux", "x0"), noise=False).frame
    assert few.drop(columns="x0").equals(more.drop(columns="x0"))


def test_more_galaxies_begin_with_the_same_ones():
    few, many = make(3, n_variants=3), make(9, n_variants=3)
    assert_same(few, [values[:9] for values in many])


def test_n_jobs_changes_nothing():
    assert_same(make(20), make(20, n_jobs=2))


def test_random_state():
    assert_same(make(), make())
    assert (make()[0] != make(random_state=1)[0]).mean() > 0.9


def test_random_state_instance():
    instance = np.random.RandomState(0)
    first, second = (make(random_state=instance) for _ in range(2))
    assert_same(first, make(random_state=0))
    assert (first[0] != second[0]).mean() > 0.9
    once = np.random.RandomState(0)
    make_galaxies(1, **{**QUICK, "random_state": once})
    assert_same(second, make(random_state=once))


def test_without_random_state_calls_differ():
    first, second = (make(random_state=None)[0] for _ in range(2))
    assert (first != second).mean() > 0.9


def test_arrays():
    flux = np.arange(1.0, 9.0) * 1000
    ellipticity = [0.1, 0.2, 0.3, 0.4]
    frame = make_bunch(varied="flux", flux=flux, ellipticity=ellipticity).frame
    np.testing.assert_array_equal(frame["flux"], flux)
    np.testing.assert_array_equal(frame["ellipticity"], np.repeat(ellipticity, 2))
    free = make_bunch(varied="flux").frame
    others = ["half_light_radius", "sersic_index", "position_angle", "x0", "y0"]
    assert frame[others].equals(free[others])


def test_shared_numbers_and_distributions():
    frame = make_bunch(
        varied="flux",
        flux=stats.loguniform(500, 50_000),
        half_light_radius=1.5,
        ellipticity=stats.uniform(0.1, 0.2),
    ).frame
    assert frame["flux"].nunique() == 8
    assert (frame["half_light_radius"] == 1.5).all()
    assert frame["ellipticity"].nunique() == 4
    assert frame["ellipticity"].between(0.1, 0.3).all()


@pytest.mark.parametrize("varied", ["sersic_index", "flux"])
def test_sersic_index_step(varied):
    settings = {"varied": varied, "targets": "sersic_index", "noise": False}
    y = make(12, sersic_index_step=0.5, **settings)[1]
    exact = make(12, sersic_index_step=None, **settings)[1]
    np.testing.assert_array_equal(y, np.round(2 * exact) / 2)
    assert not np.isin(exact, y).any()


def test_psf_and_noise_are_drawn_for_every_stamp():
    telescope = {
        "psf": "moffat",
        "psf_fwhm": (0.5, 1.2),
        "psf_ellipticity": (0.0, 0.1),
        "psf_position_angle": (0.0, 180.0),
        "moffat_beta": (2.5, 5.0),
        "sky_level": (5.0, 20.0),
        "read_noise": (1.0, 5.0),
    }
    plain = make_bunch(varied=())
    galaxies = make_bunch(varied=(), planes=("image", "psf"), **telescope)
    assert galaxies.data.shape == (8, 2, 16, 16)
    assert plain.frame.equals(galaxies.frame[list(plain.frame)])
    for name in list(telescope)[1:]:
        assert galaxies.frame[name].nunique() == 8
    assert (
        "differ in psf_fwhm, psf_ellipticity, psf_position_angle, moffat_beta, sk"
        in (galaxies.DESCR)
    )
    alone = make_galaxies(8, **QUICK, **telescope, return_X_y=False).frame
    names = list(telescope)[1:]
    assert alone[names].equals(galaxies.frame[names])


def test_arrays_of_psf_and_noise_have_the_values_of_all_stamps():
    seeing = np.repeat([0.5, 0.8, 1.0, 1.2], 2)
    galaxies = make_bunch(varied="x0", psf_fwhm=seeing, sky_level=np.arange(8.0))
    np.testing.assert_array_equal(galaxies.frame["psf_fwhm"], seeing)
    np.testing.assert_array_equal(galaxies.frame["sky_level"], np.arange(8.0))
    assert "differ in x0, psf_fwhm, sky_level, noise" in galaxies.DESCR


def test_a_psf_is_drawn_for_every_stamp():
    psf = np.zeros((3, 5, 5))
    psf[:, 1:4, 1:4] = 1.0
    frame = make_bunch(20, varied=(), psf=psf, noise=False).frame
    pairs = by_galaxy(frame["psf_index"])
    assert set(pairs.ravel()) == {0, 1, 2}
    assert (pairs[:, 0] != pairs[:, 1]).any()


def test_variants_share_bulge_and_colors():
    galaxies = make_bunch(
        varied="flux",
        bulge_fraction=(0.1, 0.9),
        bulge_radius_ratio=[0.1, 0.2, 0.3, 0.4],
        bands=("g", "r", "i"),
        colors=[(0.0, 1.0), np.arange(4.0)],
    )
    frame = galaxies.frame
    for name in ("bulge_fraction", "bulge_radius_ratio"):
        pairs = by_galaxy(frame[name])
        np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])
        assert len(set(pairs[:, 0])) == 4
    colors = 2.5 * np.log10(frame["flux_r"] / frame["flux_g"])
    np.testing.assert_allclose(*by_galaxy(colors).T)
    last = 2.5 * np.log10(frame["flux_i"] / frame["flux_r"])
    np.testing.assert_allclose(last, np.repeat(np.arange(4.0), 2), atol=1e-12)
    assert galaxies.images.shape == (8, 3, 16, 16)
    assert "which\n    differ in flux, noise and share" in galaxies.DESCR


def test_each_stamp_has_its_own_neighbours_and_defects():
    galaxies = make_bunch(
        varied="flux",
        ellipticity=[0.1, 0.2, 0.3, 0.4],
        neighbours=np.full(8, 3),
        sky_offset=(0.0, 1.0),
        cosmic_rays=3.0,
    )
    near = galaxies.neighbours
    assert near["x0"].nunique() == 24
    # Drawn from the values of all galaxies.
    assert near["ellipticity"].isin([0.1, 0.2, 0.3, 0.4]).all()
    assert near["ellipticity"].nunique() > 1
    masks = by_galaxy(galaxies.cosmic_ray_mask)
    assert (masks[:, 0] != masks[:, 1]).any()
    assert galaxies.frame["sky_offset"].nunique() == 8
    text = "differ in flux, sky_offset, neighbours, cosmic_rays, noise and share"
    assert text in galaxies.DESCR


def test_positions_are_drawn_from_the_whole_stamp():
    frame = make_bunch(
        200, varied="x0", image_shape=(4, 24), sersic_index=1.0, noise=False
    ).frame
    for values, size in ((frame["x0"], 24), (frame["y0"][::2], 4)):
        assert stats.kstest(values, stats.uniform(0, size).cdf).pvalue > 1e-3


def test_group_k_fold_keeps_a_galaxy_in_one_fold():
    X, y, groups = make(6)
    folds = list(GroupKFold(3).split(X, y, groups))
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert len(test) == 4


ERRORS = [
    ({"n_galaxies": 0}, "'n_galaxies'", "Got 0 instead."),
    ({"n_galaxies": True}, "'n_galaxies'", "Got True instead."),
    ({"n_variants": 0}, "'n_variants'", "Got 0 instead."),
    ({"n_variants": True}, "'n_variants'", "Got True instead."),
    ({"n_variants": 1.5}, "'n_variants'", "Got 1.5 instead."),
    ({"varied": None}, "'varied'", "Got None instead."),
    ({"varied": "size"}, "'varied'", "Got 'size' instead."),
    ({"varied": ["e1"]}, "'varied'", "Got ['e1'] instead."),
    ({"varied": ["flux", "flux"]}, "'varied'", "Got ['flux', 'flux'] instead."),
    ({"varied": [[]]}, "'varied'", "Got [[]] instead."),
    (
        {"flux": 700.0},
        "'flux'",
        "a 1-D array of n_galaxies * n_variants numbers or a frozen distribution of "
        "scipy.stats because it is one of 'varied'. Got the number 700.0 instead.",
    ),
    ({"varied": "x0", "x0": 8}, "'x0'", "one of 'varied'. Got the number 8 instead."),
    (
        {"flux": [1.0, 2.0, 3.0, 4.0]},
        "'flux'",
        "an array of n_galaxies * n_variants=8 values. Got an array of 4 values "
        "instead.",
    ),
    (
        {"varied": "x0", "flux": np.ones(8)},
        "'flux'",
        "an array of n_galaxies=4 values. Got an array of 8 values instead.",
    ),
    (
        {"bulge_fraction": [0.5] * 8},
        "'bulge_fraction'",
        "an array of 8 values instead.",
    ),
    ({"colors": [0.5], "bands": ["g"]}, "'colors'", "Got a list of 1 instead."),
    ({"colors": "red"}, "'colors'", "Got 'red' instead."),
    ({"neighbours": [1] * 4}, "'neighbours'", "Got the shape (4,) instead."),
    ({"flux": "bright"}, "'flux'", "Got 'bright' instead."),
    (
        {"ellipticity": "round"},
        "'ellipticity'",
        "a number, a 1-D array of n_galaxies numbers or a frozen distribution of "
        "scipy.stats. Got 'round' instead.",
    ),
    ({"ellipticity": (0.0, 1.0)}, "'ellipticity'", "Got (0.0, 1.0) instead."),
    ({"ellipticity": [0, 0, 0, 2]}, "'ellipticity'", "Got 2 at index 3 instead."),
    ({"x0": 500.0}, "'x0'", "Got values from 500 to 500 instead."),
    ({"image_shape": 16}, "'image_shape'", "Got 16 instead."),
    ({"gain": 0.0}, "'gain'", "Got 0.0 instead."),
    ({"gain": 1e-40}, "'gain'", "Got 1e-40 instead."),
    ({"moffat_beta": 200}, "'moffat_beta'", "Got 200 instead."),
    ({"psf_fwhm": [0.7] * 4}, "'psf_fwhm'", "Got an array of 4 values instead."),
    ({"psf": "airy"}, "'psf'", "Got 'airy' instead."),
    ({"planes": "psf"}, "'planes'", "Got 'psf' instead."),
    ({"sersic_index_step": 0.0}, "'sersic_index_step'", "Got 0.0 instead."),
    ({"targets": "mass"}, "'targets'", "Got 'mass' instead."),
    ({"return_X_y": "no"}, "'return_X_y'", "Got 'no' instead."),
    ({"random_state": "seed"}, "'random_state'", "Got 'seed' instead."),
]


@pytest.mark.parametrize(("bad", "name", "got"), ERRORS)
def test_bad_input(bad, name, got, monkeypatch):
    def render_stamp(*args, **kwargs):
        raise AssertionError("rendered before everything was checked")

    monkeypatch.setattr(_chunks, "render_stamp", render_stamp)
    start = f"The {name} parameter of make_galaxy_variants must be "
    with pytest.raises(ValueError, match=f"^{start}.*{re.escape(got)}$"):
        make(**{"n_galaxies": 4, **bad})


@pytest.mark.parametrize("name", ["half_light_radius", "psf_fwhm"])
@pytest.mark.parametrize("varied", [(), "half_light_radius"])
def test_quantities_are_refused(name, varied):
    message = rf"{name} must be plain numbers in arcsec.*\.to_value\('arcsec'\)"
    with pytest.raises(TypeError, match=message):
        make(2, varied=varied, **{name: Quantity([1.0, 2.0, 3.0, 4.0], "arcmin")})


@pytest.mark.parametrize("name", ["fluxes", "n_samples"])
def test_unknown_keywords_are_refused(name):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        make(**{name: 1})
