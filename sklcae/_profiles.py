"""The parameters of Sersic profiles by name, and as the renderer takes them."""

from dataclasses import dataclass

import numpy as np

# In the order of the renderer: logarithms of flux, radius in pixels and index; e1 and
# e2; the centre in pixels from that of the first pixel.
PARAMETERS = ("flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0")
DERIVED = ("ellipticity", "position_angle")
LOGARITHMIC = ("flux", "half_light_radius", "sersic_index")
# With several bands these may have the name of a band behind them, as "flux_g".
IN_BANDS = ("flux", "half_light_radius")
# From the centre of the first pixel to its outer corner.
CORNER = 0.5


def uses_profiles(settings):
    """Return whether a fit with these parameters deals with Sersic profiles."""
    return settings.network == "sersic" or settings.augmentation == "simulation"


def kind_of(name):
    """Return the name of a parameter without its band."""
    for kind in IN_BANDS:
        if name.startswith(f"{kind}_"):
            return kind
    return name


def band_of(name):
    """Return the band of a parameter, "g" of "flux_g", or None."""
    kind = kind_of(name)
    return None if kind == name else name[len(kind) + 1 :]


@dataclass(frozen=True)
class ProfileParameters:
    """The parameters of a galaxy in one band or several.

    With several bands there is a flux for each, one geometry for all, and one
    half-light radius for all or for each.

    Parameters
    ----------
    names : tuple of str
        The names, in the order of `PARAMETERS`, those of the bands one after another.
    columns : tuple of tuple of int
        For each band the numbers of the seven parameters of the renderer.
    """

    names: tuple
    columns: tuple

    @classmethod
    def of_targets(cls, target_names, n_bands):
        """Return the parameters of stamps with some bands and named targets.

        The targets name the bands, in the order of the channels of X. Raises ValueError
        if they do not name each of several bands once.
        """
        if n_bands == 1:
            return ONE_BAND
        bands = _bands_of(target_names, "flux", n_bands)
        bands = bands or [str(band) for band in range(n_bands)]
        radii = _bands_of(target_names, "half_light_radius", n_bands)
        if radii and radii != bands:
            raise ValueError(
                "The targets must name the bands of the fluxes and of the radii in the "
                f"same order. Got {bands} and {radii}."
            )
        per_band = {"flux", "half_light_radius"} if radii else {"flux"}
        names, columns = [], [[] for _ in bands]
        for kind in PARAMETERS:
            for band, column in zip(bands, columns, strict=True):
                name = f"{kind}_{band}" if kind in per_band else kind
                if name not in names:
                    names.append(name)
                column.append(names.index(name))
        return cls(tuple(names), tuple(map(tuple, columns)))

    @property
    def all_names(self):
        """The names of the parameters and of those that derive from them."""
        return (*self.names, *DERIVED)

    @property
    def suffixes(self):
        """For each band the end of the name of its flux, "_g" or "" for one band."""
        return [self.names[i].removeprefix("flux") for i in self.of_kind("flux")]

    def of_kind(self, kind):
        """Return the numbers of the parameters of a kind, such as all fluxes."""
        return [i for i, name in enumerate(self.names) if kind_of(name) == kind]

    def rendered(self, values, names, pixel_scale):
        """Return parameters (n, n_parameters) as the renderer takes them.

        ``values`` (n, n_names) are in their units. NaN if unknown or impossible.
        """
        rendered = np.full((len(values), len(self.names)), np.nan)
        columns = dict(zip(names, values.T, strict=True))
        if "e1" not in columns and set(DERIVED) <= set(columns):
            angle = 2 * np.deg2rad(columns["position_angle"])
            columns["e1"] = columns["ellipticity"] * np.cos(angle)
            columns["e2"] = columns["ellipticity"] * np.sin(angle)
        for i, name in enumerate(self.names):
            if name in columns:
                rendered[:, i] = to_rendered(name, columns[name], pixel_scale)
        return rendered

    def named(self, parameters, names, pixel_scale):
        """Return named parameters (n, n_names), in their units, of rendered ones."""
        columns = self._all_named(parameters, pixel_scale)
        return np.column_stack([columns[name] for name in names])

    def covariance_of_named(self, parameters, covariance, names, pixel_scale):
        """Return the covariance (n, n_names, n_names) of named parameters.

        It is that of the rendered ones (n, n_parameters, n_parameters), to first order.
        """
        n, n_parameters = len(parameters), len(self.names)
        slopes = {name: np.zeros((n, n_parameters)) for name in self.all_names}
        named = self._all_named(parameters, pixel_scale)
        for i, name in enumerate(self.names):
            slopes[name][:, i] = named[name] if kind_of(name) in LOGARITHMIC else 1.0
        first, second = self.names.index("e1"), self.names.index("e2")
        e1, e2, e = named["e1"], named["e2"], named["ellipticity"]
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes["ellipticity"][:, first] = e1 / e
            slopes["ellipticity"][:, second] = e2 / e
            # Half the angle of (e1, e2), in degrees.
            slopes["position_angle"][:, first] = -np.rad2deg(e2 / e**2) / 2
            slopes["position_angle"][:, second] = np.rad2deg(e1 / e**2) / 2
        used = np.stack([slopes[name] for name in names], axis=1)
        # Parameters without a variance make those unknown that depend on them.
        unknown = np.isnan(np.diagonal(covariance, axis1=1, axis2=2))
        both = unknown[:, :, None] | unknown[:, None]
        # einsum: the order of the sums does not depend on the number of stamps.
        found = np.einsum("nai,nij,nbj->nab", used, np.where(both, 0, covariance), used)
        lost = ((used != 0) & unknown[:, None]).any(axis=2)
        found[lost[:, :, None] | lost[:, None]] = np.nan
        return found

    def _all_named(self, parameters, pixel_scale):
        columns = dict(zip(self.names, parameters.T, strict=True))
        with np.errstate(over="ignore"):
            for name, values in columns.items():
                if kind_of(name) in LOGARITHMIC:
                    columns[name] = np.exp(values)
        for i in self.of_kind("half_light_radius"):
            columns[self.names[i]] = columns[self.names[i]] * pixel_scale
        columns["x0"], columns["y0"] = columns["x0"] + CORNER, columns["y0"] + CORNER
        e1, e2 = columns["e1"], columns["e2"]
        columns["ellipticity"] = np.hypot(e1, e2)
        columns["position_angle"] = np.rad2deg(np.arctan2(e2, e1)) / 2 % 180
        return columns


ONE_BAND = ProfileParameters(PARAMETERS, (tuple(range(len(PARAMETERS))),))


def _bands_of(target_names, kind, n_bands):
    """Return the bands of the targets of a kind, or an empty list without any."""
    names = [name for name in target_names or [] if kind_of(name) == kind]
    bands = [band_of(name) for name in names]
    if bands == [None] and kind != "flux":
        return []
    different = len(set(bands)) == len(bands) == n_bands
    if bands and (None in bands or not different):
        raise ValueError(
            f"The targets must have one {kind!r} for each of {n_bands} bands, such as "
            f"'{kind}_g', in the order of the bands in X. Got {names}."
        )
    return bands


def to_rendered(name, values, pixel_scale):
    """Return values of a parameter as the renderer takes them; NaN if impossible."""
    kind = kind_of(name)
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "half_light_radius":
            values = values / pixel_scale
        if kind in LOGARITHMIC:
            return np.log(np.where(values > 0, values, np.nan))
    return values - CORNER if name in ("x0", "y0") else values
