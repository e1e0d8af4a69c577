"""How unusual an image is, compared with images of the training set."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from sklcae._fixed_psf import effective_fwhm

# Largest number of images in a reference; their 64 latents take 256 kB.
MAX_IMAGES = 1000
# Neighbours to draw from.
N_NEIGHBORS = 10
# Side of the boxes in which residuals are summed.
BOX = 5
# Misfits and variances outside these bounds are rounding or overflow.
BOUNDS = (1e-6, 1e30)

# Numbers of `image_statistics` and of all `stamp_statistics`.
N_STATISTICS = 5
# Room beyond the statistics of the training set: half of the range and three standard
# deviations of the noise for the smallest pixel, a factor of 2 for positive statistics,
# half of the masked share, but a hundredth of the image at least, and a factor for the
# noise and for the width of the PSF.
ROOM_IN_NOISE = 3.0
ROOM_FACTOR = 2.0
LEAST_MASKED_SHARE = 0.01
ROOM_OF_PLANES = {"variance": 1.5, "psf": 1.15}
# Stands for an excess that overflows.
LARGEST_EXCESS = 1e6
# Room beyond the targets of the training set, as a share of their range.
ROOM_OF_TARGETS = 0.01


def evenly_spaced(rows, most=MAX_IMAGES):
    """Return at most so many of some rows, evenly spaced."""
    n_kept = min(len(rows), most)
    return rows[np.linspace(0, len(rows) - 1, n_kept).astype(int)]


def misfits_of(residuals):
    """Return two misfits of each reconstruction, (n, 2), float32.

    Residuals (n, C, H, W) are image minus reconstruction over the standard deviation of
    the noise, NaN where a pixel is masked. The misfits are the mean square of the
    residuals, and the mean square of their sums in boxes over the root of the number of
    pixels in the box, which is smaller at edges and masks. Both are 1 for white noise.
    The second exceeds 1 when residuals are correlated across pixels, for example where
    another galaxy is.
    """
    seen = ~np.isnan(residuals)
    residuals = np.where(seen, residuals, 0).astype(np.float64)
    # The box around a pixel that counts has at least that pixel.
    n_in_box = np.where(seen, _box_sums(seen.astype(np.float64)).round(), 1)
    in_boxes = np.where(seen, _box_sums(residuals), 0) / np.sqrt(n_in_box)
    n_pixels = np.maximum(seen.sum(axis=(1, 2, 3)), 1)
    squares = [(part**2).sum(axis=(1, 2, 3)) for part in (residuals, in_boxes)]
    misfits = np.column_stack(squares) / n_pixels[:, None]
    return misfits.clip(*BOUNDS).astype(np.float32)


def _box_sums(values):
    return BOX**2 * uniform_filter(values, BOX, mode="constant", axes=(2, 3))


def image_statistics(images, mask):
    """Return five statistics of each image and channel, (n, 5, C), float64.

    Images (n, C, H, W) are filled where the mask is False; a mask of None is True
    everywhere. The statistics are the smallest pixel, and logarithms of the largest
    pixel above it, of the mean difference of neighbours along a row (the noise, in
    images that are mostly sky), and of the largest difference of a pixel from the mean
    of its two neighbours (large for a cosmic ray or a hot pixel); and the masked share.
    """
    with np.errstate(all="ignore"):
        least = images.min(axis=(2, 3))
        along_rows = np.diff(images, axis=3)
        positive = [
            images.max(axis=(2, 3)) - least,
            _mean_size(along_rows),
            np.maximum(
                _largest_size(np.diff(along_rows, axis=3)),
                _largest_size(np.diff(images, n=2, axis=2)),
            ),
        ]
    masked = np.zeros(least.shape) if mask is None else 1 - mask.mean(axis=(2, 3))
    tiny = np.finfo(np.float32).tiny
    logarithms = [np.log(part.clip(min=tiny), dtype=np.float64) for part in positive]
    return np.stack([least, *logarithms, masked], axis=1, dtype=np.float64)


def _mean_size(differences):
    if differences.size == 0:
        return np.zeros(differences.shape[:2])
    return np.abs(differences).mean(axis=(2, 3), dtype=np.float64)


def _largest_size(differences):
    return np.abs(differences).max(axis=(2, 3), initial=0)


def stamp_statistics(images, mask, variance=None, psf=None):
    """Return statistics of each stamp and band, (n, 5 to 7, n_bands), float64.

    They are the `image_statistics`, and the logarithms of the noise and of the width of
    the PSF where there are planes (n, n_bands, H, W).
    """
    parts = [image_statistics(images, mask)]
    with np.errstate(all="ignore"):
        if variance is not None:
            middle = np.median(variance.reshape(*variance.shape[:2], -1), axis=2)
            parts.append(np.log(middle, dtype=np.float64)[:, None] / 2)
        if psf is not None:
            parts.append(np.log(effective_fwhm(psf))[:, None])
    return np.concatenate(parts, axis=1)


def planes_with_range(planes):
    """Return the planes that have a row in `stamp_statistics`, in their order."""
    return [kind for kind in planes if kind in ROOM_OF_PLANES]


def rows_of_statistics(planes):
    """Return the `stamp_statistics` in the unit of the images, and their logarithms.

    The planes are the names of the kinds of planes that the stamps have.
    """
    logarithms = [1, 2, 3]
    if "variance" in planes:
        logarithms.append(N_STATISTICS)
    return [0], logarithms


class TrainingRange(NamedTuple):
    """The range of the stamps and targets of the training set.

    ``lowest`` and ``highest`` (n, n_bands) are bounds of `stamp_statistics`, with some
    room. ``targets`` (2, n_targets) are the smallest and the largest of each target.
    """

    lowest: np.ndarray
    highest: np.ndarray
    targets: np.ndarray

    @classmethod
    def of_training(cls, statistics, noise, y, planes):
        """Make the range from `stamp_statistics`, noise (C, 1, 1), targets and planes.

        The planes are the names of the kinds of planes that the stamps have.
        """
        low, high = statistics.min(axis=0), statistics.max(axis=0)
        room = np.full_like(low, np.log(ROOM_FACTOR))
        room[0] = (high[0] - low[0]) / 2 + ROOM_IN_NOISE * noise.ravel()
        masked = N_STATISTICS - 1
        room[masked] = np.maximum(high[masked] / 2, LEAST_MASKED_SHARE)
        for row, kind in enumerate(planes_with_range(planes), N_STATISTICS):
            room[row] = np.log(ROOM_OF_PLANES[kind])
        targets = np.stack([np.nanmin(y, axis=0), np.nanmax(y, axis=0)])
        return cls(low - room, high + room, targets)

    def union(self, other):
        """Return the range of both training sets."""
        return TrainingRange(
            np.minimum(self.lowest, other.lowest),
            np.maximum(self.highest, other.highest),
            np.stack(
                [
                    np.minimum(self.targets[0], other.targets[0]),
                    np.maximum(self.targets[1], other.targets[1]),
                ]
            ),
        )

    def of_plane(self, kind, planes):
        """Return the smallest and the largest of a plane, (2, n_bands).

        They are the logarithms of the noise, in the unit of the images, for "variance",
        and of the width in pixels for "psf", without the room.
        """
        row = N_STATISTICS + planes_with_range(planes).index(kind)
        room = np.log(ROOM_OF_PLANES[kind])
        # By rounding, the ends of a plane that is constant may change places.
        return np.sort([self.lowest[row] + room, self.highest[row] - room], axis=0)

    def excess(self, statistics):
        """Return how far images are outside, in units of the range; 0 inside, (n,)."""
        with np.errstate(all="ignore"):
            below, above = self.lowest - statistics, statistics - self.highest
            excess = np.maximum(below, above) / (self.highest - self.lowest)
        excess = np.nan_to_num(excess, nan=LARGEST_EXCESS)
        return excess.clip(0, LARGEST_EXCESS).max(axis=(1, 2))

    def targets_outside(self, y):
        """Return True where a target is well outside the range, (n, n_targets)."""
        low, high = self.targets
        room = ROOM_OF_TARGETS * (high - low)
        return (y < low - room) | (y > high + room)


class Reference:
    """Descriptions of m images of the training set.

    They have latents (m, latent_dim), misfits (m, 2) from `misfits_of` and, if the
    network predicts them, variances of z_phy (m, n_targets).
    """

    def __init__(self, n_targets, latents, misfits, variances=None):
        self.n_targets = n_targets
        self.latents, self.misfits, self.variances = latents, misfits, variances

    def to_state(self):
        """Return the arrays as a dict."""
        arrays = {name: getattr(self, name) for name in ("latents", "misfits")}
        if self.variances is None:
            return arrays
        return arrays | {"variances": self.variances}

    def joined(self, other):
        """Return a reference with images of both, at most `MAX_IMAGES`."""
        n_own = min(len(self), max(MAX_IMAGES // 2, MAX_IMAGES - len(other)))
        n_others = min(len(other), MAX_IMAGES - n_own)
        own, others = (
            {name: evenly_spaced(values, n) for name, values in part.to_state().items()}
            for part, n in ((self, n_own), (other, n_others))
        )
        parts = {name: np.concatenate([own[name], others[name]]) for name in own}
        return Reference(self.n_targets, **parts)

    def __len__(self):
        return len(self.latents)

    def draw_rest(self, z_phy, rng):
        """Return z_rest of images with near z_phy, (n, latent_dim - n_targets)."""
        n_neighbors = min(N_NEIGHBORS, len(self.latents))
        neighbors = NearestNeighbors(n_neighbors=n_neighbors)
        neighbors.fit(self.latents[:, : self.n_targets])
        near = neighbors.kneighbors(z_phy, return_distance=False)
        chosen = near[np.arange(len(near)), rng.randint(n_neighbors, size=len(near))]
        return self.latents[chosen, self.n_targets :]

    def score(self, excess, latents, misfits, variances=None):
        """Return minus the Mahalanobis distances of images, (n,), float64.

        Images with an excess over the `TrainingRange` are further away than all images
        of the reference.
        """
        distances = self._distances(latents, misfits, variances)
        largest = self._distances(self.latents, self.misfits, self.variances).max()
        outside = np.fmax(distances, largest) + excess
        return -np.where(excess > 0, outside, distances)

    def _distances(self, latents, misfits, variances):
        scaler, covariance = self._distribution
        described = _descriptors(latents, misfits, variances)
        # A network may overflow for an image with an absurd pixel.
        finite = np.isfinite(described).all(axis=1)
        described = scaler.transform(np.where(finite[:, None], described, 0))
        if covariance is None:
            distances = np.linalg.norm(described, axis=1)
        else:
            distances = np.sqrt(covariance.mahalanobis(described))
        return np.where(finite, distances, np.inf)

    @cached_property
    def _distribution(self):
        """The scaler of the descriptions, and their covariance, None for one image."""
        own = _descriptors(self.latents, self.misfits, self.variances)
        # Independent of scikit-learn's global setting of the output.
        scaler = StandardScaler().set_output(transform="default").fit(own)
        if len(own) == 1:
            return scaler, None
        return scaler, LedoitWolf(assume_centered=True).fit(scaler.transform(own))


def _descriptors(latents, misfits, variances):
    # Misfits and variances range over orders of magnitude.
    positive = [misfits] if variances is None else [misfits, variances]
    logarithms = [np.log(values.clip(*BOUNDS), dtype=np.float64) for values in positive]
    return np.hstack([latents, *logarithms])
