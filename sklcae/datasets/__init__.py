"""Simulated galaxy stamps with known physical parameters."""

from sklcae.datasets._galaxies import make_galaxies

__all__ = ["make_galaxies"]
