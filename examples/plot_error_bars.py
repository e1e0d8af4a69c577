"""
====================
Error bars that hold
====================

A standard deviation is of use only if about 68 % of the true values are within it. This
page counts them for the model that comes with sklcae, and for profile fits. Then it
shows draws from the posterior distribution of a faint galaxy, which is not Gaussian.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _figures import BLUE, NAMES, ORANGE, RED, use_style
from scipy.stats import norm

from sklcae import ProfileFitRegressor, load_pretrained
from sklcae.datasets import make_galaxies

use_style()

# %%
# Four hundred galaxies
# ---------------------
# Each galaxy is near the middle of its stamp, without neighbours.

model = load_pretrained("ground")
names = model.target_names_
settings = {
    "planes": model.planes,
    "targets": names,
    "flux": (2_000.0, 50_000.0),
    "half_light_radius": (0.3, 2.5),
    "x0": (30.0, 34.0),
    "y0": (30.0, 34.0),
}
X, y_true = make_galaxies(400, random_state=0, **settings)

# %%
# Errors of the network and of a profile fit
# ------------------------------------------
# The fit starts from the predictions of the network. A pull is an error in units of its
# standard deviation.

fitter = ProfileFitRegressor(model, prefit=True, planes=model.planes, pixel_scale=0.2)
fitter.fit(X, y_true)
results = {
    "network": model.predict(X, return_std=True),
    "profile fit": fitter.predict(X, return_std=True),
}
pulls = {
    name: np.abs(y - y_true)[np.isfinite(y_std).all(axis=1)]
    / y_std[np.isfinite(y_std).all(axis=1)]
    for name, (y, y_std) in results.items()
}
coverage = pd.DataFrame(
    {
        (name, f"{level} %"): 100 * np.mean(pull < norm.ppf(0.5 + level / 200), axis=0)
        for name, pull in pulls.items()
        for level in (68, 95)
    },
    index=names,
)
coverage.round(0).astype(int)

# %%
# Coverage
# --------
# Each line is a parameter. It shows the share of galaxies that are within an interval,
# against the share that the error bars promise. A line below the diagonal belongs to
# error bars that are too small, a line above it to error bars that are too large. The
# lines of the profile fit follow the diagonal. The error bars of the network are too
# large for flux, radius and centre, and a little too small for the ellipticity. These
# galaxies are not distributed like those of its training set.

levels = np.linspace(1, 99, 99)
figure, axes = plt.subplots(1, 2, figsize=(8, 4.4), sharey=True, layout="compressed")
for ax, (name, pull) in zip(axes, pulls.items(), strict=True):
    ax.plot([0, 100], [0, 100], color="black", linewidth=0.8)
    for column, target in enumerate(names):
        within = [
            100 * np.mean(pull[:, column] < norm.ppf(0.5 + p / 200)) for p in levels
        ]
        highlighted = {"flux": BLUE, "half_light_radius": ORANGE, "sersic_index": RED}
        style = {"color": highlighted.get(target, "0.7"), "linewidth": 2}
        ax.plot(levels, within, label=NAMES.get(target), **style)
    ax.set(
        title=name,
        xlabel="promised share [%]",
        aspect="equal",
        xticks=range(0, 101, 25),
        yticks=range(0, 101, 25),
    )
axes[0].set_ylabel("share of galaxies within [%]")
axes[0].legend(loc="upper left")
axes[1].plot([], [], color="0.7", linewidth=2, label="ellipticity, centre")
axes[1].legend(handles=axes[1].lines[-1:], loc="upper left")
plt.show()

# %%
# Faint and large galaxies
# ------------------------
# Each point is a galaxy. The relative error of the flux that the profile fit predicts
# falls with the flux, and rises with the radius at the same flux, because a large
# galaxy covers more sky.

_, y_std = results["profile fit"]
flux, radius = y_true[:, 0], y_true[:, 1]
figure, ax = plt.subplots(figsize=(7, 4.5))
points = ax.scatter(flux, 100 * y_std[:, 0] / flux, c=radius, s=14, cmap="viridis")
figure.colorbar(points, label="half-light radius [arcsec]")
ax.set(xscale="log", yscale="log", xlabel="flux [ADU]", ylabel="error of the flux [%]")
ax.set_xticks([2_000, 5_000, 10_000, 20_000, 50_000])
ax.xaxis.set_major_formatter("{x:,.0f}")
ax.yaxis.set_major_formatter("{x:g}")
ax.minorticks_off()
plt.show()

# %%
# Draws from the posterior distribution
# -------------------------------------
# ``sample`` draws parameters of one stamp, given its pixels. For this faint galaxy
# radius and index are tied to each other: a larger and more concentrated galaxy has
# nearly the same image. The draws have a tail towards large radii and indices, which
# the ellipse of the fitted covariance (orange, two standard deviations) does not have.
# Ratios and other functions of the parameters are computed for each draw.

faint, faint_true = make_galaxies(
    1,
    **{**settings, "flux": 4_000.0, "half_light_radius": 1.0},
    sersic_index=2.5,
    ellipticity=0.2,
    random_state=3,
)
draws = fitter.sample(faint, n_draws=2000, random_state=0)[0]
y, y_cov = fitter.predict(faint, return_cov=True)
columns = [names.index("half_light_radius"), names.index("sersic_index")]
(r, n), covariance = y[0, columns], y_cov[0][np.ix_(columns, columns)]
circle = np.array([np.cos(t := np.linspace(0, 2 * np.pi, 200)), np.sin(t)])
ellipse = y[0, columns][:, None] + 2 * np.linalg.cholesky(covariance) @ circle

figure, ax = plt.subplots(figsize=(6.5, 4.8))
ax.scatter(*draws[:, columns].T, s=5, alpha=0.3, linewidths=0, label="draws")
ax.plot(*ellipse, color=ORANGE, linewidth=2, label="covariance, 2 deviations")
ax.plot(*faint_true[0, columns], "*", color="black", markersize=14, label="true")
ax.set(xlabel="half-light radius [arcsec]", ylabel="Sersic index")
ax.legend().legend_handles[0].set(sizes=[30], alpha=1)
plt.show()

# %%
# :ref:`error-bars` and :ref:`profile-fits` say how the errors are computed.
# ``uncertainty_study.py`` in the folder of the examples counts coverage in bins of
# signal-to-noise ratio, and compares with conformal intervals.

# sphinx_gallery_thumbnail_number = 3
