"""Names of the targets, and what flips and turns of an image do to them."""

import re

import numpy as np

__all__ = [
    "check_turnable",
    "dihedral_target_maps",
    "mean_over_turns",
    "target_names_of",
    "turned_targets",
    "variance_of_mean",
]

# e1 = e cos(2 theta), e2 = e sin(2 theta), x0 along the columns, y0 along the rows.
TURNING_TARGETS = ("e1", "e2", "x0", "y0")
INVARIANT_TARGETS = ("flux", "half_light_radius", "sersic_index", "ellipticity")


def target_names_of(y):
    """Return the names of the columns of y, or None where it has none.

    Parameters
    ----------
    y : array-like
        A DataFrame or a Series with names that are strings; anything else has no
        names.

    Returns
    -------
    list of str or None
        The names.

    Raises
    ------
    ValueError
        If a name is there twice, or is that of another latent.
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
            "The columns of y must not have the names that other latents have, "
            f"z_phy0, ... and z_rest0, ... Got {taken}."
        )
    return names


def check_turnable(
    names,
    invariant_targets,
    wanted="augmentation='dihedral'",
    otherwise="fit with augmentation=None",
):
    """Raise ValueError unless it is known what a turn does to every target.

    Parameters
    ----------
    names : list of str or None
        Names of the targets.
    invariant_targets : "all", list of str or None
        Targets that the user says do not change.
    wanted, otherwise : str
        For the message: what needs the turns, and what does without.

    Raises
    ------
    ValueError
        If a target has no name, an unknown name, or lacks its partner, or if
        ``invariant_targets`` has a name that no target has.
    """
    if isinstance(invariant_targets, str):
        return
    hint = (
        "Name the targets that do not change when an image is flipped or turned in "
        f"'invariant_targets' ('all' if none does), or {otherwise}."
    )
    if names is None:
        raise ValueError(
            f"{wanted} needs the names of the targets, to know which of them turn "
            "with the image: pass fit a y that is a DataFrame with column names. Got y "
            f"without names. {hint}"
        )
    _check_invariant_targets(names, invariant_targets)
    known = {*TURNING_TARGETS, *INVARIANT_TARGETS, *(invariant_targets or ())}
    unknown = [name for name in names if name not in known]
    if unknown:
        circular = (
            " (a position angle is circular: use e1 and e2)"
            if "position_angle" in unknown
            else ""
        )
        raise ValueError(
            f"{wanted} does not know how the targets {unknown} turn with the "
            f"image{circular}. It knows "
            f"{[*TURNING_TARGETS, *INVARIANT_TARGETS]}. {hint}"
        )
    alone = {"x0", "y0"}.intersection(names).difference(invariant_targets or ())
    if len(alone) == 1:
        raise ValueError(
            f"{wanted} swaps x0 and y0 and so needs both as targets. Got the targets "
            f"{names}."
        )


def _check_invariant_targets(names, invariant_targets):
    missing = [name for name in invariant_targets or () if name not in names]
    if missing:
        raise ValueError(
            "The 'invariant_targets' parameter must be names of targets, the columns "
            f"of y: {names}. Got {missing}, which are not among them."
        )


def turned_targets(y, maps):
    """Return all targets that occur when all images are turned in every way.

    Parameters
    ----------
    y : ndarray of shape (n, n_targets)
        Targets in physical units, NaN where one is missing.
    maps : tuple of ndarray
        What `dihedral_target_maps` returns.

    Returns
    -------
    ndarray of shape (n * n_different_maps, n_targets)
        The targets; just y where none of them turns.
    """
    matrices, offsets = maps
    different = np.unique(np.concatenate([matrices, offsets[:, None]], axis=1), axis=0)
    return np.concatenate([_turn(y, one[:-1], one[-1]) for one in different])


def _turn(y, matrix, offset):
    # A turn only swaps targets and changes signs. A product of matrices would let
    # one missing target make others of its row missing.
    sources = np.abs(matrix).argmax(axis=1)
    return y[:, sources] * matrix[range(len(matrix)), sources] + offset


def dihedral_target_maps(names, n_targets, image_size, invariant_targets):
    """Return what each symmetry of the square does to the targets.

    Element k is that of :func:`sklcae._torch._augmentation.dihedral_transform`: bit 0
    flips the columns, bit 1 the rows, bit 2 swaps rows and columns. Images that are
    not square have the four flips only.

    Parameters
    ----------
    names : list of str or None
        Names of the targets, checked by `check_turnable`.
    n_targets : int
        Number of targets.
    image_size : tuple of int
        Height and width in pixels.
    invariant_targets : "all", list of str or None
        Targets that the user says do not change.

    Returns
    -------
    matrices : ndarray of shape (n_elements, n_targets, n_targets)
        Turned targets are ``matrix @ target + offset``, in physical units.
    offsets : ndarray of shape (n_elements, n_targets)
        See ``matrices``.
    """
    height, width = image_size
    n_elements = 8 if height == width else 4
    matrices = np.tile(np.eye(n_targets), (n_elements, 1, 1))
    offsets = np.zeros((n_elements, n_targets))
    fixed = () if invariant_targets is None else invariant_targets
    if names is None or fixed == "all":
        return matrices, offsets
    index = {name: i for i, name in enumerate(names) if name not in fixed}
    for element in range(n_elements):
        _set_shapes(matrices[element], index, element)
        _set_positions(matrices[element], offsets[element], index, element, image_size)
    return matrices, offsets


def _set_shapes(matrix, index, element):
    """Change the sign of e2 with each flip, of e1 when rows and columns swap."""
    n_flips = (element & 1) + (element >> 1 & 1)
    if "e1" in index:
        matrix[index["e1"], index["e1"]] = -1 if element & 4 else 1
    if "e2" in index:
        matrix[index["e2"], index["e2"]] = (-1) ** n_flips


def _set_positions(matrix, offset, index, element, image_size):
    if "x0" not in index:
        return
    height, width = image_size
    i, j = index["x0"], index["y0"]
    for row, bit, length in ((i, 1, width), (j, 2, height)):
        if element & bit:
            matrix[row, row] = -1
            offset[row] = length
    if element & 4:
        matrix[[i, j]] = matrix[[j, i]]
        offset[[i, j]] = offset[[j, i]]


def mean_over_turns(values, variances, maps):
    """Return the mean of what is read off images turned in every way.

    Parameters
    ----------
    values : sequence of ndarray of shape (n, n_targets)
        The targets of the images turned by each element.
    variances : sequence of ndarray of shape (n, n_targets) or None
        Their variances.
    maps : tuple of ndarray
        What `dihedral_target_maps` returns.

    Returns
    -------
    y : ndarray of shape (n, n_targets)
        The mean of the targets, turned back.
    variance : ndarray of shape (n, n_targets) or None
        Its variance, see `variance_of_mean`; None where there are none to begin with.
    """
    matrices, offsets = maps
    # The matrices swap and change signs: their transposes are their inverses.
    y = [
        (value - offset) @ matrix
        for value, matrix, offset in zip(values, matrices, offsets, strict=True)
    ]
    mean = _mean(y)
    if variances is None:
        return mean, None
    back = [part @ matrix**2 for part, matrix in zip(variances, matrices, strict=True)]
    spread = sum((part - mean) ** 2 for part in y) / max(len(y) - 1, 1)
    return mean, variance_of_mean(_mean(back), spread, len(y))


def _mean(parts):
    # The order in which NumPy's own mean adds up depends on the shape of the arrays:
    # the last bit for an image would depend on how many others there are.
    return sum(parts) / len(parts)


def variance_of_mean(variance, spread, n):
    """Return the variance of the mean of several predictions of the same.

    If the predicted variances are right, and the errors have a part in common and
    another that is independent, the spread of the n predictions is the variance of the
    second part, and what is left of the predicted one that of the first.

    Parameters
    ----------
    variance : ndarray
        Mean of the predicted variances.
    spread : ndarray
        Unbiased variance of the predictions.
    n : int
        Number of predictions.

    Returns
    -------
    ndarray
        The variance.
    """
    return np.maximum(variance - spread, 0) + spread / n
