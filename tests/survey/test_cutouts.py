"""Stamps of survey images: pixels, noise, masks, PSFs and positions."""

import pickle

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D, InverseVariance, NDData, StdDevUncertainty
from astropy.table import MaskedColumn, QTable, Table

from sklcae import ProfileFitRegressor, stack_planes
from sklcae._fixed_psf import gaussian_psf
from sklcae.survey import cutouts
from tests.survey.images import (
    PIXEL_SCALE,
    gaussian_stamp,
    make_wcs,
    paste,
    write_psfex,
)

SHAPE = (90, 120)
WCS = make_wcs(30.0, shape=SHAPE)
XY = np.array([[40.2, 50.0], [60.5, 44.5], [3.0, 88.0]])
PSF = gaussian_stamp(3.0, 15)


@pytest.fixture(scope="module")
def parts():
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.5, 2, SHAPE)
    weight[50, 41], weight[44, 60], weight[45, 62] = 0, np.nan, -1
    mask = np.zeros(SHAPE, np.int16)
    mask[52, 40], mask[52, 38] = 4, 3
    return {"SCI": rng.normal(size=SHAPE), "WHT": weight, "MASK": mask}


def write(parts, path, wcs=WCS):
    hdus = [fits.PrimaryHDU()]
    for name, array in parts.items():
        hdus.append(fits.ImageHDU(array, wcs.to_header(), name=name))
    hdus[1].header["BUNIT"] = "nJy"
    fits.HDUList(hdus).writeto(path)
    return path


def same(stamps, others):
    np.testing.assert_array_equal(stamps.planes, others.planes)
    np.testing.assert_allclose(stamps[:], others[:], rtol=1e-5, atol=1e-12)


def test_pixels_are_those_of_the_image(parts, tmp_path):
    path = write(parts, tmp_path / "image.fits")
    stamps = cutouts(path, XY, 16, psf=PSF)
    assert stamps.planes == ("image", "variance", "psf")
    assert stamps.shape == (3, 3, 16, 16)
    assert stamps.unit == "nJy"
    assert stamps.dtype == stamps[:].dtype == np.float32
    x, y = 33, 42
    np.testing.assert_array_equal(stamps.origin[0], [x, y])
    image = parts["SCI"][y : y + 16, x : x + 16].copy()
    for row, column in ((50, 41), (44, 60), (52, 40), (52, 38)):
        if column < x + 16:
            image[row - y, column - x] = np.nan
    np.testing.assert_allclose(stamps[0][0], image, rtol=1e-6)
    good = np.isfinite(image)
    weight = parts["WHT"][y : y + 16, x : x + 16]
    np.testing.assert_allclose(stamps[0][1][good], 1 / weight[good], rtol=1e-6)
    np.testing.assert_allclose(
        stamps[0][2], stack_planes(image[None], psf=PSF)[0, 1], rtol=1e-5
    )
    # The third stamp is cut by two edges.
    seen = np.isfinite(stamps[2][0])
    assert seen[:10, 5:].all()
    assert seen.sum() == 10 * 11
    for rows in (slice(1, 3), [2, 0], -1, slice(None, None, -1)):
        np.testing.assert_array_equal(stamps[rows], stamps[:][rows])
    assert "with the planes" in repr(stamps)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(stamps))[:], stamps[:])


