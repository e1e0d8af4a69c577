"""Quick images and models for the tests of the estimator."""

import numpy as np

from sklcae import ConditionalAutoencoderRegressor

SIDE = 12


def make_blobs_of_light(n_samples, random_state=0, side=SIDE):
    """Gaussian spots in the middle of a stamp, of varying brightness and width."""
    rng = np.random.default_rng(random_state)
    y = rng.uniform([100.0, 1.0], [300.0, 3.0], size=(n_samples, 2))
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    width = y[:, 1, None, None]
    X = y[:, 0, None, None] * np.exp(-(rows**2 + columns**2) / (2 * width**2))
    X += rng.normal(scale=2.0, size=X.shape)
    return X.reshape(n_samples, -1).astype(np.float32), y


# With these settings of `quick` the parameters of 256 spots are learned in seconds.
LEARNING = {
    "optimizer": "adamw",
    "lr_schedule": "one_cycle",
    "lr": 5e-3,
    "max_epochs": 50,
}


def quick(**kwargs):
    settings = {"latent_dim": 8, "max_epochs": 3, "random_state": 0}
    return ConditionalAutoencoderRegressor(**{**settings, **kwargs})


def assert_same_for_any_split(predict, X, cuts):
    """Bitwise, in another order and in parts of one image too.

    ``predict`` returns an array whose second last axis is that of the images.
    """
    expected = predict(X)
    order = np.random.default_rng(0).permutation(len(X))
    for places in ([], cuts, range(1, len(X))):
        parts = [predict(part) for part in np.split(X[order], places)]
        np.testing.assert_array_equal(
            np.concatenate(parts, axis=-2), expected[..., order, :]
        )


def weights_differ(first, second):
    second = second.net_.get_weights()
    return any(
        not np.array_equal(weight, second[name])
        for name, weight in first.net_.get_weights().items()
    )


def assert_same_model(first, second):
    """Bitwise the same weights, scaling and history, durations apart."""
    states = [model.codec_.to_state() for model in (first, second)]
    for part in ("weights", "image_scaler", "target_scaler"):
        for name, value in states[0][part].items():
            np.testing.assert_array_equal(value, states[1][part][name], err_msg=name)
    histories = [dict(model.history_) for model in (first, second)]
    for history in histories:
        del history["duration"]
    assert histories[0] == histories[1]


def make_variants_of_light(n_groups, n_variants=4, random_state=0, side=SIDE):
    """Spots in groups: the same place, but other brightness, width and noise.

    Returns X, y and groups.
    """
    rng = np.random.default_rng(random_state)
    groups = np.repeat(np.arange(n_groups), n_variants)
    y = rng.uniform([100.0, 1.0], [300.0, 2.0], size=(len(groups), 2))
    center = rng.uniform(-1.5, 1.5, size=(2, n_groups))[:, groups, None, None]
    rows, columns = np.mgrid[:side, :side][:, None] - (side - 1) / 2 - center
    width = y[:, 1, None, None]
    X = y[:, 0, None, None] * np.exp(-(rows**2 + columns**2) / (2 * width**2))
    X += rng.normal(scale=2.0, size=X.shape)
    return X.reshape(len(groups), -1).astype(np.float32), y, groups
