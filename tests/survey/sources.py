"""A small model and small sources of stamps, for the tests of catalogues."""

import numpy as np
import zarr

from sklcae import ConditionalAutoencoderRegressor

SIDE = 16
NAMES = ["flux", "half_light_radius"]


def make_stamps(n, seed=0):
    """Return stamps (n, SIDE, SIDE) of blobs, and their two parameters."""
    rng = np.random.default_rng(seed)
    y = rng.uniform([50, 1], [500, 3], size=(n, 2))
    grid = np.arange(SIDE) - SIDE / 2
    square = grid[:, None] ** 2 + grid**2
    blobs = np.exp(-square / (2 * y[:, 1, None, None] ** 2))
    images = y[:, :1, None] * blobs / (2 * np.pi * y[:, 1, None, None] ** 2)
    images += rng.normal(0, 0.1, images.shape)
    return images.astype(np.float32), y


def save_model(path, **settings):
    """Train a small network, and save it."""
    X, y = make_stamps(64)
    model = ConditionalAutoencoderRegressor(
        max_epochs=1,
        batch_size=32,
        latent_dim=4,
        physical_loss="gaussian_likelihood",
        target_names=NAMES,
        allow_nan=True,
        random_state=0,
        **settings,
    )
    model.fit(X, y).save(path)


def write_zarr(path, images, chunk=8, **arrays):
    """Write stamps and other arrays to a Zarr store."""
    group = zarr.open_group(path, mode="w")
    for name, values in {"image": images, **arrays}.items():
        chunks = (chunk, *values.shape[1:])
        array = group.create_array(
            name, shape=values.shape, chunks=chunks, dtype=values.dtype
        )
        array[:] = values
    return path
