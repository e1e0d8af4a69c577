"""cramer_rao_bound: the best possible accuracy of a stamp's measured parameters."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch

from sklcae._compat import (
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
    validate_params,
)
from sklcae._units import check_no_unit
from sklcae.datasets._derivatives import jacobians, render
from sklcae.datasets._galaxies import (
    PIXELS,
    check_centers,
    check_image_shape,
)
from sklcae.datasets._noise import inverse_variance
from sklcae.datasets._parallel import map_chunks
from sklcae.datasets._parameters import (
    ALLOWED,
    FITTED,
    TELESCOPE,
    add_components,
    check_names,
    item_error,
    parameter_error,
    parse_parameters,
)
from sklcae.datasets._prior import prior_factor
from sklcae.datasets._telescope import (
    DEFAULTS,
    GAIN,
    check_psf,
    check_variance,
    needed_settings,
    read_telescope,
    with_images,
)

# Largest change of the standard deviations when the steps are halved. Above it the
# steps are halved again, this many times at most.
_TOLERANCE = 0.02
_MAX_HALVINGS = 3

# Largest condition of a Fisher matrix, scaled to a diagonal of 1, that is inverted.
_MAX_CONDITION = 1e12


@validate_params(
    {
        "galaxies": [Mapping],
        "targets": [str, list, tuple, None],
        "prior": [StrOptions({"defaults"}), Mapping, None],
        "psf": ["array-like", None],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    },
    # The settings of the galaxies are validated inside.
    prefer_skip_nested_validation=False,
)
def cramer_rao_bound(
    galaxies: Bunch,
    *,
    targets: str | Sequence[str] | None = None,
    prior: Literal["defaults"] | dict[str, Any] | None = "defaults",
    variance: ArrayLike | None = None,
    psf: ArrayLike | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> Bunch:
    """Compute the Cramer-Rao bound on the variance of each stamp's parameters.

    The bound [1]_ is the smallest possible covariance of the seven parameters flux,
    half_light_radius, sersic_index, e1, e2, x0 and y0 of a galaxy, measured jointly on
    its stamp with the model and the noise of :func:`make_galaxies`. It limits the
    accuracy of every estimator trained on these stamps: see
    :func:`~sklcae.metrics.best_r2`, :func:`~sklcae.metrics.best_dispersion` and
    :func:`~sklcae.metrics.efficiency`.

    Parameters
    ----------
    galaxies : Bunch
        The Bunch that ``make_galaxies(..., return_X_y=False)`` returns, or a mapping
        with the same frame, image_shape, pixel_scale, psf, psf_fwhm, moffat_beta,
        sky_level, gain and read_noise; psf_ellipticity and psf_position_angle are 0 if
        they are missing. Settings of PSF and noise that have a column in the frame are
        taken from there, for each stamp; others are numbers, or arrays with one value
        for each stamp. The images are not used; the bound includes the noise even if
        the galaxies were made with ``noise=False``.
    targets : None, str or sequence of str, default=None
        The columns of variance: names of the seven parameters. None takes
        ``galaxies.target_names``. A single name gives a 1-D variance.
    prior : "defaults", dict or None, default="defaults"
        Prior knowledge of the parameters. A dict has the ranges, numbers, arrays and
        distributions that were given to :func:`make_galaxies`, by name. Parameters
        that are not in the dict have the defaults of that function, the paper's Table
        1; with "defaults" this applies to all. A parameter with the same value for all
        galaxies counts as known. None means no prior knowledge: the bound of an
        unbiased estimator.
    variance : float or array-like of shape (height, width) or (n_samples, height, \
width), default=None
        Variance of the background of each pixel in ADU squared, such as the plane
        "variance" of :func:`make_galaxies`, instead of the sky_level and read_noise of
        the galaxies. Infinite where a pixel is masked. The gain of the galaxies may
        then be None: the variance includes the noise of the galaxy.
    psf : array-like of shape (h, w) or (n_samples, h, w), default=None
        Effective PSF of all stamps or of each, such as the plane "psf" of
        :func:`make_galaxies`, instead of the PSF of the galaxies.
    n_jobs : int or None, default=None
        Number of parallel jobs, as in joblib. None means 1 unless in a
        `joblib.parallel_config` context.
    verbose : int, default=0
        A value above 0 shows a progress bar on standard error.

    Returns
    -------
    bound : :class:`~sklearn.utils.Bunch`
        With the attributes

        variance : ndarray of shape (n_samples, n_targets) or (n_samples,)
            Least variance of each target, in its units squared.
        target_names : list of str
            Names of the columns of variance.
        covariance : ndarray of shape (n_samples, 7, 7)
            Covariance of the seven parameters.
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
        If `galaxies` is incomplete, or has bands, bulges or correlated noise;
        `targets` are not among the seven parameters, the `prior` excludes a galaxy, or
        `variance` or `psf` is not allowed. This is checked before rendering.
    TypeError
        If an item of `galaxies` or `prior` is an astropy Quantity.
    ImportError
        If GalSim, joblib or tqdm is not installed.

    Warns
    -----
    ConvergenceWarning
        If step_error is above 0.02 for some stamps.

    See Also
    --------
    make_galaxies : Make the galaxies.
    sklcae.metrics.efficiency : The bound over the error of an estimator.

    Notes
    -----
    *Information.* The Fisher matrix is the sum of ``dI/da dI/db / v`` over the pixels,
    where I is the noiseless stamp and ``v = (I + sky_level) / gain + (read_noise /
    gain)**2``, or ``variance + I / gain``, the variance of its pixels. The dependence
    of v on the parameters adds no
    term here. For Gaussian noise it would add ``dv/da dv/db / (2 v**2)``, which is
    3.6 % at sky 10, gain 1 and read noise 2. But ``1 / v`` is exact for Poisson noise,
    and only the read noise is Gaussian. At these settings the information of one pixel
    with both, integrated numerically, is 0.3 % above ``1 / v``, or 0.15 % in a standard
    deviation. The excess is larger for pixels with few electrons: 6 % at 1 electron
    and read noise 1 to 2, 60 % at 0.1 electrons and read noise 0.5.

    *Derivatives* are finite differences of fourth order over five points: the middle,
    and half a step and a full step to each side. The derivative with respect to the
    flux is exact. At the limits of the Sersic index all points are on one side. The
    check uses only the three inner points, which halves the step. If a standard
    deviation changes by more than 2 %, the steps are halved, at most three times, and
    the result with the smallest change is kept. The check is needed because stamps have
    small jumps where GalSim changes the size of its Fourier transform.

    *Prior.* The prior is treated as a Gaussian with the same covariance P; for e1 and
    e2, P follows from independent ellipticities and angles. With the Fisher matrix F at
    the true parameters, the covariance is the inverse of ``F + inv(P)``, so that a
    stamp without information has the covariance P. A range has the variance ``width**2
    / 12``. If the angles cover all directions, e1 and e2 have half of the mean of
    ``ellipticity**2``. This is the Bayesian bound of [2]_, but for each stamp instead
    of for the mean of F. It is not strict where the prior matters, for faint galaxies
    and for galaxies at the edge of the stamp: the limits of a range contain more
    information than a Gaussian, and the Fisher matrix varies within the posterior. The
    rounding of Sersic indices to a grid is neglected. With ``prior=None`` the bound is
    strict, but only for unbiased estimators. For a few galaxies that are mostly outside
    their stamps it is far above the range of the parameters, and it is infinite if the
    Fisher matrix cannot be inverted.

    *Neighbours and defects.* The bound sees the central galaxy alone on a perfect
    image. Neighbours, sky left over, cosmic rays, saturation and dead columns of
    :func:`make_galaxies` are ignored. They take information away, so that the bound
    remains a limit, but one that may be out of reach.

    The function renders 25 images for each stamp.

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
    table, telescope = _check_galaxies(galaxies, variance, psf)
    given = galaxies.get("target_names") or () if targets is None else targets
    prefix = "galaxies.target_names=" if targets is None else ""
    names = check_names("targets", given, FITTED, prefix=prefix)
    factor = None
    if prior is not None:
        factor = prior_factor(prior, galaxies["image_shape"], table)
    covariance, ratio, error = _bound_all(table, telescope, factor, n_jobs, verbose)
    _warn_of_steps(error)
    columns = [FITTED.index(name) for name in names]
    variance = np.diagonal(covariance, axis1=1, axis2=2)[:, columns]
    one = isinstance(targets, str) or (
        targets is None and np.ndim(galaxies.get("target")) == 1
    )
    return Bunch(
        variance=variance[:, 0] if one else variance,
        target_names=names,
        covariance=covariance,
        parameter_names=list(FITTED),
        signal_to_noise=ratio,
        step_error=error,
    )


