"""X, y, weights and groups: checked, and gathered in records that nothing changes.

The checks read the parameters of the estimator and never write to it.
"""

import re
from math import prod
from typing import NamedTuple

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from sklcae._array_likes import without_traps
from sklcae._compat import _check_sample_weight
from sklcae._gain import check_gain
from sklcae._image_inputs import (
    check_rows,
    resolve_image_shape,
    warn_of_one_row,
)
from sklcae._images import Images
from sklcae._masking import check_not_masked
from sklcae._planes import (
    PART_SIZE,
    check_kinds,
    check_psf,
    count_bands,
    warn_of_forgotten_planes,
)
from sklcae._profiles import PARAMETERS, ProfileParameters, kind_of, uses_profiles
from sklcae._streaming import BUFFER_SIZE, MIB, RowsOnDisk
from sklcae._symmetry import TURNING_TARGETS, check_turnable

NAME = "ConditionalAutoencoderRegressor"
# The mean of larger or smaller weights would leave the range of float64.
EXTREME_WEIGHTS = (1e-100, 1e100)


class Layout(NamedTuple):
    """The form of images and targets.

    ``image_shape`` is (C, H, W), with the channels of all ``planes``; ``sample_shape``
    is the shape of one image in X, (p,), (H, W) or (C, H, W). Names are None if y or X
    had no column names.
    """

    image_shape: tuple[int, int, int]
    sample_shape: tuple[int, ...]
    n_targets: int
    y_ndim: int
    target_names: list[str] | None
    feature_names: list[str] | None
    planes: tuple[str, ...] = ("image",)

    @property
    def n_features(self):
        """Number of values in a stamp, all planes together."""
        return prod(self.image_shape)

    @property
    def band_shape(self):
        """The shape of one plane: bands, height and width."""
        n_channels, height, width = self.image_shape
        return n_channels // len(self.planes), height, width

    @property
    def has_psf(self):
        """Whether the stamps have PSFs."""
        return "psf" in self.planes


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
        raw = self.images.raw
        arrays = raw.digest() if self.images.on_disk else raw, self.y, self.weights
        return arrays if self.groups is None else (*arrays, self.groups)


