"""Quick stamps of Sersic profiles with known parameters, for the tests of the fits."""

import numpy as np
import torch

from sklcae._fixed_psf import gaussian_psf
from sklcae._profile_fitter import make_limits
from sklcae._profiles import ONE_BAND, PARAMETERS
from sklcae._torch.profile_fit import Limits, Stamps
from sklcae._torch.scenes import Scene
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
    return np.column_stack([ONE_BAND.rendered(truth, NAMES, 1.0), np.zeros(len(truth))])


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
    """Return `Stamps` of one band of images (n, H, W), with the noise and the PSF.

    They are those of `make_stamps`; other arrays (n, H, W) may be given.
    """
    n, *shape = images.shape
    arrays = {
        "images": images,
        "variance": np.full(images.shape, NOISE**2),
        "counts": np.ones(images.shape),
        "psf": np.broadcast_to(gaussian_psf(FWHM, (1, *shape))[:, 0], images.shape),
        "noise_of_light": np.ones(n),
        **kwargs,
    }
    return Stamps(**{name: array[:, None] for name, array in arrays.items()})


ONE_SOURCE = Scene.of_sources(ONE_BAND.columns, 1)


def limits_of(bounds, n, fit_sky=True, shape=SHAPE):
    """Return the `Limits` of n stamps with one source, for bounds by name."""
    low, high, most_elliptical = make_limits(ONE_BAND, bounds, (1, *shape), 1.0)
    sky_sigma = np.inf if fit_sky is True else float(fit_sky)
    farthest = np.inf if fit_sky else 0
    return Limits(
        np.tile(np.append(low, -farthest), (n, 1)),
        np.tile(np.append(high, farthest), (n, 1)),
        most_elliptical,
        np.zeros((n, 8)),
        np.append(np.full(7, np.inf), sky_sigma),
    )
