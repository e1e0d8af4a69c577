"""The exchange loss: what groups must be, and that latents set what they stand for."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklcae import _fitting
from sklcae._fitting import make_batch
from sklcae._images import Images, TrainingImages
from sklcae._inputs import TrainingData
from sklcae._scaling import ImageScaler
from sklcae.exceptions import ModelFileError
from tests.blobs import (
    LEARNING,
    SIDE,
    assert_same_model,
    make_variants_of_light,
    quick,
    weights_differ,
)


@pytest.fixture(scope="module")
def variants():
    return make_variants_of_light(24)


def fit(variants, **kwargs):
    X, y, groups = variants
    return quick(**{"gamma": 1.0, **kwargs}).fit(X, y, groups=groups)


# The exchange works --------------------------------------------------------------

LEARNER = {
    **LEARNING,
    "network": "neural_field",
    "reconstruction_loss": "chi_square",
    "stretch": "asinh",
    "max_epochs": 40,
}


@pytest.fixture(scope="module")
def responses():
    """Return what models with and without the exchange make of changed latents."""
    train = make_variants_of_light(100)
    return {gamma: response(fit(train, gamma=gamma, **LEARNER)) for gamma in (1, 0)}


def response(model):
    """Ask for other brightnesses, and return what the images then are.

    The slope of the logarithm of the flux in that of what was asked, what is left of
    it, the change of the width's logarithm, that of the place in pixels, and the
    exchange loss in the end.
    """
    X, _, _ = make_variants_of_light(50, 1, random_state=9)
    asked = np.linspace(120.0, 280.0, 50)
    Z, brightness = model.transform(X), model.predict(X)[:, 0]
    changed = Z.copy()
    scaler = model.target_scaler_
    changed[:, 0] = (asked - scaler.mean_[0]) / scaler.scale_[0]
    before, after = (
        moments(model.inverse_transform(latents)) for latents in (Z, changed)
    )
    wanted, got = np.log(asked / brightness), np.log(after["flux"] / before["flux"])
    width = np.log(after["width"] / before["width"])
    return {
        "slope": np.polyfit(wanted, got, 1)[0],
        "error": np.sqrt(np.mean((got - wanted) ** 2)),
        "width": np.sqrt(np.mean(width**2)),
        "place": np.abs(after["center"] - before["center"]).mean(),
        "loss": model.history_.get("exchange_loss", [np.inf])[-1],
    }


def moments(X):
    images = X.reshape(-1, SIDE, SIDE).astype(np.float64)
    pixels = np.mgrid[:SIDE, :SIDE]
    flux = images.sum((1, 2))
    center = np.einsum("nij,aij->an", images, pixels) / flux
    offsets = pixels[:, None] - center[:, :, None, None]
    width = np.sqrt((images * (offsets**2).sum(0)).sum((1, 2)) / flux / 2)
    return {"flux": flux, "center": center, "width": width}


def test_brightness_latent_sets_the_flux_and_nothing_else(responses):
    response = responses[1]
    assert response["slope"] == pytest.approx(1, abs=0.1)
    assert response["error"] < 0.06
    assert response["width"] < 0.06
    assert response["place"] < 0.06


def test_exchanged_image_takes_the_place_from_the_rest(responses):
    """Without it the loss is 3.7, that of spots in the wrong place."""
    assert responses[1]["loss"] < 0.5


def test_without_an_exchange_the_latent_does_not_set_the_flux(responses):
    assert responses[0]["error"] > 3 * max(responses[1]["error"], 0.06)
    assert responses[0]["place"] > 3 * responses[1]["place"]


# What gamma and groups do --------------------------------------------------------


def test_gamma_of_zero_is_the_paper_whatever_groups_and_gain(variants):
    X, y, groups = variants
    paper = quick().fit(X, y)
    assert "exchange_loss" not in paper.history_
    assert_same_model(quick(gamma=0.0, gain=7.0).fit(X, y), paper)
    assert_same_model(quick(gain=0.1).fit(X, y, groups=groups), paper)
    # Groups that would be refused have no part either.
    assert_same_model(quick().fit(X, y, groups=[None] * len(X)), paper)


def test_gamma_and_groups_have_an_effect(variants):
    X, y, groups = variants
    model = fit(variants)
    assert weights_differ(model, quick().fit(X, y))
    assert weights_differ(model, fit(variants, gamma=2.0))
    assert weights_differ(model, fit((X, y, groups // 2)))


def test_history_adds_up_with_the_exchange(variants):
    model = fit(variants, gamma=0.5, alpha=2.0, beta=0.1, batch_size=96)
    h = {name: np.array(column) for name, column in model.history_.items()}
    total = h["reconstruction_loss"] + 2 * h["physical_loss"]
    total += 0.1 * h["regularization_loss"] + 0.5 * h["exchange_loss"]
    np.testing.assert_allclose(h["train_loss"], total, rtol=1e-6)
    assert (h["exchange_loss"] > 0).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda groups: np.char.add("galaxy ", groups.astype(str)),
        lambda groups: groups.astype(object),
        lambda groups: list(1e6 - groups / 7),
        lambda groups: pd.Series(groups, index=groups + 5).astype("category"),
        lambda groups: groups[:, None],
    ],
)
def test_labels_may_be_of_any_kind(variants, make):
    X, y, groups = variants
    # Names only: the order of the groups has no part.
    assert_same_model(fit((X, y, make(groups))), fit(variants))


def test_images_that_are_alone_have_no_part_in_the_exchange(variants):
    """In a batch of all, of which one group is a pair and the others are alone."""
    X, y, _ = variants
    alone = np.arange(len(X))
    alone[1] = alone[0]
    losses = [
        fit((X, y, groups), batch_size=96, max_epochs=1).history_["exchange_loss"][0]
        for groups in (alone, np.zeros(len(X)))
    ]
    assert 0 < losses[0] < 0.05 * losses[1]


def test_weight_of_zero_takes_an_image_out_of_its_group(variants):
    X, y, groups = variants
    weights = np.tile([1.0, 1.0, 0.0, 1.0], 24)
    kept = weights > 0
    assert_same_model(
        quick(gamma=1.0).fit(X, y, sample_weight=weights, groups=groups),
        fit((X[kept], y[kept], groups[kept])),
    )


def test_images_with_missing_targets_are_nobodys_partner(variants):
    X, y, groups = variants
    y = y.copy()
    y[1:, 1] = np.nan
    # The one that is known has no known partner, and the others of its group have it.
    assert fit((X, y, groups), max_epochs=1).history_["exchange_loss"][0] > 0
    rows = np.r_[0, 4:96]
    with pytest.raises(ValueError, match="leave images to exchange with"):
        fit((X[rows], y[rows], groups[rows]), max_epochs=1)
    y[::2, 1] = 1.5
    model = fit((X, y, groups))
    assert np.isfinite(model.history_["train_loss"]).all()
    assert np.isfinite(model.predict(X)).all()


def test_masked_pixels_have_no_part_in_the_exchange(variants):
    X, y, groups = variants
    masked = np.random.default_rng(0).random(X.shape) < 0.05
    garbage = np.ma.MaskedArray(np.where(masked, 1e6, X), masked)
    settings = {"allow_nan": True, "reconstruction_loss": "chi_square"}
    model = fit((np.where(masked, np.float32(np.nan), X), y, groups), **settings)
    assert_same_model(fit((garbage, y, groups), **settings), model)
    assert np.isfinite(model.history_["exchange_loss"]).all()


def test_positions_are_turned_with_the_partners(variants):
    X, y, groups = variants
    y = pd.DataFrame(y, columns=["x0", "y0"])
    model = fit((X, y, groups), augmentation="dihedral")
    assert np.isfinite(model.history_["exchange_loss"]).all()


def test_whole_groups_are_held_out(variants, monkeypatch):
    rows = []

    def hold_out(*args):
        rows.extend(original(*args))
        return rows

    original = _fitting._hold_out
    monkeypatch.setattr(_fitting, "_hold_out", hold_out)
    model = fit(variants, early_stopping=True, validation_fraction=0.25)
    train, held_out = (set(variants[2][part]) for part in rows)
    assert train.isdisjoint(held_out)
    assert len(held_out) == 6
    assert np.isfinite(model.history_["validation_loss"]).all()


def test_one_group_of_all_can_be_held_out_in_part(variants):
    X, y, groups = variants
    model = fit((X, y, np.zeros(len(groups))), early_stopping=True)
    assert np.isfinite(model.history_["validation_loss"]).all()


@pytest.mark.parametrize("n_threads", [1, 3])
def test_fit_is_the_same_for_any_number_of_threads(variants, n_threads):
    before = torch.get_num_threads()
    expected = fit(variants)
    torch.set_num_threads(n_threads)
    try:
        assert_same_model(fit(variants), expected)
    finally:
        torch.set_num_threads(before)


# What is refused -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g[:-1], "inconsistent numbers of samples"),
        (lambda g: np.arange(96), "a group of two images or more.*gamma is 1.*Got 96"),
        (lambda g: np.where(g < 3, np.nan, g), "a label for each image. Got NaN"),
        (lambda g: ["a", None] * 48, "labels of one kind.*cannot be compared"),
        (lambda g: np.ma.masked_less(g, 3), "groups must not have masked entries"),
        (lambda g: np.stack([g, g], axis=1), "should be a 1d array"),
    ],
)
def test_bad_groups_are_refused(variants, method, change, message):
    X, y, groups = variants
    with pytest.raises(ValueError, match=message):
        getattr(quick(gamma=1.0), method)(X, y, groups=change(groups))


def test_targets_that_leave_nothing_to_exchange_are_refused(variants):
    X, y, groups = variants
    y = y.copy()
    y[::2, 0] = y[1::2, 1] = np.nan
    with pytest.raises(ValueError, match=r"leave images to exchange with.*gamma is 1"):
        fit((X, y, groups))


def test_groups_of_which_weights_leave_one_image_each_are_refused(variants):
    X, y, groups = variants
    weights = np.tile([1.0, 0.0, 0.0, 0.0], 24)
    with pytest.raises(ValueError, match=r"a group of two images or more.*Got 24"):
        quick(gamma=1.0).fit(X, y, sample_weight=weights, groups=groups)


# Going on ------------------------------------------------------------------------


def test_parts_of_the_whole_are_epochs(variants):
    X, y, groups = variants
    model = quick(gamma=1.0)
    for _ in range(3):
        model.partial_fit(X, y, groups=groups)
    assert_same_model(model, fit(variants))


def test_warm_start_may_take_up_an_exchange(variants):
    X, y, groups = variants
    model = quick(warm_start=True).fit(X, y)
    model.set_params(gamma=1.0).fit(X, y, groups=groups)
    assert model.n_iter_ == 6
    losses = np.array(model.history_["exchange_loss"])
    assert np.isnan(losses[:3]).all()
    assert (losses[3:] > 0).all()


@pytest.mark.parametrize("stopping", [False, True])
def test_checkpoint_is_resumed_to_the_bit(variants, tmp_path, stopping):
    settings = {"early_stopping": stopping, "validation_fraction": 0.2}
    whole = fit(variants, max_epochs=4, **settings)
    settings["checkpoint"] = tmp_path / "checkpoint"
    fit(variants, max_epochs=2, **settings)
    assert_same_model(fit(variants, max_epochs=4, **settings), whole)


def test_checkpoint_of_other_groups_is_refused(variants, tmp_path):
    X, y, groups = variants
    settings = {"checkpoint": tmp_path / "checkpoint"}
    fit(variants, max_epochs=1, **settings)
    with pytest.raises(ModelFileError, match="other data or parameters"):
        fit((X, y, groups // 2), **settings)


def test_weights_of_partners_have_a_part(variants):
    """Images of the same groups that give z_rest as often, but as others' partners."""
    X, y, groups = variants
    weights = np.tile([1.0, 3.0, 0.5, 1.0], len(y) // 4)
    images = X.reshape(len(X), 1, SIDE, SIDE)
    numbers = np.unique(groups, return_inverse=True)[1]
    rows = np.arange(len(y))
    data = TrainingData(Images(images), y, weights, numbers, rows, (), layout=None)
    scalers = SimpleNamespace(
        image_scaler=ImageScaler().fit(images),
        target_scaler=StandardScaler().fit(y),
        other_planes=lambda images: {},
    )
    training = TrainingImages(data.images, rows, scalers.image_scaler)
    batch = make_batch(data, scalers, training, masked=False)
    # The first image of each group might have any of the three others.
    shares = batch.partners.shares([0, 0, 0], np.array([1, 2, 3]))
    np.testing.assert_allclose(shares, np.array([3, 0.5, 1]) / 1.5, rtol=1e-6)


# With scikit-learn's tools -------------------------------------------------------


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
def test_groups_are_routed_through_a_pipeline(variants):
    X, y, groups = variants
    model = quick(gamma=1.0).set_fit_request(groups=True)
    pipeline = make_pipeline(FunctionTransformer(np.copy), model)
    pipeline.fit(X, y, groups=groups)
    assert_same_model(pipeline[-1], fit(variants))


@pytest.mark.usefixtures("routing")
def test_groups_are_routed_through_a_cross_validation(variants):
    X, y, groups = variants
    model = quick(gamma=1.0, max_epochs=1).set_fit_request(groups=True)
    splitter = GroupKFold(2)
    results = cross_validate(
        model,
        X,
        y,
        cv=splitter,
        params={"groups": groups},
        return_estimator=True,
        error_score="raise",
    )
    for fitted, (rows, _) in zip(
        results["estimator"], splitter.split(X, y, groups), strict=True
    ):
        alone = clone(model).fit(X[rows], y[rows], groups=groups[rows])
        assert_same_model(fitted, alone)


@pytest.mark.usefixtures("routing")
def test_groups_are_routed_through_a_search(variants):
    X, y, groups = variants
    model = quick(max_epochs=1).set_fit_request(groups=True)
    grid = {"gamma": [0.0, 1.0]}
    search = GridSearchCV(model, grid, cv=GroupKFold(2), error_score="raise")
    search.fit(X, y, groups=groups)
    best = clone(model).set_params(**search.best_params_).fit(X, y, groups=groups)
    assert_same_model(search.best_estimator_, best)
    assert len(set(search.cv_results_["mean_test_score"])) == 2
