"""PSF and noise of each stamp of make_galaxies, and the planes that show them."""

import re

import joblib
import numpy as np
import pytest
from scipy import stats

from sklcae._planes import check_planes, split_planes
from sklcae.datasets import _chunks, make_galaxies
from sklcae.datasets._parameters import COLUMNS, TELESCOPE
from sklcae.datasets._random import Stream, stamp_generator
from sklcae.datasets._telescope import DETECTOR
from tests.quantities import Quantity

PLANES = ("image", "variance", "psf")
# One Sersic index and small stamps: quick to render.
QUICK = {"sersic_index": 1.0, "image_shape": (16, 20), "random_state": 0}
VARIED = {
    "psf": "moffat",
    "psf_fwhm": (0.5, 1.2),
    "psf_ellipticity": (0.0, 0.3),
    "psf_position_angle": (0.0, 180.0),
    "moffat_beta": (2.5, 5.0),
    "sky_level": (5.0, 50.0),
    "read_noise": (1.0, 9.0),
}
UNITS = {
    "psf_fwhm": "arcsec",
    "psf_position_angle": "deg",
    "sky_level": "adu",
    "read_noise": "electron",
}


def make(n_samples=6, **changes):
    return make_galaxies(n_samples, **{**QUICK, **changes})


def make_bunch(n_samples=6, **changes):
    return make(n_samples, return_X_y=False, **changes)


def psf_stamps(n_psfs, side=15):
    """Return PSFs of different widths, without symmetry, of any sum."""
    y, x = np.indices((side, side)) - side // 2
    sigma = np.linspace(1.1, 2.0, n_psfs)[:, np.newaxis, np.newaxis]
    bump = 0.2 * np.exp(-((x - 1) ** 2 + y**2) / (2 * sigma**2))
    return 7 * (np.exp(-(x**2 + y**2) / (2 * sigma**2)) + bump)


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


