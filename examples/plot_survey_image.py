"""
============================
From an image to a catalogue
============================

How do the galaxies of a whole image become a table? ``measure`` finds them, cuts a
stamp around each, reads and fits it, and returns a catalogue with places on the sky. It
needs the extra ``survey``: ``pip install "sklcae[survey]"``.
"""

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
from _figures import ORANGE, SKY_BLUE, add_light_bar, use_style
from astropy.coordinates import SkyCoord
from astropy.visualization.wcsaxes import add_scalebar
from astropy.wcs import WCS
from matplotlib.colors import AsinhNorm

from sklcae import load_pretrained
from sklcae.datasets import make_galaxies
from sklcae.inspection import ParameterRecoveryDisplay
from sklcae.survey import measure

use_style()

# %%
# An image of the sky
# -------------------
# Fifty galaxies are drawn at random places of an image of 600 x 600 pixels, and noise
# is added. North is not up: the image is turned by 20 degrees.

SIDE, PIXEL_SCALE, STAMP = 600, 0.2, 128
n_galaxies = 50
rng = np.random.default_rng(0)
corners = rng.integers(0, SIDE - STAMP, size=(n_galaxies, 2))
names = ["flux", "half_light_radius", "sersic_index"]
galaxies = make_galaxies(
    n_galaxies,
    flux=(2_000.0, 50_000.0),
    half_light_radius=(0.3, 1.5),
    x0=(63.0, 65.0),
    y0=(63.0, 65.0),
    image_shape=(STAMP, STAMP),
    targets=names,
    noise=False,
    random_state=0,
    return_X_y=False,
)
light = np.zeros((SIDE, SIDE))
for (x, y), stamp in zip(corners, galaxies.images, strict=True):
    light[y : y + STAMP, x : x + STAMP] += stamp
background = 14.0
image = light + rng.normal(size=light.shape) * np.sqrt(background + light)

wcs = WCS(naxis=2)
wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
wcs.wcs.crval, wcs.wcs.crpix = [150.1, 2.2], [SIDE / 2, SIDE / 2]
angle = np.deg2rad(20.0)
turned = [[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]]
wcs.wcs.cd = PIXEL_SCALE / 3600 * np.array(turned)

# %%
# The catalogue
# -------------
# The PSF is a Gaussian with a full width at half maximum of 0.7 arcsec. The result is a
# table of astropy, with units.

model = load_pretrained("ground")
catalog = measure(model, image, wcs=wcs, psf=0.7, variance=background, gain=1.0)
shown = catalog["ra", "dec", "flux", "flux_err", "half_light_radius", "sklcae_flag"][:5]
shown.round({"ra": 5, "dec": 5, "flux": 0, "flux_err": 0, "half_light_radius": 3})
shown

# %%
# On the sky
# ----------
# Each ellipse holds half of the light of a source, as it was measured on the sky. Blue
# and dashed are sources with ``sklcae_flag``.


def outline(row, n=60):
    """Return the places on the sky of the ellipse of a source."""
    e = np.hypot(row["e1"], row["e2"])
    stretch = ((1 + e) / (1 - e)) ** 0.25
    t = np.linspace(0, 2 * np.pi, n)
    along, across = stretch * np.cos(t), np.sin(t) / stretch
    # Angles on the sky are from north through east.
    angle = np.arctan2(row["e2"], row["e1"]) / 2 + np.arctan2(across, along)
    radius = row["half_light_radius"] * np.hypot(along, across)
    center = SkyCoord(row["ra"], row["dec"], unit="deg")
    return center.directional_offset_by(angle * u.rad, radius * u.arcsec)


figure = plt.figure(figsize=(8, 6.8))
ax = figure.add_subplot(projection=wcs)
artist = ax.imshow(image, norm=AsinhNorm(10.0, -15, 600), cmap="gray")
add_light_bar(artist, ax, shrink=0.8)
for row in catalog[np.isfinite(catalog["half_light_radius"])]:
    flagged = bool(row["sklcae_flag"])
    sky = outline(row)
    style = (SKY_BLUE, "--") if flagged else (ORANGE, "-")
    ax.plot_coord(sky, color=style[0], linestyle=style[1], linewidth=1.5)
ax.coords[0].set_axislabel("right ascension")
ax.coords[1].set_axislabel("declination")
ax.coords.grid(color="white", alpha=0.25)
add_scalebar(ax, 10 / 3600, label='10"', color="white")
plt.show()

# %%
# Recovered and true parameters
# -----------------------------
# Sources within a pixel of a true galaxy are compared with it. Sources with a flag are
# left out.

truth = galaxies.frame
places = wcs.pixel_to_world(
    corners[:, 0] + truth["x0"].to_numpy() - 0.5,
    corners[:, 1] + truth["y0"].to_numpy() - 0.5,
)
sources = SkyCoord(catalog["ra"], catalog["dec"])
nearest, distance, _ = sources.match_to_catalog_sky(places)
good = (distance.arcsec < PIXEL_SCALE) & ~np.asarray(catalog["sklcae_flag"])
print(f"{n_galaxies} galaxies, {len(catalog)} sources, {good.sum()} compared")

ParameterRecoveryDisplay.from_predictions(
    truth[names].to_numpy()[nearest[good]],
    np.transpose([np.asarray(catalog[name])[good] for name in names]),
    y_std=np.transpose([np.asarray(catalog[f"{name}_err"])[good] for name in names]),
    target_names=names,
)
plt.show()

# %%
# :ref:`survey-image` describes the images, the PSFs and the positions that ``measure``
# takes.

# sphinx_gallery_thumbnail_number = 1
