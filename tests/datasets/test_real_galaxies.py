"""Re-observed galaxies against direct drawings of the known Sersic profiles."""

import re
import subprocess
import sys
from contextlib import closing

import galsim
import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from scipy import stats

from sklcae._compat import InvalidParameterError
from sklcae.datasets import (
    _real_galaxies,
    _real_stamps,
    make_galaxies,
    make_real_galaxies,
)
from sklcae.datasets._psf import ModelPSF, StampPSF, effective_psf
from sklcae.datasets._real_stamps import RealStamp
from tests.quantities import Quantity

# The original images: arcsec per pixel, and the PSF before the pixel.
SCALE = 0.05
ORIGINAL_PSF = galsim.Gaussian(fwhm=0.12).shear(g1=0.03, g2=-0.02)
# Known galaxies, with all of their light in the images: flux in counts, and centres in
# pixels from the outer corner of the first pixel.
GALAXIES = pd.DataFrame(
    {
        "ident": [17, 4, 205],
        "flux": [12.0, 40.0, 7.0],
        "half_light_radius": [0.35, 0.5, 0.25],
        "sersic_index": [1.0, 0.6, 1.4],
        "axis_ratio": [0.5, 0.7, 0.9],
        "angle": [30.0, 100.0, -50.0],
        "x0": [63.2, 66.0, 60.1],
        "y0": [58.9, 50.0, 61.0],
    }
)
SHAPES = [(120, 128), (104, 130), (120, 121)]
STAMPS = {"image_shape": (40, 48), "x0": 23.6, "y0": 20.3, "noise": False}
ALL = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]


def labels():
    q, angle = GALAXIES.axis_ratio, np.deg2rad(2 * GALAXIES.angle)
    e = (1 - q**2) / (1 + q**2)
    table = GALAXIES.drop(columns=["axis_ratio", "angle"])
    return table.assign(e1=e * np.cos(angle), e2=e * np.sin(angle))


def draw(galaxy, shape):
    profile = galsim.Sersic(
        galaxy.sersic_index,
        half_light_radius=galaxy.half_light_radius,
        flux=galaxy.flux,
    ).shear(q=galaxy.axis_ratio, beta=galaxy.angle * galsim.degrees)
    image = galsim.ImageD(shape[1], shape[0], scale=SCALE)
    center = galsim.PositionD(galaxy.x0 + 0.5, galaxy.y0 + 0.5)
    gsparams = galsim.GSParams(folding_threshold=1e-4, maxk_threshold=1e-4)
    seen = galsim.Convolve(profile, ORIGINAL_PSF, gsparams=gsparams)
    return seen.drawImage(image, center=center)


def write_catalog(folder, images, variance=0.0, noise_image=None, **columns):
    """Write a RealGalaxyCatalog of these images, which have one PSF."""
    folder.mkdir(exist_ok=True)
    psf = ORIGINAL_PSF.drawImage(nx=65, ny=63, scale=SCALE)
    galsim.fits.writeMulti(images, str(folder / "images.fits"))
    galsim.fits.writeMulti([psf] * 2, str(folder / "psfs.fits"))
    n = len(images)
    table = {
        "IDENT": GALAXIES.ident[:n].to_numpy(),
        "MAG": np.full(n, 23.0),
        "BAND": ["F814W"] * n,
        "WEIGHT": np.ones(n),
        "GAL_FILENAME": ["images.fits"] * n,
        "PSF_FILENAME": ["psfs.fits"] * n,
        "GAL_HDU": np.arange(n),
        "PSF_HDU": np.arange(n) % 2,
        "PIXEL_SCALE": np.full(n, SCALE),
        "NOISE_MEAN": np.zeros(n),
        "NOISE_VARIANCE": np.full(n, variance),
    }
    if noise_image is not None:
        noise_image.write(str(folder / "noise.fits"))
        table["NOISE_FILENAME"] = ["noise.fits"] * n
    Table({**table, **columns}).write(folder / "real_catalog.fits", overwrite=True)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    images = [
        draw(galaxy, shape)
        for galaxy, shape in zip(GALAXIES.itertuples(), SHAPES, strict=True)
    ]
    return write_catalog(tmp_path_factory.mktemp("real"), images)


