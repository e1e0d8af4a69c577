"""
=================================
A grid search over alpha and beta
=================================

Which weights of the physical loss and of the regularization are best? The two weights
of Eq. 2 of the paper are parameters of the estimator, so that scikit-learn's
GridSearchCV can search them, here inside a Pipeline.
"""

import warnings

import matplotlib.pyplot as plt
import pandas as pd
from _figures import use_style
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from sklcae import ConditionalAutoencoderRegressor
from sklcae.datasets import make_galaxies

use_style()

# %%
# A Pipeline
# ----------
# Its first step cuts the border off stamps of 32 x 32 pixels. The estimator takes
# images of shape (n, H, W) from this step.

BORDER = 4


def cut_border(X):
    stamps = X.reshape(-1, 32, 32)
    return stamps[:, BORDER:-BORDER, BORDER:-BORDER]


pipeline = Pipeline(
    [
        ("cut", FunctionTransformer(cut_border)),
        (
            "cae",
            ConditionalAutoencoderRegressor(
                stretch="asinh", batch_size=16, lr=3e-3, max_epochs=6, random_state=0
            ),
        ),
    ]
)

# %%
# The search
# ----------
# Nine combinations, each trained and scored on two halves of 300 galaxies. The
# trainings are short, so that the page is made in a minute: take the way of the search
# from here, and not the best values. Where alpha is too small, the training warns that
# it has hardly learned the targets.

warnings.simplefilter("ignore", ConvergenceWarning)
X, y = make_galaxies(
    300,
    image_shape=(32, 32),
    pixel_scale=0.4,
    half_light_radius=(0.3, 3.0),
    x0=(14.0, 18.0),
    y0=(14.0, 18.0),
    random_state=0,
)
search = GridSearchCV(
    pipeline,
    {"cae__alpha": [0.01, 1.0, 100.0], "cae__beta": [0.0, 1e-3, 1e-1]},
    cv=KFold(2, shuffle=True, random_state=0),
    scoring="r2",
)
search.fit(X, y)
print(f"Best: {search.best_params_}, R2 {search.best_score_:.2f}")

# %%
# The result
# ----------
# Each cell is the mean R2 of flux and radius over both halves. The smallest alpha is
# too small. Between the others, and between the values of beta, there is hardly a
# difference.

results = pd.DataFrame(search.cv_results_)
table = results.pivot_table("mean_test_score", "param_cae__alpha", "param_cae__beta")

figure, ax = plt.subplots(figsize=(5.5, 4.2))
artist = ax.imshow(table, cmap="viridis", origin="upper")
figure.colorbar(artist, label="cross-validated $R^2$")
ax.set(
    xlabel=r"weight of the regularization, $\beta$",
    ylabel=r"weight of the physical loss, $\alpha$",
)
ax.set_xticks(range(len(table.columns)), [f"{beta:g}" for beta in table.columns])
ax.set_yticks(range(len(table.index)), [f"{alpha:g}" for alpha in table.index])
middle = (table.to_numpy().min() + table.to_numpy().max()) / 2
for row, scores in enumerate(table.to_numpy()):
    for column, score in enumerate(scores):
        color = "black" if score > middle else "white"
        ax.text(column, row, f"{score:.2f}", ha="center", va="center", color=color)
plt.show()

# %%
# :ref:`loss` describes the terms that the weights belong to.
# ``grid_search_on_a_cluster.py`` in the folder of the examples runs a search on the
# workers of Dask.
