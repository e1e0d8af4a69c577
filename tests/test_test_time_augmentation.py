"""Predictions that are means over flips and turns of the image."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from sklcae._symmetry import Symmetry, variance_of_mean
from sklcae._torch.augmentation import dihedral_transform
from tests.blobs import (
    assert_same_for_any_split,
    assert_same_model,
    make_blobs_of_light,
    quick,
)

TARGETS = ["flux", "e1", "e2", "x0", "y0"]
SIDE = 8


def make_spots(n_samples, shape, random_state=0):
    """Bright pixels and their places, in images of noise."""
    rng = np.random.default_rng(random_state)
    height, width = shape
    X = rng.normal(size=(n_samples, height, width))
    x0, y0 = rng.integers(0, [[width], [height]], size=(2, n_samples))
    flux = rng.uniform(20, 40, n_samples)
    X[np.arange(n_samples), y0, x0] += flux
    e1, e2 = rng.normal(scale=0.1, size=(2, n_samples))
    y = np.column_stack([flux, e1, e2, x0 + 0.5, y0 + 0.5])
    return X, pd.DataFrame(y, columns=TARGETS)


def turned_targets(y, element, shape):
    """What flips of the columns, of the rows and a swap make of the targets."""
    flux, e1, e2, x0, y0 = np.array(y).T
    height, width = shape
    if element & 1:
        e2, x0 = -e2, width - x0
    if element & 2:
        e2, y0 = -e2, height - y0
    if element & 4:
        e1, x0, y0 = -e1, y0, x0
    return np.column_stack([flux, e1, e2, x0, y0])


def turn(X, element):
    turned = dihedral_transform(torch.from_numpy(X)[:, None], element)
    return turned[:, 0].numpy()


@pytest.fixture(
    scope="module", params=[(SIDE, SIDE), (6, 9)], ids=["square", "not square"]
)
def shape(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(shape):
    settings = {"augmentation": "dihedral", "physical_loss": "gaussian_likelihood"}
    model = quick(**settings, latent_dim=12).fit(*make_spots(64, shape))
    # So that the turns differ, by less and by more than the network says.
    with torch.no_grad():
        model.net_.module_.encoder.dense_phy.weight *= 12
    return model.set_params(test_time_augmentation=True)


def elements_of(shape):
    return range(8 if shape[0] == shape[1] else 4)


def inverse(element):
    """All but two of the symmetries undo themselves; the quarter turns each other."""
    return {5: 6, 6: 5}.get(element, element)


def single(model):
    """The same fitted model, which looks at each image once."""
    once = clone(model).set_params(test_time_augmentation=False)
    once.codec_ = model.codec_
    return once


def test_predictions_turn_with_the_image(fitted, shape):
    X, _ = make_spots(20, shape, random_state=1)
    y = fitted.predict(X)
    for element in elements_of(shape)[1:]:
        turned = turn(X, element)
        expected = turned_targets(y, element, shape)
        np.testing.assert_allclose(fitted.predict(turned), expected, rtol=1e-4)
        assert not np.allclose(
            single(fitted).predict(turned),
            turned_targets(single(fitted).predict(X), element, shape),
            rtol=1e-2,
        )


def test_predictions_are_means_over_all_turns(fitted, shape):
    X, _ = make_spots(20, shape, random_state=1)
    one, elements = single(fitted), elements_of(shape)
    y = [turned_targets(one.predict(turn(X, k)), inverse(k), shape) for k in elements]
    np.testing.assert_allclose(fitted.predict(X), np.mean(y, axis=0), rtol=1e-5)


def test_deviations_are_those_of_the_mean(fitted, shape):
    X, _ = make_spots(20, shape, random_state=1)
    y, y_std = fitted.predict(X, return_std=True)
    np.testing.assert_array_equal(y, fitted.predict(X))
    one, elements = single(fitted), elements_of(shape)
    values, variances = [], []
    for element in elements:
        value, std = one.predict(turn(X, element), return_std=True)
        values.append(turned_targets(value, inverse(element), shape))
        variances.append(std[:, [0, 1, 2, 4, 3] if element & 4 else range(5)] ** 2)
    variance, spread = np.mean(variances, axis=0), np.var(values, axis=0, ddof=1)
    expected = np.maximum(variance - spread, 0) + spread / len(elements)
    np.testing.assert_allclose(y_std**2, expected, rtol=1e-4)
    # Both parts of the formula are met.
    assert (spread < variance).any()
    assert (spread > variance).any()


@pytest.mark.parametrize("own", [0.0, 0.3, 0.6])
def test_variance_of_the_mean_is_that_of_its_errors(own):
    """Of errors with a part that all turns have in common, and one of their own."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(20_000, 1))
    errors = common + own * rng.normal(size=(8, 20_000, 1))
    variances = np.full_like(errors, 1 + own**2)
    symmetry = Symmetry(np.ones((8, 1, 1)), np.zeros((8, 1)))
    y, of_mean = symmetry.mean_over_turns(errors, variances)
    np.testing.assert_allclose(y, errors.mean(axis=0))
    assert of_mean.mean() == pytest.approx(y.var(), rel=0.03)
    assert y.var() == pytest.approx(1 + own**2 / 8, rel=0.03)