def write_fits(folder, **changes):
    """Write the published fits as GalSim's COSMOS catalogues have them."""
    fit = np.zeros((3, 8))
    fit[:, 1] = GALAXIES.half_light_radius / SCALE / np.sqrt(GALAXIES.axis_ratio)
    fit[:, 2], fit[:, 3] = GALAXIES.sersic_index, GALAXIES.axis_ratio
    fit[:, 5], fit[:, 6] = GALAXIES.x0 - 0.5, GALAXIES.y0 - 0.5
    fit[:, 7] = np.deg2rad(GALAXIES.angle)
    columns = {
        "IDENT": GALAXIES.ident.to_numpy(),
        "sersicfit": fit,
        "flux": np.repeat(GALAXIES.flux.to_numpy()[:, np.newaxis], 4, axis=1),
        "hlr": np.repeat(GALAXIES.half_light_radius.to_numpy()[:, np.newaxis], 3, 1),
        "fit_status": np.ones((3, 5), int),
        **changes,
    }
    columns = {name: column for name, column in columns.items() if column is not None}
    Table(columns).write(folder / "real_catalog_fits.fits", overwrite=True)


@pytest.fixture
def published(tmp_path):
    """Return a folder with tiny images, which are quick to draw, without fits."""
    return write_catalog(tmp_path, [tiny_image()] * 3)


def tiny_image(background=0.0):
    image = galsim.ImageD(8, 8, scale=SCALE, init_value=background)
    image[4, 4] += 1.0
    return image


def make(folder, *args, **changes):
    options = {"labels": labels(), "random_state": 0, "return_X_y": False, **STAMPS}
    return make_real_galaxies(folder, *args, **{**options, **changes})


def twins(galaxies, **psf):
    """Return Sersic profiles drawn directly with the parameters of the frame."""
    names = ("flux", "half_light_radius", "sersic_index", "ellipticity")
    columns = {n: galaxies.frame[n].to_numpy() for n in (*names, "position_angle")}
    return make_galaxies(
        len(galaxies.frame), return_X_y=False, **columns, **STAMPS, **psf
    )


# The light --------------------------------------------------------------------------

PSFS = [
    {},
    {"psf": "moffat", "psf_fwhm": 0.6, "psf_ellipticity": 0.1},
    {"psf_fwhm": 0.9, "psf_ellipticity": 0.3, "psf_position_angle": 70.0},
    {"psf_fwhm": 0.5, "pixel_scale": 0.15},
]


@pytest.mark.parametrize("psf", PSFS, ids=str)
@pytest.mark.parametrize("rotate", [False, True])
def test_a_sersic_galaxy_equals_a_direct_drawing(folder, psf, rotate):
    galaxies = make(folder, 9 if rotate else None, rotate=rotate, **psf)
    expected = twins(galaxies, **psf)
    peak = expected.images.max(axis=(1, 2), keepdims=True)
    # GalSim's interpolation of the original image is as accurate as this.
    assert abs(galaxies.images - expected.images).max() < 3e-3 * peak.max()
    assert (abs(galaxies.images - expected.images) < 3e-3 * peak).all()


def test_a_psf_of_an_array(folder):
    psf = twins_psf = make_galaxies(
        1, planes=("image", "psf"), psf_fwhm=0.8, image_shape=(41, 41), random_state=0
    )[0][0, 1]
    galaxies = make(folder, psf=psf)
    expected = twins(galaxies, psf=twins_psf)
    peak = expected.images.max(axis=(1, 2), keepdims=True)
    assert (abs(galaxies.images - expected.images) < 3e-3 * peak).all()


def test_labels_without_rotation_are_those_given(folder):
    galaxies = make(folder, rotate=False, targets=ALL, flux_scale=50.0)
    expected = labels().assign(x0=STAMPS["x0"], y0=STAMPS["y0"])
    expected["flux"] *= 50.0
    np.testing.assert_allclose(galaxies.target, expected[ALL], rtol=1e-12)
    assert galaxies.frame.ident.tolist() == ["17", "4", "205"]
    assert not galaxies.frame.rotation.any()


def test_a_rotation_turns_the_ellipse(folder):
    frame = make(folder).frame
    np.testing.assert_allclose(
        frame.position_angle, (GALAXIES.angle + frame.rotation) % 180, atol=1e-9
    )
    q = GALAXIES.axis_ratio
    np.testing.assert_allclose(frame.ellipticity, (1 - q**2) / (1 + q**2))
    assert frame.rotation.nunique() == 3


