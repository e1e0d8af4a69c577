"""Displays of the results of a fitted model: the paper's Figures 2 to 5.

Matplotlib is imported when a display is drawn.
"""

from sklcae.inspection._latent_sweep import LatentSweepDisplay
from sklcae.inspection._parameter_recovery import ParameterRecoveryDisplay
from sklcae.inspection._reconstruction import ReconstructionDisplay

__all__ = [
    "LatentSweepDisplay",
    "ParameterRecoveryDisplay",
    "ReconstructionDisplay",
]
