"""Fit Sersic profiles to many stamps, by the method of Levenberg and Marquardt."""

from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch

from sklcae._torch.moments import guess_profiles
from sklcae._torch.residuals import (
    derivative_of_blur,
    excess_of_last,
    score_covariance,
)
from sklcae._torch.scenes import SKY
from sklcae._torch.sersic import (
    LOG_FLUX,
    psf_waves,
    render,
    render_with_jacobian,
    transform_size,
)
from sklcae._torch.workers import single_threads, usual_modes

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

    Images and variances of the background are (n, n_bands, H, W); ``counts`` is 0 for
    masked pixels, whose values may be any numbers, and else 1. PSFs (n, n_bands, H, W)
    are as `psf_waves` takes them. ``noise_of_light`` (n, n_bands) is the variance for
    each unit of light, one over the gain, or 0 if the variances have the noise of the
    source too.
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
    """The allowed values of the fitted parameters, and their Gaussian priors.

    ``low`` and ``high`` (n, n_fitted) are the limits, ``ellipticity`` is the largest
    ellipticity. ``prior_mean`` (n, n_fitted) and ``prior_sigma`` (n_fitted,) are the
    mean and the width of a Gaussian prior of each parameter. The width is infinite
    without a prior, and 0 for a parameter that stays at its mean.
    """

    low: np.ndarray
    high: np.ndarray
    ellipticity: float
    prior_mean: np.ndarray
    prior_sigma: np.ndarray

    def take(self, rows):
        """Return the limits of some of the stamps."""
        return self._replace(
            low=self.low[rows],
            high=self.high[rows],
            prior_mean=self.prior_mean[rows],
        )


class Fits(NamedTuple):
    """The fits of n stamps.

    Parameters
    ----------
    parameters : ndarray of shape (n, n_fitted)
        Those of `render` for each source, and the background of each band.
    gradient : ndarray of shape (n, n_fitted)
        Minus half the derivative of chi-square.
    hessian : ndarray of shape (n, n_fitted, n_fitted)
        The matrix of Gauss and Newton, half the second derivative of chi-square.
    score_covariance : ndarray of shape (n, n_fitted, n_fitted)
        The covariance of half the gradient of chi-square: the hessian again, if the
        noise of the pixels is independent.
    chi_square : ndarray of shape (n,)
        Sum of the squared residuals over their variances.
    n_pixels : ndarray of shape (n,)
        Number of pixels that count.
    constant : bool ndarray of shape (n,)
        Whether all pixels that count have the same value.
    converged : bool ndarray of shape (n,)
        Whether the fit is at a minimum.
    at_limit : bool ndarray of shape (n, n_fitted)
        Whether a parameter is at its limit.
    n_steps : ndarray of shape (n,)
        Number of steps, with those that were not accepted.
    psf_misfit : ndarray of shape (n,)
        By how many of its errors the squared width of the PSF should be larger. NaN
        without ``checks``.
    """

    parameters: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray
    score_covariance: np.ndarray
    chi_square: np.ndarray
    n_pixels: np.ndarray
    constant: np.ndarray
    converged: np.ndarray
    at_limit: np.ndarray
    n_steps: np.ndarray
    psf_misfit: np.ndarray


# A stamp whose light overflows gets a fit that has not converged, and no warning.
_without_warnings = np.errstate(all="ignore")


