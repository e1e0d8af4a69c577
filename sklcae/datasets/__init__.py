"""Simulated galaxy stamps with known physical parameters, and what they can tell."""

from sklcae.datasets._bounds import cramer_rao_bound, signal_to_noise
from sklcae.datasets._galaxies import make_galaxies

__all__ = ["cramer_rao_bound", "make_galaxies", "signal_to_noise"]
