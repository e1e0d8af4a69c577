"""Measurements on images that need no model."""

from sklcae.metrics._photometry import half_light_radius, sweep_slopes, total_flux

__all__ = ["half_light_radius", "sweep_slopes", "total_flux"]
