"""
============================
One galaxy, three telescopes
============================

The decoder of ``network="sersic"`` is a Sersic profile, convolved with the PSF of each
stamp. Flux, radius, index, ellipticity and position are latents, and the telescope is
not among them. One model therefore makes the same galaxy as three telescopes see it:

- a sharp Gaussian PSF of 0.5 arcsec,
- an elliptical Moffat PSF of 0.8 arcsec, with strong wings,
- a wide Gaussian PSF of 1.2 arcsec.

The model is trained on stamps with Gaussian PSFs only, for two epochs on few galaxies.
That is enough for images, because nothing in the decoder is learned; for predictions it
is far too short.

Below each image is the same galaxy, drawn by GalSim with the true PSF, and the
difference of the two. The difference is largest for the sharpest PSF, 2.5 pixels wide:
the pixels do not sample its highest frequencies.
"""

import argparse
import warnings
from pathlib import Path

import galsim
import matplotlib as mpl
import numpy as np
import pandas as pd
from _figures import save
from compare_networks import TARGETS
from matplotlib.figure import Figure
from sklearn.exceptions import ConvergenceWarning

from sklcae import ConditionalAutoencoderRegressor
from sklcae.datasets import make_galaxies

PLANES = ("image", "variance", "psf")
PIXEL_SCALE, SIDE = 0.2, 64
TICKS = [0, 10, 30, 100, 200]
# ADU, arcsec, and pixels for the centre, in the order of TARGETS.
GALAXY = {
    "flux": 20_000.0,
    "half_light_radius": 1.5,
    "sersic_index": 2.5,
    "e1": 0.3,
    "e2": 0.25,
    "x0": 32.0,
    "y0": 32.0,
}
TELESCOPES = {
    "Gaussian, 0.5 arcsec": galsim.Gaussian(fwhm=0.5),
    "elliptical Moffat, 0.8 arcsec": galsim.Moffat(beta=3.5, fwhm=0.8).shear(
        e=0.15, beta=120 * galsim.degrees
    ),
    "Gaussian, 1.2 arcsec": galsim.Gaussian(fwhm=1.2),
}

# %%
# The model
# ---------
# Each stamp has a PSF and a noise map of its own, as planes of X.


def train(n_samples, max_epochs, seed):
    X, y = make_galaxies(
        n_samples,
        targets=TARGETS,
        planes=PLANES,
        psf_fwhm=(0.5, 1.2),
        random_state=seed,
        n_jobs=-1,
    )
    model = ConditionalAutoencoderRegressor.recommended(
        planes=PLANES,
        pixel_scale=PIXEL_SCALE,
        target_names=TARGETS,
        max_epochs=max_epochs,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # The encoder has not learned to read the targets, and is not used.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y)


# %%
# The images
# ----------
# The effective PSF is drawn at the pixels of the stamps, with the response of the
# pixel, and its centre is in the middle pixel.


def effective_psf(psf):
    side = SIDE - 1
    return psf.drawImage(nx=side, ny=side, scale=PIXEL_SCALE, dtype=float).array


def draw_with_galsim(psf):
    galaxy = galsim.Sersic(
        GALAXY["sersic_index"],
        half_light_radius=GALAXY["half_light_radius"],
        flux=GALAXY["flux"],
    ).shear(e1=GALAXY["e1"], e2=GALAXY["e2"])
    image = galsim.ImageD(SIDE, SIDE, scale=PIXEL_SCALE)
    # GalSim calls the centre of the first pixel 1.
    center = galsim.PositionD(GALAXY["x0"] + 0.5, GALAXY["y0"] + 0.5)
    return galsim.Convolve(galaxy, psf).drawImage(image, center=center).array


def make_images(model):
    """Return the images of the model and of GalSim, each (n_telescopes, 64, 64)."""
    psfs = np.stack([effective_psf(psf) for psf in TELESCOPES.values()])
    wanted = np.tile([GALAXY[name] for name in TARGETS], (len(psfs), 1))
    images = model.generate(wanted, psf=psfs, random_state=0)[:, 0]
    return images, np.stack([draw_with_galsim(psf) for psf in TELESCOPES.values()])


def compare(images, expected):
    """Return peaks and largest residuals, a row for each telescope."""
    peak = expected.max(axis=(1, 2))
    largest = np.abs(images - expected).max(axis=(1, 2))
    return pd.DataFrame(
        {
            "peak, ADU": peak,
            "largest residual, ADU": largest,
            "largest residual / peak": largest / peak,
        },
        index=pd.Index(TELESCOPES, name="PSF"),
    )


# %%
# The figure
# ----------


def draw(images, expected):
    residuals = 1000 * (images - expected) / expected.max(axis=(1, 2), keepdims=True)
    widest = np.abs(residuals).max()
    figure = Figure(figsize=(10, 9.5), layout="constrained")
    axes = figure.subplots(3, len(images), sharex=True, sharey=True)
    light = {"norm": mpl.colors.AsinhNorm(10.0, 0, expected.max()), "cmap": "magma"}
    scale = {"vmin": -widest, "vmax": widest, "cmap": "RdBu_r"}
    rows = (images, light, "model"), (expected, light, "GalSim")
    for line, (drawn, style, label) in zip(
        axes, (*rows, (residuals, scale, "model - GalSim")), strict=True
    ):
        for ax, image in zip(line, drawn, strict=True):
            shown = ax.imshow(image, origin="lower", **style)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(label)
        if drawn is residuals:
            figure.colorbar(shown, ax=line, label="thousandths of the peak")
        else:
            figure.colorbar(shown, ax=line, label="ADU", ticks=TICKS)
    for ax, name in zip(axes[0], TELESCOPES, strict=True):
        ax.set_title(name)
    return figure


def main(arguments=None):
    parser = argparse.ArgumentParser(description="One galaxy through three PSFs.")
    parser.add_argument("--output", type=Path, default=Path("three_telescopes"))
    parser.add_argument("--n-samples", type=int, default=400)
    parser.add_argument("--max-epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a small run")
    options = parser.parse_args(arguments)
    if options.quick:
        vars(options).update(n_samples=60, max_epochs=1)
    options.output.mkdir(parents=True, exist_ok=True)

    images, expected = make_images(
        train(options.n_samples, options.max_epochs, options.seed)
    )
    table = compare(images, expected)
    print(table.to_string(float_format="{:.3g}".format))
    table.to_csv(options.output / "three_telescopes.csv")
    save(draw(images, expected), options.output / "three_telescopes.png", options.quick)


if __name__ == "__main__":
    mpl.use("Agg")
    main()