def test_all_ways_to_give_an_image(parts, tmp_path):
    sci, weight, mask = parts.values()
    path = write(parts, tmp_path / "image.fits")
    expected = cutouts(path, XY, 16)
    for name, array in parts.items():
        fits.writeto(tmp_path / f"{name}.fits", array, WCS.to_header())
    with np.errstate(divide="ignore", invalid="ignore"):
        variance, sigma = 1 / weight, weight**-0.5
    ways = [
        cutouts(sci, XY, 16, weight=weight, mask=mask > 0, wcs=WCS),
        cutouts(sci, XY, 16, variance=variance, mask=mask, wcs=WCS.to_header()),
        cutouts(
            tmp_path / "SCI.fits",
            XY,
            16,
            weight=tmp_path / "WHT.fits",
            mask=str(tmp_path / "MASK.fits"),
        ),
        cutouts(
            CCDData(
                sci,
                uncertainty=StdDevUncertainty(sigma),
                mask=mask > 0,
                unit="adu",
                wcs=WCS,
            ),
            XY,
            16,
        ),
        cutouts(
            NDData(sci, uncertainty=InverseVariance(weight), mask=mask > 0), XY, 16
        ),
        cutouts(np.ma.masked_array(sci, mask > 0), XY, 16, weight=weight),
        cutouts(path, XY, (16, 16), hdu="SCI", weight="WHT", mask="MASK"),
        cutouts(path, XY, 16, hdu=1),
    ]
    for stamps in ways:
        same(stamps, expected)
    assert ways[3].unit == "adu"
    np.testing.assert_allclose(ways[0].ra, expected.ra)
    none = cutouts(path, XY, 16, weight=None, mask=None)
    assert none.planes == ("image",)
    assert np.isfinite(none[0]).all()
    few = cutouts(path, XY, 16, weight=None, mask_bits=4)
    assert np.isnan(few[0]).sum() == 1


def test_versions_of_hdus_and_a_variance_that_goes_first(tmp_path):
    hdus = [fits.PrimaryHDU()]
    for version in (1, 2):
        for name, value in (("SCI", version), ("VAR", 3 * version), ("WHT", 9.0)):
            array = np.full(SHAPE, float(value))
            hdus.append(fits.ImageHDU(array, name=name, ver=version))
    fits.HDUList(hdus).writeto(tmp_path / "two.fits")
    stamps = cutouts(tmp_path / "two.fits", XY[:1], 8, hdu=("SCI", 2))
    assert (stamps[0][0] == 2).all()
    assert (stamps[0][1] == 6).all()
    stamps = cutouts(tmp_path / "two.fits", XY[:1], 8, weight="WHT")
    np.testing.assert_allclose(stamps[0][1], 1 / 9)


def test_backgrounds_and_noise_of_a_mesh(parts):
    rng = np.random.default_rng(1)
    rows, columns = np.indices((256, 256))
    sky = 100 + 0.05 * rows + 0.02 * columns
    image = (sky + rng.normal(0, 2, sky.shape)).astype(np.float32)
    settings = {"background_size": 32}
    stamps = cutouts(
        image, [[128.0, 100.0]], 32, background="sep", variance="sep", **settings
    )
    assert abs(stamps[0][0].mean()) < 0.5
    np.testing.assert_allclose(stamps[0][1], 4, rtol=0.1)
    exact = cutouts(image, [[128.0, 100.0]], 32, background=sky)
    np.testing.assert_allclose(
        exact[0][0], (image - sky)[84:116, 112:144], rtol=1e-3, atol=1e-4
    )
    plain = cutouts(image, [[128.0, 100.0]], 32)
    moved = cutouts(image, [[128.0, 100.0]], 32, background=100.0)
    np.testing.assert_allclose(plain[0][0] - 100, moved[0][0], atol=1e-4)


def test_saturated_pixels_stay_equal_without_the_background():
    rng = np.random.default_rng(1)
    sky = 100 + 0.3 * np.indices(SHAPE).sum(axis=0)
    image = sky + rng.normal(size=SHAPE)
    x, y = XY[0].astype(int)
    paste(image, 30_000 * gaussian_stamp(4.0), x, y)
    image = image.clip(max=700.0)
    stamps = cutouts(image, XY, 24, background=sky)
    stamp, (left, low) = stamps[0][0], stamps.origin[0].astype(int)
    window = np.s_[low : low + 24, left : left + 24]
    saturated = image[window] == 700
    assert saturated.sum() > 9
    np.testing.assert_array_equal(stamp == stamp.max(), saturated)
    exact = image[window] - sky[window]
    np.testing.assert_allclose(stamp[~saturated], exact[~saturated], rtol=1e-5)
    np.testing.assert_allclose(stamp[saturated], exact[saturated].max(), rtol=1e-5)
    # A masked pixel does not count, nor do two.
    mask = image == 700
    mask[y, x : x + 2] = False
    few = cutouts(image, XY, 24, background=sky, mask=mask)[0][0]
    assert (few == np.nanmax(few)).sum() == 1


