"""Which sources are on a stamp: the starts of joint fits, and their revision."""

from typing import NamedTuple

import numpy as np

from sklcae._detection import find_in_residual, find_sources
from sklcae._profiles import kind_of

# The start of a source, besides its place and its flux: radius in pixels and index.
FIRST_RADIUS, FIRST_INDEX = 3.0, 1.3
# The aperture of the first flux is half as wide as the way to the next source, within
# these radii in pixels. The flux of a source over that in the aperture is about this.
LEAST_APERTURE, LARGEST_APERTURE = 1.5, 4.0
FLUX_OVER_APERTURE = 1.7
# The first flux is at least so many times the noise of a pixel.
LEAST_FLUX = 10.0
# A source may be left out if its flux is less than so many times its error.
LEAST_SIGNIFICANCE = 5.0
# A source has to lower chi-square by so much. Its seven parameters lower it by seven.
LEAST_GAIN = 30.0
# The last source near the centre may be left out if its flux is less than so many times
# its error.
LEAST_OF_CENTRAL = 2.0
# A source farther from the expected centre, in pixels, is not the galaxy.
FARTHEST_CENTRAL = 6.0
# Sources nearer to a known neighbour, in pixels, are that neighbour.
SAME_PLACE = 3.0
# So many times the sources are revised, after fits of so many steps.
N_REVISIONS, FEW_STEPS = 8, 25


def find_scenes(fitter, images, rows, start):
    """Find the sources of stamps: their starts (k, n_parameters), by row.

    The central source is the first. After a short fit of all sources, those in the
    residuals are taken in. If there are none, the most uncertain source is left out.
    This goes on as long as it lowers chi-square plus a price for each source.

    Parameters
    ----------
    fitter : ProfileFitter
        The fitter, which knows the largest number of neighbours.
    images : Images
        The stamps.
    rows : ndarray of int
        The stamps with a pixel that counts.
    start : ndarray of shape (n, n_parameters)
        The start of the central galaxies, NaN where unknown.
    """
    sources = {row: _first_sources(fitter, images, row, start[row]) for row in rows}
    best, unsettled = {}, sources
    for _ in range(N_REVISIONS):
        revised = {}
        for row, scene in _fit_shortly(fitter, images, unsettled):
            if row in best and not scene.price < best[row].price:
                continue
            best[row] = scene
            center = fitter.center_of(start[row])
            new = _revised(fitter, fitter.stamp(images, row), center, scene)
            if new is not None:
                revised[row] = new
        unsettled = revised
        if not unsettled:
            break
    # A single source that starts from the estimator or from moments may be better.
    rivals = {
        row: start[row][None] for row, scene in best.items() if len(scene.sources) > 1
    }
    for row, scene in _fit_shortly(fitter, images, rivals):
        if scene.price <= best[row].price:
            best[row] = scene
    return {
        row: start[row][None] if len(scene.sources) == 1 else scene.sources
        for row, scene in best.items()
    }


class _FittedScene(NamedTuple):
    """The sources (k, n_parameters) of a stamp after a short fit, and their errors.

    ``light`` (n_bands, H, W) is that of all sources and ``sky`` (n_bands,) the
    background. The ``price`` is chi-square, and `LEAST_GAIN` for each source.
    """

    sources: np.ndarray
    errors: np.ndarray
    light: np.ndarray
    sky: np.ndarray
    price: float


def _first_sources(fitter, images, row, start):
    """Return the starts (k, n_parameters) of the sources found on a stamp."""
    stamp, center = fitter.stamp(images, row), fitter.center_of(start)
    positions = find_positions(stamp, 1 + fitter.max_neighbours, center)
    is_predicted = np.isfinite(start[fitter.centers]).all()
    if is_predicted and np.hypot(*(positions[0] - center)) > FARTHEST_CENTRAL:
        # The predicted galaxy is not among the sources.
        positions = np.vstack([center, positions[: fitter.max_neighbours]])
    return starts_at(positions, stamp, fitter.profile)


