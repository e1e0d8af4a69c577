"""Displays of what a fitted model does: the paper's figures 2 to 5.

Matplotlib is imported when something is first drawn.
"""

from sklcae.inspection._latent_sweep import LatentSweepDisplay
from sklcae.inspection._parameter_recovery import ParameterRecoveryDisplay
from sklcae.inspection._reconstruction import ReconstructionDisplay

__all__ = [
    "LatentSweepDisplay",
    "ParameterRecoveryDisplay",
    "ReconstructionDisplay",
]