# PSFs --------------------------------------------------------------------------------


def test_a_gaussian_has_the_width_on_the_sky():
    stamps = cutouts(np.zeros(SHAPE), XY, 32, psf=0.9, wcs=WCS)
    expected = gaussian_psf(0.9 / PIXEL_SCALE, (1, 32, 32))[0, 0]
    np.testing.assert_allclose(stamps[1][1], expected, atol=1e-6)
    with pytest.raises(ValueError, match="psf must be an array, a file"):
        cutouts(np.zeros(SHAPE), XY, 32, psf=0.9)
    with pytest.raises(ValueError, match="psf must be a positive FWHM"):
        cutouts(np.zeros(SHAPE), XY, 32, psf=-1.0, wcs=WCS)
    with pytest.raises(ValueError, match=r"at most half a side of the stamps.*30 pix"):
        cutouts(np.zeros(SHAPE), XY, 32, psf=30 * PIXEL_SCALE, wcs=WCS)
    with pytest.raises(TypeError, match="psf must be plain numbers in arcsec"):
        cutouts(np.zeros(SHAPE), XY, 32, psf=0.9 * u.arcsec, wcs=WCS)


def test_a_psf_that_is_a_function_of_the_place():
    places = []

    def psf(x, y):
        places.append((x, y))
        if x > 100:
            return np.full((15, 15), np.nan)
        # The sides may change.
        return 7 * gaussian_stamp(2 + x / 40, 15 + 2 * int(y > 45))

    xy = [[40.0, 50.0], [80.0, 20.0], [110.0, 40.0], [np.nan, 1.0], [-200.0, 60.0]]
    stamps = cutouts(np.ones(SHAPE), xy, 24, psf=psf)
    found = stamps[:]
    for row, fwhm in ((0, 3.0), (1, 4.0)):
        middle = found[row, 1, 5:20, 5:20]
        # The larger stamp has a little light outside the smaller one.
        np.testing.assert_allclose(middle, gaussian_stamp(fwhm, 15), atol=1e-4)
    assert np.isfinite(found[:2]).all()
    # Neither a PSF nor pixels: the stamps have only masked pixels.
    assert np.isnan(found[2:, 0]).all()
    np.testing.assert_allclose(found[:, 1].sum(axis=(1, 2)), 1, rtol=1e-5)
    # The first place is tried at once.
    assert places[:2] == [(40.0, 50.0)] * 2
    # Positions off the image have the PSF of the nearest place.
    assert places[4:] == [(59.5, 44.5), (-0.5, 60.0)]


@pytest.mark.parametrize(
    ("psf", "error", "message"),
    [
        (lambda x, y: np.ones(5), ValueError, r"psf must return an array \(h, w\)"),
        (lambda x, y: None, ValueError, r"psf must return an array \(h, w\)"),
        (lambda x, y: 0.8, ValueError, r"psf must return an array \(h, w\)"),
        (lambda x, y: np.ones((4, 6)), ValueError, "psf must have odd sides"),
        (lambda x, y: np.roll(PSF, 3, axis=1), ValueError, "have its centre in pixel"),
        (lambda x, y: 1 / 0, ZeroDivisionError, "division"),
        (lambda x: PSF, TypeError, "psf must be a function of x and y. Got .*too many"),
    ],
)
def test_a_wrong_function_is_an_error_at_once(psf, error, message):
    with pytest.raises(error, match=message):
        cutouts(np.ones(SHAPE), XY, 24, psf=psf)


