"""What is kept of the training set: to draw from, and to compare images with."""

import numpy as np
from sklearn.neighbors import NearestNeighbors

__all__ = ["MAX_IMAGES", "Reference", "evenly_spaced"]

# Images that are kept at most, of 64 latents 256 kB.
MAX_IMAGES = 1000
# Neighbours to draw from, and the one whose distance is looked at.
N_NEIGHBORS = 10


def evenly_spaced(rows):
    """Return at most `MAX_IMAGES` of some rows, evenly spaced."""
    return rows[:: -(-len(rows) // MAX_IMAGES)]


class Reference:
    """Latents of images of the training set, and the misfits of their reconstructions.

    Parameters
    ----------
    latents : ndarray of shape (m, latent_dim)
        z_phy and z_rest.
    misfits : ndarray of shape (m,)
        Mean of the squared differences of image and reconstruction, over the variance
        of the noise.
    n_targets : int
        Size of z_phy.
    """

    def __init__(self, latents, misfits, n_targets):
        self.latents, self.misfits, self.n_targets = latents, misfits, n_targets

    def draw_rest(self, z_phy, rng):
        """Return z_rest of images whose z_phy is near, (n, latent_dim - n_targets)."""
        neighbors = self._fit_neighbors(self.latents[:, : self.n_targets])
        near = neighbors.kneighbors(z_phy, return_distance=False)
        chosen = near[np.arange(len(near)), rng.randint(near.shape[1], size=len(near))]
        return self.latents[chosen, self.n_targets :]

    def score(self, latents, misfits):
        """Return minus the distance to the tenth nearest image, (n,), float64."""
        own = self._describe(self.latents, self.misfits)
        scale = own.std(axis=0)
        scale[scale == 0] = 1.0
        distances, _ = self._fit_neighbors(own / scale).kneighbors(
            self._describe(latents, misfits) / scale
        )
        return -distances[:, -1]

    def _fit_neighbors(self, points):
        n_neighbors = min(N_NEIGHBORS, len(points))
        return NearestNeighbors(n_neighbors=n_neighbors).fit(points)

    @staticmethod
    def _describe(latents, misfits):
        # Misfits range over orders of magnitude.
        return np.column_stack([latents, np.log(misfits + 1e-6)]).astype(np.float64)
