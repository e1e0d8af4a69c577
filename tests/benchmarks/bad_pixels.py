"""R2 of the recommended settings with one bad pixel, or one star, in training.

    python tests/benchmarks/bad_pixels.py [--max-epochs 15] [--values clean star ...]

A value is that of one pixel in one of 1,000 stamps; "star" adds a star of 1e7 ADU to
this stamp, and "without" leaves the stamp out. The scores belong to 500 clean stamps.
"""

import argparse
import warnings

import numpy as np
import pandas as pd
from records import Record, add_option
from sklearn.metrics import r2_score

from sklcae import ConditionalAutoencoderRegressor
from sklcae.datasets import make_galaxies

NAMES = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
STAMPS = {"image_shape": (32, 32), "pixel_scale": 0.4}
VALUES = ["clean", "without", "star", "1e6", "-1000000", "-9999", "-999", "-99"]


def spoil(X, value):
    X = X.copy()
    if value == "star":
        star = make_galaxies(
            1,
            flux=1e7,
            half_light_radius=0.3,
            x0=20.0,
            y0=12.0,
            random_state=0,
            **STAMPS,
        )
        X[123] += star[0][0]
    elif value not in ("clean", "without"):
        X[123, 77] = float(value)
    return X


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--values", nargs="+", default=VALUES)
    add_option(parser)
    options, record = parser.parse_args(), Record()
    X, y = make_galaxies(1000, targets=NAMES, random_state=10, **STAMPS)
    X_test, y_test = make_galaxies(500, targets=NAMES, random_state=11, **STAMPS)
    for value in options.values:
        rows = np.arange(1000) != 123 if value == "without" else slice(None)
        model = ConditionalAutoencoderRegressor.recommended(
            target_names=NAMES, max_epochs=options.max_epochs, random_state=options.seed
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(spoil(X, value)[rows], y[rows])
            r2 = r2_score(y_test, model.predict(X_test), multioutput="raw_values")
        warned = any("far beyond" in str(one.message) for one in caught)
        print(value, r2.round(3).tolist(), "warned" if warned else "", flush=True)
        row = {"value": value, **dict(zip(NAMES, r2, strict=True)), "warned": warned}
        record.add("R2", pd.DataFrame([row]))
    record.write(options.json)


if __name__ == "__main__":
    main()