@pytest.mark.parametrize("sampling", [1.0, 0.5])
def test_psfex_is_its_polynomial(tmp_path, sampling):
    constant = gaussian_stamp(3.0 / sampling, 41)
    in_x, in_y = (gaussian_stamp(f / sampling, 41) - constant for f in (3.8, 2.6))
    # A PSF without symmetry shows flipped axes.
    in_x = in_x + 0.02 * (np.roll(constant, 1, 1) - constant)
    write_psfex(tmp_path / "model.psf", np.array([constant, in_x, in_y]), sampling)
    stamps = cutouts(np.zeros((512, 512)), XY * 4, 24, psf=tmp_path / "model.psf")
    step = round(1 / sampling)
    for (x, y), stamp in zip(XY * 4, stamps[:], strict=True):
        # PSFEx counts pixels from 1.
        u, v = (x + 1 - 256) / 512, (y + 1 - 256) / 512
        fine = constant + u * in_x + v * in_y
        samples = fine[20 % step :: step, 20 % step :: step]
        cut = (len(samples) - 23) // 2
        if cut < 0:
            samples = np.pad(samples, -cut)
            cut = 0
        samples = samples[cut : cut + 23, cut : cut + 23]
        expected = samples / samples.sum()
        np.testing.assert_allclose(stamp[1, 1:, 1:], expected, atol=2e-6)
    again = pickle.loads(pickle.dumps(stamps))
    np.testing.assert_array_equal(again[:], stamps[:])


def test_a_file_with_an_image_of_the_psf(tmp_path):
    psf = gaussian_stamp(3.0, 15)
    fits.writeto(tmp_path / "psf.fits", psf)
    stamps = cutouts(np.zeros(SHAPE), XY, 24, psf=tmp_path / "psf.fits")
    np.testing.assert_array_equal(stamps[:], cutouts(np.zeros(SHAPE), XY, 24, psf=psf))


def test_wrong_psf_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"psf must be .*: no such file"):
        cutouts(np.zeros(SHAPE), XY, psf=tmp_path / "none.psf")
    (tmp_path / "bad.psf").write_text("nothing")
    Table({"x": [1.0]}).write(tmp_path / "other.psf", format="fits")
    for name in ("bad.psf", "other.psf"):
        with pytest.raises(ValueError, match=rf"psf must be a FITS file.*{name}"):
            cutouts(np.zeros(SHAPE), XY, psf=tmp_path / name)


# Positions ---------------------------------------------------------------------------


def test_all_ways_to_give_positions():
    x, y = XY.T
    sky = WCS.pixel_to_world(x, y)
    ra, dec = sky.ra.deg, sky.dec.deg
    ids = [7, 8, 12]
    image = np.zeros(SHAPE)
    ways = [
        Table({"X": x, "y": y, "OBJECT_ID": ids}),
        Table({"ra": ra, "Dec": dec, "id": ids}),
        QTable({"ra": (ra / 15) * u.hourangle, "dec": dec * u.deg, "object_id": ids}),
        pd.DataFrame({"x": x, "y": y, "object_id": ids}),
        {"ra": list(ra), "dec": list(dec), "object_id": ids},
        Table({"x": x, "y": y, "object_id": ids}).as_array(),
        sky,
        sky.galactic,
        XY,
        XY.tolist(),
    ]
    for number, positions in enumerate(ways):
        stamps = cutouts(image, positions, 8, wcs=WCS)
        np.testing.assert_allclose(stamps.x, x, atol=1e-6)
        np.testing.assert_allclose(stamps.y, y, atol=1e-6)
        np.testing.assert_allclose(stamps.ra, ra, atol=1e-9)
        np.testing.assert_allclose(stamps.dec, dec, atol=1e-9)
        np.testing.assert_array_equal(stamps.ids, ids if number < 6 else range(3))
    one = cutouts(image, sky[0], 8, wcs=WCS)
    assert len(one) == 1
    plain = cutouts(image, XY, 8)
    assert plain.ra is plain.dec is plain.pixel_scale is plain.parity is None
    assert plain.position_angle is None


