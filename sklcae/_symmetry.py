"""The effect of flips and quarter turns of an image on the targets."""

from typing import NamedTuple

import numpy as np

from sklcae._profiles import kind_of

# e1 = e cos(2 theta), e2 = e sin(2 theta), x0 along the columns, y0 along the rows.
TURNING_TARGETS = ("e1", "e2", "x0", "y0")
# The first two may have the name of a band behind them, as "flux_g".
INVARIANT_TARGETS = ("flux", "half_light_radius", "sersic_index", "ellipticity")


class Symmetry(NamedTuple):
    """The maps of the targets under the symmetries of the square.

    Turned targets are ``matrix @ target + offset``, in physical units, with matrices of
    shape (n_elements, n_targets, n_targets) and offsets (n_elements, n_targets).
    Element k belongs to :func:`sklcae._torch.augmentation.dihedral_transform`: bit 0
    flips the columns, bit 1 the rows, bit 2 swaps rows and columns. Images that are not
    square have the four flips only.
    """

    matrices: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of_targets(cls, names, n_targets, image_size, invariant_targets):
        """Make the maps for targets with names that `check_turnable` accepts."""
        height, width = image_size
        n_elements = 8 if height == width else 4
        matrices = np.tile(np.eye(n_targets), (n_elements, 1, 1))
        offsets = np.zeros((n_elements, n_targets))
        fixed = () if invariant_targets is None else invariant_targets
        if names is None or fixed == "all":
            return cls(matrices, offsets)
        index = {name: i for i, name in enumerate(names) if name not in fixed}
        for element in range(n_elements):
            _set_shapes(matrices[element], index, element)
            _set_positions(
                matrices[element], offsets[element], index, element, image_size
            )
        return cls(matrices, offsets)

    def turned_targets(self, y):
        """Return the targets (n, n_targets) of all images turned in every way."""
        maps = np.concatenate([self.matrices, self.offsets[:, None]], axis=1)
        different = np.unique(maps, axis=0)
        return np.concatenate([_turn(y, one[:-1], one[-1]) for one in different])

    def scaled(self, scaler):
        """Return the symmetry of targets that a StandardScaler has standardised."""
        mean, scale = scaler.mean_, scaler.scale_
        offsets = (self.matrices @ mean + self.offsets - mean) / scale
        return Symmetry(self.matrices * scale / scale[:, None], offsets)

    def mean_over_turns(self, values, variances=None):
        """Return the mean of the targets of images turned in every way, turned back.

        Each element has values (n, n_targets) and, if known, variances. The variance of
        the mean is None without them, else from `variance_of_mean`.
        """
        # The matrices swap and change signs: their transposes are their inverses.
        y = [
            (value - offset) @ matrix
            for value, matrix, offset in zip(values, *self, strict=True)
        ]
        mean = _mean(y)
        if variances is None:
            return mean, None
        back = [
            part @ matrix**2
            for part, matrix in zip(variances, self.matrices, strict=True)
        ]
        spread = sum((part - mean) ** 2 for part in y) / max(len(y) - 1, 1)
        return mean, variance_of_mean(_mean(back), spread, len(y))


def _turn(y, matrix, offset):
    # A turn only swaps targets and changes signs. In a product of matrices one missing
    # target would make other targets of its row missing.
    sources = np.abs(matrix).argmax(axis=1)
    return y[:, sources] * matrix[range(len(matrix)), sources] + offset


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


def _mean(parts):
    # The order of summation in NumPy's own mean depends on the shape of the arrays:
    # the last bit for an image would depend on the number of other images.
    return sum(parts) / len(parts)


def variance_of_mean(variance, spread, n):
    """Return the variance of the mean of n predictions of the same target.

    Suppose that the predicted variances are right, and that each error is the sum of a
    common and an independent part. Then the unbiased spread of the n predictions is the
    variance of the independent part, and the rest of the predicted variance is the
    variance of the common part.
    """
    return np.maximum(variance - spread, 0) + spread / n


def check_turnable(
    names,
    invariant_targets,
    wanted="augmentation='dihedral'",
    otherwise="fit with augmentation=None",
):
    """Raise ValueError unless the effect of a turn on every target is known.

    Targets need a known name, and x0 and y0 each other; `invariant_targets` must be
    names of targets. The message says that `wanted` needs the turns, and how to do
    `otherwise`.
    """
    if isinstance(invariant_targets, str):
        return
    hint = (
        "Name the targets that do not change when an image is flipped or turned in "
        f"'invariant_targets' ('all' if no target changes), or {otherwise}."
    )
    if names is None:
        raise ValueError(
            f"{wanted} needs the names of the targets, since some of them turn with "
            "the image: pass them as 'target_names', or pass fit a y that is a "
            f"DataFrame with column names. Got y without names. {hint}"
        )
    _check_invariant_targets(names, invariant_targets)
    known = {*TURNING_TARGETS, *INVARIANT_TARGETS, *(invariant_targets or ())}
    unknown = [name for name in names if not {name, kind_of(name)} & known]
    if unknown:
        circular = (
            " (a position angle is circular: use e1 and e2)"
            if "position_angle" in unknown
            else ""
        )
        raise ValueError(
            f"{wanted} needs targets with names among "
            f"{[*TURNING_TARGETS, *INVARIANT_TARGETS]}. Got {unknown}{circular}. {hint}"
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
