"""The parameters of a Sersic profile by name, and as the renderer takes them."""

import numpy as np

# In the order of the renderer: logarithms of flux, radius in pixels and index; e1 and
# e2; the centre in pixels from that of the first pixel. Then comes the background.
PARAMETERS = ("flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0")
DERIVED = ("ellipticity", "position_angle")
NAMES = (*PARAMETERS, *DERIVED)
LOGARITHMIC = 3
N_FITTED = len(PARAMETERS) + 1
# From the centre of the first pixel to its outer corner.
CORNER = 0.5


def uses_profiles(settings):
    """Return whether a fit with these parameters deals with Sersic profiles."""
    return settings.network == "sersic" or settings.augmentation == "simulation"


def to_rendered(name, values, pixel_scale):
    """Return values of a parameter as the renderer takes them; NaN if impossible."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if name == "half_light_radius":
            values = values / pixel_scale
        if name in PARAMETERS[:LOGARITHMIC]:
            return np.log(np.where(values > 0, values, np.nan))
    return values - CORNER if name in ("x0", "y0") else values


def to_named(parameters, names, pixel_scale):
    """Return named parameters (n, n_names) of rendered ones (n, 8), in their units."""
    columns = _all_named(parameters, pixel_scale)
    return np.column_stack([columns[name] for name in names])


def covariance_of_named(parameters, covariance, names, pixel_scale):
    """Return the covariance (n, n_names, n_names) of named parameters.

    It is that of the rendered ones (n, 8, 8), to first order.
    """
    n = len(parameters)
    slopes = {name: np.zeros((n, N_FITTED)) for name in (*PARAMETERS, *DERIVED)}
    named = _all_named(parameters, pixel_scale)
    for i, name in enumerate(PARAMETERS):
        slopes[name][:, i] = named[name] if i < LOGARITHMIC else 1.0
    first, second = PARAMETERS.index("e1"), PARAMETERS.index("e2")
    e1, e2, e = named["e1"], named["e2"], named["ellipticity"]
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes["ellipticity"][:, first] = e1 / e
        slopes["ellipticity"][:, second] = e2 / e
        # Half the angle of (e1, e2), in degrees.
        slopes["position_angle"][:, first] = -np.rad2deg(e2 / e**2) / 2
        slopes["position_angle"][:, second] = np.rad2deg(e1 / e**2) / 2
    used = np.stack([slopes[name] for name in names], axis=1)
    # einsum: the order of the sums does not depend on the number of stamps.
    return np.einsum("nai,nij,nbj->nab", used, covariance, used)


def _all_named(parameters, pixel_scale):
    columns = dict(zip(PARAMETERS, parameters.T, strict=False))
    with np.errstate(over="ignore"):
        for name in PARAMETERS[:LOGARITHMIC]:
            columns[name] = np.exp(columns[name])
    columns["half_light_radius"] = columns["half_light_radius"] * pixel_scale
    columns["x0"], columns["y0"] = columns["x0"] + CORNER, columns["y0"] + CORNER
    e1, e2 = columns["e1"], columns["e2"]
    columns["ellipticity"] = np.hypot(e1, e2)
    columns["position_angle"] = np.rad2deg(np.arctan2(e2, e1)) / 2 % 180
    return columns
