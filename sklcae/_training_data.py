"""From checked images and targets to what the net trains on."""

from typing import NamedTuple

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, train_test_split
from sklearn.utils import check_consistent_length, column_or_1d, gen_batches

from sklcae._compat import _check_sample_weight
from sklcae._images import check_not_masked
from sklcae._torch import Partners, Stamps

__all__ = [
    "FitData",
    "check_groups",
    "check_sample_weight",
    "check_some_exchange",
    "check_some_targets",
    "check_some_together",
    "hold_out",
    "leave_out_weightless",
    "make_stamps",
]

CHUNK_SIZE = 64


class FitData(NamedTuple):
    """Checked data of a fit.

    Attributes
    ----------
    images : ndarray of shape (n, C, H, W)
        The images.
    y : ndarray of shape (n, n_targets)
        Targets, NaN where one is missing.
    weights : ndarray of shape (n,) or None
        Weights of the images; None where all weigh the same.
    groups : int ndarray of shape (n,) or None
        Which images belong together.
    """

    images: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    groups: np.ndarray | None

    def hashed(self):
        """Return what decides how the fit goes; groups only where there are some."""
        return self[:3] if self.groups is None else tuple(self)


def check_groups(groups, X, gamma):
    """Return the groups as integers of shape (n,), or None where they have no part.

    Parameters
    ----------
    groups : array-like of shape (n,) or None
        What the user passed.
    X : ndarray of shape (n, p)
        The images.
    gamma : float
        Weight of the exchange loss.

    Raises
    ------
    ValueError
        If groups are needed and not there, are not one for each image, or are missing
        for some.
    """
    if groups is None and gamma == 0:
        return None
    if groups is None:
        raise ValueError(
            "The 'groups' parameter must tell which images differ in their targets "
            f"only, since gamma is {gamma:g}. Got None."
        )
    check_not_masked(groups, "groups")
    groups = column_or_1d(groups)
    check_consistent_length(X, groups)
    return None if gamma == 0 else _number_labels(groups)


def _number_labels(groups):
    try:
        labels, numbers = np.unique(groups, return_inverse=True)
    except TypeError as error:
        # Such as None among strings.
        raise ValueError(
            "The 'groups' parameter must have labels of one kind, one for each image. "
            f"Got some that cannot be compared: {error}."
        ) from error
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise ValueError(
            "The 'groups' parameter must have a label for each image. Got NaN."
        )
    return numbers


def check_some_together(groups, gamma):
    """Raise ValueError if no image to train on has another one in its group.

    Parameters
    ----------
    groups : int ndarray of shape (n,) or None
        What `check_groups` returned.
    gamma : float
        Weight of the exchange loss.
    """
    if groups is not None and np.bincount(groups).max() < 2:
        raise ValueError(
            "The 'groups' parameter must have a group of two images or more, since "
            f"gamma is {gamma:g}. Got {len(groups)} groups of one image."
        )


def check_some_exchange(stamps, gamma):
    """Raise ValueError if no image to train on has a partner.

    Parameters
    ----------
    stamps : Stamps
        What is trained on, with partners or None.
    gamma : float
        Weight of the exchange loss.
    """
    if stamps.partners is not None and not stamps.partners.n_others.any():
        raise ValueError(
            "The 'groups' parameter must leave images to exchange with, since gamma is "
            f"{gamma:g}. Got none: each image is alone in its group, or all others "
            "lack a target or are held out."
        )


def hold_out(data, fraction, seed):
    """Return rows to train on and rows to validate with.

    Where there are several groups, whole ones of them.

    Parameters
    ----------
    data : FitData
        The data.
    fraction : float
        The share to validate with.
    seed : int
        Source of the choice.
    """
    rows = np.arange(len(data.y))
    if data.groups is None or data.groups.min() == data.groups.max():
        return train_test_split(rows, test_size=fraction, random_state=seed)
    splitter = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
    return next(splitter.split(rows, groups=data.groups))


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


def leave_out_weightless(data):
    """Return what has a weight above zero; no weights where they are all the same.

    Parameters
    ----------
    data : FitData
        The data.
    """
    weights = data.weights
    if weights is None:
        return data
    if not weights.all():
        rows = weights > 0
        data = FitData(*(None if part is None else part[rows] for part in data))
    same = data.weights.min() == data.weights.max()
    return data._replace(weights=None) if same else data


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


def make_stamps(data, images, pixel_mask, scalers, rows):
    """Scale and weigh what the net trains on.

    Parameters
    ----------
    data : FitData
        The data, of which the images are not looked at.
    images : ndarray of shape (n, C, H, W)
        Images without NaN.
    pixel_mask : bool ndarray of shape (n, C, H, W) or None
        True where a pixel counts; None where all do.
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
    y = data.y[rows]
    weights = None if data.weights is None else data.weights[rows]
    known = ~np.isnan(y)
    targets = np.where(known, target_scaler.transform(y), 0)
    partners = None
    if data.groups is not None:
        # Decoding a partner takes all of its targets.
        partners = Partners(data.groups[rows], known.all(axis=1), weights)
    return Stamps(
        ScaledImages(images, rows, image_scaler),
        targets.astype(np.float32),
        None if weights is None else _mean_one(weights),
        _target_weights(known, weights),
        None if pixel_mask is None else pixel_mask[rows],
        partners,
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
