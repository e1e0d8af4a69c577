"""The network "sersic" and the augmentation "simulation" with several bands."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.stats import median_abs_deviation
from sklearn.base import clone

from sklcae import ConditionalAutoencoderRegressor
from sklcae._torch.networks import sersic
from sklcae.datasets import make_galaxies
from sklcae.exceptions import ModelFileError
from tests.bands import (
    BANDS,
    FLUXES,
    FWHM,
    GAIN,
    NAMES,
    PSFS,
    SCALE,
    SHAPE,
    draw_truth,
    images_of,
    make_stamps,
)
from tests.forging import forge, read

PLANES = ("image", "variance", "psf")


def make_model(**changed):
    settings = {"max_epochs": 1, "batch_size": 16, "random_state": 0, "gain": GAIN}
    settings |= {"planes": PLANES, "pixel_scale": SCALE}
    return ConditionalAutoencoderRegressor.recommended(**settings | changed)


@pytest.fixture(scope="module")
def stamps():
    return make_stamps(64)


@pytest.fixture(scope="module")
def model(stamps):
    return make_model(max_epochs=2).fit(*stamps)


def colors_of(fluxes):
    """Return the colours of neighbouring bands in magnitudes."""
    return -2.5 * np.log10(fluxes[:, :-1] / fluxes[:, 1:])


def test_colours_are_read():
    model = make_model(max_epochs=8, batch_size=32).fit(*make_stamps(400))
    X, y = make_stamps(300, 7, flux=(1e4, 5e4))
    true, found = (colors_of(v[:, :3]) for v in (y.to_numpy(), model.predict(X)))
    error = found - true
    assert (1 - error.var(axis=0) / true.var(axis=0) > 0.99).all()
    assert (median_abs_deviation(error, scale="normal") < 0.03).all()
    assert (np.abs(np.median(error, axis=0)) < 0.02).all()


def test_generated_bands_are_those_of_galsim(model):
    fluxes, geometry = [2e4, 3e4, 1e4], [0.5, 1.0, 0.2, -0.1, 12.3, 11.6]
    wanted = pd.DataFrame([[*fluxes, *geometry]], columns=NAMES)
    [images] = model.generate(wanted, psf=PSFS[None])
    for image, flux, fwhm in zip(images, fluxes, FWHM, strict=True):
        expected, _ = make_galaxies(
            1,
            flux=flux,
            half_light_radius=0.5,
            sersic_index=1.0,
            ellipticity=float(np.hypot(0.2, -0.1)),
            position_angle=float(np.rad2deg(np.arctan2(-0.1, 0.2)) / 2),
            x0=12.3,
            y0=11.6,
            psf_fwhm=fwhm * SCALE,
            pixel_scale=SCALE,
            image_shape=SHAPE,
            noise=False,
        )
        atol = 5e-4 * expected.max()
        np.testing.assert_allclose(image.ravel(), expected[0], atol=atol)


def test_images_of_all_methods_have_all_bands(model, stamps):
    X, y = stamps
    shape = (len(BANDS), *SHAPE)
    Z = model.transform(X[:4])
    assert model.reconstruct(X).shape == (len(X), *shape)
    for images in (
        model.inverse_transform(Z, psf=X[:4, 6:]),
        model.generate(y[:4], psf=PSFS[None].repeat(4, axis=0)),
        model.generate(y[:4], psf=PSFS[0]),
    ):
        assert images.shape == (4, *shape)
    np.testing.assert_array_equal(
        model.inverse_transform(Z, psf=X[:4, 6:]), model.reconstruct(X[:4])
    )
    assert list(model.get_feature_names_out()[:9]) == NAMES


def test_generated_images_have_the_wanted_fluxes_and_radii():
    """With a radius for each band, the light of each has its own width."""
    truth = draw_truth(64)
    radii = truth[["half_light_radius"]].to_numpy() * [1.0, 0.8, 0.6]
    names = [f"half_light_radius_{band}" for band in BANDS]
    y = truth.drop(columns="half_light_radius")
    y = pd.concat([y, pd.DataFrame(radii, columns=names)], axis=1)
    X = np.concatenate([images_of(truth), np.ones((64, 3, *SHAPE))], axis=1)
    model = make_model(planes=("image", "variance"), psf=FWHM[2] * SCALE).fit(X, y)
    images = model.generate(y[:9])
    psfs = np.repeat(PSFS[2:], 3, axis=0)
    expected = images_of(y[:9], psfs)
    np.testing.assert_allclose(images, expected, atol=1e-4 * expected.max())


def test_prediction_does_not_depend_on_other_stamps(model, stamps):
    X, _ = stamps
    together = model.predict(X)
    assert np.array_equal(model.predict(X[40:41])[0], together[40])
    assert np.array_equal(model.predict(X[::-1])[::-1], together)


@pytest.mark.parametrize("gain", [GAIN, list(GAIN), np.array(GAIN)])
def test_gain_of_each_band_may_be_any_sequence(gain, model, stamps):
    other = make_model(max_epochs=2, gain=gain)
    clone(other)
    assert np.array_equal(
        other.fit(*stamps).predict(stamps[0]), model.predict(stamps[0])
    )
    assert other.codec_.gain == GAIN


def test_gain_of_each_band_is_that_of_its_noise(model):
    noise = model.codec_.noise._replace(background=np.ones((1, 3, 1, 1)))
    light = images_of(draw_truth(9)).clip(0)
    for band, gain in enumerate(GAIN):
        expected = 1 + light[:, band] / gain
        np.testing.assert_allclose(noise.variance(light)[:, band], expected)
    scaled = model.codec_.light_scale.to("cpu").noise.gain.ravel()
    np.testing.assert_allclose(scaled, model.codec_.light_unit * np.array(GAIN))


def test_equal_gains_are_one_gain(stamps):
    one, each = (make_model(gain=gain).fit(*stamps) for gain in (2.0, [2.0] * 3))
    X = stamps[0]
    np.testing.assert_allclose(each.predict(X), one.predict(X), rtol=1e-4, atol=1e-4)


def test_any_network_may_have_a_gain_for_each_band(stamps):
    X, y = stamps
    settings = {"network": "neural_field", "augmentation": "dihedral", "psf": None}
    X = X[:, :3]
    model = make_model(planes=("image",), gain=[1.0, 1e-3, 1.0], **settings)
    equal = make_model(planes=("image",), gain=1.0, **settings).fit(X, y)
    first, second = (
        m.fit(X, y).history_["reconstruction_loss"] for m in (model, equal)
    )
    assert first[0] < second[0]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"gain": np.array(GAIN)},
        {"planes": ("image", "variance"), "psf": [0.8, 0.7, 0.6]},
        {"planes": ("image", "variance"), "psf": PSFS},
        {"planes": ("image",), "psf": 0.7},
    ],
    ids=["planes", "array of gains", "widths", "stamps", "one width"],
)
def test_model_is_saved_and_pickled(changed, stamps, tmp_path):
    X, y = stamps
    model = make_model(**changed)
    X = X[:, : 3 * len(model.planes)]
    model.fit(X, y).save(tmp_path / "model")
    loaded = ConditionalAutoencoderRegressor.load(tmp_path / "model")
    for other in (loaded, pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other.predict(X), model.predict(X))
        assert np.array_equal(other.reconstruct(X), model.reconstruct(X))
        assert np.array_equal(other.score_samples(X), model.score_samples(X))
    assert np.array_equal(loaded.gain, model.gain)
    again = clone(loaded).fit(X, y)
    assert np.array_equal(again.predict(X), model.predict(X))


def test_checkpoint_resumes_bitwise(stamps, model, tmp_path):
    X, y = stamps
    settings = {"lr_schedule": "constant", "checkpoint": tmp_path / "file"}
    whole = make_model(max_epochs=2, lr_schedule="constant").fit(X, y)
    make_model(**settings).fit(X, y)
    resumed = make_model(max_epochs=2, **settings).fit(X, y)
    assert np.array_equal(resumed.predict(X), whole.predict(X))


def test_psf_of_each_band_is_the_plane_of_the_same_psf(stamps):
    X, y = stamps
    widths = [fwhm * SCALE for fwhm in FWHM]
    plane = make_model().fit(X, y)
    for psf in (widths, PSFS):
        fixed = make_model(planes=("image", "variance"), psf=psf).fit(X[:, :6], y)
        np.testing.assert_allclose(fixed.codec_.psf[0], PSFS, atol=1e-7)
        np.testing.assert_allclose(
            fixed.predict(X[:, :6]), plane.predict(X), rtol=1e-4, atol=1e-4
        )


def test_names_default_to_numbers_of_bands(model, stamps):
    X, y = stamps
    unnamed = make_model(max_epochs=2).fit(X, y.to_numpy())
    assert unnamed.target_names_[:4] == [*(f"flux_{i}" for i in range(3)), NAMES[3]]
    assert np.array_equal(unnamed.predict(X), model.predict(X))


def test_log_targets_of_a_kind_are_those_of_all_bands(model, stamps):
    assert model.log_targets == ["flux", "half_light_radius", "sersic_index"]
    assert model.target_scaler_.logarithmic == (0, 1, 2, 3, 4)
    one = make_model(log_targets=["flux_r"]).fit(*stamps)
    assert one.target_scaler_.logarithmic == (1,)


def test_columns_of_y_may_have_any_order(stamps):
    X, y = stamps
    names = ["e2", *FLUXES, "y0", "x0"]
    settings = {"augmentation": "dihedral", "log_targets": ["flux"]}
    model = make_model(**settings).fit(X, y[names])
    assert model.codec_.architecture.profile.columns == (1, 2, 3, 6, 7, 8, 0, 5, 4)
    wanted = y.iloc[:5]
    images = model.reconstruct(X)
    assert np.isfinite(images).all()
    drawn = model.generate(wanted[names], psf=np.tile(PSFS, (5, 1, 1, 1)))
    centers = [
        (drawn.sum((1, axis)) * (np.arange(24) + 0.5)).sum(1) / drawn.sum((1, 2, 3))
        for axis in (2, 3)
    ]
    np.testing.assert_allclose(centers, wanted[["x0", "y0"]].T, atol=0.2)


def test_flux_of_a_band_without_labels_is_a_latent(stamps, tmp_path):
    X, y = stamps
    settings = {"augmentation": "dihedral", "max_epochs": 2}
    model = make_model(**settings).fit(X, y.assign(flux_r=np.nan))
    true, found = np.log(y["flux_r"]), np.log(model.predict(X)[:, 1])
    assert np.corrcoef(true, found)[0, 1] > 0.8
    none = make_model(**settings, log_targets=None).fit(X, y[["e1", "e2"]])
    none.save(tmp_path / "model")
    profile = none.codec_.architecture.profile
    assert profile.columns[:3] == (2, 3, 4)
    np.testing.assert_allclose(profile.mean[:3], np.log(y[FLUXES]).median(), atol=0.3)


def test_predictions_of_turned_stamps_are_turned(stamps):
    X, y = stamps
    settings = {"augmentation": "dihedral", "test_time_augmentation": True}
    model = make_model(**settings).fit(X, y)
    flipped = X[:5].copy()
    flipped[:, :6] = X[:5, :6, :, ::-1]
    flipped[:, 6:, :, 1:] = X[:5, 6:, :, :0:-1]
    found, turned = model.predict(X[:5]), model.predict(flipped)
    np.testing.assert_allclose(turned[:, :6], found[:, :6], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(turned[:, 7], 24 - found[:, 7], atol=1e-3)


def test_exchange_loss_counts_all_bands(stamps):
    """The loss of an exchange of fluxes is far above that of the noise."""
    X, y = stamps
    model = make_model(augmentation="dihedral", gamma=1.0, max_epochs=2).fit(X, y)
    assert np.isfinite(model.history_["exchange_loss"]).all()
    assert model.history_["exchange_loss"][0] > 0.5


def test_stamps_with_a_band_of_another_galaxy_are_unusual():
    X, y = make_stamps(150)
    model = make_model(max_epochs=3).fit(X, y)
    wrong = X.copy()
    wrong[:, 0] = X[::-1, 0]
    usual, unusual = model.score_samples(X), model.score_samples(wrong)
    assert (unusual < np.quantile(usual, 0.01)).mean() > 0.5


def test_decoder_is_given_the_psf_of_each_band(model, stamps, monkeypatch):
    shapes = []

    def waves(psf, size):
        shapes.append(psf.shape)
        return psf_waves(psf, size)

    psf_waves = sersic.psf_waves
    monkeypatch.setattr(sersic, "psf_waves", waves)
    model.reconstruct(stamps[0][:2])
    assert shapes == [(32 * 3, *SHAPE)]


def test_more_bands_than_channels_of_planes(stamps):
    with pytest.raises(ValueError, match=r"one channel for each of the planes"):
        make_model().fit(stamps[0][:, :8], stamps[1])


WRONG_GAINS = {
    "too few": [1.0, 2.0],
    "negative": [1.0, 2.0, -1.0],
    "zero": np.array([1.0, 0.0, 1.0]),
    "infinite": [1.0, np.inf, 1.0],
    "NaN": [1.0, np.nan, 1.0],
    "None": [1.0, None, 1.0],
    "text": ["a", "b", "c"],
    "two axes": [[1.0, 2.0, 3.0]],
}


@pytest.mark.parametrize("gain", WRONG_GAINS.values(), ids=WRONG_GAINS)
def test_wrong_gain_is_named(gain, stamps):
    with pytest.raises(ValueError, match=r"'gain' parameter .*each band: 3.* Got"):
        make_model(gain=gain).fit(*stamps)


WRONG_PSFS = {
    "too few widths": ([0.7, 0.6], "for each of 3 bands"),
    "too few stamps": (PSFS[:2], "for each of 3 bands"),
    "four axes": (PSFS[None], "for each of 3 bands"),
    "negative width": ([0.7, 0.6, -1.0], "positive FWHM for each"),
    "no width": ([0.7, 0.6, None], "positive FWHM for each"),
    "wide": ([0.7, 0.6, 99.0], "at most half a side"),
}


@pytest.mark.parametrize("name", WRONG_PSFS)
def test_wrong_psf_is_named(name, stamps):
    psf, reason = WRONG_PSFS[name]
    with pytest.raises(ValueError, match=rf"'psf' parameter .*{reason}"):
        make_model(planes=("image",), psf=psf).fit(stamps[0][:, :3], stamps[1])


def test_wrong_names_are_named(stamps):
    X, y = stamps
    settings = {"log_targets": None, "augmentation": None}
    settings |= {"test_time_augmentation": False}
    for names, reason in (
        ({"flux_i": "flux"}, r"one 'flux' for each of 3 bands.*'flux_r', 'flux'\]"),
        ({"e1": "ellipticity"}, r"among \['flux_g', .*sersic.*'ellipticity'"),
        ({"e1": "flux_z"}, "one 'flux' for each of 3 bands"),
    ):
        with pytest.raises(ValueError, match=reason):
            make_model(**settings).fit(X, y.rename(columns=names))
    with pytest.raises(ValueError, match=r"all of \['flux_g', .*simulation"):
        make_model().fit(X, y.drop(columns="x0").drop(columns="y0"))


def test_latent_dim_counts_the_fluxes_of_all_bands(stamps):
    with pytest.raises(ValueError, match=r"'latent_dim' .* at least 9 "):
        make_model(latent_dim=8, augmentation="dihedral", log_targets=None).fit(
            stamps[0], stamps[1][[*FLUXES, "e1", "e2"]]
        )


def set_arrays(name, change):
    return lambda state, tensors: tensors.update({name: change(tensors[name])})


FORGERIES = {
    "gain of two bands": (
        lambda state, _: state.update(gain={"tuple": [1.0, 2.0]}),
        "gain has 2 numbers for 3 bands",
    ),
    "gain of none": (lambda state, _: state.update(gain={"tuple": []}), "'gain' in"),
    "gain below 0": (
        lambda state, _: state.update(gain={"tuple": [1.0, 2.0, -1.0]}),
        "'gain' in .*a positive number, or a tuple of such",
    ),
    "guess of one band": (
        set_arrays("fitted/codec_/guess", lambda guess: guess[:, 2:].copy()),
        r"guess must have the shape \(2, 9\)",
    ),
    "names of two bands": (
        lambda state, _: state["layout"]["dict"]["target_names"].__setitem__(2, "z"),
        "must have one 'flux' for each of 3 bands",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_files_that_contradict_themselves_are_refused(name, model, tmp_path):
    change, reason = FORGERIES[name]
    path = tmp_path / "model"
    model.save(path)
    manifest, tensors = read(path)
    fitted = manifest["content"]["dict"]["fitted"]["dict"]
    change(fitted["codec_"]["dict"], tensors)
    path.write_bytes(forge(manifest, tensors))
    with pytest.raises(ModelFileError, match=reason):
        ConditionalAutoencoderRegressor.load(path)


def test_bands_of_make_galaxies_are_read():
    galaxies = make_galaxies(
        48,
        bands=("g", "r"),
        planes=PLANES,
        gain={"g": 1.0, "r": 3.0},
        targets=["flux", *NAMES[3:]],
        image_shape=SHAPE,
        half_light_radius=(0.3, 0.8),
        x0=(10.0, 14.0),
        y0=(10.0, 14.0),
        return_X_y=False,
        random_state=0,
    )
    names = list(galaxies.target_names)
    model = make_model(gain=[1.0, 3.0], target_names=names, max_epochs=2)
    found = model.fit(galaxies.data, galaxies.target).predict(galaxies.data)
    for column in range(2):
        logs = np.log(found[:, column]), np.log(galaxies.target[:, column])
        assert np.corrcoef(*logs)[0, 1] > 0.9
    assert model.codec_.architecture.image_shape == (2, *SHAPE)
