"""What an encoder measures in stamps: centres, and shapelets of several widths."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from sklcae._torch.moments import LARGEST_SHIFT
from sklcae._torch.networks.psf import N_FEATURES, psf_features
from sklcae._torch.shapelets import hermite_functions

# Orders a + b of the shapelets.
LARGEST_ORDER = 4
PAIRS = [(a, b) for a in range(LARGEST_ORDER + 1) for b in range(LARGEST_ORDER + 1 - a)]
# Widths of the shapelets, from this in pixels to this share of the larger side.
N_WIDTHS = 6
LEAST_WIDTH, LARGEST_SHARE = 1.2, 0.235
# Those for the PSF, which is small.
N_WIDTHS_OF_PSF = 4
# The Gaussian of this number among the widths measures the flux that others are
# divided by. It counts as at least this many times its noise.
REFERENCE = 3
LEAST_SIGNAL_TO_NOISE = 3.0
# The flux of a galaxy over that within the Gaussian, about the mean of the galaxies in
# Table 1 of the paper.
FLUX_OVER_REFERENCE = 3.3
# The search for the centre begins in the brightest box: the side of a box in pixels;
# boxes overlap by half. Then come steps to the centre: their number, and the width in
# pixels of their Gaussian.
BOX = 4
N_STEPS = 4
CENTER_SIGMA = 3.0
# A pixel has light of a neighbour if, in an image smoothed over 3 x 3 pixels, it is
# above all pixels around its partner on the other side of the galaxy by this many times
# the noise of a pixel. So do pixels around it, up to this distance. The background is
# measured within so many pixels of each edge.
CONTRAST, REACH = 1.2, 2
BORDER, N_EDGES = 4, 4
# Brighter pixels count as if they had this light, in units of the mean noise.
BRIGHTEST = 1e8
# The noise of a stamp is the median over every fourth pixel.
STRIDE = 4
# Scales of features whose size is not about 1.
EDGE_SCALE, LEVEL_SCALE = 0.5, 3.0
LOGARITHM_SCALE, SIGNAL_TO_NOISE_SCALE, PSF_SCALE, CENTER_SCALE = 4.0, 5.0, 3.0, 8.0


class Measurements(NamedTuple):
    """Measurements of stamps.

    Parameters
    ----------
    features : torch.Tensor of shape (n, n_features)
        Numbers of about unit size. The coefficients of shapelets are ratios to the flux
        of their band; six signal-to-noise ratios, the logarithms of flux and noise, and
        the centre are not.
    log_flux : torch.Tensor of shape (n, n_bands)
        Logarithm of a first guess of the flux in each band.
    center : torch.Tensor of shape (n, 2)
        x and y in pixels from the centre of the first pixel.
    """

    features: torch.Tensor
    log_flux: torch.Tensor
    center: torch.Tensor


def n_features(n_bands):
    """Return the number of features of a stamp."""
    n_shapelets = (3 * N_WIDTHS + N_WIDTHS_OF_PSF) * len(PAIRS)
    n_others = N_WIDTHS + N_FEATURES + 2 + 2 * N_EDGES
    return n_bands * (n_shapelets + n_others) + 2


def measure(light, background, gain, psf, window):
    """Measure stamps.

    All bands are measured around the same centre. The light of neighbours is replaced
    by that on the other side of the galaxy, and measured by itself.

    Parameters
    ----------
    light : torch.Tensor of shape (n, n_bands, H, W)
        Light above the sky, in units of the mean noise.
    background : torch.Tensor that broadcasts with light
        The variance of pixels without light.
    gain : float, torch.Tensor of shape (n_bands, 1, 1) or None
        Electrons for each unit of light; None if the background holds all noise.
    psf : torch.Tensor of shape (n, n_bands, H, W)
        The PSFs.
    window : torch.Tensor of shape (2, 2)
        The least and the largest x and y in pixels where the centre may be.

    Returns
    -------
    Measurements
        The measurements.
    """
    light = light.clamp(-BRIGHTEST, BRIGHTEST)
    n_bands = light.shape[1]
    noise = noise_of_stamps(background.expand_as(light))
    stable = stabilised(light, background, gain)
    center = find_center(_sum_of_bands(light, noise), window)
    own, own_stable = _without_neighbours(light, stable, center)
    center = find_center(_sum_of_bands(own, noise), window)
    # From here on each band of a stamp is a row.
    centers = center.repeat_interleave(n_bands, dim=0)
    parts = own, own_stable, stable - own_stable, psf, noise
    features, log_flux = _measure_rows(*(p.flatten(0, 1) for p in parts), centers)
    stamp_center = light.new_tensor([light.shape[3] - 1, light.shape[2] - 1]) / 2
    of_center = (center - stamp_center) / CENTER_SCALE
    features = features.unflatten(0, (-1, n_bands)).flatten(1)
    return Measurements(
        torch.cat([features, of_center], 1),
        log_flux.unflatten(0, (-1, n_bands)),
        center,
    )


def noise_of_stamps(background):
    """Return the noise (n, n_bands) of variances (n, n_bands, H, W)."""
    # A few pixels with a huge variance, which marks bad ones, do not change the median.
    # PyTorch's median of an expanded tensor is wrong.
    few = background[:, :, ::STRIDE, ::STRIDE].flatten(2).contiguous()
    return few.median(2).values.sqrt()


def _sum_of_bands(light, noise):
    """Return the sum of all bands (n, H, W), in units of its noise.

    Each band is weighted by the inverse of its variance.
    """
    sharpness = 1 / noise
    weights = sharpness / (sharpness**2).sum(1, keepdim=True).sqrt()
    return (light / noise[..., None, None] * weights[..., None, None]).sum(1)


def _without_neighbours(light, stable, center):
    """Return light, and light of constant noise, of the galaxies at some centres.

    Pixels with the light of a neighbour have the light of their partner.
    """
    smooth = _smoothed(stable)
    turned = _half_turn(torch.cat([smooth, light, stable], 1), center).chunk(3, 1)
    foreign = (smooth > _largest_around(turned[0], 1) + CONTRAST).to(light.dtype)
    foreign = _largest_around(foreign, REACH)
    # Where both sides have neighbours, the fainter one remains.
    both = _half_turn(foreign, center) > 0
    replace = (foreign > 0) & (~both | (turned[2] < stable))
    return (
        torch.where(replace, turned[1], light),
        torch.where(replace, turned[2], stable),
    )


def _smoothed(images):
    """Return the mean of images (n, n_bands, H, W) over boxes of 3 x 3 pixels."""
    if torch.compiler.is_exporting():
        return F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    n_pixels = _around(torch.add, torch.ones_like(images[:1, :1]), 1)
    return _around(torch.add, images, 1) / n_pixels


def _largest_around(images, reach):
    """Return the largest value of images within so many rows and columns."""
    if torch.compiler.is_exporting():
        return F.max_pool2d(images, 2 * reach + 1, 1, reach)
    return _around(torch.maximum, images, reach)


def _around(combine, images, reach):
    """Combine values of (n, n_bands, H, W) within so many rows and columns.

    Two passes along the axes are several times faster than PyTorch's pooling, but not
    in an exported graph.
    """
    for axis in (2, 3):
        length = images.shape[axis]
        combined = images.clone()
        for shift in range(1, min(reach, length - 1) + 1):
            first, last = (
                images.narrow(axis, 0, length - shift),
                images.narrow(axis, shift, length - shift),
            )
            for values, start in ((first, shift), (last, 0)):
                part = combined.narrow(axis, start, length - shift)
                combine(part, values, out=part)
        images = combined
    return images


def _half_turn(images, center):
    """Return images (n, n_bands, H, W) turned by 180 degrees about centres.

    The centres are rounded to half a pixel. A pixel whose partner is outside gets the
    nearest one.
    """
    height, width = images.shape[2:]
    sums = (2 * center).round().long()
    columns, rows = (
        (sums[:, i, None] - torch.arange(length, device=images.device)).clamp(
            0, length - 1
        )
        for i, length in enumerate((width, height))
    )
    partners = (rows[:, :, None] * width + columns[:, None]).flatten(1)
    flat = images.flatten(2)
    return flat.gather(2, partners[:, None].expand_as(flat)).view_as(images)


def _edges(images):
    """Return the mean of images (n, H, W) along their four edges, (n, 4)."""
    sides = [
        images[:, :BORDER],
        images[:, -BORDER:],
        images[:, :, :BORDER],
        images[:, :, -BORDER:],
    ]
    return torch.stack([side.mean((1, 2)) for side in sides], dim=1)


def _measure_rows(light, stable, foreign, psf, noise, center):
    """Return the features of single bands (n, n_features), and logarithms of fluxes."""
    widths = shapelet_widths(light)
    edges = _edges(stable)
    images = torch.stack([light, stable, foreign], dim=1)
    plain, stable, foreign = shapelets(images, center, widths).unbind(1)
    plain = plain / noise[:, None, None]
    flux = _at_least(plain[:, REFERENCE, 0], LEAST_SIGNAL_TO_NOISE)
    middle = light.new_tensor([psf.shape[2] // 2, psf.shape[1] // 2])
    middle = middle.expand(psf.shape[0], 2)
    of_psf = shapelets(psf[:, None], middle, widths[:N_WIDTHS_OF_PSF])
    stable_flux = _at_least(stable[:, REFERENCE, 0], LEAST_SIGNAL_TO_NOISE)
    features = [
        _relative(plain, flux, widths),
        _relative(stable, stable_flux, widths),
        torch.asinh(_relative(foreign, stable_flux, widths)),
        edges / EDGE_SCALE,
        LEVEL_SCALE * edges * (widths[REFERENCE] / stable_flux[:, None]),
        torch.asinh(plain[:, :, 0] / SIGNAL_TO_NOISE_SCALE) / LOGARITHM_SCALE,
        flux.log()[:, None] / LOGARITHM_SCALE,
        noise.log()[:, None],
        psf_features(psf[:, None]) / PSF_SCALE,
        of_psf.flatten(1),
    ]
    scale = FLUX_OVER_REFERENCE * math.sqrt(math.pi) * widths[REFERENCE]
    return torch.cat(features, 1), (scale * noise * flux).log()


def _at_least(values, least):
    """Return the root of the squared sum of values above 0 and a least value."""
    return torch.hypot(values.clamp(min=0), torch.full_like(values, least))


def _relative(coefficients, flux, widths):
    """Return coefficients over a flux: of about unit size for a large galaxy."""
    relative = coefficients / flux[:, None, None]
    return (relative * (widths[REFERENCE] / widths)[:, None]).flatten(1)


def stabilised(light, background, gain):
    """Return images whose noise does not depend on the light, with the variance 1.

    Without a gain it is the light over its noise. Otherwise it is twice the gain times
    what the light adds to the noise, written so that faint light loses no digits [1]_.

    References
    ----------
    .. [1] F. J. Anscombe, "The transformation of Poisson, binomial and
       negative-binomial data", Biometrika 35, 246 (1948).
    """
    noise = background.sqrt()
    if gain is None:
        return light / noise
    return 2 * light / (noise + (background + light.clamp(min=0) / gain).sqrt())


def shapelet_widths(images):
    """Return the widths of the shapelets in pixels for images (..., H, W)."""
    largest = max(LARGEST_SHARE * max(images.shape[-2:]), 2 * LEAST_WIDTH)
    ends = math.log(LEAST_WIDTH), math.log(largest)
    return torch.linspace(
        *ends, N_WIDTHS, dtype=images.dtype, device=images.device
    ).exp()


def shapelets(images, center, widths):
    """Return the coefficients (n, m, n_widths, n_functions) of images (n, m, H, W).

    Each is the sum over the image times a shapelet [1]_, the product of two Hermite
    functions. Its square integrates to 1. The m images of a stamp are measured around
    the same centre, (n, 2).

    References
    ----------
    .. [1] A. Refregier, "Shapelets - I. A method for image analysis", MNRAS 338, 35
       (2003).
    """
    height, width = images.shape[2:]
    along_x = _functions(width, center[:, 0], widths)
    along_y = _functions(height, center[:, 1], widths)
    rows = images.flatten(1, 2) @ along_x.flatten(1, 2).transpose(1, 2)
    rows = rows.unflatten(1, images.shape[1:3])
    # Products of different widths are left out. An einsum of equal widths would take
    # another order of summation for each place in the batch.
    products = along_y.flatten(1, 2)[:, None] @ rows
    sizes = along_x.shape[1:3]
    products = products.unflatten(3, sizes).unflatten(2, sizes).diagonal(0, 2, 4)
    first, second = zip(*PAIRS, strict=True)
    products = products[:, :, list(second), list(first)].transpose(2, 3)
    return products / widths[:, None]


def _functions(length, center, widths):
    """Return Hermite functions at pixels, (n, n_widths, n_orders, length).

    The integral of their squares is the width.
    """
    offsets = _pixels(length, center) - center[:, None]
    scaled = offsets[:, None] / widths[:, None]
    return torch.stack(hermite_functions(scaled, LARGEST_ORDER + 1), dim=2)


def find_center(light, window):
    """Return x and y (n, 2) of the brightest object, from light in units of the noise.

    The object is within the window (2, 2), the least and the largest x and y. It is the
    centre of the light within a Gaussian around itself. The moments of a profile fit
    find it in a similar way, see `sklcae._torch.moments`; here the Gaussian keeps its
    width.
    """
    center = _brightest(light, window)
    height, width = light.shape[1:]
    for _ in range(N_STEPS):
        along_x = _weights(width, center[:, 0])
        along_y = _weights(height, center[:, 1])
        moments = along_y @ (light @ along_x.transpose(1, 2))
        total = moments[:, 0, 0].clamp(min=1e-3)
        shift = torch.stack([moments[:, 0, 1], moments[:, 1, 0]], 1) / total[:, None]
        moved = center + (2 * shift).clamp(-LARGEST_SHIFT, LARGEST_SHIFT)
        center = _within(moved, window)
    return center


def _within(center, window):
    return torch.minimum(torch.maximum(center, window[0]), window[1])


def _weights(length, center):
    """Return a Gaussian and its product with the offset, (n, 2, length)."""
    offset = _pixels(length, center) - center[:, None]
    weight = torch.exp(offset**2 / (-2 * CENTER_SIGMA**2))
    return torch.stack([weight, weight * offset], dim=1)


def _brightest(light, window):
    """Return x and y of the brightest box of pixels with its middle in the window."""
    half, boxes = BOX // 2, _boxes(light)
    y, x = (half * _pixels(length, light) - 0.5 for length in boxes.shape[1:])
    low, high = window
    far = torch.hypot(
        _outside(x, low[0], high[0]), _outside(y, low[1], high[1])[:, None]
    )
    # Without a middle in the window, the nearest boxes count.
    boxes = torch.where(far <= far.min(), boxes, -torch.inf)
    place, n_columns = boxes.flatten(1).argmax(dim=1), boxes.shape[2]
    return torch.stack([x[place % n_columns], y[place // n_columns]], dim=1)


def _boxes(light):
    """Return the sums of light over boxes of pixels, which overlap by half.

    The first box begins half a box outside of the stamp. Slices are added several times
    faster than by PyTorch's pooling.
    """
    half = BOX // 2
    ends = [half - length % half for length in light.shape[1:]]
    light = F.pad(light, (half, ends[1], half, ends[0]))
    rows = sum(light[:, i::half] for i in range(half))
    rows = rows[:, :-1] + rows[:, 1:]
    columns = sum(rows[:, :, i::half] for i in range(half))
    return columns[:, :, :-1] + columns[:, :, 1:]


def _outside(values, low, high):
    """Return how far values are outside of an interval."""
    return (low - values).clamp(min=0) + (values - high).clamp(min=0)


def _pixels(length, like):
    return torch.arange(length, dtype=like.dtype, device=like.device)
