"""How well any method can measure the parameters of a stamp: the Cramer-Rao bound."""

import warnings
from collections.abc import Mapping
from inspect import signature
from numbers import Integral, Real

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch, check_array

from sklcae._compat import (
    Interval,
    InvalidParameterError,
    StrOptions,
    import_optional,
    validate_params,
)
from sklcae.datasets._galaxies import make_galaxies
from sklcae.datasets._parameters import ALLOWED, parse_parameters
from sklcae.datasets._render import PSFS, render_stamp

# What a stamp is fitted with: e1 and e2 are smooth where a galaxy is round, ellipticity
# and position angle are not.
PARAMETERS = (
    "flux",
    "half_light_radius",
    "sersic_index",
    "e1",
    "e2",
    "x0",
    "y0",
)

_OPTICS = ("image_shape", "pixel_scale", "psf", "psf_fwhm", "moffat_beta")
_DETECTOR = ("sky_level", "gain", "read_noise")

# Steps of the derivatives, the radius as a part of itself. Half of the step in the
# Sersic index is the grid that make_galaxies draws it from, so that GalSim's tables
# serve many stamps.
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
# Within a rounding error of 0.5, but not at it, GalSim fails to find a Sersic profile.
_SERSIC_DECIMALS = 12

# Standard deviations must not change by more than this when the steps are halved; where
# they do, the steps are halved again, this many times.
_TOLERANCE = 0.02
_MAX_HALVINGS = 3

# Fisher matrices, scaled to a diagonal of 1, are not inverted beyond this condition.
_MAX_CONDITION = 1e12

_N_QUANTILES = 1000
_MAX_CHUNK = 32


