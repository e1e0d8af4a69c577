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
    "batch_size": 64,
    "log_targets": ["flux", "half_light_radius", "sersic_index"],
}
# In addition, if new galaxies teach the "sersic" network.
RECOMMENDED_WITH_SIMULATION = {
    "reconstruction_loss": None,
    # One pass is as accurate as the mean over all turns.
    "test_time_augmentation": False,
}


def recommended_settings(overrides):
    """Return the recommended settings for an estimator with some of them changed."""
    settings = RECOMMENDED | overrides
    planes = overrides.get("planes") or ()
    if overrides.get("psf") is not None or "psf" in planes:
        settings = RECOMMENDED | RECOMMENDED_WITH_PSF | overrides
        teachers = settings["network"], settings["augmentation"]
        if teachers == ("sersic", "simulation") and not settings["gamma"]:
            settings |= RECOMMENDED_WITH_SIMULATION | overrides
    return settings
