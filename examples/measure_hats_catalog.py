"""
=========================================
Measure the partitions of a HATS catalogue
=========================================

Surveys publish catalogues in the HATS format, divided over the sky. LSDB gives each
partition, a DataFrame, to a function; here it reads the stamps of its rows and measures
them. It needs ``pip install lsdb``. The rows must have a column with the number of
their stamp in the file of stamps.

python examples/measure_hats_catalog.py CATALOGUE STAMPS MODEL OUT [--row COLUMN]
"""

import argparse

import lsdb
import pandas as pd
from distributed import Client

from sklcae import ConditionalAutoencoderRegressor
from sklcae.survey import open_stamps


def measure_partition(rows, model_path, stamps_path, row):
    """Return the rows of a partition with the parameters of their stamps."""
    model = ConditionalAutoencoderRegressor.load(model_path)
    with open_stamps(stamps_path) as stamps:
        y, y_std = model.predict(stamps[rows[row].to_numpy()], return_std=True)
    names = [f"sklcae_{name}" for name in model.target_names_]
    measured = pd.DataFrame(y, columns=names, index=rows.index)
    errors = [f"{name}_err" for name in names]
    return rows.join(
        measured.join(pd.DataFrame(y_std, columns=errors, index=rows.index))
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("catalogue")
    parser.add_argument("stamps")
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--row", default="object_id", help="column with the row")
    parser.add_argument("--scheduler", help="address of a Dask scheduler")
    options = parser.parse_args(arguments)
    catalogue = lsdb.open_catalog(options.catalogue)
    measured = catalogue.map_partitions(
        measure_partition, options.model, options.stamps, options.row
    )
    with Client(options.scheduler or None, threads_per_worker=1):
        measured.write_catalog(options.out)


if __name__ == "__main__":
    main()