def _check_galaxies(galaxies, variance, psf):
    """Return the table of parameters and the `Telescope` of valid galaxies."""
    wanted = "a Bunch of make_galaxies or a mapping with the same items"
    frame = galaxies.get("frame")
    columns = getattr(frame, "columns", frame if isinstance(frame, Mapping) else ())
    settings = needed_settings(
        galaxies, with_psf=psf is None, with_noise=variance is None
    )
    present = {*galaxies, *columns, *DEFAULTS}
    missing = [n for n in ("frame", *PIXELS, *GAIN) if n not in galaxies]
    missing += [n for n in settings if n not in present]
    missing += [n for n in ALLOWED if not missing and n not in columns]
    _check_simple(galaxies, columns)
    if missing:
        got = f"a {type(galaxies).__name__} without {', '.join(missing)}"
        raise parameter_error("galaxies", wanted, got)
    frame = _read_columns(frame, columns)
    pixels = {name: galaxies[name] for name in (*PIXELS, *GAIN)}
    gain = GAIN if variance is None else {"gain": [*GAIN["gain"], None]}
    n_samples = frame["flux"].size
    try:
        validate_parameter_constraints(
            {**PIXELS, **gain}, pixels, caller_name="make_galaxies"
        )
        shape = check_image_shape(pixels["image_shape"])
        sources = parse_parameters({name: frame[name] for name in ALLOWED}, n_samples)
        table = {name: source.draw(None) for name, source in sources.items()}
        check_centers(table, *shape)
        telescope = read_telescope(galaxies, frame, settings, n_samples)
    except InvalidParameterError as error:
        raise item_error("galaxies", wanted, error) from error
    if psf is not None:
        images = check_psf(psf, shape)
        telescope = with_images(telescope, images, n_samples)
    if variance is not None:
        background = check_variance(variance, (n_samples, *shape))
        telescope = replace(telescope, background=background)
    return add_components(table), telescope


