"""A fit: checked data and settings in, a codec and its history out."""

import copy
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, train_test_split
from sklearn.utils import check_random_state, gen_batches

from sklcae._codec import Codec
from sklcae._masking import fill_masked
from sklcae._novelty import evenly_spaced
from sklcae._scaling import ImageScaler, fit_target_scaler
from sklcae._symmetry import Symmetry
from sklcae._torch import Batch, EpochHook, Partners, build_net, name_of

# Images are scaled a few at a time to find those that overflow.
CHUNK_SIZE = 64


class Fit(NamedTuple):
    """The result of a fit, from which another fit may continue.

    ``training`` has the ``history``, one entry an epoch, and to continue also the state
    of the optimizer and of early stopping, see `get_training_state` of the net.
    ``best_epoch`` is the epoch of the weights, with early stopping only.
    """

    codec: Codec
    training: dict
    best_epoch: int | None = None

    @property
    def n_epochs(self):
        """Number of epochs."""
        return len(self.training["history"]["epoch"])

    def attributes(self):
        """Return the attributes of the fitted estimator."""
        fitted = {"codec_": self.codec, "history_": self.training["history"]}
        if self.best_epoch is not None:
            fitted["best_epoch_"] = self.best_epoch
        return fitted


def fit_codec(data, settings, monitor, checkpoint, previous=None):
    """Train a codec.

    Takes checked data, the parameters of the estimator in a namespace, the monitor and
    the checkpoint of the fit, and the previous fit if this one continues it.
    """
    seeds = checkpoint.seeds or _draw_seeds(settings)
    train, held_out = _hold_out(data, settings, seeds)
    _check_some_targets(data.y[train], data.layout.target_names)
    symmetry = None
    if settings.augmentation is not None:
        symmetry = symmetry_of(data.layout, settings)
    start = checkpoint.fit or previous
    codec = _begin(data, train, settings, symmetry, start, seeds["net"])
    batch, validation = _make_batches(data, codec, [train, held_out])
    _check_some_exchange(batch, settings.gamma)
    # The previous codec keeps its network.
    module = None if start is None else copy.deepcopy(start.codec.net.module_)
    net = _training_net(codec, settings, symmetry, seeds["net"], module)
    codec = replace(codec, net=net)

    def finish(codec):
        codec = codec.with_reference(data.images, evenly_spaced(train))
        best_epoch = net.best_epoch if settings.early_stopping else None
        return Fit(codec, {"history": net.history_table()}, best_epoch)

    def end_epoch(net):
        stop = monitor.end_epoch(lambda: finish(codec.copy()).attributes())
        checkpoint.write(seeds, codec, net)
        return stop

    monitor.begin(settings.max_epochs)
    net.fit_batches(
        batch,
        validation=validation,
        n_epochs=settings.max_epochs,
        n_before=0 if previous is None else previous.n_epochs,
        state=None if start is None else start.training,
        epoch_hook=EpochHook(lambda net: monitor.begin_epoch(), end_epoch),
    )
    return finish(codec)


def symmetry_of(layout, settings):
    """Return the effect of flips and turns on the targets, from the parameters."""
    return Symmetry.of_targets(
        layout.target_names,
        layout.n_targets,
        layout.image_shape[1:],
        settings.invariant_targets,
    )


def _draw_seeds(settings):
    rng = check_random_state(settings.random_state)
    names = ["net", "split"] if settings.early_stopping else ["net"]
    return {name: int(rng.randint(np.iinfo(np.int32).max)) for name in names}


def _hold_out(data, settings, seeds):
    """Return rows to train on and, with early stopping, rows to validate with.

    If there are several groups, whole groups are held out.
    """
    rows = np.arange(len(data.y))
    if not settings.early_stopping:
        return rows, None
    split = {
        "test_size": settings.validation_fraction,
        "random_state": seeds["split"],
    }
    if data.groups is None or data.groups.min() == data.groups.max():
        return train_test_split(rows, **split)
    return next(GroupShuffleSplit(1, **split).split(rows, groups=data.groups))


# The codec --------------------------------------------------------------------------


def _begin(data, rows, settings, symmetry, start, seed):
    """Return the codec before the training, without a net."""
    if start is not None:
        _check_same_model(start.codec, settings)
        return replace(
            start.codec,
            layout=data.layout,
            gain=float(settings.gain),
            network=settings.network,
        )
    weights = None if data.weights is None else data.weights[rows]
    scaler = ImageScaler(settings.stretch, settings.softening)
    return Codec(
        layout=data.layout,
        image_scaler=scaler.fit(data.images, rows),
        target_scaler=fit_target_scaler(data.y[rows], weights, symmetry),
        gain=float(settings.gain),
        network=settings.network,
        latent_dim=int(settings.latent_dim),
        predicts_variance=settings.physical_loss == "gaussian_likelihood",
        seed=seed,
    )


