"""The physical parameters of every stamp: check the given values, then draw."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
from scipy import stats

from sklcae._compat import InvalidParameterError
from sklcae._units import as_float, check_no_unit
from sklcae.datasets._random import Stream, draw_uniforms


@dataclass(frozen=True)
class _Allowed:
    """The interval of allowed values of a parameter, and their unit."""

    low: float
    high: float
    low_included: bool = False
    high_included: bool = False
    unit: str | None = None

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


# The order determines which random number of a stamp each parameter uses. Add new
# parameters at the end, so that old seeds still give the same galaxies.
ALLOWED = {
    "flux": _Allowed(0, math.inf, unit="adu"),
    "half_light_radius": _Allowed(
        1e-30, 1e30, low_included=True, high_included=True, unit="arcsec"
    ),
    # GalSim's limits.
    "sersic_index": _Allowed(0.3, 6.2, low_included=True, high_included=True),
    "ellipticity": _Allowed(0, 1, low_included=True),
    "position_angle": _Allowed(-math.inf, math.inf, unit="deg"),
    "x0": _Allowed(-math.inf, math.inf, unit="pix"),
    "y0": _Allowed(-math.inf, math.inf, unit="pix"),
}
COLUMNS = (*ALLOWED, "e1", "e2")

# The settings of PSF and noise that may vary from stamp to stamp. They have a stream of
# random numbers of their own; the last one draws the PSF from an array.
TELESCOPE = {
    "psf_fwhm": _Allowed(
        1e-30, 1e30, low_included=True, high_included=True, unit="arcsec"
    ),
    "psf_ellipticity": _Allowed(0, 1, low_included=True),
    "psf_position_angle": _Allowed(-math.inf, math.inf, unit="deg"),
    # GalSim's limits. At 1.1 the light of an untruncated Moffat diverges. From 91, and
    # in large stamps with a narrow PSF earlier, the Bessel functions of its Fourier
    # transform overflow; up to 50 they do not.
    "moffat_beta": _Allowed(1.1, 50, high_included=True),
    # With these limits the noise does not overflow float32.
    "sky_level": _Allowed(0, 1e37, low_included=True, high_included=True, unit="adu"),
    "read_noise": _Allowed(
        0, 1e12, low_included=True, high_included=True, unit="electron"
    ),
}
_TELESCOPE_NUMBERS = (*TELESCOPE, "psf_index")

# The settings of bulges, neighbours, colours and sky left over. The settings of a group
# share a stream of random numbers; their order is fixed as above.
BULGE = {
    "bulge_fraction": _Allowed(0, 1, low_included=True, high_included=True),
    # GalSim's limits.
    "bulge_sersic_index": _Allowed(0.3, 6.2, low_included=True, high_included=True),
    "bulge_radius_ratio": _Allowed(0.01, 10, low_included=True, high_included=True),
}
NEIGHBOUR = {
    "neighbour_distance": _Allowed(
        0, 1e30, low_included=True, high_included=True, unit="arcsec"
    ),
    "neighbour_flux_ratio": _Allowed(0, 1e30, high_included=True),
    "neighbour_half_light_radius": _Allowed(
        1e-30, 1e30, low_included=True, high_included=True, unit="arcsec"
    ),
}
_COLORS = {
    "colors": _Allowed(-50, 50, low_included=True, high_included=True, unit="mag"),
}
SKY = {
    "sky_offset": _Allowed(
        -1e30, 1e30, low_included=True, high_included=True, unit="adu"
    ),
    "sky_gradient": _Allowed(
        0, 1e30, low_included=True, high_included=True, unit="adu / pix"
    ),
}
_LIMITS = {**ALLOWED, **TELESCOPE, **BULGE, **NEIGHBOUR, **_COLORS, **SKY}

# The parameters of a fit to a stamp: e1 and e2 are smooth functions at zero
# ellipticity, ellipticity and position angle are not.
FITTED = ("flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0")


@dataclass(frozen=True)
class _Source:
    """Source of the values of one parameter.

    ``draw`` maps one uniform random number per stamp to values. ``bounds`` encloses
    the drawn values; it is None for values given by the user.
    """

    draw: Callable
    bounds: tuple | None = None


@dataclass(frozen=True)
class InVariants:
    """A parameter of stamps that show n_variants consecutive variants of each galaxy.

    ``value`` is any value that ``make_galaxies`` accepts, or None. An array has one
    value per galaxy if the variants share the parameter, otherwise one per stamp.
    """

    value: object
    n_variants: int
    shared: bool


def check_names(parameter, names, allowed, *, may_be_empty=False, prefix=""):
    """Return one name or several as a list, all of them different and allowed.

    ``prefix`` precedes the names in the error message.
    """
    listed = [names] if isinstance(names, str) else list(names)
    known = all(isinstance(name, str) and name in allowed for name in listed)
    if known and len(set(listed)) == len(listed) and (listed or may_be_empty):
        return listed
    requirement = "" if may_be_empty else "one or more "
    requirement += f"different names of {', '.join(allowed)}"
    raise parameter_error(parameter, requirement, f"{prefix}{names!r}")


def center_range(value, side):
    """Return the range of a whole side of the stamp if value is None, else value."""
    if isinstance(value, InVariants):
        return replace(value, value=center_range(value.value, side))
    return (0.0, float(side)) if value is None else value


def parse_parameters(given, n_samples):
    """Check every given parameter and return a dict of name -> source."""
    return {
        name: _parse(name, given[name], n_samples) for name in _LIMITS if name in given
    }


def parse_parameter(name, value, n_samples):
    """Check one given parameter and return its source."""
    return _parse(name, value, n_samples)


def parse_population(name, value):
    """Check a range, a number or a distribution; return the source of any number."""
    check_no_unit(value, name, _LIMITS[name].unit)
    if isinstance(value, tuple):
        return _parse_range(name, value, None)
    if is_number(value):
        return _drawn_from(_parse_number(name, value, 1).draw(None))
    if _is_distribution(value):
        return _parse_distribution(name, value)
    raise _wrong_type(name, value, None)


def as_population(name, value):
    """Return the source of any number of values like those of a checked parameter.

    The values of an array are drawn at random.
    """
    if isinstance(value, InVariants):
        return as_population(name, value.value)
    if isinstance(value, tuple) or is_number(value) or _is_distribution(value):
        return parse_population(name, value)
    return _drawn_from(np.asarray(value, dtype=np.float64))


def parse_values(name, value, n_samples, length):
    """Check a number, or an array of n_samples values, and return an array.

    ``length`` is the user's name for n_samples.
    """
    check_no_unit(value, name, _LIMITS[name].unit)
    if is_number(value):
        return _parse_number(name, value, n_samples).draw(None)
    if isinstance(value, tuple) or _is_distribution(value):
        wanted = f"a number or a 1-D array of {length} numbers"
        raise parameter_error(name, wanted, repr(value))
    return _parse_array(name, value, n_samples, length).draw(None)


def draw_parameters(sources, n_samples, *, sersic_index_step, entropy):
    """Draw the table of parameters: a dict of name -> array of n_samples values.

    Every parameter consumes its own uniform random numbers even if it is not drawn.
    Fixing one parameter therefore does not change the others.
    """
    uniforms = draw_uniforms(
        n_samples, len(ALLOWED), entropy=entropy, stream=Stream.PARAMETERS
    )
    table = draw_sources(sources, uniforms)
    table["sersic_index"] = round_index(
        table["sersic_index"], sources["sersic_index"], sersic_index_step
    )
    return add_components(table)


def draw_sources(sources, uniforms):
    """Draw a table: each source with a column of random numbers, in order."""
    return {
        name: source.draw(uniforms[:, column])
        for column, (name, source) in enumerate(sources.items())
    }


def round_index(values, source, step):
    """Round Sersic indices of a source to multiples of a step, unless given."""
    if step is None or source.bounds is None:
        return values
    return np.clip(_round_to_step(values, step), *source.bounds)


def draw_telescope(sources, n_samples, *, n_psfs, entropy, band=0):
    """Draw the settings of `TELESCOPE`, and one of n_psfs PSFs as "psf_index".

    ``n_psfs`` is None if the PSFs are not drawn.
    """
    drawn = n_psfs is not None or any(source.bounds for source in sources.values())
    n_numbers = len(_TELESCOPE_NUMBERS)
    uniforms = np.zeros((n_samples, n_numbers))
    if drawn:
        uniforms = draw_uniforms(
            n_samples, n_numbers, entropy=entropy, stream=Stream.TELESCOPE, band=band
        )
    table = draw_sources(sources, uniforms)
    if n_psfs is not None:
        table["psf_index"] = (uniforms[:, -1] * n_psfs).astype(np.intp)
    return table


def add_components(table):
    """Return the table with e1 and e2, the components of the ellipticity."""
    e, angle = table["ellipticity"], 2 * np.deg2rad(table["position_angle"])
    return {**table, "e1": e * np.cos(angle), "e2": e * np.sin(angle)}


def parameter_error(name, requirement, got):
    """Return the error of a parameter that must satisfy a requirement.

    `validate_params` replaces make_galaxies by the name of the called function.
    """
    return InvalidParameterError(
        f"The {name!r} parameter of make_galaxies must be {requirement}. Got {got} "
        "instead."
    )


def item_error(name, requirement, error):
    """Return the error of a mapping from the error of one of its items."""
    item = str(error).replace("parameter of make_galaxies", "item")
    return InvalidParameterError(
        f"The {name!r} parameter of make_galaxies must be {requirement}. {item}"
    )


def _round_to_step(values, step):
    # The inner rounding counts steps; the outer one removes 0.15000000000000002.
    return np.round(np.round(values / step) * step, 12)


def _parse(name, value, n_samples, length="n_samples"):
    """Parse one parameter; ``length`` is the user's name for n_samples."""
    if isinstance(value, InVariants):
        return _parse_in_variants(name, value, n_samples)
    check_no_unit(value, name, _LIMITS[name].unit)
    if isinstance(value, tuple):
        return _parse_range(name, value, length)
    if is_number(value):
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
    if is_number(value):
        requirement = f"{_kinds(length, number='')} because it is one of 'varied'"
        raise parameter_error(name, requirement, f"the number {value!r}")
    return _parse(name, value, n_samples, length)