@validate_params(
    {
        "galaxies": [Mapping],
        "targets": [str, list, tuple, None],
        "prior": [StrOptions({"defaults"}), Mapping, None],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    },
    # The settings that galaxies bring along are looked at by the same decorator.
    prefer_skip_nested_validation=False,
)
def cramer_rao_bound(
    galaxies, *, targets=None, prior="defaults", n_jobs=None, verbose=0
):
    """Compute the least variance with which each stamp's parameters can be measured.

    The Cramer-Rao bound [1]_ of the seven parameters flux, half_light_radius,
    sersic_index, e1, e2, x0 and y0 of a galaxy, measured together on its stamp, from
    the model and the noise that :func:`make_galaxies` made it with. It is the ceiling
    of whatever is learnt from such stamps: see :func:`~sklcae.metrics.best_r2`,
    :func:`~sklcae.metrics.best_dispersion` and :func:`~sklcae.metrics.efficiency`.

    Parameters
    ----------
    galaxies : Bunch
        What ``make_galaxies(..., return_X_y=False)`` returns, or a mapping with the
        same frame, image_shape, pixel_scale, psf, psf_fwhm, moffat_beta, sky_level,
        gain and read_noise. The images are not used; with ``noise=False`` the bound is
        that of the stamps with noise.
    targets : None, str or sequence of str, default=None
        The columns of variance: names of the seven parameters. None takes
        ``galaxies.target_names``. A single name gives a 1-D variance.
    prior : "defaults", dict or None, default="defaults"
        What is known of the parameters before the stamp is seen. A dict holds the
        ranges, numbers, arrays and distributions that were given to
        :func:`make_galaxies`, by name; what it leaves out, and "defaults", have the
        defaults of that function, which are the paper's Table 1. A parameter that is
        the same for all galaxies is known. None stands for no knowledge: the bound of
        an unbiased estimator.
    n_jobs : int or None, default=None
        Number of parallel jobs, as joblib understands it. None is 1 unless in a
        `joblib.parallel_config` context.
    verbose : int, default=0
        Above 0 shows a progress bar on standard error.

    Returns
    -------
    bound : :class:`~sklearn.utils.Bunch`
        With the attributes

        variance : ndarray of shape (n_samples, n_targets) or (n_samples,)
            Least variance of each target, in its units squared.
        target_names : list of str
            Names of the columns of variance.
        covariance : ndarray of shape (n_samples, 7, 7)
            That of all seven parameters.
        parameter_names : list of str
            Names of the rows and columns of covariance.
        signal_to_noise : ndarray of shape (n_samples,)
            See :func:`signal_to_noise`.
        step_error : ndarray of shape (n_samples,)
            Largest relative change of the seven standard deviations in the check of
            the derivatives.

    Raises
    ------
    ValueError
        If `galaxies` lacks something, `targets` are not among the seven parameters, or
        a galaxy cannot have come from the `prior`; this is checked before anything is
        rendered.
    ImportError
        If GalSim, joblib or tqdm is not installed.

    Warns
    -----
    ConvergenceWarning
        If step_error is above 0.02 for some stamps.

    See Also
    --------
    make_galaxies : Make the galaxies.
    sklcae.metrics.efficiency : Bound over what an estimator achieves.

    Notes
    -----
    *Information.* With I the noiseless stamp and v = ``(I + sky_level) / gain +
    (read_noise / gain)**2`` the variance of its pixels, the Fisher matrix is the sum
    over the pixels of ``dI/da dI/db / v``. That v depends on the parameters as well
    adds nothing here. For Gaussian noise it would add ``dv/da dv/db / (2 v**2)``, which
    is 3.6 % at sky 10, gain 1 and read noise 2; but the noise is Poisson noise, for
    which ``1 / v`` is exact, and read noise. The information of one pixel of their sum,
    integrated numerically, is 0.3 % above ``1 / v`` there, 0.15 % in a standard
    deviation. It is more where a pixel counts few electrons: 6 % at 1 electron and read
    noise 1 to 2, 60 % at 0.1 electrons and read noise 0.5.

    *Derivatives* are differences over five points, of fourth order: of I at the two
    ends of a step, at half of the step to each side, and in the middle. That of the
    flux is exact, and at the limits of the Sersic index all points lie on one side. The
    check takes the three inner points alone, half of the step. Where a standard
    deviation changes by more than 2 % the steps are halved, three times at most, and
    the best is kept. It is needed because rendering has small jumps, at which GalSim
    takes another size of Fourier transform.

    *Prior.* It counts as a Gaussian with the prior's covariance P, in e1 and e2 that
    of independent ellipticities and angles: with the Fisher matrix F at the true
    parameters, the covariance is the inverse of ``F + inv(P)``, so that a stamp without
    information leaves P. A range has the variance width**2 / 12; with angles all
    around, e1 and e2 have half the mean of ellipticity**2. This is the Bayesian bound
    in the form of [2]_, but for each stamp rather than for the mean of F. It is not
    strict: where the prior matters, that is for faint galaxies and those cut by the
    edge, the edges of a range tell more than a Gaussian does, and one Fisher matrix
    does not know how it varies within the posterior. The rounding of Sersic indices
    to a grid is left out. With ``prior=None`` the bound is strict, though only for
    unbiased estimators and, for a few galaxies that are hardly on their stamps, far
    above the range that the parameters come from; it is infinite where the Fisher
    matrix cannot be inverted.

    It takes 25 renderings a stamp.

    References
    ----------
    .. [1] S. M. Kay, "Fundamentals of Statistical Signal Processing: Estimation
       Theory", chapter 3, Prentice Hall (1993).
    .. [2] H. L. Van Trees, "Detection, Estimation, and Modulation Theory, Part I",
       section 2.4, Wiley (1968).

    Examples
    --------
    >>> from sklcae.datasets import cramer_rao_bound, make_galaxies
    >>> galaxies = make_galaxies(
    ...     n_samples=2,
    ...     flux=[500.0, 50_000.0],
    ...     half_light_radius=1.0,
    ...     sersic_index=1.0,
    ...     ellipticity=0.3,
    ...     x0=16.0,
    ...     y0=16.0,
    ...     image_shape=(32, 32),
    ...     return_X_y=False,
    ...     random_state=0,
    ... )
    >>> bound = cramer_rao_bound(galaxies, prior=None)
    >>> bound.target_names
    ['flux', 'half_light_radius']
    >>> relative = bound.variance**0.5 / galaxies.target
    >>> relative.round(3)
    array([[0.283, 0.291],
           [0.006, 0.005]])
    """
    table = _check_galaxies(galaxies)
    names = _check_targets(galaxies, targets)
    factor = None if prior is None else _prior_factor(prior, galaxies, table)
    theta = _fit_parameters(table)
    optics = {name: galaxies[name] for name in _OPTICS}
    detector = {name: galaxies[name] for name in _DETECTOR}
    covariance, ratio, error = _bound_all(
        theta, optics, detector, factor, n_jobs, verbose
    )
    _warn_of_steps(error)
    columns = [PARAMETERS.index(name) for name in names]
    variance = np.diagonal(covariance, axis1=1, axis2=2)[:, columns]
    one = isinstance(targets, str) or (
        targets is None and np.ndim(galaxies.get("target")) == 1
    )
    return Bunch(
        variance=variance[:, 0] if one else variance,
        target_names=names,
        covariance=covariance,
        parameter_names=list(PARAMETERS),
        signal_to_noise=ratio,
        step_error=error,
    )