def drawn(n_samples, **changes):
    """Return the galaxies of stamps that are not drawn, of the rows 3 and 5."""
    options = {"entropy": (1, 2), "flux_scale": 100.0, "rotate": True, **changes}
    sources = _real_galaxies._parse_galaxies(None, None, None, (4, 8), n_samples)
    known = dict.fromkeys(ALL, np.full(6, np.nan))
    return _real_galaxies._draw_galaxies(
        sources, np.array([3, 5]), known, n_samples=n_samples, **options
    )


def test_rotations_and_places_are_uniform():
    galaxies = drawn(2000)
    for values, high in [(galaxies.rotation, 360), (galaxies.x0, 8), (galaxies.y0, 4)]:
        assert stats.kstest(values / high, "uniform").pvalue > 1e-3


def test_without_centre_the_middle_of_the_image_is_placed(folder):
    table = labels()
    known = make(folder, rotate=True)
    middles = np.array(SHAPES)[:, ::-1] / 2
    unknown = make(folder, labels=table.drop(columns=["x0", "y0"]), targets=ALL)
    assert np.isnan(unknown.target[:, 5:]).all()
    angle = np.deg2rad(known.frame.rotation)
    dx, dy = (GALAXIES[["x0", "y0"]].to_numpy() - middles).T * SCALE / 0.2
    moved = make(
        folder,
        x0=(STAMPS["x0"] + dx * np.cos(angle) - dy * np.sin(angle)).to_numpy(),
        y0=(STAMPS["y0"] + dx * np.sin(angle) + dy * np.cos(angle)).to_numpy(),
    )
    tolerance = 1e-3 * unknown.images.max()
    np.testing.assert_allclose(unknown.images, moved.images, atol=tolerance)
    assert abs(unknown.images - known.images).max() > 10 * tolerance


def test_flux_scales_the_label_or_else_the_sum_of_the_image(folder):
    table = labels()
    table.loc[1, "flux"] = np.nan
    flux = [1000.0, 2000.0, 3000.0]
    galaxies = make(folder, labels=table, flux=flux)
    np.testing.assert_allclose(galaxies.frame.flux, [1000.0, np.nan, 3000.0])
    assert galaxies.frame.image_flux[1] == pytest.approx(2000.0)
    np.testing.assert_allclose(galaxies.images.sum(axis=(1, 2)), flux, rtol=0.01)


def test_image_flux_is_the_sum_of_the_original(folder):
    frame = make(folder, labels=None, flux_scale=30.0).frame
    np.testing.assert_allclose(frame.image_flux, 30.0 * GALAXIES.flux, rtol=5e-3)
    assert np.isnan(frame.flux).all()


def test_an_image_without_light_cannot_be_scaled(tmp_path):
    write_catalog(tmp_path, [tiny_image(-0.1)])
    message = "'flux' .* None for the galaxy with ident 17"
    with pytest.raises(ValueError, match=message):
        make(tmp_path, labels=None, flux=100.0)


# The noise --------------------------------------------------------------------------


def noise_catalog(tmp_path, correlated):
    """Return a catalogue of images of noise, and the variance of the noise."""
    random = galsim.BaseDeviate(1)
    noise = galsim.UncorrelatedNoise(0.04, rng=random, scale=SCALE)
    noise_image = None
    if correlated:
        smoothing = galsim.Gaussian(sigma=1.2 * SCALE).shear(g1=0.3)
        noise = noise.convolvedWith(smoothing).withVariance(0.04)
        noise_image = noise.drawImage(galsim.ImageD(31, 31, scale=SCALE))
    images = [galsim.ImageD(160, 160, scale=SCALE) for _ in range(3)]
    for image in images:
        image.addNoise(noise)
    return write_catalog(tmp_path, images, variance=0.04, noise_image=noise_image)


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("psf", [{}, {"psf": "array"}], ids=["gaussian", "array"])
def test_original_noise_is_the_noise_left_in_the_stamps(tmp_path, correlated, psf):
    catalog = noise_catalog(tmp_path, correlated)
    if psf:
        psf = {"psf": np.outer(*[np.exp(-0.5 * (np.arange(-9, 10) / 1.5) ** 2)] * 2)}
    galaxies = make(
        catalog,
        30,
        labels=None,
        image_shape=(30, 30),
        x0=15.0,
        y0=15.0,
        flux_scale=3.0,
        **psf,
    )
    inner = galaxies.images[:, 7:23, 7:23]
    assert inner.std() == pytest.approx(galaxies.frame.original_noise.mean(), rel=0.1)
    assert galaxies.frame.original_noise.min() > 0


