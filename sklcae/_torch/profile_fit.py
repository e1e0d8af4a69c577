"""Fit Sersic profiles to many stamps, by the method of Levenberg and Marquardt."""

from typing import Any, NamedTuple

import numpy as np
import torch

from sklcae._torch.moments import guess_profiles
from sklcae._torch.sersic import (
    E1,
    E2,
    LOG_FLUX,
    N_PARAMETERS,
    X,
    psf_waves,
    render,
    render_with_jacobian,
    transform_size,
)
from sklcae._torch.workers import single_threads, usual_modes

# The background of a stamp is a parameter after those of the profile.
SKY = N_PARAMETERS
N_FITTED = N_PARAMETERS + 1
# Stamps that are rendered at once. The result for a stamp does not depend on the
# others, since each block has this size.
BLOCK = 8
# The largest number of stamps that one worker fits at a time. Those that have not
# converged share blocks, which pays as some fits take ten times as many steps.
PART = 256

# A fit has converged when the next step would lower chi-square by less. That step is
# still taken, without another look at the image.
TOLERANCE = 3e-3
# Rounding errors of chi-square in float32 are below this.
SLACK = 1e-3
# For smaller relative changes of the variance a series is more precise.
SMALL = 0.02
# Damping: its start, its limits, and its factors after good and bad steps.
DAMPING = 1e-3
LEAST_DAMPING, MOST_DAMPING = 1e-7, 1e8
EASE, RESTRAIN = 0.2, 4.0
# A step is good if it lowers chi-square by this share of the expected decrease. If the
# expected decrease is too small to be measured, damping changes by the second factor.
GOOD_SHARE, SLIGHTLY = 0.25, 0.8
# The largest steps: factors of e, ellipticity, pixels. The sky has no limit.
LARGEST_STEP = np.array([1.0, 0.7, 0.7, 0.3, 0.3, 3.0, 3.0, np.inf])
# A narrower prior of the sky, in units of the noise, makes no difference.
LEAST_SKY_SIGMA = 1e-6
# A parameter is at a limit if it is as near as this, as a share of the range.
NEAR = 1e-6


# Proposals for the draws from a posterior: at least so many, so many for each draw, and
# the degrees of freedom of their t distribution.
LEAST_PROPOSALS, PROPOSALS_PER_DRAW = 400, 4
DEGREES_OF_FREEDOM = 6


class Stamps(NamedTuple):
    """Stamps to fit, as arrays of NumPy or tensors.

    Images and variances of the background are (n, H, W); ``counts`` is 0 for masked
    pixels, whose values may be any numbers, and else 1. PSFs (n, H, W) are as
    `psf_waves` takes them. ``noise_of_light`` (n,) is the variance for each unit of
    light, one over the gain, or 0 if the variances have the noise of the source too.
    """

    images: Any
    variance: Any
    counts: Any
    psf: Any
    noise_of_light: Any

    def map(self, function):
        """Apply a function to each array."""
        return Stamps(*map(function, self))

    def take(self, rows):
        """Return some of the stamps."""
        return self.map(lambda values: values[rows])


class Limits(NamedTuple):
    """The allowed values of the fitted parameters.

    ``low`` and ``high`` (8,) are the limits, and ``ellipticity`` the largest
    ellipticity. ``sky_sigma`` is the width of the Gaussian prior of the background:
    infinite if it is free, 0 if there is none.
    """

    low: np.ndarray
    high: np.ndarray
    ellipticity: float
    sky_sigma: float


class Fits(NamedTuple):
    """The fits of n stamps.

    Parameters
    ----------
    parameters : ndarray of shape (n, 8)
        Those of `render`, and the background.
    hessian : ndarray of shape (n, 8, 8)
        The matrix of Gauss and Newton, half the second derivative of chi-square.
    chi_square : ndarray of shape (n,)
        Sum of the squared residuals over their variances.
    n_pixels : ndarray of shape (n,)
        Number of pixels that count.
    constant : bool ndarray of shape (n,)
        Whether all pixels that count have the same value.
    converged : bool ndarray of shape (n,)
        Whether the fit is at a minimum.
    at_limit : bool ndarray of shape (n, 8)
        Whether a parameter is at its limit.
    n_steps : ndarray of shape (n,)
        Number of steps, with those that were not accepted.
    """

    parameters: np.ndarray
    hessian: np.ndarray
    chi_square: np.ndarray
    n_pixels: np.ndarray
    constant: np.ndarray
    converged: np.ndarray
    at_limit: np.ndarray
    n_steps: np.ndarray