class TestEachStampHasItsOwn:
    @pytest.mark.parametrize("name", TELESCOPE)
    def test_range_number_array_and_distribution(self, name):
        low, high = VARIED[name]
        values = np.linspace(low, high, 6)
        # Another setting varies, so that there are columns.
        other = "sky_level" if name == "psf_fwhm" else "psf_fwhm"
        others = {"psf": "moffat", other: VARIED[other]}
        ranged, given, drawn, fixed = (
            make_bunch(**{**others, name: value}).frame[name].to_numpy()
            for value in (
                (low, high),
                values,
                stats.uniform(low, high - low),
                float(high),
            )
        )
        assert ((ranged >= low) & (ranged <= high)).all()
        assert len(set(ranged)) == 6
        np.testing.assert_array_equal(given, values)
        np.testing.assert_allclose(drawn, ranged, rtol=1e-12)
        np.testing.assert_array_equal(fixed, high)

    def test_ranges_are_uniform_filled_and_independent(self):
        frame = make_bunch(300, **{**VARIED, "image_shape": (1, 1)}, noise=False).frame
        for name in TELESCOPE:
            low, high = VARIED[name]
            uniform = stats.uniform(low, high - low)
            assert stats.kstest(frame[name], uniform.cdf).pvalue > 1e-3
        names = [*TELESCOPE, "flux", "half_light_radius", "x0"]
        correlations = np.corrcoef(frame[names].T) - np.eye(len(names))
        assert abs(correlations).max() < 5 / np.sqrt(300)

    def test_it_leaves_the_galaxies_alone(self):
        plain = make_bunch(sersic_index=(0.5, 4.0)).frame
        varied = make_bunch(sersic_index=(0.5, 4.0), **VARIED).frame
        assert plain.equals(varied[list(COLUMNS)])

    def test_random_numbers_of_its_own(self):
        numbers = [stamp_generator((0,), 0, stream).random() for stream in Stream]
        assert len(set(numbers)) == len(Stream)

    @pytest.mark.parametrize("name", TELESCOPE)
    def test_fixing_one_does_not_change_the_others(self, name):
        varied = make_bunch(**VARIED).frame
        fixed = make_bunch(**{**VARIED, name: VARIED[name][1]}).frame
        assert varied.drop(columns=name).equals(fixed.drop(columns=name))

    @pytest.mark.parametrize("psf", ["gaussian", "moffat", None])
    def test_equal_values_are_as_good_as_a_number(self, psf):
        alike = {
            name: np.full(6, value)
            for name, value in {
                "psf_fwhm": 0.7,
                "moffat_beta": 3.5,
                "sky_level": 20.0,
                "read_noise": 3.0,
            }.items()
        }
        arrays = make(psf=psf, **alike)[0]
        numbers = make(psf=psf, **{name: float(v[0]) for name, v in alike.items()})[0]
        # The Moffat PSFs come from a table.
        atol = 0 if psf != "moffat" else 1e-4
        np.testing.assert_allclose(arrays, numbers, rtol=0, atol=atol)

    @pytest.mark.parametrize("psf", ["gaussian", "moffat"])
    def test_each_stamp_is_seen_through_its_own_psf(self, psf):
        settings = {**VARIED, "psf": psf, "noise": False}
        galaxies = make_bunch(4, **settings)
        for index, row in galaxies.frame.iterrows():
            own = {name: row[name] for name in TELESCOPE if name in row}
            alone = make(4, **{**settings, **own})[0][index]
            np.testing.assert_allclose(
                galaxies.data[index], alone, atol=1e-6 * alone.max()
            )

    @pytest.mark.parametrize(
        "name", ["psf_fwhm", "psf_ellipticity", "psf_position_angle", "moffat_beta"]
    )
    def test_each_setting_changes_the_stamps(self, name):
        settings = {"psf": "moffat", "psf_ellipticity": 0.2, "noise": False}
        usual = make(**settings)[0]
        varied = make(**{**settings, name: VARIED[name]})[0]
        fixed = make(**{**settings, name: VARIED[name][1]})[0]
        assert (varied != usual).mean() > 0.5
        assert (varied != fixed).mean() > 0.5

    def test_noise_of_each_stamp(self):
        dark = make_bunch(
            60, **VARIED, flux=1e-6, image_shape=(64, 64), half_light_radius=1.0
        )
        expected = dark.frame["sky_level"] + dark.frame["read_noise"] ** 2
        ratio = dark.images.var(axis=(1, 2)) / expected
        # The variance of 4,096 pixels scatters by 2.2 %.
        assert abs(ratio - 1).max() < 0.12
        assert abs(ratio.mean() - 1) < 0.02

    @pytest.mark.parametrize("psf", ["gaussian", "moffat", "array"])
    def test_promises_of_reproducibility(self, psf):
        psf = psf_stamps(3) if psf == "array" else psf
        settings = {**VARIED, "psf": psf, "planes": PLANES, "sersic_index": (0.5, 0.7)}
        serial = make(20, **settings)
        assert_same(make(20, n_jobs=2, **settings), serial)
        with joblib.parallel_config("threading", n_jobs=3):
            assert_same(make(20, **settings), serial)
        few = make(7, **settings)
        assert_same(few, (serial[0][:7], serial[1][:7]))
        other = make(7, **{**settings, "random_state": 1})
        assert (few[0][:, 0] != other[0][:, 0]).mean() > 0.9


