"""Draw the pictures of the first pages: python docs/pictures.py."""

import os
import re
import tempfile
import textwrap
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from PIL import Image

from sklcae import load_pretrained, stack_planes
from sklcae.datasets import make_galaxies

DOCS = Path(__file__).parent
PICTURES = DOCS / "_static"
N_GALAXIES = 6
# Grey and these two can be read on white and on black, and by the colour-blind.
GREY, TRUE, READ = "#7d7d7d", "#d55e00", "#1f83c2"
LABEL = {"rotation": 0, "ha": "right", "va": "center", "labelpad": 12}
ROWS = {
    "flux": ("flux\n1,000 ADU", 1e-3),
    "half_light_radius": ("radius\narcsec", 1.0),
    "sersic_index": ("Sersic\nindex", 1.0),
}


def read_galaxies():
    """Return the simulated galaxies, what is read, its errors and decoded images."""
    model = load_pretrained("ground")
    sky = make_galaxies(
        N_GALAXIES,
        planes=model.planes,
        targets=model.target_names_,
        flux=(10_000.0, 40_000.0),
        half_light_radius=(0.6, 2.0),
        ellipticity=(0.2, 0.7),
        x0=32.0,
        y0=32.0,
        neighbours=1,
        random_state=3,
        return_X_y=False,
    )
    X = stack_planes(sky.images, variance=sky.variance_images, psf=sky.psf_images)
    y, y_std = model.predict(X, return_std=True)
    return sky, y, y_std, model.generate(y, psf=sky.psf_images)[:, 0]


def draw(sky, y, y_std, decoded):
    """Return the figure: stamps, decoded images, and parameters below each."""
    figure = Figure(figsize=(7.2, 5.5), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    heights = [1, 1] + [0.62] * len(ROWS)
    grid = figure.add_gridspec(len(heights), N_GALAXIES, height_ratios=heights)
    noise = np.median(np.sqrt(sky.variance_images))
    norm = AsinhNorm(2 * noise, vmin=-2 * noise, vmax=300 * noise)
    for row, (name, images) in enumerate(
        {"stamp": sky.images, "decoder": decoded}.items()
    ):
        for column, image in enumerate(images):
            ax = figure.add_subplot(grid[row, column])
            ax.imshow(image, origin="lower", cmap="inferno", norm=norm)
            ax.set(xticks=[], yticks=[])
            if column == 0:
                ax.set_ylabel(name, **LABEL)
    columns = np.arange(N_GALAXIES)
    for row, (name, (label, unit)) in enumerate(ROWS.items(), start=2):
        ax = figure.add_subplot(grid[row, :], facecolor="none")
        target = list(sky.target_names).index(name)
        true, read, error = (part[:, target] * unit for part in (sky.target, y, y_std))
        ax.hlines(true, columns - 0.18, columns + 0.18, color=TRUE, lw=2.5)
        ax.errorbar(columns, read, error, fmt="o", color=READ, ms=5, capsize=4, lw=2)
        ax.set(xticks=[], xlim=(-0.5, N_GALAXIES - 0.5))
        ax.set_ylabel(label, **LABEL)
        ax.set_ylim(0, 1.12 * max((read + error).max(), true.max()))
        ax.spines[["top", "right", "bottom"]].set_visible(False)
        ax.axhline(0, color=GREY, lw=0.8)
    handles = [
        mpl.lines.Line2D([], [], color=TRUE, lw=2.5, label="true"),
        mpl.lines.Line2D([], [], color=READ, marker="o", lw=2, label="read ± error"),
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=2, frameon=False)
    return figure


def draw_catalogue():
    """Run the page that measures an image, which draws catalogue.png."""
    page = (DOCS / "start" / "image_to_catalogue.rst").read_text()
    blocks = re.findall(r"code-block:: python\n\n((?:    .*\n|\n)+)", page)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        exec("".join(map(textwrap.dedent, blocks)), {})
        # Few colours, for a small file.
        Image.open("catalogue.png").quantize(256).save(PICTURES / "catalogue.png")
        os.chdir(DOCS)


if __name__ == "__main__":
    mpl.use("agg")
    draw_catalogue()
    grey = ("text.color", "axes.labelcolor", "axes.edgecolor", "ytick.color")
    with mpl.rc_context({**dict.fromkeys(grey, GREY), "font.size": 12}):
        figure = draw(*read_galaxies())
        path, options = PICTURES / "landing.webp", {"quality": 92}
        figure.savefig(path, dpi=120, transparent=True, pil_kwargs=options)
