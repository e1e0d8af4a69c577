"""Stamps of surveys and simulated ones in files, and catalogues of their parameters."""

from sklcae.survey._catalog_file import export_fits, read_catalog
from sklcae.survey._predict_catalog import CatalogRun, predict_catalog
from sklcae.survey._simulate import simulate_stamps
from sklcae.survey._stamps import Stamps, open_stamps
from sklcae.survey._verify import verify_catalog

__all__ = [
    "CatalogRun",
    "Stamps",
    "export_fits",
    "open_stamps",
    "predict_catalog",
    "read_catalog",
    "simulate_stamps",
    "verify_catalog",
]
