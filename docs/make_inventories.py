"""Make the inventories of other projects: python docs/make_inventories.py.

Sphinx links a name such as ``astropy.table.Table`` to the documentation of its project
if an inventory has the name. The inventories of the projects are megabytes and would be
downloaded in every build. These have only the names that our pages use, and are in the
repository. A name that a page needs in addition goes into ``PROJECTS``.
"""

import zlib
from pathlib import Path

FOLDER = Path(__file__).parent / "_inventories"
# For each project its address, and for each pattern of a page the names on such pages.
PROJECTS = {
    "python": (
        "https://docs.python.org/3/",
        {
            "library/os.html#{}": ["os.PathLike"],
            "library/pathlib.html#{}": ["pathlib.Path"],
            "library/pickle.html#module-{}": ["pickle"],
            "library/exceptions.html#{}": ["KeyboardInterrupt", "UserWarning"],
        },
    ),
    "numpy": (
        "https://numpy.org/doc/stable/",
        {
            "reference/generated/{0}.html#{0}": [
                "numpy.load",
                "numpy.ndarray",
                "numpy.repeat",
                "numpy.save",
            ],
            "reference/maskedarray.baseclass.html#{}": ["numpy.ma.MaskedArray"],
            "reference/random/legacy.html#{}": ["numpy.random.RandomState"],
            "reference/random/generator.html#{}": ["numpy.random.Generator"],
        },
    ),
    "scipy": (
        "https://docs.scipy.org/doc/scipy/",
        {
            "reference/stats.html#module-{}": ["scipy.stats"],
            "reference/generated/{0}.html#{0}": ["scipy.stats.loguniform"],
        },
    ),
    "sklearn": (
        "https://scikit-learn.org/stable/",
        {
            "modules/generated/{0}.html#{0}": [
                "sklearn.base.BaseEstimator",
                "sklearn.base.clone",
                "sklearn.compose.TransformedTargetRegressor",
                "sklearn.decomposition.PCA",
                "sklearn.ensemble.BaggingRegressor",
                "sklearn.ensemble.VotingRegressor",
                "sklearn.exceptions.ConvergenceWarning",
                "sklearn.exceptions.NotFittedError",
                "sklearn.inspection.permutation_importance",
                "sklearn.linear_model.LinearRegression",
                "sklearn.metrics.make_scorer",
                "sklearn.metrics.r2_score",
                "sklearn.model_selection.GridSearchCV",
                "sklearn.model_selection.GroupKFold",
                "sklearn.model_selection.RandomizedSearchCV",
                "sklearn.model_selection.cross_val_predict",
                "sklearn.model_selection.cross_val_score",
                "sklearn.model_selection.cross_validate",
                "sklearn.model_selection.learning_curve",
                "sklearn.model_selection.train_test_split",
                "sklearn.model_selection.validation_curve",
                "sklearn.multioutput.MultiOutputRegressor",
                "sklearn.pipeline.Pipeline",
                "sklearn.pipeline.make_pipeline",
                "sklearn.preprocessing.StandardScaler",
                "sklearn.utils.Bunch",
            ],
        },
    ),
    "astropy": (
        "https://docs.astropy.org/en/stable/",
        {
            "api/{0}.html#{0}": [
                "astropy.coordinates.SkyCoord",
                "astropy.io.fits.Header",
                "astropy.nddata.CCDData",
                "astropy.nddata.NDData",
                "astropy.table.Table",
                "astropy.units.Quantity",
                "astropy.wcs.WCS",
            ],
        },
    ),
    "torch": (
        "https://docs.pytorch.org/docs/stable/",
        {
            "tensors.html#{}": ["torch.Tensor"],
            "generated/{0}.html#{0}": ["torch.Generator", "torch.nn.Module"],
        },
    ),
    "skorch": (
        "https://skorch.readthedocs.io/en/stable/",
        {
            "net.html#skorch.net.NeuralNet": ["skorch.NeuralNet"],
            "callbacks.html#{}": ["skorch.callbacks.Callback"],
        },
    ),
    "galsim": (
        "https://galsim-developers.github.io/GalSim/_build/html/",
        {
            "gal.html#{}": ["galsim.Sersic"],
            "real_gal.html#{}": ["galsim.RealGalaxyCatalog"],
        },
    ),
    "dask": (
        "https://docs.dask.org/en/stable/",
        {
            "generated/{0}.html#{0}": ["dask.array.Array", "dask.array.from_zarr"],
        },
    ),
    "distributed": (
        "https://distributed.dask.org/en/stable/",
        {"api.html#{}": ["distributed.Client", "distributed.LocalCluster"]},
    ),
    "zarr": (
        "https://zarr.readthedocs.io/en/stable/",
        {
            "api/zarr/open/#{}": ["zarr.open"],
            "api/zarr/array/#{}": ["zarr.Array"],
        },
    ),
    "pandas": (
        "https://pandas.pydata.org/docs/",
        {
            "reference/api/{0}.html#{0}": [
                "pandas.DataFrame",
                "pandas.Series",
                "pandas.read_parquet",
            ],
        },
    ),
    "matplotlib": (
        "https://matplotlib.org/stable/",
        {
            "api/_as_gen/{0}.html#{0}": [
                "matplotlib.axes.Axes",
                "matplotlib.axes.Axes.imshow",
                "matplotlib.axes.Axes.plot",
                "matplotlib.axes.Axes.scatter",
                "matplotlib.lines.Line2D",
            ],
            "api/collections_api.html#{}": ["matplotlib.collections.PathCollection"],
            "api/colorbar_api.html#{}": ["matplotlib.colorbar.Colorbar"],
            "api/container_api.html#{}": ["matplotlib.container.ErrorbarContainer"],
            "api/figure_api.html#{}": ["matplotlib.figure.Figure"],
        },
    ),
}
MODULES = ("pickle", "scipy.stats")
EXCEPTIONS = ("Error", "Interrupt", "Warning")


def role_of(name):
    """Return the kind of a name in the Python domain of Sphinx."""
    parent, _, last = name.rpartition(".")
    if name in MODULES:
        return "module"
    if name.endswith(EXCEPTIONS):
        return "exception"
    if last[0].isupper() or last == "ndarray":
        return "class"
    return "method" if parent.rpartition(".")[2][:1].isupper() else "function"


def inventory_of(project):
    """Return the inventory of a project, version 2 of the format of Sphinx."""
    _, patterns = PROJECTS[project]
    lines = sorted(
        f"{name} py:{role_of(name)} 1 {pattern.format(name)} -"
        for pattern, names in patterns.items()
        for name in names
    )
    head = (
        "# Sphinx inventory version 2\n"
        f"# Project: {project}\n"
        "# Version: \n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    return head.encode() + zlib.compress("\n".join([*lines, ""]).encode(), 9)


def classes():
    """Return the full names of all classes of the projects."""
    return [
        name
        for _, patterns in PROJECTS.values()
        for names in patterns.values()
        for name in names
        if role_of(name) in ("class", "exception")
    ]


def main():
    """Write an inventory and its address for each project."""
    FOLDER.mkdir(exist_ok=True)
    for project, (address, _) in PROJECTS.items():
        (FOLDER / f"{project}.inv").write_bytes(inventory_of(project))
        (FOLDER / f"{project}.url").write_text(f"{address}\n")


if __name__ == "__main__":
    main()
