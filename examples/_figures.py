"""Style, names and files of the figures of the examples."""

import matplotlib as mpl
import numpy as np
from matplotlib.patches import Ellipse

NAMES = {
    "flux": "flux",
    "half_light_radius": "half-light radius",
    "sersic_index": "Sersic index",
}
UNITS = {"flux": "ADU", "half_light_radius": "arcsec"}

# The colours of Okabe and Ito, which colour-blind readers distinguish. The first two
# are also visible on a grey image.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
RED, SKY_BLUE = "#D55E00", "#56B4E9"

STYLE = {
    "axes.prop_cycle": mpl.cycler(color=[BLUE, RED, GREEN, PURPLE, ORANGE, SKY_BLUE]),
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "font.size": 12,
    "image.origin": "lower",
    "legend.frameon": False,
    "savefig.bbox": "tight",
}


def use_style():
    """Set the style of all following figures."""
    mpl.rcParams.update(STYLE)


def mark_quick_run(figure):
    """Write on a figure that it shows a quick run."""
    figure.suptitle("quick run: too few galaxies and epochs", color="firebrick")


def save(figure, path, quick):
    """Write a figure. If it shows a quick run, the picture says so."""
    if quick:
        mark_quick_run(figure)
    figure.savefig(path, dpi=150)
    print(f"Wrote {path}", flush=True)


def show_stamps(axes, images, limits, *, linear_width=10.0, **kwargs):
    """Draw stamps on axes without ticks, all with one asinh scale in ADU."""
    norm = mpl.colors.AsinhNorm(linear_width, *limits)
    for ax, image in zip(axes, images, strict=True):
        artist = ax.imshow(image, norm=norm, **{"cmap": "gray", **kwargs})
        ax.set(xticks=[], yticks=[])
    return artist


def show_signed(axes, images, limit, **kwargs):
    """Draw images on axes without ticks, all with one scale, white at 0."""
    for ax, image in zip(axes, images, strict=True):
        scale = {"vmin": -limit, "vmax": limit, "cmap": "RdBu_r"}
        artist = ax.imshow(image, **scale, **kwargs)
        ax.set(xticks=[], yticks=[])
    return artist


def add_light_bar(artist, axes, ticks=(0, 10, 30, 100, 300), **kwargs):
    """Draw the colour bar of stamps."""
    settings = {"ax": axes, "label": "ADU per pixel", "format": "{x:,.0f}", **kwargs}
    bar = artist.figure.colorbar(artist, ticks=ticks, **settings)
    bar.minorticks_off()
    return bar


def draw_ellipse(ax, galaxy, *, pixel_scale=0.2, **kwargs):
    """Draw the ellipse that holds half of the light of a galaxy.

    ``galaxy`` has half_light_radius in arcsec, e1, e2, and x0 and y0 in pixels.
    """
    e = np.hypot(galaxy["e1"], galaxy["e2"])
    stretch = ((1 + e) / (1 - e)) ** 0.25
    radius = galaxy["half_light_radius"] / pixel_scale
    ellipse = Ellipse(
        # imshow puts the centre of the first pixel at 0, and the corner at -0.5.
        (galaxy["x0"] - 0.5, galaxy["y0"] - 0.5),
        width=2 * radius * stretch,
        height=2 * radius / stretch,
        angle=np.rad2deg(np.arctan2(galaxy["e2"], galaxy["e1"]) / 2),
        **{"fill": False, "linewidth": 1.5, **kwargs},
    )
    return ax.add_patch(ellipse)
