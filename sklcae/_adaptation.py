"""Adapting a fitted model to the stamps of another survey.

The weights after the training are averaged with those before it, which costs little in
the new survey and keeps much of the accuracy in the old one [1]_.

References
----------
.. [1] M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from scipy.stats import norm

from sklcae._fitting import (
    check_same_model,
    make_batch,
    range_of,
    symmetry_of,
    training_net,
    warn_of_unusual,
)
from sklcae._fixed_psf import gaussian_psf
from sklcae._gain import as_gain
from sklcae._images import ScaledVariance, TrainingImages
from sklcae._labels import compare_with_fits
from sklcae._novelty import evenly_spaced
from sklcae._profile_fitter import ProfileFitter
from sklcae._profile_training import (
    check_profiles,
    check_reconstruction,
    make_simulation,
    parameters_of_layout,
)
from sklcae._torch import Batch, BatchDataset, SimulatedGalaxies, joined

NAME = "ConditionalAutoencoderRegressor"
# Stamps of each kind: stamps of the survey, repeated if there are fewer, new galaxies
# on their planes, and galaxies like those of the first training.
N_OWN, N_HERE, N_THERE = 1000, 1700, 8200
# There are fewer if all of their planes have more values.
MOST_VALUES = 2**27
# Epochs of the training on all of them, and its largest learning rate.
N_EPOCHS, LEARNING_RATE, BATCH_SIZE = 5, 2e-4, 64
# The share of the new weights in the mean of new and old ones.
SHARE_OF_NEW = 0.85
# Steps of the fits that stand in for labels.
MAX_STEPS = 30
# Planes like those of the first training. The width that a pixel adds to a PSF.
N_PLANES, PIXEL_FWHM = 1000, 0.68
# The share of labelled stamps that is held out, if it is this many at least, to measure
# the error bars. The measured factor counts as much as that of so many stamps.
HELD_OUT, LEAST_HELD_OUT, N_PRIOR = 0.25, 10, 20
# The largest factor.
MOST_CHANGED = 10.0


def adapt_codec(codec, data, settings, history, seed):
    """Return the codec and the history of a model adapted to other stamps.

    Takes a codec with a net, checked data whose labels may all be NaN, the parameters
    of the estimator in a namespace, the history of the model, and a seed.
    """
    check_same_model(codec, settings, data.logarithmic)
    check_profiles(settings, data.layout, data.logarithmic)
    check_reconstruction(settings)
    data = data._replace(groups=None)
    labelled = data.rows[~np.isnan(data.y[data.rows]).all(axis=1)]
    fitter = ProfileFitter.of_codec(codec, MAX_STEPS)
    compare_with_fits(fitter, data.images, labelled, data.y)
    rng = np.random.default_rng(seed)
    images, y, held_out = _training_set(codec, data, settings, rng)
    symmetry = None
    if settings.augmentation is not None:
        symmetry = symmetry_of(data.layout, settings)
    past = codec
    seen = range_of(images, y[images.rows], codec, symmetry)
    codec = replace(
        codec,
        image_scaler=images.image_scaler,
        training_range=seen.union(codec.training_range),
    )
    net = _build_net(codec, settings, symmetry, rng)
    own = make_batch(data._replace(y=y), codec, images, masked=images.masked)
    some = rng.permutation(images.rows)[:N_OWN]
    sky = backgrounds_left(past, data.images.take(some), y[some])
    batch = _with_simulated(
        own, past, settings, y[images.rows], sky, net.generator, rng
    )
    net.fit_batches(
        batch.map(lambda values: values.numpy()),
        n_epochs=N_EPOCHS,
        n_before=len(history["epoch"]),
        state={"history": history},
    )
    net.set_weights(_averaged(net.get_weights(), past.net.get_weights()))
    adapted = replace(codec, net=net)
    adapted = adapted.with_reference(data.images, evenly_spaced(images.rows))
    adapted = replace(
        adapted,
        reference=past.reference.joined(adapted.reference),
        error_scale=_error_scale(adapted, data, held_out),
    )
    return adapted, net.history_table()


def _training_set(codec, data, settings, rng):
    """Return images to train on, the targets of all rows, and rows held out."""
    train, held_out = _split(data, rng)
    y = data.y
    if np.isnan(y).all():
        train = np.sort(rng.permutation(train)[:N_OWN])
        y = np.full_like(y, np.nan)
        y[train] = fitted_targets(codec, data.images.take(train))
    scaler = codec.image_scaler.with_fences_of(data.images, train)
    images = TrainingImages(data.images, train, scaler)
    warn_of_unusual([images], data.images, settings)
    if settings.limits == "robust":
        images.keep_usual()
    return images, y, held_out


def check_adaptable(codec, gain):
    """Raise ValueError unless galaxies can be simulated for a codec with this gain."""
    reason = None
    if codec.guess is None:
        reason = f"network={codec.network!r}"
    elif codec.gain is None:
        reason = "gain=None"
    else:
        names = codec.layout.target_names
        missing = set(parameters_of_layout(codec.layout).names) - set(names)
        reason = f"no targets {sorted(missing)}" if missing else None
    if reason:
        raise ValueError(
            f"adapt needs a {NAME} that was fitted with network='sersic' or "
            "augmentation='simulation', a gain, and all parameters of the profile as "
            f"targets. Got one with {reason}."
        )
    if as_gain(gain) != codec.gain:
        raise ValueError(
            f"The 'gain' parameter of {NAME} must stay {codec.gain} to adapt an "
            f"earlier fit; rescale changes it. Got {gain!r}."
        )


def fitted_targets(codec, images):
    """Return the targets (n, n_targets) of profile fits; NaN where a fit failed."""
    fitter = ProfileFitter.of_codec(codec, MAX_STEPS)
    start = fitter.start_from(codec.read_targets(images).median())
    measured = fitter.fit(images, start)
    names = codec.layout.target_names
    y = fitter.profile.named(measured.parameters, names, codec.pixel_scale)
    failed = measured.at_limit.any(axis=1) | ~np.isfinite(y).all(axis=1)
    if failed.all():
        raise ValueError(
            "X must have stamps with galaxies that a profile fits, without y. Got "
            f"{len(images)} stamps whose fits all failed or ended at a bound."
        )
    y[failed] = np.nan
    return y


def _split(data, rng):
    """Return rows to train on, and labelled rows to measure errors on."""
    labelled = data.rows[~np.isnan(data.y[data.rows]).any(axis=1)]
    n_held_out = round(HELD_OUT * len(labelled))
    if n_held_out < LEAST_HELD_OUT:
        return data.rows, labelled[:0]
    held_out = np.sort(rng.permutation(labelled)[:n_held_out])
    return np.setdiff1d(data.rows, held_out), held_out


def _build_net(codec, settings, symmetry, rng):
    """Return a net that trains a copy of the weights of a codec."""
    changed = {
        "gamma": 0.0,
        "physical_loss": codec.physical_loss,
        "batch_size": BATCH_SIZE,
        "optimizer": "adamw",
        "lr": LEARNING_RATE,
        "lr_schedule": "one_cycle",
        "callbacks": None,
    }
    settings = SimpleNamespace(**(vars(settings) | changed))
    seed = int(rng.integers(np.iinfo(np.int32).max))
    return training_net(codec, settings, symmetry, None, seed, codec.net.module_)


def _averaged(new, old):
    """Return the weighted mean of new and old weights, by name."""
    return {
        name: old[name] + SHARE_OF_NEW * (weights - old[name])
        if weights.dtype.kind == "f"
        else weights
        for name, weights in new.items()
    }


def _with_simulated(own, codec, settings, y, sky, generator, rng):
    """Return stamps of the survey and simulated stamps of both surveys, as tensors.

    Simulated stamps of this survey have the parameters of its stamps or of the first
    training, in equal numbers, and the backgrounds that are left on its stamps.
    """
    n = len(own.images)
    n_own, n_here, n_there = _numbers_of_stamps(codec.layout)
    stamps = BatchDataset(own)
    past = _past_targets(codec)
    known = y[~np.isnan(y).any(axis=1)]
    copies = np.resize(known, (len(past) if len(known) else 0, past.shape[1]))
    parts = {"light_scale": codec.light_scale.to("cpu"), "generator": generator}
    there = make_simulation(codec, past, settings) | parts
    here = make_simulation(codec, np.concatenate([past, copies]), settings) | parts
    if len(sky):
        here["sky"] = sky
    like = stamps[rng.integers(n, size=n_here)]
    planes = BatchDataset(_past_planes(codec, rng))
    before = planes[rng.integers(N_PLANES, size=n_there)]
    return joined(
        [
            stamps[np.resize(rng.permutation(n), n_own)],
            SimulatedGalaxies(**here)(like),
            SimulatedGalaxies(**there)(before),
        ]
    )


def backgrounds_left(codec, images, y):
    """Return the backgrounds (m, n_bands) of stamps whose targets are all known.

    They are medians of the residuals, image minus galaxy, in units of the median noise
    of the stamp.
    """
    rows = np.flatnonzero(~np.isnan(y).any(axis=1))
    if not len(rows):
        return np.zeros((0, images.shape[1]))
    images = images.take(rows)
    z_phy = codec.scale_targets(y[rows])
    rest = np.zeros((len(rows), codec.latent_dim - z_phy.shape[1]), np.float32)
    light = codec.light_of(images, np.hstack([z_phy, rest]))
    left = images[:] - codec.image_scaler.sky_ - light
    noise = codec.image_scaler.noise_[:, 0, 0]
    if images.variance is not None:
        noise = np.sqrt(np.median(images.variance[:], axis=(2, 3)))
    return np.nanmedian(left, axis=(2, 3)) / noise


def _numbers_of_stamps(layout):
    """Return the numbers of stamps of each kind, fewer if they are large."""
    numbers = np.array([N_OWN, N_HERE, N_THERE])
    share = MOST_VALUES / (layout.n_features * numbers.sum())
    return np.ceil(numbers * min(1.0, share)).astype(int)


def _past_targets(codec):
    """Return targets like those of the first training, from its reference."""
    latents = codec.reference.latents[:, : codec.layout.n_targets]
    low, high = codec.training_range.targets
    return codec.target_scaler.inverse_transform(latents).clip(low, high)


def _past_planes(codec, rng):
    """Return a `Batch` with planes like those of the first training.

    PSFs are Gaussians with its widths. The noise of a stamp is even.
    """
    shape, planes = codec.layout.band_shape, codec.layout.planes
    seen, size = codec.training_range, (N_PLANES, codec.layout.band_shape[0])
    psf, variance = codec.psf, None
    if psf is None:
        widths = np.exp(rng.uniform(*seen.of_plane("psf", planes), size))
        widths = np.sqrt(np.maximum(widths**2 - PIXEL_FWHM**2, PIXEL_FWHM**2))
        one_band = (1, *shape[1:])
        psfs = [gaussian_psf(width, one_band) for width in widths.ravel()]
        psf = np.reshape(psfs, (N_PLANES, *shape))
    if "variance" in planes:
        noise = np.exp(rng.uniform(*seen.of_plane("variance", planes), size))
        variance = np.broadcast_to(noise[..., None, None] ** 2, (N_PLANES, *shape))
        variance = ScaledVariance(variance, codec.light_unit)[:]
    psf = np.broadcast_to(psf, (N_PLANES, *shape)).astype(np.float32)
    return Batch(psf, psf=psf, variance=variance)


def _error_scale(codec, data, rows):
    """Return the factors (n_targets,) of the predicted errors, from labelled rows."""
    if not (codec.predicts_variance and len(rows)):
        return codec.error_scale
    targets = codec.read_targets(data.images.take(rows))
    wanted = codec.target_scaler.to_logarithms(data.y[rows])
    with np.errstate(divide="ignore", invalid="ignore"):
        pulls = abs(targets.mean - wanted) / np.sqrt(targets.variance)
    pulls = pulls[np.isfinite(pulls).all(axis=1)]
    if not len(pulls):
        return codec.error_scale
    share = 2 * norm.cdf(1) - 1
    factor = np.quantile(pulls, share, axis=0).clip(1 / MOST_CHANGED, MOST_CHANGED)
    known = len(pulls) / (len(pulls) + N_PRIOR)
    return codec.error_scale * factor**known
