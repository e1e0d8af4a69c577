"""Quick stamps of Sersic profiles with known parameters, for the tests of the fits."""

import numpy as np
import torch

from sklcae._fixed_psf import gaussian_psf
from sklcae._profiles import PARAMETERS, to_rendered
from sklcae._torch.profile_fit import Stamps
from sklcae._torch.sersic import psf_waves, render, transform_size

NAMES = list(PARAMETERS)
SHAPE = (32, 32)
FWHM = 3.0
NOISE = 3.7


def draw_truth(n, random_state=0, shape=SHAPE, flux=(2_000.0, 20_000.0)):
    """Draw parameters (n, 7) in the order of NAMES; radii are in pixels."""
    rng = np.random.default_rng(random_state)
    logs = rng.uniform(np.log([flux[0], 2.0, 0.7]), np.log([flux[1], 4.5, 3.0]), (n, 3))
    e, angle = rng.uniform(0, 0.5, n), rng.uniform(0, 2 * np.pi, n)
    shift = rng.uniform(-2, 2, (n, 2))
    center = np.array(shape[::-1]) / 2 + shift
    return np.column_stack([np.exp(logs), e * np.cos(angle), e * np.sin(angle), center])


def rendered(truth):
    """Return parameters (n, 8) as the fit has them, with a background of 0."""
    columns = [
        to_rendered(name, values, 1.0)
        for name, values in zip(NAMES, truth.T, strict=True)
    ]
    return np.column_stack([*columns, np.zeros(len(truth))])


def images_of(truth, shape=SHAPE, psf=None):
    """Render images without noise, (n, H, W), in float64."""
    psf = gaussian_psf(FWHM, (1, *shape))[:, 0] if psf is None else psf
    waves = psf_waves(torch.tensor(np.array(psf)), transform_size(shape))
    parameters = torch.tensor(rendered(truth)[:, :7])
    return render(parameters, waves.expand(len(truth), -1, -1), shape).numpy()


def with_noise(images, random_state=0, gain=1.0):
    """Add the noise of the sky and of the light."""
    rng = np.random.default_rng(random_state)
    return images + rng.normal(size=images.shape) * np.sqrt(
        NOISE**2 + images.clip(0) / gain
    )


def make_stamps(n, random_state=0, shape=SHAPE, **kwargs):
    """Return images (n, H, W) with noise, and their parameters (n, 7)."""
    truth = draw_truth(n, random_state, shape, **kwargs)
    return with_noise(images_of(truth, shape), random_state), truth


def to_stamps(images, **kwargs):
    """Return `Stamps` of images with the noise and the PSF of `make_stamps`."""
    n, *shape = images.shape
    psf = gaussian_psf(FWHM, (1, *shape))[:, 0]
    return Stamps(
        **{
            "images": images,
            "variance": np.full(images.shape, NOISE**2),
            "counts": np.ones(images.shape),
            "psf": np.broadcast_to(psf, images.shape),
            "noise_of_light": np.ones(n),
            **kwargs,
        }
    )
