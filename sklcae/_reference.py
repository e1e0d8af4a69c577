"""What is kept of the training set: to draw from, and to compare images with."""

import numpy as np
from scipy.ndimage import uniform_filter
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

__all__ = ["MAX_IMAGES", "Reference", "evenly_spaced", "misfits_of"]

# Images that are kept at most, of 64 latents 256 kB.
MAX_IMAGES = 1000
# Neighbours to draw from.
N_NEIGHBORS = 10
# Side of the boxes in which residuals of the same sign add up.
BOX = 5
# Bounds of misfits and variances, beyond which there is only rounding or overflow.
BOUNDS = (1e-6, 1e30)


def evenly_spaced(rows):
    """Return at most `MAX_IMAGES` of some rows, evenly spaced."""
    n_kept = min(len(rows), MAX_IMAGES)
    return rows[np.linspace(0, len(rows) - 1, n_kept).astype(int)]


def misfits_of(residuals):
    """Return the misfits of reconstructions, (n, 2), float32.

    Parameters
    ----------
    residuals : ndarray of shape (n, C, H, W)
        Image minus reconstruction over the standard deviation of the noise, NaN where
        a pixel is masked.

    Returns
    -------
    ndarray of shape (n, 2)
        The mean square of the residuals, and of their sums in boxes over the root of
        the number of pixels that a box has, at edges and masks fewer. Of white noise
        both are 1. The second is larger where what is missed is larger than a pixel,
        such as another galaxy.
    """
    seen = ~np.isnan(residuals)
    residuals = np.where(seen, residuals, 0).astype(np.float64)
    # A box around a pixel that is seen has that one at least.
    n_in_box = np.where(seen, _box_sums(seen.astype(np.float64)).round(), 1)
    in_boxes = np.where(seen, _box_sums(residuals), 0) / np.sqrt(n_in_box)
    n_pixels = np.maximum(seen.sum(axis=(1, 2, 3)), 1)
    squares = [(part**2).sum(axis=(1, 2, 3)) for part in (residuals, in_boxes)]
    misfits = np.column_stack(squares) / n_pixels[:, None]
    return misfits.clip(*BOUNDS).astype(np.float32)


def _box_sums(values):
    return BOX**2 * uniform_filter(values, BOX, mode="constant", axes=(2, 3))


class Reference:
    """Images of the training set, by what the network makes of them.

    Parameters
    ----------
    n_targets : int
        Size of z_phy.
    latents : ndarray of shape (m, latent_dim)
        z_phy and z_rest.
    misfits : ndarray of shape (m, 2)
        What `misfits_of` returns.
    variances : ndarray of shape (m, n_targets) or None
        Predicted variances of z_phy, where the network predicts them.
    """

    def __init__(self, n_targets, latents, misfits, variances=None):
        self.n_targets = n_targets
        self.latents, self.misfits, self.variances = latents, misfits, variances

    def draw_rest(self, z_phy, rng):
        """Return z_rest of images whose z_phy is near, (n, latent_dim - n_targets)."""
        n_neighbors = min(N_NEIGHBORS, len(self.latents))
        neighbors = NearestNeighbors(n_neighbors=n_neighbors)
        neighbors.fit(self.latents[:, : self.n_targets])
        near = neighbors.kneighbors(z_phy, return_distance=False)
        chosen = near[np.arange(len(near)), rng.randint(n_neighbors, size=len(near))]
        return self.latents[chosen, self.n_targets :]

    def score(self, latents, misfits, variances=None):
        """Return minus the Mahalanobis distances of images, (n,), float64."""
        own = _describe(self.latents, self.misfits, self.variances)
        # Whatever scikit-learn's global setting of the output is.
        scaler = StandardScaler().set_output(transform="default").fit(own)
        described = scaler.transform(_describe(latents, misfits, variances))
        if len(own) == 1:
            # One image has no covariance.
            return -np.linalg.norm(described, axis=1)
        covariance = LedoitWolf(assume_centered=True).fit(scaler.transform(own))
        return -np.sqrt(covariance.mahalanobis(described))


def _describe(latents, misfits, variances):
    # Misfits and variances range over orders of magnitude.
    positive = [misfits] if variances is None else [misfits, variances]
    logarithms = [np.log(values.clip(*BOUNDS), dtype=np.float64) for values in positive]
    return np.hstack([latents, *logarithms])
