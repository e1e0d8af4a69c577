"""Round Gaussian galaxies, and an estimator that measures them exactly."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler

HEIGHT, WIDTH = 20, 24


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def gaussian(flux, sigma):
    x, y = np.arange(WIDTH) - WIDTH // 2, np.arange(HEIGHT) - HEIGHT // 2
    r2 = y[:, np.newaxis] ** 2 + x**2
    return flux * np.exp(-r2 / (2 * sigma**2)) / (2 * np.pi * sigma**2)


class GaussianModel(BaseEstimator):
    """The public methods of the autoencoder, for stamps of central Gaussians.

    The latents are the standardised flux and sigma, and one that changes no pixel. The
    standard deviations are a tenth of the predictions.
    """

    def fit(self, X, y):
        self.layout_ = np.shape(X)[1:]
        self.image_shape_ = (1, HEIGHT, WIDTH)
        self.n_targets_ = 2
        self.target_scaler_ = StandardScaler().fit(y)
        self.target_range_ = np.array([np.min(y, axis=0), np.max(y, axis=0)])
        return self

    def predict(self, X, return_std=False):
        y = self.measure(X)
        return (y, y / 10) if return_std else y

    def measure(self, X):
        images = np.reshape(X, (-1, HEIGHT, WIDTH))
        peak, neighbour = images[:, HEIGHT // 2, WIDTH // 2 : WIDTH // 2 + 2].T
        variance = 0.5 / np.log(peak / neighbour)
        return np.column_stack([2 * np.pi * variance * peak, np.sqrt(variance)])

    def transform(self, X):
        z_phy = self.target_scaler_.transform(self.measure(X))
        return np.column_stack([z_phy, np.full(len(X), 0.5)])

    def inverse_transform(self, Z):
        y = self.target_scaler_.inverse_transform(Z[:, :2])
        images = np.array([gaussian(*row) for row in y])
        return images.reshape(len(Z), *self.layout_)

    def reconstruct(self, X):
        return self.inverse_transform(self.transform(X))

    def get_feature_names_out(self):
        return np.array(["flux", "sigma", "z_rest0"], dtype=object)


@pytest.fixture
def galaxies():
    """Stamps (n, height, width) and their flux and sigma."""
    y = np.random.default_rng(0).uniform([100, 1.5], [900, 2.5], size=(12, 2))
    return np.array([gaussian(*row) for row in y]), y


@pytest.fixture
def model(galaxies):
    return GaussianModel().fit(*galaxies)
