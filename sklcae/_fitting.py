"""A fit: checked data and settings in, a codec and its history out."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GroupShuffleSplit, train_test_split
from sklearn.utils import check_random_state

from sklcae._codec import Codec
from sklcae._fixed_psf import fixed_psf
from sklcae._gain import as_gain
from sklcae._images import PixelMask, SomeRows, TrainingImages, UnreadImages
from sklcae._novelty import TrainingRange, evenly_spaced
from sklcae._profile_training import (
    check_profiles,
    check_reconstruction,
    guess_from,
    guess_of_targets,
    make_simulation,
    parameters_of_layout,
)
from sklcae._profiles import uses_profiles
from sklcae._scaling import ImageScaler
from sklcae._symmetry import Symmetry
from sklcae._targets import fit_target_scaler
from sklcae._torch import Batch, EpochHook, Partners, build_net, name_of
from sklcae._warning import warn_user

# Networks whose input is nearly linear in the light after an asinh stretch.
MADE_FOR_ASINH = ("strided", "neural_field")
# A target whose R2 on the training set is lower has not been learned.
LEAST_R2 = 0.05
# If it is this low, labels contradict the images.
CONTRADICTING_R2 = -1.0
# Most standardised targets are within this.
USUAL = 3.0


class Fit(NamedTuple):
    """The result of a fit, from which another fit may continue.

    ``training`` has the ``history``, one entry an epoch, and to continue also the state
    of the optimizer and of early stopping, see `get_training_state` of the net.
    ``best_epoch`` is the epoch of the weights, with early stopping only. ``r2`` is that
    of each target on the reference images, NaN for constant targets.
    """

    codec: Codec
    training: dict
    best_epoch: int | None = None
    r2: np.ndarray | None = None

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
    check_profiles(settings, data.layout, data.logarithmic)
    check_reconstruction(settings)
    _check_some_targets(data.y[train], data.layout.target_names, settings.network)
    symmetry = None
    if settings.augmentation is not None:
        symmetry = symmetry_of(data.layout, settings)
    start = checkpoint.fit or previous
    codec = _begin(data, train, settings, symmetry, start, seeds["net"])
    parts = _prepare(data.images, [train, held_out], codec.image_scaler)
    if start is None:
        _warn_of_stretch(settings)
    if start is None or settings.limits == "robust":
        warn_of_unusual(parts, data.images, settings)
    if settings.limits == "robust":
        for part in filter(None, parts):
            part.keep_usual()
        train = parts[0].rows
    seen = range_of(parts[0], data.y[train], codec, symmetry)
    if start is not None:
        seen = seen.union(start.codec.training_range)
    codec = replace(codec, training_range=seen)
    batch, validation = _make_batches(data, codec, parts)
    _check_some_exchange(batch, settings.gamma)
    # The net takes a copy.
    module = None if start is None else start.codec.net.module_
    simulation = None
    if settings.augmentation == "simulation":
        simulation = make_simulation(codec, data.y[train], settings)
        # Each step makes its own images: none need to be read.
        reads = len(data.layout.planes) > 1 or batch.mask is not None
        unread = UnreadImages(len(train), parts[0].reading if reads else None)
        batch = batch._replace(images=unread)
    net = training_net(codec, settings, symmetry, simulation, seeds["net"], module)
    codec = replace(codec, net=net)

    def finish(codec):
        rows = evenly_spaced(train)
        codec = codec.with_reference(data.images, rows)
        best_epoch = net.best_epoch if settings.early_stopping else None
        r2 = _training_r2(codec, data.y[rows])
        return Fit(codec, {"history": net.history_table()}, best_epoch, r2)

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
    rows = data.rows
    if not settings.early_stopping:
        return rows, None
    split = {
        "test_size": settings.validation_fraction,
        "random_state": seeds["split"],
    }
    if len(rows) < 2:
        raise ValueError(
            "X must have two images or more with early_stopping=True, since some are "
            f"held out. Got {len(rows)}."
        )
    groups = None if data.groups is None else data.groups[rows]
    if groups is None or groups.min() == groups.max():
        return train_test_split(rows, **split)
    parts = next(GroupShuffleSplit(1, **split).split(rows, groups=groups))
    return tuple(rows[part] for part in parts)


# The codec --------------------------------------------------------------------------


def _begin(data, rows, settings, symmetry, start, seed):
    """Return the codec before the training, without a net."""
    if start is not None:
        check_same_model(start.codec, settings, data.logarithmic)
        return replace(
            start.codec,
            layout=data.layout,
            gain=as_gain(settings.gain),
            network=settings.network,
            error_scale=np.ones(data.layout.n_targets),
        )
    weights = None if data.weights is None else data.weights[rows]
    scaler = ImageScaler(settings.stretch, settings.softening, settings.limits)
    scaler.fit(data.images, rows, has_sky=not uses_profiles(settings))
    guess = None
    guess_y = None
    if uses_profiles(settings):
        parameters = parameters_of_layout(data.layout)
        scale = settings.pixel_scale
        guess = guess_from(data.images, rows, scaler, scale, parameters)
    if settings.network == "sersic":
        names = data.layout.target_names
        guess_y = guess_of_targets(guess, parameters, names, data.logarithmic)
    return Codec(
        layout=data.layout,
        image_scaler=scaler,
        target_scaler=fit_target_scaler(
            data.y[rows],
            weights,
            symmetry,
            data.logarithmic,
            guess_y,
        ),
        pixel_scale=settings.pixel_scale and float(settings.pixel_scale),
        psf=psf_of_settings(settings, data.layout),
        guess=guess,
        gain=as_gain(settings.gain),
        network=settings.network,
        latent_dim=int(settings.latent_dim),
        predicts_variance=settings.physical_loss == "gaussian_likelihood",
        seed=seed,
        error_scale=np.ones(data.layout.n_targets),
    )


def psf_of_settings(settings, layout):
    """Return the PSF of all stamps, (1, n_bands, H, W), or None."""
    if settings.psf is not None and layout.has_psf:
        raise ValueError(
            "The 'psf' parameter of ConditionalAutoencoderRegressor must be None with "
            f"a plane 'psf'. Got {settings.psf!r:.50} instead."
        )
    scale = settings.pixel_scale or 1.0
    return fixed_psf(settings.psf, scale, layout, "ConditionalAutoencoderRegressor")


def check_same_model(codec, settings, logarithmic):
    """Refuse to continue from weights with another meaning."""
    psf = psf_of_settings(settings, codec.layout)
    same = (psf is None) == (codec.psf is None)
    # A width that `rescale` set may differ in the last digit.
    if not same or (psf is not None and not np.allclose(psf, codec.psf, atol=1e-12)):
        raise ValueError(
            "The 'psf' parameter of ConditionalAutoencoderRegressor must stay as it "
            "was to continue an earlier fit."
        )
    if uses_profiles(settings) and codec.guess is None:
        # Its images are scaled with a sky.
        raise ValueError(
            "The 'augmentation' parameter of ConditionalAutoencoderRegressor must not "
            "become 'simulation' to continue an earlier fit without it."
        )
    if logarithmic != codec.target_scaler.logarithmic:
        raise ValueError(
            "The 'log_targets' parameter of ConditionalAutoencoderRegressor must stay "
            f"as it was to continue an earlier fit. Got {settings.log_targets!r}."
        )
    wanted = vars(settings) | {"network": _name_or_network(settings.network)}
    fitted = {
        "network": _name_or_network(codec.network),
        "latent_dim": codec.latent_dim,
        "pixel_scale": codec.pixel_scale,
        "physical_loss": codec.physical_loss,
        "stretch": codec.image_scaler.stretch,
        "softening": codec.image_scaler.softening,
        "limits": codec.image_scaler.limits,
    }
    for name, value in fitted.items():
        if wanted[name] != value:
            raise ValueError(
                f"The {name!r} parameter of ConditionalAutoencoderRegressor must stay "
                f"{value!r} to continue an earlier fit. Got {wanted[name]!r} instead."
            )


def _name_or_network(network):
    return name_of(network) or network


def training_net(codec, settings, symmetry, simulation, seed, module):
    """Return a net to train, for a codec without one, from the parameters.

    ``module`` is a network to begin with, or None for a new one.
    """
    maps = None if symmetry is None else symmetry.scaled(codec.target_scaler)
    return build_net(
        codec.network,
        codec.architecture,
        seed=seed,
        module=module,
        target_maps=maps,
        simulation=simulation,
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


def _prepare(images, parts, scaler):
    """Return the training images of each part, given by its rows or None."""
    return [
        None if rows is None else TrainingImages(images, rows, scaler) for rows in parts
    ]


def _make_batches(data, codec, parts):
    """Return the batch of each part of the data, or None."""
    masked = any(part.masked for part in parts if part is not None)
    return [
        None if part is None else make_batch(data, codec, part, masked)
        for part in parts
    ]


def make_batch(data, codec, images, masked):
    """Scale and weight the stamps of some `TrainingImages` for the training.

    Without a mask all of their pixels count.
    """
    rows = images.rows
    y = data.y[rows]
    weights = None if data.weights is None else data.weights[rows]
    known = ~np.isnan(y)
    targets = np.where(known, codec.target_scaler.transform(y), 0)
    partners = None
    if data.groups is not None:
        # Decoding a partner takes all of its targets.
        partners = Partners(data.groups[rows], known.all(axis=1), weights)
    others = codec.other_planes(data.images)
    return Batch(
        images=images,
        targets=targets.astype(np.float32),
        mask=PixelMask(images) if masked else None,
        image_weights=None if weights is None else _mean_one(weights),
        target_weights=_target_weights(known, weights),
        partners=partners,
        **{k: p if p is None else SomeRows(p, rows) for k, p in others.items()},
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


def _check_some_targets(y, names, network):
    """Raise ValueError if a target is missing in all rows.

    Chi-square through known optics teaches targets without a label, if there is another
    with one.
    """
    missing = np.isnan(y).all(axis=0)
    if missing.all() or (missing.any() and network != "sersic"):
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


# What the user should know ---------------------------------------------------------


def _warn_of_stretch(settings):
    """Warn if the stretch does not suit the network."""
    if settings.network in MADE_FOR_ASINH and settings.stretch == "linear":
        warn_user(
            f"The network {settings.network!r} is made for stretch='asinh', and learns "
            "little with stretch='linear'.",
        )


def warn_of_unusual(parts, images, settings):
    """Warn of images whose pixels would set the range of all."""
    rows = [part.rows[~part.usual] for part in parts if part is not None]
    rows = np.concatenate(rows)
    if not len(rows):
        return
    pixels = images[rows[:1]]
    effect = (
        "They set the range to which all images are scaled: mask bad pixels (NaN with "
        "allow_nan=True), leave the images out, or pass limits='robust'."
    )
    if settings.limits == "robust":
        effect = (
            "They are left out of the training: to keep them, mask bad pixels (NaN "
            "with allow_nan=True)."
        )
    warn_user(
        f"{len(rows)} of {len(images)} images have pixels far beyond the pixels of the "
        f"others; in the image of row {rows[0]} they are from {np.nanmin(pixels):g} to "
        f"{np.nanmax(pixels):g}. {effect}",
    )


def range_of(images, y, codec, symmetry):
    """Return the range of the training set, without unusual images."""
    statistics = images.statistics[images.usual | ~images.usual.any()]
    seen = y if symmetry is None else symmetry.turned_targets(y)
    unknown = np.isnan(seen).all(axis=0)
    if unknown.any():
        # Without a label, the range is that of the scaling.
        usual = codec.target_scaler.inverse_transform(
            [[-USUAL], [USUAL]] * np.ones(y.shape[1])
        )
        seen = np.concatenate([seen, np.where(unknown, usual, np.nan)])
    noise, planes = codec.image_scaler.noise_, codec.layout.planes
    return TrainingRange.of_training(statistics, noise, seen, planes)


def _training_r2(codec, y):
    """Return R2 of each target for the reference images, NaN if it is constant."""
    wanted = np.ma.masked_invalid(codec.target_scaler.transform(y))
    z_phy = codec.reference.latents[:, : y.shape[1]].astype(np.float64)
    return (1 - ((wanted - z_phy) ** 2).mean(axis=0) / wanted.var(axis=0)).filled(
        np.nan
    )


def warn_if_not_learned(fit):
    """Warn of the targets that the network predicts no better than their mean."""
    columns = np.flatnonzero(fit.r2 < LEAST_R2)
    if not len(columns):
        return
    names = fit.codec.layout.target_names or range(len(fit.r2))
    found = ", ".join(f"{names[i]!r} ({fit.r2[i]:.3g})" for i in columns)
    hint = (
        f"Train longer (this fit had {fit.n_epochs} epochs), with more images, with "
        "another alpha, or with a smaller lr if train_loss in history_ rises. Check "
        "that rows of X and y belong together."
    )
    if fit.r2[columns].min() < CONTRADICTING_R2:
        hint = f"So low a value shows a y that contradicts X: check its units. {hint}"
    warn_user(
        f"Targets were not learned. R2 on the training set, below {LEAST_R2}: {found}. "
        f"{hint}",
        ConvergenceWarning,
    )
