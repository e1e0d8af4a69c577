"""A fitted model in other units."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sklcae import (
    ConditionalAutoencoderRegressor,
    ProfileFitRegressor,
    stack_planes,
)
from tests.test_sersic_network import PSFS, SHAPE, make_model, make_stamps

# One unit of the new light is four electrons, and a pixel is half as long again.
GAIN, SCALE, RATIO = 4.0, 0.3, 0.25


@pytest.fixture(scope="module")
def stamps():
    return make_stamps()


def in_new_units(stamps):
    X, y = stamps
    X, y = X.copy(), y.copy()
    X[:, 0] *= RATIO
    X[:, 1] *= RATIO**2
    y["flux"] *= RATIO
    y["half_light_radius"] *= SCALE / 0.2
    return X, y


@pytest.mark.parametrize(
    "changed",
    [{}, {"log_targets": None}, {"stretch": "linear"}, {"latent_dim": 20}],
    ids=["default", "no logarithms", "linear", "few latents"],
)
def test_same_light_in_same_pixels_has_the_same_results(stamps, changed):
    X, y = stamps
    plain, other = (make_model(**changed).fit(X, y) for _ in range(2))
    new_X, new_y = in_new_units(stamps)
    assert other.rescale(pixel_scale=SCALE, gain=GAIN) is other
    assert (other.pixel_scale, other.gain) == (SCALE, GAIN)
    unit = np.array([RATIO, SCALE / 0.2, 1, 1, 1, 1, 1])
    expected, found = (m.predict(x, True) for m, x in ((plain, X), (other, new_X)))
    for one, same in zip(expected, found, strict=True):
        np.testing.assert_allclose(same, one * unit, rtol=1e-3, atol=1e-3)
    latents = plain.transform(X)
    np.testing.assert_allclose(other.transform(new_X), latents, atol=2e-3)
    np.testing.assert_allclose(
        other.reconstruct(new_X), RATIO * plain.reconstruct(X), rtol=1e-2, atol=1e-3
    )
    np.testing.assert_allclose(other.target_range_, plain.target_range_ * unit)
    images = [
        m.generate(one[:3], psf=PSFS[1], random_state=0)
        for m, one in ((plain, y), (other, new_y))
    ]
    np.testing.assert_allclose(images[1], RATIO * images[0], rtol=1e-2, atol=1e-3)


def test_profile_fits_have_the_units_of_the_fitted_model(stamps):
    X, y = in_new_units(stamps)
    X, y = X[:10], y[:10]
    model = make_model(max_epochs=1).fit(*stamps)
    expected = model.predict(stamps[0][:10])
    model.rescale(pixel_scale=SCALE, gain=GAIN)
    # Parameters count from the next fit.
    model.set_params(pixel_scale=1.0, gain=9.0)
    fitter = ProfileFitRegressor(model, prefit=True).fit(X, y)
    for one in (model, fitter):
        assert (one.pixel_scale_, one.gain_) == (SCALE, GAIN)
    unit = np.array([RATIO, SCALE / 0.2, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(model.predict(X), expected * unit, rtol=1e-3, atol=1e-3)
    for gain in (None, 2.0):
        own = ProfileFitRegressor(model, prefit=True, gain=gain).fit(X)
        assert own.gain_ == gain
    model.set_params(pixel_scale=SCALE)
    again = ProfileFitRegressor(model).fit(X, y)
    assert (again.pixel_scale_, again.gain_) == (SCALE, 9.0)


def test_profile_fits_have_the_psf_of_the_fitted_model(stamps):
    X, y = stamps
    model = make_model(planes=("image", "variance"), psf=0.7, max_epochs=1)
    model.fit(X[:, :2], y).set_params(psf=1.0)
    fitter = ProfileFitRegressor(model, prefit=True).fit(X[:, :2])
    np.testing.assert_allclose(fitter.fitter_.psf, model.codec_.psf)


def test_outside_is_the_same_in_the_new_units(stamps):
    model = make_model().fit(*stamps)
    X, _ = stamps
    X = np.concatenate([X[:5], X[:5], X[:5], X[:5]])
    X[5:10, 1] *= 30.0
    X[10:15, 2] = PSFS[4] ** 0.25 / (PSFS[4] ** 0.25).sum()
    X[15:, 0] *= 40.0
    expected = model.is_outside(X)
    assert expected.tolist() == [False] * 5 + [True] * 15
    X[:, 0] *= RATIO
    X[:, 1] *= RATIO**2
    assert model.is_outside(X)[:5].all()
    np.testing.assert_array_equal(model.rescale(gain=GAIN).is_outside(X), expected)


def test_rescaling_back_restores_the_model(stamps):
    X, _ = stamps
    model = make_model().fit(*stamps)
    expected = model.predict(X)
    model.rescale(pixel_scale=SCALE, gain=GAIN).rescale(pixel_scale=0.2, gain=1.0)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-5)
    model.rescale()
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-5)


def test_width_of_the_psf_stays_in_pixels(stamps):
    X, y = stamps
    options = {"planes": ("image", "variance"), "psf": 0.7}
    model = make_model(**options).fit(X[:, :2], y)
    expected = model.predict(X[:, :2])
    model.rescale(pixel_scale=0.4)
    assert model.psf == pytest.approx(1.4)
    expected[:, 1] *= 2
    np.testing.assert_allclose(model.predict(X[:, :2]), expected, rtol=1e-4)
    y = y.assign(half_light_radius=2 * y["half_light_radius"])
    model.set_params(warm_start=True, max_epochs=1).fit(X[:, :2], y)
    stamp = make_model(**options | {"psf": PSFS[2]}).fit(X[:, :2], y)
    np.testing.assert_array_equal(stamp.rescale(pixel_scale=0.4).psf, PSFS[2])


def test_bands_share_one_factor():
    images = np.random.default_rng(0).normal(5, 1, (20, 2, *SHAPE))
    X = stack_planes(images, 1.0, PSFS[0])
    y = np.random.default_rng(1).uniform(0.5, 2, (20, 8))
    model = make_model(
        gain=(1.0, 3.0), augmentation=None, test_time_augmentation=False, max_epochs=1
    ).fit(X, y)
    assert model.rescale(gain=(2.0, 6.0)).gain == (2.0, 6.0)
    with pytest.raises(ValueError, match="'gain' parameter of rescale must be a mult"):
        model.rescale(gain=(2.0, 3.0))
    with pytest.raises(ValueError, match="'gain' parameter of rescale"):
        model.rescale(gain=(2.0, 3.0, 4.0))


def test_wrong_arguments_leave_the_model_as_it_was(stamps):
    X, _ = stamps
    with pytest.raises(NotFittedError):
        make_model().rescale(gain=2.0)
    model = make_model().fit(*stamps)
    expected = model.predict(X)
    for wrong in ({"pixel_scale": 0}, {"gain": -1.0}, {"pixel_scale": "0.2"}):
        with pytest.raises(ValueError, match="parameter of rescale must be"):
            model.rescale(**wrong)
    np.testing.assert_array_equal(model.predict(X), expected)
    assert model.get_params() == clone(model).get_params()
    without = make_model(
        gain=None, augmentation="dihedral", reconstruction_loss="chi_square"
    )
    with pytest.raises(ValueError, match="'gain' parameter of rescale must be None"):
        without.fit(*stamps).rescale(gain=2.0)
    plain = ConditionalAutoencoderRegressor(max_epochs=1, latent_dim=9)
    with pytest.raises(ValueError, match=r"rescale needs a Cond.*network='paper'"):
        plain.fit(X[:, 0], stamps[1]).rescale(gain=2.0)


def test_softening_is_rescaled(stamps):
    model = make_model(softening=30.0).fit(*stamps).rescale(gain=GAIN)
    assert model.softening == model.image_scaler_.softening == pytest.approx(7.5)
    X, y = in_new_units(stamps)
    y["half_light_radius"] *= 0.2 / SCALE
    model.set_params(warm_start=True, max_epochs=1).fit(X, y)


@pytest.mark.parametrize("scale", [0.03, 0.187, 0.33, 1.0])
def test_training_continues_with_a_width_for_any_scale(stamps, scale):
    X, y = stamps
    model = make_model(planes=("image", "variance"), psf=0.7, max_epochs=1)
    model.fit(X[:, :2], y).rescale(pixel_scale=scale).set_params(warm_start=True)
    y = y.assign(half_light_radius=y["half_light_radius"] * scale / 0.2)
    model.fit(X[:, :2], y)


@pytest.mark.parametrize("gain", [1e60, 1e-60])
def test_absurd_gains_are_refused(stamps, gain):
    model = make_model(max_epochs=1).fit(*stamps)
    expected = model.predict(stamps[0])
    with pytest.raises(ValueError, match="'gain' parameter of rescale must leave"):
        model.rescale(gain=gain)
    np.testing.assert_array_equal(model.predict(stamps[0]), expected)
    assert model.gain == 1.0
