"""The estimator: what it learns, what it returns, what it refuses."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklcae import ConditionalAutoencoderRegressor
from sklcae.datasets import make_galaxies
from sklcae.exceptions import OutsideTrainingWarning
from tests.blobs import LEARNING, SIDE, make_blobs_of_light, quick


@pytest.fixture(scope="module")
def blobs():
    return make_blobs_of_light(96)


@pytest.fixture(scope="module")
def trained():
    """Return a model that has learned the spots, with fresh spots to test it on."""
    model = quick(**LEARNING).fit(*make_blobs_of_light(256))
    return model, *make_blobs_of_light(200, random_state=1)


def test_targets_are_learned_one_latent_each(trained):
    model, X, y = trained
    assert min(r2_score(y, model.predict(X), multioutput="raw_values")) > 0.97
    latents = model.transform(X)
    for target in range(2):
        correlation = np.corrcoef(latents[:, target], y[:, target])[0, 1]
        assert correlation > 0.98


def test_prediction_is_the_unscaled_physical_latent(trained):
    model, X, _ = trained
    z_phy = model.transform(X)[:, :2].astype(np.float64)
    np.testing.assert_allclose(
        model.predict(X), model.target_scaler_.inverse_transform(z_phy), rtol=1e-12
    )


def test_reconstruction_explains_the_image_in_its_own_unit(trained):
    model, X, _ = trained
    reconstruction = model.reconstruct(X)
    assert reconstruction.shape == X.shape
    residual = reconstruction - X
    assert residual.std() < 0.1 * X.std()
    np.testing.assert_array_equal(
        reconstruction, model.inverse_transform(model.transform(X))
    )


def test_setting_the_flux_latent_brightens_the_image(trained):
    model, X, _ = trained
    Z = model.transform(X[:50])
    brighter = Z.copy()
    brighter[:, 0] += 1
    before, after = (model.inverse_transform(z).sum(axis=1) for z in (Z, brighter))
    assert (after > before).mean() > 0.9


def test_defaults_are_those_of_the_appendix():
    params = ConditionalAutoencoderRegressor().get_params()
    expected = {
        "latent_dim": 64,
        "alpha": 1.0,
        "beta": 1e-4,
        "gamma": 0.0,
        "network": "paper",
        "reconstruction_loss": "binary_cross_entropy",
        "physical_loss": "squared_error",
        "max_epochs": 100,
        "batch_size": 64,
        "lr": 1e-3,
    }
    assert {name: params[name] for name in expected} == expected


def test_history_is_a_plain_table(trained):
    model = trained[0]
    table = pd.DataFrame(model.history_)
    assert list(table) == [
        "epoch",
        "train_loss",
        "reconstruction_loss",
        "physical_loss",
        "regularization_loss",
        "duration",
    ]
    assert len(table) == model.n_iter_ == LEARNING["max_epochs"]
    assert table["physical_loss"].iloc[-1] < 0.1 * table["physical_loss"].iloc[0]


# Every parameter changes what it should -----------------------------------------


def test_alpha_zero_leaves_the_targets_out(blobs):
    X, y = blobs
    one = quick(alpha=0.0).fit(X, y)
    other = quick(alpha=0.0).fit(X, y[::-1])
    np.testing.assert_array_equal(one.transform(X), other.transform(X))
    assert quick(alpha=10.0, max_epochs=20).fit(X, y).score(X, y) > one.score(X, y)


def test_beta_drives_the_rest_to_zero(blobs):
    X, y = blobs
    rest = [
        np.abs(quick(beta=beta, max_epochs=30).fit(X, y).transform(X)[:, 2:]).mean()
        for beta in (0.0, 100.0)
    ]
    assert rest[1] < 0.1 * rest[0]


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 2.0},
        {"beta": 1.0},
        {"network": "strided"},
        {"network": "neural_field"},
        {"reconstruction_loss": "squared_error"},
        {"reconstruction_loss": "chi_square"},
        {"reconstruction_loss": "chi_square", "gain": 0.01},
        {"physical_loss": "gaussian_likelihood"},
        {"stretch": "asinh"},
        {"stretch": "asinh", "softening": 50.0},
        {"augmentation": "dihedral", "invariant_targets": "all"},
        {"image_shape": (6, 24)},
        {"max_epochs": 4},
        {"batch_size": 16},
        {"lr": 1e-2},
        {"random_state": 1},
    ],
)
def test_every_parameter_has_an_effect(blobs, change):
    X, y = blobs
    refined = {"softening", "gain"} & set(change)
    base = quick(**{k: v for k, v in change.items() if refined and k not in refined})
    predictions = [m.fit(X, y).predict(X) for m in (base, quick(**change))]
    assert not np.allclose(*predictions, rtol=1e-6)


def test_latent_dim_is_the_width_of_the_latent_space(blobs):
    assert quick(latent_dim=5).fit(*blobs).transform(blobs[0]).shape == (96, 5)


def test_verbose_prints_a_line_an_epoch(blobs, capsys):
    quick(verbose=0).fit(*blobs)
    assert capsys.readouterr().out == ""
    quick(verbose=1).fit(*blobs)
    out = capsys.readouterr().out
    assert "train_loss" in out
    assert [f"{epoch}/3" in out for epoch in range(5)] == [False] + 3 * [True] + [False]
    assert "\x1b" not in out


def test_max_epochs_and_batch_size_count_the_steps(blobs):
    model = quick(max_epochs=5, batch_size=40).fit(*blobs)
    assert model.n_iter_ == 5
    assert model.net_.history[0, "train_batch_count"] == 3


def test_augmentation_lets_an_oriented_spot_be_seen_from_all_sides():
    """Trained on galaxies along +x only, the model must know those along +y."""
    settings = {
        "half_light_radius": 1.2, "sersic_index": 1.0, "flux": 3e4, "x0": 8.0,
        "y0": 8.0, "image_shape": (16, 16), "targets": ["e1", "e2"],
    }  # fmt: skip
    X, y = make_galaxies(
        150,
        ellipticity=(0.2, 0.6),
        position_angle=(-30, 30),
        random_state=0,
        **settings,
    )
    X_turned, y_turned = make_galaxies(
        100,
        ellipticity=(0.2, 0.6),
        position_angle=(60, 120),
        random_state=1,
        **settings,
    )
    y = pd.DataFrame(y, columns=["e1", "e2"])
    plain, augmented = (
        quick(**LEARNING, augmentation=augmentation).fit(X, y)
        for augmentation in (None, "dihedral")
    )
    score = augmented.score(X_turned, y_turned)
    assert score > 0.6
    assert plain.score(X_turned, y_turned) < score - 0.5


# Shapes, names, types -----------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "image_shape"),
    [
        ((40, 144), (1, 12, 12)),
        ((40, 30), (1, 1, 30)),
        ((40, 9, 14), (1, 9, 14)),
        ((40, 3, 10, 11), (3, 10, 11)),
    ],
)
@pytest.mark.parametrize("n_targets", [None, 1, 3])
def test_any_layout_and_number_of_targets(shape, image_shape, n_targets):
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape)
    y = rng.normal(size=40 if n_targets is None else (40, n_targets))
    model = quick(max_epochs=1).fit(X, y)
    assert model.image_shape_ == image_shape
    assert model.predict(X).shape == y.shape
    assert model.inverse_transform(model.transform(X)).shape == shape
    assert model.reconstruct(X).shape == shape
    assert model.n_features_in_ == np.prod(shape[1:])


def test_flat_and_shaped_stamps_are_the_same(blobs):
    X, y = blobs
    stamps = X.reshape(-1, SIDE, SIDE)
    flat, shaped = quick().fit(X, y), quick().fit(stamps, y)
    np.testing.assert_array_equal(flat.predict(X), shaped.predict(stamps))
    np.testing.assert_array_equal(flat.predict(stamps), flat.predict(X))
    np.testing.assert_array_equal(flat.predict(stamps[:, None]), flat.predict(X))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_of_the_input_is_kept(blobs, dtype):
    X, y = blobs[0].astype(dtype), blobs[1]
    model = quick(max_epochs=1).fit(X, y)
    assert model.transform(X).dtype == dtype
    assert model.inverse_transform(model.transform(X)).dtype == dtype
    assert model.predict(X).dtype == np.float64


def test_latents_are_named_after_the_targets(blobs):
    X, y = blobs
    frame = pd.DataFrame(y, columns=["flux", "half_light_radius"])
    names = quick(max_epochs=1).fit(X, frame).get_feature_names_out()
    rest = [f"z_rest{i}" for i in range(6)]
    assert list(names) == ["flux", "half_light_radius", *rest]
    names = quick(max_epochs=1).fit(X, y).get_feature_names_out()
    assert list(names) == ["z_phy0", "z_phy1", *rest]


def test_set_output_gives_named_columns(blobs):
    X, y = blobs
    y = pd.DataFrame(y, columns=["flux", "half_light_radius"])
    model = quick(max_epochs=1).set_output(transform="pandas")
    table = model.fit_transform(X, y)
    assert list(table.columns[:3]) == ["flux", "half_light_radius", "z_rest0"]
    np.testing.assert_array_equal(
        model.inverse_transform(table), model.inverse_transform(table.to_numpy())
    )


def test_output_setting_survives_fit_and_refit(blobs):
    model = quick(max_epochs=1).set_output(transform="pandas")
    for _ in range(2):
        assert isinstance(model.fit(*blobs).transform(blobs[0]), pd.DataFrame)


# Reproducibility and state ------------------------------------------------------


def test_random_state_decides_everything(blobs):
    X, y = blobs
    first, second = quick().fit(X, y), quick().fit(X, y)
    np.testing.assert_array_equal(first.predict(X), second.predict(X))
    refitted = clone(first).set_params(random_state=np.random.RandomState(0))
    np.testing.assert_array_equal(refitted.fit(X, y).predict(X), first.predict(X))


def test_prediction_does_not_depend_on_its_neighbours(trained):
    model, X, _ = trained
    single = np.concatenate([model.predict(x[None]) for x in X[:40]])
    np.testing.assert_array_equal(model.predict(X)[:40], single)
    np.testing.assert_array_equal(model.transform(X[::-1])[::-1], model.transform(X))


def test_pickle_keeps_the_model_and_holds_no_torch_object(trained):
    model, X, _ = trained
    data = pickle.dumps(model)
    assert b"torch" not in data
    loaded = pickle.loads(data)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    Z = model.transform(X)
    np.testing.assert_array_equal(
        loaded.inverse_transform(Z), model.inverse_transform(Z)
    )


def test_pickle_keeps_the_architecture_that_was_fitted(trained):
    model, X, _ = trained
    changed = pickle.loads(pickle.dumps(model)).set_params(latent_dim=33)
    again = pickle.loads(pickle.dumps(changed))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.inverse_transform(again.transform(X)).shape == X.shape


@pytest.mark.parametrize(
    ("params", "X_change", "error"),
    [
        ({"latent_dim": 2}, lambda X: X, ValueError),
        ({}, lambda X: np.where(X > 200, np.nan, X), ValueError),
        ({}, lambda X: X[:-1], ValueError),
        ({"image_shape": (5, 5)}, lambda X: X, ValueError),
    ],
)
def test_failed_fit_leaves_the_fitted_model_as_it_was(blobs, params, X_change, error):
    X, y = blobs
    model = quick(max_epochs=1).fit(X, y)
    before, state = model.predict(X), set(vars(model))
    model.set_params(**params)
    with pytest.raises(error):
        model.fit(X_change(X)[:, :-1] if not params else X, y)
    assert set(vars(model)) == state
    np.testing.assert_array_equal(model.predict(X), before)


def test_interrupted_fit_leaves_the_fitted_model_as_it_was(blobs, monkeypatch):
    X, y = blobs
    model = quick(max_epochs=1).fit(X, y)
    before = model.predict(X)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(model.net_), "train_step_single", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    np.testing.assert_array_equal(model.predict(X), before)


def test_input_is_not_written_to(blobs):
    X, y = blobs[0].copy(), blobs[1].copy()
    X.flags.writeable = y.flags.writeable = False
    quick(max_epochs=1, augmentation="dihedral", invariant_targets="all").fit(
        X, y
    ).predict(X)


# With scikit-learn's tools ------------------------------------------------------


def test_grid_search_over_alpha_and_beta_in_a_pipeline(blobs):
    X, y = blobs
    pipeline = make_pipeline(FunctionTransformer(np.copy), quick(max_epochs=2))
    name = "conditionalautoencoderregressor"
    grid = {f"{name}__alpha": [0.0, 1.0], f"{name}__beta": [0.0, 1e-4]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert len(scores) == 4
    assert np.isfinite(scores).all()
    assert search.predict(X).shape == y.shape


def test_cross_val_score(blobs):
    scores = cross_val_score(quick(**LEARNING), *blobs, cv=2, scoring="r2")
    assert (scores > 0.5).all()


# What it refuses ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"latent_dim": 2}, "'latent_dim'.*greater than the number of targets.*2.*2"),
        ({"latent_dim": 0}, "'latent_dim' parameter.*Got 0 instead"),
        ({"latent_dim": 8.0}, "'latent_dim' parameter.*Got 8.0 instead"),
        ({"alpha": -1.0}, "'alpha' parameter.*Got -1.0 instead"),
        ({"beta": -1.0}, "'beta' parameter.*Got -1.0 instead"),
        ({"gamma": -1.0}, "'gamma' parameter.*Got -1.0 instead"),
        ({"gamma": "high"}, "'gamma' parameter.*Got 'high' instead"),
        ({"gain": 0.0}, "'gain' parameter.*Got 0.0 instead"),
        ({"gain": None}, "'gain' parameter.*Got None instead"),
        ({"physical_loss": "l7"}, "'physical_loss' parameter.*Got 'l7' instead"),
        ({"network": "vgg"}, "'network' parameter.*'paper'.*Got 'vgg' instead"),
        ({"reconstruction_loss": "l7"}, "'reconstruction_loss' parameter.*Got 'l7'"),
        ({"stretch": "log"}, "'stretch' parameter.*Got 'log' instead"),
        ({"softening": 0.0}, "'softening' parameter.*Got 0.0 instead"),
        ({"augmentation": "cutmix"}, "'augmentation' parameter.*Got 'cutmix'"),
        ({"invariant_targets": "none"}, "'invariant_targets' parameter.*Got 'none'"),
        ({"device": "warp"}, "'device' parameter.*Got 'warp' instead"),
        ({"device": "meta"}, "'device' parameter.*Got 'meta' instead"),
        ({"image_shape": (12, 13)}, r"'image_shape' parameter.*144.*\(12, 13\)"),
        ({"image_shape": (144,)}, r"'image_shape' parameter.*Got \(144,\) instead"),
        ({"image_shape": (-12, -12)}, r"'image_shape' parameter.*Got \(-12, -12\)"),
        ({"image_shape": "12x12"}, "'image_shape' parameter.*Got '12x12'"),
        ({"max_epochs": 0}, "'max_epochs' parameter.*Got 0 instead"),
        ({"batch_size": 0}, "'batch_size' parameter.*Got 0 instead"),
        ({"lr": 0.0}, "'lr' parameter.*Got 0.0 instead"),
        ({"random_state": "x"}, "'random_state' parameter.*Got 'x' instead"),
        ({"augmentation": "dihedral"}, "needs the names of the targets"),
    ],
)
def test_bad_parameters_are_named(blobs, params, message):
    with pytest.raises(ValueError, match=message):
        quick(**params).fit(*blobs)


@pytest.mark.parametrize("method", ["fit", "predict", "transform", "reconstruct"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda X: np.where(X > 200, np.nan, X), "Input X contains NaN"),
        (lambda X: np.where(X > 200, np.inf, X), "Input X contains infinity"),
        (lambda X: X[0], "Expected 2D array, got 1D array"),
        (lambda X: X[:, :, None, None, None], "Found array with dim 5"),
        (lambda X: X.astype(complex), "Complex data not supported"),
    ],
)
def test_bad_images_are_refused(blobs, method, bad, message):
    X, y = blobs
    X_bad = bad(X)
    model = quick(max_epochs=1).fit(X, y)
    arguments = (X_bad, y[: len(X_bad)]) if method == "fit" else (X_bad,)
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(*arguments)


def fill_float32(X):
    X = X.copy()
    X[0, :2] = -2e38, 2e38
    return X


@pytest.mark.parametrize(
    ("params", "change_X", "scale_y", "message"),
    [
        ({"lr": 1e25}, np.copy, 1, r"diverged in epoch \d.*lr=1e\+25 and alpha=1.0"),
        # Without gamma there is no exchange to tell of.
        ({"alpha": 1e39}, np.copy, 1, r"diverged.*regularization_loss=\S+ with lr"),
        ({}, fill_float32, 1, "X must be scalable.*overflows its type float32"),
        ({"stretch": "asinh", "softening": 1e-50}, np.copy, 1, "softening=1e-50"),
        ({}, np.copy, 1e200, "y must have a finite mean and variance"),
    ],
)
def test_overflow_is_an_error_and_not_a_model(
    blobs, params, change_X, scale_y, message
):
    X, y = blobs
    model = quick(max_epochs=1).fit(X, y)
    before = model.predict(X)
    with pytest.raises(ValueError, match=message):
        model.set_params(max_epochs=3, **params).fit(change_X(X), y * scale_y)
    np.testing.assert_array_equal(model.predict(X), before)


def test_images_that_overflow_the_scaling_are_outside(blobs):
    model = quick(max_epochs=1).fit(*blobs)
    with pytest.warns(OutsideTrainingWarning, match="96 of 96 images are outside"):
        model.predict(blobs[0].astype(float) * 1e300)


@pytest.mark.parametrize("shape", [(96, 144), (96, 12, 12)])
def test_masked_entries_are_refused_and_not_used(blobs, shape):
    X, y = blobs
    masked = np.ma.masked_greater(X.reshape(shape), 200)
    model = quick(max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="X must not have masked entries"):
        model.predict(masked)
    with pytest.raises(ValueError, match="X must not have masked entries"):
        model.fit(masked, y)
    with pytest.raises(ValueError, match="y must not have masked entries"):
        model.fit(X, np.ma.masked_greater(y, 200))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["flux", "flux"], "must have different names"),
        (["z_rest0", "flux"], r"names of other latents.*\['z_rest0'\]"),
        (["z_phy1", "flux"], r"names of other latents.*\['z_phy1'\]"),
    ],
)
def test_confusing_target_names_are_refused(blobs, columns, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(blobs[0], pd.DataFrame(blobs[1], columns=columns))


def test_invariant_targets_must_be_targets(blobs):
    y = pd.DataFrame(blobs[1], columns=["flux", "mass"])
    model = quick(augmentation="dihedral", invariant_targets=["mass", "maas"])
    with pytest.raises(ValueError, match=r"'invariant_targets'.*Got \['maas'\]"):
        model.fit(blobs[0], y)


def test_latents_in_another_order_are_refused(blobs):
    X, y = blobs
    model = quick(max_epochs=1).set_output(transform="pandas").fit(X, y)
    Z = model.transform(X)
    with pytest.raises(ValueError, match="columns of Z must be the latents in the ord"):
        model.inverse_transform(Z[Z.columns[::-1]])


def test_numpy_integers_are_integers(blobs):
    X, y = blobs
    params = {"batch_size": np.int64(16), "max_epochs": np.int32(2)}
    params |= {"latent_dim": np.int16(6)}
    np.testing.assert_array_equal(
        quick(**params).fit(X, y).predict(X),
        quick(batch_size=16, max_epochs=2, latent_dim=6).fit(X, y).predict(X),
    )


def test_state_of_pytorch_around_a_fit_does_not_matter(blobs):
    X, y = blobs
    expected = quick().fit(X, y).predict(X)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            model = quick().fit(X, y)
            np.testing.assert_array_equal(model.predict(X), expected)
        loaded = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(loaded.predict(X), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_pickle_of_another_device_is_loaded_to_the_cpu(trained):
    model, X, _ = trained
    elsewhere = pickle.loads(pickle.dumps(model)).set_params(device="cuda:99", lr=9e99)
    with pytest.warns(UserWarning, match="made for the device 'cuda:99'.*to the CPU"):
        loaded = pickle.loads(pickle.dumps(elsewhere))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_turning_targets_are_scaled_by_all_that_training_sees():
    """Positions in one corner of the stamp turn up in all four."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 12, 12))
    y = pd.DataFrame(rng.normal([3.0, 4.0], 0.01, (60, 2)), columns=["x0", "y0"])
    model = quick(augmentation="dihedral", max_epochs=1).fit(X, y)
    np.testing.assert_allclose(model.target_scaler_.mean_, 6.0)
    expected = ((3 - 6) ** 2 / 2 + (4 - 6) ** 2 / 2) ** 0.5
    np.testing.assert_allclose(model.target_scaler_.scale_, expected, rtol=1e-2)


