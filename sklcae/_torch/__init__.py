"""Networks, losses and the skorch net: tensors in, tensors out.

Nothing here knows scikit-learn's conventions, and nothing else in sklcae imports
torch or skorch.
"""

from sklcae._torch._callbacks import EpochHook, check_callbacks
from sklcae._torch._losses import RECONSTRUCTION_LOSSES
from sklcae._torch._net import ConditionalAutoencoderNet, build_net, check_device
from sklcae._torch._networks import NETWORKS
from sklcae._torch._optimizers import LR_SCHEDULES, OPTIMIZERS
from sklcae._torch._stamps import Stamps

__all__ = [
    "LR_SCHEDULES",
    "NETWORKS",
    "OPTIMIZERS",
    "RECONSTRUCTION_LOSSES",
    "ConditionalAutoencoderNet",
    "EpochHook",
    "Stamps",
    "build_net",
    "check_callbacks",
    "check_device",
]
