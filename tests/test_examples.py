"""The example scripts run, small, and write what they say. They need --run-slow."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sklcae._torch import NETWORKS

ROOT = Path(__file__).parents[1]
WRITTEN = {
    "plot_paper_results.py": {
        "r2.csv",
        "controlled_cae.csv",
        "sweep_slopes_cae.csv",
        "fig2_cae.png",
        "fig3_cae.png",
        "fig4_cae.png",
        "fig5_pca.png",
    },
    "plot_cae_vs_pca.py": {"cae_vs_pca.csv", "cae_vs_pca.png"},
    "compare_simulation_settings.py": {"simulation_settings.csv"},
    "plot_incomplete_data.py": {
        "masked_pixels.csv",
        "missing_targets.csv",
        "incomplete_data.png",
    },
    "compare_networks.py": {
        "networks_40.csv",
        *(f"{name}_40_1_0.{kind}" for name in NETWORKS for kind in ("part", "sklcae")),
    },
    "plot_closure.py": {
        "closure.csv",
        "reconstruction.csv",
        "closure.png",
        "paper_40_1_0.sklcae",
        "neural_field_pairs_40_1_0.sklcae",
        "neural_field_all_40_1_0.sklcae",
    },
    "plot_uncertainty.py": {
        "coverage_68.csv",
        "coverage_95.csv",
        "mapie_flux_68.csv",
        "mapie_flux_95.csv",
        "unlike.csv",
        "trained_now.png",
    },
    "plot_grid_search_alpha_beta.py": {"alpha_beta.csv", "alpha_beta.png"},
    "compare_with_profile_fitting.py": {
        "measurements.csv",
        "profile_fitting.csv",
        "profile_fitting.md",
        "profile_fitting.png",
    },
}


def run(script, *arguments):
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / script)]
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MPLBACKEND": "agg"},
    )


@pytest.mark.slow
@pytest.mark.parametrize("script", WRITTEN)
def test_quick_example_writes_its_files(script, tmp_path):
    result = run(script, "--quick", "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in tmp_path.iterdir()} == WRITTEN[script]


@pytest.mark.slow
def test_saved_models_are_loaded_and_looked_into(tmp_path):
    """Those of one example by others, and turned."""
    arguments = ("--quick", "--output", tmp_path)
    run("compare_networks.py", *arguments, "--networks", "neural_field")
    (saved,) = tmp_path.glob("*.sklcae")
    (tmp_path / "other.sklcae").write_bytes(saved.read_bytes())
    models = ("--models", saved, tmp_path / "other.sklcae")
    result = run("plot_uncertainty.py", *arguments, *models, "--turned")
    assert result.returncode == 0, result.stderr
    assert "coverage_68%, range" in result.stdout
    assert (tmp_path / "coverage_68_turned.csv").exists()
    (tmp_path / "neural_field.sklcae").write_bytes(saved.read_bytes())
    result = run(
        "compare_with_profile_fitting.py",
        *arguments,
        *("--models", tmp_path, "--only", "PCA, 64", "neural field"),
    )
    assert result.returncode == 0, result.stderr
    assert "neural field: trained" not in result.stdout
    with (tmp_path / "profile_fitting.csv").open() as file:
        methods = {row["method"] for row in csv.DictReader(file)}
    assert methods == {
        "PCA, 64",
        "neural field",
        "neural field, turned",
        "Cramer-Rao bound",
    }


@pytest.mark.slow
def test_quick_run_of_the_paper_says_that_it_is_no_result(tmp_path):
    result = run("plot_paper_results.py", "--quick", "--variants", "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("NOT the paper's") == 2
    assert "galaxies: 100%" in result.stderr
    with (tmp_path / "r2.csv").open() as file:
        table = {row["method"]: row for row in csv.DictReader(file)}
    assert len(table) == 6
    assert table["CAE"]["flux, paper"] == "0.775"
    assert table["PCA, 64 components"]["radius, paper"] == "0.137"


def test_every_example_is_tested():
    scripts = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert scripts == set(WRITTEN)


def test_ten_lines_of_the_readme_run():
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    exec(compile(block[1], "README.md", "exec"), {})


def test_readme_has_exactly_two_set_up_commands():
    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^pip install .*&& python .*$", text, re.M)
    assert len(commands) == 2
    assert "examples/plot_paper_results.py" in commands[0]
    assert commands[1].endswith("python -m pytest")
