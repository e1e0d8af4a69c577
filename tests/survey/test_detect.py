"""Detection of sources on survey images."""

import numpy as np
import pytest
import sep
from astropy.io import fits

from sklcae.survey import cutouts, detect_sources
from tests.survey.images import gaussian_stamp, make_wcs, paste

SHAPE = (256, 300)
NOISE = 2.0
PLACES = np.array([[50, 60], [120, 80], [200, 200], [208, 203], [30, 220], [290, 20]])
FLUXES = np.array([4000.0, 900.0, 3000.0, 2000.0, 1500.0, 2500.0])
WCS = make_wcs(20.0, shape=SHAPE)


@pytest.fixture(scope="module")
def image():
    image = np.random.default_rng(0).normal(0, NOISE, SHAPE)
    image += 40 + 0.05 * np.arange(SHAPE[1])
    for (x, y), flux in zip(PLACES, FLUXES, strict=True):
        paste(image, flux * gaussian_stamp(4.0), x, y)
    return image


def numbers_of(sources, places=PLACES):
    """Return the numbers of the places at which sources are found."""
    offsets = np.hypot(
        sources["x"][:, None] - places[:, 0], sources["y"][:, None] - places[:, 1]
    )
    assert (offsets.min(axis=1) < 0.6).all()
    return offsets.argmin(axis=1).tolist()


SETTINGS = {"threshold": 6.0, "background_size": 64}


def test_all_sources_are_found(image):
    sources = detect_sources(image, variance=NOISE**2, wcs=WCS, **SETTINGS)
    assert sorted(numbers_of(sources)) == list(range(6))
    assert (np.diff(sources["flux"]) <= 0).all()
    sky = WCS.pixel_to_world(sources["x"], sources["y"])
    np.testing.assert_allclose(sources["ra"], sky.ra.deg)
    np.testing.assert_allclose(sources["dec"], sky.dec.deg)
    assert sources.colnames == [
        "object_id", "x", "y", "ra", "dec", "flux", "a", "b", "theta", "flags",
    ]  # fmt: skip
    assert str(sources["ra"].unit) == "deg"
    assert (sources["flags"] > 0).sum() >= 2
    # Without a noise map the noise is that of the mesh.
    plain = detect_sources(image, **SETTINGS)
    assert sorted(numbers_of(plain)) == list(range(6))
    assert np.isnan(plain["ra"]).all()


def test_options_of_the_detection(image):
    def count(**options):
        return len(detect_sources(image, **{**SETTINGS, **options}))

    assert count(deblend_contrast=1.0) == 5
    assert [count(deblend_levels=n, deblend_contrast=0.1) for n in (1, 32)] == [5, 6]
    assert count(threshold=60.0) < 6
    assert count(min_area=40) < 6
    # A large mesh does not follow a sky of its own.
    step = image + 60 * (np.arange(SHAPE[1]) > 150)
    assert len(detect_sources(step, threshold=6.0, background_size=512)) != 6


def test_noise_maps_and_masks_count(image):
    weight = np.full(SHAPE, NOISE**-2)
    weight[:100, :100] = 1e-8
    weight[195:212, 195:215] = 0
    sources = detect_sources(image, weight=weight, **SETTINGS)
    assert sorted(numbers_of(sources)) == [1, 4, 5]
    mask = np.zeros(SHAPE, bool)
    mask[70:90, 110:130] = True
    bad = np.where(mask, np.nan, image)
    for sources in (
        detect_sources(image, mask=mask, **SETTINGS),
        detect_sources(bad, **SETTINGS),
    ):
        assert sorted(numbers_of(sources)) == [0, 2, 3, 4, 5]


def test_a_file_is_searched(image, tmp_path):
    fits.writeto(tmp_path / "image.fits", image.astype(np.float32), WCS.to_header())
    sources = detect_sources(tmp_path / "image.fits", **SETTINGS)
    assert sorted(numbers_of(sources)) == list(range(6))
    stamps = cutouts(
        tmp_path / "image.fits",
        size=32,
        background="sep",
        background_size=64,
        detection={"threshold": 6.0, "min_area": 5},
    )
    np.testing.assert_allclose(stamps.x, sources["x"], atol=0.05)
    np.testing.assert_array_equal(stamps.ids, range(6))


def test_pixels_of_sources_off_the_stamp_are_masked(image):
    # Five pixels outside of the first stamp, and on the second one.
    positions = [[50, 60], [197, 197], [np.nan, 3]]
    big = image.copy()
    paste(big, 20_000 * gaussian_stamp(8.0, 63), 71, 60)
    settings = {"size": 32, "background": 40.0, "detection": {"threshold": 6.0}}
    plain = cutouts(big, positions[:2], 32, background=40.0)
    stamps = cutouts(
        big, positions, **settings, mask_others=True, background_size=64, variance=4.0
    )
    masked = np.isnan(stamps[:][:, 0])
    assert masked[0, 16, 31]
    assert np.median(plain[0][0][masked[0]]) > 2 * NOISE
    # The galaxy itself stays, though it touches the other one.
    assert not masked[0, 14:19, 14:19].any()
    assert 30 < masked[0].sum() < 400
    assert not masked[1].any()
    assert masked[2].all()
    none = cutouts(big, positions, 32, background=40.0)
    assert np.isfinite(none[:2]).all()


def test_no_source_is_found():
    sources = detect_sources(np.zeros((64, 64)), variance=1.0)
    assert len(sources) == 0
    stamps = cutouts(np.zeros((64, 64)), size=16, variance=1.0, wcs=WCS)
    assert stamps[:].shape == (0, 2, 16, 16)


def test_many_sources_need_room_in_sep(monkeypatch):
    before = sep.get_extract_pixstack(), sep.get_sub_object_limit()
    seen = []
    extract = sep.extract

    def spy(*args, **kwargs):
        seen.append((sep.get_extract_pixstack(), sep.get_sub_object_limit()))
        return extract(*args, **kwargs)

    monkeypatch.setattr(sep, "extract", spy)
    detect_sources(np.zeros((2048, 1024)), variance=1.0)
    assert seen == [(2**19, 10_000)]
    assert (sep.get_extract_pixstack(), sep.get_sub_object_limit()) == before


def test_wrong_options():
    image = np.zeros((64, 64))
    for name, value in (
        ("threshold", 0.0),
        ("min_area", 0),
        ("deblend_levels", 0),
        ("deblend_contrast", 2.0),
        ("background_size", 1),
    ):
        with pytest.raises(ValueError, match=f"'{name}' parameter of detect_sources"):
            detect_sources(image, **{name: value})
    with pytest.raises(ValueError, match="detection must have a threshold that is"):
        cutouts(image, detection={"threshold": -1.0})
    with pytest.raises(ValueError, match=r"detection must be a dict .*\['sigma'\]"):
        cutouts(image, detection={"sigma": 3.0})


def test_errors_of_arguments_name_the_function():
    with pytest.raises(TypeError, match=r"detect_sources\(\) got .* 'background'"):
        detect_sources(np.zeros((9, 9)), background="sep")


def test_too_small_a_variance_is_an_error():
    """Nearly all pixels are then above the threshold."""
    image = 100 + np.random.default_rng(0).normal(size=(1500, 1500)).cumsum(axis=0)
    with pytest.raises(ValueError, match="fewer pixels above the threshold"):
        detect_sources(image, variance=1e-12)
