"""Adapting a fitted model to another survey."""

import copy

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sklcae import ConditionalAutoencoderRegressor, _adaptation
from sklcae._fixed_psf import gaussian_psf
from sklcae.datasets import make_galaxies
from tests.test_sersic_network import NAMES, SHAPE, make_model, make_stamps


def make_other_survey(n, random_state=0):
    """Return wider PSFs and more noise than those of `make_stamps`."""
    return make_galaxies(
        n,
        image_shape=SHAPE,
        psf_fwhm=(1.2, 1.4),
        sky_level=60.0,
        half_light_radius=(0.3, 0.8),
        sersic_index=(0.5, 2.0),
        flux=(5_000.0, 50_000.0),
        x0=(10.0, 14.0),
        y0=(10.0, 14.0),
        targets=NAMES,
        planes=("image", "variance", "psf"),
        random_state=random_state,
    )


def error(model, X, y):
    """Return the median relative error of flux and radius."""
    y = np.asarray(y)
    found = model.predict(X)
    return np.median(abs(found / y - 1)[:, :2], axis=0)


@pytest.fixture(scope="module")
def own():
    return make_stamps(400)


@pytest.fixture(scope="module")
def trained(own, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "model.sklcae"
    make_model(max_epochs=30, batch_size=64, latent_dim=9).fit(*own).save(path)
    return path


@pytest.fixture
def model(trained):
    return ConditionalAutoencoderRegressor.load(trained)


@pytest.fixture
def quick(monkeypatch):
    for name in ("N_OWN", "N_HERE", "N_THERE"):
        monkeypatch.setattr(_adaptation, name, 64)
    monkeypatch.setattr(_adaptation, "N_EPOCHS", 2)


@pytest.mark.filterwarnings("ignore::sklcae.exceptions.OutsideTrainingWarning")
@pytest.mark.parametrize("labelled", [True, False])
def test_the_other_survey_is_read_better_and_the_own_as_well(
    model, own, labelled, monkeypatch
):
    monkeypatch.setattr(_adaptation, "N_EPOCHS", 4)
    X, y = make_other_survey(150)
    X_test, y_test = make_other_survey(300, random_state=1)
    before, own_before = error(model, X_test, y_test), error(model, *own)
    assert model.is_outside(X_test).all()
    n_epochs = model.n_iter_
    assert model.adapt(X, y if labelled else None, random_state=0) is model
    after, own_after = error(model, X_test, y_test), error(model, *own)
    # The flux hardly depends on the seeing; the radius is wrong by 30 %.
    assert after[1] < 0.3 * before[1]
    assert after[0] < 1.2 * before[0]
    assert (own_after < 1.2 * own_before).all()
    assert not model.is_outside(X_test).any()
    assert not model.is_outside(own[0]).any()
    assert model.n_iter_ > n_epochs
    assert (np.ravel(model.codec_.error_scale != 1)).any() == labelled


def test_new_and_old_weights_are_averaged(model, quick, monkeypatch):
    before = model.codec_.net.get_weights()
    X, y = make_other_survey(40)
    changed = []
    for share in (1.0, 0.5):
        monkeypatch.setattr(_adaptation, "SHARE_OF_NEW", share)
        other = copy.deepcopy(model).adapt(X, y, random_state=0)
        weights = other.codec_.net.get_weights()
        changed.append({name: weights[name] - before[name] for name in before})
    assert max(abs(part).max() for part in changed[0].values()) > 0
    for name, change in changed[0].items():
        np.testing.assert_allclose(changed[1][name], change / 2, atol=1e-6)


def test_held_out_stamps_calibrate_the_errors(model, own, quick, monkeypatch):
    """Labels that are noisier than the images: errors hold them all the same."""
    monkeypatch.setattr(_adaptation, "LEARNING_RATE", 1e-12)
    X, y = own
    _, std = model.predict(X, return_std=True)
    noisy = y + 3 * std * np.random.default_rng(0).normal(size=std.shape)
    noisy.iloc[:, :3] = noisy.iloc[:, :3].clip(lower=0.1 * y.iloc[:, :3])
    model.adapt(X, noisy, random_state=0)
    found, wider = model.predict(X, return_std=True)
    inside = (abs(found - noisy) < wider).mean()
    assert inside[3:].between(0.55, 0.8).all()
    assert (wider[:, 3:] > 2 * std[:, 3:]).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda y: y * [1, 5, 1, 1, 1, 1, 1], "'half_light_radius' is 0.2.* unit of y"),
        (lambda y: y * [2.5, 1, 1, 1, 1, 1, 1], "'flux' is 0.* unit of y"),
        (lambda y: y[::-1], "contradict y.* for 'flux'.* rows of X and y"),
    ],
    ids=["pixels", "electrons", "shuffled"],
)
def test_labels_that_contradict_the_stamps(model, quick, changed, message):
    X, y = make_other_survey(40)
    with pytest.warns(UserWarning, match=message):
        model.adapt(X, changed(y), random_state=0)