def _share(source, uniform, n_variants):
    """Draw with the random number of each galaxy's first variant, and repeat."""
    return np.repeat(source.draw(uniform[::n_variants]), n_variants)


def _parse_range(name, value, length):
    if len(value) != 2 or not all(map(is_number, value)):
        raise _wrong_type(name, value, length)
    low, high = map(as_float, value)
    _check_allowed(name, np.array([low, high]), given=value)
    if low > high:
        raise parameter_error(name, "a (low, high) tuple with low <= high", repr(value))
    return _Source(lambda uniform: low + (high - low) * uniform, bounds=(low, high))


def _parse_number(name, value, n_samples):
    values = np.full(n_samples, as_float(value))
    _check_allowed(name, values, given=value)
    return _Source(lambda uniform: values)


def _parse_array(name, value, n_samples, length):
    if np.ma.is_masked(value):
        raise parameter_error(name, "an array without masked entries", repr(value))
    try:
        values = np.asarray(value)
    except ValueError:
        raise _wrong_type(name, value, length) from None
    if values.dtype.kind not in "iuf" or values.ndim != 1:
        raise _wrong_type(name, value, length)
    if len(values) != n_samples:
        requirement = f"an array of {length}={n_samples} values"
        raise parameter_error(name, requirement, f"an array of {len(values)} values")
    values = values.astype(np.float64)
    _check_allowed(name, values)
    return _Source(lambda uniform: values)