# A stamp whose light overflows gets a fit that has not converged, and no warning.
_without_warnings = np.errstate(all="ignore")


def fit_profiles(read, start, limits, max_steps, device="cpu"):
    """Fit stamps from their start (n, 8), within limits, and return the `Fits`.

    ``read`` takes a slice and returns `Stamps` of NumPy arrays. NaN in the start is
    replaced by a guess from the moments of the image. Works on as many threads as
    PyTorch may use, with the same bits for any number.
    """
    n_stamps = len(start)
    if not n_stamps:
        return _no_fits()
    size = min(PART, -(-n_stamps // torch.get_num_threads()))
    slices = [slice(i, min(i + size, n_stamps)) for i in range(0, n_stamps, size)]

    @torch.inference_mode()
    @_without_warnings
    def fit(part):
        return _Fit(read(part), start[part], limits, device).run(max_steps)

    with usual_modes(device), single_threads(device) as executor:
        parts = executor(fit, slices)
    return Fits(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _no_fits():
    matrices, numbers = np.zeros((0, N_FITTED, N_FITTED)), np.zeros(0, int)
    flags = np.zeros((0, N_FITTED), bool)
    return Fits(
        parameters=matrices[:, 0],
        hessian=matrices,
        chi_square=matrices[:, 0, 0],
        n_pixels=numbers,
        constant=flags[:, 0],
        converged=flags[:, 0],
        at_limit=flags,
        n_steps=numbers,
    )


def draw_profiles(read, parameters, covariance, limits, n_draws, seeds, device="cpu"):
    """Draw parameters (n, n_draws, 8) from the posteriors of n stamps.

    The prior is constant within the limits, in the parameters of `render`. Proposals
    from a t distribution around the fit are weighted by posterior over proposal and
    drawn again with these weights. Also returns the effective number of proposals of
    each stamp, one over the sum of the squared weights. ``read`` is as for
    `fit_profiles`; each stamp has a seed.
    """

    @torch.inference_mode()
    @_without_warnings
    def draw(index):
        stamps = read(slice(index, index + 1))
        start = parameters[index : index + 1]
        fit = _Fit(stamps, start, limits, device)
        return fit.draw(covariance[index], n_draws, np.random.default_rng(seeds[index]))

    with usual_modes(device), single_threads(device) as executor:
        drawn = executor(draw, range(len(parameters)))
    draws = [one[0] for one in drawn]
    shape = (len(drawn), n_draws, N_FITTED)
    return np.reshape(draws, shape), np.array([one[1] for one in drawn])


class _Fit:
    """The fit of a few stamps: images in float32, all else in float64.

    Light is in units of the noise of each stamp, for which float32 suffices.
    """

    def __init__(self, stamps, start, limits, device):
        self.unit = _noise_of(stamps)
        self.low, self.high = (self._scaled(end, -1) for end in limits[:2])
        self.most_elliptical = limits.ellipticity
        self.sky_sigma = limits.sky_sigma / self.unit
        if limits.sky_sigma > 0:
            self.sky_sigma = self.sky_sigma.clip(min=LEAST_SKY_SIGMA)
        self.constant = _are_constant(stamps)
        self.stamps = _to_tensors(stamps, self.unit, device)
        self.image_shape = stamps.images.shape[1:]
        self.waves = _waves_of(self.stamps.psf, transform_size(self.image_shape))
        n = len(self.unit)
        start = self._scaled(start, -1)
        given = np.flatnonzero(np.isfinite(start).all(axis=1))
        self.parameters = self._inside(self._begin(start))
        self.variance = self.stamps.variance.clone()
        self.residual = self.stamps.images.clone()
        self.hessian = np.zeros((n, N_FITTED, N_FITTED))
        self.gradient = np.zeros((n, N_FITTED))
        self.chi_square = np.zeros(n)
        self._accept(np.arange(n), self._look(np.arange(n), self.parameters))
        self._begin_again(given)

    def run(self, max_steps):
        """Step until all stamps have converged, and return the `Fits`."""
        n = len(self.unit)
        damping = np.full(n, DAMPING)
        n_steps, active = np.zeros(n, int), np.ones(n, bool)
        converged = np.zeros(n, bool)
        for _ in range(max_steps):
            active &= np.isfinite(self.chi_square) & (damping < MOST_DAMPING)
            converged |= active & (self._decrease() < TOLERANCE)
            active &= ~converged
            rows = np.flatnonzero(active)
            if not len(rows):
                break
            look = self._look(rows, self._trial(rows, damping[rows]))
            damping[rows] *= self._damping_factor(rows, look)
            damping = damping.clip(min=LEAST_DAMPING)
            better = look.rise <= SLACK
            self._accept(rows[better], look.take(better))
            n_steps[rows] += 1
        converged |= active & (self._decrease() < TOLERANCE)
        self._take_last_step(np.flatnonzero(converged))
        return Fits(
            self._scaled(self.parameters, 1),
            self._in_units_of_images(self.hessian),
            self.chi_square - self._sky_misfit(self.parameters),
            _to_numpy(self.stamps.counts.sum((1, 2))).astype(int),
            self.constant,
            converged,
            self._at_limit(),
            n_steps,
        )

    def _begin(self, start):
        """Return the start, with guesses instead of NaN."""
        missing = np.isnan(start)
        rows = np.flatnonzero(missing.any(axis=1))
        for part in _block_slices(len(rows)):
            some = rows[part]
            block = self.stamps.take(_fill_block(some))
            guess = guess_profiles(block.images, block.counts, block.psf)
            guess = _to_numpy(guess)[: len(some)].astype(np.float64)
            start[some] = np.where(missing[some], guess, start[some])
        return start

    def _begin_again(self, rows):
        """Replace given starts that fit a stamp worse than no profile at all."""
        stamps = self.stamps
        without = stamps.counts * stamps.images**2 / stamps.variance
        without = _to_numpy(without.flatten(1).double().sum(1))
        rows = rows[~(self.chi_square[rows] <= without[rows])]
        if len(rows):
            start = self.parameters.copy()
            start[rows] = np.nan
            guess = self._inside(self._begin(start))[rows]
            self._accept(rows, self._look(rows, guess))

    # Steps -----------------------------------------------------------------------

    def _trial(self, rows, damping):
        """Return the parameters after a damped step, within the limits."""
        step = self._solve(rows, damping)
        factor = (LARGEST_STEP / np.abs(step)).min(axis=1).clip(max=1)
        return self._inside(self.parameters[rows] + step * factor[:, None], rows)

    def _take_last_step(self, rows):
        """Take a step that is too small to change the derivatives."""
        step = self._solve(rows, LEAST_DAMPING)
        self.parameters[rows] = self._inside(self.parameters[rows] + step, rows)

    def _damping_factor(self, rows, look):
        """Return by which factor the damping changes after a step.

        A step that lowers chi-square by much less than it should has gone too far, and
        the next one would go as far back.
        """
        step = look.parameters - self.parameters[rows]
        expected = 2 * (step * self.gradient[rows]).sum(axis=1)
        expected -= np.einsum("ni,nij,nj->n", step, self.hessian[rows], step)
        good = look.rise <= -GOOD_SHARE * expected
        measurable = expected > 2 * SLACK
        factor = np.where(measurable, np.where(good, EASE, RESTRAIN), SLIGHTLY)
        return np.where(look.rise <= SLACK, factor, RESTRAIN)

    def _decrease(self):
        """Return by how much the next step would lower chi-square, if undamped."""
        rows = np.arange(len(self.unit))
        step = self._solve(rows, LEAST_DAMPING)
        return (step * self.gradient).sum(axis=1)

    def _solve(self, rows, damping):
        """Return a damped step; a parameter that its limit stops does not move."""
        free = self._free(rows)
        gradient = np.where(free, self.gradient[rows], 0)
        both = free[:, :, None] & free[:, None]
        hessian = np.where(both, self.hessian[rows], np.eye(N_FITTED))
        diagonal = np.einsum("nii->ni", hessian)
        scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1))
        scaled = hessian * scale[:, :, None] * scale[:, None]
        scaled += np.reshape(damping, (-1, 1, 1)) * np.eye(N_FITTED)
        solved = np.linalg.solve(scaled, (gradient * scale)[:, :, None])
        return solved[:, :, 0] * scale

    def _free(self, rows):
        """Return which parameters may move along their gradient, (n, 8)."""
        low, high, e = self._limits_met(rows)
        gradient = self.gradient[rows]
        free = ~(low & (gradient < 0)) & ~(high & (gradient > 0))
        outward = (gradient[:, E1:X] * self.parameters[rows, E1:X]).sum(axis=1) > 0
        free[:, E1:X] &= ~(e & outward)[:, None]
        free[:, SKY] &= self.sky_sigma[rows] > 0
        return free

    def _limits_met(self, rows):
        """Return the parameters at the low and high limit, and e at its limit."""
        values, low, high = self.parameters[rows], self.low[rows], self.high[rows]
        margin = NEAR * np.where(np.isfinite(high - low), high - low, 0)
        e = np.hypot(values[:, E1], values[:, E2])
        return (
            values <= low + margin,
            values >= high - margin,
            e >= self.most_elliptical * (1 - NEAR),
        )

    def _at_limit(self):
        low, high, e = self._limits_met(np.arange(len(self.unit)))
        at_limit = low | high
        at_limit[:, E1:X] |= e[:, None]
        return at_limit

    def _inside(self, parameters, rows=slice(None)):
        """Return parameters moved into the limits."""
        parameters = np.clip(parameters, self.low[rows], self.high[rows])
        e = np.hypot(parameters[:, E1], parameters[:, E2])
        shrink = self.most_elliptical / np.maximum(e, self.most_elliptical)
        parameters[:, E1:X] *= shrink[:, None]
        return parameters

    # Looks at images -------------------------------------------------------------

    def _look(self, rows, parameters):
        """Compare some stamps with the images of parameters."""
        looks = [
            self._look_at_block(rows[part], parameters[part])
            for part in _block_slices(len(rows))
        ]
        look = _Look(*(np.concatenate(part) for part in zip(*looks, strict=True)))
        misfit, sigma = self._sky_misfit(parameters, rows), self.sky_sigma[rows]
        used = (sigma > 0) & np.isfinite(sigma)
        precision = 1 / np.where(used, sigma, np.inf) ** 2
        look.hessian[:, SKY, SKY] += precision
        look.gradient[:, SKY] -= precision * parameters[:, SKY]
        return look._replace(
            parameters=parameters,
            rise=look.rise + misfit - self._sky_misfit(self.parameters[rows], rows),
            chi_square=look.chi_square + misfit,
        )

    def _sky_misfit(self, parameters, rows=slice(None)):
        sigma = self.sky_sigma[rows]
        return (parameters[:, SKY] / np.where(sigma > 0, sigma, np.inf)) ** 2

    def _look_at_block(self, rows, parameters):
        n, rows, parameters = len(rows), _fill_block(rows), _fill_block(parameters)
        stamps = self.stamps.take(rows)
        theta = torch.as_tensor(parameters, device=stamps.images.device).float()
        images = render_with_jacobian(
            theta[:, :N_PARAMETERS], self.waves[rows], self.image_shape
        )
        light = images[:, 0].clamp(min=0)
        variance = stamps.variance + light * stamps.noise_of_light[:, None, None]
        residual = stamps.images - images[:, 0] - theta[:, SKY, None, None]
        rise = _rise(self.residual[rows], self.variance[rows], residual, variance)
        derivatives = torch.cat([images, torch.ones_like(images[:, :1])], dim=1)
        derivatives = derivatives.flatten(2).double()
        weighted = derivatives * (stamps.counts / variance).flatten(1)[:, None]
        look = _Look(
            parameters,
            (rise * stamps.counts).flatten(1).double().sum(1),
            (residual**2 / variance * stamps.counts).flatten(1).double().sum(1),
            (weighted @ residual.flatten(1)[:, :, None].double())[:, :, 0],
            weighted @ derivatives.transpose(1, 2),
            variance,
            residual,
        )
        return [_to_numpy(part)[:n] for part in look]

    def _accept(self, rows, look):
        self.parameters[rows] = look.parameters
        self.chi_square[rows] = look.chi_square
        self.gradient[rows], self.hessian[rows] = look.gradient, look.hessian
        device = self.variance.device
        self.variance[rows] = torch.as_tensor(look.variance, device=device)
        self.residual[rows] = torch.as_tensor(look.residual, device=device)

    # Draws -----------------------------------------------------------------------

    def draw(self, covariance, n_draws, rng):
        """Draw from the posterior of the only stamp, see `draw_profiles`."""
        n = BLOCK * -(-max(LEAST_PROPOSALS, PROPOSALS_PER_DRAW * n_draws) // BLOCK)
        moves, log_density = _propose(covariance, n, rng)
        moves[:, SKY] /= self.unit
        proposals = self.parameters + moves
        within = (self._inside(proposals, [0]) == proposals).all(axis=1)
        log_posterior = np.concatenate(
            [self._log_posterior(proposals[part]) for part in _block_slices(n)]
        )
        # Light that overflows has no posterior.
        usable = within & np.isfinite(log_posterior)
        log_weights = np.where(usable, log_posterior - log_density, -np.inf)
        largest = log_weights.max()
        if not np.isfinite(largest):
            # No proposal is usable.
            return np.full((n_draws, N_FITTED), np.nan), 0.0
        weights = np.exp(log_weights - largest)
        weights /= weights.sum()
        # One draw in each of equal shares of the weight.
        places = (np.arange(n_draws) + rng.random()) / n_draws
        drawn = np.searchsorted(weights.cumsum(), places).clip(max=n - 1)
        draws = proposals[rng.permutation(drawn)]
        draws[:, LOG_FLUX] += np.log(self.unit)
        draws[:, SKY] *= self.unit
        return draws, 1 / (weights**2).sum()

    def _log_posterior(self, parameters):
        """Return the log posterior of a block of parameters of the only stamp."""
        rows = np.zeros(BLOCK, int)
        stamps = self.stamps.take(rows)
        inside = self._inside(parameters, [0])
        theta = torch.as_tensor(inside, device=stamps.images.device).float()
        images = render(theta[:, :N_PARAMETERS], self.waves[rows], self.image_shape)
        noise = images.clamp(min=0) * stamps.noise_of_light[:, None, None]
        variance = stamps.variance + noise
        residual = stamps.images - images - theta[:, SKY, None, None]
        terms = (residual**2 / variance + variance.log()) * stamps.counts
        misfit = _to_numpy(terms.flatten(1).double().sum(1))
        return -(misfit + self._sky_misfit(inside, [0])) / 2

    # Units -----------------------------------------------------------------------

    def _scaled(self, parameters, sign):
        """Return parameters in units of the noise (sign -1) or of the images."""
        parameters = (
            np.tile(parameters, (len(self.unit), 1))
            if np.ndim(parameters) == 1
            else np.array(parameters)
        )
        parameters[:, LOG_FLUX] += sign * np.log(self.unit)
        parameters[:, SKY] *= self.unit**sign
        return parameters

    def _in_units_of_images(self, hessian):
        hessian = hessian.copy()
        hessian[:, SKY] /= self.unit[:, None]
        hessian[:, :, SKY] /= self.unit[:, None]
        return hessian


class _Look(NamedTuple):
    """Stamps compared with images of parameters.

    ``rise`` is that of the function which the steps lower, see `_rise`, since the last
    accepted parameters. ``chi_square`` has the ``variance`` (n, H, W) of these images,
    and ``residual`` (n, H, W) is what they leave.
    """

    parameters: Any
    rise: Any
    chi_square: Any
    gradient: Any
    hessian: Any
    variance: Any
    residual: Any

    def take(self, rows):
        """Return some of the rows."""
        return _Look(*(part[rows] for part in self))


def _rise(residual, variance, new_residual, new_variance):
    """Return the rise of minus twice the log quasi-likelihood of pixels in a step.

    The quasi-likelihood [1]_ has the derivative residual / variance with respect to the
    image, although the variance depends on the image. Chi-square has not: steps that
    lower it with the variance held constant may lead round in a circle. The integral
    along the straight line from image to image, on which the variance is linear, is in
    closed form.

    References
    ----------
    .. [1] R. W. M. Wedderburn, "Quasi-likelihood Functions, Generalized Linear Models,
       and the Gauss-Newton Method", Biometrika 61, 439 (1974).
    """
    change = residual - new_residual
    u = new_variance / variance - 1
    # (u - log(1 + u)) / u^2, which is 1/2 at 0.
    series = 1 / 2 + u * (-1 / 3 + u * (1 / 4 - u / 5))
    bend = torch.where(u.abs() < SMALL, series, (u - u.log1p()) / u**2)
    return 2 * change / variance * (change * bend - residual * (1 - u * bend))


def _propose(covariance, n, rng):
    """Return moves (n, 8) of a t distribution, and the logarithms of their density."""
    free = np.diagonal(covariance) > 0
    used = covariance[np.ix_(free, free)]
    z = rng.standard_normal((n, len(used)))
    scale = np.sqrt(DEGREES_OF_FREEDOM / rng.chisquare(DEGREES_OF_FREEDOM, n))
    moves = np.zeros((n, N_FITTED))
    moves[:, free] = (z @ np.linalg.cholesky(used).T) * scale[:, None]
    distance = (z**2).sum(axis=1) * scale**2
    power = (DEGREES_OF_FREEDOM + len(used)) / 2
    return moves, -power * np.log1p(distance / DEGREES_OF_FREEDOM)


def _noise_of(stamps):
    """Return the median noise of each stamp, (n,)."""
    variance = np.where(stamps.counts > 0, stamps.variance, np.nan)
    return np.sqrt(np.nanmedian(variance.reshape(len(variance), -1), axis=1))


def _are_constant(stamps):
    """Return for each stamp whether its pixels have one value, (n,)."""
    counts = stamps.counts > 0
    lowest = np.where(counts, stamps.images, np.inf).min(axis=(1, 2))
    highest = np.where(counts, stamps.images, -np.inf).max(axis=(1, 2))
    return lowest >= highest


def _to_tensors(stamps, unit, device):
    """Return stamps in units of the noise, with harmless values in masked pixels."""
    pixels = unit[:, None, None]
    counts = stamps.counts > 0
    scaled = Stamps(
        np.where(counts, stamps.images, 0) / pixels,
        np.where(counts, stamps.variance, pixels**2) / pixels**2,
        counts,
        stamps.psf,
        stamps.noise_of_light / unit,
    )
    return scaled.map(
        lambda array: torch.as_tensor(np.array(array, np.float32), device=device)
    )


def _waves_of(psf, size):
    """Return the transforms of PSFs, a block at a time."""
    waves = []
    for part in _block_slices(len(psf)):
        block = psf.new_zeros(BLOCK, *psf.shape[1:])
        block[: len(psf[part])] = psf[part]
        waves.append(psf_waves(block, size)[: len(psf[part])])
    return torch.cat(waves)


def _fill_block(rows):
    """Return rows for a whole block, filled up with the first one."""
    return np.concatenate([rows, np.repeat(rows[:1], BLOCK - len(rows), axis=0)])


def _block_slices(length):
    return [slice(start, start + BLOCK) for start in range(0, length, BLOCK)]


def _to_numpy(values):
    return values.cpu().numpy() if isinstance(values, torch.Tensor) else values