def _check_simple(galaxies, columns):
    """Refuse galaxies that the model of the bound does not describe."""
    unknown = []
    if galaxies.get("bands") is not None:
        unknown.append("several bands")
    if "bulge_fraction" in columns:
        unknown.append("bulges")
    if galaxies.get("noise_correlation", 0) != 0:
        unknown.append("correlated noise")
    if unknown:
        wanted = "galaxies of one Sersic profile in one band with independent noise"
        raise parameter_error(
            "galaxies", wanted, f"galaxies with {' and '.join(unknown)}"
        )


def _read_columns(frame, columns):
    """Return a dict of the columns of parameters and settings. Masks are kept."""
    units = {name: allowed.unit for name, allowed in {**ALLOWED, **TELESCOPE}.items()}
    units["psf_index"] = None
    read = {}
    for name in [name for name in units if name in columns]:
        check_no_unit(frame[name], name, units[name])
        read[name] = np.asanyarray(frame[name])
    return read


def _bound_all(table, telescope, factor, n_jobs, verbose):
    """Return the covariances, signal-to-noise ratios and step errors of all stamps."""
    theta = np.column_stack([table[name] for name in FITTED])

    def arguments(chunk):
        optics = [telescope.optics(i) for i in chunk]
        return theta[chunk], optics, [telescope.detector(i) for i in chunk], factor

    chunks, parts = zip(
        *map_chunks(
            _bound_chunk,
            arguments,
            table["sersic_index"],
            n_jobs=n_jobs,
            verbose=verbose,
            purpose="cramer_rao_bound",
            desc="bounds",
        ),
        strict=True,
    )
    back = np.argsort(np.concatenate(chunks))
    return tuple(np.concatenate(one)[back] for one in zip(*parts, strict=True))


def _bound_chunk(theta, optics, detectors, factor):
    bounds = [
        _bound_stamp(*one, factor) for one in zip(theta, optics, detectors, strict=True)
    ]
    return tuple(np.array(one) for one in zip(*bounds, strict=True))


def _bound_stamp(theta, optics, detector, factor):
    """Return the covariance, the signal-to-noise ratio and the step error."""
    image = render(theta, optics)
    root = np.sqrt(inverse_variance(image, **detector))
    free = np.ones(len(theta), bool) if factor is None else factor.any(axis=1)
    best, least = None, np.inf
    for halving in range(_MAX_HALVINGS + 1):
        fine, check = jacobians(theta, image, optics, free, 0.5**halving)
        covariance = _covariance(fine * root, factor)
        error = _change(covariance, _covariance(check * root, factor))
        if best is None or error < least:
            best, least = covariance, error
        if least <= _TOLERANCE:
            break
    return best, np.linalg.norm(image * root), least


def _covariance(whitened, factor):
    """Invert the Fisher matrix F of a whitened Jacobian, with the prior P if given.

    (F + P^-1)^-1 = L (1 + L^T F L)^-1 L^T with P = L L^T, which also holds if F or P is
    singular.
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
    """Return the largest relative change of the standard deviations."""
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
            f"first at index {bad[0]}; step_error is the change of each stamp.",
            ConvergenceWarning,
            stacklevel=3,
        )