def test_positions_that_are_not_on_the_image():
    x = MaskedColumn([50.0, 1.0, 2.0, 500.0, -3.0], mask=[0, 1, 0, 0, 0])
    y = [40.0, 3.0, np.nan, 40.0, 40.0]
    stamps = cutouts(np.ones(SHAPE), Table({"x": x, "y": y}), 16, wcs=WCS, psf=1.0)
    np.testing.assert_array_equal(stamps.is_inside, [True] + 4 * [False])
    seen = np.isfinite(stamps[:][:, 0]).sum(axis=(1, 2))
    np.testing.assert_array_equal(seen, [256, 0, 0, 0, 5 * 16])
    assert np.isfinite(stamps.pixel_scale).all()
    assert np.isnan(stamps.ra[1:3]).all()
    assert np.isfinite(stamps.ra[[0, 3, 4]]).all()
    far = SkyCoord([330.1, 150.1, np.nan], [-2.2, 80.0, 1.0], unit="deg")
    stamps = cutouts(np.ones(SHAPE), far, 16, wcs=WCS)
    assert not stamps.is_inside.any()
    assert np.isnan(stamps[:]).all()
    missing = pd.DataFrame({"x": pd.array([1, None], "Int64"), "y": [1.0, 2.0]})
    np.testing.assert_array_equal(cutouts(np.ones(SHAPE), missing, 8).x, [1, np.nan])


def test_positions_in_a_file(tmp_path):
    table = Table({"x": XY[:, 0], "y": XY[:, 1], "object_id": [7, 8, 12]})
    table.write(tmp_path / "a.vot", format="votable")
    for name in ("a.csv", "a.ecsv", "a.fits", "a.parquet", "a.vot"):
        if name != "a.vot":
            table.write(tmp_path / name)
        stamps = cutouts(np.zeros(SHAPE), tmp_path / name, 8)
        np.testing.assert_allclose(stamps.x, XY[:, 0])
        assert stamps.ids.tolist() == [7, 8, 12]
    (tmp_path / "a.txt").write_text("# ra dec\n150.0 2.2\n")
    (tmp_path / "bad.csv").write_text("ra,dec\n150.0,2.2,7\n")
    with pytest.raises(ValueError, match=r"name ends in \.csv, .*a.txt'. A CSV file"):
        cutouts(np.zeros(SHAPE), tmp_path / "a.txt")
    with pytest.raises(ValueError, match=r"bad\.csv', which cannot be read"):
        cutouts(np.zeros(SHAPE), tmp_path / "bad.csv")
    with pytest.raises(FileNotFoundError, match=r"positions must be .*no such file"):
        cutouts(np.zeros(SHAPE), tmp_path / "none.csv")


def test_pixels_and_the_sky_in_one_table():
    sky = WCS.pixel_to_world(*XY.T)
    table = {"x": XY[:, 0], "y": XY[:, 1], "ra": sky.ra.deg, "dec": sky.dec.deg}
    cutouts(np.zeros(SHAPE), table, 8, wcs=WCS)
    # Without a WCS, or with text, there is nothing to compare.
    cutouts(np.zeros(SHAPE), table | {"ra": ["10:00:00"] * 3}, 8, wcs=WCS)
    cutouts(np.zeros(SHAPE), table | {"ra": np.full(3, np.nan)}, 8, wcs=WCS)
    cutouts(np.zeros(SHAPE), table | {"ra": sky.ra.deg + 1}, 8)
    from_one = table | {"x": XY[:, 0] + 1, "y": XY[:, 1] + 1}
    with pytest.warns(UserWarning, match=r"differ by 1\.41 pixels .* x and y are used"):
        stamps = cutouts(np.zeros(SHAPE), from_one, 8, wcs=WCS)
    np.testing.assert_array_equal(stamps.x, from_one["x"])


