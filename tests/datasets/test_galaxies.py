"""make_galaxies as a whole: outputs, reproducibility, options and errors."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from scipy import stats
from sklearn.utils import Bunch

from sklcae.datasets import _chunks, make_galaxies
from tests.quantities import Quantity

# One Sersic index and small stamps: quick to render.
QUICK = {"sersic_index": 1.0, "image_shape": (16, 16), "random_state": 0}


def make(n_samples=6, **changes):
    return make_galaxies(n_samples, **{**QUICK, **changes})


def make_images(**changes):
    return make(**changes)[0]


def test_defaults_follow_the_paper():
    galaxies = make_galaxies(60, random_state=0, noise=False, return_X_y=False)
    assert galaxies.images.shape == (60, 64, 64)
    assert galaxies.pixel_scale == 0.2
    assert (galaxies.psf, galaxies.psf_fwhm) == ("gaussian", 0.7)
    assert galaxies.target_names == ["flux", "half_light_radius"]
    table_1 = {
        "flux": (500, 50_000),
        "half_light_radius": (0.3, 5.0),
        "sersic_index": (0.5, 4.0),
        "ellipticity": (0.0, 0.6),
        "position_angle": (0, 180),
        "x0": (0, 64),
        "y0": (0, 64),
    }
    for name, (low, high) in table_1.items():
        values = galaxies.frame[name]
        margin = 0.1 * (high - low)
        assert low <= values.min() < low + margin
        assert high - margin < values.max() <= high


def test_X_and_y():
    X, y = make(5)
    assert (X.shape, X.dtype) == ((5, 256), np.float32)
    assert (y.shape, y.dtype) == ((5, 2), np.float64)
    assert X.flags.c_contiguous
    assert X.flags.writeable


def test_n_samples_may_be_positional_and_has_a_default():
    assert len(make_galaxies(image_shape=(8, 8), sersic_index=1.0)[0]) == 100


def test_stamps_belong_to_their_rows():
    flux = np.array([4000.0, 1000.0, 3000.0, 2000.0])
    X, y = make(
        4,
        flux=flux,
        sersic_index=[2.0, 1.0, 0.5, 1.5],
        half_light_radius=0.3,
        x0=8.0,
        y0=8.0,
        noise=False,
    )
    np.testing.assert_array_equal(y[:, 0], flux)
    np.testing.assert_allclose(X.sum(axis=1), flux, rtol=0.05)


def test_positions_default_to_the_whole_stamp():
    frame = make(300, image_shape=(8, 24), return_X_y=False).frame
    for name, size in (("x0", 24), ("y0", 8)):
        assert stats.kstest(frame[name], stats.uniform(0, size).cdf).pvalue > 1e-3


def test_rows_of_a_stamp_lie_one_after_the_other():
    galaxies = make(1, image_shape=(8, 24), x0=20.5, y0=2.5, noise=False, flux=1.0)
    assert galaxies[0].reshape(8, 24)[2, 20] == galaxies[0].max()


def test_bunch():
    galaxies = make(return_X_y=False, targets=["e1", "flux"])
    X, y = make(targets=["e1", "flux"])
    assert isinstance(galaxies, Bunch)
    np.testing.assert_array_equal(galaxies.data, X)
    np.testing.assert_array_equal(galaxies.target, y)
    assert galaxies.target_names == ["e1", "flux"]
    assert galaxies.images.shape == (6, 16, 16)
    assert np.shares_memory(galaxies.images, galaxies.data)
    np.testing.assert_array_equal(galaxies.images.reshape(6, -1), galaxies.data)
    np.testing.assert_array_equal(galaxies.frame[["e1", "flux"]], y)
    assert galaxies.frame.columns.tolist() == [
        "flux",
        "half_light_radius",
        "sersic_index",
        "ellipticity",
        "position_angle",
        "x0",
        "y0",
        "e1",
        "e2",
    ]


def test_bunch_keeps_the_settings():
    settings = {
        "image_shape": (12, 10),
        "pixel_scale": 0.3,
        "psf": "moffat",
        "psf_fwhm": 0.9,
        "moffat_beta": 3.5,
        "sky_level": 7.0,
        "gain": 1.5,
        "read_noise": 4.0,
        "noise": True,
    }
    galaxies = make(return_X_y=False, **settings)
    assert {name: galaxies[name] for name in settings} == settings


def test_description_has_the_settings():
    description = make(
        return_X_y=False,
        flux=(100.0, 200.0),
        half_light_radius=1.5,
        ellipticity=stats.uniform(0.1, 0.2),
        x0=np.arange(6.0),
        psf="moffat",
        moffat_beta=3.5,
        sky_level=7.0,
    ).DESCR
    for text in (
        "6 stamps of 16 x 16 pixels at 0.2 arcsec",
        "moffat PSF of FWHM 0.7 arcsec and beta 3.5",
        "sky_level 7.0 ADU",
        "uniform in [100.0, 200.0], ADU",
        "1.5, arcsec",
        "a distribution with the support [0.1, 0.3]",
        "given for every stamp",
        "target  flux, half_light_radius",
    ):
        assert text in description
    bare = make(return_X_y=False, psf=None, noise=False).DESCR
    assert "without PSF" in bare
    assert "No noise." in bare


def test_targets():
    frame = make(return_X_y=False).frame
    for name in frame:
        np.testing.assert_array_equal(make(targets=(name,))[1], frame[[name]])
    np.testing.assert_array_equal(make(targets="e2")[1], frame["e2"])
    assert make(targets="e2", return_X_y=False).target_names == ["e2"]


def test_the_images_do_not_depend_on_the_targets():
    np.testing.assert_array_equal(make_images(), make_images(targets="e1"))


@pytest.mark.parametrize("sersic_index", [1.0, (0.5, 0.7)])
def test_n_jobs_changes_nothing(sersic_index):
    X, y = make(20, sersic_index=sersic_index)
    X_parallel, y_parallel = make(20, sersic_index=sersic_index, n_jobs=2)
    np.testing.assert_array_equal(X, X_parallel)
    np.testing.assert_array_equal(y, y_parallel)


def test_threads_of_joblib_change_nothing():
    with joblib.parallel_config("threading", n_jobs=4):
        X = make_images(n_samples=20)
    np.testing.assert_array_equal(X, make_images(n_samples=20))


@pytest.mark.parametrize("sersic_index_step", [0.5, None])
def test_the_papers_stamps_are_bitwise_the_same_for_any_number_of_jobs(
    sersic_index_step,
):
    def call(n_samples=40, **changes):
        return make_galaxies(
            n_samples, sersic_index_step=sersic_index_step, random_state=1, **changes
        )[0]

    serial = call()
    np.testing.assert_array_equal(call(n_jobs=2), serial)
    with joblib.parallel_config("threading", n_jobs=3):
        np.testing.assert_array_equal(call(), serial)
    # Other chunks, and other galaxies rendered before.
    np.testing.assert_array_equal(call(n_samples=9), serial[:9])


def test_parallel_jobs_need_no_scikit_learn():
    code = (
        "import sys, sklcae.datasets._chunks\n"
        "sys.exit(str({'sklearn', 'scipy.stats', 'pandas'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.stderr.strip() == "set()"


def test_concurrent_calls_equal_serial_ones():
    def call(seed):
        return make(random_state=seed, sersic_index=(0.5, 1.5))[0]

    with ThreadPoolExecutor(4) as pool:
        concurrent = list(pool.map(call, range(8)))
    for seed, X in enumerate(concurrent):
        np.testing.assert_array_equal(X, call(seed))


def test_more_samples_begin_with_the_same_stamps():
    few, many = make(7, sersic_index=(0.5, 0.8)), make(40, sersic_index=(0.5, 0.8))
    np.testing.assert_array_equal(few[0], many[0][:7])
    np.testing.assert_array_equal(few[1], many[1][:7])


def test_random_state():
    np.testing.assert_array_equal(make_images(), make_images())
    assert (make_images(random_state=0) != make_images(random_state=1)).mean() > 0.9


def test_old_seeds_still_give_the_same_galaxies():
    galaxies = make_galaxies(
        2, psf_fwhm=(0.5, 1.2), sky_level=(5.0, 50.0), random_state=0, return_X_y=False
    )
    expected = {
        "flux": [9282.363850666774, 12769.341128861308],
        "half_light_radius": [0.9116607313812801, 2.7918878184886236],
        "sersic_index": [1.65, 1.65],
        "ellipticity": [0.0286120932646851, 0.3682607803132861],
        "position_angle": [114.97078988097924, 76.90065492078985],
        "x0": [58.26579916875338, 63.184480031282696],
        "y0": [5.203923288077647, 14.21011324790721],
        "psf_fwhm": [0.7366167668397802, 1.1215490113381494],
        "sky_level": [17.359848065999582, 34.440434770253006],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(galaxies.frame[name], values, rtol=1e-12)


def test_random_state_instance():
    instance = np.random.RandomState(0)
    first, second = (make_images(random_state=instance) for _ in range(2))
    np.testing.assert_array_equal(first, make_images(random_state=0))
    assert (first != second).mean() > 0.9


def test_without_random_state_calls_differ():
    first, second = (make_images(random_state=None) for _ in range(2))
    assert (first != second).mean() > 0.9


def test_the_stamps_of_a_call_have_independent_noise():
    dark = {"flux": 1e-6, "n_samples": 50, "return_X_y": False}
    stamps = make(**dark).data
    correlations = np.corrcoef(stamps) - np.eye(50)
    assert abs(correlations).max() < 6 / np.sqrt(256)


def test_noise_does_not_depend_on_the_parameters():
    noiseless = {"noise": False, "n_samples": 1}
    with_noise = {"n_samples": 1, "sky_level": 0.0, "flux": 1e-9}
    dim, other = (make_images(**with_noise, x0=x0) for x0 in (2.0, 12.0))
    assert (make_images(**noiseless, x0=2.0) != make_images(**noiseless, x0=12.0)).any()
    np.testing.assert_allclose(dim, other, atol=1e-6)


def test_the_global_random_state_is_left_alone():
    before = np.random.get_state()
    make()
    make(random_state=np.random.RandomState(3))
    after = np.random.get_state()
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]


def test_fixing_the_flux_changes_nothing_else():
    free, fixed = (
        make(return_X_y=False, flux=flux, noise=False)
        for flux in ((500.0, 50_000.0), 1000.0)
    )
    others = free.frame.columns.drop("flux")
    assert free.frame[others].equals(fixed.frame[others])
    scaled = free.data * (1000.0 / free.frame["flux"].to_numpy())[:, np.newaxis]
    atol = 1e-6 * fixed.data.max()
    np.testing.assert_allclose(scaled, fixed.data, rtol=1e-4, atol=atol)


@pytest.mark.parametrize(
    "option",
    [
        {"flux": 700.0},
        {"half_light_radius": 0.4},
        {"sersic_index": 1.5},
        {"ellipticity": 0.3},
        {"position_angle": 77.0},
        {"x0": 3.0},
        {"y0": 3.0},
        {"pixel_scale": 0.3},
        {"psf": "moffat"},
        {"psf": None},
        {"psf_fwhm": 0.9},
        {"sky_level": 50.0},
        {"gain": 3.0},
        {"read_noise": 9.0},
        {"noise": False},
    ],
    ids=str,
)
def test_every_option_changes_the_images(option):
    assert (make_images(**option) != make_images()).mean() > 0.1


def test_moffat_beta_matters_to_the_moffat_psf_alone():
    sharp, winged = (make_images(psf="moffat", moffat_beta=b) for b in (4.765, 2.5))
    assert (sharp != winged).mean() > 0.1
    np.testing.assert_array_equal(make_images(), make_images(moffat_beta=2.5))


def test_detector_does_not_matter_without_noise():
    detector = {"sky_level": 50.0, "gain": 3.0, "read_noise": 9.0}
    quiet = make_images(noise=False)
    np.testing.assert_array_equal(quiet, make_images(noise=False, **detector))


def test_noise_is_added_to_the_noiseless_stamps():
    residual = make_images(n_samples=40) - make_images(n_samples=40, noise=False)
    variance = make_images(n_samples=40, noise=False).mean() + 10.0 + 4.0
    n = residual.size
    assert abs(residual.mean()) < 5 * np.sqrt(variance / n)
    assert residual.var() == pytest.approx(variance, rel=0.1)


def test_a_detector_without_sky_and_read_noise():
    X = make_images(sky_level=0.0, read_noise=0.0)
    assert (X >= 0).all()
    np.testing.assert_array_equal(X, np.round(X))


def test_sersic_index_step():
    ranged = {"sersic_index": (0.5, 1.5), "targets": "sersic_index", "noise": False}
    coarse, exact = (make(sersic_index_step=s, **ranged) for s in (0.5, None))
    assert set(coarse[1]) <= {0.5, 1.0, 1.5}
    assert abs(coarse[1] - exact[1]).max() <= 0.25
    assert len(set(exact[1])) == 6
    # The returned values are the rendered ones.
    again = make(**{**ranged, "sersic_index": coarse[1]})
    np.testing.assert_array_equal(again[0], coarse[0])


def test_progress_is_shown_on_request(capsys):
    make()
    assert capsys.readouterr() == ("", "")
    make(verbose=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "6/6" in err


OWN_CHECKS = [
    ({"targets": "mass"}, "'targets'", "Got 'mass' instead."),
    ({"targets": ["flux", "flux"]}, "'targets'", "Got ['flux', 'flux'] instead."),
    ({"targets": []}, "'targets'", "Got [] instead."),
    ({"targets": [0]}, "'targets'", "Got [0] instead."),
    ({"image_shape": (64,)}, "'image_shape'", "Got (64,) instead."),
    ({"image_shape": (64, 0)}, "'image_shape'", "Got (64, 0) instead."),
    ({"image_shape": (64.0, 64)}, "'image_shape'", "Got (64.0, 64) instead."),
    ({"image_shape": (True, 64)}, "'image_shape'", "Got (True, 64) instead."),
    ({"flux": (5, 1)}, "'flux'", "Got (5, 1) instead."),
    ({"x0": "left"}, "'x0'", "Got 'left' instead."),
    ({"sersic_index": 7}, "'sersic_index'", "Got 7 instead."),
    (
        {"flux": [1.0]},
        "'flux'",
        "n_samples=6 values. Got an array of 1 values instead.",
    ),
]
SCIKIT_LEARN_CHECKS = [
    ("n_samples", 0),
    ("n_samples", 2.5),
    ("n_samples", True),
    ("n_samples", 2**63),
    ("image_shape", 64),
    ("pixel_scale", 0.0),
    ("pixel_scale", float("nan")),
    ("pixel_scale", True),
    ("pixel_scale", 10**400),
    ("pixel_scale", 1e300),
    ("psf", "airy"),
    ("psf_fwhm", 0.0),
    ("psf_fwhm", float("inf")),
    ("psf_fwhm", 1e-300),
    ("moffat_beta", 1.1),
    ("moffat_beta", 200),
    ("sersic_index_step", 0.0),
    ("sky_level", -1.0),
    ("sky_level", 1e40),
    ("gain", 0.0),
    ("gain", 1e-40),
    ("gain", 1e40),
    ("read_noise", -0.1),
    ("read_noise", 1e40),
    ("noise", "yes"),
    ("targets", None),
    ("return_X_y", "no"),
    ("n_jobs", 1.5),
    ("random_state", "seed"),
    ("verbose", -1),
]


@pytest.fixture
def no_rendering(monkeypatch):
    def render_stamp(*args, **kwargs):
        raise AssertionError("rendered before everything was checked")

    monkeypatch.setattr(_chunks, "render_stamp", render_stamp)


@pytest.mark.usefixtures("no_rendering")
@pytest.mark.parametrize(("bad", "name", "got"), OWN_CHECKS)
def test_bad_input(bad, name, got):
    pattern = f"^The {name} parameter of make_galaxies must be .*{re.escape(got)}$"
    with pytest.raises(ValueError, match=pattern):
        make(**bad)


@pytest.mark.usefixtures("no_rendering")
@pytest.mark.parametrize(("name", "bad"), SCIKIT_LEARN_CHECKS)
def test_bad_settings(name, bad):
    pattern = f"^The '{name}' parameter of make_galaxies must be .*Got .* instead.$"
    with pytest.raises(ValueError, match=pattern):
        make(**{name: bad})


@pytest.mark.usefixtures("no_rendering")
@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("pixel_scale", "arcsec / pix"),
        ("psf_fwhm", "arcsec"),
        ("sky_level", "adu"),
        ("gain", "electron / adu"),
        ("read_noise", "electron"),
        ("half_light_radius", "arcsec"),
    ],
)
def test_quantities_are_refused(name, unit):
    message = f"{name} must be plain numbers in {unit}. Got a Quantity in lyr: pass its"
    with pytest.raises(TypeError, match=re.escape(message)):
        make(**{name: Quantity(1.0, "lyr")})


@pytest.mark.parametrize(
    "extreme",
    [
        {"gain": 1e-25, "read_noise": 1e12, "sky_level": 1e37, "flux": 1e37},
        {"gain": 1e-25, "read_noise": 1e12, "flux": 1e-3},
        {"gain": 1e25, "read_noise": 0.0, "sky_level": 0.0, "flux": 1e-8},
    ],
    ids=str,
)
def test_stamps_at_the_limits_of_the_detector_are_finite(extreme):
    assert np.isfinite(make_images(n_samples=20, **extreme)).all()


def test_the_targets_that_exist_are_named():
    with pytest.raises(ValueError, match=r"flux, half_light_radius, .*, y0, e1, e2"):
        make(targets="mass")


def test_all_but_n_samples_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        make_galaxies(1, (500.0, 1000.0))


@pytest.mark.usefixtures("no_rendering")
@pytest.mark.parametrize("module", ["joblib", "tqdm", "pandas"])
def test_missing_packages_name_the_extra(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    message = rf"make_galaxies needs {module}, .*pip install 'sklcae\[simulate\]'"
    with pytest.raises(ImportError, match=message):
        make(return_X_y=False)


def test_importing_the_package_imports_no_optional_one():
    code = (
        "import sys, sklcae.datasets\n"
        "sys.exit(str({'galsim', 'torch', 'tqdm', 'skorch'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.stderr.strip() == "set()"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"x0": 500.0}, r"'x0' parameter.*from -64 to 80. Got values from 500 to 500"),
        ({"y0": (-1e6, 0)}, r"'y0' parameter.*from -64 to 80"),
        ({"flux": 1e40, "noise": False}, r"'flux' parameter.*Got 1e\+40 instead"),
        ({"flux": 1e30}, r"'flux', 'sky_level' and 'gain'.*Got 1e\+30 instead"),
        ({"sky_level": 1e20}, r"'flux', 'sky_level' and 'gain'.*less than 9e\+18"),
        ({"gain": 1e20}, r"'flux', 'sky_level' and 'gain'.*less than 9e\+18"),
        ({"flux": np.ma.array([1e3, 2e3], mask=[True, False])}, "without masked"),
    ],
)
def test_impossible_stamps_are_refused_before_rendering(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_galaxies(2, image_shape=(16, 16), random_state=0, **parameters)
