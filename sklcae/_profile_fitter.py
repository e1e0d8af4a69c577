"""Fits of Sersic profiles to checked stamps: images in, parameters and errors out."""

from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm

from sklcae._inputs import Layout
from sklcae._profiles import (
    DERIVED,
    N_FITTED,
    PARAMETERS,
    covariance_of_named,
    to_named,
    to_rendered,
)
from sklcae._torch.profile_fit import Limits, Stamps, draw_profiles, fit_profiles
from sklcae._torch.sersic import INDEX_LIMITS

# Limits of parameters without bounds; those of radii and centres are in pixels.
MOST_ELLIPTICAL = 0.95
LEAST_RADIUS = 0.02
LARGEST_RADIUS_IN_SIDES = 4.0
SKY = N_FITTED - 1
# The names that may have bounds.
BOUNDED = (*PARAMETERS, "ellipticity")
# Less light than this is no profile.
LEAST_SIGNAL_TO_NOISE = 1.0
# A Fisher matrix, scaled to a diagonal of 1, that is worse conditioned has no inverse.
LARGEST_CONDITION = 1e13


class MeasuredProfiles(NamedTuple):
    """Fitted profiles of n stamps; NaN for stamps without a pixel that counts.

    ``parameters`` (n, 8) and ``covariance`` (n, 8, 8) are those of the renderer and the
    background. The covariance is NaN where a fit has not converged. ``chi_square`` (n,)
    is the sum over ``n_pixels`` (n,) pixels. ``converged`` (n,), whether the fit is at
    a minimum with a covariance, ``at_limit`` (n, 8) and ``n_steps`` (n,) describe the
    fits.
    """

    parameters: np.ndarray
    covariance: np.ndarray
    chi_square: np.ndarray
    n_pixels: np.ndarray
    converged: np.ndarray
    at_limit: np.ndarray
    n_steps: np.ndarray


