"""Files with a `ProfileFitRegressor`."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from sklcae import ConditionalAutoencoderRegressor, ProfileFitRegressor
from sklcae._fixed_psf import gaussian_psf
from sklcae._storage.archive import read_archive, write_archive
from sklcae.datasets import make_galaxies
from sklcae.exceptions import ModelFileError

NAMES = ["flux", "half_light_radius", "x0"]
SHAPE = (24, 24)
PLANES = ("image", "variance", "psf")


@pytest.fixture(scope="module")
def stamps():
    settings = {"image_shape": SHAPE, "x0": 12.0, "y0": 12.0, "targets": NAMES}
    return make_galaxies(30, planes=PLANES, random_state=0, **settings)


MODELS = {
    "planes": ProfileFitRegressor(planes=PLANES, pixel_scale=0.2, target_names=NAMES),
    "width": ProfileFitRegressor(psf=0.7, pixel_scale=0.2, target_names=NAMES),
    "stamp": ProfileFitRegressor(
        psf=gaussian_psf(3.5, (1, 25, 25))[0, 0],
        pixel_scale=0.2,
        target_names=NAMES,
        bounds={"sersic_index": (0.5, 4.0), "ellipticity": (0, 0.7)},
        fit_sky=0.5,
        max_steps=9,
    ),
    "crowded": ProfileFitRegressor(
        psf=0.7,
        pixel_scale=0.2,
        target_names=NAMES,
        max_neighbours=2,
        mask_cosmic_rays=True,
        bulge=True,
        noise_correlation=[[0.1, 0.3, 0.1], [0.3, 1.0, 0.3], [0.1, 0.3, 0.1]],
    ),
    "network": ProfileFitRegressor(
        ConditionalAutoencoderRegressor(max_epochs=1, random_state=0),
        psf=0.7,
        pixel_scale=0.2,
        target_names=NAMES,
    ),
}


def fitted(name, stamps):
    X, y = stamps
    X = X if name == "planes" else X[:, 0]
    return MODELS[name].fit(X, y), X, y


@pytest.mark.parametrize("name", MODELS)
def test_loaded_model_is_the_saved_one(name, stamps, tmp_path):
    model, X, y = fitted(name, stamps)
    model.save(tmp_path / "model")
    loaded = ProfileFitRegressor.load(tmp_path / "model")
    for mine, saved in zip(
        loaded.predict(X, return_std=True, return_cov=True),
        model.predict(X, return_std=True, return_cov=True),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, saved)
    assert loaded.target_names_ == NAMES
    # It can be fitted again.
    again = loaded.fit(X, y)
    np.testing.assert_array_equal(again.predict(X[:3]), model.predict(X[:3]))


def test_prefit_estimator_stays_the_fitted_one(stamps, tmp_path):
    X, y = stamps[0][:, 0], stamps[1]
    network = ConditionalAutoencoderRegressor(max_epochs=1, random_state=0).fit(X, y)
    model = ProfileFitRegressor(network, prefit=True, psf=0.7, pixel_scale=0.2)
    model.set_params(target_names=NAMES).fit(X, y).save(tmp_path / "model")
    loaded = ProfileFitRegressor.load(tmp_path / "model")
    assert loaded.estimator is loaded.estimator_
    np.testing.assert_array_equal(loaded.estimator_.predict(X), network.predict(X))


def test_other_estimators_are_refused(stamps, tmp_path):
    X, y = stamps[0][:, 0].reshape(30, -1), stamps[1]
    model = ProfileFitRegressor(
        LinearRegression(), psf=0.7, pixel_scale=0.2, target_names=NAMES
    ).fit(X, y)
    with pytest.raises(TypeError, match=r"'estimator' .* LinearRegression"):
        model.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_each_class_loads_its_own_files(stamps, tmp_path):
    model, X, y = fitted("planes", stamps)
    model.save(tmp_path / "fit")
    with pytest.raises(ModelFileError, match="holds a ProfileFitRegressor"):
        ConditionalAutoencoderRegressor.load(tmp_path / "fit")
    network = ConditionalAutoencoderRegressor(max_epochs=1, random_state=0)
    network.fit(X[:, 0], y).save(tmp_path / "network")
    with pytest.raises(ModelFileError, match="holds a ConditionalAuto"):
        ProfileFitRegressor.load(tmp_path / "network")


def set_fitted(name, value):
    def forge(manifest):
        manifest["content"]["dict"]["fitted"]["dict"][name] = value

    return forge


def set_parameter(name, value):
    def forge(manifest):
        manifest["content"]["dict"]["parameters"]["dict"][name] = value

    return forge


FORGERIES = {
    "scale negative": (set_fitted("pixel_scale", -1.0), "'pixel_scale'"),
    "gain a text": (set_fitted("gain", "1"), "'gain'"),
    "no noise": (set_fitted("noise", None), "noise is None"),
    "no psf": (set_fitted("psf", None), "there must be a PSF|without a place"),
    "bounds unknown": (
        set_fitted("bounds", {"dict": {"mass": {"tuple": [0.0, 1.0]}}}),
        "bounds of",
    ),
    "sky negative": (set_fitted("fit_sky", -1.0), "'fit_sky'"),
    "steps none": (set_fitted("max_steps", 0), "'max_steps'"),
    "neighbours negative": (set_fitted("max_neighbours", -1), "'max_neighbours'"),
    "bulge a number": (set_fitted("bulge", 1), "'bulge'"),
    "mask a text": (set_fitted("mask_cosmic_rays", "no"), "'mask_cosmic_rays'"),
    "correlation a list": (set_fitted("noise_correlation", [1.0]), "correlation"),
    "noise of two bands": (set_fitted("noise", [1.0, 2.0]), "noise must have one"),
    "another attribute": (set_fitted("other", 1), "does not know"),
    "estimator a parameter": (set_parameter("estimator", None), "'estimator'"),
    "unknown parameter": (set_parameter("mass", 1), "'mass'"),
    "wrong parameter": (set_parameter("max_steps", -3), "parameters are wrong"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_file_is_refused(name, stamps, tmp_path):
    forge, reason = FORGERIES[name]
    model, _, _ = fitted("stamp", stamps)
    path = tmp_path / "model"
    model.save(path)
    manifest, arrays = read_archive(path, lambda *content: None)
    forge(manifest)
    write_archive(path, manifest, arrays)
    with pytest.raises(ModelFileError, match=reason):
        ProfileFitRegressor.load(path)


def test_parameter_that_is_not_plain_is_left_out_with_a_warning(stamps, tmp_path):
    X, y = stamps
    model = ProfileFitRegressor(planes=PLANES, pixel_scale=0.2)
    model.set_params(target_names=np.array(NAMES)).fit(X, y)
    with pytest.warns(UserWarning, match="target_names"):
        model.save(tmp_path / "model")
    assert ProfileFitRegressor.load(tmp_path / "model").target_names_ == NAMES