def test_it_is_reproducible_and_saved(model, trained, quick, tmp_path):
    X, y = make_other_survey(40)
    again = ConditionalAutoencoderRegressor.load(trained)
    for one in (model, again):
        one.adapt(X, y, random_state=3)
    np.testing.assert_array_equal(model.predict(X), again.predict(X))
    model.save(tmp_path / "adapted.sklcae")
    loaded = ConditionalAutoencoderRegressor.load(tmp_path / "adapted.sklcae")
    for one, same in zip(model.predict(X, True), loaded.predict(X, True), strict=True):
        np.testing.assert_array_equal(one, same)


def test_missing_labels_and_masked_pixels(model, quick):
    X, y = make_other_survey(40)
    y[::2, 0] = np.nan
    y[1::2, 3] = np.nan
    X[:, 0, 3, 4] = np.nan
    model.set_params(allow_nan=True).adapt(X, y, random_state=0)
    assert np.isfinite(model.predict(X)).all()


def test_reference_has_images_of_both(model, quick):
    n_before = len(model.codec_.reference)
    model.adapt(*make_other_survey(40), random_state=0)
    assert len(model.codec_.reference) == n_before + 30


def test_fit_forgets_the_calibration(model, own, quick):
    model.adapt(*make_other_survey(60), random_state=0)
    assert (model.codec_.error_scale != 1).any()
    model.set_params(max_epochs=1, warm_start=True).fit(*own)
    assert (model.codec_.error_scale == 1).all()


def test_wrong_input_leaves_the_model_as_it_was(model, own, quick):
    X, y = make_other_survey(20)
    expected = model.predict(own[0])
    with pytest.raises(ValueError, match="images"):
        model.adapt(X[:, :, :12], y)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        model.adapt(X, y[:5])
    with pytest.raises(ValueError, match="n_targets_ of 7"):
        model.adapt(X, y[:, :4])
    empty = X.copy()
    empty[:, 0] = np.random.default_rng(0).normal(0, 9, empty[:, 0].shape)
    np.testing.assert_array_equal(model.predict(own[0]), expected)
    with pytest.raises(NotFittedError):
        make_model().adapt(X, y)
    for name, value in {"gain": 2.0, "pixel_scale": 0.3}.items():
        before = getattr(model, name)
        with pytest.raises(ValueError, match=f"'{name}' parameter of Cond.* must stay"):
            model.set_params(**{name: value}).adapt(X, y)
        model.set_params(**{name: before})


def test_galaxies_must_be_known_by_all_of_their_parameters(own):
    X, y = own
    settings = {"reconstruction_loss": "chi_square", "max_epochs": 1}
    settings["augmentation"] = "dihedral"
    logarithms = ["flux", "half_light_radius"]
    few = make_model(log_targets=logarithms, **settings).fit(X, y.iloc[:, :2])
    with pytest.raises(ValueError, match=r"adapt needs .* no targets \['e1', 'e2'"):
        few.adapt(X, y.iloc[:, :2])
    without = make_model(gain=None, **settings).fit(X, y)
    with pytest.raises(ValueError, match=r"adapt needs .* gain=None"):
        without.adapt(X, y)
    plain = ConditionalAutoencoderRegressor(max_epochs=1, latent_dim=9)
    with pytest.raises(ValueError, match=r"adapt needs .* network='paper'"):
        plain.fit(X[:, 0], y).adapt(X[:, 0], y)


def test_planes_of_the_past_are_like_those_of_the_training(model, own):
    planes = _adaptation._past_planes(model.codec_, np.random.default_rng(0))
    assert planes.psf.shape == (_adaptation.N_PLANES, 1, *SHAPE)
    np.testing.assert_allclose(planes.psf.sum((2, 3)), 1, rtol=1e-5)
    # The noise of all stamps is the same, the square root of 14.
    unit = model.codec_.light_unit
    np.testing.assert_allclose(planes.variance * unit**2, 14.0, rtol=1e-4)
    sharpest, widest = (gaussian_psf(f / 0.2, (1, *SHAPE)).max() for f in (0.5, 0.9))
    peaks = planes.psf.max(axis=(1, 2, 3))
    assert (peaks < 1.05 * sharpest).all()
    assert (peaks > 0.95 * widest).all()
    assert peaks.max() / peaks.min() > 2


