"""Catalogues of simulated survey images, against the galaxies that were drawn."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table

from sklcae import ConditionalAutoencoderRegressor, ProfileFitRegressor, load_pretrained
from sklcae.datasets import make_galaxies
from sklcae.survey import cutouts, measure
from tests.survey.images import (
    NOISE,
    PIXEL_SCALE,
    gaussian_stamp,
    gaussian_varying,
    make_wcs,
    paste,
    simulate_galaxies,
    with_noise,
)
from tests.survey.test_geometry import pixel_angle_of

SHAPE = (384, 384)
# A galaxy at the edge, a pair, and others.
XY = np.array(
    [[i * 75 + 42.3, j * 75 + 40.7] for i in range(5) for j in range(4)]
    + [[60.4, 55.2], [8.7, 370.1], [200.5, 378.2]]
)
SETTINGS = {
    "flux": (8_000.0, 40_000.0),
    "half_light_radius": (0.5, 1.2),
    "sersic_index": (0.7, 2.0),
    "ellipticity": (0.2, 0.6),
}
FIT = {"variance": NOISE**2, "psf": gaussian_varying}


@pytest.fixture(scope="module")
def simulated():
    return simulate_galaxies(XY, gaussian_varying, SHAPE, random_state=3, **SETTINGS)


@pytest.fixture(scope="module")
def image(simulated):
    return with_noise(simulated.light, 0)


@pytest.fixture(scope="module")
def model():
    return load_pretrained("ground")


def sky_angles_of(truth, wcs):
    """Return the position angles from north through east, from the WCS alone."""
    angles = np.empty(len(truth))
    for row, galaxy in enumerate(truth.itertuples()):
        pixel = np.rad2deg(np.arctan2(galaxy.e2, galaxy.e1)) / 2
        north = pixel_angle_of(wcs, galaxy.x, galaxy.y, 0.0)
        east = pixel_angle_of(wcs, galaxy.x, galaxy.y, 90.0)
        angles[row] = (pixel - north) * np.sign(np.sin(np.deg2rad(east - north)))
    return angles


def matched(catalog, truth, wcs):
    """Return the row of each galaxy, and its distance on the sky in pixels."""
    sky = SkyCoord(catalog["ra"], catalog["dec"])
    places = wcs.pixel_to_world(truth["x"].to_numpy(), truth["y"].to_numpy())
    rows, distance, _ = places.match_to_catalog_sky(sky)
    return rows, distance.arcsec


@pytest.mark.parametrize(
    ("angle", "parity", "scale"),
    [(0.0, 1, 0.263), (35.0, -1, 0.2), (140.0, 1, 0.4), (250.0, -1, 0.263)],
)
def test_detected_galaxies_are_on_the_sky(
    simulated, image, model, angle, parity, scale
):
    wcs = make_wcs(angle, parity, scale, shape=SHAPE)
    catalog = measure(model, image, **FIT, wcs=wcs)
    truth = simulated.truth
    assert len(catalog) == len(truth)
    rows, distance = matched(catalog, truth, wcs)
    assert len(set(rows)) == len(truth)
    assert np.median(distance) / scale < 0.1
    found = catalog[rows]
    error = np.hypot(found["x_err"], found["y_err"])
    assert (distance / scale < 4 * error).all()
    for name, factor in (("flux", 1.0), ("half_light_radius", scale / PIXEL_SCALE)):
        pull = (found[name] - truth[name] * factor) / found[f"{name}_err"]
        assert np.median(abs(pull)) < 1.2
    ratio = found["half_light_radius"] / truth["half_light_radius"]
    np.testing.assert_allclose(np.median(ratio), scale / PIXEL_SCALE, rtol=0.05)
    angles = np.deg2rad(2 * sky_angles_of(truth, wcs))
    e = np.hypot(truth["e1"], truth["e2"])
    for name, wanted in (("e1", e * np.cos(angles)), ("e2", e * np.sin(angles))):
        pull = (found[name] - wanted) / found[f"{name}_err"]
        assert np.median(abs(pull)) < 1.2
        assert np.corrcoef(found[name], wanted)[0, 1] > 0.95
    sky = wcs.pixel_to_world(found["x"], found["y"])
    np.testing.assert_allclose(found["ra"], sky.ra.deg)
    np.testing.assert_allclose(found["dec"], sky.dec.deg)


WCS = make_wcs(20.0, shape=SHAPE)


def test_columns_units_and_flags(simulated, image, model, tmp_path):
    weight = np.full(SHAPE, NOISE**-2, np.float32)
    mask = np.zeros(SHAPE, np.uint8)
    bright = simulated.truth.iloc[0]
    mask[
        int(bright.y) - 2 : int(bright.y) + 3, int(bright.x) - 2 : int(bright.x) + 3
    ] = 1
    hdus = [fits.PrimaryHDU()]
    for name, array in (("SCI", image + 30), ("WHT", weight), ("MASK", mask)):
        hdus.append(fits.ImageHDU(array, WCS.to_header(), name=name))
    hdus[1].header["BUNIT"] = "ADU"
    path = tmp_path / "survey.fits"
    fits.HDUList(hdus).writeto(path)
    positions = Table(
        {
            "x": [*XY[:6, 0], -200.0, np.nan],
            "y": [*XY[:6, 1], 10.0, 10.0],
            "object_id": [f"G{i}" for i in range(8)],
        }
    )
    catalog = measure(model, path, positions, psf=gaussian_varying, background=30.0)
    assert catalog.colnames[:9] == [
        "object_id", "ra", "dec", "x", "y", "x_err", "y_err", "flux", "flux_err",
    ]  # fmt: skip
    assert not {"x0", "y0", "x0_err", "flux_e1_cov"} & set(catalog.colnames)
    units = {name: str(catalog[name].unit) for name in catalog.colnames}
    assert units["ra"] == units["dec"] == "deg"
    assert units["half_light_radius"] == units["half_light_radius_err"] == "arcsec"
    assert units["flux"] == "adu"
    assert units["x"] == units["x_err"] == "pix"
    assert "north through east" in catalog["e1"].description
    assert catalog["object_id"].tolist() == positions["object_id"].tolist()
    # The pixels of the first galaxy are masked, and the last two are off the image.
    assert catalog["sklcae_flag_masked"].tolist() == [True] + 7 * [False]
    assert catalog["sklcae_flag_no_pixels"].tolist() == 6 * [False] + [True] * 2
    assert catalog["sklcae_flag"][[0, 6, 7]].all()
    assert np.isfinite(catalog["flux"][:6]).all()
    assert np.isnan(catalog["flux"][6:]).all()
    # Without a measurement the place is that of the table.
    assert catalog["x"][6] == -200
    assert np.isfinite(catalog["ra"][6])
    assert np.isnan(catalog["ra"][7])
    again = tmp_path / "catalog.fits"
    catalog.write(again)
    assert len(Table.read(again)) == 8


def test_the_network_alone(simulated, image, model):
    settings = {**FIT, "wcs": WCS}
    catalog = measure(model, image, XY[:8], **settings, polish=False, flags=False)
    stamps = cutouts(image, XY[:8], **settings)
    scaled = load_pretrained("ground").rescale(pixel_scale=PIXEL_SCALE)
    y, y_std = scaled.predict(stamps[:], return_std=True)
    names = model.target_names_
    np.testing.assert_allclose(catalog["flux"], y[:, 0], rtol=1e-4)
    np.testing.assert_allclose(catalog["flux_err"], y_std[:, 0], rtol=1e-3)
    x = y[:, names.index("x0")] - 0.5 + stamps.origin[:, 0]
    np.testing.assert_allclose(catalog["x"], x, atol=1e-3)
    assert "chi_square" not in catalog.colnames
    assert "sklcae_flag_masked" not in catalog.colnames
    # The model keeps its units.
    assert model.pixel_scale == 0.2


def test_fits_are_those_of_the_estimator(simulated, image, model):
    few = XY[[0, 20]]
    stamps = cutouts(image, few, **FIT, wcs=WCS, mask_others=True)
    scale = float(np.median(stamps.pixel_scale))
    scaled = load_pretrained("ground").rescale(pixel_scale=scale, gain=1.3)
    scaled.set_params(allow_nan=True)
    fitter = ProfileFitRegressor(
        scaled,
        prefit=True,
        gain=1.3,
        allow_nan=True,
        max_steps=60,
        pixel_scale=scale,
    )
    fitter.fit(stamps[:])
    for neighbours, kwargs in (
        ("positions", {"neighbours": stamps.find_neighbours()}),
        (XY, {"neighbours": stamps.find_neighbours(XY)}),
        (0, {}),
    ):
        catalog = measure(
            model,
            image,
            few,
            **FIT,
            wcs=WCS,
            gain=1.3,
            neighbours=neighbours,
            polish={"max_steps": 60},
        )
        y, y_std = fitter.predict(stamps[:], return_std=True, **kwargs)
        np.testing.assert_allclose(catalog["flux"], y[:, 0], rtol=1e-9)
        np.testing.assert_allclose(catalog["flux_err"], y_std[:, 0], rtol=1e-9)
    found = measure(model, image, few, **FIT, wcs=WCS, neighbours=3)["flux"]
    # The first two are a pair.
    flux = simulated.truth["flux"][0]
    assert abs(found[0] - flux) < 0.3 * abs(catalog["flux"][0] - flux)


def test_light_from_outside_of_the_stamp(image, model):
    # A galaxy just outside of the stamp of another one.
    bright = image.copy()
    paste(bright, 200_000 * gaussian_stamp(7.0, 61), 154, 116)
    true, plain, masked = (
        measure(model, one, XY[5:6], **FIT, wcs=WCS, mask_others=mask)
        for one, mask in ((image, False), (bright, False), (bright, None))
    )
    error = true["flux_err"][0]
    assert abs(plain["flux"][0] - true["flux"][0]) > 3 * error
    assert abs(masked["flux"][0] - true["flux"][0]) < 1.5 * error
    # A fit with masked pixels is not like the training set, and that does not matter.
    assert masked["sklcae_flag_outside_training"][0]
    others = [n for n in masked.colnames if n.startswith("sklcae_flag_")]
    assert not masked["sklcae_flag"][0], [n for n in others if masked[n][0]]
    alone = measure(
        model, bright, XY[:1], **FIT, wcs=WCS, polish=False, mask_others=True
    )
    assert alone["sklcae_flag"][0]


def test_a_stamp_that_cannot_be_measured_is_flagged(image, model):
    def psf(x, y):
        shift = 5 if abs(x - XY[1, 0]) < 1 and abs(y - XY[1, 1]) < 1 else 0
        return np.roll(gaussian_varying(x, y), shift, axis=1)

    def failing(x, y):
        if abs(x - XY[1, 0]) < 1 and abs(y - XY[1, 1]) < 1:
            raise RuntimeError("have its centre in pixel")
        return gaussian_varying(x, y)

    with pytest.raises(ValueError, match="have its centre in pixel"):
        cutouts(image, XY[:3], psf=psf)[:]
    for function in (psf, failing):
        with pytest.warns(UserWarning, match="1 of 3 rows .* row 1: .*its centre in"):
            catalog = measure(
                model, image, XY[:3], variance=NOISE**2, psf=function, wcs=WCS
            )
        assert catalog["sklcae_flag_bad_stamp"].tolist() == [False, True, False]
        assert np.isfinite(catalog["flux"]).tolist() == [True, False, True]


def test_catalogues_without_any_row_get_a_warning(image, model):
    ra, dec = WCS.pixel_to_world(*XY[:3].T).ra.deg, np.full(3, 2.2)
    settings = {**FIT, "wcs": WCS}
    nothing = np.zeros(SHAPE)
    cases = [
        ({"ra": ra / 15, "dec": dec}, {}, "0 of the positions; 0% of"),
        (XY[:3], {"mask": nothing == 0}, "3 of the positions; 100% of"),
        (XY[:3], {"variance": -1 - nothing}, "3 of the positions; 100% of"),
        (XY[:3], {"variance": None, "weight": nothing}, "3 of the positions; 100% of"),
    ]
    for positions, kwargs, message in cases:
        message = f"None of 3 rows could be measured: no_pixels 3. .* {message}"
        with pytest.warns(UserWarning, match=message):
            catalog = measure(model, image, positions, **settings | kwargs)
        assert np.isnan(catalog["flux"]).all()
    bad = np.zeros(SHAPE, bool)
    bad[:3] = True
    with pytest.warns(
        UserWarning, match=r"No source was found .* 99\.2% of its pixels"
    ):
        assert not len(measure(model, image, mask=~bad, **settings))


def test_positions_of_one_source_get_a_warning(image, model):
    twice = np.vstack([XY[:2], XY[:1] + 0.3])
    with pytest.warns(UserWarning, match="2 of 3 positions are within a pixel"):
        measure(model, image, twice, **FIT, wcs=WCS)
    # Degrees in an array.
    degrees = np.column_stack([WCS.pixel_to_world(*XY.T).ra.deg, np.full(len(XY), 2.2)])
    with pytest.raises(ValueError, match=r"Got 23 within a pixel, at x=150.* SkyCoord"):
        measure(model, image, degrees, **FIT, wcs=WCS)
    # The neighbours are others.
    for kwargs in ({"neighbours": 0}, {"neighbours": XY}, {"polish": False}):
        measure(model, image, twice, **FIT, wcs=WCS, **kwargs)


def test_saturation_on_an_uneven_background(simulated, model):
    sky = 100 + 0.1 * np.indices(SHAPE).sum(axis=0)
    raw = with_noise(simulated.light, 0) + sky
    x, y = XY[5].round().astype(int)
    raw = raw.clip(max=sky[y, x] + 0.4 * (raw[y, x] - sky[y, x]))
    for background in ("sep", sky):
        catalog = measure(model, raw, XY[5:6], **FIT, wcs=WCS, background=background)
        assert catalog["sklcae_flag_saturated"][0]


def test_the_size_is_that_of_the_model(image):
    ground = load_pretrained("ground")
    settings = {"planes": ground.planes, "network": "sersic", "pixel_scale": 0.2}
    model = ConditionalAutoencoderRegressor(
        **settings, target_names=ground.target_names_, max_epochs=1, gain=1.0
    )
    X, y = make_galaxies(
        30,
        image_shape=(48, 48),
        x0=24.0,
        y0=24.0,
        planes=ground.planes,
        targets=ground.target_names_,
        random_state=0,
    )
    catalog = measure(model.fit(X, y), image, XY[:2], **FIT, wcs=WCS, polish=False)
    assert len(catalog) == 2


def test_images_without_galaxies(model):
    blank = np.zeros(SHAPE)
    for kwargs in ({}, {"polish": False}, {"positions": np.zeros((0, 2))}):
        catalog = measure(model, blank, **FIT, wcs=WCS, **kwargs)
        assert len(catalog) == 0
        assert {"ra", "flux", "sklcae_flag"} <= set(catalog.colnames)
    masked = np.full(SHAPE, np.nan)
    for polish in (True, False):
        with pytest.warns(UserWarning, match="None of 3 rows could be measured"):
            catalog = measure(model, masked, XY[:3], **FIT, wcs=WCS, polish=polish)
        assert catalog["sklcae_flag_no_pixels"].all()
        assert np.isnan(catalog["flux"]).all()
        np.testing.assert_allclose(catalog["x"], XY[:3, 0])


def test_wrong_parameters(image, model):
    plain = ConditionalAutoencoderRegressor()
    wrong = [
        (TypeError, "model must be a fitted Cond", "ground", {}),
        (ValueError, "not fitted", plain, {}),
        (ValueError, "size must be that of the stamps", model, {"size": 32}),
        (ValueError, "weight or variance must be given.*variance='sep'", model,
         {"variance": None}),
        (ValueError, "psf must be given for a model.*psf=0.8", model, {"psf": None}),
        (TypeError, r"measure\(\) got an unexpected keyword argument 'psf_fwhm'", model,
         {"psf_fwhm": 0.8}),
        (ValueError, "measure needs an image with a WCS", model, {"wcs": None}),
        (ValueError, "'polish' parameter of measure", model, {"polish": "yes"}),
        (ValueError, r"polish must be a dict .*\['pixel_scale'\]", model,
         {"polish": {"pixel_scale": 1.0}}),
        (ValueError, "'gain' parameter", model, {"gain": -1.0}),
        (ValueError, "neighbours must be 'positions', an int", model,
         {"neighbours": "all"}),
        (ValueError, "neighbours must be 'positions', an int", model,
         {"neighbours": -1}),
        (ValueError, "neighbours must be None, a table", model,
         {"neighbours": np.zeros(3)}),
        (ValueError, "must be 'positions' with polish=False", model,
         {"neighbours": 2, "polish": False}),
        (ValueError, "detection must be None with positions", model,
         {"detection": {"threshold": 5.0}, "mask_others": False}),
    ]  # fmt: skip
    for error, message, given, kwargs in wrong:
        kwargs = {**FIT, "wcs": WCS, **kwargs}
        if kwargs["psf"] is None:
            del kwargs["psf"]
        with pytest.raises(error, match=message):
            measure(given, image, XY[:2], **kwargs)


def test_a_gain_that_is_not_used_gets_a_warning(image, model, tmp_path):
    header = WCS.to_header()
    header["GAIN"] = 4.2
    fits.writeto(tmp_path / "image.fits", image, header)
    arguments = model, tmp_path / "image.fits", XY[:1]
    with pytest.warns(UserWarning, match=r"GAIN = 4.2, but .* model, 1, is used"):
        measure(*arguments, **FIT)
    for gain in (1.0, 4.2):
        measure(*arguments, **FIT, gain=gain)


def test_the_noise_of_an_image_is_compared_with_its_variance(image, model):
    # Light and masked pixels are no noise.
    holes = image.copy()
    holes[:, ::3] = np.nan
    measure(model, holes, XY[:1], **FIT, wcs=WCS)
    for factor in (1 / 5, 5):
        kwargs = FIT | {"variance": factor * NOISE**2}
        with pytest.warns(UserWarning, match="is 3.9., but its weight or variance"):
            measure(model, image, XY[:1], **kwargs, wcs=WCS)
    sky = 1.3 * NOISE
    for left in (sky, -sky):
        with pytest.warns(UserWarning, match="seems to have a background"):
            measure(model, image + left, XY[:1], **FIT, wcs=WCS)