def _parse_distribution(name, value):
    inverse_cdf = value.icdf if hasattr(value, "icdf") else value.ppf
    support = tuple(value.support())
    if any(np.ndim(end) for end in support):
        raise parameter_error(name, "a distribution of single numbers", repr(value))
    low, high = map(float, support)

    def draw(uniform):
        values = np.asarray(inverse_cdf(uniform), dtype=np.float64)
        _check_allowed(name, values, support=f"[{low:g}, {high:g}]")
        return values

    allowed = _LIMITS[name]
    return _Source(draw, bounds=(max(low, allowed.low), min(high, allowed.high)))


def _drawn_from(values):
    return _Source(lambda uniform: values[(uniform * len(values)).astype(np.intp)])


def is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool)


def is_zero(value):
    """Return whether a setting is the number 0."""
    if isinstance(value, InVariants):
        return is_zero(value.value)
    return is_number(value) and value == 0


def _is_distribution(value):
    # scipy.stats.norm and scipy.stats.Normal are families of distributions; norm(2, 1)
    # and Normal(mu=2, sigma=1) are distributions.
    if isinstance(value, (type, stats.rv_continuous, stats.rv_discrete)):
        return False
    return hasattr(value, "support") and (
        hasattr(value, "icdf") or hasattr(value, "ppf")
    )


def _check_allowed(name, values, given=None, support=None):
    good = np.isfinite(values) & _LIMITS[name].contains(values)
    if good.all():
        return
    first = int(np.argmin(good))
    if support is not None:
        got = f"a distribution with the support {support}, which gave {values[first]:g}"
    elif given is not None:
        got = repr(given)
    else:
        got = f"{values[first]:g} at index {first}"
    raise parameter_error(name, _LIMITS[name], got)


def _wrong_type(name, value, length):
    return parameter_error(name, _kinds(length), repr(value))


def _kinds(length, number=" a number,"):
    """Describe the accepted values; without a length, arrays are not among them."""
    array = f", a 1-D array of {length} numbers" if length else ""
    kinds = f"a (low, high) tuple of numbers,{number}".removesuffix(",") + array
    return f"{kinds} or a frozen distribution of scipy.stats"
