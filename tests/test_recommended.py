"""The settings for the best results stand in one place, and are used."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from sklcae import ConditionalAutoencoderRegressor
from sklcae._recommended import RECOMMENDED
from tests.blobs import assert_same_model, make_blobs_of_light, quick
from tests.test_sersic_network import NAMES, PLANES, make_stamps

ROOT = Path(__file__).parent.parent


def test_it_is_an_ordinary_estimator_that_is_not_fitted():
    model = ConditionalAutoencoderRegressor.recommended(max_epochs=7, alpha=3)
    assert not hasattr(model, "codec_")
    changed = {"max_epochs": 7, "alpha": 3}
    defaults = ConditionalAutoencoderRegressor().get_params()
    assert model.get_params() == defaults | RECOMMENDED | changed
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(TypeError, match="unknown"):
        ConditionalAutoencoderRegressor.recommended(unknown=1)


def test_no_groups_are_one_group():
    X, y = make_blobs_of_light(40)
    one = quick(gamma=1.0).fit(X, y, groups=np.full(40, "all"))
    assert_same_model(quick(gamma=1.0).fit(X, y), one)
    pairs = quick(gamma=1.0).fit(X, y, groups=np.arange(40) // 2)
    assert pairs.history_["exchange_loss"] != one.history_["exchange_loss"]


def test_nobody_spells_the_settings_again():
    files = [
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.rst"),
        *(ROOT / "examples").glob("*.py"),
    ]
    for path in files:
        assert "weight_decay=0.01" not in path.read_text().replace(" ", ""), path


def test_settings_fit_and_predict():
    X, y = make_blobs_of_light(64, side=16)
    model = ConditionalAutoencoderRegressor.recommended(
        max_epochs=2, random_state=0, target_names=["flux", "half_light_radius"]
    ).fit(X, y)
    for values in model.predict(X, return_std=True):
        assert np.isfinite(values).all()


def test_some_parameters_of_profiles():
    X, y = make_stamps(40)
    settings = {"planes": PLANES, "pixel_scale": 0.2, "max_epochs": 1, "latent_dim": 9}
    few = ["half_light_radius", "flux"]
    for names in (few, NAMES):
        model = ConditionalAutoencoderRegressor.recommended(
            target_names=names, **settings
        )
        model.fit(X, y[names])
        assert model.target_names_ == names
        assert (model.augmentation == "simulation") == (names == NAMES)
    unnamed = ConditionalAutoencoderRegressor.recommended(**settings)
    with pytest.raises(ValueError, match=r"targets must be all of .*\.recommended"):
        unnamed.fit(X, y[few])
    with pytest.raises(ValueError, match=r"^augmentation=.simulation. needs"):
        unnamed.fit(X, y.rename(columns={"flux": "F"}))
    with pytest.raises(ValueError, match=r"'log_targets' .* Got \['F'\]"):
        unnamed.set_params(log_targets=["F"]).fit(X, y)
