"""
=====================================
The autoencoder and PCA, side by side
=====================================

Does a neural network read more off a stamp than a linear method with as many numbers?
The conditional autoencoder and the paper's PCA baselines are scikit-learn estimators,
so the same lines train and score all of them.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _figures import NAMES, add_light_bar, show_stamps, use_style

from sklcae import ConditionalAutoencoderRegressor
from sklcae.baselines import make_pca_baseline, make_single_component_baseline
from sklcae.datasets import make_galaxies
from sklcae.inspection import ParameterRecoveryDisplay
from sklcae.metrics import known_r2_score

use_style()

# %%
# Galaxies and methods
# --------------------
# The stamps have 32 x 32 pixels, half as many on a side as in the paper. The centres of
# the galaxies vary over the whole stamp. The network has its defaults, apart from an
# asinh stretch of the pixels and a training for a few seconds: smaller batches, a
# larger learning rate and fewer epochs. ``plot_paper_results.py`` has the sizes of the
# paper.

stamps = {"image_shape": (32, 32), "pixel_scale": 0.4}
X, y = make_galaxies(600, random_state=0, **stamps)
X_test, y_test = make_galaxies(600, random_state=1, **stamps)
models = {
    "PCA, best component": make_single_component_baseline(),
    "PCA, 64 components": make_pca_baseline(),
    "autoencoder": ConditionalAutoencoderRegressor(
        stretch="asinh", batch_size=16, lr=3e-3, max_epochs=12, random_state=0
    ),
}
for model in models.values():
    model.fit(X, y)

# %%
# Predictions
# -----------
# R2 is 1 at best, and 0 for a model that always predicts the mean.

targets = ["flux", "half_light_radius"]
table = pd.DataFrame(
    {
        name: known_r2_score(y_test, model.predict(X_test), multioutput="raw_values")
        for name, model in models.items()
    },
    index=[NAMES[target] for target in targets],
).T
table.round(2)

# %%
# Each point is one of 600 fresh galaxies. On the dashed line predicted and true values
# are equal. PCA hardly reads the radius. The autoencoder reads both, the
# faintest and smallest galaxies with a bias.

figure, axes = plt.subplots(2, 2, figsize=(8, 7.4))
for row, name in zip(axes, ("PCA, 64 components", "autoencoder"), strict=True):
    ParameterRecoveryDisplay.from_estimator(
        models[name], X_test, y_test, target_names=targets, ax=row
    )
    for ax in row:
        ax.set_title(f"{name}\n{ax.get_title()}")
plt.show()

# %%
# Reconstructions
# ---------------
# Both compress a stamp to 64 numbers and back. PCA is the best linear compression of
# the training set, and leaves ripples around the galaxy. The autoencoder draws a smooth
# galaxy.

pca = models["PCA, 64 components"]["pca"]
rows = {
    "stamp": X_test[:6],
    "autoencoder": models["autoencoder"].reconstruct(X_test[:6]),
    "PCA": pca.inverse_transform(pca.transform(X_test[:6])),
}
figure, axes = plt.subplots(3, 6, figsize=(8, 4), layout="compressed")
for line, (name, images) in zip(axes, rows.items(), strict=True):
    artist = show_stamps(line, np.reshape(images, (-1, 32, 32)), (-20, 800))
    line[0].set_ylabel(name)
add_light_bar(artist, axes)
plt.show()

# %%
# :ref:`reading-parameters` explains the latents and the loss of the autoencoder.

# sphinx_gallery_thumbnail_number = 1
