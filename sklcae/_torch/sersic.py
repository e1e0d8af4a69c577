"""Sersic profiles through any PSF: images, and their derivatives.

The Fourier transform of a round Sersic profile is interpolated in a table, stretched to
the ellipse, multiplied by the transform of the PSF and transformed back. A discrete
transform repeats the galaxy; the light of the copies in the stamp is subtracted.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.fft import fht, fhtoffset, next_fast_len
from scipy.interpolate import CubicSpline
from scipy.special import gammaincinv, gammaln

# The parameters of a profile as `render` takes them: natural logarithms of flux, radius
# in pixels and index, ellipticity, and the centre in pixels from that of the first one.
N_PARAMETERS = 7
LOG_FLUX, LOG_RADIUS, LOG_INDEX, E1, E2, X, Y = range(N_PARAMETERS)

# Limits of the Sersic index, those of GalSim, and the number of indices in the table.
INDEX_LIMITS = (0.3, 6.2)
N_INDICES = 97
# Limits of the frequency times the radius in the table. Below the first the transform
# of the profile is 1 to six digits.
FREQUENCY_LIMITS = (1e-4, 3e3)
# The fast Hankel transform has this many points, from exp(-18) to exp(18) radii. The
# table has every second of them.
N_RADII, LOG_RANGE, EVERY = 8192, 36.0, 2

# Copies of the galaxy up to 3 away along x and y are added up one by one, at these many
# nodes along x and y, from which the stamp is interpolated.
RINGS = 3
N_NODES = 8
# Step of the logarithm of the index for the derivative of the light beyond.
INDEX_STEP = 0.01


class Table(NamedTuple):
    """Hankel transforms of Sersic profiles of flux 1 and half-light radius 1.

    ``values`` (n_indices, 3, n_frequencies) are the transform and its first and second
    derivative with respect to the logarithm of the frequency. Both axes are spaced
    evenly in the logarithm. ``shape`` (n_indices, 2) has the logarithms of b and of
    the central brightness b^(2n) / (2 pi n Gamma(2n)), where the profile is
    proportional to exp(-b r^(1/n)).
    """

    values: torch.Tensor
    shape: torch.Tensor
    first_index: float
    index_step: float
    first_frequency: float
    frequency_step: float


@lru_cache(maxsize=8)
def _table(dtype, device):
    """Make the table, by the fast Hankel transform of SciPy."""
    low, high = np.log(INDEX_LIMITS)
    step = (high - low) / (N_INDICES - 3)
    # One node more on each side, for the interpolation at the limits.
    indices = np.exp(low + step * (np.arange(N_INDICES) - 1))
    rows = [_transform(index) for index in indices]
    frequencies = rows[0][0]
    values = torch.tensor(np.stack([row[1] for row in rows]))
    shape = torch.tensor(np.array([_shape(index) for index in indices]))
    return Table(
        values.to(device, dtype).contiguous(),
        shape.to(device, dtype),
        float(low - step),
        float(step),
        float(frequencies[0]),
        float(frequencies[1] - frequencies[0]),
    )


def _shape(index):
    b = gammaincinv(2 * index, 0.5)
    peak = 2 * index * np.log(b) - np.log(2 * np.pi * index) - gammaln(2 * index)
    return np.log(b), peak


def _transform(index):
    """Return log frequencies, and the transform with two derivatives, (3, n)."""
    log_b, log_peak = _shape(index)
    step = LOG_RANGE / N_RADII
    radii = (np.arange(N_RADII) - (N_RADII - 1) / 2) * step
    offset = fhtoffset(step, 0)
    profile = np.exp(log_peak + radii - np.exp(log_b + radii / index))
    frequencies = radii + offset
    transform = 2 * np.pi * fht(profile, step, 0, offset) / np.exp(frequencies)
    low, high = np.log(FREQUENCY_LIMITS)
    used = (frequencies > low) & (frequencies < high)
    # A spline over the used part alone: outside of it rounding errors dominate.
    spline = CubicSpline(frequencies[used], transform[used])
    nodes = frequencies[used][::EVERY]
    slope = CubicSpline(frequencies[used], spline(frequencies[used], 1))
    return nodes, np.stack([spline(nodes), slope(nodes), slope(nodes, 1)])


def transform_size(image_shape):
    """Return the side of the Fourier transform for stamps (..., H, W)."""
    return 2 * next_fast_len(max(image_shape[-2:]), real=True)


def psf_waves(psf, size):
    """Return the Fourier transform of PSFs (n, H, W), for `render`.

    The centre of a PSF is pixel (H // 2, W // 2). The waves, (n, size / 2, size), have
    kx along the first axis, from 0, and ky along the second. The frequency of Nyquist
    is left out.
    """
    height, width = psf.shape[1:]
    padded = psf.new_zeros(len(psf), size, size)
    padded[:, :height, :width] = psf
    padded = padded.roll((-(height // 2), -(width // 2)), (1, 2))
    waves = torch.fft.rfft2(padded).transpose(1, 2)[:, :-1].contiguous()
    waves[:, :, size // 2] = 0
    return waves


class WaveNumbers(NamedTuple):
    """kx (m, 1) and ky (1, 2m) in radians a pixel, and kx^2 - ky^2 and 2 kx ky."""

    x: torch.Tensor
    y: torch.Tensor
    difference: torch.Tensor
    product: torch.Tensor


@lru_cache(maxsize=8)
def wave_numbers(size, dtype, device):
    """Return the `WaveNumbers` of a transform of that size, without Nyquist's."""
    y = 2 * math.pi * torch.fft.fftfreq(size, dtype=torch.float64)
    x, y = y[: size // 2, None], y[None]
    parts = x, y, x**2 - y**2, 2 * x * y
    return WaveNumbers(*(part.to(device, dtype) for part in parts))


def render(parameters, waves, image_shape):
    """Return the images (n, H, W) of Sersic profiles through PSFs.

    Parameters (n, 7) are described at the top of this module; they must be within
    their limits. Waves come from `psf_waves`.
    """
    return _render(parameters, waves, image_shape, jacobian=False)[:, 0]


def render_with_jacobian(parameters, waves, image_shape):
    """Return images and their derivatives in one array (n, 7, H, W).

    The first is the image, which is its own derivative with respect to the logarithm
    of the flux. The others are the derivatives with respect to the other parameters.
    """
    return _render(parameters, waves, image_shape, jacobian=True)


class RenderFunction(torch.autograd.Function):
    """`render` for autograd. There is no gradient of the waves."""

    @staticmethod
    def forward(ctx, parameters, waves, image_shape):
        """Return images (n, H, W), and keep their derivatives."""
        images = render_with_jacobian(parameters, waves, image_shape)
        ctx.save_for_backward(images)
        return images[:, 0].clone()

    @staticmethod
    def backward(ctx, gradient):
        """Return the gradient of the parameters."""
        (images,) = ctx.saved_tensors
        return torch.einsum("nphw,nhw->np", images, gradient), None, None


def _render(parameters, waves, image_shape, jacobian):
    profile = _Profile.of(parameters)
    k = wave_numbers(waves.shape[2], parameters.dtype, parameters.device)
    planes = _transformed(profile, waves, k, jacobian)
    images = to_images(planes, profile, k, image_shape)
    images -= _folded(profile, waves.shape[2], image_shape, jacobian)
    return images * profile.flux[..., None]


class _Profile(NamedTuple):
    """Profiles of flux 1: parameters (n, 1, 1), and their rows of the table.

    ``rows`` (n, 2, 3, n_frequencies) and ``shape`` (n, 2, 2) hold the values for the
    index, and the derivatives with respect to its logarithm.
    """

    flux: torch.Tensor
    log_radius: torch.Tensor
    sersic_index: torch.Tensor
    e1: torch.Tensor
    e2: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor
    table: Table
    rows: torch.Tensor
    shape: torch.Tensor

    @classmethod
    def of(cls, parameters):
        """Look up the profiles of some parameters."""
        log_flux, log_radius, log_index, *others = parameters[:, :, None, None].unbind(
            1
        )
        table = _table(parameters.dtype, parameters.device)
        place = (parameters[:, LOG_INDEX] - table.first_index) / table.index_step
        first = place.floor().clamp(1, N_INDICES - 3)
        weights = _cubic_weights(place - first, table.index_step)
        nodes = first.long()[:, None] + torch.arange(-1, 3, device=first.device)
        rows = weights @ table.values[nodes].flatten(2)
        return cls(
            log_flux.exp(),
            log_radius,
            log_index.exp(),
            *others,
            table,
            rows.unflatten(2, table.values.shape[1:]),
            weights @ table.shape[nodes],
        )

    @property
    def determinant(self):
        """1 - e^2, the squared factor that gives the ellipse the area of the circle."""
        return 1 - self.e1**2 - self.e2**2


def _cubic_weights(u, step):
    """Return the weights of values at -1, 0, 1, 2 for the value and slope at u."""
    a, b, c = u + 1, u - 1, u - 2
    values = -u * b * c / 6, a * b * c / 2, -a * u * c / 2, a * u * b / 6
    slopes = (
        -(b * c + u * c + u * b) / 6,
        (b * c + a * c + a * b) / 2,
        -(u * c + a * c + a * u) / 2,
        (u * b + a * b + a * u) / 6,
    )
    return torch.stack(
        [torch.stack(values, dim=1), torch.stack(slopes, dim=1) / step], dim=1
    )


def _transformed(profile, waves, k, jacobian):
    """Return the Fourier transforms of the images, (n, 1 or 6, m, 2m).

    With the Jacobian the five others are the derivatives with respect to radius, index,
    e1, e2 and y. That with respect to x is made from the image later.
    """
    # The squared frequency in the round galaxy, times the root of the determinant.
    squared = k.x**2 + k.y**2 + profile.e1 * k.difference + profile.e2 * k.product
    # The profile has the flux 1 at frequency 0, for which there is no logarithm.
    squared[:, 0, 0] = torch.finfo(squared.dtype).tiny
    determinant = profile.determinant
    logarithm = squared.log() / 2 + (profile.log_radius - determinant.log() / 4)
    values, by_radius, by_index = _interpolate(profile, logarithm, jacobian)
    image = values * waves
    if not jacobian:
        return image[:, None]
    half = by_radius / (2 * squared)
    planes = [
        image,
        by_radius * waves,
        by_index * waves,
        (half * k.difference + by_radius * (profile.e1 / (2 * determinant))) * waves,
        (half * k.product + by_radius * (profile.e2 / (2 * determinant))) * waves,
        image * torch.complex(torch.zeros_like(k.y), -k.y),
    ]
    return torch.stack(planes, dim=1)


def _interpolate(profile, logarithm, jacobian):
    """Return the transform at log frequencies (n, m, 2m), and derivatives or None."""
    table, rows = profile.table, profile.rows
    place = (logarithm - table.first_frequency) / table.frequency_step
    nearest = place.round().clamp(0, rows.shape[3] - 1)
    offset = (place - nearest).clamp(-0.5, 0.5).flatten(1) * table.frequency_step
    nodes = nearest.long().flatten(1)

    def at_nodes(derivative, order):
        return rows[:, derivative, order].gather(1, nodes)

    slope, bend = at_nodes(0, 1), at_nodes(0, 2)
    value = at_nodes(0, 0) + offset * (slope + offset / 2 * bend)
    shape = logarithm.shape
    if not jacobian:
        return value.view(shape), None, None
    by_index = at_nodes(1, 0) + offset * at_nodes(1, 1)
    return value.view(shape), (slope + offset * bend).view(shape), by_index.view(shape)


def to_images(planes, profile, k, image_shape):
    """Return the images (n, 1 or 7, H, W) of transforms (n, 1 or 6, m, 2m).

    The centres are those of the profile. The transform goes back along ky, then along
    kx, keeping the pixels of the images.
    """
    height, width = image_shape
    size = planes.shape[3]
    planes = planes * _phases(profile.y * k.y)[:, None]
    lines = torch.fft.ifft(planes)[..., :height].transpose(2, 3)
    lines = lines * _phases(profile.x * k.x.T)[:, None]
    if lines.shape[1] > 1:
        by_x = lines[:, :1] * torch.complex(torch.zeros_like(k.x.T), -k.x.T)
        lines = torch.cat([lines[:, :5], by_x, lines[:, 5:]], dim=1)
    return torch.fft.irfft(lines, n=size)[..., :width]


def _phases(angles):
    return torch.polar(torch.ones_like(angles), -angles)


# Folded light -------------------------------------------------------------------------


def _folded(profile, size, image_shape, jacobian):
    """Return the light of the copies in the images, (n, 1 or 7, H, W)."""
    (columns, along_x), (rows, along_y) = (
        _nodes(length, profile.flux.dtype, profile.flux.device)
        for length in image_shape[::-1]
    )
    steps = size * torch.arange(-RINGS, RINGS + 1, device=columns.device)
    # Offsets from the copies, for the copies along x, the copies along y, and nodes.
    x = (columns + steps[:, None])[None, :, None, :, None] - _more_axes(profile.x)
    y = (rows + steps[:, None])[None, None, :, None, :] - _more_axes(profile.y)
    counted = torch.ones(len(steps), len(steps), 1, 1, dtype=x.dtype, device=x.device)
    counted[RINGS, RINGS] = 0
    light = _light(profile, x, y, jacobian)
    light = (light * counted).sum(dim=(2, 3))
    beyond = _light_beyond(profile, len(steps) * size, jacobian)
    light[:, : beyond.shape[1]] += beyond / size**2
    return along_y @ light.transpose(2, 3) @ along_x.T


def _more_axes(values):
    return values[..., None, None]


def _light(profile, x, y, jacobian):
    """Return the light in pixels at these offsets, and its derivatives."""
    log_radius, index, e1, e2, determinant = map(
        _more_axes,
        (
            profile.log_radius,
            profile.sersic_index,
            profile.e1,
            profile.e2,
            profile.determinant,
        ),
    )
    (log_b, log_peak), (b_by_index, peak_by_index) = (
        [_more_axes(one[:, None, None]) for one in part.unbind(1)]
        for part in profile.shape.unbind(1)
    )
    difference, product = x**2 - y**2, 2 * x * y
    root = determinant.sqrt()
    squared = (x**2 + y**2 - e1 * difference - e2 * product) / root
    power = (squared.log() / 2 - log_radius) / index
    exponent = (log_b + power).exp()
    light = (log_peak - 2 * log_radius - exponent).exp()
    if not jacobian:
        return light[:, None]
    by_squared = -light * exponent / (2 * index)
    inward = by_squared / (squared * root)
    planes = [
        light,
        light * (exponent / index - 2),
        light * (peak_by_index - exponent * (b_by_index - power)),
        by_squared * e1 / determinant - inward * difference,
        by_squared * e2 / determinant - inward * product,
        -2 * inward * (x - e1 * x - e2 * y),
        -2 * inward * (y + e1 * y - e2 * x),
    ]
    return torch.stack(planes, dim=1)


def _light_beyond(profile, side, jacobian):
    """Return the light outside a circle with the area of a square, (n, 1 or 3, 1, 1).

    With the Jacobian also its derivatives with respect to radius and index.
    """
    log_b, b_by_index = profile.shape[:, :, 0, None, None].unbind(1)
    reach = math.log(side / math.sqrt(math.pi)) - profile.log_radius

    def beyond(step):
        """Return log exponent and light for a logarithm of the index larger by step."""
        index = profile.sersic_index * math.exp(step)
        exponent = log_b + step * b_by_index + reach / index
        return exponent, torch.special.gammaincc(2 * index, exponent.exp())

    exponent, light = beyond(0.0)
    if not jacobian:
        return light[:, None]
    twice = 2 * profile.sersic_index
    by_radius = (twice * exponent - exponent.exp() - twice.lgamma()).exp()
    # PyTorch has no derivative of gammaincc with respect to its first argument.
    by_index = (beyond(INDEX_STEP)[1] - beyond(-INDEX_STEP)[1]) / (2 * INDEX_STEP)
    return torch.stack([light, by_radius / profile.sersic_index, by_index], dim=1)


@lru_cache(maxsize=8)
def _nodes(n_pixels, dtype, device):
    """Return Chebyshev nodes along a side, and the matrix from nodes to pixels."""
    nodes = np.cos(np.pi * (np.arange(N_NODES) + 0.5) / N_NODES)
    pixels = (2 * np.arange(n_pixels) + 1) / n_pixels - 1
    to_pixels = np.polynomial.chebyshev.chebvander(pixels, N_NODES - 1) @ np.linalg.inv(
        np.polynomial.chebyshev.chebvander(nodes, N_NODES - 1)
    )
    return (
        torch.tensor((nodes * n_pixels + n_pixels - 1) / 2).to(device, dtype),
        torch.tensor(to_pixels).to(device, dtype),
    )
