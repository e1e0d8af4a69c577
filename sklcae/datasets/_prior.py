"""The covariance of the parameters before a stamp is observed."""

from inspect import signature

import numpy as np

from sklcae._compat import InvalidParameterError
from sklcae.datasets._galaxies import make_galaxies
from sklcae.datasets._parameters import (
    ALLOWED,
    FITTED,
    center_range,
    item_error,
    parameter_error,
    parse_parameters,
)

_N_QUANTILES = 1000


def prior_factor(prior, image_shape, table):
    """Return a factor L of the covariance L L^T of the fitted parameters.

    The prior must allow all galaxies of the table. A row of L is 0 for a parameter that
    is known.
    """
    given = _given_values(prior, image_shape)
    try:
        sources = parse_parameters(given, len(table["flux"]))
        for name, source in sources.items():
            _check_possible(name, table[name], source, given[name])
        return _covariance_factor(sources)
    except InvalidParameterError as error:
        wanted = "a dict of values that make_galaxies accepts"
        raise item_error("prior", wanted, error) from error


def _given_values(prior, image_shape):
    defaults = signature(make_galaxies).parameters
    given = {name: defaults[name].default for name in ALLOWED}
    if prior != "defaults":
        unknown = [name for name in prior if name not in ALLOWED]
        if unknown:
            what = f"a dict with the keys {', '.join(ALLOWED)}"
            raise parameter_error("prior", what, unknown)
        given.update(prior)
    height, width = image_shape
    given["x0"] = center_range(given["x0"], width)
    given["y0"] = center_range(given["y0"], height)
    return given


def _check_possible(name, values, source, given):
    """Raise an error if the prior excludes a galaxy."""
    if source.bounds is None:
        possible = source.draw(None) == values
    elif name == "position_angle":
        return  # 190 degrees are 10 degrees.
    else:
        low, high = source.bounds
        possible = (values >= low) & (values <= high)
    if not possible.all():
        first = int(np.argmin(possible))
        got = f"{given!r} and the value {values[first]:g} at index {first}"
        raise parameter_error(name, "consistent with the values of all galaxies", got)


def _covariance_factor(sources):
    quantiles = (np.arange(_N_QUANTILES) + 0.5) / _N_QUANTILES
    draws = {name: source.draw(quantiles) for name, source in sources.items()}
    # Relative to the first value, the variance of a constant is 0 without rounding.
    spread = {name: np.std(values - values[0]) for name, values in draws.items()}
    factor = np.diag([spread.get(name, 0.0) for name in FITTED])
    both = [FITTED.index("e1"), FITTED.index("e2")]
    factor[np.ix_(both, both)] = _component_factor(
        draws["ellipticity"], draws["position_angle"]
    )
    return factor


def _component_factor(ellipticity, position_angle):
    """Return the factor of e1 and e2 for independent ellipticities and angles."""
    angle = 2 * np.deg2rad(position_angle)
    direction = np.stack([np.cos(angle), np.sin(angle)])
    mean = np.mean(ellipticity) * direction.mean(axis=1)
    square = np.mean(ellipticity**2)
    second = square * direction @ direction.T / len(angle)
    values, vectors = np.linalg.eigh(second - np.outer(mean, mean))
    # Rounding errors of a zero variance would count as a small variance.
    values[values <= 1e-12 * square] = 0.0
    return vectors * np.sqrt(values)
