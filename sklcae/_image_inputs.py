"""X: rows, images and images with channels, checked and without a copy."""

from math import isqrt, prod
from numbers import Integral

import numpy as np
from sklearn.utils import assert_all_finite, check_array

from sklcae._array_likes import without_traps
from sklcae._compat import _check_feature_names, _get_feature_names
from sklcae._images import float_type, parts_of
from sklcae._planes import check_planes, count_bands, split_planes
from sklcae._streaming import RowsOnDisk
from sklcae._warning import warn_user
from sklcae.exceptions import ImageShapeError

# Images with the colours last have at most so many, and more rows and columns.
MANY_COLOURS = 10
# Shorter flat rows are not images of a galaxy, and nothing is said of their shape.
FEWEST_PIXELS = 100


def check_rows(estimator, X, y, planes, layout):
    """Return stamps as rows, (C, H, W), shape or None, empty rows and column names.

    The rows have any numeric type, and are NaN where a pixel of the image is masked.
    The first shape is that of a stamp; the second one has the axes that it has in X,
    None if it is flat. Without a layout the estimator has not been fitted.
    """
    X, given = without_traps(X, "X", masked=estimator.allow_nan), X
    X, shape = flatten_images(X)
    if layout is not None and getattr(X, "shape", None) == (0, 0):
        # Dask passes an array without any axis to learn the form of a result.
        X, shape = np.zeros((0, layout.n_features), X.dtype), None
    if y is None:
        raise ValueError(
            f"This {_name(estimator)} estimator requires y to be passed, but the "
            "target y is None."
        )
    rows = _check_numbers(estimator, X, may_be_empty=layout is not None)
    if layout is None:
        # validate_data would write the names to the estimator.
        names = _get_feature_names(X)
        names = None if names is None else list(names)
        _check_channels_first(shape, estimator.image_shape)
        image_shape = resolve_image_shape(
            shape, rows.shape[1], estimator.image_shape, len(planes)
        )
        count_bands(image_shape[0], planes)
    else:
        names = layout.feature_names
        _check_feature_names(estimator, X, reset=False)
        _check_shape(estimator, rows, shape, layout, getattr(given, "shape", ()))
        image_shape = layout.image_shape
    n_pixels = rows.shape[1] // len(planes)
    empty = _find_empty(estimator, rows[:, :n_pixels])
    if len(planes) > 1:
        _check_other_planes(rows.reshape(len(rows), *image_shape), planes)
    return rows, image_shape, shape, empty, names


def _name(estimator):
    return type(estimator).__name__


def _check_other_planes(stamps, planes):
    """Raise ValueError unless variances and PSFs can be used."""
    for part in parts_of(len(stamps)):
        some = stamps[part].astype(float_type(stamps.dtype), copy=False)
        check_planes(split_planes(some, planes), part.start)


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
    X = X if isinstance(X, RowsOnDisk) else np.asarray(X)
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


def _check_shape(estimator, rows, shape, layout, found):
    """Raise ImageShapeError unless images have the shape of the fit."""
    n_channels, height, width = layout.image_shape
    wanted = f"{height} x {width} pixels (H x W)"
    if n_channels > 1:
        wanted = f"{n_channels} channels of {wanted}"
    if len(layout.planes) > 1:
        wanted = f"{wanted}, the planes {layout.planes} of stack_planes"
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
            f"X has {n_found} features, but {_name(estimator)} is expecting "
            f"{layout.n_features} features as input: images of {wanted}. Got images of "
            f"{n_found} pixels{square}."
        )


def _check_numbers(estimator, X, may_be_empty):
    """Return X as an array with two axes, without a copy if it is a numeric array."""
    checks = {"input_name": "X", "estimator": estimator}
    if may_be_empty:
        checks["ensure_min_samples"] = 0
    if isinstance(X, RowsOnDisk):
        if X.dtype.kind not in "buif":
            raise ValueError(f"X must be an array of numbers. Got the type {X.dtype}.")
        return X
    if isinstance(X, np.ndarray) and X.dtype.kind in "buif":
        return check_array(X, dtype=None, ensure_all_finite=False, **checks)
    return check_array(
        X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", **checks
    )


def _find_empty(estimator, X):
    """Return rows without a pixel; raise ValueError unless they and NaN are allowed."""
    masked, empty = np.zeros((2, len(X)), bool)
    for part in parts_of(len(X)):
        masked[part], empty[part] = _masked_in(estimator, X[part])
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


def _masked_in(estimator, rows):
    """Return which of a few rows have some NaN, and which have nothing else."""
    if rows.dtype.kind != "f":
        return np.zeros((2, len(rows)), bool)
    rows = rows.astype(float_type(rows.dtype), copy=False)
    assert_all_finite(
        rows, allow_nan=True, input_name="X", estimator_name=_name(estimator)
    )
    # The minimum is NaN if any pixel is, and needs no copy.
    masked = np.isnan(rows.min(axis=1))
    empty = masked.copy()
    empty[masked] = np.isnan(rows[masked]).all(axis=1)
    return masked, empty


def resolve_image_shape(shape, n_pixels, image_shape=None, n_planes=1):
    """Return (C, H, W) of stamps, or raise if the shapes contradict each other.

    `shape` comes from `flatten_images`, `image_shape` is the parameter. Without either,
    flat rows are assumed to be square images of one band when the number of pixels of a
    plane is a perfect square, and else images of one row of pixels.
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
        side = isqrt(n_pixels // n_planes)
        if n_planes * side * side == n_pixels:
            return n_planes, side, side
        if n_planes > 1:
            raise ImageShapeError(
                f"The 'image_shape' parameter must be the (C, H, W) of flat "
                f"rows, with the channels of all {n_planes} planes. Got None for rows "
                f"of {n_pixels} values."
            )
        return 1, 1, n_pixels
    if prod(wanted) != n_pixels:
        raise ImageShapeError(
            f"The 'image_shape' parameter must have as many pixels as a row of X, "
            f"{n_pixels}. Got {image_shape!r} instead, which has {prod(wanted)}."
        )
    return wanted


def warn_of_one_row(shape, image_shape, resolved):
    """Warn if flat rows are taken for images of one row of pixels, unasked.

    The first two arguments are as for `resolve_image_shape`, the last is its result.
    """
    n_pixels = resolved[2]
    unasked = shape is None and image_shape is None and resolved[:2] == (1, 1)
    if not unasked or n_pixels < FEWEST_PIXELS:
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
            f"The 'image_shape' parameter must be (H, W) or (C, H, W) with "
            f"positive integers, or None. Got {shape!r} instead."
        )
    return _with_channel(shape)


def _with_channel(shape):
    shape = tuple(int(length) for length in shape)
    return shape if len(shape) == 3 else (1, *shape)
