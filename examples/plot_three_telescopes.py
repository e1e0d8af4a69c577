"""
============================
One galaxy, three telescopes
============================

How does one galaxy look through a sharp, an elliptical and a wide PSF? The decoder of
``network="sersic"`` is a Sersic profile, convolved with the PSF of each stamp. Flux,
radius, index, ellipticity and position are latents, and the telescope is not among
them. One model therefore makes the same galaxy as three telescopes see it.
"""

import galsim
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _figures import add_light_bar, show_signed, show_stamps, use_style

from sklcae import load_pretrained

use_style()

# %%
# The telescopes
# --------------
# The effective PSF is drawn at the pixels of the stamps, with the response of the
# pixel, and its centre is in the middle pixel.

PIXEL_SCALE, SIDE = 0.2, 64
telescopes = {
    "Gaussian, 0.5 arcsec": galsim.Gaussian(fwhm=0.5),
    "elliptical Moffat, 0.8 arcsec": galsim.Moffat(beta=3.5, fwhm=0.8).shear(
        e=0.15, beta=120 * galsim.degrees
    ),
    "Gaussian, 1.2 arcsec": galsim.Gaussian(fwhm=1.2),
}


def effective_psf(psf):
    side = SIDE - 1
    return psf.drawImage(nx=side, ny=side, scale=PIXEL_SCALE, dtype=float).array


psfs = np.stack([effective_psf(psf) for psf in telescopes.values()])

# %%
# The images
# ----------
# ``generate`` takes the parameters, and the PSF of each image.

galaxy = {
    "flux": 20_000.0,
    "half_light_radius": 1.5,
    "sersic_index": 2.5,
    "e1": 0.3,
    "e2": 0.25,
    "x0": 32.0,
    "y0": 32.0,
}
model = load_pretrained("ground")
wanted = np.tile([galaxy[name] for name in model.target_names_], (len(psfs), 1))
images = model.generate(wanted, psf=psfs, random_state=0)[:, 0]

# %%
# The same galaxy by GalSim
# -------------------------
# The difference is largest for the sharpest PSF, 2.5 pixels wide: the pixels do not
# sample its highest frequencies.


def draw_with_galsim(psf):
    profile = galsim.Sersic(
        galaxy["sersic_index"],
        half_light_radius=galaxy["half_light_radius"],
        flux=galaxy["flux"],
    ).shear(e1=galaxy["e1"], e2=galaxy["e2"])
    image = galsim.ImageD(SIDE, SIDE, scale=PIXEL_SCALE)
    # GalSim calls the centre of the first pixel 1.
    center = galsim.PositionD(galaxy["x0"] + 0.5, galaxy["y0"] + 0.5)
    return galsim.Convolve(profile, psf).drawImage(image, center=center).array


expected = np.stack([draw_with_galsim(psf) for psf in telescopes.values()])
peak = expected.max(axis=(1, 2))
largest = np.abs(images - expected).max(axis=(1, 2))
table = pd.DataFrame(
    {
        "brightest pixel [ADU]": peak,
        "largest difference [ADU]": largest,
        "largest difference [%]": 100 * largest / peak,
    },
    index=pd.Index(telescopes, name="PSF"),
)
table.style.format("{:.2g}").format("{:.0f}", subset="brightest pixel [ADU]")

# %%
# The picture
# -----------
# The upper rows have one brightness scale. The wider the PSF, the fainter the core. The
# last row is the difference, in millionths of the brightest pixel of each image. With
# the two wider PSFs hardly any of it is visible.

residuals = 1e6 * (images - expected) / peak[:, None, None]
figure, axes = plt.subplots(3, len(images), figsize=(8, 7), layout="compressed")
for row, drawn, label in zip(
    axes, (images, expected), ("sklcae", "GalSim"), strict=False
):
    artist = show_stamps(row, drawn, (0, expected.max()))
    row[0].set_ylabel(label)
add_light_bar(artist, axes[:2])
artist = show_signed(axes[2], residuals, limit=np.abs(residuals).max())
axes[2, 0].set_ylabel("sklcae - GalSim")
figure.colorbar(artist, ax=axes[2], label="millionths")
for ax, name in zip(axes[0], telescopes, strict=True):
    ax.set_title(name.replace(", ", "\n"))
plt.show()

# %%
# The model was trained on Gaussian and Moffat PSFs. For the images this does not
# matter, because nothing in the decoder is learned. :ref:`telescope` describes the
# decoder.