class TestFrame:
    def test_settings_of_all_stamps_are_no_columns(self):
        assert make_bunch(psf="moffat").frame.columns.tolist() == list(COLUMNS)
        assert make_bunch(psf=psf_stamps(1)).frame.columns.tolist() == list(COLUMNS)
        unused = make_bunch(psf=None, psf_fwhm=(0.5, 1.0)).frame
        assert unused.columns.tolist() == list(COLUMNS)

    @pytest.mark.parametrize(
        ("psf", "missing"),
        [
            ("moffat", []),
            ("gaussian", ["moffat_beta"]),
            (None, [name for name in TELESCOPE if name not in DETECTOR]),
        ],
    )
    def test_only_what_concerns_the_stamps(self, psf, missing):
        columns = make_bunch(psf=psf, sky_level=(1.0, 2.0)).frame.columns
        expected = [name for name in TELESCOPE if name not in missing]
        assert columns.tolist() == [*COLUMNS, *expected]

    def test_index_of_the_psf(self):
        frame = make_bunch(psf=psf_stamps(3)).frame
        assert frame.columns.tolist() == [
            *COLUMNS,
            "sky_level",
            "read_noise",
            "psf_index",
        ]

    def test_settings_and_description(self):
        psf_fwhm = (0.5, 1.2)
        galaxies = make_bunch(
            psf_fwhm=psf_fwhm,
            psf_ellipticity=0.1,
            psf_position_angle=30.0,
            sky_level=stats.uniform(5, 10),
            planes=PLANES,
        )
        assert galaxies.psf_fwhm == psf_fwhm
        assert galaxies.planes == PLANES
        for text in (
            "gaussian PSF of FWHM uniform in [0.5, 1.2] arcsec",
            "ellipticity 0.1 along the angle 30.0 degrees",
            "sky_level drawn from a distribution with the support [5, 15] ADU",
            "data    (6, 3, 16, 20) float32",
            "planes  image, variance, psf",
            "e1, e2, psf_fwhm, psf_ellipticity, psf_position_angle, sky_level, read_n",
        ):
            assert text in galaxies.DESCR
        text = "an effective PSF from 2 image(s)"
        assert text in make_bunch(psf=psf_stamps(2)).DESCR


class TestArrayOfPSFs:
    def test_one_for_each_stamp(self):
        psf = psf_stamps(6)
        galaxies = make_bunch(psf=psf, noise=False)
        assert galaxies.frame["psf_index"].tolist() == list(range(6))
        for index, image in enumerate(psf):
            alone = make(psf=image, noise=False)[0]
            np.testing.assert_array_equal(galaxies.data[index], alone[index])
        assert galaxies.psf is psf

    def test_drawn_for_each_stamp(self):
        psf = psf_stamps(5)
        galaxies = make_bunch(200, psf=psf, noise=False, half_light_radius=1.0)
        index = galaxies.frame["psf_index"]
        assert stats.chisquare(np.bincount(index)).pvalue > 1e-3
        for one in range(5):
            alone = make(200, psf=psf[one], noise=False, half_light_radius=1.0)[0]
            chosen = index == one
            np.testing.assert_array_equal(galaxies.data[chosen], alone[chosen])

    @pytest.mark.parametrize("kind", [list, np.float32, np.asarray, lambda p: 3 * p])
    def test_any_array_of_any_sum(self, kind):
        psf = psf_stamps(1)[0]
        given = kind(psf) if kind is not list else psf.tolist()
        found, expected = (make(psf=p, noise=False)[0] for p in (given, psf))
        np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max())

    def test_a_given_array_is_not_changed(self):
        psf = psf_stamps(3)
        before = psf.copy()
        make(psf=psf, planes=PLANES)
        np.testing.assert_array_equal(psf, before)

    def test_planes_of_a_model_show_nearly_the_same_galaxies(self):
        """A stamp rendered through the plane "psf" of another is the same stamp."""
        settings = {"noise": False, "x0": 20.0, "y0": 20.0, "image_shape": (40, 40)}
        settings |= {"half_light_radius": (0.3, 1.0)}
        model = make_bunch(
            **settings, planes=PLANES, psf_fwhm=(0.6, 1.0), psf_ellipticity=(0.0, 0.3)
        )
        again = make(**settings, psf=model.psf_images)[0].reshape(-1, 40, 40)
        worst = abs(again - model.images).max(axis=(1, 2))
        assert (worst < 1e-4 * model.images.max(axis=(1, 2))).all()


