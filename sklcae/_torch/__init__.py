"""Networks, losses and the skorch net: tensors in, tensors out.

Nothing here depends on scikit-learn's conventions, and nothing else in sklcae imports
torch or skorch.
"""

from sklcae._torch.batches import Batch, BatchDataset, joined
from sklcae._torch.callbacks import EpochHook, check_callbacks
from sklcae._torch.losses import PHYSICAL_LOSSES, RECONSTRUCTION_LOSSES, LightScale
from sklcae._torch.networks.base import Architecture
from sklcae._torch.networks.register import NETWORKS, name_of, weight_specs
from sklcae._torch.networks.sersic import ProfileUnits
from sklcae._torch.optimizers import LR_SCHEDULES, OPTIMIZERS
from sklcae._torch.partners import Partners
from sklcae._torch.simulation import SimulatedGalaxies
from sklcae._torch.training import ConditionalAutoencoderNet, build_net, check_device

__all__ = [
    "LR_SCHEDULES",
    "NETWORKS",
    "OPTIMIZERS",
    "PHYSICAL_LOSSES",
    "RECONSTRUCTION_LOSSES",
    "Architecture",
    "Batch",
    "BatchDataset",
    "ConditionalAutoencoderNet",
    "EpochHook",
    "LightScale",
    "Partners",
    "ProfileUnits",
    "SimulatedGalaxies",
    "build_net",
    "check_callbacks",
    "check_device",
    "joined",
    "name_of",
    "weight_specs",
]
