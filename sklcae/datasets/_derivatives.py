"""Numerical derivatives of a noiseless stamp with respect to its parameters."""

import numpy as np

from sklcae.datasets._parameters import ALLOWED, FITTED
from sklcae.datasets._render import render_stamp

# Steps of the derivatives; for the radius, relative to the radius. Half of the step in
# the Sersic index is the grid of make_galaxies, so that GalSim's tables serve many
# stamps.
_STEPS = {
    "half_light_radius": 0.08,
    "sersic_index": 0.1,
    "e1": 0.04,
    "e2": 0.04,
    "x0": 0.4,
    "y0": 0.4,
}
_BOTH_SIDES = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
_ONE_SIDE = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
# GalSim fails to render a Sersic index within a rounding error of 0.5, but not at 0.5.
_SERSIC_DECIMALS = 12


def render(theta, optics):
    """Render the noiseless stamp of the fitted parameters."""
    row = dict(zip(FITTED, map(float, theta), strict=True))
    e1, e2 = row.pop("e1"), row.pop("e2")
    row["ellipticity"] = float(np.hypot(e1, e2))
    row["position_angle"] = float(np.rad2deg(np.arctan2(e2, e1))) / 2
    return render_stamp(row, **optics)


def jacobians(theta, image, optics, free, scale):
    """Differentiate a stamp with respect to the fitted parameters ``theta``.

    ``image`` is the stamp of theta, ``free`` is False for parameters that are known,
    and ``scale`` is a factor of the steps. Returns the derivatives from all points, and
    from the inner points alone as a check, both of shape (7, height, width).
    """
    fine, check = np.zeros((2, len(theta), *image.shape))
    fine[0] = check[0] = free[0] * image / theta[0]
    for column in np.flatnonzero(free[1:]) + 1:
        step, offsets = _step(theta, column, scale)
        images = [
            image if offset == 0 else render(_moved(theta, column, move), optics)
            for offset, move in zip(offsets, step * offsets, strict=True)
        ]
        inner = np.argsort(np.abs(offsets), kind="stable")[:3]
        fine[column] = np.tensordot(_difference_weights(step * offsets), images, 1)
        weights = _difference_weights(step * offsets[inner])
        check[column] = np.tensordot(weights, [images[i] for i in inner], 1)
    return fine, check


def _step(theta, column, scale):
    """Return the step in a parameter, and the points to render in units of it."""
    name = FITTED[column]
    step = scale * _STEPS[name]
    if name == "half_light_radius":
        return step * theta[column], _BOTH_SIDES
    if name in ("e1", "e2"):
        e1, e2 = FITTED.index("e1"), FITTED.index("e2")
        return min(step, (1 - np.hypot(theta[e1], theta[e2])) / 4), _BOTH_SIDES
    if name == "sersic_index":
        limits = ALLOWED[name]
        if theta[column] - step < limits.low:
            return step, _ONE_SIDE
        if theta[column] + step > limits.high:
            return step, -_ONE_SIDE
    return step, _BOTH_SIDES


def _moved(theta, column, move):
    moved = theta.copy()
    moved[column] += move
    if FITTED[column] == "sersic_index":
        moved[column] = np.round(moved[column], _SERSIC_DECIMALS)
    return moved


def _difference_weights(offsets):
    """Return the weights of values at these offsets for the derivative at 0."""
    scale = np.abs(offsets).max()
    powers = np.vander(offsets / scale, increasing=True).T
    return np.linalg.solve(powers, np.eye(len(offsets))[1]) / scale
