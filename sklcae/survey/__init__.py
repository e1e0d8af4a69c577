"""Stamps and images of surveys, and catalogues of the parameters of their galaxies."""

from sklcae.survey._catalog_file import read_catalog, write_catalog
from sklcae.survey._cutouts import Cutouts, cutouts
from sklcae.survey._detect import detect_sources
from sklcae.survey._measure import measure
from sklcae.survey._predict_catalog import CatalogRun, predict_catalog
from sklcae.survey._simulate import simulate_stamps
from sklcae.survey._stamps import Stamps, open_stamps
from sklcae.survey._verify import verify_catalog

__all__ = [
    "CatalogRun",
    "Cutouts",
    "Stamps",
    "cutouts",
    "detect_sources",
    "measure",
    "open_stamps",
    "predict_catalog",
    "read_catalog",
    "simulate_stamps",
    "verify_catalog",
    "write_catalog",
]
