"""Train the model "ground" of `load_pretrained`, and save it into the package.

    PYTHONPATH=. python tests/benchmarks/train_ground.py sklcae/weights/ground.sklcae

It took 50 minutes on 2 cores, which other work shared. The record of the training is
written beside the model, as ``ground.log``. The stamps have planes like those of
ground-based surveys, in pixels of 0.2 arcsec and electrons; every step simulates new
galaxies on them, with neighbours and a background left over. ``crowded.py --model
ground`` scores the result.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import loguniform

from sklcae import ConditionalAutoencoderRegressor
from sklcae._novelty import Reference, evenly_spaced
from sklcae.datasets import make_galaxies

NAMES = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
PLANES = ("image", "variance", "psf")
SEED, N_REFERENCE = 2026, 300
STAMPS = {
    "flux": loguniform(300.0, 1e6),
    "half_light_radius": loguniform(0.2, 5.0),
    "sersic_index": (0.5, 4.0),
    "ellipticity": (0.0, 0.7),
    "x0": (28.0, 36.0),
    "y0": (28.0, 36.0),
    "sky_level": loguniform(3.0, 2000.0),
    "psf_fwhm": (0.36, 1.54),
    "psf_ellipticity": (0.0, 0.12),
    "psf_position_angle": (0.0, 180.0),
    "moffat_beta": (2.2, 5.0),
    "targets": NAMES,
    "planes": PLANES,
    "n_jobs": -1,
}
SKY = {"simulated_neighbours": 1.0, "simulated_sky": 0.3}


def simulate(n):
    """Return stamps with Gaussian and Moffat PSFs, and their parameters."""
    parts = [
        make_galaxies(n // 2, psf=psf, random_state=SEED + i, **STAMPS)
        for i, psf in enumerate(("gaussian", "moffat"))
    ]
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


def thin(model):
    """Keep fewer descriptions of the training set, so that the file is small."""
    codec, reference = model.codec_, model.codec_.reference
    kept = {
        name: evenly_spaced(values, N_REFERENCE)
        for name, values in reference.to_state().items()
    }
    reference = Reference(reference.n_targets, **kept)
    model.codec_ = replace(codec, reference=reference)
    return model


def main():
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--n", type=int, default=16_000)
    parser.add_argument("--max-epochs", type=int, default=90)
    options = parser.parse_args()
    X, y = simulate(options.n)
    model = ConditionalAutoencoderRegressor.recommended(
        planes=PLANES,
        pixel_scale=0.2,
        target_names=NAMES,
        latent_dim=len(NAMES) + 1,
        max_epochs=options.max_epochs,
        random_state=SEED,
        verbose=1,
        **SKY,
    )
    start, used = time.perf_counter(), time.process_time()
    model.fit(X, y)
    wall, core = time.perf_counter() - start, time.process_time() - used
    thin(model).save(options.output)
    lines = [f"{options.n} stamps, {options.max_epochs} epochs, seed {SEED}"]
    lines += [f"{wall / 60:.1f} minutes, {core / 60:.1f} core-minutes"]
    lines += [
        f"epoch {epoch}: physical loss {loss:.4f}"
        for epoch, loss in zip(
            model.history_["epoch"], model.history_["physical_loss"], strict=True
        )
    ]
    options.output.with_suffix(".log").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