def test_a_wcs_in_arcsec_gets_a_warning():
    wcs = make_wcs(30.0, scale=0.2 * 3600, shape=(9, 9))
    with pytest.warns(
        UserWarning, match=r"The WCS of <ndarray> has pixels of 7.. arcsec"
    ):
        cutouts(np.zeros((9, 9)), [[4.0, 4.0]], 8, wcs=wcs)


def test_no_positions():
    for positions in (np.zeros((0, 2)), Table({"x": [], "y": []})):
        stamps = cutouts(np.ones(SHAPE), positions, 16, wcs=WCS, psf=1.0, variance=1.0)
        assert len(stamps) == 0
        assert stamps[:].shape == (0, 3, 16, 16)
        assert len(stamps.pixel_scale) == len(stamps.find_neighbours()["stamp"]) == 0


def test_the_wcs_of_a_stamp():
    image = np.zeros(SHAPE)
    stamps = cutouts(image, XY, 16, wcs=WCS)
    for row, (x, y) in enumerate(XY):
        left, low = stamps.origin[row]
        place = stamps.wcs_of(row).pixel_to_world(x - left, y - low)
        assert place.separation(WCS.pixel_to_world(x, y)).arcsec < 1e-6
    # The first pixel is that of Cutout2D.
    cut = Cutout2D(image, tuple(XY[1]), 16)
    np.testing.assert_array_equal(stamps.origin[1], cut.origin_original)
    off = cutouts(image, [[-500.0, 2.0], [np.nan, 2.0]], 16, wcs=WCS)
    for row in (0, 1):
        with pytest.raises(ValueError, match="row must be that of a stamp on the"):
            off.wcs_of(row)
    with pytest.raises(ValueError, match="wcs_of needs an image with a WCS"):
        cutouts(image, XY, 16).wcs_of(0)


def test_neighbours_on_stamps():
    xy = np.array([[30.0, 30.0], [34.2, 28.4], [45.0, 30.0], [np.nan, 3.0], [2.0, 2.0]])
    stamps = cutouts(np.zeros(SHAPE), xy, 16)
    found = pd.DataFrame(stamps.find_neighbours())
    assert found["stamp"].tolist() == [0, 1]
    # The places are those of the pixels, from the outer corner of the first one.
    np.testing.assert_allclose(found["x0"][0], 34.2 - 22 + 0.5)
    np.testing.assert_allclose(found["y0"][0], 28.4 - 22 + 0.5)
    catalog = np.array([[31.0, 30.0], [37.4, 23.0], [45.0, 37.4], [70.0, 70.0]])
    found = pd.DataFrame(stamps.find_neighbours({"x": catalog.T[0], "y": catalog.T[1]}))
    assert found["stamp"].tolist() == [0, 1, 1, 2, 2]
    np.testing.assert_allclose(found["x0"][0], 37.4 - 22 + 0.5)
    empty = stamps.find_neighbours(np.zeros((0, 2)))
    assert len(empty["stamp"]) == 0


def test_stamps_are_measured_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    image = rng.normal(0, 3.0, SHAPE)
    for x, y in XY.round().astype(int):
        paste(image, 3000 * gaussian_stamp(5.0, 31), x, y)
    stamps = cutouts(image, XY, 24, variance=9.0, psf=PSF)
    model = ProfileFitRegressor(planes=stamps.planes, allow_nan=True).fit(stamps[:])
    expected = model.predict(stamps[:], neighbours=stamps.find_neighbours())
    monkeypatch.setattr("sklcae._blocks.BLOCK_SIZE", 1)
    monkeypatch.setattr("sklcae.survey._cutouts.ROWS_OF_CHUNK", 2)
    stamps = cutouts(image, XY, 24, variance=9.0, psf=PSF)
    found = model.predict(stamps, neighbours=stamps.find_neighbours())
    np.testing.assert_array_equal(found, expected)