class TestPlanes:
    @pytest.mark.parametrize("planes", ["image", ["image"], ("image",)])
    def test_images_alone_are_flat(self, planes):
        assert_same(make(planes=planes), make())

    @pytest.mark.parametrize(
        "planes", [("image", "variance"), ["image", "psf"], PLANES]
    )
    @pytest.mark.parametrize("psf", ["gaussian", "moffat", None, "array"])
    def test_shape_and_order(self, planes, psf):
        psf = psf_stamps(4) if psf == "array" else psf
        X, y = make(psf=psf, planes=planes)
        assert (X.shape, X.dtype) == ((6, len(planes), 16, 20), np.float32)
        assert X.flags.c_contiguous
        images, targets = make(psf=psf)
        assert_same((X[:, 0].reshape(6, -1), y), (images, targets))
        # The estimators accept them.
        check_planes(split_planes(X, tuple(planes)))

    def test_bunch(self):
        galaxies = make_bunch(planes=PLANES, **VARIED)
        for index, name in enumerate(("images", "variance_images", "psf_images")):
            np.testing.assert_array_equal(galaxies[name], galaxies.data[:, index])
            assert np.shares_memory(galaxies[name], galaxies.data)
        assert "psf_images" not in make_bunch(planes=("image", "variance"))

    @pytest.mark.parametrize("noise", [True, False])
    def test_variance_of_the_background(self, noise):
        galaxies = make_bunch(planes=PLANES, noise=noise, gain=2.5, **VARIED)
        sky, read_noise = (galaxies.frame[n] for n in ("sky_level", "read_noise"))
        expected = np.asarray(sky / 2.5 + (read_noise / 2.5) ** 2)[:, None, None]
        expected = np.broadcast_to(expected, (6, 16, 20))
        np.testing.assert_allclose(galaxies.variance_images, expected, rtol=1e-6)

    def test_psf_of_each_stamp(self):
        # A galaxy that is a point shows the PSF.
        stamps = make_bunch(
            4,
            **{**VARIED, "moffat_beta": (4.0, 5.0), "psf_fwhm": (0.5, 0.6)},
            planes=PLANES,
            half_light_radius=1e-3,
            flux=1.0,
            x0=20.5,
            y0=16.5,
            image_shape=(32, 40),
            noise=False,
        )
        assert abs(stamps.images - stamps.psf_images).max() < 1e-3
        np.testing.assert_allclose(stamps.psf_images.sum(axis=(1, 2)), 1, rtol=1e-6)
        np.testing.assert_array_equal(
            stamps.psf_images[:, 16, 20], stamps.psf_images.max(axis=(1, 2))
        )

    def test_psf_from_an_array_is_padded_or_cut(self):
        psf = psf_stamps(2, side=17)
        X = make(2, psf=psf, planes=("image", "psf"))[0]
        # The centre moves from pixel (8, 8) to (8, 10).
        cut = psf[:, :16]
        expected = cut / cut.sum(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(X[:, 1, :, 2:19], expected, rtol=1e-5, atol=1e-9)
        assert not X[:, 1, :, [0, 1, 19]].any()
        wide = psf_stamps(1, side=31) ** 0.1
        with pytest.warns(UserWarning, match="of its light outside the stamp in row 0"):
            make(2, psf=wide, planes=("image", "psf"))
        # Without this plane nothing is cut off.
        make(2, psf=wide)


EVEN = np.ones((4, 4))
OFF_CENTER = np.eye(1, 81, 4).reshape(9, 9)
BAD = [
    ({"psf": "airy"}, "psf", "Got 'airy' instead."),
    ({"psf": 0.7}, "psf", "(h, w) or (m, h, w). Got 0.7 instead."),
    ({"psf": {}}, "psf", "Got {} instead."),
    ({"psf": [1.0, 2.0]}, "psf", "Got an array of shape (2,) instead."),
    ({"psf": [[1.0], [1.0, 2.0]]}, "psf", "Got [[1.0], [1.0, 2.0]] instead."),
    ({"psf": np.ones((1, 1, 3, 3))}, "psf", "array of shape (1, 1, 3, 3) instead."),
    ({"psf": np.ones((0, 3, 3))}, "psf", "Got an array of shape (0, 3, 3) instead."),
    (
        {"psf": EVEN},
        "psf",
        "sides of the stamp, (16, 20). Got the sides (4, 4) instead.",
    ),
    ({"psf": -np.ones((3, 3))}, "psf", "have a positive sum."),
    ({"psf": np.full((3, 3), np.nan)}, "psf", "be finite."),
    ({"psf": OFF_CENTER}, "psf", "have its centre in pixel (H // 2, W // 2)."),
    ({"psf": [["a"]]}, "psf", "psf must be an array of numbers."),
    ({"psf_fwhm": (1.2, 0.5)}, "psf_fwhm", "low <= high. Got (1.2, 0.5) instead."),
    ({"psf_fwhm": [0.7]}, "psf_fwhm", "n_samples=6 values. Got an array of 1 values"),
    ({"psf_fwhm": None}, "psf_fwhm", "Got None instead."),
    ({"psf_fwhm": stats.norm(-9, 1)}, "psf_fwhm", "support [-inf, inf], which gave"),
    ({"psf_ellipticity": (0.0, 1.0)}, "psf_ellipticity", "Got (0.0, 1.0) instead."),
    ({"psf_ellipticity": -0.1}, "psf_ellipticity", "Got -0.1 instead."),
    ({"psf_position_angle": np.inf}, "psf_position_angle", "finite. Got inf instead."),
    ({"moffat_beta": (1.1, 3.0)}, "moffat_beta", "in (1.1, 50]. Got (1.1, 3.0)"),
    ({"sky_level": [1, 2, 3, 4, 5, -6]}, "sky_level", "Got -6 at index 5 instead."),
    ({"read_noise": "low"}, "read_noise", "Got 'low' instead."),
    ({"gain": (1.0, 2.0)}, "gain", "Got (1.0, 2.0) instead."),
    ({"planes": "psf"}, "planes", "Got 'psf' instead."),
    ({"planes": ("variance", "image")}, "planes", "Got ('variance', 'image') instead."),
    ({"planes": []}, "planes", "Got [] instead."),
    ({"planes": None}, "planes", "Got None instead."),
    ({"planes": ("image", 3)}, "planes", "Got ('image', 3) instead."),
]


@pytest.fixture
def no_rendering(monkeypatch):
    def render_stamp(*args, **kwargs):
        raise AssertionError("rendered before everything was checked")

    monkeypatch.setattr(_chunks, "render_stamp", render_stamp)


@pytest.mark.usefixtures("no_rendering")
@pytest.mark.parametrize(("bad", "name", "text"), BAD)
def test_bad_settings(bad, name, text):
    pattern = f"^The '{name}' parameter of make_galaxies must be .*{re.escape(text)}"
    with pytest.raises(ValueError, match=pattern):
        make(**bad)


@pytest.mark.usefixtures("no_rendering")
@pytest.mark.parametrize(
    ("noiseless", "got"),
    [
        ({"sky_level": [1, 1, 0, 1, 1, 1], "read_noise": 0.0}, "Got 0 at index 2"),
        ({"sky_level": 1e37, "gain": 1e-20, "noise": False}, "Got inf at index 0"),
    ],
)
def test_variance_planes_without_variance(noiseless, got):
    message = f"'sky_level', 'read_noise' and 'gain' .* positive variance .*{got}"
    with pytest.raises(ValueError, match=message):
        make(planes=PLANES, **noiseless)


@pytest.mark.usefixtures("no_rendering")
@pytest.mark.parametrize("name", UNITS)
def test_quantities_are_refused(name):
    one = Quantity(1.0, "lyr")
    message = f"{name} must be plain numbers in {UNITS[name]}. Got a Quantity in lyr"
    for value in (one, (one, one), [one] * 6, Quantity([1.0] * 6, "lyr")):
        with pytest.raises(TypeError, match=re.escape(message)):
            make(**{name: value})


@pytest.mark.usefixtures("no_rendering")
def test_quantity_as_psf():
    with pytest.raises(TypeError, match="psf must be plain numbers"):
        make(psf=Quantity(psf_stamps(1)[0], "adu"))
