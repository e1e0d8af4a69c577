"""
=====================================
A grid search over alpha and beta
=====================================

The two weights of Eq. 2 of the paper are parameters of the estimator, so scikit-learn's
GridSearchCV can search them, here inside a Pipeline. With small stamps and few epochs
the script takes some minutes.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from _figures import save
from matplotlib.figure import Figure
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from sklcae import ConditionalAutoencoderRegressor
from sklcae.datasets import make_galaxies

ALPHAS = [0.01, 0.1, 1.0, 10.0]
BETAS = [0.0, 1e-4, 1e-2]
BORDER = 4

# %%
# The first step of the Pipeline cuts the border off stamps of 32 x 32 pixels. It shows
# that the estimator takes images of shape (n, H, W) from the previous step.


def cut_border(X):
    stamps = X.reshape(-1, 32, 32)
    return stamps[:, BORDER:-BORDER, BORDER:-BORDER]


def make_search(max_epochs, n_jobs):
    pipeline = Pipeline(
        [
            ("cut", FunctionTransformer(cut_border)),
            (
                "cae",
                ConditionalAutoencoderRegressor(
                    stretch="asinh", max_epochs=max_epochs, random_state=0
                ),
            ),
        ]
    )
    return GridSearchCV(
        pipeline,
        {"cae__alpha": ALPHAS, "cae__beta": BETAS},
        cv=KFold(3, shuffle=True, random_state=0),
        scoring="r2",
        n_jobs=n_jobs,
        verbose=1,
    )


# %%
# The result as a table, one row for each alpha, and as a heat map.


def tabulate(search):
    results = pd.DataFrame(search.cv_results_)
    return results.pivot_table(
        "mean_test_score", "param_cae__alpha", "param_cae__beta"
    ).rename_axis(index="alpha", columns="beta")


def draw(table):
    figure = Figure(figsize=(5, 4), layout="constrained")
    ax = figure.subplots()
    artist = ax.imshow(table, cmap="viridis")
    figure.colorbar(artist, label="cross-validated $R^2$, mean of both targets")
    ax.set(
        xlabel=r"weight of the regularization, $\beta$",
        ylabel=r"weight of the physical loss, $\alpha$",
    )
    ax.set_xticks(range(len(table.columns)), [f"{beta:g}" for beta in table.columns])
    ax.set_yticks(range(len(table.index)), [f"{alpha:g}" for alpha in table.index])
    middle = table.to_numpy().mean()
    for (row, column), score in pd.DataFrame(table.to_numpy()).stack().items():
        color = "black" if score > middle else "white"
        ax.text(column, row, f"{score:.3f}", ha="center", va="center", color=color)
    return figure


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Search alpha and beta of Eq. 2.")
    parser.add_argument("--output", type=Path, default=Path("grid_search"))
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a small run")
    options = parser.parse_args(arguments)
    n_samples, max_epochs = (60, 2) if options.quick else (300, 25)
    options.output.mkdir(parents=True, exist_ok=True)

    X, y = make_galaxies(
        n_samples, image_shape=(32, 32), x0=(10, 22), y0=(10, 22), random_state=0
    )
    search = make_search(max_epochs, options.n_jobs).fit(X, y)
    table = tabulate(search)
    print(table.round(3).to_string())
    print(f"Best: {search.best_params_}, R2 {search.best_score_:.3f}")
    table.to_csv(options.output / "alpha_beta.csv")
    save(draw(table), options.output / "alpha_beta.png", options.quick)
    print(f"Wrote alpha_beta.csv to {options.output}")


if __name__ == "__main__":
    mpl.use("Agg")
    main()
