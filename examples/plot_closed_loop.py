"""
===========================
Set, decode, and read again
===========================

Does a decoded image have the parameters that were set? This page closes the loop in two
ways. The flux and the radius of decoded images are measured on the pixels, without the
network. Then noise is added, and the network reads the parameters again.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _figures import NAMES, UNITS, use_style
from matplotlib.ticker import NullFormatter

from sklcae import load_pretrained, stack_planes
from sklcae.datasets import make_galaxies
from sklcae.inspection import ParameterRecoveryDisplay
from sklcae.metrics import closure_scores, half_light_radius, total_flux

use_style()

# %%
# Twenty galaxies, seven values
# -----------------------------
# The flux, and then the radius, of each galaxy is set to seven values. All its other
# parameters stay the same.

model = load_pretrained("ground")
names = model.target_names_
n_galaxies, n_steps = 20, 7
swept = {
    "flux": np.geomspace(3_000, 50_000, n_steps),
    "half_light_radius": np.geomspace(0.5, 3.0, n_steps),
}
planes = {"planes": model.planes, "targets": names, "return_X_y": False}
galaxies = make_galaxies(
    n_galaxies,
    x0=(30.0, 34.0),
    y0=(30.0, 34.0),
    half_light_radius=(0.5, 2.0),
    random_state=0,
    **planes,
)


def sweep(name):
    """Return the frame of the requested galaxies, seven rows for each."""
    frame = galaxies.frame.loc[np.repeat(galaxies.frame.index, n_steps)]
    return frame.assign(**{name: np.tile(swept[name], n_galaxies)})


# %%
# Measure on the pixels
# ---------------------
# The reference is GalSim's noiseless stamp of the requested galaxy, measured in the
# same way: the PSF widens small galaxies, and the edge of the stamp cuts large ones.


def measure(images, frame):
    centers = frame[["x0", "y0"]].to_numpy()
    radius = half_light_radius(images, pixel_scale=0.2, centers=centers)
    return {"flux": total_flux(images), "half_light_radius": radius}


rows, ratios = {}, {}
for name, other in (list(swept), list(swept)[::-1]):
    frame = sweep(name)
    shapes = frame.drop(columns=["e1", "e2"]).to_dict("list")
    simulated = make_galaxies(len(frame), noise=False, **shapes, **planes)
    decoded = model.generate(
        frame[names], psf=simulated.psf_images, random_state=0
    ).reshape(-1, 64, 64)
    found, expected = measure(decoded, frame), measure(simulated.images, frame)
    found, expected = (
        {key: value.reshape(n_galaxies, n_steps) for key, value in measured.items()}
        for measured in (found, expected)
    )
    ratios[name] = {key: found[key] / expected[key] for key in swept}
    scores = closure_scores(expected[name], found[name], other=ratios[name][other])
    rows[f"set {NAMES[name]}"] = {
        "slope": scores.slope,
        "change of the other": scores.change,
    }
table = pd.DataFrame(rows).T
table.round(5)

# %%
# The lines are the medians of the galaxies, and the bands hold all galaxies. The axes
# are narrow: every image has the flux and the radius of GalSim's to 0.03 percent.

figure, axes = plt.subplots(1, 2, figsize=(8, 4), sharey=True)
for ax, name in zip(axes, swept, strict=True):
    for measured, ratio in ratios[name].items():
        percent = 100 * (ratio - 1)
        ax.plot(swept[name], np.median(percent, axis=0), "o-", label=NAMES[measured])
        ax.fill_between(
            swept[name], percent.min(axis=0), percent.max(axis=0), alpha=0.2
        )
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set(xscale="log", xlabel=f"{NAMES[name]} that is set [{UNITS[name]}]")
    ax.xaxis.set_minor_formatter(NullFormatter())
axes[0].set_xticks([3_000, 10_000, 30_000], ["3,000", "10,000", "30,000"])
axes[1].set_xticks([0.5, 1, 2, 3], ["0.5", "1", "2", "3"])
axes[0].set_ylabel("measured, minus GalSim's [%]")
axes[1].legend(title="measured")
plt.show()

# %%
# Read them again
# ---------------
# Noise of the sky, of the galaxy's light and of the detector is added to decoded
# images. The network reads them like any others. Flux and index return with small
# errors, and the radius of large galaxies with larger ones, as their error bars say.

rng = np.random.default_rng(0)
wanted = make_galaxies(
    300,
    x0=(30.0, 34.0),
    y0=(30.0, 34.0),
    flux=(3_000.0, 50_000.0),
    half_light_radius=(0.5, 3.0),
    random_state=1,
    **planes,
)
clean = model.generate(wanted.target, psf=wanted.psf_images, random_state=0)[:, 0]
variance = wanted.variance_images
noisy = clean + rng.normal(size=clean.shape) * np.sqrt(variance + np.maximum(clean, 0))
X = stack_planes(noisy, variance=variance, psf=wanted.psf_images)
y, y_std = model.predict(X, return_std=True)
shown = [names.index(name) for name in ("flux", "half_light_radius", "sersic_index")]
ParameterRecoveryDisplay.from_predictions(
    wanted.target[:, shown],
    y[:, shown],
    y_std=y_std[:, shown],
    target_names=[names[column] for column in shown],
)
plt.show()

# %%
# ``closure_study.py`` in the folder of the examples measures closure of the paper's
# network and of the neural field, for which it is learned. See also
# :ref:`setting-parameters`.

# sphinx_gallery_thumbnail_number = 1
