"""A fit that learns nothing, or diverges, is not silent."""

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score

from sklcae._fitting import Fit, warn_if_not_learned
from tests.blobs import make_blobs_of_light, quick


@pytest.fixture(scope="module")
def blobs():
    return make_blobs_of_light(96)


def test_targets_that_are_not_learned_are_named(blobs):
    X, y = blobs
    noise = np.random.default_rng(0).normal(size=len(y))
    frame = pd.DataFrame({"flux": y[:, 0], "noise": noise})
    with pytest.warns(ConvergenceWarning, match=r"below 0.05: 'noise' \(") as caught:
        quick(max_epochs=40).fit(X, frame)
    assert "'flux'" not in str(caught[0].message)
    assert "40 epochs" in str(caught[0].message)
    # It points to the line of the user.
    assert caught[0].filename == __file__


def test_learned_constant_and_missing_targets_give_no_warning(blobs):
    X, y = blobs
    y = np.column_stack([y, np.full(len(y), 3.0)])
    y[::2, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(max_epochs=40).fit(X, y)
        quick(max_epochs=1).fit(X[:1], y[1:2])
        quick().partial_fit(X, y)


def test_no_epoch_at_random_is_said_to_learn(blobs):
    X, y = blobs
    shuffled = y[np.random.default_rng(0).permutation(len(y))]
    with pytest.warns(ConvergenceWarning, match=r"0 \(.*\), 1 \("):
        quick().fit(X, shuffled)


def test_low_values_show_another_unit():
    codec = SimpleNamespace(layout=SimpleNamespace(target_names=["flux", "e1"]))
    fit = Fit(codec, {"history": {"epoch": [1]}}, r2=np.array([-99.0, 0.9]))
    hint = r"'flux' \(-99\)\. So low a value .*check its units"
    with pytest.warns(ConvergenceWarning, match=hint):
        warn_if_not_learned(fit)
    with pytest.warns(ConvergenceWarning, match=r"\(-0\.5\)\. Train longer"):
        warn_if_not_learned(fit._replace(r2=np.array([-0.5, 0.9])))


@pytest.mark.parametrize("network", ["paper", "strided", "neural_field"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_divergence_in_the_last_step_is_an_error(blobs, network, method):
    X, y = blobs
    model = quick(network=network, max_epochs=1, batch_size=96, lr=1e20)
    with pytest.raises(ValueError, match="training diverged"):
        getattr(model, method)(X, y)
    assert not hasattr(model, "codec_")


@pytest.mark.parametrize("lr", [0.3, 1.0, 100.0])
def test_rates_that_are_far_too_high_do_not_pass_in_silence(blobs, lr):
    model = quick(lr=lr, max_epochs=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        with pytest.raises((ConvergenceWarning, ValueError), match=r"learned|diverged"):
            model.fit(*blobs)


def test_missing_targets_can_be_scored_and_searched(blobs):
    X, y = blobs
    y = pd.DataFrame(y, columns=["flux", "half_light_radius"])
    y.iloc[::4, 0] = np.nan
    known = y["flux"].notna().to_numpy()
    model = quick(max_epochs=30).fit(X, y)
    by_hand = [
        quick(max_epochs=30).fit(X, y).score(X[rows], y.iloc[rows])
        for rows in (np.flatnonzero(known),)
    ]
    assert 0 < model.score(X, y) < 1
    assert by_hand[0] == pytest.approx(model.score(X, y), abs=0.05)
    assert np.isfinite(cross_val_score(quick(), X, y, cv=3)).all()
    search = GridSearchCV(quick(max_epochs=30), {"alpha": [1e-9, 1.0]}, cv=3).fit(X, y)
    assert search.best_params_ == {"alpha": 1.0}
    # Without missing targets it is the score of scikit-learn.
    whole = model.fit(X, y.fillna(200.0))
    assert whole.score(X, y.fillna(200.0)) == super(type(whole), whole).score(
        X, y.fillna(200.0)
    )


def test_one_image_cannot_be_held_out(blobs):
    X, y = blobs
    with pytest.raises(ValueError, match="two images or more with early_stopping=True"):
        quick(early_stopping=True).fit(X[:1], y[:1])
