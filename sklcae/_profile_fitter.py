"""Fits of Sersic profiles to checked stamps: images in, parameters and errors out."""

from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm

from sklcae._bulges import (
    FLUX_SIGMA,
    RADIUS_SIGMA,
    bulge_fraction,
    join,
    split,
)
from sklcae._cosmic_rays import find_cosmic_rays
from sklcae._images import Images
from sklcae._inputs import Layout
from sklcae._profiles import DERIVED, ProfileParameters, kind_of, to_rendered
from sklcae._sources import find_central, find_scenes, starts_at
from sklcae._torch.profile_fit import (
    Limits,
    Stamps,
    draw_profiles,
    fit_profiles,
    render_scenes,
)
from sklcae._torch.scenes import Scene
from sklcae._torch.sersic import INDEX_LIMITS

# Limits of parameters without bounds; those of radii and centres are in pixels.
MOST_ELLIPTICAL = 0.95
LEAST_RADIUS = 0.02
LARGEST_RADIUS_IN_SIDES = 4.0
# Less light than this is no profile.
LEAST_SIGNAL_TO_NOISE = 1.0
# A Fisher matrix, scaled to a diagonal of 1, that is worse conditioned has no inverse.
LARGEST_CONDITION = 1e13
# The mean and the width of the priors of neighbours, as the renderer takes parameters:
# without priors a neighbour too faint for a shape would make the fit singular. The
# centre is within so many pixels of the place where the neighbour was found.
PRIOR_OF_NEIGHBOURS = {
    "half_light_radius": (1.2, 1.0),
    "sersic_index": (0.3, 0.7),
    "e1": (0.0, 0.3),
    "e2": (0.0, 0.3),
}
CENTER_SIGMA, CENTER_ROOM = 2.0, 4.0


class Neighbours(NamedTuple):
    """The fitted neighbours of all stamps.

    Parameters
    ----------
    rows : ndarray of shape (n_neighbours,)
        The stamp of each, in ascending order.
    parameters : ndarray of shape (n_neighbours, n_parameters)
        Their parameters, as the renderer takes them.
    covariance : ndarray of shape (n_neighbours, n_parameters, n_parameters)
        The covariance of the parameters of each.
    """

    rows: np.ndarray
    parameters: np.ndarray
    covariance: np.ndarray