@validate_params(
    {
        "sky_level": [Interval(Real, 0, None, closed="left")],
        "gain": [Interval(Real, 0, None, closed="neither")],
        "read_noise": [Interval(Real, 0, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def signal_to_noise(images, *, sky_level=10.0, gain=1.0, read_noise=2.0):
    """Compute the signal-to-noise ratio that a galaxy has on its stamp.

    It is that of the best linear measurement of the flux of a galaxy whose shape is
    known, a matched filter [1]_: the root of the sum over the pixels of ``I**2 / v``,
    where I is the noiseless stamp and v the variance of its pixels, ``(I + sky_level)
    / gain + (read_noise / gain)**2``.

    Parameters
    ----------
    images : array-like of shape (n_images, height, width) or (n_images, n_pixels)
        Noiseless stamps in ADU, without sky. The noise of others would count as
        signal.
    sky_level : float, default=10.0
        Sky background in ADU per pixel, as in :func:`make_galaxies`.
    gain : float, default=1.0
        Electrons per ADU.
    read_noise : float, default=2.0
        Standard deviation of the read noise, in electrons per pixel.

    Returns
    -------
    ndarray of shape (n_images,)
        Signal-to-noise ratios.

    Raises
    ------
    ValueError
        If `images` is not a finite array of two or three dimensions, or another
        parameter is out of its range.

    See Also
    --------
    cramer_rao_bound : Gives these ratios as well, together with the bound.
    sklcae.metrics.scores_by_signal_to_noise : Scores of faint and bright galaxies.

    References
    ----------
    .. [1] S. M. Kay, "Fundamentals of Statistical Signal Processing: Detection Theory",
       chapter 4, Prentice Hall (1998).

    Examples
    --------
    The same random_state without noise gives the noiseless twins of stamps with it:

    >>> from sklcae.datasets import make_galaxies, signal_to_noise
    >>> settings = {"sersic_index": 1.0, "image_shape": (32, 32), "random_state": 0}
    >>> X, y = make_galaxies(3, **settings)
    >>> noiseless, _ = make_galaxies(3, noise=False, **settings)
    >>> signal_to_noise(noiseless).round()
    array([61., 38., 69.])
    """
    images = check_array(
        images,
        dtype=np.float64,
        allow_nd=True,
        ensure_min_samples=0,
        input_name="images",
    )
    if images.ndim > 3:
        raise ValueError(
            "images must have the shape (n_images, height, width) or (n_images, "
            f"n_pixels), got {images.shape}."
        )
    weight = _weight(images, sky_level, gain, read_noise)
    return np.sqrt((images**2 * weight).reshape(len(images), -1).sum(axis=1))


def _weight(stamp, sky_level, gain, read_noise):
    """Inverse variance of each pixel, 0 where there is neither light nor noise."""
    # Fourier ringing can leave a pixel slightly below zero: no Poisson mean is.
    electrons = np.clip(stamp + sky_level, 0.0, None) * gain
    variance = (electrons + read_noise**2) / gain**2
    return np.divide(1.0, variance, out=np.zeros_like(variance), where=variance > 0)


def _check_galaxies(galaxies):
    """Return the parameters of galaxies whose settings are all there and right."""
    wanted = "what make_galaxies returns with return_X_y=False, or hold the same"
    missing = [n for n in ("frame", *_OPTICS, *_DETECTOR) if n not in galaxies]
    missing += [n for n in ALLOWED if not missing and n not in galaxies["frame"]]
    if missing:
        got = f"a {type(galaxies).__name__} without {', '.join(missing)}"
        raise _error("galaxies", wanted, got)
    frame = galaxies["frame"]
    given = {name: np.asarray(frame[name]) for name in ALLOWED}
    try:
        _check_settings(**{name: galaxies[name] for name in (*_OPTICS, *_DETECTOR)})
        sources = parse_parameters(given, len(given["flux"]))
    except InvalidParameterError as error:
        raise _error("galaxies", wanted, f"one of which: {error}") from error
    return {name: source.draw(None) for name, source in sources.items()}


@validate_params(
    {
        "image_shape": [tuple, list],
        "pixel_scale": [Interval(Real, 0, None, closed="neither")],
        "psf": [StrOptions(set(PSFS)), None],
        "psf_fwhm": [Interval(Real, 0, None, closed="neither")],
        "moffat_beta": [Interval(Real, 1.1, None, closed="neither")],
        "sky_level": [Interval(Real, 0, None, closed="left")],
        "gain": [Interval(Real, 0, None, closed="neither")],
        "read_noise": [Interval(Real, 0, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def _check_settings(
    *,
    image_shape,
    pixel_scale,
    psf,
    psf_fwhm,
    moffat_beta,
    sky_level,
    gain,
    read_noise,
):
    """Let the decorator look at the settings that a Bunch brings along."""


def _fit_parameters(table):
    """Return the seven parameters that a stamp is fitted with, as rows."""
    angle = 2 * np.deg2rad(table["position_angle"])
    e = table["ellipticity"]
    table = {**table, "e1": e * np.cos(angle), "e2": e * np.sin(angle)}
    return np.column_stack([table[name] for name in PARAMETERS])


def _check_targets(galaxies, targets):
    names = galaxies.get("target_names") if targets is None else targets
    names = [names] if isinstance(names, str) else list(names or ())
    known = all(isinstance(name, str) and name in PARAMETERS for name in names)
    if names and known and len(set(names)) == len(names):
        return names
    got = repr(targets) if targets is not None else f"galaxies with targets {names}"
    raise _error(
        "targets", f"one or more different names of {', '.join(PARAMETERS)}", got
    )


def _prior_factor(prior, galaxies, table):
    """Return a factor L of the prior's covariance, L L^T."""
    given = _prior_arguments(prior, galaxies)
    wanted = "a dict of values as make_galaxies takes them"
    try:
        sources = parse_parameters(given, len(table["flux"]))
        for name, source in sources.items():
            _check_possible(name, table[name], source, given[name])
        return _covariance_factor(sources)
    except InvalidParameterError as error:
        raise _error("prior", wanted, f"one of which: {error}") from error


def _prior_arguments(prior, galaxies):
    height, width = galaxies["image_shape"]
    defaults = signature(make_galaxies).parameters
    given = {name: defaults[name].default for name in ALLOWED}
    if prior != "defaults":
        unknown = [name for name in prior if name not in ALLOWED]
        if unknown:
            raise _error("prior", f"a dict with the keys {', '.join(ALLOWED)}", unknown)
        given.update(prior)
    for name, side in (("x0", width), ("y0", height)):
        if given[name] is None:
            given[name] = (0.0, float(side))
    return given


def _check_possible(name, values, source, given):
    """Raise ValueError for galaxies that the prior cannot have brought forth."""
    if source.bounds is None:
        possible = source.draw(None) == values
    elif name == "position_angle":
        return  # 190 degrees are 10 degrees.
    else:
        low, high = source.bounds
        possible = (values >= low) & (values <= high)
    if not possible.all():
        first = int(np.argmin(possible))
        got = f"{given!r}, with which no galaxy has {values[first]:g} (index {first})"
        raise _error(name, "such that all galaxies can come from it", got)


def _covariance_factor(sources):
    """Return L with L L^T the covariance of the seven parameters, singular or not."""
    quantiles = (np.arange(_N_QUANTILES) + 0.5) / _N_QUANTILES
    draws = {name: source.draw(quantiles) for name, source in sources.items()}
    # Relative to the first value, the variance of a constant is 0 without rounding.
    spread = {name: np.std(values - values[0]) for name, values in draws.items()}
    factor = np.diag([spread.get(name, 0.0) for name in PARAMETERS])
    both = [PARAMETERS.index("e1"), PARAMETERS.index("e2")]
    factor[np.ix_(both, both)] = _shape_factor(
        draws["ellipticity"], draws["position_angle"]
    )
    return factor


def _shape_factor(ellipticity, position_angle):
    """Return that of e1 and e2, for ellipticities and angles that are independent."""
    angle = 2 * np.deg2rad(position_angle)
    direction = np.stack([np.cos(angle), np.sin(angle)])
    mean = np.mean(ellipticity) * direction.mean(axis=1)
    square = np.mean(ellipticity**2)
    second = square * direction @ direction.T / len(angle)
    values, vectors = np.linalg.eigh(second - np.outer(mean, mean))
    # The rounding error of nothing would count as a little freedom.
    values[values <= 1e-12 * square] = 0.0
    return vectors * np.sqrt(values)


def _bound_all(theta, optics, detector, factor, n_jobs, verbose):
    """Bound all stamps, in chunks of like Sersic index, whose tables GalSim caches."""
    joblib, tqdm = _import("joblib"), _import("tqdm").tqdm
    n_samples = len(theta)
    order = np.argsort(theta[:, PARAMETERS.index("sersic_index")], kind="stable")
    size = min(_MAX_CHUNK, -(-n_samples // (4 * joblib.effective_n_jobs(n_jobs))))
    chunks = [order[start : start + size] for start in range(0, n_samples, size)]
    results = joblib.Parallel(n_jobs=n_jobs, return_as="generator")(
        joblib.delayed(_bound_chunk)(theta[chunk], optics, detector, factor)
        for chunk in chunks
    )
    parts = []
    with tqdm(total=n_samples, desc="bounds", unit="stamp", disable=not verbose) as bar:
        for chunk, part in zip(chunks, results, strict=True):
            parts.append(part)
            bar.update(len(chunk))
    back = np.argsort(order)
    return tuple(np.concatenate(one)[back] for one in zip(*parts, strict=True))


def _bound_chunk(theta, optics, detector, factor):
    bounds = [_bound_stamp(one, optics, detector, factor) for one in theta]
    return tuple(np.array(one) for one in zip(*bounds, strict=True))


def _bound_stamp(theta, optics, detector, factor):
    """Return the covariance, the signal-to-noise ratio and the error of the steps."""
    image = _render(theta, optics)
    root = np.sqrt(_weight(image, **detector))
    free = np.ones(len(theta), bool) if factor is None else factor.any(axis=1)
    best, least = None, np.inf
    for halving in range(_MAX_HALVINGS + 1):
        fine, check = _jacobians(theta, image, optics, free, 0.5**halving)
        covariance = _covariance(fine * root, factor)
        error = _change(covariance, _covariance(check * root, factor))
        if best is None or error < least:
            best, least = covariance, error
        if least <= _TOLERANCE:
            break
    return best, np.linalg.norm(image * root), least


def _render(theta, optics):
    row = dict(zip(PARAMETERS, map(float, theta), strict=True))
    e1, e2 = row.pop("e1"), row.pop("e2")
    row["ellipticity"] = float(np.hypot(e1, e2))
    row["position_angle"] = float(np.rad2deg(np.arctan2(e2, e1))) / 2
    return render_stamp(row, **optics)


def _jacobians(theta, image, optics, free, scale):
    """Differentiate a stamp: by all points, and by the inner ones, to check them."""
    fine, check = np.zeros((2, len(theta), *image.shape))
    fine[0] = check[0] = free[0] * image / theta[0]
    for column in np.flatnonzero(free[1:]) + 1:
        step, offsets = _step(theta, column, scale)
        images = [
            image if offset == 0 else _render(_moved(theta, column, move), optics)
            for offset, move in zip(offsets, step * offsets, strict=True)
        ]
        inner = np.argsort(np.abs(offsets), kind="stable")[:3]
        fine[column] = np.tensordot(_difference_weights(step * offsets), images, 1)
        weights = _difference_weights(step * offsets[inner])
        check[column] = np.tensordot(weights, [images[i] for i in inner], 1)
    return fine, check


def _step(theta, column, scale):
    """Return the step in a parameter and the points, in steps, to render."""
    name = PARAMETERS[column]
    step = scale * _STEPS[name]
    if name == "half_light_radius":
        return step * theta[column], _BOTH_SIDES
    if name in ("e1", "e2"):
        e1, e2 = PARAMETERS.index("e1"), PARAMETERS.index("e2")
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
    if PARAMETERS[column] == "sersic_index":
        moved[column] = np.round(moved[column], _SERSIC_DECIMALS)
    return moved


def _difference_weights(offsets):
    """Weights that make the first derivative at 0 of values at these offsets."""
    scale = np.abs(offsets).max()
    powers = np.vander(offsets / scale, increasing=True).T
    return np.linalg.solve(powers, np.eye(len(offsets))[1]) / scale


def _covariance(whitened, factor):
    """Invert the Fisher matrix of a whitened Jacobian, with the prior if there is one.

    (F + P^-1)^-1 = L (1 + L^T F L)^-1 L^T, which neither F nor P need be inverted for.
    """
    flat = whitened.reshape(len(whitened), -1)
    if factor is not None:
        seen = factor.T @ flat
        inner = np.linalg.inv(np.eye(len(factor)) + seen @ seen.T)
        return factor @ inner @ factor.T
    scale = np.linalg.norm(flat, axis=1)
    if scale.all():
        scaled = flat / scale[:, np.newaxis]
        fisher = scaled @ scaled.T
        if np.linalg.cond(fisher) < _MAX_CONDITION:
            return np.linalg.inv(fisher) / np.outer(scale, scale)
    return np.full((len(flat), len(flat)), np.inf)


def _change(covariance, other):
    """Largest relative difference of standard deviations, of those that are known."""
    variance, other = np.diagonal(covariance), np.diagonal(other)
    usable = (variance > 0) & np.isfinite(variance) & np.isfinite(other)
    if not usable.any():
        return 0.0
    return float(np.abs(np.sqrt(other[usable] / variance[usable]) - 1).max())


def _warn_of_steps(error):
    bad = np.flatnonzero(error > _TOLERANCE)
    if len(bad):
        warnings.warn(
            f"The bounds of {len(bad)} of {len(error)} stamps change by more than "
            f"{_TOLERANCE:.0%} when the steps of their derivatives are halved, the "
            f"first at index {bad[0]}; step_error says by how much.",
            ConvergenceWarning,
            stacklevel=3,
        )


def _error(name, what, got):
    return InvalidParameterError(
        f"The {name!r} parameter of cramer_rao_bound must be {what}. Got {got} instead."
    )


def _import(module):
    return import_optional(module, extra="simulate", purpose="cramer_rao_bound")