def _fit_shortly(fitter, images, sources):
    """Yield row and `_FittedScene` of stamps with starts by row."""
    n_each = len(fitter.profile.names)
    for fitted, fits in fitter.fit_sources(images, sources, FEW_STEPS):
        light, scene = fitter.render_fitted(images, fitted), fitted.scene
        for index, row in enumerate(fitted.rows):
            parameters, errors = (
                part[index, : scene.n_parameters].reshape(-1, n_each)
                for part in (fitted.parameters, fitted.errors)
            )
            sky = fitted.parameters[index, scene.skies]
            price = fits.chi_square[index] + LEAST_GAIN * len(parameters)
            yield row, _FittedScene(parameters, errors, light[index], sky, price)


def _revised(fitter, stamp, center, scene):
    """Return the starts of sources to fit next, the central one first, or None."""
    sources, centers = scene.sources, scene.sources[:, fitter.centers]
    n_most = 1 + fitter.max_neighbours
    places = find_more(stamp, scene.light, scene.sky, centers, n_most)
    if len(places):
        left = stamp.images - scene.light - scene.sky[:, None, None]
        new = starts_at(places, stamp._replace(images=left), fitter.profile)
        sources = np.concatenate([sources, new])
    else:
        errors = scene.errors[:, fitter.profile.of_kind("flux")].min(axis=1)
        keep = _kept(errors, np.hypot(*(centers - center).T))
        if keep.all():
            return None
        sources = sources[keep]
    offsets = sources[:, fitter.centers] - center
    return sources[np.argsort(np.hypot(*offsets.T), kind="stable")]


def _kept(errors, distance):
    """Return which sources are kept: all but the most uncertain one, if that.

    Where two sources share the light of one, the fluxes of both are uncertain, and one
    of them has to stay. So does the last source near the centre.
    """
    keep = np.ones(len(errors), bool)
    may_go = errors > 1 / LEAST_SIGNIFICANCE
    last = np.argmin(distance)
    if (distance < FARTHEST_CENTRAL).sum() <= 1 and errors[last] < 1 / LEAST_OF_CENTRAL:
        may_go[last] = False
    if len(errors) == 1:
        may_go[:] = False
    if may_go.any():
        keep[np.argmax(np.where(may_go, errors, 0))] = False
    return keep


def starts_at(positions, stamp, profile):
    """Return the start (k, n_parameters) of sources at some places.

    Parameters
    ----------
    positions : ndarray of shape (k, 2)
        x and y in pixels from the centre of the first pixel.
    stamp : Stamps
        The stamp, with arrays (n_bands, H, W).
    profile : ProfileParameters
        The parameters of a source.
    """
    start = np.zeros((len(positions), len(profile.names)))
    fluxes = _fluxes_at(positions, stamp)
    bands = iter(fluxes)
    for i, name in enumerate(profile.names):
        kind = kind_of(name)
        if kind == "flux":
            start[:, i] = np.log(next(bands))
        elif kind == "half_light_radius":
            start[:, i] = np.log(FIRST_RADIUS)
        elif kind == "sersic_index":
            start[:, i] = np.log(FIRST_INDEX)
        elif kind in ("x0", "y0"):
            start[:, i] = positions[:, int(kind == "y0")]
    return start


def _fluxes_at(positions, stamp):
    """Return first fluxes (n_bands, k) from apertures around the sources."""
    rows, columns = np.indices(stamp.images.shape[1:])
    light = np.where(stamp.counts, stamp.images, 0)
    noise = np.sqrt(np.median(stamp.variance, axis=(1, 2)))
    fluxes = np.empty((len(light), len(positions)))
    for i, (x, y) in enumerate(positions):
        others = np.delete(positions, i, axis=0) - positions[i]
        nearest = np.hypot(*others.T).min(initial=2 * LARGEST_APERTURE)
        radius = np.clip(nearest / 2, LEAST_APERTURE, LARGEST_APERTURE)
        inside = np.hypot(columns - x, rows - y) <= radius
        fluxes[:, i] = FLUX_OVER_APERTURE * light[:, inside].sum(axis=1)
    return np.maximum(fluxes, LEAST_FLUX * noise[:, None])


