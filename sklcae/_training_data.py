"""From checked images and targets to what the net trains on."""

import numpy as np

from sklcae._compat import _check_sample_weight
from sklcae._images import fill_masked
from sklcae._torch import Stamps

__all__ = [
    "check_sample_weight",
    "check_some_targets",
    "leave_out_weightless",
    "make_stamps",
]


def check_sample_weight(sample_weight, X):
    """Return weights of shape (n,), float64, or None for None.

    Parameters
    ----------
    sample_weight : array-like of shape (n,), number or None
        What the user passed.
    X : ndarray of shape (n, p)
        The images.

    Raises
    ------
    ValueError
        If weights are negative, not finite, all zero, or not one for each image.
    """
    if sample_weight is None:
        return None
    weights = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    if not weights.any():
        raise ValueError(
            "sample_weight must have a weight above zero. Got zero for all images."
        )
    return weights


def leave_out_weightless(images, y, weights):
    """Return what has a weight above zero; no weights where they are all the same.

    Parameters
    ----------
    images, y : ndarray of shape (n, ...)
        Images and targets.
    weights : ndarray of shape (n,) or None
        Their weights.
    """
    if weights is None:
        return images, y, None
    if not weights.all():
        rows = weights > 0
        images, y, weights = images[rows], y[rows], weights[rows]
    return images, y, None if weights.min() == weights.max() else weights


def check_some_targets(y, names):
    """Raise ValueError if a target is missing in all rows.

    Parameters
    ----------
    y : ndarray of shape (n, n_targets)
        Targets, NaN where one is missing.
    names : list of str or None
        Names of the targets.
    """
    missing = np.isnan(y).all(axis=0)
    if missing.any():
        columns = np.flatnonzero(missing)
        named = [names[i] for i in columns] if names else columns.tolist()
        raise ValueError(
            "Input y contains NaN for all images to train on. Each target must be "
            f"known for one image at least. Got none for the targets {named}."
        )


def make_stamps(images, y, sample_weight, image_scaler, target_scaler):
    """Scale and weigh what the net trains on.

    Parameters
    ----------
    images : ndarray of shape (n, C, H, W)
        Images, NaN where a pixel is masked.
    y : ndarray of shape (n, n_targets)
        Targets, NaN where one is missing.
    sample_weight : ndarray of shape (n,) or None
        Weights of the images.
    image_scaler, target_scaler : ImageScaler and StandardScaler
        The fitted scalers.

    Returns
    -------
    Stamps
        Of arrays. What all weighs the same is None.
    """
    filled, pixel_mask = fill_masked(images)
    known = ~np.isnan(y)
    targets = np.where(known, target_scaler.transform(y), 0)
    return Stamps(
        image_scaler.transform(filled),
        targets.astype(np.float32),
        None if sample_weight is None else _mean_one(sample_weight),
        _target_weights(known, sample_weight),
        pixel_mask,
    )


def _target_weights(known, sample_weight):
    """Return weights that leave out missing targets, for each target of mean 1."""
    if sample_weight is None:
        return None if known.all() else _mean_one(known)
    return _mean_one(known * sample_weight[:, None])


def _mean_one(weights):
    mean = weights.mean(axis=0)
    # The few images of a validation may lack a target altogether.
    return (weights / np.where(mean > 0, mean, 1)).astype(np.float32)