@pytest.mark.parametrize(
    ("spread", "expected"), [(0.0, 1.0), (0.5, 0.5 + 0.5 / 8), (1.0, 1 / 8), (80.0, 10)]
)
def test_variance_of_the_mean_where_turns_differ(spread, expected):
    """By more than the network says, the more the larger: it is then no guide."""
    assert variance_of_mean(1.0, spread, 8) == pytest.approx(expected)


def test_it_has_no_part_in_training():
    X, y = make_spots(40, (SIDE, SIDE))
    model = quick(augmentation="dihedral").fit(X, y)
    other = quick(augmentation="dihedral", test_time_augmentation=True).fit(X, y)
    assert_same_model(model, other)
    np.testing.assert_array_equal(model.transform(X), other.transform(X))


def test_a_checkpoint_is_gone_on_from_with_and_without(tmp_path):
    X, y = make_spots(40, (SIDE, SIDE))
    settings = {"augmentation": "dihedral", "checkpoint": tmp_path / "fit"}
    quick(**settings, max_epochs=2).fit(X, y)
    model = quick(**settings, test_time_augmentation=True).fit(X, y)
    assert_same_model(model, quick(augmentation="dihedral").fit(X, y))


@pytest.mark.parametrize("n_targets", [1, 2])
def test_predictions_do_not_depend_on_the_images_passed_along(n_targets):
    X, y = make_blobs_of_light(50, side=8)
    model = quick(
        augmentation="dihedral",
        invariant_targets="all",
        test_time_augmentation=True,
        physical_loss="gaussian_likelihood",
    ).fit(X, y[:, :n_targets])

    def predict(X):
        return np.stack(model.predict(X, return_std=True))

    assert_same_for_any_split(predict, X, [1, 2, 33])


def test_images_of_several_channels():
    X, y = make_spots(40, (SIDE, SIDE))
    X = np.stack([X, X.swapaxes(1, 2)], axis=1)
    model = quick(augmentation="dihedral", latent_dim=12, test_time_augmentation=True)
    expected = turned_targets(model.fit(X, y).predict(X), 2, (SIDE, SIDE))
    np.testing.assert_allclose(model.predict(X[:, :, ::-1]), expected, rtol=1e-4)


def test_one_target_and_masked_pixels():
    X, y = make_blobs_of_light(40)
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.05, np.nan, X)
    model = quick(
        augmentation="dihedral",
        invariant_targets="all",
        test_time_augmentation=True,
        allow_nan=True,
    ).fit(X, y[:, 0])
    assert model.predict(X).shape == (40,)
    stamps = X.reshape(-1, 12, 12)
    np.testing.assert_allclose(
        model.predict(stamps[:, ::-1].reshape(X.shape)), model.predict(X), rtol=1e-4
    )


def test_saved_models_keep_it(fitted, shape, tmp_path):
    X, _ = make_spots(20, shape, random_state=1)
    fitted.save(tmp_path / "model")
    loaded = type(fitted).load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))


def test_without_augmentation_it_is_refused():
    X, y = make_spots(40, (SIDE, SIDE))
    message = "'test_time_augmentation' parameter .* must be False without"
    with pytest.raises(ValueError, match=message):
        quick(test_time_augmentation=True).fit(X, y)
    model = quick().fit(X, y).set_params(test_time_augmentation=True)
    with pytest.raises(ValueError, match=message):
        model.predict(X)


@pytest.mark.parametrize(
    "wrong", [{"test_time_augmentation": "no"}, {"augmentation": "rotation"}]
)
def test_wrong_values_are_refused_also_on_a_fitted_model(wrong):
    X, y = make_spots(40, (SIDE, SIDE))
    settings = {"augmentation": "dihedral", "test_time_augmentation": True}
    model = quick(**settings).fit(X, y).set_params(**wrong)
    (name,) = wrong
    for method in (lambda: model.predict(X), lambda: model.fit(X, y)):
        with pytest.raises(ValueError, match=f"The '{name}' parameter .* must be"):
            method()


def test_targets_that_turn_in_unknown_ways_are_refused():
    X, y = make_spots(40, (SIDE, SIDE))
    model = quick().fit(X, y.to_numpy())
    model.set_params(test_time_augmentation=True, augmentation="dihedral")
    with pytest.raises(
        ValueError,
        match=r"test_time_augmentation=True needs the names .* or set it to False\.$",
    ):
        model.predict(X)