def fit_profiles(
    read,
    start,
    scene,
    limits,
    max_steps,
    *,
    correlation=None,
    checks=False,
    device="cpu",
):
    """Fit stamps from their start (n, n_fitted), and return the `Fits`.

    ``read`` takes a slice and returns `Stamps` of NumPy arrays. NaN in the start of a
    single source is replaced by a guess from the moments of the image. ``correlation``
    (h, w) is the autocorrelation of the noise; without it the noise of the pixels is
    independent. ``checks`` also tests the PSFs. Works on as many threads as PyTorch may
    use, with the same bits for any number.
    """
    n_stamps = len(start)
    size = max(1, min(PART, -(-n_stamps // torch.get_num_threads())))
    slices = [slice(i, min(i + size, n_stamps)) for i in range(0, n_stamps, size)]

    @torch.inference_mode()
    @_without_warnings
    def fit(part):
        fit = _Fit(read(part), start[part], scene, limits.take(part), device)
        fit.run(max_steps)
        return fit.results(correlation, checks)

    if correlation is not None:
        correlation = torch.as_tensor(np.array(correlation), device=device)
    with usual_modes(device), single_threads(device) as executor:
        parts = [_no_fits(scene), *executor(fit, slices)]
    return Fits(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _no_fits(scene):
    vectors = np.zeros((0, scene.n_fitted))
    matrices, flags = np.zeros((0, *2 * vectors.shape[1:])), np.zeros(0, bool)
    return Fits(
        parameters=vectors,
        gradient=vectors,
        hessian=matrices,
        score_covariance=matrices,
        chi_square=vectors[:, 0],
        n_pixels=np.zeros(0, int),
        constant=flags,
        converged=flags,
        at_limit=vectors.astype(bool),
        n_steps=np.zeros(0, int),
        psf_misfit=vectors[:, 0],
    )


def draw_profiles(
    read, parameters, covariance, scene, limits, n_draws, seeds, device="cpu"
):
    """Draw parameters (n, n_draws, n_fitted) from the posteriors of n stamps.

    The prior is constant within the limits, in the parameters of `render`. Proposals
    from a t distribution around the fit are weighted by posterior over proposal and
    drawn again with these weights. Also returns the effective number of proposals of
    each stamp, one over the sum of the squared weights. ``read`` is as for
    `fit_profiles`; each stamp has a seed.
    """

    @torch.inference_mode()
    @_without_warnings
    def draw(index):
        one = slice(index, index + 1)
        fit = _Fit(read(one), parameters[one], scene, limits.take(one), device)
        return fit.draw(covariance[index], n_draws, np.random.default_rng(seeds[index]))

    with usual_modes(device), single_threads(device) as executor:
        drawn = executor(draw, range(len(parameters)))
    draws = [one[0] for one in drawn]
    shape = (len(drawn), n_draws, scene.n_fitted)
    return np.reshape(draws, shape), np.array([one[1] for one in drawn])


def render_scenes(read, parameters, scene, central=False):
    """Render the sources of stamps, or the central ones alone: (n, n_bands, H, W).

    ``parameters`` (n, n_fitted) are those of `fit_profiles`, in the unit of the images;
    the backgrounds are left out. ``read`` is as for `fit_profiles`.
    """
    n_components = scene.n_central if central else None

    @torch.inference_mode()
    @_without_warnings
    def draw(part):
        stamps = read(part)
        waves = _waves_of(torch.as_tensor(np.array(stamps.psf, np.float32)))
        theta = torch.as_tensor(_fill_block(parameters[part])).float()
        waves = _fill_block(waves)
        images = _render_bands(
            theta, waves, scene, stamps.images.shape[2:], n_components
        )
        return images[: len(stamps.images)].numpy()

    with usual_modes("cpu"), single_threads("cpu") as executor:
        return np.concatenate(executor(draw, _block_slices(len(parameters))))


class _Fit:
    """The fit of a few stamps: images in float32, all else in float64.

    Light is in units of the noise of each stamp, for which float32 suffices.
    """

    def __init__(self, stamps, start, scene, limits, device):
        self.scene = scene
        self.unit = _noise_of(stamps)
        self.low, self.high = (self._scaled(end, -1) for end in limits[:2])
        self.most_elliptical = limits.ellipticity
        self.constant = _are_constant(stamps)
        self.stamps = _to_tensors(stamps, self.unit, device)
        self.image_shape = stamps.images.shape[2:]
        self.waves = _waves_of(self.stamps.psf)
        n, n_fitted = len(self.unit), scene.n_fitted
        self.prior_mean, self.prior_sigma = self._scaled_prior(limits)
        self.fixed = limits.prior_sigma == 0
        start = self._scaled(start, -1)
        self.given = np.flatnonzero(np.isfinite(start).all(axis=1))
        self.parameters = self._inside(self._begin(start))
        self.variance = self.stamps.variance.clone()
        self.residual = self.stamps.images.clone()
        self.hessian = np.zeros((n, n_fitted, n_fitted))
        self.gradient = np.zeros((n, n_fitted))
        self.chi_square = np.zeros(n)
        self.converged, self.n_steps = np.zeros(n, bool), np.zeros(n, int)
        self._accept(np.arange(n), self._look(np.arange(n), self.parameters))

    def run(self, max_steps):
        """Step until all stamps have converged; without a step the start stays."""
        if max_steps:
            self._begin_again(self.given)
        n = len(self.unit)
        damping = np.full(n, DAMPING)
        active = np.ones(n, bool)
        for _ in range(max_steps):
            active &= np.isfinite(self.chi_square) & (damping < MOST_DAMPING)
            self.converged |= active & (self._decrease() < TOLERANCE)
            active &= ~self.converged
            rows = np.flatnonzero(active)
            if not len(rows):
                break
            look = self._look(rows, self._trial(rows, damping[rows]))
            damping[rows] *= self._damping_factor(rows, look)
            damping = damping.clip(min=LEAST_DAMPING)
            better = look.rise <= SLACK
            self._accept(rows[better], look.take(better))
            self.n_steps[rows] += 1
        self.converged |= active & (self._decrease() < TOLERANCE)
        self._take_last_step(np.flatnonzero(self.converged))

    def results(self, correlation, checks):
        """Return the `Fits`."""
        scores, psf_misfit = self.hessian, np.full(len(self.unit), np.nan)
        if correlation is not None or checks:
            scores, psf_misfit = self._look_back(correlation)
        return Fits(
            self._scaled(self.parameters, 1),
            self._gradient_of_images(),
            self._in_units_of_images(self.hessian),
            self._in_units_of_images(scores),
            self.chi_square - self._prior_misfit(self.parameters),
            _to_numpy(self.stamps.counts.sum((1, 2, 3))).astype(int),
            self.constant,
            self.converged,
            self._at_limit(),
            self.n_steps,
            psf_misfit,
        )

    def _begin(self, start):
        """Return the start, with guesses instead of NaN."""
        missing = np.isnan(start)
        rows = np.flatnonzero(missing.any(axis=1))
        for part in _block_slices(len(rows)):
            some = rows[part]
            block = self.stamps.take(_fill_block(some))
            guess = self._guess(block)[: len(some)]
            start[some] = np.where(missing[some], guess, start[some])
        return start

    def _guess(self, block):
        """Guess the parameters of single sources, with the shape in all bands."""
        images, counts, psf = block.images, block.counts, block.psf
        of_bands = [
            _to_numpy(guess_profiles(images[:, band], counts[:, band], psf[:, band]))
            for band in range(self.scene.n_bands)
        ]
        together = of_bands[0]
        if len(of_bands) > 1:
            together = _to_numpy(
                guess_profiles((images * counts).sum(1), counts.amax(1), psf.mean(1))
            )
        guess = together[:, self.scene.kinds].astype(np.float64)
        for band, of_band in enumerate(of_bands):
            guess[:, self.scene.skies[band]] = of_band[:, SKY]
        for number, band in zip(*self.scene.fluxes, strict=True):
            guess[:, number] = of_bands[band][:, LOG_FLUX]
        return guess

    def _begin_again(self, rows):
        """Replace given starts that fit a stamp worse than no profile at all."""
        if self.scene.n_sources > 1:
            return
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
        factor = (LARGEST_STEP[self.scene.kinds] / np.abs(step)).min(axis=1).clip(max=1)
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
        identity = np.eye(self.scene.n_fitted)
        hessian = np.where(both, self.hessian[rows], identity)
        diagonal = np.einsum("nii->ni", hessian)
        scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1))
        scaled = hessian * scale[:, :, None] * scale[:, None]
        scaled += np.reshape(damping, (-1, 1, 1)) * identity
        solved = np.linalg.solve(scaled, (gradient * scale)[:, :, None])
        return solved[:, :, 0] * scale

    def _free(self, rows):
        """Return which parameters may move along their gradient, (n, n_fitted)."""
        low, high, e = self._limits_met(rows)
        gradient = self.gradient[rows]
        free = ~(low & (gradient < 0)) & ~(high & (gradient > 0))
        for pair, at_limit in zip(self.scene.ellipticities, e, strict=True):
            products = gradient[:, pair] * self.parameters[rows][:, pair]
            free[:, pair] &= ~(at_limit & (products.sum(axis=1) > 0))[:, None]
        return free & ~self.fixed

    def _limits_met(self, rows):
        """Return the parameters at the low and high limit, and each e at its limit."""
        values, low, high = self.parameters[rows], self.low[rows], self.high[rows]
        margin = NEAR * np.where(np.isfinite(high - low), high - low, 0)
        e = [np.hypot(*values[:, pair].T) for pair in self.scene.ellipticities]
        return (
            values <= low + margin,
            values >= high - margin,
            [one >= self.most_elliptical * (1 - NEAR) for one in e],
        )

    def _at_limit(self):
        low, high, e = self._limits_met(np.arange(len(self.unit)))
        at_limit = low | high
        for pair, of_pair in zip(self.scene.ellipticities, e, strict=True):
            at_limit[:, pair] |= of_pair[:, None]
        return at_limit

    def _inside(self, parameters, rows=slice(None)):
        """Return parameters moved into the limits."""
        parameters = np.clip(parameters, self.low[rows], self.high[rows])
        for pair in self.scene.ellipticities:
            e = np.hypot(*parameters[:, pair].T)
            shrink = self.most_elliptical / np.maximum(e, self.most_elliptical)
            parameters[:, pair] *= shrink[:, None]
        return parameters

    # Looks at images -------------------------------------------------------------

    def _look(self, rows, parameters):
        """Compare some stamps with the images of parameters."""
        looks = [
            self._look_at_block(rows[part], parameters[part])
            for part in _block_slices(len(rows))
        ]
        look = _Look(*(np.concatenate(part) for part in zip(*looks, strict=True)))
        misfit = self._prior_misfit(parameters, rows)
        precision = 1 / self.prior_sigma[rows] ** 2
        diagonal = np.arange(self.scene.n_fitted)
        look.hessian[:, diagonal, diagonal] += precision
        look.gradient[:] -= precision * (parameters - self.prior_mean[rows])
        return look._replace(
            parameters=parameters,
            rise=look.rise + misfit - self._prior_misfit(self.parameters[rows], rows),
            chi_square=look.chi_square + misfit,
        )

    def _prior_misfit(self, parameters, rows=slice(None)):
        distance = (parameters - self.prior_mean[rows]) / self.prior_sigma[rows]
        return (distance**2).sum(axis=1)

    def _look_at_block(self, rows, parameters):
        n, rows, parameters = len(rows), _fill_block(rows), _fill_block(parameters)
        bands = [
            self._look_at_band(band, rows, parameters)
            for band in range(self.scene.n_bands)
        ]
        look = bands[0]
        if len(bands) > 1:
            look = _Look(
                parameters,
                *(sum(parts) for parts in list(zip(*bands, strict=True))[1:5]),
                *(torch.cat(parts, 1) for parts in list(zip(*bands, strict=True))[5:]),
            )
        return [_to_numpy(part)[:n] for part in look]

    def _look_at_band(self, band, rows, parameters):
        """Compare a block of stamps with the images of parameters in one band."""
        stamps = self.stamps.map(lambda part: part[:, band][rows])
        theta = torch.as_tensor(parameters, device=stamps.images.device).float()
        image, derivatives = self._derivatives(band, rows, theta)
        light = image.clamp(min=0)
        variance = stamps.variance + light * stamps.noise_of_light[:, None, None]
        residual = stamps.images - image - theta[:, self.scene.skies[band], None, None]
        before = self.residual[rows, band], self.variance[rows, band]
        rise = _rise(*before, residual, variance)
        derivatives = derivatives.flatten(2).double()
        weighted = derivatives * (stamps.counts / variance).flatten(1)[:, None]
        spread = self._spread(band)
        gradient = weighted @ residual.flatten(1)[:, :, None].double()
        hessian = weighted @ derivatives.transpose(1, 2)
        return _Look(
            parameters,
            (rise * stamps.counts).flatten(1).double().sum(1),
            (residual**2 / variance * stamps.counts).flatten(1).double().sum(1),
            (spread.T @ gradient)[:, :, 0],
            spread.T @ hessian @ spread,
            variance[:, None],
            residual[:, None],
        )

    def _derivatives(self, band, rows, theta):
        """Return the light (n, H, W) of a band, and its derivatives (n, m, H, W).

        Those of one profile come after another, and then the background.
        """
        waves = self.waves[rows, band]
        profiles = [
            render_with_jacobian(theta[:, columns], waves, self.image_shape)
            for columns in self.scene.in_band(band)
        ]
        image = sum(profile[:, 0] for profile in profiles)
        sky = torch.ones_like(image)[:, None]
        return image, torch.cat([*profiles, sky], dim=1)

    def _spread(self, band):
        """Return the matrix (m, n_fitted) from fitted parameters to derivatives."""
        profiles = chain.from_iterable(self.scene.in_band(band))
        numbers = [*profiles, self.scene.skies[band]]
        spread = np.zeros((len(numbers), self.scene.n_fitted))
        spread[np.arange(len(numbers)), numbers] = 1
        return torch.as_tensor(spread, device=self.stamps.images.device)

    def _look_back(self, correlation):
        """Return the covariance of the scores of fits, and the misfit of their PSFs.

        See `score_covariance` and `Fits`.
        """
        looks = [
            self._look_back_at_block(np.arange(len(self.unit))[part], correlation)
            for part in _block_slices(len(self.unit))
        ]
        scores, misfits = zip(*looks, strict=True)
        return np.concatenate(scores), np.concatenate(misfits)

    def _look_back_at_block(self, rows, correlation):
        """Look at a block of stamps, with the width of the PSF as another parameter."""
        n, rows = len(rows), _fill_block(rows)
        bands = [
            self._look_back_at_band(band, rows, correlation)
            for band in range(self.scene.n_bands)
        ]
        gradient, hessian, scores = (sum(parts) for parts in zip(*bands, strict=True))
        precision = np.zeros((BLOCK, self.scene.n_fitted + 1))
        precision[:, :-1] = np.where(self.fixed, 1, 1 / self.prior_sigma[rows] ** 2)
        prior = torch.as_tensor(precision, device=hessian.device).diag_embed()
        hessian, scores = hessian + prior, scores + prior
        misfit = excess_of_last(gradient, hessian, scores)
        return _to_numpy(scores[:n, :-1, :-1]), _to_numpy(misfit[:n])

    def _look_back_at_band(self, band, rows, correlation):
        """Return gradient, hessian and covariance of the scores of a block, a band."""
        stamps = self.stamps.map(lambda part: part[:, band][rows])
        parameters = torch.as_tensor(self.parameters[rows], device=self.residual.device)
        theta = parameters.float()
        image, derivatives = self._derivatives(band, rows, theta)
        variance = stamps.variance
        variance = variance + image.clamp(min=0) * stamps.noise_of_light[:, None, None]
        residual = stamps.images - image - theta[:, self.scene.skies[band], None, None]
        blur = derivative_of_blur(image)[:, None]
        derivatives = torch.cat([derivatives, blur], dim=1).double()
        flat = derivatives.flatten(2)
        weighted = flat * (stamps.counts / variance).flatten(1)[:, None]
        hessian = weighted @ flat.transpose(1, 2)
        scores = hessian
        if correlation is not None:
            scores = score_covariance(derivatives, variance, stamps.counts, correlation)
        spread = torch.block_diag(self._spread(band), hessian.new_ones(1, 1))
        gradient = weighted @ residual.flatten(1)[:, :, None].double()
        return (
            (spread.T @ gradient)[:, :, 0],
            spread.T @ hessian @ spread,
            spread.T @ scores @ spread,
        )

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
        moves[:, self.scene.skies] /= self.unit[0]
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
            return np.full((n_draws, self.scene.n_fitted), np.nan), 0.0
        weights = np.exp(log_weights - largest)
        weights /= weights.sum()
        # One draw in each of equal shares of the weight.
        places = (np.arange(n_draws) + rng.random()) / n_draws
        drawn = np.searchsorted(weights.cumsum(), places).clip(max=n - 1)
        draws = self._scaled(proposals[rng.permutation(drawn)], 1)
        return draws, 1 / (weights**2).sum()

    def _log_posterior(self, parameters):
        """Return the log posterior of a block of parameters of the only stamp."""
        rows = np.zeros(BLOCK, int)
        stamps = self.stamps.take(rows)
        inside = self._inside(parameters, [0])
        theta = torch.as_tensor(inside, device=stamps.images.device).float()
        images = _render_bands(theta, self.waves[rows], self.scene, self.image_shape)
        noise = images.clamp(min=0) * stamps.noise_of_light[:, :, None, None]
        variance = stamps.variance + noise
        residual = stamps.images - images - theta[:, self.scene.skies, None, None]
        terms = (residual**2 / variance + variance.log()) * stamps.counts
        misfit = _to_numpy(terms.flatten(1).double().sum(1))
        return -(misfit + self._prior_misfit(inside, [0])) / 2

    # Units -----------------------------------------------------------------------

    def _scaled(self, parameters, sign):
        """Return parameters in units of the noise (sign -1) or of the images."""
        parameters = np.array(parameters)
        numbers, bands = self.scene.fluxes
        parameters[:, numbers] += sign * np.log(self.unit[:, bands])
        parameters[:, self.scene.skies] *= self.unit**sign
        return parameters

    def _scaled_prior(self, limits):
        """Return means and widths of the priors, (n, n_fitted), infinite if fixed.

        The fixed parameters are held by the limits.
        """
        mean = self._scaled(limits.prior_mean, -1)
        sigma = np.where(limits.prior_sigma > 0, limits.prior_sigma, np.inf)
        sigma = np.tile(sigma, (len(self.unit), 1))
        skies = self.scene.skies
        sigma[:, skies] = (sigma[:, skies] / self.unit).clip(min=LEAST_SKY_SIGMA)
        return mean, sigma

    def _gradient_of_images(self):
        gradient = self.gradient.copy()
        gradient[:, self.scene.skies] /= self.unit
        return gradient

    def _in_units_of_images(self, matrix):
        matrix = matrix.copy()
        for band, sky in enumerate(self.scene.skies):
            matrix[:, sky] /= self.unit[:, band, None]
            matrix[:, :, sky] /= self.unit[:, band, None]
        return matrix


def _render_bands(theta, waves, scene, image_shape, n_components=None):
    """Return the light (n, n_bands, H, W) of parameters, from waves of each band."""
    images = [0] * scene.n_bands
    for band, columns in scene.components[:n_components]:
        profile = render(theta[:, list(columns)], waves[:, band], image_shape)
        images[band] = images[band] + profile
    return torch.stack(images, dim=1)


class _Look(NamedTuple):
    """Stamps compared with images of parameters.

    ``rise`` is that of the function which the steps lower, see `_rise`, since the last
    accepted parameters. ``chi_square`` has the ``variance`` (n, n_bands, H, W) of these
    images, and ``residual`` (n, n_bands, H, W) is the light that they leave.
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
    """Return moves (n, n_fitted) of a t distribution, and their log density."""
    free = np.diagonal(covariance) > 0
    used = covariance[np.ix_(free, free)]
    z = rng.standard_normal((n, len(used)))
    scale = np.sqrt(DEGREES_OF_FREEDOM / rng.chisquare(DEGREES_OF_FREEDOM, n))
    moves = np.zeros((n, len(covariance)))
    moves[:, free] = (z @ np.linalg.cholesky(used).T) * scale[:, None]
    distance = (z**2).sum(axis=1) * scale**2
    power = (DEGREES_OF_FREEDOM + len(used)) / 2
    return moves, -power * np.log1p(distance / DEGREES_OF_FREEDOM)


def _noise_of(stamps):
    """Return the median noise of each stamp and band, (n, n_bands); 1 if masked."""
    counts = stamps.counts > 0
    seen = counts.any(axis=(2, 3), keepdims=True)
    variance = np.where(seen, np.where(counts, stamps.variance, np.nan), 1.0)
    return np.sqrt(np.nanmedian(variance.reshape(*variance.shape[:2], -1), axis=2))


def _are_constant(stamps):
    """Return for each stamp whether its pixels have one value in each band, (n,)."""
    counts = stamps.counts > 0
    lowest = np.where(counts, stamps.images, np.inf).min(axis=(2, 3))
    highest = np.where(counts, stamps.images, -np.inf).max(axis=(2, 3))
    return (lowest >= highest).all(axis=1)


def _to_tensors(stamps, unit, device):
    """Return stamps in units of the noise, with harmless values in masked pixels."""
    pixels = unit[:, :, None, None]
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


def _waves_of(psf):
    """Return the transforms of PSFs (n, n_bands, H, W), a block at a time."""
    bands, size = [], transform_size(psf.shape[2:])
    for band in psf.unbind(1):
        waves = []
        for part in _block_slices(len(psf)):
            block = band.new_zeros(BLOCK, *band.shape[1:])
            block[: len(band[part])] = band[part]
            waves.append(psf_waves(block, size)[: len(band[part])])
        bands.append(torch.cat(waves))
    return torch.stack(bands, dim=1)


def _fill_block(rows):
    """Return rows for a whole block, filled up with the first one."""
    if isinstance(rows, torch.Tensor):
        return rows[_fill_block(np.arange(len(rows)))]
    return np.concatenate([rows, np.repeat(rows[:1], BLOCK - len(rows), axis=0)])


def _block_slices(length):
    return [slice(start, start + BLOCK) for start in range(0, length, BLOCK)]


def _to_numpy(values):
    return values.cpu().numpy() if isinstance(values, torch.Tensor) else values
