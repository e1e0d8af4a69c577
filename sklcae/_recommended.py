"""The settings for the best results, in one place."""

RECOMMENDED = {
    "network": "neural_field",
    "reconstruction_loss": "chi_square",
    "physical_loss": "gaussian_likelihood",
    "alpha": 100.0,
    "gamma": 1.0,
    "stretch": "asinh",
    "limits": "robust",
    "augmentation": "dihedral",
    "test_time_augmentation": True,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "lr": 2e-3,
    "lr_schedule": "one_cycle",
    "batch_size": 32,
}
# In addition, for stamps with their own PSFs.
RECOMMENDED_WITH_PSF = {
    "network": "sersic",
    "augmentation": "simulation",
    "gamma": 0.0,
    "log_targets": ["flux", "half_light_radius", "sersic_index"],
}