def narrow_psf(position_angle):
    return ModelPSF("gaussian", 0.4, None, 0.6, position_angle, 0.2)


def noise_left(folder, rotation, psf):
    """Return the noise of an original that is left in a pixel of a stamp."""
    stamp = RealStamp(
        row=0,
        factor=1.0,
        flux=np.nan,
        rotation=rotation,
        origin=(np.nan, np.nan),
        center=(8.0, 8.0),
        optics={"image_shape": (16, 16), "pixel_scale": 0.2, "psf": psf},
        detector=None,
        generator=None,
    )
    with closing(galsim.RealGalaxyCatalog(str(folder / "real_catalog.fits"))) as one:
        return _real_stamps._original_noise(one, one.getPSF(0), stamp)


def test_a_rotation_turns_the_correlation_of_the_noise(tmp_path):
    folder = noise_catalog(tmp_path, correlated=True)
    upright = noise_left(folder, 0.0, narrow_psf(50.0))
    # The pixel does not turn with the PSF.
    turned = noise_left(folder, 30.0, narrow_psf(80.0))
    assert turned == pytest.approx(upright, rel=1e-3)
    for angle in (80.0, 110.0):
        assert noise_left(folder, 0.0, narrow_psf(angle)) < 0.99 * upright


def test_the_pixel_smooths_the_noise_of_the_original(tmp_path):
    folder = noise_catalog(tmp_path, correlated=False)
    psf = ModelPSF("gaussian", 0.5, None, 0.0, 0.0, 0.2)
    effective = StampPSF(effective_psf(psf, (33, 33)), 0.2)
    modelled, sampled = (noise_left(folder, 0.0, one) for one in (psf, effective))
    assert modelled == pytest.approx(sampled, rel=0.01)


def test_noise_is_added(folder):
    quiet, noisy = (
        make(folder, noise=noise, sky_level=20.0, gain=2.0, read_noise=4.0)
        for noise in (False, True)
    )
    difference = noisy.images - quiet.images
    variance = (quiet.images + 20.0) / 2.0 + (4.0 / 2.0) ** 2
    chi = difference / np.sqrt(variance)
    assert chi.mean() == pytest.approx(0.0, abs=5 / np.sqrt(chi.size))
    assert chi.var() == pytest.approx(1.0, abs=5 * np.sqrt(2 / chi.size))


def test_too_many_electrons_are_refused(folder):
    with pytest.raises(ValueError, match="less than 9e\\+18 electrons"):
        make(folder, noise=True, flux_scale=1e20)
    with pytest.raises(ValueError, match="at most 1e\\+37 ADU"):
        make(folder, flux_scale=1e30, labels=None, flux=1e38)


# Published fits ---------------------------------------------------------------------


def read(published, **changes):
    options = {"labels": None, "rotate": False, "targets": ALL, "flux_scale": 1.0}
    return make(published, **{**options, **changes}).target


def test_published_fits_become_labels(published):
    write_fits(published)
    expected = labels().assign(x0=STAMPS["x0"], y0=STAMPS["y0"])[ALL]
    np.testing.assert_allclose(read(published), expected)


def test_published_fits_in_another_order(published):
    write_fits(published, IDENT=GALAXIES.ident.to_numpy()[::-1])
    expected = labels()["half_light_radius"]
    np.testing.assert_allclose(read(published)[::-1, 1], expected)


def test_failed_fits_are_unknown(published):
    status = np.ones((3, 5), int)
    status[1, 4], status[2, 4] = 0, 5
    write_fits(published, fit_status=status)
    assert np.isfinite(read(published)).all(axis=1).tolist() == [True, False, False]


def test_fits_without_status_and_fits_of_other_columns(published):
    write_fits(published, fit_status=None)
    assert np.isfinite(read(published)).all()
    write_fits(published, sersicfit=None)
    assert np.isnan(read(published)).all()


