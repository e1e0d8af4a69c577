"""Imports of the plots."""

import subprocess
import sys

import pytest

CODE = """
import sys, sklcae.inspection, sklcae.metrics, sklcae.baselines
print(sorted({"matplotlib", "torch", "skorch", "galsim"} & set(sys.modules)))
"""


def test_import_loads_no_heavy_package():
    out = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    from sklcae.inspection import ReconstructionDisplay

    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"ReconstructionDisplay.*sklcae\[plot\]"):
        ReconstructionDisplay.from_predictions([[[1.0]]], [[[1.0]]], n_images=1)
