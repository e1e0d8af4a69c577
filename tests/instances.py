"""One estimator for each choice that the estimator offers."""

from sklcae import ConditionalAutoencoderRegressor, ProfileFitRegressor
from sklcae._compat import StrOptions
from sklcae._scaling import STRETCHES
from sklcae._torch import (
    LR_SCHEDULES,
    NETWORKS,
    OPTIMIZERS,
    PHYSICAL_LOSSES,
    RECONSTRUCTION_LOSSES,
)

DEFAULT = ConditionalAutoencoderRegressor()


def offered(parameter):
    """Return the names that a parameter may take, as the estimator checks them."""
    constraints = DEFAULT._parameter_constraints[parameter]
    return {
        name
        for constraint in constraints
        if isinstance(constraint, StrOptions)
        for name in constraint.options
    }


CHOICES = {
    "network": set(NETWORKS),
    "reconstruction_loss": set(RECONSTRUCTION_LOSSES),
    "physical_loss": set(PHYSICAL_LOSSES),
    "stretch": set(STRETCHES),
    "augmentation": offered("augmentation"),
    "optimizer": set(OPTIMIZERS),
    "lr_schedule": set(LR_SCHEDULES),
}


def fast(**kwargs):
    """Return an estimator that takes little time and, with more epochs, learns fast."""
    settings = {"max_epochs": 2, "batch_size": 32, "lr": 5e-3, "random_state": 0}
    return ConditionalAutoencoderRegressor(**{**settings, **kwargs})


def instance(parameter, choice):
    """Return a quick estimator in which one parameter is not the default."""
    settings = {parameter: choice}
    if parameter == "augmentation":
        # The checks pass a y without names, so it needs to be said what turning does.
        settings["invariant_targets"] = "all"
        settings["test_time_augmentation"] = True
    return fast(**settings, **TOGETHER.get(choice, {}))


# Choices that are made for one another are checked at once.
TOGETHER = {
    "strided": {"optimizer": "adamw", "lr_schedule": "one_cycle"},
    "sersic": {"psf": 2.5, "pixel_scale": 1.0},
}
COMPANIONS = {choice for others in TOGETHER.values() for choice in others.values()}

# Needs seven targets, which the checks do not pass; see test_sersic_network.py.
ELSEWHERE = {"simulation"}

INSTANCES = [
    instance(parameter, choice)
    for parameter, choices in CHOICES.items()
    for choice in sorted(
        choices - {getattr(DEFAULT, parameter)} - COMPANIONS - ELSEWHERE
    )
]

# Planes are no choice here: the checks pass numbers that cannot be variances or PSFs.
PROFILE_FITS = [
    ProfileFitRegressor(psf=2.5, max_steps=3),
    ProfileFitRegressor(fast(), psf=2.5, fit_sky=0.5, max_steps=3),
]
