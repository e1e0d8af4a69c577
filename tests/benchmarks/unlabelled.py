"""How much 2,000 stamps without labels add to 100 with labels.

    PYTHONPATH=. python tests/benchmarks/unlabelled.py

The stamps are those of ``profile_fits.py --psf mixed``, each with a PSF of its own. The
"sersic" network is trained on 100 labelled stamps, on these and 2,000 without labels,
and on 2,100 labelled ones. Chi-square through the PSF teaches from the stamps without
labels. The last row is the recommended simulation from the 100 labelled stamps alone.

Columns: R2 and dispersion over the bound of each target, on 1,000 other stamps. "share"
is the share of the gap, from 100 to 2,100 labelled stamps, that is closed: of the mean
R2, and of the mean logarithm of the dispersion.
"""

import argparse
import time

import numpy as np
import pandas as pd
from profile_fits import (
    ERRORS,
    NAMES,
    PIXEL_SCALE,
    PLANES,
    median_error,
    simulate,
)
from records import Record, add_option
from sklearn.metrics import r2_score

from sklcae import ConditionalAutoencoderRegressor
from sklcae.metrics import dispersion

N_LABELLED, N_UNLABELLED, N_TEST = 100, 2000, 1000
SEED = 500


def make_model(options, **changed):
    """Return the recommended estimator with some settings changed."""
    settings = {
        "planes": PLANES,
        "pixel_scale": PIXEL_SCALE,
        "target_names": NAMES,
        # One coefficient of shapelets: these galaxies have none.
        "latent_dim": len(NAMES) + 1,
        "random_state": options.seed,
    }
    return ConditionalAutoencoderRegressor.recommended(**settings | changed)


def models_of(X, y, options):
    """Yield name, model, X and y of each training."""
    some = np.full_like(y, np.nan)
    some[:N_LABELLED] = y[:N_LABELLED]
    n_steps = options.max_epochs * len(X)
    for name, X_train, y_train in [
        ("100 labelled", X[:N_LABELLED], y[:N_LABELLED]),
        ("100 labelled, 2,000 not", X, some),
        ("2,100 labelled", X, y),
    ]:
        # As many stamps in all; a few labelled ones are learned by heart before.
        epochs = min(n_steps // len(X_train), options.most_epochs)
        settings = {"augmentation": "dihedral", "max_epochs": epochs}
        settings["alpha"] = options.alpha
        yield name, make_model(options, **settings), X_train, y_train
    epochs = n_steps // N_LABELLED
    model = make_model(options, max_epochs=epochs)
    yield "100 labelled, simulation", model, X[:N_LABELLED], y[:N_LABELLED]


def score(model, test):
    """Return R2 and dispersion over the bound of each target."""
    y = model.predict(test.X)
    known = np.isfinite(y).all(axis=1)
    kinds = {"errors": ERRORS, "multioutput": "raw_values"}
    over = dispersion(test.y[known], y[known], **kinds)
    over /= median_error(test.y, test.fixed)
    return r2_score(test.y[known], y[known], multioutput="raw_values"), over


def main():
    """Train and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alpha", type=float, default=0.01)
    parser.add_argument("--max-epochs", type=int, default=40, help="of 2,100 stamps")
    parser.add_argument("--most-epochs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    add_option(parser)
    options = parser.parse_args()
    record = Record()
    train = simulate(N_LABELLED + N_UNLABELLED, "mixed", 0, SEED)
    order = np.random.default_rng(0).permutation(len(train.X))
    X, y = train.X[order], train.y[order]
    test = simulate(N_TEST, "mixed", 0, 77)
    results = {}
    for name, model, X_train, y_train in models_of(X, y, options):
        start = time.perf_counter()
        r2, over = score(model.fit(X_train, y_train), test)
        results[name] = r2.mean(), np.log(over).mean()
        print(f"\n{name}: {(time.perf_counter() - start) / 60:.1f} minutes")
        table = pd.DataFrame({"R2": r2, "over the bound": over}, index=NAMES)
        print(table.round(3).T.to_string(), flush=True)
        record.add("scores", table.rename_axis("of").reset_index().assign(trained=name))
    low, middle, high, simulated = map(np.array, results.values())
    for name, reached in (("2,000 unlabelled", middle), ("simulation", simulated)):
        share = (reached - low) / (high - low)
        print(f"\n{name}: share {share[0]:.2f} of R2, {share[1]:.2f} of dispersion")
        row = {"trained": name, "of R2": share[0], "of dispersion": share[1]}
        record.add("shares", pd.DataFrame([row]))
    record.write(options.json)


if __name__ == "__main__":
    main()
