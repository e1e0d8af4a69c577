"""X, y, weights and groups: checked, and gathered in records that nothing changes.

The checks read the parameters of the estimator and never write to it.
"""

import re
from math import isqrt, prod
from numbers import Integral
from typing import NamedTuple

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.validation import validate_data

from sklcae._compat import _check_sample_weight, _get_feature_names
from sklcae._masking import check_nan_pixels, check_not_masked, masked_to_nan
from sklcae._symmetry import check_turnable
from sklcae.exceptions import ImageShapeError

NAME = "ConditionalAutoencoderRegressor"


class Layout(NamedTuple):
    """The form of images and targets.

    ``image_shape`` is (C, H, W); ``sample_shape`` is the shape of one image in X, (p,),
    (H, W) or (C, H, W). Names are None if y or X had no column names.
    """

    image_shape: tuple[int, int, int]
    sample_shape: tuple[int, ...]
    n_targets: int
    y_ndim: int
    target_names: list[str] | None
    feature_names: list[str] | None

    @property
    def n_features(self):
        """Number of values in an image."""
        return prod(self.image_shape)


class TrainingData(NamedTuple):
    """Checked data of a fit.

    Images (n, C, H, W) and targets y (n, n_targets) are NaN where a pixel is masked or
    a target missing. Weights (n,) are None if equal, groups (n,) are numbers or None.
    """

    images: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    groups: np.ndarray | None
    layout: Layout

    def hashed(self):
        """Return the arrays that decide the fit; groups only if there are some."""
        return self[:3] if self.groups is None else self[:4]


def check_training_data(estimator, X, y, sample_weight, groups, previous):
    """Check the arguments of ``fit``, and leave out images of weight 0.

    `previous` is the layout of the fit that this one continues, or None. Raises
    ValueError if anything is wrong.
    """
    check_not_masked(y, "y")
    rows, shape, feature_names = _check_rows(estimator, X, y, previous)
    names = target_names_of(y) or (previous.target_names if previous else None)
    targets = _check_targets(estimator, y, rows)
    layout = Layout(
        image_shape=resolve_image_shape(shape, rows.shape[1], estimator.image_shape),
        sample_shape=shape or rows.shape[1:],
        n_targets=prod(targets.shape[1:]),
        y_ndim=targets.ndim,
        target_names=names,
        feature_names=feature_names,
    )
    _check_same_layout(layout, previous)
    _check_targets_fit(estimator, layout)
    data = _without_weightless(
        TrainingData(
            images=rows.reshape(len(rows), *layout.image_shape),
            y=targets.reshape(len(targets), -1),
            weights=_check_weights(sample_weight, rows),
            groups=_check_groups(groups, rows, estimator.gamma),
            layout=layout,
        )
    )
    _check_some_together(data.groups, estimator.gamma)
    return data


def check_images(estimator, X, layout):
    """Check images for a fitted estimator, and return them as (n, C, H, W)."""
    rows, shape, _ = _check_rows(estimator, X, "no_validation", layout)
    if shape is not None and (1, *shape)[-3:] != layout.image_shape:
        raise ImageShapeError(
            f"X must hold images of the shape {layout.image_shape}, channels, height "
            f"and width, as in fit. Got {shape} instead."
        )
    return rows.reshape(len(rows), *layout.image_shape)


def check_wanted_targets(estimator, y, layout):
    """Check targets of images to be made, and return them as (n, n_targets)."""
    check_not_masked(y, "y")
    names = target_names_of(y)
    if names and layout.target_names and names != layout.target_names:
        raise ValueError(
            f"The columns of y must be the targets of the fit, {layout.target_names}. "
            f"Got {names} instead."
        )
    y = check_array(
        y, dtype=np.float64, ensure_2d=False, input_name="y", estimator=estimator
    )
    y = y.reshape(-1, 1) if y.ndim == 1 and layout.n_targets == 1 else y
    if y.ndim != 2 or y.shape[1] != layout.n_targets:
        raise ValueError(
            f"y must have the shape (n_samples, {layout.n_targets}), one column for "
            f"each target of the fit. Got {y.shape} instead."
        )
    return y


