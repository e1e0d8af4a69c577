"""Names, units and numbers, as the displays write them."""

import math

import numpy as np

# The targets of `make_galaxies` whose label is not their name.
_LABELS = {
    "flux": "flux [ADU]",
    "half_light_radius": "half-light radius [arcsec]",
    "sersic_index": "Sersic index",
    "position_angle": "position angle [degree]",
    "x0": "x0 [pixel]",
    "y0": "y0 [pixel]",
}


def label_of(name):
    """Return the label of a target or latent: its name in words, and its unit.

    A name that is not an identifier, such as "flux [uJy]", was written as a label.
    """
    if name.startswith(("z_phy", "z_rest")) or not name.isidentifier():
        return name
    return _LABELS.get(name, name.replace("_", " "))


def below(label):
    """Return a label with its unit on a line of its own, for short axes."""
    return label.replace(" [", "\n[")


def number_text(number):
    """Return a number with three significant digits, or all digits of thousands."""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def row_texts(values):
    """Return the numbers of a row, with the decimals that distinguish its steps."""
    span = np.ptp(values)
    if not span > 0:
        return [number_text(value) for value in values]
    decimals = max(0, 2 - math.floor(math.log10(span)))
    # Adding zero turns -0.0 into 0.0.
    return [f"{value:,.{decimals}f}" for value in np.round(values, decimals) + 0.0]
