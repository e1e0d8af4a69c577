"""
=================================
Masked pixels and missing targets
=================================

Real stamps have dead columns and cosmic rays, and most of them have no measured
parameters. How much do masked pixels cost a model that was trained without them, and
can galaxies without known parameters be used in the training?
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _figures import NAMES, RED, add_light_bar, show_stamps, use_style

from sklcae import ConditionalAutoencoderRegressor
from sklcae.datasets import make_galaxies
from sklcae.exceptions import OutsideTrainingWarning
from sklcae.metrics import known_r2_score

use_style()

# %%
# A small model
# -------------
# The stamps have 24 x 24 pixels, and the training takes seconds.

SIDE = 24
TARGETS = ["flux", "half_light_radius"]
stamps = {
    "image_shape": (SIDE, SIDE),
    "pixel_scale": 0.5,
    "half_light_radius": (0.3, 3.0),
    "x0": (10.0, 14.0),
    "y0": (10.0, 14.0),
}
settings = {"stretch": "asinh", "batch_size": 16, "lr": 3e-3, "random_state": 0}
X, y = make_galaxies(400, random_state=0, **stamps)
X_test, y_test = make_galaxies(400, random_state=1, **stamps)


def r2_of(model, images):
    return known_r2_score(y_test, model.predict(images), multioutput="raw_values")


model = ConditionalAutoencoderRegressor(max_epochs=8, **settings).fit(X, y)

# %%
# Masked pixels
# -------------
# A masked pixel is NaN. Half of the masked pixels lie in dead columns, which differ
# from stamp to stamp. The other half are single pixels, like those hit by cosmic rays.
# ``allow_nan`` may be set on a fitted model. The model warns that no image of its
# training set had masked pixels.


def mask(images, share):
    rng = np.random.default_rng(0)
    masked = rng.random((len(images), SIDE, SIDE)) < share / 2
    masked |= rng.random((len(images), 1, SIDE)) < share / 2
    return np.where(masked.reshape(images.shape), np.float32(np.nan), images)


warnings.simplefilter("ignore", OutsideTrainingWarning)
model.set_params(allow_nan=True)
shares = [0.0, 0.05, 0.1, 0.2, 0.4]
masked = pd.DataFrame(
    [r2_of(model, mask(X_test, share)) for share in shares],
    columns=TARGETS,
    index=pd.Index(shares, name="share of masked pixels"),
)
masked.round(2)

# %%
# The same stamp with more and more masked pixels, which are red. The network gets
# an image in which they are filled with the mean of their neighbours, weighted by a
# Gaussian.

grey = plt.get_cmap("gray").with_extremes(bad=RED)
figure, axes = plt.subplots(1, len(shares), figsize=(8, 2), layout="compressed")
images = [mask(X_test[:1], share).reshape(SIDE, SIDE) for share in shares]
artist = show_stamps(axes, images, (-20, 2000), cmap=grey)
for ax, share in zip(axes, shares, strict=True):
    ax.set_title(f"{share:.0%} masked")
add_light_bar(artist, axes, ticks=[0, 100, 1000])
plt.show()

# %%
# Missing targets
# ---------------
# A missing target is NaN. Here 340 of 400 galaxies have none. They train the
# autoencoder only, and the other 60 train the prediction too. The last model has the 60
# alone, in as many steps.

partly = y.copy()
partly[60:] = np.nan
runs = {
    "400 known": model,
    "60 known, 340 unknown": ConditionalAutoencoderRegressor(
        max_epochs=8, **settings
    ).fit(X, partly),
    "60 known": ConditionalAutoencoderRegressor(max_epochs=53, **settings).fit(
        X[:60], y[:60]
    ),
}
scores = pd.DataFrame(
    {name: r2_of(fitted, X_test) for name, fitted in runs.items()}, index=TARGETS
).T
scores.round(2)

# %%
# The scores
# ----------
# Left: the accuracy falls slowly with the share of masked pixels. Right: in trainings
# as short as these, galaxies without targets do not help. Sixty galaxies alone, seen
# more often, are better.

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8))
for target, marker in zip(TARGETS, "os", strict=True):
    left.plot(
        100 * masked.index,
        masked[target],
        marker=marker,
        label=NAMES[target],
        clip_on=False,
    )
left.set(xlabel="masked pixels [%]", ylabel="$R^2$", ylim=(0, 1))
left.legend(loc="lower left")
scores.plot.barh(ax=right, legend=False, width=0.7)
right.axvline(0, color="black", linewidth=0.8)
right.set_yticklabels([name.replace(", ", ",\n") for name in scores.index])
right.set(xlabel="$R^2$", ylabel="")
right.invert_yaxis()
plt.show()

# %%
# :ref:`incomplete-data` describes both. ``incomplete_data_study.py`` in the folder of
# the examples measures them with more galaxies.

# sphinx_gallery_thumbnail_number = 1
