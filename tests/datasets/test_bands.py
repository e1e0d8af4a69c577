"""Several bands of the same galaxies: fluxes, settings of each band and shapes."""

import numpy as np
import pytest
from scipy import stats

from sklcae._planes import check_planes, split_planes
from sklcae.datasets import cramer_rao_bound, make_galaxies, signal_to_noise
from tests.quantities import Quantity

BANDS = ("g", "r", "i")
PLANES = ("image", "variance", "psf")
QUICK = {"sersic_index": 1.0, "image_shape": (16, 20), "random_state": 0}
FLUXES = [f"flux_{band}" for band in BANDS]


def make(n_samples=6, **changes):
    settings = {**QUICK, "bands": BANDS, "return_X_y": False, **changes}
    return make_galaxies(n_samples, **settings)


def make_tiny(n_samples, **changes):
    """Return a Bunch that takes little time to render."""
    return make(n_samples, image_shape=(1, 1), noise=False, **changes)


def colors(frame):
    """Return the magnitude of each band minus the next, (n, n_bands - 1)."""
    magnitudes = -2.5 * np.log10(frame[FLUXES].to_numpy())
    return magnitudes[:, :-1] - magnitudes[:, 1:]


def test_shapes_and_names():
    galaxies = make(planes=PLANES)
    assert galaxies.data.shape == (6, 9, 16, 20)
    assert galaxies.images.shape == (6, 3, 16, 20)
    assert galaxies.bands == BANDS
    assert galaxies.target_names == [*FLUXES, "half_light_radius"]
    np.testing.assert_array_equal(
        galaxies.target, galaxies.frame[FLUXES + ["half_light_radius"]]
    )
    assert list(galaxies.frame)[:4] == [*FLUXES, "half_light_radius"]
    assert "flux" not in galaxies.frame


def test_channels_are_in_the_order_of_stack_planes():
    galaxies = make(planes=PLANES)
    planes = split_planes(galaxies.data, PLANES)
    check_planes(planes)
    for name, plane in zip(
        ("images", "variance_images", "psf_images"), planes, strict=True
    ):
        np.testing.assert_array_equal(galaxies[name], plane)
        assert np.shares_memory(galaxies[name], galaxies.data)


def test_X_and_y():
    X, y = make(return_X_y=True)
    galaxies = make()
    np.testing.assert_array_equal(X, galaxies.data)
    np.testing.assert_array_equal(y, galaxies.target)
    assert (X.shape, X.dtype) == ((6, 3, 16, 20), np.float32)


def test_one_band_has_an_axis_of_its_own():
    one = make(bands=["g"], colors=[])
    assert one.data.shape == one.images.shape == (6, 1, 16, 20)
    plain = make(bands=None)
    np.testing.assert_array_equal(one.images[:, 0], plain.images)
    np.testing.assert_array_equal(one.frame["flux_g"], plain.frame["flux"])


def test_the_first_band_is_the_stamp_of_a_single_band():
    varied = {"psf_fwhm": (0.5, 1.2), "sky_level": (5.0, 50.0), "neighbours": 2}
    varied |= {"cosmic_rays": 1.0, "dead_columns": 0.5, "sky_gradient": (0.0, 1.0)}
    many, single = make(**varied), make(bands=None, **varied)
    np.testing.assert_array_equal(many.images[:, 0], single.images)
    np.testing.assert_array_equal(many.cosmic_ray_mask[:, 0], single.cosmic_ray_mask)
    for name in ("sky_level", "sky_gradient_x"):
        np.testing.assert_array_equal(many.frame[f"{name}_g"], single.frame[name])


def test_more_bands_begin_with_the_same_ones():
    few, many = make(bands=BANDS[:2], neighbours=1), make(neighbours=1)
    np.testing.assert_array_equal(few.images, many.images[:, :2])
    common = [*FLUXES[:2], "x0"]
    assert few.neighbours[common].equals(many.neighbours[common])


def test_stamps_do_not_depend_on_other_stamps():
    varied = {"psf_fwhm": (0.5, 1.2), "neighbours": 1.0}
    few, many = make(3, **varied), make(8, n_jobs=2, **varied)
    np.testing.assert_array_equal(few.data, many.data[:3])


def test_galaxies_differ_only_in_flux():
    galaxies = make(noise=False, colors=[0.75, -1.0])
    images = galaxies.images
    for band, color in enumerate((0.75, -1.0)):
        ratio = 10 ** (0.4 * color)
        np.testing.assert_allclose(
            images[:, band + 1], ratio * images[:, band], rtol=1e-4, atol=1e-4
        )
    np.testing.assert_allclose(colors(galaxies.frame), [[0.75, -1.0]] * 6)


def test_bands_have_noise_of_their_own():
    images = make(40, flux=1e-6, colors=0.0).images
    correlations = np.corrcoef(images.swapaxes(0, 1).reshape(3, -1)) - np.eye(3)
    assert abs(correlations).max() < 5 / np.sqrt(images[:, 0].size)


