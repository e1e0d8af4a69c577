"""
=======================================
Profile fits, neighbours and deblending
=======================================

One stamp in a survey often shows several sources. How wrong is the flux of the galaxy
if its neighbours are not part of the model, and how well can the light be divided?
``ProfileFitRegressor`` fits a Sersic profile through the PSF of each stamp, of the
galaxy alone or together with its neighbours. It needs no training.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from _figures import (
    ORANGE,
    add_light_bar,
    draw_ellipse,
    show_signed,
    show_stamps,
    use_style,
)
from sklearn.exceptions import ConvergenceWarning

from sklcae import ProfileFitRegressor
from sklcae.datasets import make_galaxies

use_style()

# %%
# Stamps with neighbours
# ----------------------
# Each of 100 galaxies has one or two neighbours. The first five are drawn below.

names = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
planes = ("image", "variance", "psf")
rng = np.random.default_rng(0)
stamps = make_galaxies(
    100,
    flux=(5_000.0, 50_000.0),
    half_light_radius=(0.4, 1.5),
    x0=(30.0, 34.0),
    y0=(30.0, 34.0),
    neighbours=rng.integers(1, 3, size=100),
    planes=planes,
    targets=names,
    random_state=4,
    return_X_y=False,
)
X, y_true = stamps.data, stamps.target

# %%
# Fit one profile, and fit all sources
# ------------------------------------
# ``max_neighbours=0``, the default, fits the galaxy alone. With ``max_neighbours=4``
# the fit looks for other sources and fits each with a profile of its own. ``deblend``
# returns the fitted sources as images. Some fits of a single profile do not converge,
# and warn of it.

warnings.simplefilter("ignore", ConvergenceWarning)
settings = {"planes": planes, "pixel_scale": 0.2, "target_names": names}
alone = ProfileFitRegressor(**settings).fit(X)
together = ProfileFitRegressor(max_neighbours=4, **settings).fit(X)
n_shown = 5
before, after = (fitter.deblend(X[:n_shown]) for fitter in (alone, together))

# %%
# Before and after
# ----------------
# A single profile is stretched over several sources, or leaves some of them in the
# residual (second row). With the neighbours in the model the residual is noise (third
# row). The last row is the light of the galaxy alone, with the ellipse that holds half
# of it. Residuals are in units of the noise.

figure, axes = plt.subplots(4, n_shown, figsize=(8, 6), layout="compressed")
images, limits = stamps.images[:n_shown], (-20, 800)
artist = show_stamps(axes[0], images, limits)
show_stamps(axes[3], after.central, limits)
for row in axes[[0, 3]]:
    add_light_bar(artist, row, label="ADU", ticks=(0, 30, 300))
for row, scenes in zip(axes[1:3], (before, after), strict=True):
    noise = np.sqrt(stamps.variance_images[:n_shown] + np.maximum(scenes.total, 0))
    shown = show_signed(row, scenes.residual / noise, limit=8)
figure.colorbar(shown, ax=axes[1:3], label="residual / noise", extend="both")
galaxies = together.predict(X[:n_shown])
for ax, values in zip(axes[3], galaxies, strict=True):
    draw_ellipse(ax, dict(zip(names, values, strict=True)), color=ORANGE)
for row, label in zip(
    axes, ("stamp", "one profile", "all sources", "the galaxy"), strict=True
):
    row[0].set_ylabel(label)
plt.show()

# %%
# The effect on the flux
# ----------------------
# Each of the 100 galaxies is a point. A single profile takes the light of neighbours,
# up to several times that of the galaxy (left). Fitted with its neighbours, nearly
# every galaxy is within a tenth of its true flux (right). Both panels have the same
# axes, and ratios beyond them are drawn as triangles.

ratios = {
    "one profile": alone.predict(X)[:, 0] / y_true[:, 0],
    "all sources": together.predict(X)[:, 0] / y_true[:, 0],
}
low, high = 0.5, 4.0
figure, axes = plt.subplots(1, 2, figsize=(8, 4), sharey=True)
for ax, (name, ratio) in zip(axes, ratios.items(), strict=True):
    inside = (ratio >= low) & (ratio <= high)
    ax.axhline(1, color="black", linewidth=0.8)
    ax.scatter(y_true[inside, 0], ratio[inside], s=18, alpha=0.7, linewidths=0)
    for beyond, edge, marker in ((ratio > high, high, "^"), (ratio < low, low, "v")):
        edges = np.full(np.count_nonzero(beyond), edge)
        ax.scatter(y_true[beyond, 0], edges, marker=marker, color="C1", clip_on=False)
    within = np.mean(np.abs(ratio - 1) < 0.1)
    ax.set(
        title=f"{name}: {100 * within:.0f} % within 10 %",
        xscale="log",
        yscale="log",
        xlabel="true flux [ADU]",
        ylim=(low, high),
    )
    ax.set_xticks(
        [5_000, 10_000, 20_000, 40_000], ["5,000", "10,000", "20,000", "40,000"]
    )
    ax.set_yticks(
        [0.5, 0.7, 1, 1.5, 2, 3, 4], ["0.5", "0.7", "1", "1.5", "2", "3", "4"]
    )
    ax.minorticks_off()
axes[0].set_ylabel("fitted / true flux")
plt.show()

# %%
# :ref:`crowded` has the parameters of the search, and :ref:`profile-fits` those of the
# fit.

# sphinx_gallery_thumbnail_number = 1