# Wrong input -------------------------------------------------------------------------


def test_wrong_images(parts, tmp_path):
    path = write(parts, tmp_path / "image.fits")
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    (tmp_path / "text.fits").write_text("nothing")
    image = np.zeros(SHAPE)
    wrong = [
        (FileNotFoundError, "image must be .*: no such file", tmp_path / "no.fits", {}),
        (ValueError, "image must be a file with an image", tmp_path / "empty.fits", {}),
        (ValueError, "text.fits', which cannot be read", tmp_path / "text.fits", {}),
        (ValueError, r"hdu must be .*\['PRIMARY', 'SCI'", path, {"hdu": "NONE"}),
        (ValueError, "hdu must be the name", path, {"hdu": 0}),
        (ValueError, "hdu must be None if image", image, {"hdu": 1}),
        (ValueError, "image must have the shape", np.zeros(5), {}),
        (ValueError, "image must be an array of numbers", np.full(SHAPE, "a"), {}),
        (TypeError, "image must be plain numbers", image * u.adu, {}),
        (
            ValueError,
            "weight must be None or 'auto'",
            path,
            {"weight": 1, "variance": 2},
        ),
        (ValueError, r"weight must be .*'WHT'.*no such file", path, {"weight": "RMS"}),
        (ValueError, "weight must be a number or an array", image, {"weight": [1, 2]}),
        (ValueError, "variance must be positive", image, {"variance": 0.0}),
        (ValueError, "mask must have the shape", image, {"mask": [True]}),
        (ValueError, "mask_bits must be None without", image, {"mask_bits": 1}),
        (ValueError, "mask_bits must be a positive", path, {"mask_bits": 0}),
        (ValueError, "background must be an array", image, {"background": "auto"}),
        (ValueError, "background must be a number", image, {"background": [1.0]}),
        (ValueError, "'background_size' parameter", image, {"background_size": 0}),
        (TypeError, "wcs must be an astropy", image, {"wcs": "TAN"}),
        (ValueError, "size must be a positive int", image, {"size": 0}),
        (ValueError, "size must be a positive int", image, {"size": (4, 5, 6)}),
        (ValueError, "psf must have odd sides", image, {"psf": np.ones((4, 6))}),
        (ValueError, "detection must be None", image, {"detection": {}}),
    ]
    for error, message, given, kwargs in wrong:
        with pytest.raises(error, match=message):
            cutouts(given, XY, **kwargs)


def test_wrong_positions():
    image = np.zeros(SHAPE)
    wrong = [
        ([1.0, 2.0], r"positions must be None, a table .*shape \(2,\)"),
        ([["a", "b"]], "positions must be None, a table"),
        (Table({"a": [1]}), r"positions must have the columns .*Got \['a'\]"),
        (Table({"x": ["a"], "y": [1]}), "positions must have columns of numbers"),
        (Table({"x": [[1, 2]], "y": [[1, 2]]}), r"columns of the shape \(n,\)"),
        (Table({"ra": [1.0], "dec": [2.0]}), "must have x and y for an image without"),
    ]
    for positions, message in wrong:
        with pytest.raises(ValueError, match=message):
            cutouts(image, positions)


@pytest.mark.parametrize("variance", ["sep", 2.0, "VAR"])
def test_pixels_without_weight_are_masked_with_another_variance(
    parts, tmp_path, variance
):
    path = write(parts | {"VAR": np.full(SHAPE, 2.0)}, tmp_path / "image.fits")
    stamps = cutouts(path, XY, 16, variance=variance)
    others = cutouts(path, XY, 16, variance=None)
    np.testing.assert_array_equal(np.isnan(stamps[:][:, 0]), np.isnan(others[:][:, 0]))
    unmasked = cutouts(path, XY, 16, variance=variance, weight=None)
    assert np.isnan(unmasked[:][:, 0]).sum() < np.isnan(stamps[:][:, 0]).sum()
