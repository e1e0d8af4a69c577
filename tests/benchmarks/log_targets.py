"""Scores of the recommended settings with and without logarithms of the targets.

python tests/benchmarks/log_targets.py [--seeds 0 1] [--max-epochs 12]
"""

import argparse

from sklearn.metrics import r2_score

from sklcae import ConditionalAutoencoderRegressor
from sklcae.datasets import cramer_rao_bound, make_galaxies
from sklcae.metrics import scores_by_signal_to_noise

NAMES = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
STAMPS = {"image_shape": (32, 32), "pixel_scale": 0.4, "targets": NAMES}
LOGARITHMS = {"none": None, "flux, radius": NAMES[:2], "and index": NAMES[:3]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--max-epochs", type=int, default=12)
    options = parser.parse_args()
    test = make_galaxies(1000, random_state=99, return_X_y=False, **STAMPS)
    bound = cramer_rao_bound(test, n_jobs=-1)
    for seed in options.seeds:
        X, y = make_galaxies(1500, random_state=seed, **STAMPS)
        for name, log_targets in LOGARITHMS.items():
            model = ConditionalAutoencoderRegressor.recommended(
                target_names=NAMES,
                log_targets=log_targets,
                max_epochs=options.max_epochs,
                random_state=seed,
            ).fit(X, y)
            report(f"seed {seed}, logarithms: {name}", model, test, bound)


def report(title, model, test, bound):
    y_pred = model.predict(test.data)
    lower, upper = model.predict_interval(test.data)
    r2 = r2_score(test.target, y_pred, multioutput="raw_values")
    inside = (lower < test.target) & (test.target < upper)
    print(title)
    print("R2", r2.round(3), "inside 68 % intervals", inside.mean(axis=0).round(2))
    print("smallest", y_pred.min(axis=0).round(2))
    table = scores_by_signal_to_noise(
        test.target,
        y_pred,
        bound.signal_to_noise,
        bins=4,
        variance=bound.variance,
        target_names=NAMES,
    )
    table["over_best"] = table["dispersion"] / table["best_dispersion"]
    table = table[table["target"].isin(NAMES[:3])]
    columns = ["median_bias", "dispersion", "over_best"]
    print(
        table.pivot(index="low", columns="target", values=columns).round(3).to_string()
    )
    print(flush=True)


if __name__ == "__main__":
    main()
