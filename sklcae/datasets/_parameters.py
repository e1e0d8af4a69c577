"""The physical parameters of every stamp: checked first, then drawn."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
from scipy import stats

from sklcae._compat import InvalidParameterError
from sklcae._random import stamp_generator

_STREAM = 0


@dataclass(frozen=True)
class _Allowed:
    """The interval that the values of a parameter must lie in."""

    low: float
    high: float
    low_included: bool = False
    high_included: bool = False

    def contains(self, values):
        above = values >= self.low if self.low_included else values > self.low
        below = values <= self.high if self.high_included else values < self.high
        return above & below

    def __str__(self):
        if self.low == -math.inf:
            return "finite"
        left = "[" if self.low_included else "("
        right = "]" if self.high_included else ")"
        return f"finite with every value in {left}{self.low:g}, {self.high:g}{right}"


# The order fixes which of a stamp's random numbers each parameter gets: add new
# parameters at the end, and old seeds go on giving the same galaxies.
ALLOWED = {
    "flux": _Allowed(0, math.inf),
    "half_light_radius": _Allowed(0, math.inf),
    # The indices that GalSim can render.
    "sersic_index": _Allowed(0.3, 6.2, low_included=True, high_included=True),
    "ellipticity": _Allowed(0, 1, low_included=True),
    "position_angle": _Allowed(-math.inf, math.inf),
    "x0": _Allowed(-math.inf, math.inf),
    "y0": _Allowed(-math.inf, math.inf),
}
COLUMNS = (*ALLOWED, "e1", "e2")


@dataclass(frozen=True)
class _Source:
    """Where the values of one parameter come from.

    ``draw`` turns one uniform random number per stamp into values. ``bounds``
    encloses what is drawn, and is None for values given by the user.
    """

    draw: Callable
    bounds: tuple | None = None


@dataclass(frozen=True)
class InVariants:
    """A parameter of stamps that are n_variants of each galaxy, one after the other.

    ``value`` is as ``make_galaxies`` takes it, None included. It has one value per
    galaxy where the variants share it, else one per stamp.
    """

    value: object
    n_variants: int
    shared: bool


def parse_parameters(given, n_samples):
    """Check every physical parameter and return a dict of name -> source."""
    return {name: _parse(name, given[name], n_samples) for name in ALLOWED}


def draw_parameters(sources, n_samples, *, sersic_index_step, entropy):
    """Draw the table of parameters: a dict of name -> array of n_samples values.

    Every parameter uses up its own uniform number even where it is not drawn, so
    that fixing one parameter leaves the others as they are.
    """
    uniforms = _draw_uniforms(n_samples, entropy)
    table = {
        name: source.draw(uniforms[:, column])
        for column, (name, source) in enumerate(sources.items())
    }
    bounds = sources["sersic_index"].bounds
    if sersic_index_step is not None and bounds is not None:
        rounded = _round_to_step(table["sersic_index"], sersic_index_step)
        table["sersic_index"] = np.clip(rounded, *bounds)
    angle = np.deg2rad(table["position_angle"])
    table["e1"] = table["ellipticity"] * np.cos(2 * angle)
    table["e2"] = table["ellipticity"] * np.sin(2 * angle)
    return table


def _draw_uniforms(n_samples, entropy):
    uniforms = np.empty((n_samples, len(ALLOWED)))
    for index in range(n_samples):
        uniforms[index] = stamp_generator(entropy, index, _STREAM).random(len(ALLOWED))
    return uniforms


def _round_to_step(values, step):
    # The inner rounding counts steps; the outer one removes 0.15000000000000002.
    return np.round(np.round(values / step) * step, 12)


def _parse(name, value, n_samples, length="n_samples"):
    """Parse one parameter; ``length`` is what the user knows n_samples as."""
    if isinstance(value, InVariants):
        return _parse_in_variants(name, value, n_samples)
    if isinstance(value, tuple):
        return _parse_range(name, value, length)
    if _is_number(value):
        return _parse_number(name, value, n_samples)
    if _is_distribution(value):
        return _parse_distribution(name, value)
    return _parse_array(name, value, n_samples, length)


def _parse_in_variants(name, given, n_samples):
    value, n_variants = given.value, given.n_variants
    if given.shared:
        source = _parse(name, value, n_samples // n_variants, "n_galaxies")
        return replace(source, draw=lambda uniform: _share(source, uniform, n_variants))
    length = "n_galaxies * n_variants"
    if _is_number(value):
        what = f"{_kinds(length, number='')} because it is one of 'varied'"
        raise _error(name, what, f"the number {value!r}")
    return _parse(name, value, n_samples, length)


def _share(source, uniform, n_variants):
    """Draw for the first variant of every galaxy, with its number, and repeat."""
    return np.repeat(source.draw(uniform[::n_variants]), n_variants)


def _parse_range(name, value, length):
    if len(value) != 2 or not all(map(_is_number, value)):
        raise _wrong_type(name, value, length)
    low, high = map(float, value)
    _check_allowed(name, np.array([low, high]), given=value)
    if low > high:
        raise _error(name, "a (low, high) tuple with low <= high", repr(value))
    return _Source(lambda uniform: low + (high - low) * uniform, bounds=(low, high))


def _parse_number(name, value, n_samples):
    values = np.full(n_samples, float(value))
    _check_allowed(name, values, given=value)
    return _Source(lambda uniform: values)


def _parse_array(name, value, n_samples, length):
    if np.ma.is_masked(value):
        raise _error(name, "an array without masked entries", repr(value))
    try:
        values = np.asarray(value)
    except ValueError:
        raise _wrong_type(name, value, length) from None
    if values.dtype.kind not in "iuf" or values.ndim != 1:
        raise _wrong_type(name, value, length)
    if len(values) != n_samples:
        what = f"an array of {length}={n_samples} values"
        raise _error(name, what, f"an array of {len(values)} values")
    values = values.astype(np.float64)
    _check_allowed(name, values)
    return _Source(lambda uniform: values)


def _parse_distribution(name, value):
    inverse_cdf = value.icdf if hasattr(value, "icdf") else value.ppf
    support = tuple(value.support())
    if any(np.ndim(end) for end in support):
        raise _error(name, "a distribution of single numbers", repr(value))
    low, high = map(float, support)

    def draw(uniform):
        values = np.asarray(inverse_cdf(uniform), dtype=np.float64)
        _check_allowed(name, values, support=f"[{low:g}, {high:g}]")
        return values

    allowed = ALLOWED[name]
    return _Source(draw, bounds=(max(low, allowed.low), min(high, allowed.high)))


def _is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_distribution(value):
    # scipy.stats.norm and scipy.stats.Normal are families, norm(2, 1) and
    # Normal(mu=2, sigma=1) are distributions.
    if isinstance(value, (type, stats.rv_continuous, stats.rv_discrete)):
        return False
    return hasattr(value, "support") and (
        hasattr(value, "icdf") or hasattr(value, "ppf")
    )


def _check_allowed(name, values, given=None, support=None):
    good = np.isfinite(values) & ALLOWED[name].contains(values)
    if good.all():
        return
    first = int(np.argmin(good))
    if support is not None:
        got = f"a distribution with the support {support}, which gave {values[first]:g}"
    elif given is not None:
        got = repr(given)
    else:
        got = f"{values[first]:g} at index {first}"
    raise _error(name, ALLOWED[name], got)


def _wrong_type(name, value, length):
    return _error(name, _kinds(length), repr(value))


def _kinds(length, number=" a number,"):
    return (
        f"a (low, high) tuple of numbers,{number} a 1-D array of {length} numbers or "
        "a frozen distribution of scipy.stats"
    )


def _error(name, what, got):
    return InvalidParameterError(
        f"The {name!r} parameter of make_galaxies must be {what}. Got {got} instead."
    )
