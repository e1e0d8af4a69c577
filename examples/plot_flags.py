"""
=======================
When not to trust a fit
=======================

Which stamps spoil the parameters, and are they noticed? One galaxy is spoiled in eleven
ways. ``flags`` of a profile fit names the reasons not to trust each stamp.
"""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _figures import RED, add_light_bar, show_stamps, use_style

from sklcae import ProfileFitRegressor, stack_planes
from sklcae.datasets import make_galaxies

use_style()

# %%
# One galaxy, spoiled
# -------------------
# ``make_galaxies`` simulates most of the defects. The others are made by hand.

planes = ("image", "variance", "psf")
galaxy = {
    "flux": 20_000.0,
    "half_light_radius": 1.0,
    "sersic_index": 1.5,
    "ellipticity": 0.4,
    "position_angle": 30.0,
    "x0": 32.0,
    "y0": 32.0,
}


def simulate(seed=0, **changed):
    settings = {**galaxy, **changed}
    return make_galaxies(1, planes=planes, random_state=seed, **settings)[0][0]


def change_image(function):
    """Return the clean stamp with another image."""
    image, variance, psf = simulate()
    return stack_planes(function(image)[None], variance[None], psf[None])[0]


def mask_core(image):
    image[28:36, 28:33] = np.nan
    return image


def add_arms(image):
    """Add two spiral arms to an image."""
    y, x = np.indices(image.shape) - 31.5
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    arms = np.cos(2 * angle - 4 * np.log(radius)) * np.exp(-radius / 6)
    return image + 40 * arms


wrong_psf = simulate()
wrong_psf[2] = simulate(psf_fwhm=0.9)[2]
spoiled = {
    "nothing": simulate(),
    "a neighbour": simulate(
        1, neighbours=[1], neighbour_distance=3.6, neighbour_flux_ratio=0.3
    ),
    "a close neighbour": simulate(
        2, neighbours=[1], neighbour_distance=1.4, neighbour_flux_ratio=0.8
    ),
    "a cosmic ray": simulate(5, cosmic_rays=3.0),
    "saturation": simulate(saturation=150.0),
    "a masked core": change_image(mask_core),
    "noise alone": simulate(flux=1.0),
    "the edge": simulate(x0=2.0),
    "a sky left": simulate(sky_offset=2.0),
    "correlated noise": simulate(noise_correlation=1.0),
    "the wrong PSF": wrong_psf,
    "a spiral": change_image(add_arms),
}
X = np.stack(list(spoiled.values()))

# %%
# Ask for the flags
# -----------------
# The fit is of one profile with a constant sky. ``flags`` returns a column for each
# flag. The table has the names of those that are set.

fitter = ProfileFitRegressor(planes=planes, pixel_scale=0.2, allow_nan=True)
fitter.fit(X[:1])
flags = pd.DataFrame(fitter.flags(X), index=list(spoiled))
found = flags.apply(lambda row: ", ".join(row.index[row]) or "no flag", axis=1)
found.to_frame("flags").style

# %%
# The picture
# -----------
# Above each stamp stands the defect, and below it the flags that are set. The unspoiled
# stamp has none. Masked pixels are red.

figure, axes = plt.subplots(4, 3, figsize=(6.6, 10.4), layout="compressed")
grey = plt.get_cmap("gray").with_extremes(bad=RED)
artist = show_stamps(axes.flat, X[:, 0], (-20, 600), cmap=grey)
for ax, (defect, names) in zip(axes.flat, found.items(), strict=True):
    ax.set_title(defect)
    ax.set_xlabel(textwrap.fill(names, 24), fontsize="small")
add_light_bar(artist, axes, location="bottom", aspect=40, shrink=0.7)
plt.show()

# %%
# A flag is a reason to look, and not always a reason to discard: a neighbour that is
# fitted together with the galaxy does no harm (:ref:`crowded`). :ref:`flags` gives the
# meaning of each.
