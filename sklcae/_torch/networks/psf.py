"""What a network reads off a PSF: its size, shape and wings."""

from math import pi

import torch
from torch import nn

# Width in pixels of the Gaussian within which the moments are measured.
WEIGHT_SIGMA = 4.0
# Numbers that `psf_features` returns for each band.
N_FEATURES = 7
# Means and scales of the logarithms of area and size for a FWHM of 2.5 to 6 pixels.
LOG_AREA = (3.5, 0.9)
LOG_SIZE = (1.5, 0.75)
# Scales of the ellipticity, of the offset in pixels, and of the light within the soft
# aperture, which is 0.8 for any Gaussian.
ELLIPTICITY = 0.1
OFFSET = 0.5
GAUSSIAN_LIGHT, LIGHT = 0.8, 0.05
# Features and offsets in pixels are within these, also for a PSF that is mostly noise.
BOUNDS = (-10.0, 10.0)
FARTHEST = 3.0
LEAST = 1e-6


def psf_features(psf):
    """Measure PSFs, in numbers of about unit size.

    The features of each band are the logarithm of the effective area,
    ``1 / sum(psf**2)`` pixels, which is small for a sharp PSF; moments within a
    Gaussian of 4 pixels: the logarithm of the size, the ellipticity (e1, e2) and the
    offset of the centre (x, y); and the light outside a soft aperture that grows with
    the PSF, which is large for wide wings.

    Parameters
    ----------
    psf : torch.Tensor of shape (n, n_bands, H, W)
        Effective PSFs with their centres in pixel (H // 2, W // 2).

    Returns
    -------
    torch.Tensor of shape (n, n_bands * 7)
        The features.
    """
    psf = psf / psf.sum((2, 3), keepdim=True).clamp(min=LEAST)
    x, y = _offsets(psf.shape[3], psf), _offsets(psf.shape[2], psf)[:, None]
    squares = x**2 + y**2
    area = 1 / (psf**2).sum((2, 3)).clamp(min=LEAST)
    weighted = psf * torch.exp(squares / (-2 * WEIGHT_SIGMA**2))
    weighted = weighted / weighted.sum((2, 3), keepdim=True).clamp(min=LEAST)
    offsets = [
        (weighted * along).sum((2, 3), keepdim=True).clamp(-FARTHEST, FARTHEST)
        for along in (x, y)
    ]
    x, y = x - offsets[0], y - offsets[1]
    xx, yy, xy = ((weighted * m).sum((2, 3)) for m in (x * x, y * y, x * y))
    size = (xx + yy).clamp(min=0.1)
    # A Gaussian PSF has the area 4 pi sigma^2; the aperture is twice as wide.
    aperture = torch.exp(-squares * pi / (2 * area[:, :, None, None]))
    inside = (psf * aperture).sum((2, 3))
    features = [
        (area.log() - LOG_AREA[0]) / LOG_AREA[1],
        (size.log() - LOG_SIZE[0]) / LOG_SIZE[1],
        (xx - yy) / size / ELLIPTICITY,
        2 * xy / size / ELLIPTICITY,
        *(offset[:, :, 0, 0] / OFFSET for offset in offsets),
        (GAUSSIAN_LIGHT - inside) / LIGHT,
    ]
    return torch.cat(features, dim=1).clamp(*BOUNDS)


def _offsets(length, like):
    """Return the offsets of pixels from the centre of a PSF."""
    pixels = torch.arange(length, dtype=like.dtype, device=like.device)
    return pixels - length // 2


class PSFConditions(nn.Module):
    """Scales and shifts of features, from the PSF; 1 and 0 in a new network.

    Feature-wise linear modulation (FiLM): two dense layers lead from the features of
    the PSF to a scale and a shift for each of the channels of some layers.
    """

    def __init__(self, n_bands, widths, n_hidden=64):
        super().__init__()
        self.widths = [width for width in widths for _ in range(2)]
        self.dense_psf = nn.Linear(n_bands * N_FEATURES, n_hidden)
        self.dense_film = nn.Linear(n_hidden, sum(self.widths))
        nn.init.zeros_(self.dense_film.weight)
        nn.init.zeros_(self.dense_film.bias)

    def forward(self, psf):
        """Return a list of pairs, scale and shift of each layer, (n, width) each."""
        hidden = nn.functional.silu(self.dense_psf(psf_features(psf)))
        parts = self.dense_film(hidden).split(self.widths, dim=1)
        return [
            (1 + scale, shift)
            for scale, shift in zip(parts[::2], parts[1::2], strict=True)
        ]


class NoPSFError(ValueError):
    """Raised by a part of a network that reads no PSF, built for stamps with one."""


def refuse_psf(part, architecture):
    """Raise NoPSFError if the stamps have PSFs, which this part would not read."""
    if architecture.has_psf:
        raise NoPSFError(f"{type(part).__name__} reads no PSF")
