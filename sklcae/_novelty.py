"""How unusual an image is, compared with images of the training set."""

from functools import cached_property

import numpy as np
from scipy.ndimage import uniform_filter
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

# Largest number of images in a reference; their 64 latents take 256 kB.
MAX_IMAGES = 1000
# Neighbours to draw from.
N_NEIGHBORS = 10
# Side of the boxes in which residuals are summed.
BOX = 5
# Misfits and variances outside these bounds are rounding or overflow.
BOUNDS = (1e-6, 1e30)


def evenly_spaced(rows):
    """Return at most `MAX_IMAGES` of some rows, evenly spaced."""
    n_kept = min(len(rows), MAX_IMAGES)
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

    def draw_rest(self, z_phy, rng):
        """Return z_rest of images with near z_phy, (n, latent_dim - n_targets)."""
        n_neighbors = min(N_NEIGHBORS, len(self.latents))
        neighbors = NearestNeighbors(n_neighbors=n_neighbors)
        neighbors.fit(self.latents[:, : self.n_targets])
        near = neighbors.kneighbors(z_phy, return_distance=False)
        chosen = near[np.arange(len(near)), rng.randint(n_neighbors, size=len(near))]
        return self.latents[chosen, self.n_targets :]

    def score(self, latents, misfits, variances=None):
        """Return minus the Mahalanobis distances of images, (n,), float64."""
        scaler, covariance = self._distribution
        described = scaler.transform(_descriptors(latents, misfits, variances))
        if covariance is None:
            return -np.linalg.norm(described, axis=1)
        return -np.sqrt(covariance.mahalanobis(described))

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
