"""Galaxies of a bulge and a disc with the same centre, ellipticity and angle."""

import math

from scipy.optimize import brentq
from scipy.special import gammainc, gammaincinv

from sklcae.datasets._parameters import (
    BULGE,
    draw_sources,
    is_zero,
    parse_parameters,
    round_index,
)
from sklcae.datasets._random import Stream, draw_uniforms

# The root is sought from a little below its least value to a little above its largest
# one, where the signs differ in spite of rounding.
_MARGIN = 1e-3


def parse_bulges(given, n_samples):
    """Check the settings of `BULGE`, and return their sources, or None if no bulge."""
    sources = parse_parameters(given, n_samples)
    return None if is_zero(given["bulge_fraction"]) else sources


def draw_bulges(sources, n_samples, *, sersic_index_step, entropy):
    """Draw the settings of `BULGE`: a dict of name -> array of n_samples values."""
    uniforms = draw_uniforms(
        n_samples, len(BULGE), entropy=entropy, stream=Stream.BULGES
    )
    table = draw_sources(sources, uniforms)
    name = "bulge_sersic_index"
    table[name] = round_index(table[name], sources[name], sersic_index_step)
    return table


def split_galaxy(row):
    """Return the Sersic profiles that a galaxy consists of, each as a row of its own.

    The row has the seven physical parameters, and may have the settings of `BULGE`.
    Flux and half-light radius belong to the whole galaxy, the Sersic index to the disc.
    """
    fraction = row.get("bulge_fraction", 0.0)
    if fraction == 0:
        return [row]
    if fraction == 1:
        return [{**row, "sersic_index": row["bulge_sersic_index"]}]
    ratio, index = row["bulge_radius_ratio"], row["bulge_sersic_index"]
    disc_radius = row["half_light_radius"] * relative_disc_radius(
        fraction, row["sersic_index"], index, ratio
    )
    flux = row["flux"]
    disc = {"flux": (1 - fraction) * flux, "half_light_radius": disc_radius}
    bulge = {"flux": fraction * flux, "half_light_radius": ratio * disc_radius}
    return [{**row, **disc}, {**row, **bulge, "sersic_index": index}]


def relative_disc_radius(bulge_fraction, disc_index, bulge_index, radius_ratio):
    """Return the half-light radius of the disc over that of the whole galaxy.

    Bulge and disc have the same shape, so that each ellipse of this shape encloses a
    share of the light that depends only on its circularised radius.
    """

    def excess(log_radius):
        disc = enclosed_light(math.exp(-log_radius), disc_index)
        bulge = enclosed_light(math.exp(-log_radius) / radius_ratio, bulge_index)
        return (1 - bulge_fraction) * disc + bulge_fraction * bulge - 0.5

    low, high = sorted((0.0, -math.log(radius_ratio)))
    return math.exp(brentq(excess, low - _MARGIN, high + _MARGIN, xtol=1e-14))


def enclosed_light(radius, sersic_index):
    """Return the share of a Sersic profile's light within a radius.

    The radius is circularised, in units of the half-light radius.
    """
    scale = gammaincinv(2 * sersic_index, 0.5)
    return gammainc(2 * sersic_index, scale * radius ** (1 / sersic_index))
