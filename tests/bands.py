"""Quick stamps of galaxies in several bands, for the tests."""

import numpy as np
import pandas as pd
import torch

from sklcae import stack_planes
from sklcae._fixed_psf import gaussian_psf
from sklcae._profiles import ProfileParameters
from sklcae._torch.sersic import psf_waves, render, transform_size

BANDS = "gri"
FLUXES = [f"flux_{band}" for band in BANDS]
NAMES = [*FLUXES, "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
PARAMETERS = ProfileParameters.of_targets(NAMES, len(BANDS))
SHAPE, SCALE = (24, 24), 0.2
# Of each band: FWHM in pixels, variance of the sky, and electrons for a unit of light.
FWHM = (4.0, 3.5, 3.0)
VARIANCE = (9.0, 16.0, 36.0)
GAIN = (1.0, 2.0, 4.0)
PSFS = np.concatenate([gaussian_psf(fwhm, (1, *SHAPE))[0] for fwhm in FWHM])


def draw_truth(n, random_state=0, flux=(2e3, 5e4), shape=SHAPE):
    """Draw parameters, a DataFrame; colours are uniform between 0 and 1 mag."""
    rng = np.random.default_rng(random_state)
    logs = rng.uniform(*np.log([[flux[0], 0.4, 0.6], [flux[1], 0.7, 2.0]]), (n, 3))
    colors = rng.uniform(0, 1, (n, len(BANDS) - 1))
    magnitudes = np.column_stack([np.zeros(n), -colors.cumsum(axis=1)])
    fluxes = np.exp(logs[:, :1]) * 10 ** (-0.4 * magnitudes)
    e, angle = rng.uniform(0, 0.5, n), rng.uniform(0, 2 * np.pi, n)
    center = np.array(shape[::-1]) / 2 + rng.uniform(-2, 2, (n, 2))
    shapes = np.column_stack([e * np.cos(angle), e * np.sin(angle)])
    truth = np.column_stack([fluxes, np.exp(logs[:, 1:]), shapes, center])
    return pd.DataFrame(truth, columns=NAMES)


def images_of(truth, psfs=PSFS):
    """Render images (n, n_bands, H, W) without noise through PSFs (n_bands, H, W)."""
    parameters = ProfileParameters.of_targets(list(truth), len(psfs))
    values = parameters.rendered(truth.to_numpy(), list(truth), SCALE)
    waves = psf_waves(torch.tensor(psfs), transform_size(psfs.shape[1:]))
    images = [
        render(
            torch.tensor(values[:, list(columns)]),
            wave.expand(len(values), -1, -1),
            psfs.shape[1:],
        )
        for columns, wave in zip(parameters.columns, waves, strict=True)
    ]
    return torch.stack(images, dim=1).numpy()


def make_stamps(n, random_state=0, **options):
    """Return stamps with variances and PSFs, and their parameters."""
    truth = draw_truth(n, random_state, **options)
    images = images_of(truth)
    variance, gain = (np.reshape(part, (-1, 1, 1)) for part in (VARIANCE, GAIN))
    noise = np.random.default_rng([random_state, 1]).normal(size=images.shape)
    images = images + noise * np.sqrt(variance + images.clip(0) / gain)
    variance = np.broadcast_to(variance, images.shape)
    return stack_planes(images, variance, np.tile(PSFS, (n, 1, 1, 1))), truth