@dataclass(frozen=True)
class ProfileFitter:
    """All that the fits of stamps depend on, besides the stamps.

    ``noise`` is the standard deviation of pixels without light, or None if the stamps
    have a variance plane; ``psf`` (1, 1, H, W) is that of all stamps, or None. A gain
    of None adds no noise of the source. ``bounds`` are
    ends by name, and ``fit_sky`` is True, False or the width of a prior.
    """

    layout: Layout
    pixel_scale: float
    gain: float | None
    noise: float | None
    psf: Any
    bounds: dict
    fit_sky: bool | float
    max_steps: int
    device: str

    @cached_property
    def limits(self):
        """The limits of the parameters of the renderer."""
        return make_limits(
            self.bounds, self.layout.band_shape, self.pixel_scale, self.fit_sky
        )

    def fit(self, images, start):
        """Fit `Images` from a start (n, 8); NaN in it is replaced by image moments."""
        rows = np.setdiff1d(np.arange(len(images)), images.empty)
        fits = fit_profiles(
            lambda part: self._stamps(images, rows[part]),
            start[rows],
            self.limits,
            self.max_steps,
            self.device,
        )
        covariance = _inverse(fits.hessian, self.limits.sky_sigma > 0)
        # Stamps without light, or with fewer pixels than parameters, show no profile.
        converged = fits.converged & np.isfinite(covariance).all(axis=(1, 2))
        converged &= ~fits.constant
        # The diagonal of the flux is the squared signal-to-noise of the fitted light.
        converged &= fits.hessian[:, 0, 0] > LEAST_SIGNAL_TO_NOISE**2
        covariance[~converged] = np.nan
        measured = MeasuredProfiles(
            fits.parameters,
            covariance,
            fits.chi_square,
            fits.n_pixels,
            converged,
            fits.at_limit,
            fits.n_steps,
        )
        if len(rows) == len(images):
            return measured
        return MeasuredProfiles(
            *(_spread(part, rows, len(images)) for part in measured)
        )

    def draw(self, images, measured, n_draws, rng):
        """Draw parameters (n, n_draws, 8) from the posterior of each stamp.

        Also returns the effective number of draws of each stamp, (n,).
        """
        seeds = rng.randint(np.iinfo(np.int32).max, size=len(images))
        usable = np.isfinite(measured.covariance).all(axis=(1, 2))
        rows = np.flatnonzero(usable)
        draws = np.full((len(images), n_draws, N_FITTED), np.nan)
        effective = np.zeros(len(images))
        draws[rows], effective[rows] = draw_profiles(
            lambda part: self._stamps(images, rows[part]),
            measured.parameters[rows],
            measured.covariance[rows],
            self.limits,
            n_draws,
            seeds[rows],
            self.device,
        )
        return draws, effective

    def named(self, measured):
        """Return the targets (n, n_targets) of measured profiles."""
        names = self.layout.target_names
        return to_named(measured.parameters, names, self.pixel_scale)

    def covariance(self, measured):
        """Return the covariance (n, n_targets, n_targets) of the targets."""
        return covariance_of_named(
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
        return tuple(
            np.where(
                is_derived,
                y + sign * width * std,
                to_named(parameters + sign * width * sigma, names, self.pixel_scale),
            )
            for sign in (-1, 1)
        )

    def start_from(self, y):
        """Return the start (n, 8) of targets (n, n_targets), NaN where unknown."""
        start = np.full((len(y), N_FITTED), np.nan)
        columns = dict(zip(self.layout.target_names, y.T, strict=True))
        if "e1" not in columns and {"ellipticity", "position_angle"} <= set(columns):
            angle = 2 * np.deg2rad(columns["position_angle"])
            columns["e1"] = columns["ellipticity"] * np.cos(angle)
            columns["e2"] = columns["ellipticity"] * np.sin(angle)
        for i, name in enumerate(PARAMETERS):
            if name in columns:
                start[:, i] = to_rendered(name, columns[name], self.pixel_scale)
        return start

    def _stamps(self, images, rows):
        """Read some stamps as the fit takes them, in float64."""
        pixels = images[rows][:, 0].astype(np.float64)
        counts = ~np.isnan(pixels)
        if images.variance is None:
            variance = np.full(pixels.shape, self.noise**2)
        else:
            variance = images.variance[rows][:, 0].astype(np.float64)
        psf = self.psf if images.psf is None else images.psf[rows]
        noise_of_light = 0.0 if self.gain is None else 1 / self.gain
        return Stamps(
            pixels,
            variance,
            counts,
            np.broadcast_to(psf[:, 0], pixels.shape),
            np.full(len(pixels), noise_of_light),
        )


def make_limits(bounds, band_shape, pixel_scale, fit_sky):
    """Return the `Limits` of the fit for checked bounds by name."""
    height, width = band_shape[1:]
    side = max(height, width)
    low, high = np.full((2, N_FITTED), np.inf) * [[-1], [1]]
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
    for i, name in enumerate(PARAMETERS):
        low[i], high[i] = np.nan_to_num(
            limits.get(name, (-np.inf, np.inf)),
            nan=-np.inf,
            posinf=np.inf,
            neginf=-np.inf,
        )
    is_flag = isinstance(fit_sky, bool | np.bool_)
    width_of_sky = np.inf if is_flag and fit_sky else float(fit_sky)
    if not width_of_sky:
        low[SKY] = high[SKY] = 0
    return Limits(low, high, most_elliptical, width_of_sky)


def are_bounds(name, ends):
    """Return whether a parameter of this name may have these bounds."""
    if name not in BOUNDED or np.shape(ends) != (2,):
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


def _inverse(hessian, has_sky):
    """Return inverse matrices (n, 8, 8), NaN if one has none; 0 for a fixed sky."""
    n_free = N_FITTED if has_sky else SKY
    inverse = np.zeros_like(hessian)
    used = hessian[:, :n_free, :n_free]
    diagonal = np.einsum("nii->ni", used)
    good = np.isfinite(used).all(axis=(1, 2)) & (diagonal > 0).all(axis=1)
    scale = np.sqrt(np.where(good[:, None], diagonal, 1))
    both = scale[:, :, None] * scale[:, None]
    scaled = np.where(good[:, None, None], used / both, np.eye(n_free))
    good &= np.linalg.cond(scaled) < LARGEST_CONDITION
    scaled[~good] = np.eye(n_free)
    inverse[:, :n_free, :n_free] = np.linalg.inv(scaled) / both
    inverse[~good] = np.nan
    return inverse


def _spread(values, rows, n):
    """Return values of some rows among n, with NaN, 0 or False in the others."""
    fill = np.nan if values.dtype.kind == "f" else 0
    spread = np.full((n, *values.shape[1:]), fill, values.dtype)
    spread[rows] = values
    return spread
