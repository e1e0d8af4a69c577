"""The settings for the best results, in one place."""

from sklcae._profiles import LOGARITHMIC, PARAMETERS, kind_of

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
    "log_targets": list(LOGARITHMIC),
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
        settings = RECOMMENDED | RECOMMENDED_WITH_PSF
        if overrides.get("target_names") is not None:
            settings |= _settings_for(overrides["target_names"])
        settings |= overrides
        teachers = settings["network"], settings["augmentation"]
        if teachers == ("sersic", "simulation") and not settings["gamma"]:
            settings |= RECOMMENDED_WITH_SIMULATION | overrides
    return settings


def _settings_for(target_names):
    """Return the settings that suit these parameters of profiles."""
    kinds = [kind_of(name) for name in target_names]
    settings = {"log_targets": [name for name in LOGARITHMIC if name in kinds]}
    if not set(kinds) >= set(PARAMETERS):
        # New galaxies need all parameters.
        settings["augmentation"] = "dihedral"
    return settings