def test_brighter_stamps_are_inside_afterwards(model, quick):
    X, y = make_other_survey(60)
    X[:, 0] *= 30.0
    y[:, 0] *= 30.0
    model.adapt(X, y, random_state=0)
    assert not model.is_outside(X).any()
    upper = model.image_scaler_.upper_fence_
    assert (X[:, 0].max() < upper).all()


def test_unusual_stamps_are_named_and_left_out(model, quick):
    X, y = make_other_survey(60)
    X[7, 0, 3, 4] = 1e8
    with pytest.warns(UserWarning, match="1 of 60 images have pixels far beyond"):
        model.adapt(X, y, random_state=0)
    assert model.is_outside(X)[7]


@pytest.mark.parametrize("variance", [7.0, 14.0, 3.3, 0.1])
def test_even_noise(own, quick, variance):
    """The ends of the range of a constant may change places by rounding."""
    X, y = own[0][:80].copy(), own[1][:80]
    X[:, 1] = variance
    make_model(max_epochs=1).fit(X, y).adapt(X, y, random_state=0)


def test_nothing_turns_without_augmentation(own, quick):
    X, y = own[0][:100], own[1][:100]
    model = make_model(
        augmentation=None,
        test_time_augmentation=False,
        max_epochs=1,
        reconstruction_loss="chi_square",
    ).fit(X, y)
    expected = model.target_range_
    model.adapt(X, y, random_state=0)
    np.testing.assert_array_equal(model.target_range_, expected)


def test_checks_of_fit_are_made(model, quick):
    X, y = make_other_survey(40)
    with pytest.raises(ValueError, match="'device' parameter must name"):
        model.set_params(device="nonsense").adapt(X, y)
    model.set_params(device="cpu")
    y[::2, 3] = 1.2
    with pytest.raises(ValueError, match="ellipticities below 1"):
        model.adapt(X, y)


def test_one_psf_and_many_noise_maps(own):
    X, y = own[0][:80, :2].copy(), own[1][:80]
    X[:, 1] *= np.linspace(0.5, 4, 80)[:, None, None]
    model = make_model(planes=("image", "variance"), psf=0.7, max_epochs=1).fit(X, y)
    planes = _adaptation._past_planes(model.codec_, np.random.default_rng(0))
    n = _adaptation.N_PLANES
    assert len(planes.psf) == len(planes.variance) == n
    assert len(np.unique(planes.variance[:, 0, 0, 0])) > 0.9 * n


def test_large_stamps_are_fewer(model):
    layout = model.codec_.layout
    assert _adaptation._numbers_of_stamps(layout).tolist() == [1000, 1700, 8200]
    large = layout._replace(image_shape=(3, 512, 512))
    numbers = _adaptation._numbers_of_stamps(large)
    assert numbers.sum() * large.n_features < 1.1 * 2**27
    assert (numbers > 1).all()


def test_backgrounds_left_are_measured(model, own):
    X, y = own[0][:50].copy(), own[1][:50].to_numpy().copy()
    X[:, 0] += np.linspace(-1, 2, 50)[:, None, None] * np.sqrt(X[:, 1])
    y[7, 2] = np.nan
    images = model._check_images(X)
    left = _adaptation.backgrounds_left(model.codec_, images, y)
    wanted = np.delete(np.linspace(-1, 2, 50), 7)
    np.testing.assert_allclose(left[:, 0], wanted, atol=0.25)
    y[:] = np.nan
    assert _adaptation.backgrounds_left(model.codec_, images, y).shape == (0, 1)


def test_a_background_of_the_survey_is_learned(model, own, monkeypatch):
    """From forty stamps: new galaxies are drawn with the backgrounds of these."""
    for name, value in {"N_OWN": 1, "N_HERE": 4000, "N_THERE": 1}.items():
        monkeypatch.setattr(_adaptation, name, value)
    X, y = (part[:200] for part in own)
    raised = X.copy()
    raised[:, 0] += 0.7 * np.sqrt(X[:, 1])
    before = error(model, raised, y)
    model.adapt(raised[:40], y[:40], random_state=0)
    assert error(model, raised[40:], y[40:])[0] < 0.6 * before[0]