def check_latents(estimator, Z, names):
    """Check latents, whose columns have these names if any, and return float32."""
    columns = list(getattr(Z, "columns", ()))
    named = columns and all(isinstance(name, str) for name in columns)
    if named and len(columns) == len(names) and columns != list(names):
        raise ValueError(
            "The columns of Z must be the latents in the order of "
            f"get_feature_names_out(), {_shorten(names)}. Got {_shorten(columns)} "
            "instead."
        )
    Z = check_array(Z, dtype=np.float32, input_name="Z", estimator=estimator)
    if Z.shape[1] != len(names):
        raise ValueError(
            f"Z must have {len(names)} columns, one for each latent of this {NAME}. "
            f"Got {Z.shape[1]} instead."
        )
    return Z


def _shorten(names):
    names = list(names)
    return f"{names[:4]}..." if len(names) > 4 else f"{names}"


# Images ---------------------------------------------------------------------------


def _check_rows(estimator, X, y, layout):
    """Return images as rows, NaN where masked, their shape or None, and column names.

    Without a layout the estimator has not been fitted.
    """
    if estimator.allow_nan:
        X = masked_to_nan(X)
    check_not_masked(X, "X")
    X, shape = flatten_images(X)
    checks = {"dtype": [np.float64, np.float32], "ensure_all_finite": "allow-nan"}
    if layout is not None:
        names = layout.feature_names
        # y=None is an error; targets are checked apart, since some may be missing.
        y = None if y is None else "no_validation"
        X = validate_data(estimator, X, y, reset=False, **checks)
    else:
        # As validate_data, which would write the names to the estimator.
        names = _get_feature_names(X)
        names = None if names is None else list(names)
        if y is None:
            raise ValueError(
                f"This {NAME} estimator requires y to be passed, but the target y is "
                "None."
            )
        X = check_array(X, input_name="X", estimator=estimator, **checks)
    check_nan_pixels(X, estimator.allow_nan)
    return X, shape, names


def flatten_images(X):
    """Return X with one row an image, and the shape of one image or None.

    The shape is None unless X is an array or nested lists with three or four axes.
    Anything else, such as a DataFrame, is left to scikit-learn's checks.
    """
    if not hasattr(X, "shape") and not hasattr(X, "__array__"):
        X = _nested_lists_to_array(X)
    shape = getattr(X, "shape", ())
    if len(shape) not in (3, 4):
        return X, None
    X = np.asarray(X)
    return X.reshape(len(X), prod(shape[1:])), tuple(shape[1:])


def _nested_lists_to_array(X):
    try:
        return np.asarray(X)
    except ValueError:
        # Ragged rows: scikit-learn's checks describe the error.
        return X


def resolve_image_shape(shape, n_pixels, image_shape=None):
    """Return (C, H, W) of images, or raise if the shapes contradict each other.

    `shape` comes from `flatten_images`, `image_shape` is the parameter. Without either,
    flat rows are assumed to be square images when the number of pixels is a perfect
    square, and else images of one row of pixels.
    """
    wanted = None if image_shape is None else _check_image_shape(image_shape)
    if shape is not None:
        found = _with_channel(shape)
        if wanted not in (None, found):
            raise ImageShapeError(
                f"The 'image_shape' parameter must be the shape of the images in X, "
                f"{shape}. Got {image_shape!r} instead."
            )
        return found
    if wanted is None:
        side = isqrt(n_pixels)
        return (1, side, side) if side * side == n_pixels else (1, 1, n_pixels)
    if prod(wanted) != n_pixels:
        raise ImageShapeError(
            f"The 'image_shape' parameter must have as many pixels as a row of X, "
            f"{n_pixels}. Got {image_shape!r} instead, which has {prod(wanted)}."
        )
    return wanted


