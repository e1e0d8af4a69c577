"""The best possible R2 of galaxies of Table 1, from the Cramer-Rao bound.

    python tests/benchmarks/best_scores.py [--n 2000]

"uncertainty" is the standard deviation over samples of the galaxies drawn with
replacement.
"""

import argparse

import numpy as np
import pandas as pd
from records import Record, add_option

from sklcae.datasets import cramer_rao_bound, make_galaxies
from sklcae.metrics import best_r2

NAMES = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
N_DRAWS = 200


def simulate(n, seed=1):
    """Return galaxies and the variance of each target at the bound."""
    galaxies = make_galaxies(n, targets=NAMES, random_state=seed, return_X_y=False)
    return galaxies.target, cramer_rao_bound(galaxies, targets=NAMES).variance


def score(y, variance):
    """Return the best R2 of each target."""
    return best_r2(y, variance, multioutput="raw_values")


def main():
    """Print and record the scores."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=2000)
    add_option(parser)
    options = parser.parse_args()
    record, rng = Record(), np.random.default_rng(0)
    y, variance = simulate(options.n)
    draws = rng.integers(options.n, size=(N_DRAWS, options.n))
    spread = np.std([score(y[rows], variance[rows]) for rows in draws], axis=0)
    columns = {"of": NAMES, "best R2": score(y, variance), "uncertainty": spread}
    table = pd.DataFrame(columns)
    print(table.round(4).to_string(index=False))
    record.add("scores", table)
    record.write(options.json)


if __name__ == "__main__":
    main()