def test_the_published_centre_is_the_centre_of_the_light(folder, tmp_path):
    for file in folder.glob("*.fits"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_fits(tmp_path)
    galaxies = make(tmp_path, labels=None, image_shape=(64, 64), x0=30.0, y0=34.0)
    rows, columns = np.indices((64, 64)) + 0.5
    for image in galaxies.images.astype(float):
        assert np.average(columns, weights=image) == pytest.approx(30.0, abs=0.01)
        assert np.average(rows, weights=image) == pytest.approx(34.0, abs=0.01)


def test_a_user_table_may_lack_galaxies_and_columns(published):
    table = {"ident": [205], "half_light_radius": [0.7]}
    target = read(published, labels=table)
    assert np.flatnonzero(np.isfinite(target)).tolist() == [2 * len(ALL) + 1]


# Selection and reproducibility ------------------------------------------------------


def test_idents_choose_the_galaxies(published):
    assert make(published, idents=[205, 17]).frame.ident.tolist() == ["205", "17"]
    assert make(published, idents=["4"]).frame.ident.tolist() == ["4"]
    many = make(published, 12, idents=[205, 17])
    assert set(many.frame.ident) == {"205", "17"}


def test_galaxies_are_drawn_with_equal_probability():
    index, counts = np.unique(drawn(2000).row, return_counts=True)
    assert index.tolist() == [3, 5]
    assert abs(counts - 1000).max() < 5 * np.sqrt(500)


def test_stamps_depend_on_the_seed_and_their_index_only(folder):
    options = {"noise": True, "psf_fwhm": (0.6, 1.0), "x0": (20.0, 28.0)}
    many = make(folder, 7, **options)
    few = make(folder, 3, **options)
    parallel = make(folder, 7, n_jobs=2, **options)
    other = make(folder, 7, random_state=1, **options)
    np.testing.assert_array_equal(many.images[:3], few.images)
    np.testing.assert_array_equal(many.images, parallel.images)
    assert (many.images != other.images).mean() > 0.9
    pd.testing.assert_frame_equal(many.frame.iloc[:3], few.frame)


def test_the_rotation_changes_no_other_number(folder):
    options = {"x0": (20.0, 28.0), "flux": (100.0, 200.0)}
    turned, upright = (
        make(folder, 5, rotate=r, **options).frame for r in (True, False)
    )
    same = ["ident", "flux", "x0", "y0"]
    pd.testing.assert_frame_equal(turned[same], upright[same])


# Output -----------------------------------------------------------------------------


def test_X_and_y(folder):
    options = {"labels": labels(), "random_state": 0, **STAMPS}
    X, y = make_real_galaxies(folder, **options)
    assert (X.shape, X.dtype) == ((3, 40 * 48), np.float32)
    assert (y.shape, y.dtype) == ((3, 2), np.float64)
    _, one = make_real_galaxies(folder, targets="e1", **options)
    assert one.shape == (3,)


def test_planes(folder):
    galaxies = make(folder, planes=("image", "variance", "psf"), sky_level=7.0)
    assert galaxies.data.shape == (3, 3, 40, 48)
    assert (galaxies.variance_images == 7.0 + 4.0).all()
    expected = twins(galaxies, planes=("image", "psf")).psf_images
    np.testing.assert_array_equal(galaxies.psf_images, expected)
    psf = galaxies.psf_images[0]
    same = make(folder, psf=psf, planes=("image", "psf")).psf_images
    np.testing.assert_allclose(same, [psf] * 3, atol=1e-7)


def test_settings_that_vary_are_in_the_frame(folder):
    galaxies = make(folder, psf_fwhm=(0.6, 0.9), return_X_y=False)
    assert galaxies.frame.psf_fwhm.between(0.6, 0.9).all()
    assert galaxies.psf_fwhm == (0.6, 0.9)
    assert "psf_fwhm" not in make(folder).frame
    assert "3 stamps have a label" in galaxies.DESCR
    assert "rotated by a random angle" in galaxies.DESCR


# Errors -----------------------------------------------------------------------------


def test_a_missing_folder_or_catalogue(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a folder"):
        make_real_galaxies(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="Got no such file in"):
        make_real_galaxies(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"'catalog_name' .* Got 'a.fits'"):
        make_real_galaxies(tmp_path, catalog_name="a.fits")
    for name in ("one_catalog.fits", "two_catalog.fits", "two_catalog_selection.fits"):
        (tmp_path / name).write_bytes(b"")
    message = "Got one_catalog.fits, two_catalog.fits in"
    with pytest.raises(FileNotFoundError, match=message):
        make_real_galaxies(tmp_path)
    with pytest.raises(InvalidParameterError, match="cannot be read as a FITS table"):
        make_real_galaxies(tmp_path, catalog_name="one_catalog.fits")


def test_a_catalogue_of_other_columns(tmp_path):
    Table({"IDENT": [1], "GAL_HDU": [0]}).write(tmp_path / "catalog.fits")
    with pytest.raises(InvalidParameterError, match="lacks the columns GAL_FILENAME"):
        make_real_galaxies(tmp_path)


def test_a_catalogue_without_its_images(tmp_path):
    write_catalog(tmp_path, [tiny_image()])
    (tmp_path / "psfs.fits").unlink()
    with pytest.raises(FileNotFoundError, match=r"folder without '.*psfs\.fits'"):
        make_real_galaxies(tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"flux": [1.0]}, "the column 'ident' and some of flux"),
        ({"ident": [17]}, "the column 'ident' and some of flux"),
        ({"ident": [17, 17], "flux": [1.0, 2.0]}, "each 'ident' once"),
        ({"ident": [1], "flux": [1.0]}, "an 'ident' of the catalogue, such as"),
        ({"ident": [17], "flux": [0.0]}, "'flux' above 0. Got 0"),
        ({"ident": [17], "flux": [1.0, 2.0]}, "1 numbers in each column"),
        ({"ident": [17], "e1": [0.8], "e2": [0.8]}, "ellipticity .* below 1"),
        ({"ident": [17], "flux": ["bright"]}, "flux must be an array of numbers"),
        ({"ident": [17], "x0": [np.inf]}, "x0 must be an array of numbers"),
        (3, "a table with the column 'ident'"),
    ],
)
def test_wrong_labels(published, table, message):
    with pytest.raises(ValueError, match=message):
        make(published, labels=table)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"psf": None}, "'psf' parameter of make_real_galaxies must be 'gaussian'"),
        ({"psf": "airy"}, "'psf' parameter of make_real_galaxies"),
        ({"idents": [17, 3]}, "idents of the catalogue. Got '3'"),
        ({"idents": []}, "idents of the catalogue. Got none"),
        ({"flux_scale": 0.0}, "'flux_scale' parameter of make_real_galaxies"),
        ({"flux_scale": -1.0}, "'flux_scale' parameter of make_real_galaxies"),
        ({"flux": -5.0}, "'flux' parameter of make_real_galaxies"),
        ({"x0": 1000.0}, "'x0' parameter of make_real_galaxies"),
        ({"x0": [1.0, 2.0]}, "an array of n_samples=3 values"),
        ({"targets": "redshift"}, "'targets' parameter of make_real_galaxies"),
        ({"planes": "psf"}, "'planes' parameter of make_real_galaxies"),
        ({"image_shape": (0, 4)}, "'image_shape' parameter of make_real_galaxies"),
        ({"rotate": 30.0}, "'rotate' parameter of make_real_galaxies"),
    ],
)
def test_wrong_parameters(published, changes, message):
    with pytest.raises(ValueError, match=message):
        make(published, **changes)


@pytest.mark.parametrize("name", ["flux", "flux_scale", "psf_fwhm"])
def test_quantities_are_refused(published, name):
    with pytest.raises(TypeError, match=name):
        make(published, **{name: Quantity(1.0, "adu")})


@pytest.mark.parametrize(
    ("psf", "name"),
    [
        ({"psf_fwhm": 0.1}, "psf_fwhm"),
        ({"psf_fwhm": 0.16, "psf_ellipticity": 0.7}, "psf_fwhm"),
        ({"psf": np.eye(3)[[1]].T @ np.eye(3)[[1]], "pixel_scale": 0.05}, "psf"),
    ],
)
def test_a_psf_narrower_than_the_original(folder, psf, name):
    with pytest.raises(ValueError, match=f"'{name}' .* at least as wide as the PSF"):
        make(folder, **psf)


def test_the_error_of_n_samples_names_it(published):
    with pytest.raises(
        ValueError, match=re.escape("'n_samples' parameter of make_real")
    ):
        make(published, 0)


def test_a_new_process_loads_neither_scikit_learn_nor_scipy_stats():
    code = (
        "import sys; import sklcae.datasets._real_stamps;"
        "print([m for m in ('sklearn', 'scipy.stats') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
