"""Networks, losses and the skorch net: tensors in, tensors out.

Nothing here knows scikit-learn's conventions, and nothing else in sklcae imports
torch or skorch.
"""

from sklcae._torch._callbacks import EpochHook, check_callbacks
from sklcae._torch._losses import (
    PHYSICAL_LOSSES,
    RECONSTRUCTION_LOSSES,
    make_pixel_scale,
)
from sklcae._torch._net import ConditionalAutoencoderNet, build_net, check_device
from sklcae._torch._networks import NETWORKS
from sklcae._torch._optimizers import LR_SCHEDULES, OPTIMIZERS
from sklcae._torch._stamps import Partners, Stamps

__all__ = [
    "LR_SCHEDULES",
    "NETWORKS",
    "OPTIMIZERS",
    "PHYSICAL_LOSSES",
    "RECONSTRUCTION_LOSSES",
    "ConditionalAutoencoderNet",
    "EpochHook",
    "Partners",
    "Stamps",
    "build_net",
    "check_callbacks",
    "check_device",
    "make_pixel_scale",
]