def _check_image_shape(shape):
    if len(shape) not in (2, 3) or not all(
        isinstance(length, Integral) and length > 0 for length in shape
    ):
        raise ValueError(
            f"The 'image_shape' parameter of {NAME} must be (H, W) or (C, H, W) with "
            f"positive integers, or None. Got {shape!r} instead."
        )
    return _with_channel(shape)


def _with_channel(shape):
    shape = tuple(int(length) for length in shape)
    return shape if len(shape) == 3 else (1, *shape)


# Targets --------------------------------------------------------------------------


def target_names_of(y):
    """Return the names of the columns of y, or None if it has no names.

    Only a DataFrame or a Series has names, and only if all of them are strings. Raises
    ValueError if a name occurs twice, or belongs to another latent.
    """
    columns = getattr(y, "columns", None)
    names = [getattr(y, "name", None)] if columns is None else list(columns)
    if not names or not all(isinstance(name, str) and name for name in names):
        return None
    if len(set(names)) < len(names):
        raise ValueError(f"The columns of y must have different names. Got {names}.")
    taken = [
        name
        for i, name in enumerate(names)
        if re.fullmatch(r"z_(phy|rest)\d+", name) and name != f"z_phy{i}"
    ]
    if taken:
        raise ValueError(
            "The columns of y must not have the names of other latents, z_phy0, ... "
            f"and z_rest0, ... Got {taken}."
        )
    return names


def _check_targets(estimator, y, X):
    """Return targets with one or two axes, float64, NaN where one is missing."""
    y = check_array(
        y,
        dtype=np.float64,
        order="C",
        ensure_2d=False,
        ensure_all_finite="allow-nan",
        input_name="y",
        estimator=estimator,
    )
    if y.ndim == 0:
        raise ValueError(f"y must have one row for each image. Got {y}.")
    check_consistent_length(X, y)
    return y


def _check_targets_fit(estimator, layout):
    """Raise ValueError unless latents and turns are possible with the targets."""
    if estimator.latent_dim <= layout.n_targets:
        raise ValueError(
            f"The 'latent_dim' parameter of {NAME} must be greater than the number of "
            f"targets, which is {layout.n_targets}. Got {estimator.latent_dim} instead."
        )
    if estimator.augmentation is not None:
        check_turnable(layout.target_names, estimator.invariant_targets)


def _check_same_layout(layout, previous):
    for name in ("image_shape", "n_targets", "target_names"):
        if previous is not None and getattr(previous, name) != getattr(layout, name):
            raise ValueError(
                f"X and y must be like those of the fit to continue, with {name}_ of "
                f"{getattr(previous, name)}. Got {getattr(layout, name)} instead."
            )


# Weights and groups -----------------------------------------------------------------


def _check_weights(sample_weight, X):
    """Return weights of shape (n,), float64, or None for None."""
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


def _without_weightless(data):
    """Return the data with a weight above zero; no weights if all are equal."""
    weights = data.weights
    if weights is None:
        return data
    if not weights.all():
        rows = weights > 0
        arrays = (None if part is None else part[rows] for part in data[:4])
        data = TrainingData(*arrays, data.layout)
    same = data.weights.min() == data.weights.max()
    return data._replace(weights=None) if same else data


def _check_groups(groups, X, gamma):
    """Return the groups as integers of shape (n,), or None if they are not used."""
    if groups is None and gamma == 0:
        return None
    if groups is None:
        raise ValueError(
            "The 'groups' parameter must name the images that differ in their targets "
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
        # For example None among strings.
        raise ValueError(
            "The 'groups' parameter must have labels of one kind, one for each image. "
            f"Got some that cannot be compared: {error}."
        ) from error
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise ValueError(
            "The 'groups' parameter must have a label for each image. Got NaN."
        )
    return numbers


def _check_some_together(groups, gamma):
    """Raise ValueError if no group has two images."""
    if groups is not None and np.bincount(groups).max() < 2:
        raise ValueError(
            "The 'groups' parameter must have a group of two images or more, since "
            f"gamma is {gamma:g}. Got {len(groups)} groups of one image."
        )
