"""Photometry of images, and scores of predictions, latents and decoded images."""

from sklcae.metrics._disentanglement import (
    closure_scores,
    dci_scores,
    mutual_information_gap,
    separated_attribute_predictability,
)
from sklcae.metrics._field_scores import (
    TARGET_ERRORS,
    best_dispersion,
    best_r2,
    dispersion,
    efficiency,
    field_scorers,
    median_bias,
    outlier_share,
    scores_by_signal_to_noise,
)
from sklcae.metrics._known_r2 import known_r2_score
from sklcae.metrics._photometry import half_light_radius, sweep_slopes, total_flux

__all__ = [
    "TARGET_ERRORS",
    "best_dispersion",
    "best_r2",
    "closure_scores",
    "dci_scores",
    "dispersion",
    "efficiency",
    "field_scorers",
    "half_light_radius",
    "known_r2_score",
    "median_bias",
    "mutual_information_gap",
    "outlier_share",
    "scores_by_signal_to_noise",
    "separated_attribute_predictability",
    "sweep_slopes",
    "total_flux",
]
