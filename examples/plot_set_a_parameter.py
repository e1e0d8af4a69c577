"""
===================================
Set a parameter, and see the galaxy
===================================

How does a galaxy look if it is twice as large, or more concentrated? The parameters are
latents of the model: they can be read, set to other values and decoded. GalSim draws
the same galaxies for comparison.
"""

import matplotlib.pyplot as plt
import numpy as np
from _figures import add_light_bar, show_signed, show_stamps, use_style

from sklcae import load_pretrained
from sklcae.datasets import make_galaxies
from sklcae.inspection import LatentSweepDisplay

use_style()

# %%
# A galaxy to start from
# ----------------------

model = load_pretrained("ground")
galaxy = {
    "flux": 20_000.0,
    "half_light_radius": 1.5,
    "sersic_index": 1.5,
    "ellipticity": 0.3,
    "position_angle": 30.0,
    "x0": 32.0,
    "y0": 32.0,
}
X, _ = make_galaxies(1, planes=model.planes, random_state=0, **galaxy)

# %%
# Sweep three latents
# -------------------
# The display encodes the stamp, sets one latent to five values and decodes each. The
# titles are the values that were set. Flux F and half-light radius R below each stamp
# are measured on the pixels, without the network.
#
# - In the first row the measured flux follows, and the radius stays the same.
# - In the second row the measured radius follows. The PSF makes the smallest galaxy
#   wider, and the edge of the stamp cuts off light of the largest ones.
# - In the third row the light moves into the core, and into wings that reach beyond the
#   stamp. The measured flux falls by the light that is lost there.

sweeps = {
    "flux": [5_000, 10_000, 20_000, 35_000, 50_000],
    "half_light_radius": [0.5, 1.0, 1.5, 2.5, 3.5],
    "sersic_index": [0.7, 1.2, 1.7, 2.7, 3.7],
}
columns = [model.target_names_.index(name) for name in sweeps]
LatentSweepDisplay.from_estimator(
    model,
    X,
    latents=columns,
    target_values=list(sweeps.values()),
    pixel_scale=0.2,
)
plt.show()

# %%
# The same galaxies by GalSim
# ---------------------------
# ``generate`` makes images from parameters alone. The lower row is the difference from
# GalSim's noiseless stamps of the same galaxies, in millionths of the brightest pixel
# of each stamp. It is at most ten millionths.

radii = sweeps["half_light_radius"]
stamps = make_galaxies(
    len(radii),
    **{**galaxy, "half_light_radius": radii},
    planes=model.planes,
    targets=model.target_names_,
    noise=False,
    return_X_y=False,
)
images = model.generate(stamps.target, psf=stamps.psf_images, random_state=0)[:, 0]
peaks = stamps.images.max(axis=(1, 2), keepdims=True)
difference = 1e6 * (images - stamps.images) / peaks

figure, axes = plt.subplots(3, len(radii), figsize=(8, 5), layout="compressed")
light = {"limits": (0, stamps.images.max()), "linear_width": 3.0}
for row, drawn, label in zip(
    axes, (images, stamps.images), ("sklcae", "GalSim"), strict=False
):
    artist = show_stamps(row, drawn, **light)
    row[0].set_ylabel(label)
add_light_bar(artist, axes[:2])
artist = show_signed(axes[2], difference, limit=np.abs(difference).max())
axes[2, 0].set_ylabel("difference")
figure.colorbar(artist, ax=axes[2], label="millionths")
for ax, radius in zip(axes[0], radii, strict=True):
    ax.set_title(f"{radius:.1f} arcsec")
plt.show()

# %%
# :ref:`setting-parameters` shows how to train a model whose latents set the image.

# sphinx_gallery_thumbnail_number = 1
