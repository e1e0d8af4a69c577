"""Bulges: the flux and the half-light radius of a bulge and a disc together."""

import numpy as np

from sklcae.datasets._bulges import enclosed_light

# The Sersic indices of both: a de Vaucouleurs profile and an exponential disc.
BULGE_INDEX, DISC_INDEX = 4.0, 1.0
INDICES = (DISC_INDEX, BULGE_INDEX)
# The start of a fit: the least and the largest share of the bulge in the light, and its
# radius and that of the disc over the radius of a single profile.
FIRST_FRACTIONS, FIRST_RADIUS, FIRST_DISC = (0.15, 0.7), 0.4, 1.1
# The widths of the priors of the logarithms of flux and radius of a bulge. Their means
# are the start. Without priors a disc without a bulge would make the fit singular.
FLUX_SIGMA, RADIUS_SIGMA = 1.5, 0.7
# Steps of the bisection for the half-light radius.
N_STEPS = 50
# Step of the logarithm of a radius for derivatives.
STEP = 1e-4


def half_light_radius(log_fluxes, log_radii, indices):
    """Return the logarithm of the half-light radius of profiles together, (n,).

    All have the same ellipticity, so that each ellipse encloses a share of the light of
    each that depends only on its circularised radius.

    Parameters
    ----------
    log_fluxes, log_radii : ndarray of shape (n, n_profiles)
        Logarithms of the fluxes and the radii.
    indices : array-like of shape (n_profiles,)
        The Sersic indices.
    """
    shares = np.exp(log_fluxes - log_fluxes.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    low, high = log_radii.min(axis=1), log_radii.max(axis=1)
    for _ in range(N_STEPS):
        middle = (low + high) / 2
        inside = _enclosed(middle, shares, log_radii, indices) < 0.5
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return (low + high) / 2


def slopes(log_fluxes, log_radii, indices):
    """Return the derivatives of flux and half-light radius, (n, 2, 2 n_profiles).

    They are those of the logarithms with respect to the logarithms of the fluxes and
    then of the radii of the profiles.
    """
    shares = np.exp(log_fluxes - log_fluxes.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    radius = half_light_radius(log_fluxes, log_radii, indices)
    ends = [
        [
            enclosed_light(np.exp(radius + sign * STEP - log_radii[:, i]), index)
            for i, index in enumerate(indices)
        ]
        for sign in (-1, 0, 1)
    ]
    below, at, above = (np.stack(end, axis=1) for end in ends)
    by_radius = shares * (above - below) / (2 * STEP)
    total = by_radius.sum(axis=1, keepdims=True)
    by_flux = -shares * (at - 0.5) / total
    flux = np.concatenate([shares, np.zeros_like(shares)], axis=1)
    return np.stack(
        [flux, np.concatenate([by_flux, by_radius / total], axis=1)], axis=1
    )


def _enclosed(log_radius, shares, log_radii, indices):
    return sum(
        shares[:, i] * enclosed_light(np.exp(log_radius - log_radii[:, i]), index)
        for i, index in enumerate(indices)
    )


def split(parameters):
    """Return starts of a disc (n, 7) and a bulge (n, 3) from single profiles (n, 7).

    The more concentrated the profile, the more of its light is in the bulge.
    """
    log_flux, log_radius, log_index = parameters[:, :3].T
    fraction = ((np.exp(log_index) - 1) / 4).clip(*FIRST_FRACTIONS)
    disc = parameters.copy()
    disc[:, 0] = log_flux + np.log1p(-fraction)
    disc[:, 1] = log_radius + np.log(FIRST_DISC)
    disc[:, 2] = np.log(DISC_INDEX)
    bulge = np.column_stack(
        [
            log_flux + np.log(fraction),
            log_radius + np.log(FIRST_RADIUS),
            np.full(len(disc), np.log(BULGE_INDEX)),
        ]
    )
    return disc, bulge


def join(disc, bulge):
    """Return parameters (n, 7) of a disc and a bulge together, and their derivatives.

    Flux and half-light radius are those of both, the index is that of the disc. The
    derivatives (n, 7, 10) are with respect to the parameters of the disc (n, 7), then
    of the bulge (n, 3).
    """
    log_fluxes, log_radii = (
        np.column_stack([disc[:, i], bulge[:, i]]) for i in range(2)
    )
    joined = disc.copy()
    joined[:, 0] = np.logaddexp(*log_fluxes.T)
    joined[:, 1] = half_light_radius(log_fluxes, log_radii, INDICES)
    derivatives = np.zeros((len(disc), 7, 10))
    derivatives[:, range(2, 7), range(2, 7)] = 1
    derivatives[:, :2, [0, 7, 1, 8]] = slopes(log_fluxes, log_radii, INDICES)
    return joined, derivatives


def bulge_fraction(disc, bulge, covariance):
    """Return the share of the bulge in the light, and its error, both (n,).

    The covariance (n, 10, 10) is that of the parameters of the disc and the bulge.
    """
    fraction = 1 / (1 + np.exp(disc[:, 0] - bulge[:, 0]))
    both = [0, 7]
    variance = covariance[:, both][:, :, both]
    contrast = variance[:, 0, 0] + variance[:, 1, 1] - 2 * variance[:, 0, 1]
    return fraction, fraction * (1 - fraction) * np.sqrt(contrast)