def _check_same_model(codec, settings):
    """Refuse to continue from weights with another meaning."""
    wanted = vars(settings) | {"network": _name_or_network(settings.network)}
    fitted = {
        "network": _name_or_network(codec.network),
        "latent_dim": codec.latent_dim,
        "physical_loss": codec.physical_loss,
        "stretch": codec.image_scaler.stretch,
        "softening": codec.image_scaler.softening,
    }
    for name, value in fitted.items():
        if wanted[name] != value:
            raise ValueError(
                f"The {name!r} parameter of ConditionalAutoencoderRegressor must stay "
                f"{value!r} to continue an earlier fit. Got {wanted[name]!r} instead."
            )


def _name_or_network(network):
    return name_of(network) or network


def _training_net(codec, settings, symmetry, seed, module):
    maps = None if symmetry is None else symmetry.scaled(codec.target_scaler)
    return build_net(
        codec.network,
        codec.architecture,
        seed=seed,
        module=module,
        target_maps=maps,
        device=settings.device,
        alpha=settings.alpha,
        beta=settings.beta,
        gamma=settings.gamma,
        reconstruction_loss=settings.reconstruction_loss,
        physical_loss=settings.physical_loss,
        light_scale=codec.light_scale,
        batch_size=int(settings.batch_size),
        optimizer=settings.optimizer,
        lr=settings.lr,
        lr_schedule=settings.lr_schedule,
        weight_decay=settings.weight_decay,
        n_iter_no_change=settings.n_iter_no_change,
        tol=settings.tol,
        callbacks=settings.callbacks,
        verbose=settings.verbose,
    )


# The batches ------------------------------------------------------------------------


class ScaledImages:
    """Images that are scaled when they are read, without a scaled copy of them all.

    Raises ValueError if one of them overflows when it is scaled.
    """

    def __init__(self, images, rows, image_scaler):
        self.images, self.rows, self.image_scaler = images, rows, image_scaler
        for part in gen_batches(len(rows), CHUNK_SIZE):
            self[part]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, which):
        return self.image_scaler.transform(self.images[self.rows[which]])


def _make_batches(data, codec, parts):
    """Return the batch of each part of the data, given by its rows or None."""
    images, mask = fill_masked(data.images)
    filled = data._replace(images=images)
    return [
        None if rows is None else make_batch(filled, mask, codec, rows)
        for rows in parts
    ]


def make_batch(data, mask, codec, rows):
    """Scale and weight the stamps of some rows for the training.

    The images have no NaN; the mask is True where a pixel counts, or None.
    """
    y = data.y[rows]
    weights = None if data.weights is None else data.weights[rows]
    known = ~np.isnan(y)
    targets = np.where(known, codec.target_scaler.transform(y), 0)
    partners = None
    if data.groups is not None:
        # Decoding a partner takes all of its targets.
        partners = Partners(data.groups[rows], known.all(axis=1), weights)
    return Batch(
        images=ScaledImages(data.images, rows, codec.image_scaler),
        targets=targets.astype(np.float32),
        mask=None if mask is None else mask[rows],
        image_weights=None if weights is None else _mean_one(weights),
        target_weights=_target_weights(known, weights),
        partners=partners,
    )


def _target_weights(known, sample_weight):
    """Return weights that leave out missing targets, of mean 1 for each target."""
    if sample_weight is None:
        return None if known.all() else _mean_one(known)
    return _mean_one(known * sample_weight[:, None])


def _mean_one(weights):
    mean = weights.mean(axis=0)
    # The few images of a validation set may all lack a target.
    return (weights / np.where(mean > 0, mean, 1)).astype(np.float32)


def _check_some_targets(y, names):
    """Raise ValueError if a target is missing in all rows."""
    missing = np.isnan(y).all(axis=0)
    if missing.any():
        columns = np.flatnonzero(missing)
        named = [names[i] for i in columns] if names else columns.tolist()
        raise ValueError(
            "Input y contains NaN for all images to train on. Each target must be "
            f"known for one image at least. Got none for the targets {named}."
        )


def _check_some_exchange(batch, gamma):
    """Raise ValueError if no image to train on has a partner."""
    if batch.partners is not None and not batch.partners.n_others.any():
        raise ValueError(
            "The 'groups' parameter must leave images to exchange with, since gamma is "
            f"{gamma:g}. Got none: each image is alone in its group, or all others "
            "lack a target or are held out."
        )
