"""Layers of the networks."""

import torch
import torch.nn.functional as F
from torch import nn


class UpsampleConv2d(nn.Conv2d):
    """Nearest-neighbour 2x2 upsampling and a 3x3 convolution, as one operation.

    It has the parameters and, up to rounding, the output of a 3x3 convolution of the
    upsampled image. Every pixel of the upsampled image is one of four copies, so that
    the nine weights meet only 2x2 different pixels. Spreading the weights over a box of
    2x2 gives the 4x4 kernel of a transposed convolution with stride 2. It needs 2.25
    times fewer multiplications and never stores the large image.
    """

    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, x):
        """Return the convolved image, twice as high and twice as wide."""
        return F.conv_transpose2d(x, self._folded_weight(), self.bias, 2, 1)

    def _folded_weight(self):
        folded = (self.weight.flatten(2) @ _FOLD.to(self.weight)).unflatten(2, (4, 4))
        return folded.transpose(0, 1).contiguous(memory_format=torch.channels_last)


# Pixel i of the small image is pixels 2i and 2i + 1 of the large one. From there,
# weight u of three reaches the output at 2i + 1 - u and 2i + 2 - u: places 2 - u and
# 3 - u of a transposed kernel of four that starts at 2i - 1.
_FOLD_AXIS = torch.tensor([[0.0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]])
_FOLD = torch.kron(_FOLD_AXIS, _FOLD_AXIS)


class ResidualBlock(nn.Module):
    """Two dense layers whose output is added to their input, small in a new network.

    The input is normalised first.
    """

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        with torch.no_grad():
            self.second.weight.mul_(0.1)
        nn.init.zeros_(self.second.bias)

    def forward(self, x):
        """Return features of the same shape, (n, width)."""
        return x + self.second(F.silu(self.first(self.norm(x))))


class SoftplusImage(nn.Module):
    """From the logarithm of the brightness to the logits of a scaled image.

    The scaled image of a channel is ``floor + range * softplus(logarithm)``. The
    softplus is nearly the asinh of an exponential: linear in the light where it is
    faint, logarithmic where it is bright, like images with the asinh stretch.
    """

    def __init__(self, n_channels):
        super().__init__()
        # About the floor and the range of stamps with a sky.
        self.floor = nn.Parameter(torch.full((n_channels, 1), -2.3))
        self.range = nn.Parameter(torch.full((n_channels, 1), -1.6))

    def forward(self, logarithm):
        """Return the logits, (n, n_channels, n_pixels)."""
        scaled = torch.sigmoid(self.floor) + self.range.exp() * F.softplus(logarithm)
        return torch.logit(scaled.clamp(*SCALED_BOUNDS))


# A float32 in [0, 1] cannot give logits beyond these.
SCALED_BOUNDS = (1e-4, 1 - 1e-4)


def takes_blocks(images):
    """Return whether convolutions of images may use the blocked layout of oneDNN.

    Convolution and pooling are faster in it, but it has no gradients here, and only
    processors with AVX2 have fast operations for it.
    """
    return (
        torch.is_inference_mode_enabled()
        and images.device.type == "cpu"
        and images.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    )


def max_pool(x):
    """Return the maxima of 2x2 pixels, (n, C, H, W); odd sides keep their last pixel.

    The maximum of strided slices takes half the time of PyTorch's pooling, but its
    gradient takes almost three times as long.
    """
    if torch.is_grad_enabled() or x.shape[2] % 2 or x.shape[3] % 2:
        return F.max_pool2d(x, 2, ceil_mode=True)
    rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
    return torch.maximum(rows[:, :, :, ::2], rows[:, :, :, 1::2])


def pooled_size(size):
    """Return the length of an axis after a pooling of 2 that keeps the last pixel."""
    return -(-size // 2)
