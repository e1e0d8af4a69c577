import numpy as np
import pandas as pd
import pytest
import torch

from sklcae._inputs import target_names_of
from sklcae._symmetry import Symmetry, check_turnable
from sklcae._torch.augmentation import dihedral_transform
from sklcae.datasets import make_galaxies

NAMES = ["y0", "flux", "e2", "x0", "e1", "sersic_index"]


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (pd.DataFrame({"flux": [1.0], "e1": [0.0]}), ["flux", "e1"]),
        (pd.Series([1.0], name="flux"), ["flux"]),
        (pd.Series([1.0]), None),
        (pd.DataFrame(np.zeros((1, 2))), None),
        (np.zeros((1, 2)), None),
        ([1.0], None),
        (pd.Series([1.0], name=""), None),
    ],
)
def test_names_are_those_of_the_columns(y, expected):
    assert target_names_of(y) == expected


@pytest.mark.parametrize("image_shape", [(24, 24), (20, 28)])
def test_turned_stamp_is_the_galaxy_with_turned_targets(image_shape):
    """The generator, asked for the turned parameters, makes the turned image."""
    settings = {"noise": False, "image_shape": image_shape, "targets": NAMES}
    shape = {"half_light_radius": 0.8, "sersic_index": 1.0}
    image, target = make_galaxies(
        1, flux=1e4, ellipticity=0.5, position_angle=20.0, x0=7.3, y0=14.8,
        **shape, **settings,
    )  # fmt: skip
    matrices, offsets = Symmetry.of_targets(NAMES, len(NAMES), image_shape, None)
    assert len(matrices) == (8 if image_shape[0] == image_shape[1] else 4)
    stamp = torch.from_numpy(image).reshape(1, 1, *image_shape)
    for element, (matrix, offset) in enumerate(zip(matrices, offsets, strict=True)):
        turned = dict(zip(NAMES, matrix @ target[0] + offset, strict=True))
        e1, e2 = turned["e1"], turned["e2"]
        rendered, _ = make_galaxies(
            1,
            flux=turned["flux"],
            ellipticity=float(np.hypot(e1, e2)),
            position_angle=float(np.rad2deg(np.arctan2(e2, e1)) / 2),
            x0=float(turned["x0"]),
            y0=float(turned["y0"]),
            **shape,
            **settings,
        )
        expected = dihedral_transform(stamp, element).numpy().ravel()
        np.testing.assert_allclose(rendered[0], expected, atol=image.max() * 1e-4)


@pytest.mark.parametrize(
    ("names", "invariant_targets"),
    [(None, "all"), (["mass", "e1"], "all"), (["mass", "x0"], ["mass", "x0"])],
)
def test_invariant_targets_stay(names, invariant_targets):
    check_turnable(names, invariant_targets)
    matrices, offsets = Symmetry.of_targets(names, 2, (8, 8), invariant_targets)
    np.testing.assert_array_equal(matrices, np.tile(np.eye(2), (8, 1, 1)))
    assert not offsets.any()


@pytest.mark.parametrize(
    ("names", "invariant_targets", "message"),
    [
        (None, None, "needs the names of the targets"),
        (["flux", "shear"], None, r"names among .* Got \['shear'\]"),
        (["position_angle"], None, "circular: use e1 and e2"),
        (["flux", "e1"], ["e3"], "must be names of targets"),
        (["flux", "x0"], None, "needs both as targets"),
        (["y0", "mass"], ["mass"], "needs both as targets"),
        (["mass", "g1"], ["mass"], r"names among .* Got \['g1'\]"),
    ],
)
def test_targets_that_may_turn_wrongly_are_refused(names, invariant_targets, message):
    with pytest.raises(ValueError, match=message):
        check_turnable(names, invariant_targets)