def find_central(stamp, center, neighbours):
    """Return the place of the source nearest to a centre that is no known neighbour.

    Without such a source it is the centre itself. Places are (2,) and (k, 2).
    """
    seen = _all_bands(stamp, stamp.images, stamp.variance)
    found = find_sources(*seen.pixels, seen.gain, center=center)
    for place in zip(found.x, found.y, strict=True):
        if np.hypot(*(neighbours - place).T).min(initial=np.inf) > SAME_PLACE:
            return np.array(place)
    return center


def find_positions(stamp, n_most, center):
    """Find sources on a stamp: their places (k, 2), the central one first.

    Parameters
    ----------
    stamp : Stamps
        The stamp, with arrays (n_bands, H, W).
    n_most : int
        The largest number of sources. The brightest neighbours are taken.
    center : ndarray of shape (2,)
        The central source is the one nearest to this place.

    Returns
    -------
    ndarray of shape (k, 2)
        x and y in pixels from the centre of the first pixel. Without any source found
        it is the given centre.
    """
    seen = _all_bands(stamp, stamp.images, stamp.variance)
    found = find_sources(*seen.pixels, seen.gain, center=center)
    positions = np.column_stack([found.x, found.y])
    if not len(positions):
        return center[None]
    brightest = 1 + np.argsort(-found.flux[1:], kind="stable")
    return positions[[0, *brightest[: n_most - 1]]]


def find_more(stamp, light, sky, known, n_most):
    """Find sources in the light that fitted sources leave: their places (k, 2).

    ``light`` (n_bands, H, W) is that of the sources at the ``known`` places, ``sky``
    (n_bands,) the fitted background.
    """
    residual = stamp.images - light - sky[:, None, None]
    seen = _all_bands(stamp, residual, stamp.variance)
    model = _all_bands(stamp, light, stamp.variance).pixels[0]
    found = find_in_residual(seen.pixels[0], model, *seen.pixels[1:], known, seen.gain)
    order = np.argsort(-found.flux, kind="stable")[: max(n_most - len(known), 0)]
    return np.column_stack([found.x, found.y])[order]


def find_others(stamp, light):
    """Return the light (n_bands, H, W) of sources besides the one with some light.

    They are drawn as Gaussians with the moments that they are seen with.
    """
    seen = _all_bands(stamp, stamp.images, stamp.variance)
    rows, columns = np.indices(light.shape[1:])
    weights = light.sum(axis=0).clip(min=0)
    weights = weights / max(weights.sum(), np.finfo(np.float64).tiny)
    center = (weights * columns).sum(), (weights * rows).sum()
    found = find_sources(*seen.pixels, seen.gain, center=center)
    others = np.zeros(light.shape[1:])
    for x, y, flux, xx, yy, xy in list(zip(*found, strict=True))[1:]:
        determinant = xx * yy - xy**2
        dx, dy = columns - x, rows - y
        squared = (dx**2 * yy + dy**2 * xx - 2 * dx * dy * xy) / determinant
        others += flux * np.exp(-squared / 2) / (2 * np.pi * np.sqrt(determinant))
    return np.broadcast_to(others, light.shape)


class _Seen(NamedTuple):
    """Image, variance, counts and PSF (H, W) of all bands together, and the gain."""

    pixels: tuple
    gain: float | None


def _all_bands(stamp, images, variance):
    """Return the mean of bands as they are `_Seen`, weighted by one over the variance.

    The noise of the light is that of a source with the same light in all bands.
    """
    weights = stamp.counts / variance
    total = weights.sum(axis=0)
    counts = total > 0
    total = np.where(counts, total, 1)
    image = (weights * np.where(stamp.counts, images, 0)).sum(axis=0) / total
    shares = weights.mean(axis=(1, 2))
    shares = shares / max(shares.sum(), np.finfo(np.float64).tiny)
    noise_of_light = (shares**2 * stamp.noise_of_light).sum()
    return _Seen(
        (image, 1 / total, counts, stamp.psf.mean(axis=0)),
        1 / noise_of_light if noise_of_light else None,
    )