class FittedScenes(NamedTuple):
    """Fits of the stamps with the same number of sources.

    ``rows`` (m,) are the stamps. ``parameters`` (m, n_fitted), their ``covariance`` and
    next ``steps`` are those of all sources and of the backgrounds. The next step lowers
    chi-square by about ``decrease`` (m,). ``converged`` (m,) is whether the fit is at a
    minimum with a covariance, and ``unseen`` (m, n_fitted) whether a parameter belongs
    to a band without a pixel.
    """

    rows: np.ndarray
    scene: Scene
    limits: Limits
    parameters: np.ndarray
    covariance: np.ndarray
    steps: np.ndarray
    decrease: np.ndarray
    converged: np.ndarray
    unseen: np.ndarray

    @property
    def errors(self):
        """The errors of the parameters (m, n_fitted), also of fits not converged."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.einsum("nii->ni", self.covariance))

    @property
    def known_covariance(self):
        """The covariance, NaN where a fit has not converged."""
        return np.where(self.converged[:, None, None], self.covariance, np.nan)


class MeasuredProfiles(NamedTuple):
    """Fitted profiles of n stamps; NaN for stamps without a pixel that counts.

    Parameters
    ----------
    parameters : ndarray of shape (n, n_parameters)
        The parameters of the central galaxy, as the renderer takes them.
    covariance : ndarray of shape (n, n_parameters, n_parameters)
        Their covariance. NaN where a fit has not converged.
    sky, sky_std : ndarray of shape (n, n_bands)
        The background and its error.
    steps, errors : ndarray of shape (n, n_parameters + n_bands)
        The next step of Gauss and Newton, of the central galaxy and of the background,
        and the errors of both; about 0 where a fit has converged.
    chi_square, n_pixels : ndarray of shape (n,)
        Chi-square, and the number of pixels that count.
    converged : bool ndarray of shape (n,)
        Whether the fit is at a minimum with a covariance.
    at_limit : bool ndarray of shape (n, n_parameters)
        Whether a parameter is at its limit.
    n_steps, n_neighbours : ndarray of shape (n,)
        Number of steps, and of fitted neighbours.
    psf_misfit : ndarray of shape (n,)
        By how many of its errors the squared width of the PSF should be larger; NaN if
        it was not asked for.
    bulge_fraction, bulge_fraction_std : ndarray of shape (n,)
        The share of the bulge in the light, and its error; NaN without bulges.
    scenes : tuple of FittedScenes
        All parameters, for each number of sources.
    """

    parameters: np.ndarray
    covariance: np.ndarray
    sky: np.ndarray
    sky_std: np.ndarray
    steps: np.ndarray
    errors: np.ndarray
    chi_square: np.ndarray
    n_pixels: np.ndarray
    converged: np.ndarray
    at_limit: np.ndarray
    n_steps: np.ndarray
    n_neighbours: np.ndarray
    psf_misfit: np.ndarray
    bulge_fraction: np.ndarray
    bulge_fraction_std: np.ndarray
    scenes: tuple

    def neighbours(self):
        """Return the `Neighbours`."""
        n = self.parameters.shape[1]
        found = []
        for fitted in self.scenes:
            for source in range(1, fitted.scene.n_sources):
                part = slice(source * n, (source + 1) * n)
                covariance = fitted.known_covariance[:, part, part]
                found.append((fitted.rows, fitted.parameters[:, part], covariance))
        if not found:
            return Neighbours(
                np.zeros(0, int), self.parameters[:0], self.covariance[:0]
            )
        rows, *others = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.argsort(rows, kind="stable")
        return Neighbours(*(part[order] for part in (rows, *others)))


@dataclass(frozen=True)
class ProfileFitter:
    """All that the fits of stamps depend on, besides the stamps.

    ``noise`` is the standard deviation of pixels without light in each band, or None if
    the stamps have a variance plane; ``psf`` (1, n_bands, H, W) is that of all stamps,
    or None. A ``gain`` of None adds no noise of the source.
    ``bounds`` are ends by name, and ``fit_sky`` is True, False or the width of a prior.
    ``noise_correlation`` is the autocorrelation (h, w) of the noise, or None.
    """

    layout: Layout
    pixel_scale: float
    gain: float | tuple | None
    noise: list | None
    psf: Any
    bounds: dict
    fit_sky: bool | float
    max_steps: int
    device: str
    max_neighbours: int = 0
    mask_cosmic_rays: bool = False
    noise_correlation: Any = None
    bulge: bool = False

    @classmethod
    def of_codec(cls, codec, max_steps):
        """Return the fitter of stamps like those of the `Codec` of a network."""
        noise = None
        if "variance" not in codec.layout.planes:
            noise = codec.image_scaler.noise_.ravel().astype(float).tolist()
        return cls(
            layout=codec.layout,
            pixel_scale=codec.pixel_scale,
            gain=codec.gain,
            noise=noise,
            psf=codec.psf,
            bounds={},
            fit_sky=True,
            max_steps=max_steps,
            device="cpu",
        )

    @cached_property
    def profile(self):
        """The `ProfileParameters` of a source."""
        return ProfileParameters.of_targets(
            self.layout.target_names, self.layout.band_shape[0]
        )

    def fit(self, images, start, neighbours=None, checks=False):
        """Fit `Images`, and return the `MeasuredProfiles`.

        Parameters
        ----------
        images : Images
            The stamps.
        start : ndarray of shape (n, n_parameters)
            The start of each central galaxy; NaN is replaced by a guess.
        neighbours : list of ndarray, default=None
            For each stamp the places (k, 2) of its neighbours. None finds them, at most
            ``max_neighbours``.
        checks : bool, default=False
            Whether to test the PSFs.
        """
        rows = np.setdiff1d(np.arange(len(images)), images.empty)
        if neighbours is not None:
            sources = {
                row: self._with_neighbours(images, row, start[row], neighbours[row])
                for row in rows
            }
        elif self.max_neighbours:
            sources = find_scenes(self, images, rows, start)
        else:
            sources = {row: start[row : row + 1] for row in rows}
        parts = self.fit_sources(images, sources, self.max_steps, checks)
        if self.bulge:
            parts = [self._fit_bulges(images, part, checks) for part, _ in parts]
        return self._joined(parts, len(images))

    def _fit_bulges(self, images, fitted, checks):
        """Fit stamps with a disc and a bulge, from fits with one profile a source."""
        n_each, scene = len(self.profile.names), fitted.scene
        starts = fitted.parameters[:, : scene.n_parameters].copy()
        starts[:, :n_each], bulges = split(starts[:, :n_each])
        starts = starts.reshape(len(starts), scene.n_sources, n_each)
        return self._fit_alike(
            images, fitted.rows, starts, self.max_steps, checks, bulges
        )

    def _with_neighbours(self, images, row, start, neighbours):
        """Return the starts (k, n_parameters) of a galaxy and of its neighbours.

        Neighbours outside of the stamp are left out.
        """
        farthest = np.array(self.layout.band_shape[:0:-1]) - 0.5
        inside = ((neighbours >= -0.5) & (neighbours <= farthest)).all(axis=1)
        neighbours = neighbours[inside]
        if not len(neighbours):
            return start[None]
        stamp, center = self.stamp(images, row), self.center_of(start)
        if np.isnan(start[self.centers]).any():
            center = find_central(stamp, center, neighbours)
        return starts_at(np.vstack([center, neighbours]), stamp, self.profile)

    def center_of(self, start):
        """Return the start of a centre (2,), by default the middle of the stamp."""
        height, width = self.layout.band_shape[1:]
        middle = [(width - 1) / 2, (height - 1) / 2]
        given = start[self.centers]
        return np.where(np.isnan(given), middle, given)

    @property
    def centers(self):
        """The numbers of the parameters x0 and y0."""
        return [self.profile.names.index(name) for name in ("x0", "y0")]

    def fit_sources(self, images, sources, max_steps, checks=False):
        """Fit stamps with the starts of all of their sources, by row.

        Returns a `FittedScenes` and `Fits` for each number of sources.
        """
        n_sources = np.array([len(one) for one in sources.values()], int)
        rows = np.array(list(sources), int)
        parts = []
        for number in np.unique(n_sources):
            alike = rows[n_sources == number]
            starts = np.stack([sources[row] for row in alike])
            parts.append(self._fit_alike(images, alike, starts, max_steps, checks))
        return parts

    def _fit_alike(self, images, rows, starts, max_steps, checks, bulges=None):
        """Fit stamps with the same number of sources, starts (m, n_sources, P).

        With the starts of bulges (m, 3) the first source is a disc.
        """
        has_bulge = bulges is not None
        bulges = bulges if has_bulge else np.zeros((len(starts), 0))
        scene = Scene.of_sources(self.profile.columns, starts.shape[1], has_bulge)
        limits = self.limits(starts, bulges)
        skies = np.full((len(starts), scene.n_bands), np.nan)
        fits = fit_profiles(
            lambda part: self._stamps(images, rows[part]),
            np.concatenate([starts.reshape(len(starts), -1), bulges, skies], axis=1),
            scene,
            limits,
            max_steps,
            correlation=self.noise_correlation,
            checks=checks,
            device=self.device,
        )
        unseen = _unseen(scene, fits.hessian)
        covariance = self._covariance_of(fits, limits.prior_sigma > 0, unseen)
        # Stamps without light, or with fewer pixels than parameters, show no profile.
        converged = fits.converged & np.isfinite(covariance).all(axis=(1, 2))
        converged &= (np.einsum("nii->ni", covariance) >= 0).all(axis=1)
        converged &= ~fits.constant
        # The diagonal of a flux is the squared signal-to-noise of the fitted light.
        fluxes = self.profile.of_kind("flux")
        strength = np.einsum("nii->ni", fits.hessian)[:, fluxes].max(axis=1)
        converged &= strength > LEAST_SIGNAL_TO_NOISE**2
        steps = np.einsum("nij,nj->ni", covariance, fits.gradient)
        decrease = np.nan_to_num(np.einsum("nj,nj->n", fits.gradient, steps))
        fitted = FittedScenes(
            rows=rows,
            scene=scene,
            limits=limits,
            parameters=fits.parameters,
            covariance=covariance,
            steps=steps,
            decrease=decrease,
            converged=converged,
            unseen=unseen,
        )
        return fitted, fits

    def _joined(self, parts, n):
        """Join the fits of stamps with different numbers of sources."""
        n_central, n_bands = len(self.profile.names), self.layout.band_shape[0]
        empty = MeasuredProfiles(
            parameters=np.full((n, n_central), np.nan),
            covariance=np.full((n, n_central, n_central), np.nan),
            sky=np.full((n, n_bands), np.nan),
            sky_std=np.full((n, n_bands), np.nan),
            steps=np.full((n, n_central + n_bands), np.nan),
            errors=np.full((n, n_central + n_bands), np.nan),
            chi_square=np.full(n, np.nan),
            n_pixels=np.zeros(n, int),
            converged=np.zeros(n, bool),
            at_limit=np.zeros((n, n_central), bool),
            n_steps=np.zeros(n, int),
            n_neighbours=np.zeros(n, int),
            psf_misfit=np.full(n, np.nan),
            bulge_fraction=np.full(n, np.nan),
            bulge_fraction_std=np.full(n, np.nan),
            scenes=tuple(fitted for fitted, _ in parts),
        )
        for fitted, fits in parts:
            rows, skies = fitted.rows, fitted.scene.skies
            central, to_central = _central_of(
                fitted.scene, fitted.parameters, n_central
            )
            back = to_central.transpose(0, 2, 1)
            own = covariance = to_central @ fitted.covariance @ back
            known = np.where(fitted.converged, 1, np.nan)
            unseen = fitted.unseen[:, :n_central]
            covariance = known[:, None, None] * covariance
            covariance[unseen[:, :, None] | unseen[:, None]] = np.nan
            empty.parameters[rows] = np.where(unseen, np.nan, central)
            empty.covariance[rows] = covariance
            has_sky = np.where(fitted.unseen[:, skies], np.nan, 1)
            empty.sky[rows] = has_sky * fitted.parameters[:, skies]
            empty.sky_std[rows] = has_sky * known[:, None] * fitted.errors[:, skies]
            steps = (to_central @ fitted.steps[:, :, None])[:, :, 0]
            with np.errstate(invalid="ignore"):
                errors = np.sqrt(np.einsum("nii->ni", own))
            empty.steps[rows] = np.hstack([steps, fitted.steps[:, skies]])
            empty.errors[rows] = np.hstack([errors, fitted.errors[:, skies]])
            if self.bulge:
                fraction, error = _bulge_fraction_of(fitted, n_central)
                empty.bulge_fraction[rows] = fraction
                empty.bulge_fraction_std[rows] = known * error
            empty.chi_square[rows] = fits.chi_square
            empty.n_pixels[rows] = fits.n_pixels
            empty.converged[rows] = fitted.converged
            free = fitted.limits.prior_sigma > 0
            empty.at_limit[rows] = (fits.at_limit & free)[:, :n_central]
            empty.n_steps[rows] = fits.n_steps
            empty.n_neighbours[rows] = fitted.scene.n_sources - 1
            empty.psf_misfit[rows] = fits.psf_misfit
        return empty

    def pixels(self, images):
        """Return the pixels (n, n_bands, H, W) as they are fitted, NaN if masked."""
        stamps = self._stamps(images, np.arange(len(images)))
        return np.where(stamps.counts, stamps.images, np.nan)

    def residuals(self, images, measured):
        """Return the residuals of fits over their noise, NaN if masked."""
        light = self.render(images, measured)
        stamps = self._stamps(images, np.arange(len(images)))
        noise = stamps.noise_of_light[:, :, None, None]
        variance = stamps.variance + noise * light.clip(min=0)
        residuals = self.pixels(images) - light - measured.sky[:, :, None, None]
        return residuals / np.sqrt(variance)

    def render(self, images, measured, central=False):
        """Return the light of all sources, or of the central ones, (n, n_bands, H, W).

        NaN for stamps without a pixel.
        """
        rendered = np.full((len(images), *self.layout.band_shape), np.nan, np.float32)
        for fitted in measured.scenes:
            rendered[fitted.rows] = self.render_fitted(images, fitted, central)
        return rendered

    def render_fitted(self, images, fitted, central=False):
        """Return the light (m, n_bands, H, W) of some fits, of all sources or one."""
        return render_scenes(
            lambda part: self._stamps(images, fitted.rows[part]),
            fitted.parameters,
            fitted.scene,
            central,
        )

    def draw(self, images, measured, n_draws, rng):
        """Draw parameters (n, n_draws, n_parameters) from the posterior of each stamp.

        Also returns the effective number of draws of each stamp, (n,).
        """
        seeds = rng.randint(np.iinfo(np.int32).max, size=len(images))
        n_central = len(self.profile.names)
        draws = np.full((len(images), n_draws, n_central), np.nan)
        effective = np.zeros(len(images))
        for fitted in measured.scenes:
            usable = fitted.converged
            rows = fitted.rows[usable]
            drawn, effective[rows] = draw_profiles(
                lambda part, rows=rows: self._stamps(images, rows[part]),
                fitted.parameters[usable],
                fitted.covariance[usable],
                fitted.scene,
                fitted.limits.take(usable),
                n_draws,
                seeds[rows],
                self.device,
            )
            flat = drawn.reshape(-1, drawn.shape[2])
            central, _ = _central_of(fitted.scene, flat, n_central)
            draws[rows] = central.reshape(*drawn.shape[:2], n_central)
        return draws, effective

    def named(self, measured):
        """Return the targets (n, n_targets) of measured profiles."""
        names = self.layout.target_names
        return self.profile.named(measured.parameters, names, self.pixel_scale)

    def covariance(self, measured):
        """Return the covariance (n, n_targets, n_targets) of the targets."""
        return self.profile.covariance_of_named(
            measured.parameters,
            measured.covariance,
            self.layout.target_names,
            self.pixel_scale,
        )

    def interval(self, measured, coverage):
        """Return the ends of central intervals of the targets, each (n, n_targets).

        They are symmetric about the logarithms of flux, radius and index.
        """
        names, parameters = self.layout.target_names, measured.parameters
        width = norm.isf((1 - coverage) / 2)
        sigma = np.sqrt(np.diagonal(measured.covariance, axis1=1, axis2=2))
        y, covariance = self.named(measured), self.covariance(measured)
        std = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        is_derived = np.isin(names, DERIVED)
        ends = (parameters + sign * width * sigma for sign in (-1, 1))
        return tuple(
            np.where(
                is_derived,
                y + sign * width * std,
                self.profile.named(end, names, self.pixel_scale),
            )
            for sign, end in zip((-1, 1), ends, strict=True)
        )

    def start_from(self, y):
        """Return the start of targets (n, n_targets), NaN where unknown."""
        return self.profile.rendered(y, self.layout.target_names, self.pixel_scale)

    def limits(self, starts, bulges):
        """Return the `Limits` of stamps with starts (m, n_sources, P) of all sources.

        The bounds are those of the central galaxy. Neighbours have priors, and so have
        bulges, whose starts are (m, 3) or (m, 0).
        """
        n, n_sources, _ = starts.shape
        low, high, most_elliptical = make_limits(
            self.profile, self.bounds, self.layout.band_shape, self.pixel_scale
        )
        free_low, free_high, _ = make_limits(
            self.profile, {}, self.layout.band_shape, self.pixel_scale
        )
        n_bands, others = self.layout.band_shape[0], n_sources - 1
        of_bulge = np.full(bulges.shape[1], np.inf)
        of_sky = np.full(n_bands, np.inf if self.fit_sky else 0.0)
        low = np.concatenate([low, np.tile(free_low, others), -of_bulge, -of_sky])
        high = np.concatenate([high, np.tile(free_high, others), of_bulge, of_sky])
        low, high = np.tile(low, (n, 1)), np.tile(high, (n, 1))
        mean, sigma = self._priors(starts, bulges)
        if n_sources > 1:
            low, high = self._near(starts, low, high)
        return Limits(low, high, most_elliptical, mean, sigma)

    def _near(self, starts, low, high):
        """Return limits with all centres near their starts, within the limits."""
        n_each = len(self.profile.names)
        for source in range(starts.shape[1]):
            for number in self.centers:
                column, start = source * n_each + number, starts[:, source, number]
                start = start.clip(low[:, column], high[:, column])
                low[:, column] = np.maximum(low[:, column], start - CENTER_ROOM)
                high[:, column] = np.minimum(high[:, column], start + CENTER_ROOM)
        return low, high

    def _priors(self, starts, bulges):
        """Return means (m, n_fitted) and widths (n_fitted,) of the priors."""
        n, n_sources, n_each = starts.shape
        n_bands = self.layout.band_shape[0]
        mean = np.zeros((n, n_sources, n_each))
        sigma = np.full((n_sources, n_each), np.inf)
        for i, name in enumerate(self.profile.names):
            if name in ("x0", "y0"):
                mean[:, 1:, i], sigma[1:, i] = starts[:, 1:, i], CENTER_SIGMA
            elif kind_of(name) in PRIOR_OF_NEIGHBOURS:
                mean[:, 1:, i], sigma[1:, i] = PRIOR_OF_NEIGHBOURS[kind_of(name)]
        is_flag = isinstance(self.fit_sky, bool | np.bool_)
        of_sky = np.inf if is_flag and self.fit_sky else float(self.fit_sky)
        of_bulge = []
        if bulges.shape[1]:
            of_bulge = [FLUX_SIGMA, RADIUS_SIGMA, 0.0]
            index = self.profile.names.index("sersic_index")
            mean[:, 0, index], sigma[0, index] = starts[:, 0, index], 0.0
        return (
            np.hstack([mean.reshape(n, -1), bulges, np.zeros((n, n_bands))]),
            np.concatenate([sigma.ravel(), of_bulge, np.full(n_bands, of_sky)]),
        )

    def _covariance_of(self, fits, free, unseen):
        """Return the covariance (n, n_fitted, n_fitted).

        It is 0 for fixed parameters, and for those that no pixel depends on.
        """
        covariance = np.zeros_like(fits.hessian)
        used = np.ix_(range(len(covariance)), *2 * [np.flatnonzero(free)])
        hessian = fits.hessian + unseen[:, :, None] * np.eye(unseen.shape[1])
        inverse = _inverse(hessian[used])
        if self.noise_correlation is not None:
            inverse = inverse @ fits.score_covariance[used] @ inverse
        covariance[used] = inverse
        covariance[unseen[:, :, None] | unseen[:, None]] = 0
        covariance[np.isnan(inverse).any(axis=(1, 2))] = np.nan
        return covariance

    def stamp(self, images, row):
        """Read one stamp, with arrays (n_bands, H, W)."""
        return self._stamps(images, np.array([row])).take(0)

    def _stamps(self, images, rows):
        """Read some stamps as the fit takes them, in float64."""
        pixels = images[rows].astype(np.float64)
        counts = ~np.isnan(pixels)
        if images.variance is None:
            noise = np.reshape(self.noise, (-1, 1, 1))
            variance = np.broadcast_to(noise**2, pixels.shape)
        else:
            variance = images.variance[rows].astype(np.float64)
        psf = self.psf if images.psf is None else images.psf[rows]
        noise_of_light = 0.0 if self.gain is None else 1 / np.asarray(self.gain)
        return Stamps(
            pixels,
            variance,
            counts,
            np.broadcast_to(psf, pixels.shape),
            np.broadcast_to(noise_of_light, pixels.shape[:2]),
        )

    def without_cosmic_rays(self, images):
        """Return images whose cosmic rays are masked, if they are to be found."""
        if not self.mask_cosmic_rays:
            return images
        raw = images.raw.astype(images.dtype)
        for row in range(len(images)):
            stamp = self.stamp(images, row)
            for band, pixels in enumerate(raw[row, : images.shape[1]]):
                image, variance, counts, psf, noise = (part[band] for part in stamp)
                gain = 1 / noise if noise else None
                pixels[find_cosmic_rays(image, variance, counts, psf, gain)] = np.nan
        return Images(raw, images.empty, images.kinds)


def _unseen(scene, hessian):
    """Return the parameters (n, n_fitted) that belong to bands without a pixel."""
    unseen = np.zeros(hessian.shape[:2], bool)
    if scene.n_bands > 1:
        for band, sky in enumerate(scene.skies):
            # The image changes with the background in all pixels that count.
            unseen[:, scene.only_in(band)] = (hessian[:, sky, sky] == 0)[:, None]
    return unseen


def _central_of(scene, parameters, n_central):
    """Return parameters (n, n_central) of the central galaxy, and their derivatives.

    The derivatives (n, n_central, n_fitted) are with respect to all fitted parameters.
    """
    n, n_fitted = parameters.shape
    derivatives = np.zeros((n, n_central, n_fitted))
    own = [*range(n_central), *scene.bulge]
    if not scene.bulge:
        derivatives[:, range(n_central), own] = 1
        return parameters[:, :n_central], derivatives
    central, of_both = join(parameters[:, :n_central], parameters[:, scene.bulge])
    derivatives[:, :, own] = of_both
    return central, derivatives


def _bulge_fraction_of(fitted, n_central):
    own = [*range(n_central), *fitted.scene.bulge]
    return bulge_fraction(
        fitted.parameters[:, :n_central],
        fitted.parameters[:, fitted.scene.bulge],
        fitted.covariance[:, own][:, :, own],
    )


def make_limits(profile, bounds, band_shape, pixel_scale):
    """Return the limits of the parameters of a source, and of its ellipticity.

    The first two are arrays (n_parameters,); ``bounds`` are checked, by name.
    """
    height, width = band_shape[1:]
    side = max(height, width)
    limits = {
        "half_light_radius": np.log([LEAST_RADIUS, LARGEST_RADIUS_IN_SIDES * side]),
        "sersic_index": np.log(INDEX_LIMITS),
        "e1": (-1.0, 1.0),
        "e2": (-1.0, 1.0),
        "x0": (-0.5, width - 0.5),
        "y0": (-0.5, height - 0.5),
    }
    most_elliptical = MOST_ELLIPTICAL
    for name, ends in bounds.items():
        if name == "ellipticity":
            most_elliptical = float(ends[1])
        else:
            ends = np.asarray(ends, dtype=np.float64)
            with np.errstate(divide="ignore"):
                limits[name] = to_rendered(name, ends, pixel_scale)
    ends = [
        limits.get(name, limits.get(kind_of(name), (-np.inf, np.inf)))
        for name in profile.names
    ]
    low, high = np.array(ends, dtype=np.float64).T
    return np.where(np.isnan(low), -np.inf, low), high, most_elliptical


def are_bounds(name, ends, names):
    """Return whether a parameter among these names may have these bounds."""
    if name not in (*names, "ellipticity") or np.shape(ends) != (2,):
        return False
    if not all(isinstance(end, Real) for end in ends) or not ends[0] < ends[1]:
        return False
    low, high = ends
    if name == "ellipticity":
        return low == 0 and high < 1
    if name in ("e1", "e2"):
        return low >= -1 and high <= 1
    if name == "sersic_index":
        return INDEX_LIMITS[0] <= low and high <= INDEX_LIMITS[1]
    return high > 0 or name in ("x0", "y0")


def _inverse(matrices):
    """Return inverse matrices (n, m, m), NaN if one has none."""
    diagonal = np.einsum("nii->ni", matrices)
    good = np.isfinite(matrices).all(axis=(1, 2)) & (diagonal > 0).all(axis=1)
    scale = np.sqrt(np.where(good[:, None], diagonal, 1))
    both = scale[:, :, None] * scale[:, None]
    scaled = np.where(good[:, None, None], matrices / both, np.eye(matrices.shape[1]))
    good &= np.linalg.cond(scaled) < LARGEST_CONDITION
    scaled[~good] = np.eye(matrices.shape[1])
    inverse = np.linalg.inv(scaled) / both
    inverse[~good] = np.nan
    return inverse
