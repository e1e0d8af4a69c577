"""The network "sersic" and the augmentation "simulation" of the estimator."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from sklcae import (
    ConditionalAutoencoderRegressor,
    ProfileFitRegressor,
    stack_planes,
)
from sklcae._fixed_psf import gaussian_psf
from sklcae._torch.sersic import RenderFunction
from sklcae.datasets import make_galaxies

NAMES = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
SHAPE, SCALE = (24, 24), 0.2
PLANES = ("image", "variance", "psf")
FWHM = np.linspace(0.5, 0.9, 5)
PSFS = np.concatenate([gaussian_psf(f / SCALE, (1, *SHAPE))[:, 0] for f in FWHM])


def make_stamps(n=80, **options):
    """Return stamps with one of five PSFs each, and their parameters."""
    parts = []
    for k, fwhm in enumerate(FWHM):
        settings = {
            "psf_fwhm": float(fwhm),
            "image_shape": SHAPE,
            "pixel_scale": SCALE,
            "half_light_radius": (0.3, 0.8),
            "sersic_index": (0.5, 2.0),
            "x0": (10.0, 14.0),
            "y0": (10.0, 14.0),
            "targets": NAMES,
            **options,
        }
        X, y = make_galaxies(n // 5, random_state=k, **settings)
        images = X.reshape(-1, *SHAPE)
        parts.append((stack_planes(images, 14.0, PSFS[k]), y))
    X, y = map(np.concatenate, zip(*parts, strict=True))
    return X, pd.DataFrame(y, columns=NAMES)


def make_model(**changed):
    settings = {"max_epochs": 2, "batch_size": 16, "random_state": 0}
    settings |= {"planes": PLANES, "pixel_scale": SCALE}
    return ConditionalAutoencoderRegressor.recommended(**settings | changed)


@pytest.fixture(scope="module")
def stamps():
    return make_stamps()


@pytest.fixture(scope="module")
def model(stamps):
    return make_model().fit(*stamps)


def test_recommended_settings_depend_on_the_psf(model):
    assert (model.network, model.augmentation) == ("sersic", "simulation")
    assert ConditionalAutoencoderRegressor.recommended(psf=0.7).network == "sersic"
    for nothing in ({}, {"psf": None}, {"planes": ("image",)}):
        model = ConditionalAutoencoderRegressor.recommended(**nothing)
        assert model.network == "neural_field"


def test_generated_images_have_the_wanted_parameters_through_any_psf(model, stamps):
    """Closure: set, generate, and measure by a profile fit."""
    _, y = stamps
    wanted = y.iloc[:20]
    y, x = np.mgrid[-12:12, -12:12]
    elongated = np.exp(-(x**2 / 3.0 + y**2 / 4.5 + x * y / 4) / 2)
    for psf in (PSFS[0], PSFS[4], elongated):
        images = model.generate(wanted, psf=psf)[:, 0]
        X = stack_planes(images, 1e-2, psf)
        fit = ProfileFitRegressor(planes=PLANES, pixel_scale=SCALE, gain=None)
        fit = fit.set_params(fit_sky=False).fit(X, wanted)
        measured = fit.predict(X)
        np.testing.assert_allclose(measured[:, :3] / wanted.iloc[:, :3], 1, atol=5e-3)
        np.testing.assert_allclose(measured[:, 3:], wanted.iloc[:, 3:], atol=2e-3)


def test_generated_image_is_that_of_galsim(model):
    wanted = pd.DataFrame([[2e4, 0.5, 1.0, 0.2, -0.1, 12.3, 11.6]], columns=NAMES)
    image = model.generate(wanted, psf=gaussian_psf(3.5, (1, *SHAPE))[0, 0])
    e1, e2 = wanted["e1"][0], wanted["e2"][0]
    expected, _ = make_galaxies(
        1,
        flux=2e4,
        half_light_radius=0.5,
        sersic_index=1.0,
        ellipticity=float(np.hypot(e1, e2)),
        position_angle=float(np.rad2deg(np.arctan2(e2, e1)) / 2),
        x0=12.3,
        y0=11.6,
        image_shape=SHAPE,
        noise=False,
    )
    np.testing.assert_allclose(image.ravel(), expected[0], atol=2e-4 * expected.max())


def test_empty_stamps_are_reconstructed_as_nan(model, stamps):
    X = stamps[0][:6].copy()
    X[2, 0] = np.nan
    lenient = copy.deepcopy(model).set_params(allow_nan=True, handle_empty="nan")
    with pytest.warns(UserWarning, match="1 of 6 images have no pixel"):
        images = lenient.reconstruct(X)
    assert np.isnan(images[2]).all()
    kept = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(images[kept], model.reconstruct(X[kept]))


def test_inverse_transform_sets_the_psf(model, stamps):
    Z = model.transform(stamps[0][:4])
    sharp, wide = (model.inverse_transform(Z, psf=psf) for psf in PSFS[[0, 4]])
    assert (sharp.max(axis=(1, 2, 3)) > wide.max(axis=(1, 2, 3))).all()
    np.testing.assert_allclose(sharp.sum(), wide.sum(), rtol=0.02)
    with pytest.raises(ValueError, match="psf must be the PSF"):
        model.inverse_transform(Z)


def test_fixed_psf_is_a_plane_of_the_same_psf(stamps):
    X, y = stamps
    images, psf = X[:, 0], PSFS[2]
    same = stack_planes(images, psf=psf)
    settings = {"max_epochs": 1, "augmentation": "dihedral"}
    planes = make_model(planes=("image", "psf"), **settings).fit(same, y)
    fixed = make_model(planes=("image",), psf=psf, **settings).fit(images, y)
    np.testing.assert_allclose(
        fixed.predict(images), planes.predict(same), rtol=1e-4, atol=1e-5
    )
    assert fixed.generate(y[:2]).shape == (2, *SHAPE)
    wide = fixed.generate(y[:2], psf=PSFS[4])
    assert wide.max() < fixed.generate(y[:2]).max()


def test_width_of_a_fixed_psf_is_in_the_unit_of_pixel_scale(stamps):
    X, y = stamps
    model = make_model(planes=("image",), psf=0.7, max_epochs=1).fit(X[:, 0], y)
    np.testing.assert_allclose(model.codec_.psf, gaussian_psf(3.5, (1, *SHAPE)))


def test_simulation_does_not_look_at_the_images(stamps):
    """It learns from y and from the other planes; the images set the scaling only."""
    X, y = stamps
    shuffled = X.copy()
    shuffled[1:-1, 0] = X[1:-1, 0][::-1]
    first, second = (make_model().fit(stamps, y) for stamps in (X, shuffled))
    np.testing.assert_allclose(
        first.predict(X[:9]), second.predict(X[:9]), rtol=1e-3, atol=1e-3
    )


def test_model_is_the_same_for_any_number_of_threads(stamps, model):
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if n_threads > 1 else 2)
        other = make_model().fit(*stamps)
    finally:
        torch.set_num_threads(n_threads)
    assert np.array_equal(other.predict(stamps[0]), model.predict(stamps[0]))


@pytest.mark.parametrize("psf", [None, 0.7, PSFS[1]], ids=["plane", "width", "stamp"])
def test_model_is_saved_and_pickled(psf, stamps, tmp_path):
    X, y = stamps
    changed = {"max_epochs": 1}
    if psf is not None:
        X, changed = X[:, 0], changed | {"psf": psf, "planes": ("image",)}
    model = make_model(**changed).fit(X, y)
    model.save(tmp_path / "model")
    loaded = ConditionalAutoencoderRegressor.load(tmp_path / "model")
    for other in (loaded, pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other.predict(X), model.predict(X))
        assert clone(other).fit(X, y).codec_.psf is None or psf is not None


def test_checkpoint_resumes_bitwise(stamps, tmp_path):
    X, y = stamps
    settings = {"lr_schedule": "constant", "checkpoint": tmp_path / "file"}
    whole = make_model(max_epochs=2, lr_schedule="constant").fit(X, y)
    make_model(max_epochs=1, **settings).fit(X, y)
    resumed = make_model(max_epochs=2, **settings).fit(X, y)
    assert np.array_equal(resumed.predict(X), whole.predict(X))


def test_targets_without_labels_are_latents(stamps, tmp_path):
    X, y = stamps
    unlabelled = y.assign(sersic_index=np.nan, x0=np.nan, y0=np.nan)
    settings = {"augmentation": "dihedral", "max_epochs": 1}
    model = make_model(**settings).fit(X, unlabelled)
    assert np.isfinite(model.predict(X)).all()
    model.save(tmp_path / "model")
    fewer = make_model(log_targets=["flux"], **settings)
    fewer.fit(X, y[["flux", "e1", "e2"]])
    assert fewer.predict(X).shape == (len(X), 3)
    assert fewer.codec_.architecture.profile.columns == (0, 3, 4, 1, 2, 5, 6)


@pytest.mark.slow
def test_chi_square_teaches_a_target_without_labels():
    X, y = make_stamps(1500, flux=(2e4, 6e4))
    unlabelled = y.assign(half_light_radius=np.nan)
    model = make_model(augmentation="dihedral", max_epochs=30, alpha=1.0)
    model.fit(X, unlabelled)
    X_test, y_test = make_stamps(100, flux=(2e4, 6e4), ellipticity=(0.0, 0.5))
    found = model.predict(X_test)[:, 1]
    assert np.corrcoef(found, y_test["half_light_radius"])[0, 1] > 0.9
    assert np.median(found / y_test["half_light_radius"]) == pytest.approx(1, abs=0.1)


@pytest.mark.slow
def test_radius_of_an_image_is_smaller_through_a_wider_psf():
    """A small and a large galaxy have the same width at different seeing."""
    X, y = make_stamps(1500, flux=(2e4, 6e4))
    model = make_model(max_epochs=30, batch_size=32).fit(X, y)
    X_test, _ = make_stamps(100, flux=(2e4, 6e4), ellipticity=(0.0, 0.5))
    radii = []
    for psf in PSFS[[1, 3]]:
        X_test[:, 2] = psf
        radii.append(model.predict(X_test)[:, 1])
    assert np.median(radii[1] / radii[0]) < 0.95


WRONG = {
    "no pixel_scale": ({"pixel_scale": None}, "'pixel_scale' parameter .* side"),
    "no psf": (
        {"planes": ("image",), "network": "sersic"},
        "'psf' parameter .* unless 'planes'",
    ),
    "two psfs": ({"psf": 0.7}, "'psf' parameter .* None with a plane"),
    "two bands": ({"planes": ("image", "psf"), "image_shape": None}, "channels"),
    "few latents": ({"latent_dim": 7, "augmentation": None}, "'latent_dim'"),
    "no reconstruction without simulation": (
        {"reconstruction_loss": None, "augmentation": "dihedral"},
        "'reconstruction_loss' parameter .* must be a loss",
    ),
    "no reconstruction for a decoder that learns": (
        {"reconstruction_loss": None, "network": "neural_field"},
        "'reconstruction_loss' parameter .* must be a loss",
    ),
    "no reconstruction with an exchange": (
        {"reconstruction_loss": None, "gamma": 1.0},
        "'reconstruction_loss' parameter .* gamma=1",
    ),
    "no gain": ({"gain": None}, "'gain' parameter .* must be a number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_parameters_are_named(name, stamps):
    changed, reason = WRONG[name]
    X, y = stamps
    if changed.get("planes") == ("image",):
        X = X[:, 0]
    with pytest.raises(ValueError, match=reason):
        make_model(**changed).fit(X, y)


def test_without_a_reconstruction_loss_the_decoder_is_not_used(stamps, monkeypatch):
    X, y = stamps
    calls = []
    forward = RenderFunction.forward

    def counted(*args):
        calls.append(len(args[1]))
        return forward(*args)

    monkeypatch.setattr(RenderFunction, "forward", staticmethod(counted))
    model = make_model().fit(X, y)
    assert "reconstruction_loss" not in model.history_
    assert max(calls) <= 64
    n_without = len(calls)
    model = make_model(reconstruction_loss="chi_square").fit(X, y)
    assert model.history_["reconstruction_loss"][1] > 0.3
    assert len(calls) > 2 * n_without
    loss = np.array(make_model(verbose=1).fit(X, y).history_["train_loss"])
    terms = make_model().fit(X, y).history_
    expected = 100 * np.array(terms["physical_loss"])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_shapelets_do_not_drown_bright_galaxies():
    """Latents that a step changes by some tenths must not be coefficients of that."""
    X, y = make_stamps(400, flux=(2e4, 1e5))
    settings = {"augmentation": "dihedral", "max_epochs": 6, "alpha": 1.0}
    model = make_model(**settings).fit(X, y)
    loss = model.history_["reconstruction_loss"]
    assert max(loss) < 2 * loss[0]
    assert loss[-1] < 0.5 * loss[0]


def test_targets_without_spread_are_returned():
    X, y = make_stamps(flux=2e4)
    model = make_model(log_targets=None, max_epochs=8).fit(X, y)
    np.testing.assert_allclose(model.predict(X)[:, 0], 2e4, atol=20)


def test_without_a_reconstruction_loss_the_log_has_no_such_term(stamps, capsys):
    make_model(max_epochs=1, verbose=1).fit(*stamps)
    log = capsys.readouterr().out
    assert log.startswith("train_loss = 100 physical + 0.0001 regularization")
    assert "reconstruction" not in log


def test_settings_of_another_augmentation_have_a_reconstruction_loss():
    assert make_model().reconstruction_loss is None
    changes = {"augmentation": "dihedral"}, {"network": "neural_field"}, {"gamma": 1.0}
    for changed in changes:
        assert make_model(**changed).reconstruction_loss == "chi_square"


def test_simulation_needs_all_parameters(stamps):
    X, y = stamps
    with pytest.raises(ValueError, match=r"all of .*simulation"):
        make_model(log_targets=None).fit(X, y[["flux", "e1", "e2"]])


def test_simulation_cannot_continue_a_fit_without_it(stamps):
    X, y = stamps
    settings = {"network": "neural_field", "log_targets": None, "max_epochs": 1}
    model = make_model(augmentation="dihedral", warm_start=True, **settings)
    model.fit(X, y).set_params(augmentation="simulation")
    with pytest.raises(ValueError, match="'augmentation' parameter"):
        model.fit(X, y)


def test_other_names_are_refused(stamps):
    X, y = stamps
    renamed = y.rename(columns={"e1": "ellipticity"})
    with pytest.raises(ValueError, match=r"among .*sersic"):
        make_model(augmentation=None, test_time_augmentation=False).fit(X, renamed)


def test_no_label_at_all_is_refused(stamps):
    X, y = stamps
    with pytest.raises(ValueError, match="contains NaN for all images"):
        make_model(augmentation="dihedral").fit(X, y * np.nan)


@pytest.mark.parametrize("stretch", ["linear", "asinh"])
def test_light_of_an_image_is_the_image(stretch, stamps):
    """The median pixel of stamps that a galaxy fills is light, and no sky."""
    X, y = stamps
    X = X.copy()
    X[:, 0] += 3.0
    model = make_model(stretch=stretch, max_epochs=1).fit(X, y)
    codec, images = model.codec_, X[:9, :1]
    scaled = torch.from_numpy(codec.image_scaler.transform(images))
    scale = codec.light_scale.to("cpu")
    np.testing.assert_allclose(
        scale.light(scaled) * codec.light_unit, images, rtol=1e-4, atol=1e-2
    )
    np.testing.assert_allclose(scale.scaled(scale.light(scaled)), scaled, atol=1e-5)


def test_galaxies_are_sought_where_those_of_the_training_set_are(stamps, model):
    """All of them, also the few that are far from the others."""
    X, y = stamps
    window = model.codec_.architecture.profile.window
    np.testing.assert_allclose(window, [[9.0, 9.0], [14.0, 14.0]], atol=0.3)
    far = y.copy()
    far.loc[3, "x0"] = 4.0
    settings = {"augmentation": "dihedral", "reconstruction_loss": "chi_square"}
    other = make_model(**settings, max_epochs=1).fit(X, far)
    [low, high] = other.codec_.architecture.profile.window
    assert low[0] == pytest.approx(3.0)
    assert high[1] == pytest.approx(20.0)
    few = make_model(log_targets=["flux"], **settings, max_epochs=1)
    assert few.fit(X, y[["flux"]]).codec_.architecture.profile.window is None


def test_settings_of_the_simulation_need_it(stamps):
    settings = {"augmentation": "dihedral", "reconstruction_loss": "chi_square"}
    for name in ("simulated_neighbours", "simulated_sky"):
        with pytest.raises(ValueError, match=f"'{name}' parameter .* must be 0 unless"):
            make_model(**settings, **{name: 1.0}).fit(*stamps)
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            make_model(**{name: -1.0}).fit(*stamps)


def test_neighbours_and_sky_are_simulated(stamps):
    X, y = stamps
    plain = make_model(max_epochs=1).fit(X, y)
    for name in ("simulated_neighbours", "simulated_sky"):
        other, same = (make_model(max_epochs=1, **{name: 1.0}).fit(X, y) for _ in "ab")
        assert other.history_["train_loss"] == same.history_["train_loss"]
        assert other.history_["train_loss"] != plain.history_["train_loss"]


def test_logarithms_of_places_and_shapes_are_refused(stamps):
    X, y = stamps
    model = make_model(
        augmentation=None,
        test_time_augmentation=False,
        reconstruction_loss="chi_square",
        log_targets=["flux", "x0"],
    )
    with pytest.raises(ValueError, match=r"'log_targets' parameter .* Got \['x0'\]"):
        model.fit(X, y)


def test_targets_that_no_new_galaxy_has_are_refused(stamps):
    X, y = stamps
    for name in ("mag", "flux_ratio"):
        model = make_model(
            network="neural_field",
            invariant_targets=[name],
            reconstruction_loss="chi_square",
        )
        with pytest.raises(ValueError, match=f"Got others too: .'{name}'."):
            model.fit(X, y.assign(**{name: 1.0}))
