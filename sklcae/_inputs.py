"""X, y, weights and groups: checked, and gathered in records that nothing changes.

The checks read the parameters of the estimator and never write to it.
"""

import os
import re
from math import isqrt, prod
from numbers import Integral
from typing import NamedTuple

import numpy as np
from sklearn.utils import (
    assert_all_finite,
    check_array,
    check_consistent_length,
    column_or_1d,
    gen_batches,
)

from sklcae._compat import (
    _check_feature_names,
    _check_sample_weight,
    _get_feature_names,
)
from sklcae._images import CHUNK_SIZE, Images, float_type
from sklcae._masking import check_not_masked, masked_to_nan
from sklcae._symmetry import TURNING_TARGETS, check_turnable
from sklcae._units import check_no_unit
from sklcae._warning import warn_user
from sklcae.exceptions import ImageShapeError

NAME = "ConditionalAutoencoderRegressor"
# Images with the colours last have at most so many, and more rows and columns.
MANY_COLOURS = 10
# Shorter flat rows are not images of a galaxy, and nothing is said of their shape.
FEWEST_PIXELS = 100
# The mean of larger or smaller weights would leave the range of float64.
EXTREME_WEIGHTS = (1e-100, 1e100)


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

    Targets y (n, n_targets) are NaN where one is missing, and those whose columns are
    listed in ``logarithmic`` are positive. Weights (n,) are None if equal, groups (n,)
    are numbers or None. The training uses some ``rows`` only: others have the weight 0
    or no pixel that is not masked.
    """

    images: Images
    y: np.ndarray
    weights: np.ndarray | None
    groups: np.ndarray | None
    rows: np.ndarray
    logarithmic: tuple[int, ...]
    layout: Layout

    def hashed(self):
        """Return the arrays that decide the fit; groups only if there are some."""
        arrays = self.images.raw, self.y, self.weights
        return arrays if self.groups is None else (*arrays, self.groups)


def check_training_data(estimator, X, y, sample_weight, groups, previous):
    """Check the arguments of ``fit``, and list the rows that the training uses.

    `previous` is the layout of the fit that this one continues, or None. Raises
    ValueError if anything is wrong.
    """
    rows, shape, empty, feature_names = _check_rows(estimator, X, y, previous)
    y = _without_traps(y, "y")
    names = _resolve_names(estimator, y, previous)
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
    targets = targets.reshape(len(targets), -1)
    data = TrainingData(
        images=_as_images(rows, layout, empty),
        y=targets,
        weights=_check_weights(sample_weight, rows),
        groups=_check_groups(groups, rows, estimator.gamma),
        rows=np.setdiff1d(np.arange(len(rows)), empty),
        logarithmic=_find_logarithmic(estimator, targets, names),
        layout=layout,
    )
    data = _without_weightless(data)
    _check_some_together(data, estimator.gamma)
    return data


def check_images(estimator, X, layout):
    """Check images for a fitted estimator, and return them as `Images`."""
    rows, _, empty, _ = _check_rows(estimator, X, "no_validation", layout)
    return _as_images(rows, layout, empty)


def _as_images(rows, layout, empty):
    return Images(rows.reshape(len(rows), *layout.image_shape), empty)


def check_wanted_targets(estimator, y, layout):
    """Check targets of images to be made, and return them as (n, n_targets)."""
    y = _without_traps(y, "y")
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
    """Return images as rows, their shape or None, their empty rows, and column names.

    The rows have any numeric type, and are NaN where a pixel is masked. Without a
    layout the estimator has not been fitted.
    """
    X, given = _plain_images(estimator, X), X
    X, shape = flatten_images(X)
    if y is None:
        raise ValueError(
            f"This {NAME} estimator requires y to be passed, but the target y is None."
        )
    rows = _check_numbers(estimator, X)
    if layout is None:
        # validate_data would write the names to the estimator.
        names = _get_feature_names(X)
        names = None if names is None else list(names)
        _check_channels_first(shape, estimator.image_shape)
    else:
        names = layout.feature_names
        _check_feature_names(estimator, X, reset=False)
        _check_shape(rows, shape, layout, getattr(given, "shape", ()))
    return rows, shape, _find_empty(estimator, rows), names


def _plain_images(estimator, X):
    X = _without_traps(X, "X", masked=estimator.allow_nan)
    if isinstance(X, np.ndarray) or not hasattr(X, "__array__"):
        return X
    # A table keeps its names, and an array of another library becomes one of NumPy.
    return X if hasattr(X, "columns") else np.asarray(X)


def _without_traps(values, name, masked=False):
    """Return an array-like; refuse those that NumPy would take for something else.

    Masked entries become NaN if they are allowed.
    """
    if isinstance(values, str | os.PathLike):
        raise TypeError(
            f"{name} must be an array. Got the name {os.fspath(values)!r}: read the "
            "file first, for example by numpy.load or astropy.io.fits.getdata."
        )
    check_no_unit(values, name)
    elements = values if isinstance(values, list | tuple) else ()
    for value in (values, *elements[:1]):
        dtype = getattr(value, "dtype", None)
        if hasattr(value, "colnames") or getattr(dtype, "names", None):
            raise TypeError(
                f"{name} must be an array of numbers or a DataFrame. Got a "
                f"{type(value).__name__} with named columns: pass its method "
                "to_pandas(), or a list of its columns by numpy.column_stack."
            )
        if hasattr(value, "mask") and hasattr(value, "uncertainty"):
            raise TypeError(
                f"{name} must be plain numbers. Got a {type(value).__name__}: pass "
                "numpy.ma.masked_array(image.data, image.mask), which keeps its mask."
            )
    if any(isinstance(value, np.ma.MaskedArray) for value in elements):
        values = np.ma.stack(elements)
    if masked:
        return masked_to_nan(values)
    hint = "fill or drop them first"
    if name == "X":
        hint = "set allow_nan=True if they are masked pixels, or fill them first"
    check_not_masked(values, name, hint)
    return values


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


def _check_channels_first(shape, image_shape):
    if image_shape is not None or shape is None or len(shape) != 3:
        return
    n_rows, n_columns, n_last = shape
    if n_last <= MANY_COLOURS and n_last < min(n_rows, n_columns):
        raise ImageShapeError(
            "X must have the channels first, (n, C, H, W). Got images of the shape "
            f"{shape}, which seem to have the channels last: pass numpy.moveaxis(X, "
            f"-1, 1), or confirm the shape by image_shape={shape}."
        )


def _check_shape(rows, shape, layout, found):
    """Raise ImageShapeError unless images have the shape of the fit."""
    n_channels, height, width = layout.image_shape
    wanted = f"{height} x {width} pixels (H x W)"
    if n_channels > 1:
        wanted = f"{n_channels} channels of {wanted}"
    single = found in (layout.image_shape, layout.image_shape[1:])
    if single and rows.shape[1] != layout.n_features:
        raise ImageShapeError(
            f"X must be an array of images of {wanted}, as in fit. Got one image of "
            f"the shape {found}: pass X[numpy.newaxis]."
        )
    if shape is not None and (1, *shape)[-3:] != layout.image_shape:
        raise ImageShapeError(
            f"X must have images of {wanted}, as in fit. Got images of the shape "
            f"{shape}."
        )
    n_found = rows.shape[1]
    if n_found != layout.n_features:
        side = isqrt(n_found)
        square = f", {side} x {side} if they are square" if side**2 == n_found else ""
        raise ImageShapeError(
            f"X has {n_found} features, but {NAME} is expecting {layout.n_features} "
            f"features as input: images of {wanted}. Got images of {n_found} "
            f"pixels{square}."
        )


def _check_numbers(estimator, X):
    """Return X as an array with two axes, without a copy if it is a numeric array."""
    checks = {"input_name": "X", "estimator": estimator}
    if isinstance(X, np.ndarray) and X.dtype.kind in "buif":
        return check_array(X, dtype=None, ensure_all_finite=False, **checks)
    return check_array(
        X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", **checks
    )


def _find_empty(estimator, X):
    """Return rows without a pixel; raise ValueError unless they and NaN are allowed."""
    parts = [_masked_in(X[part]) for part in gen_batches(len(X), CHUNK_SIZE)]
    masked, empty = map(np.concatenate, zip(*parts, strict=True))
    if masked.any() and not estimator.allow_nan:
        raise ValueError(
            "Input X contains NaN. Set allow_nan=True if NaN stands for a masked "
            "pixel (a dead column, a cosmic ray), or fill the pixels first."
        )
    empty = np.flatnonzero(empty)
    if not len(empty):
        return empty
    if estimator.handle_empty == "error":
        raise ValueError(
            "X must have at least one pixel that is not NaN in each image, unless "
            f"handle_empty='nan'. Got {len(empty)} images without, the first in row "
            f"{empty[0]}."
        )
    warn_user(
        f"{len(empty)} of {len(X)} images have no pixel that is not NaN, the first in "
        f"row {empty[0]}. Their results are NaN, and they are left out of a fit.",
    )
    return empty


def _masked_in(rows):
    """Return which of a few rows have some NaN, and which have nothing else."""
    if rows.dtype.kind != "f":
        return np.zeros((2, len(rows)), bool)
    rows = rows.astype(float_type(rows.dtype), copy=False)
    assert_all_finite(rows, allow_nan=True, input_name="X", estimator_name=NAME)
    # The minimum is NaN if any pixel is, and needs no copy.
    masked = np.isnan(rows.min(axis=1))
    empty = masked.copy()
    empty[masked] = np.isnan(rows[masked]).all(axis=1)
    return masked, empty


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
        if side * side == n_pixels:
            return 1, side, side
        _warn_of_one_row(n_pixels)
        return 1, 1, n_pixels
    if prod(wanted) != n_pixels:
        raise ImageShapeError(
            f"The 'image_shape' parameter must have as many pixels as a row of X, "
            f"{n_pixels}. Got {image_shape!r} instead, which has {prod(wanted)}."
        )
    return wanted


def _warn_of_one_row(n_pixels):
    if n_pixels < FEWEST_PIXELS:
        return
    channels = range(2, MANY_COLOURS)
    colours = [c for c in channels if c * isqrt(n_pixels // c) ** 2 == n_pixels]
    side = isqrt(n_pixels // colours[0]) if colours else None
    example = f", for example ({colours[0]}, {side}, {side})" if colours else ""
    warn_user(
        f"Flat rows of {n_pixels} pixels are taken for images of one row of pixels, "
        "since their number is not a square. Pass image_shape=(H, W) or (C, H, W)"
        f"{example}; image_shape=(1, {n_pixels}) confirms it.",
    )


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
    return _check_names(names)


def _check_names(names):
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


def _resolve_names(estimator, y, previous):
    """Return the names of y, of the parameter or of the previous fit, or None."""
    names, given = target_names_of(y), estimator.target_names
    if given is None:
        return names or (previous.target_names if previous else None)
    given = list(given)
    if not given or not all(isinstance(name, str) and name for name in given):
        raise ValueError(
            f"The 'target_names' parameter of {NAME} must be a list of str, one name "
            f"for each column of y, or None. Got {given!r} instead."
        )
    if names not in (None, given):
        raise ValueError(
            f"The 'target_names' parameter of {NAME} must be the columns of y, "
            f"{names}, or None. Got {given!r} instead."
        )
    return _check_names(given)


def _find_logarithmic(estimator, y, names):
    """Return the columns of y whose logarithm is regressed."""
    wanted = estimator.log_targets
    if wanted is None:
        return ()
    if isinstance(wanted, str):
        columns = tuple(range(y.shape[1]))
    else:
        missing = [name for name in wanted if name not in (names or ())]
        if missing:
            raise ValueError(
                f"The 'log_targets' parameter of {NAME} must be 'all' or names of "
                f"targets, {names}. Got {missing}, which are not among them."
            )
        columns = tuple(sorted(names.index(name) for name in wanted))
    for column in columns:
        name = names[column] if names else column
        least = np.nanmin(y[:, column], initial=np.inf)
        if least <= 0:
            raise ValueError(
                f"y must be positive for the target {name!r} of 'log_targets'. Got "
                f"{least:g}."
            )
        turns = name in TURNING_TARGETS and estimator.augmentation is not None
        if turns and name not in (estimator.invariant_targets or ()):
            raise ValueError(
                f"The 'log_targets' parameter of {NAME} must not have a target that "
                f"turns with the image, with 'augmentation'. Got {name!r}."
            )
    return columns


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
    """Raise ValueError unless names, latents and turns suit the targets."""
    names = layout.target_names
    if names is not None and len(names) != layout.n_targets:
        raise ValueError(
            f"The 'target_names' parameter of {NAME} must have one name for each of "
            f"the {layout.n_targets} targets. Got {names} instead."
        )
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
    largest = weights.max()
    low, high = EXTREME_WEIGHTS
    return weights if low < largest < high else weights / largest


def _without_weightless(data):
    """Return the data without rows of weight zero; no weights if all are equal."""
    weights = data.weights
    if weights is None:
        return data
    rows = data.rows[weights[data.rows] > 0]
    if not len(rows):
        raise ValueError(
            "sample_weight must have a weight above zero for an image with a pixel "
            "that is not NaN. Got none."
        )
    used = weights[rows]
    return data._replace(
        rows=rows, weights=None if used.min() == used.max() else weights
    )


def _check_groups(groups, X, gamma):
    """Return groups as integers (n,), all zero for None; or None if not used."""
    if groups is None:
        return None if gamma == 0 else np.zeros(len(X), int)
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


def _check_some_together(data, gamma):
    """Raise ValueError if no group has two images, or if there is no image."""
    if not len(data.rows):
        raise ValueError("X must have an image with a pixel that is not NaN. Got none.")
    if data.groups is None:
        return
    groups = data.groups[data.rows]
    if np.bincount(groups).max() < 2:
        raise ValueError(
            "The 'groups' parameter must have a group of two images or more, since "
            f"gamma is {gamma:g}. Got {len(groups)} groups of one image."
        )