class TestColors:
    def test_one_setting_for_all_pairs(self):
        drawn = colors(make_tiny(200).frame)
        for pair in drawn.T:
            assert stats.kstest(pair, stats.uniform(0, 1).cdf).pvalue > 1e-3
        assert abs(np.corrcoef(drawn.T)[0, 1]) < 5 / np.sqrt(200)

    def test_a_list_has_one_setting_a_pair(self):
        given = [stats.uniform(-1, 0.5), np.linspace(0.1, 0.6, 6)]
        drawn = colors(make(colors=given).frame)
        assert ((drawn[:, 0] > -1) & (drawn[:, 0] < -0.5)).all()
        np.testing.assert_allclose(drawn[:, 1], given[1])

    def test_an_array_has_one_value_a_stamp(self):
        values = np.linspace(0.1, 0.6, 6)
        drawn = colors(make(colors=values).frame)
        np.testing.assert_allclose(drawn, np.column_stack([values, values]))

    def test_they_leave_the_rest_alone(self):
        blue, red = make(colors=0.0).frame, make(colors=1.0).frame
        assert blue.drop(columns=FLUXES).equals(red.drop(columns=FLUXES))
        assert blue["flux_g"].equals(red["flux_g"])

    def test_neighbours_have_colors_of_their_own(self):
        galaxies = make(colors=[(0.2, 0.8), np.arange(6.0)], neighbours=np.full(6, 3))
        near = galaxies.neighbours
        assert list(near)[:5] == ["stamp", *FLUXES, "half_light_radius"]
        drawn = colors(near)
        assert ((drawn[:, 0] > 0.2) & (drawn[:, 0] < 0.8)).all()
        assert len(set(drawn[:, 0])) == 18
        assert set(drawn[:, 1].round(6)) <= set(np.arange(6.0))
        assert len(set(drawn[:, 1].round(6))) > 3

    def test_pairs_of_bands_have_random_numbers_of_their_own(self):
        galaxies = make(neighbours=np.full(6, 3))
        for frame in (galaxies.frame, galaxies.neighbours):
            assert len(set(colors(frame).ravel().round(12))) == 2 * len(frame)

    def test_neighbours_shine_in_their_colors(self):
        settings = {"flux": 1e-9, "neighbour_flux_ratio": 1e12, "x0": 10.0, "y0": 8.0}
        settings |= {"neighbour_distance": 0.1, "neighbours": np.ones(6, int)}
        galaxies = make(noise=False, colors=(0.2, 0.8), **settings)
        light = galaxies.images.sum(axis=(2, 3))
        near = galaxies.neighbours[FLUXES].to_numpy()
        np.testing.assert_allclose(light / light[:, :1], near / near[:, :1], rtol=1e-4)


class TestSettingsOfEachBand:
    def test_dicts(self):
        image = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])
        by_band = {
            "psf": {"g": "moffat", "r": image, "i": None},
            "psf_fwhm": {"g": 0.9, "r": 0.7, "i": 0.5},
            "psf_ellipticity": {"g": 0.2, "r": 0.0, "i": 0.0},
            "psf_position_angle": {"g": 30.0, "r": 0.0, "i": 0.0},
            "moffat_beta": {"g": 3.0, "r": 4.0, "i": 4.0},
            "sky_level": {"g": 5.0, "r": 20.0, "i": 80.0},
            "read_noise": {"g": 1.0, "r": 2.0, "i": 3.0},
            "gain": {"g": 1.0, "r": 2.0, "i": 4.0},
        }
        galaxies = make(planes=PLANES, colors=0.0, noise=False, **by_band)
        for place, band in enumerate(BANDS):
            own = {name: value[band] for name, value in by_band.items()}
            alone = make(bands=None, planes=PLANES, noise=False, **own)
            for name in ("images", "variance_images", "psf_images"):
                np.testing.assert_array_equal(galaxies[name][:, place], alone[name])
        assert galaxies.gain == by_band["gain"]

    def test_a_range_is_drawn_in_each_band(self):
        frame = make(
            sky_level=(5.0, 50.0),
            psf_fwhm={**dict.fromkeys(BANDS, 0.7), "r": (0.5, 1.0)},
        ).frame
        levels = frame[[f"sky_level_{band}" for band in BANDS]].to_numpy()
        assert len(set(levels.ravel())) == 18
        assert set(frame["psf_fwhm_g"]) == {0.7}
        assert frame["psf_fwhm_r"].nunique() == 6

    def test_an_array_is_the_same_in_all_bands(self):
        frame = make(sky_level=np.arange(6.0)).frame
        for band in BANDS:
            np.testing.assert_array_equal(frame[f"sky_level_{band}"], np.arange(6.0))

    def test_gain_changes_the_noise_of_its_band(self):
        gain = {"g": 1.0, "r": 100.0, "i": 1.0}
        quiet = make(60, flux=1e-6, gain=gain, read_noise=0.0).images
        expected = 10.0 / np.array(list(gain.values()))
        np.testing.assert_allclose(quiet.var(axis=(0, 2, 3)), expected, rtol=0.06)

    def test_description(self):
        text = make(psf_fwhm={"g": 0.9, "r": 0.7, "i": 0.5}, colors=[0.5, (0, 1)]).DESCR
        assert "in band g convolved with a gaussian PSF of FWHM 0.9 arcsec" in text
        assert "in band i convolved with a gaussian PSF of FWHM 0.5 arcsec" in text
        assert "Bands g, r, i; colours 0.5; uniform in [0, 1], magnitudes" in text
        assert "ADU, in band g" in text


