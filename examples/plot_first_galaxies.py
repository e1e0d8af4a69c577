"""
==================
The first galaxies
==================

How bright and how large is a galaxy, and how certain are the numbers? A model that
comes with sklcae reads seven parameters off a stamp, each with an error bar. It needs
no training.
"""

import matplotlib.pyplot as plt
import pandas as pd
from _figures import ORANGE, SKY_BLUE, draw_ellipse, use_style

from sklcae import load_pretrained
from sklcae.datasets import make_galaxies
from sklcae.inspection import ParameterRecoveryDisplay, ReconstructionDisplay

use_style()

# %%
# Five stamps
# -----------
# The model reads stamps of ground-based surveys: the image, the variance of its
# background and its PSF are the planes of X. The galaxies here are simulated, so that
# the true parameters are known. The galaxy is near the middle of the stamp, and there
# is one neighbour on average.

model = load_pretrained("ground")
settings = {
    "planes": model.planes,
    "targets": model.target_names_,
    "flux": (5_000.0, 50_000.0),
    "half_light_radius": (0.5, 2.5),
    "x0": (30.0, 34.0),
    "y0": (30.0, 34.0),
    "neighbours": 1,
    "return_X_y": False,
}
galaxies = make_galaxies(5, random_state=1, **settings)
galaxies.data.shape

# %%
# Read them
# ---------
# One call returns the parameters and their standard deviations. Fluxes are in ADU,
# radii in arcsec and centres in pixels.

y, y_std = model.predict(galaxies.data, return_std=True)
values, errors, true = (
    pd.DataFrame(numbers, columns=model.target_names_)
    for numbers in (y, y_std, galaxies.target)
)
pd.concat({"read": values, "error": errors, "true": true}, axis=1).swaplevel(axis=1)[
    ["flux", "half_light_radius", "sersic_index"]
].round(2)

# %%
# The picture
# -----------
# The ellipse holds half of the light of the galaxy before the PSF blurs it. The orange
# ellipse is the one that the model reads, the dashed blue one is true. The model
# reconstructs the galaxy alone, so its neighbours stay in the residual.

display = ReconstructionDisplay.from_estimator(
    model, galaxies.data, n_images=5, stretch="asinh", show_residuals=True
)
for row, ax in enumerate(display.axes_[0]):
    draw_ellipse(ax, values.loc[row], color=ORANGE)
    draw_ellipse(ax, true.loc[row], color=SKY_BLUE, linestyle="--")
plt.show()

# %%
# Three hundred more
# ------------------
# The first four of the seven parameters. Each point is a galaxy, with the error bar
# that the model predicts. Predicted values are near the dashed line, where they equal
# the true ones. The radius of large galaxies is the most uncertain: their wings are
# hidden in the noise of the sky.

many = make_galaxies(300, random_state=2, **settings)
y, y_std = model.predict(many.data, return_std=True)
_, axes = plt.subplots(2, 2, figsize=(7, 6.6))
ParameterRecoveryDisplay.from_predictions(
    many.target[:, :4],
    y[:, :4],
    y_std=y_std[:, :4],
    target_names=model.target_names_[:4],
    ax=axes,
)
plt.show()

# %%
# :ref:`pretrained` says for which images the model was made, and how the units of other
# images are set.

# sphinx_gallery_thumbnail_number = 1
