"""Profile fits that start from the predictions of a network."""

from sklcae._compat import InvalidParameterError
from sklcae._profile_fit import ProfileFitRegressor

# Parameters of the fit that come from the network.
OF_THE_NETWORK = (
    "estimator",
    "planes",
    "prefit",
    "target_names",
    "image_shape",
    "allow_nan",
    "handle_empty",
)


def check_polish(polish, also_set=()):
    """Return the parameters of the fits by name, or None without fits.

    Raises TypeError or ValueError unless ``polish`` is a bool or a dict of parameters
    that are not set otherwise.
    """
    if polish is False:
        return None
    if not (polish is True or isinstance(polish, dict)):
        raise TypeError(
            "The 'polish' parameter must be a bool or a dict with parameters of "
            f"ProfileFitRegressor. Got {polish!r}."
        )
    options = {} if polish is True else dict(polish)
    known = set(ProfileFitRegressor().get_params()) - {*OF_THE_NETWORK, *also_set}
    if not set(options) <= known:
        raise InvalidParameterError(
            f"polish must be a dict with keys among {sorted(known)}. Got "
            f"{sorted(map(str, set(options) - known))}."
        )
    return options


def make_fitter(model, options):
    """Return an unfitted `ProfileFitRegressor` that starts from a network."""
    return ProfileFitRegressor(
        model,
        prefit=True,
        planes=model.codec_.layout.planes,
        target_names=model.target_names_,
        allow_nan=True,
        handle_empty="nan",
        **options,
    )