def test_targets():
    frame = make().frame
    for targets, names in (
        ("flux_r", ["flux_r"]),
        ("e1", ["e1"]),
        (["x0", "flux", "e1"], ["x0", *FLUXES, "e1"]),
        (["flux_i", "flux_g"], ["flux_i", "flux_g"]),
        ("flux", FLUXES),
    ):
        galaxies = make(targets=targets)
        assert galaxies.target_names == names
        expected = frame[names].to_numpy()
        one = isinstance(targets, str) and len(names) == 1
        np.testing.assert_array_equal(
            galaxies.target, expected[:, 0] if one else expected
        )


def test_progress_names_the_band(capsys):
    make(verbose=1)
    assert "galaxies i" in capsys.readouterr().err


BAD = [
    ({"bands": "gri"}, "bands", "Got 'gri' instead."),
    ({"bands": ()}, "bands", "a sequence of different names"),
    ({"bands": ("g", "g")}, "bands", "Got ('g', 'g') instead."),
    ({"bands": ("g", "")}, "bands", "Got ('g', '') instead."),
    ({"bands": ("g", 1)}, "bands", "Got ('g', 1) instead."),
    ({"bands": 3}, "bands", "Got 3 instead."),
    ({"colors": [0.1]}, "colors", "a list with one for each, 2. Got a list of 1"),
    ({"colors": [0.1, "red"]}, "colors", "Got 'red' instead."),
    ({"colors": 51}, "colors", "in [-50, 50]. Got 51"),
    ({"colors": np.zeros(3)}, "colors", "n_samples=6 values. Got an array of 3 values"),
    (
        {"psf_fwhm": {"g": 0.7, "r": 0.7}},
        "psf_fwhm",
        "keys g, r, i. Got the keys 'g', 'r'",
    ),
    (
        {"gain": {"g": 1.0, "r": 1.0, "z": 1.0}},
        "gain",
        "keys g, r, i. Got the keys 'g'",
    ),
    ({"gain": {"g": 1.0, "r": 0.0, "i": 1.0}}, "gain", "Got 0.0 instead."),
    ({"psf": {"g": "airy", "r": None, "i": None}}, "psf", "Got 'airy' instead."),
    ({"sky_level": {"g": 1.0, "r": -1.0, "i": 1.0}}, "sky_level", "Got -1.0 instead."),
    ({"bands": None, "gain": {"g": 1.0}}, "gain", "without bands, not a dict"),
    (
        {"bands": None, "sky_level": {"g": 1.0}},
        "sky_level",
        "without bands, not a dict",
    ),
    ({"targets": "mass"}, "targets", "flux_g, flux_r, flux_i, half_light_radius"),
    ({"targets": ["flux", "flux_r"]}, "targets", "different names"),
    ({"targets": "flux_z"}, "targets", "Got 'flux_z' instead."),
]


@pytest.mark.parametrize(("bad", "name", "text"), BAD)
def test_bad_input(bad, name, text):
    message = f"^The '{name}' parameter of make_galaxies must be "
    with pytest.raises(ValueError, match=message) as raised:
        make(**bad)
    assert text in str(raised.value)


def test_fluxes_that_overflow_are_refused():
    with pytest.raises(ValueError, match=r"'flux' parameter.*Got 1e\+45 instead"):
        make(flux=1e5, colors=50.0, noise=False)


@pytest.mark.parametrize("value", [{"g": Quantity(1.0, "m")}, Quantity(1.0, "m")])
def test_quantities_are_refused(value):
    for name in ("gain", "sky_level"):
        with pytest.raises(TypeError, match=f"{name} must be plain numbers"):
            make(bands=["g"], **{name: value})


def test_the_bound_refuses_bands():
    message = (
        "'galaxies' parameter of cramer_rao_bound .* Got galaxies with several bands"
    )
    with pytest.raises(ValueError, match=message):
        cramer_rao_bound(make())


def test_signal_to_noise_takes_one_band():
    images = make(noise=False).images
    with pytest.raises(ValueError, match=r"images must have the shape"):
        signal_to_noise(images)
    assert signal_to_noise(images[:, 0]).shape == (6,)
