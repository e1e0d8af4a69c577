"""From checked images and targets to what the net trains on."""

import numpy as np
from sklearn.utils import gen_batches

from sklcae._compat import _check_sample_weight
from sklcae._torch import Stamps

__all__ = [
    "check_sample_weight",
    "check_some_targets",
    "leave_out_weightless",
    "make_stamps",
]

CHUNK_SIZE = 64


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


class ScaledImages:
    """Images that are scaled when they are taken out: no scaled copy of all is held.

    Parameters
    ----------
    images : ndarray of shape (n, C, H, W)
        Images without NaN.
    rows : int array of shape (m,)
        Which of them these are.
    image_scaler : ImageScaler
        The fitted scaler.

    Raises
    ------
    ValueError
        If an image overflows when it is scaled.
    """

    def __init__(self, images, rows, image_scaler):
        self.images, self.rows, self.image_scaler = images, rows, image_scaler
        for part in gen_batches(len(rows), CHUNK_SIZE):
            self[part]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, which):
        return self.image_scaler.transform(self.images[self.rows[which]])


def make_stamps(images, pixel_mask, y, sample_weight, scalers, rows):
    """Scale and weigh what the net trains on.

    Parameters
    ----------
    images : ndarray of shape (n, C, H, W)
        Images without NaN.
    pixel_mask : bool ndarray of shape (n, C, H, W) or None
        True where a pixel counts; None where all do.
    y : ndarray of shape (n, n_targets)
        Targets, NaN where one is missing.
    sample_weight : ndarray of shape (n,) or None
        Weights of the images.
    scalers : tuple of ImageScaler and StandardScaler
        The fitted scalers of images and targets.
    rows : int array of shape (m,)
        Which of the images to train on.

    Returns
    -------
    Stamps
        Of what is indexed as arrays are. What all weighs the same is None.
    """
    image_scaler, target_scaler = scalers
    y = y[rows]
    weights = None if sample_weight is None else sample_weight[rows]
    known = ~np.isnan(y)
    targets = np.where(known, target_scaler.transform(y), 0)
    return Stamps(
        ScaledImages(images, rows, image_scaler),
        targets.astype(np.float32),
        None if weights is None else _mean_one(weights),
        _target_weights(known, weights),
        None if pixel_mask is None else pixel_mask[rows],
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