@pytest.mark.parametrize("method", ["predict", "transform", "reconstruct"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 100), "X has 100 features, but ConditionalAutoencoderRegressor.*144"),
        ((5, 10, 10), r"X must have images of 12 x 12.*Got images of .*\(10, 10\)"),
        (
            (5, 9, 16),
            r"X must have images of 12 x 12.*Got images of the shape \(9, 16\)",
        ),
    ],
)
def test_images_of_another_shape_are_refused(blobs, method, shape, message):
    model = quick(max_epochs=1).fit(*blobs)
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(np.zeros(shape))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda y: y[:-1], "inconsistent numbers of samples"),
        (lambda y: y * [np.nan, 1], "Each target must be known for one image"),
        (lambda y: y * np.nan, r"Got none for the targets \[0, 1\]"),
        (lambda y: np.where(y > 200, np.inf, y), "Input y contains infinity"),
        (lambda y: None, "requires y to be passed, but the target y is None"),
        (lambda y: y[:, :, None], "Found array with dim 3"),
        (lambda y: y.astype(complex), "Complex data not supported"),
        (lambda y: np.full(len(y), "big"), "could not convert string to float"),
        (lambda y: y[:, :0], "0 feature"),
    ],
)
def test_bad_targets_are_refused(blobs, bad, message):
    X, y = blobs
    with pytest.raises(ValueError, match=message):
        quick().fit(X, bad(y))


@pytest.mark.parametrize(
    ("Z", "message"),
    [
        (np.zeros((3, 7)), "Z must have 8 columns.*Got 7 instead"),
        (np.full((3, 8), np.nan), "Z contains NaN"),
        (np.zeros(8), "Expected 2D array, got 1D array"),
        (np.zeros((0, 8)), "Found array with 0 sample"),
    ],
)
def test_bad_latents_are_refused(blobs, Z, message):
    with pytest.raises(ValueError, match=message):
        quick(max_epochs=1).fit(*blobs).inverse_transform(Z)


@pytest.mark.parametrize(
    "method",
    ["predict", "transform", "inverse_transform", "reconstruct", "score_samples"],
)
def test_unfitted_model_says_so(method):
    with pytest.raises(NotFittedError):
        getattr(quick(), method)(np.zeros((3, 8)))
    with pytest.raises(NotFittedError):
        quick().get_feature_names_out()
