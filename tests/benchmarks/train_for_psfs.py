"""Train the recommended network for stamps with PSFs of their own, and save it.

    PYTHONPATH=. python tests/benchmarks/train_for_psfs.py --max-epochs 200 model.sklcae

The 10,000 stamps are those of ``profile_fits.py --psf mixed``, with other seeds; the
galaxies are new in every epoch. ``--psf one --fwhm 0.9`` trains a specialist for one
PSF, and ``--sky 0.3`` simulates a background left over, in units of the noise.
``profile_fits.py --estimator model.sklcae --one-pass`` scores the model.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from profile_fits import MIXED, NAMES, PIXEL_SCALE, PLANES, PSF_FWHM, STAMPS

from sklcae import ConditionalAutoencoderRegressor
from sklcae.datasets import make_galaxies

SEED = 1000


def simulate(n, psf, fwhm):
    """Return stamps with all planes, and their parameters."""
    settings = STAMPS | {"return_X_y": True}
    if psf == "one":
        return make_galaxies(n, psf_fwhm=fwhm, random_state=SEED, **settings)
    parts = [
        make_galaxies(n // 2, psf=kind, random_state=SEED + i, **settings, **MIXED)
        for i, kind in enumerate(("gaussian", "moffat"))
    ]
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


def main():
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--psf", choices=["one", "mixed"], default="mixed")
    parser.add_argument("--fwhm", type=float, default=PSF_FWHM, help="in arcsec")
    parser.add_argument("--max-epochs", type=int, default=200)
    parser.add_argument("--sky", type=float, default=0.0, help="background left")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    X, y = simulate(options.n, options.psf, options.fwhm)
    model = ConditionalAutoencoderRegressor.recommended(
        planes=PLANES,
        pixel_scale=PIXEL_SCALE,
        target_names=NAMES,
        max_epochs=options.max_epochs,
        simulated_sky=options.sky,
        random_state=options.seed,
        verbose=1,
    )
    start, used = time.perf_counter(), time.process_time()
    model.fit(X, y)
    wall, core = time.perf_counter() - start, time.process_time() - used
    print(f"{wall / 60:.1f} minutes, {core / 60:.1f} core-minutes")
    model.save(options.output)


if __name__ == "__main__":
    main()