def check_training_data(estimator, X, y, sample_weight, groups, previous):
    """Check the arguments of ``fit``, and list the rows that the training uses.

    `previous` is the layout of the fit that this one continues, or None. Raises
    ValueError if anything is wrong.
    """
    planes = check_kinds(estimator.planes, NAME)
    _check_gain(estimator, planes)
    _check_no_partners(estimator, X)
    if previous is not None and planes != previous.planes:
        raise ValueError(
            f"The 'planes' parameter of {NAME} must stay {previous.planes} to continue "
            f"an earlier fit. Got {estimator.planes!r} instead."
        )
    rows, image_shape, shape, empty, feature_names = check_rows(
        estimator, X, y, planes, previous
    )
    if previous is not None:
        # The parameter may have been changed since.
        image_shape = resolve_image_shape(
            shape, rows.shape[1], estimator.image_shape, len(planes)
        )
    n_bands = count_bands(image_shape[0], planes)
    check_gain(estimator.gain, n_bands, NAME)
    y = without_traps(y, "y")
    names = _resolve_names(estimator, y, previous)
    targets = _check_targets(estimator, y, rows)
    if names is None and uses_profiles(estimator):
        wanted = ProfileParameters.of_targets(None, n_bands).names
        names = list(wanted[: prod(targets.shape[1:])])
    warn_of_one_row(shape, estimator.image_shape, image_shape)
    layout = Layout(
        image_shape=image_shape,
        sample_shape=shape or rows.shape[1:],
        n_targets=prod(targets.shape[1:]),
        y_ndim=targets.ndim,
        target_names=names,
        feature_names=feature_names,
        planes=planes,
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
    if planes == ("image",):
        warn_of_forgotten_planes(data.images[data.rows[:PART_SIZE]])
    return data


def check_images(estimator, X, layout):
    """Check images for a fitted estimator, and return them as `Images`."""
    rows, _, _, empty, _ = check_rows(
        estimator, X, "no_validation", layout.planes, layout
    )
    return _as_images(rows, layout, empty)


def _as_images(rows, layout, empty):
    stamps = rows.reshape(len(rows), *layout.image_shape)
    return Images(stamps, empty, layout.planes)


def _check_gain(estimator, planes):
    if estimator.gain is None and "variance" not in planes:
        raise ValueError(
            f"The 'gain' parameter of {NAME} must be a number, or one for each band, "
            "unless 'planes' has a 'variance' that holds all noise. Got None instead, "
            f"with planes={planes}."
        )


def _check_no_partners(estimator, X):
    """Raise ValueError if partners would have to be read from anywhere on disk."""
    if estimator.gamma and isinstance(X, RowsOnDisk):
        raise ValueError(
            f"The 'gamma' parameter of {NAME} must be 0 to train from stamps on disk "
            f"that take more than {BUFFER_SIZE // MIB} MiB, since their partners may "
            f"be anywhere in the file. Got {estimator.gamma!r}: pass X[:] if the "
            "stamps fit into memory."
        )


def check_psf_of_images(psf, n_images, layout, usual):
    """Return the PSFs of images to be made, (n, n_bands, H, W), or None.

    Without one they are the ``usual`` PSF (1, n_bands, H, W) of the model, or None.
    Raises ValueError unless they are given for models that read a PSF, and only these.
    """
    if psf is None and usual is not None:
        return np.broadcast_to(usual, (n_images, *layout.band_shape))
    if not layout.has_psf and usual is None:
        if psf is not None:
            raise ValueError(
                f"psf must be None for a {NAME} whose 'planes' have no 'psf'. Got one "
                f"for the planes {layout.planes}."
            )
        return None
    if psf is None:
        raise ValueError(
            f"psf must be the PSF of the images, (h, w) or one for each row, for a "
            f"{NAME} with the planes {layout.planes}. Got None."
        )
    return check_psf(psf, n_images, layout.band_shape)


def check_wanted_targets(estimator, y, layout):
    """Check targets of images to be made, and return them as (n, n_targets)."""
    y = without_traps(y, "y")
    check_same_targets(y, layout)
    y = check_array(
        y, dtype=np.float64, ensure_2d=False, input_name="y", estimator=estimator
    )
    y = y.reshape(-1, 1) if y.ndim == 1 and layout.n_targets == 1 else y
    if y.ndim != 2 or y.shape[1] != layout.n_targets:
        raise ValueError(
            f"y must have the shape (n_samples, {layout.n_targets}), one column for "
            f"each target of the fit. Got {y.shape} instead."
        )
    _check_ellipticities(y, layout.target_names)
    return y


def _check_ellipticities(y, names):
    columns = [i for i, name in enumerate(names or ()) if name in ("e1", "e2")]
    lengths = np.linalg.norm(y[:, columns], axis=1)
    if (lengths >= 1).any():
        row = int(np.argmax(lengths >= 1))
        raise ValueError(
            "y must have ellipticities (e1, e2) with a length below 1. Got "
            f"{lengths[row]:.3g} in row {row}."
        )


def check_same_targets(y, layout):
    """Raise ValueError if y has names that are not those of the fit."""
    names = target_names_of(y)
    if names and layout.target_names and names != layout.target_names:
        raise ValueError(
            f"The columns of y must be the targets of the fit, {layout.target_names}. "
            f"Got {names} instead."
        )


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


# Targets --------------------------------------------------------------------------


def target_names_of(y):
    """Return the names of the columns of y, or None if it has no names.

    Only a DataFrame or a Series has names, and only if all of them are strings. Raises
    ValueError if a name occurs twice, or belongs to another latent, and TypeError for a
    dict.
    """
    if isinstance(y, dict):
        raise TypeError(
            "y must be an array or a DataFrame. Got a dict: pass pandas.DataFrame(y), "
            "or pandas.DataFrame([y]) for one image."
        )
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
        columns = _columns_of(wanted, names, estimator.augmentation)
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


def _columns_of(wanted, names, augmentation):
    """Return the columns of the targets with some names."""
    found = [_columns_named(name, names or []) for name in wanted]
    missing = [name for name, columns in zip(wanted, found, strict=True) if not columns]
    if augmentation == "simulation":
        # A parameter that is no target is an error of its own.
        missing = [name for name in missing if name not in PARAMETERS]
    if missing:
        raise ValueError(
            f"The 'log_targets' parameter of {NAME} must be 'all' or names of "
            f"targets, {names}. Got {missing}, which are not among them."
        )
    return tuple(sorted({column for columns in found for column in columns}))


def _columns_named(name, names):
    """Return the columns of a name; "flux" stands for "flux_g" and other bands too."""
    if name in names:
        return [names.index(name)]
    return [i for i, other in enumerate(names) if kind_of(other) == name]


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
        cause = f"augmentation={estimator.augmentation!r}"
        check_turnable(layout.target_names, estimator.invariant_targets, cause)


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
