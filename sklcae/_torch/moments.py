"""First guesses of profiles from the moments of images."""

import math

import numpy as np
import torch

# Steps of the moments, and the width in pixels from which they start.
N_STEPS = 8
FIRST_SIGMA = 2.5
# The least width of an object in pixels, and the largest as a share of the stamp.
LEAST_SIGMA, LARGEST_SHARE = 0.6, 0.3
# The largest shift of a centre in a step, in pixels.
LARGEST_SHIFT = 2.0
# A Sersic index between disc and spheroid, for which these hold: half-light radius over
# the width of the moments, and flux over that of the Gaussian.
FIRST_INDEX = 1.3
RADIUS_OF_WIDTH = 1.4
FLUX_OF_GAUSSIAN = 1.2
# Images whose moments are measured at once.
FEW = 16
# Bounds of the guess: radius in pixels, and ellipticity.
LEAST_RADIUS = 0.3
LARGEST_ELLIPTICITY = 0.6


def guess_profiles(images, counts, psf):
    """Guess the parameters of a profile fit, (n, 8), from images (n, H, W).

    Moments are weighted by a Gaussian that follows the object [1]_, around the
    brightest place of the smoothed image. The background is the median of the border.
    The moments of the PSF are subtracted from those of the object.

    References
    ----------
    .. [1] G. M. Bernstein and M. Jarvis, "Shapes and Shears, Stars and Smears: Optimal
       Measurements for Weak Lensing", AJ 123, 583 (2002).
    """
    sky = _border_median(images, counts)
    light = (images - sky[:, None, None]) * counts
    center, second, flux = _adaptive_moments(light, _brightest(light))
    height, width = psf.shape[1:]
    middle = torch.tensor([width // 2, height // 2], dtype=psf.dtype, device=psf.device)
    _, blur, _ = _adaptive_moments(psf, middle.expand(len(psf), 2))
    xx, yy, xy = (second - blur).unbind(1)
    size = (xx + yy).clamp(min=2 * (LEAST_RADIUS / RADIUS_OF_WIDTH) ** 2)
    e = torch.stack([xx - yy, 2 * xy], dim=1) / size[:, None]
    too_large = e.norm(dim=1, keepdim=True) / LARGEST_ELLIPTICITY
    e = e / too_large.clamp(min=1)
    radius = RADIUS_OF_WIDTH * (size / 2).sqrt()
    index = torch.full_like(radius, FIRST_INDEX)
    logs = torch.stack([FLUX_OF_GAUSSIAN * flux, radius, index], dim=1).log()
    return torch.cat([logs, e, center, sky[:, None]], dim=1)


def guess_all(images, counts, psf):
    """Guess the parameters of images, arrays of NumPy, in float64."""
    arrays = [np.ascontiguousarray(a, dtype=np.float32) for a in (images, counts, psf)]
    guesses = []
    with torch.inference_mode():
        for start in range(0, len(images), FEW):
            few = (torch.from_numpy(a[start : start + FEW]) for a in arrays)
            guesses.append(guess_profiles(*few))
    return torch.cat(guesses).double().numpy()


def _border_median(images, counts):
    border = torch.ones_like(images[0], dtype=torch.bool)
    border[1:-1, 1:-1] = False
    pixels = torch.where(counts > 0, images, math.nan)
    # If the whole border is masked, the median of the stamp.
    outer = pixels[:, border].nanmedian(dim=1).values
    every = pixels.flatten(1).nanmedian(dim=1).values
    # If all pixels are masked, as in one of several bands, 0.
    return torch.where(outer.isnan(), every, outer).nan_to_num(nan=0.0)


def _brightest(light):
    """Return x and y of the brightest place of images smoothed by 5 x 5 pixels."""
    n_columns = light.shape[2]
    smooth = torch.nn.functional.avg_pool2d(light[:, None], 5, 1, 2)
    smooth = torch.nn.functional.avg_pool2d(smooth, 3, 1, 1)
    place = smooth.flatten(1).argmax(dim=1)
    return torch.stack([place % n_columns, place // n_columns], dim=1).to(light.dtype)


def _adaptive_moments(light, center):
    """Return centre (n, 2), second moments xx, yy, xy (n, 3) and flux (n,)."""
    height, width = light.shape[1:]
    x = torch.arange(width, dtype=light.dtype, device=light.device)
    y = torch.arange(height, dtype=light.dtype, device=light.device)
    second = light.new_tensor([1.0, 1.0, 0.0]).expand(len(light), 3) * FIRST_SIGMA**2
    largest = (LARGEST_SHARE * max(height, width)) ** 2
    flux = light.new_ones(len(light))
    for _ in range(N_STEPS):
        dx, dy = x - center[:, :1], y - center[:, 1:]
        weight = _gaussian(dx, dy, second)
        weighted = light * weight
        total = weighted.sum((1, 2))
        found = total > 0
        columns, rows = weighted.sum(1), weighted.sum(2)
        norm = total.clamp(min=1e-30)
        shift = torch.stack([(columns * dx).sum(1), (rows * dy).sum(1)], 1)
        shift = (2 * shift / norm[:, None]).clamp(-LARGEST_SHIFT, LARGEST_SHIFT)
        crossed = ((weighted * dx[:, None]).sum(2) * dy).sum(1)
        products = torch.stack(
            [(columns * dx**2).sum(1), (rows * dy**2).sum(1), crossed], 1
        )
        wider = _bounded(2 * products / norm[:, None], LEAST_SIGMA**2, largest)
        flux = torch.where(found, _flux_of(total, weight, second), flux)
        second = torch.where(found[:, None], wider, second)
        moved = center + shift
        limits = moved.new_tensor([width - 1, height - 1])
        moved = torch.minimum(moved.clamp(min=0), limits)
        center = torch.where(found[:, None], moved, center)
    return center, second, flux


def _gaussian(dx, dy, second):
    xx, yy, xy = second[:, :, None].unbind(1)
    determinant = xx * yy - xy**2
    along_x, along_y = dx**2 * yy / determinant, dy**2 * xx / determinant
    crossed = (dx * xy / determinant)[:, None] * dy[:, :, None]
    return (crossed - (along_x[:, None] + along_y[:, :, None]) / 2).exp()


def _flux_of(total, weight, second):
    xx, yy, xy = second.unbind(1)
    area = 2 * math.pi * (xx * yy - xy**2).sqrt()
    return total / (weight**2).sum((1, 2)) * area


def _bounded(second, least, largest):
    """Return moments whose widths along both axes are within bounds."""
    xx, yy, xy = second.unbind(1)
    mean, half = (xx + yy) / 2, (xx - yy) / 2
    spread = torch.hypot(half, xy).clamp(min=1e-30)
    high, low = (
        (mean + spread).clamp(least, largest),
        (mean - spread).clamp(least, largest),
    )
    mean, factor = (high + low) / 2, (high - low) / 2 / spread
    return torch.stack([mean + half * factor, mean - half * factor, xy * factor], 1)
