"""
====================================================
A grid search over alpha and beta on a Dask cluster
====================================================

joblib sends the fits of scikit-learn to a Dask cluster. sklcae has no part in it: the
estimator is pickled to the workers, and each fit has the seed of its parameters. So the
scores are bitwise those of the search in one process, which this script checks.

The cluster here are processes of this machine. For another one pass the address of its
scheduler, for example of a cluster that dask-jobqueue started on Slurm.
"""

import argparse

import joblib
import numpy as np
import pandas as pd
from distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV, KFold

from sklcae import ConditionalAutoencoderRegressor
from sklcae.datasets import make_galaxies


def make_search(max_epochs):
    return GridSearchCV(
        ConditionalAutoencoderRegressor(
            network="strided", stretch="asinh", max_epochs=max_epochs, random_state=0
        ),
        {"alpha": [0.1, 1.0], "beta": [0.0, 1e-4]},
        cv=KFold(2, shuffle=True, random_state=0),
        scoring="r2",
        # One fit for each thread of the cluster.
        n_jobs=-1,
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("--scheduler", help="address of a Dask scheduler")
    parser.add_argument("--n-samples", type=int, default=1000)
    parser.add_argument("--max-epochs", type=int, default=10)
    options = parser.parse_args(arguments)
    X, y = make_galaxies(options.n_samples, image_shape=(32, 32), random_state=0)

    cluster = options.scheduler or LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    )
    with Client(cluster), joblib.parallel_config("dask"):
        on_cluster = make_search(options.max_epochs).fit(X, y)
    if not options.scheduler:
        cluster.close()

    here = make_search(options.max_epochs).set_params(n_jobs=1).fit(X, y)
    scores = [search.cv_results_["mean_test_score"] for search in (on_cluster, here)]
    print(pd.DataFrame(here.cv_results_["params"]).assign(r2=scores[0]))
    same = np.array_equal(*scores)
    print("bitwise the scores of one process:", same)
    return same


if __name__ == "__main__":
    main()
