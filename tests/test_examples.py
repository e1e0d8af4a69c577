"""The example scripts run, small, and write what they say. They need --run-slow."""

import csv
import importlib
import os
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

COMPARED = ("paper", "strided", "sersic", "neural_field")

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
        "controlled_shipped_weights.csv",
        "sweep_slopes_shipped_weights.csv",
        *(f"fig{number}_shipped_weights.png" for number in (2, 3, 4)),
    },
    "compare_simulation_settings.py": {"simulation_settings.csv"},
    "incomplete_data_study.py": {
        "masked_pixels.csv",
        "missing_targets.csv",
        "incomplete_data.png",
    },
    "compare_networks.py": {
        "networks_40.csv",
        *(f"{name}_40_1_0.{kind}" for name in COMPARED for kind in ("part", "sklcae")),
    },
    "closure_study.py": {
        "closure.csv",
        "reconstruction.csv",
        "closure.png",
        "paper_40_1_0.sklcae",
        "neural_field_pairs_40_1_0.sklcae",
        "neural_field_all_40_1_0.sklcae",
    },
    "uncertainty_study.py": {
        "coverage_68.csv",
        "coverage_95.csv",
        "mapie_flux_68.csv",
        "mapie_flux_95.csv",
        "unlike.csv",
        "trained_now.png",
    },
    "compare_with_profile_fitting.py": {
        "measurements.csv",
        "profile_fitting.csv",
        "profile_fitting.md",
        "profile_fitting.png",
    },
}


# The pages of the gallery. The build of the documentation runs all of them.
PAGES = {path.name for path in (ROOT / "examples").glob("plot_*.py")}


# Quick runs are too short to learn, and their few galaxies do not cover the range.
CODE = """
import os, runpy, sys, warnings
from sklearn.exceptions import ConvergenceWarning
from sklcae.exceptions import OutsideTrainingWarning

warnings.simplefilter("ignore", ConvergenceWarning)
warnings.simplefilter("ignore", OutsideTrainingWarning)
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(script, *arguments):
    path = str(ROOT / "examples" / script)
    command = [sys.executable, "-W", "error", "-c", CODE, path]
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
    result = run("uncertainty_study.py", *arguments, *models, "--turned")
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
def test_grid_search_on_a_cluster_is_that_of_one_process():
    result = run("grid_search_on_a_cluster.py", "--n-samples", 60, "--max-epochs", 1)
    assert result.returncode == 0, result.stderr
    assert "bitwise the scores of one process: True" in result.stdout


@pytest.fixture
def run_page(import_example, monkeypatch):
    """Run a page of the gallery, and return its variables."""
    monkeypatch.setattr(plt, "show", lambda: None)
    with mpl.rc_context():
        yield lambda script: runpy.run_path(str(ROOT / "examples" / script))
    plt.close("all")


def test_three_telescopes_agree_with_galsim(run_page):
    """As the page says: nothing in the decoder is learned."""
    names = run_page("plot_three_telescopes.py")
    assert len(names["largest"]) == 3
    assert all(names["largest"] < 1e-4 * names["peak"])
    assert len(plt.get_fignums()) == 1


def test_images_follow_the_parameters_as_the_page_says(run_page):
    difference = run_page("plot_set_a_parameter.py")["difference"]
    assert 0 < np.abs(difference).max() < 10


@pytest.mark.slow
def test_loop_closes_as_the_page_says(run_page):
    names = run_page("plot_closed_loop.py")
    ratios = [r for panels in names["ratios"].values() for r in panels.values()]
    assert np.abs(np.array(ratios) - 1).max() < 3e-4


@pytest.mark.slow
def test_error_bars_hold_as_the_page_says(run_page):
    coverage = run_page("plot_error_bars.py")["coverage"]
    assert coverage["profile fit", "68 %"].between(60, 76).all()
    assert coverage["network", "68 %"][["flux", "half_light_radius", "x0"]].min() > 68
    assert coverage["network", "68 %"][["e1", "e2"]].max() < 68


@pytest.mark.slow
def test_neighbours_are_divided_as_the_page_says(run_page):
    ratios = run_page("plot_neighbours.py")["ratios"]
    within = {name: np.mean(np.abs(r - 1) < 0.1) for name, r in ratios.items()}
    assert within["one profile"] < 0.3
    assert within["all sources"] > 0.9


def test_flags_are_those_of_the_defects(run_page):
    flags = run_page("plot_flags.py")["flags"]
    assert not flags.loc["nothing"].any()
    for defect, flag in {
        "a neighbour": "neighbours",
        "a close neighbour": "blended",
        "a cosmic ray": "cosmic_ray",
        "saturation": "saturated",
        "a masked core": "masked",
        "the edge": "edge",
        "a sky left": "sky_off",
        "correlated noise": "correlated_noise",
        "the wrong PSF": "wrong_psf",
        "a spiral": "poor_fit",
    }.items():
        assert flags.loc[defect, flag]
    assert flags.drop(index="nothing").any(axis=1).all()


def test_every_page_has_its_place_in_the_gallery(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    settings = importlib.import_module("gallery_settings")
    assert sorted(settings.EXAMPLES) == sorted(PAGES)
    quick = {
        page
        for page in PAGES
        if settings.quick_run({}, {"src_file": ROOT / "examples" / page})
    }
    assert quick == {"plot_paper_results.py"}
    assert "**Quick run.**" in (ROOT / "examples/plot_paper_results.py").read_text()


@pytest.mark.slow
def test_quick_run_of_the_paper_says_that_it_is_no_result(tmp_path):
    result = run("plot_paper_results.py", "--quick", "--variants", "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("NOT the paper's") == 2
    assert "galaxies: 100%" in result.stderr
    with (tmp_path / "r2.csv").open() as file:
        table = {row["method"]: row for row in csv.DictReader(file)}
    assert len(table) == 8
    shipped = table["Shipped weights, galaxies in the middle"]
    assert float(shipped["flux, 250 fresh"]) > 0.9
    assert table["CAE"]["flux, paper"] == "0.775"
    assert table["PCA, 64 components"]["radius, paper"] == "0.137"


def test_every_example_is_tested():
    scripts = {path.name for path in (ROOT / "examples").glob("[!_]*.py")}
    # One writes no files, and one needs LSDB, which no extra installs.
    others = {"grid_search_on_a_cluster.py", "measure_hats_catalog.py"}
    assert scripts == set(WRITTEN) | set(PAGES) | others


@pytest.fixture
def import_example(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    yield importlib.import_module
    # Other tests must not find the examples under their plain names.
    for path in (ROOT / "examples").glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize(
    ("quick", "texts"),
    [(True, ["quick run: too few galaxies and epochs"]), (False, [])],
)
def test_picture_of_a_quick_run_says_so(import_example, tmp_path, quick, texts):
    figure = Figure(layout="constrained")
    import_example("_figures").save(figure, tmp_path / "figure.png", quick)
    assert [text.get_text() for text in figure.texts] == texts
    assert (tmp_path / "figure.png").exists()


def test_all_pictures_are_written_by_the_function_that_marks_quick_runs():
    for script in WRITTEN:
        text = (ROOT / "examples" / script).read_text()
        assert ".savefig(" not in text
        pictures = any(name.endswith(".png") for name in WRITTEN[script])
        assert pictures == ("from _figures import" in text)


def test_recommended_settings_are_not_spelled_again():
    distinct = ("chi_square", "gaussian_likelihood", "adamw", "one_cycle")
    for script in (*WRITTEN, *PAGES):
        text = (ROOT / "examples" / script).read_text()
        assert not any(f'"{setting}"' in text for setting in distinct)


def sweep_of(flux_ratios, radius_ratios):
    """Return the ratios that are drawn of ten galaxies with the same ratios."""
    ratios = np.tile(flux_ratios, (10, 1)), np.tile(radius_ratios, (10, 1))
    return {"flux": ratios, "half_light_radius": ratios[::-1]}


@pytest.fixture
def closure(import_example):
    return import_example("closure_study")


def markers_of(ax):
    """Return the markers (symbol, y, open or not) of the only curve."""
    lines = [line for line in ax.lines if line.get_marker() != "None"]
    return [
        (line.get_marker(), line.get_ydata().item(), line.get_markerfacecolor())
        for line in lines
    ]


def test_closure_of_a_good_model_has_narrow_axes(closure):
    good = sweep_of(np.linspace(0.98, 1.02, 7), np.ones(7))
    figure = closure.draw({"good": good})
    for ax in figure.axes:
        assert ax.get_ylim() == pytest.approx((0.8, 1.25))
        assert all(marker == "o" for marker, _, _ in markers_of(ax))


def test_closure_marks_points_beyond_the_axes(closure):
    bad = sweep_of([1e6, 50.0, 2.0, 1.0, 0.5, 1e-3, -5.0], np.ones(7))
    ax = closure.draw({"bad": bad}).axes[0]
    assert ax.get_yscale() == "log"
    low, high = ax.get_ylim()
    assert (low, high) == pytest.approx((0.1, 10.0))
    symbols, heights, _ = zip(*markers_of(ax), strict=True)
    assert "".join(symbols) == "^^ooovv"
    np.testing.assert_allclose(heights, [high, high, 2, 1, 0.5, low, low])


def test_closure_shows_steps_that_could_not_be_measured(closure):
    drawn = sweep_of(np.ones(7), np.ones(7))
    radius = drawn["half_light_radius"][0]
    radius[:4, 1] = np.nan
    radius[:, 2] = np.nan
    ax = closure.draw({"paper": drawn}).axes[1]
    faces = [face == "white" for _, _, face in markers_of(ax)]
    assert faces == [False, True, True, False, False, False, False]
    ax.figure.canvas.draw()


def test_closure_has_names_and_units_and_readable_ticks(closure):
    figure = closure.draw({"model": sweep_of(np.ones(7), np.ones(7))})
    figure.canvas.draw()
    left, right, *_ = figure.axes
    assert left.get_xlabel() == "requested flux [ADU]"
    assert right.get_xlabel() == "requested half-light radius [arcsec]"
    assert right.get_ylabel() == "measured half-light radius / GalSim's"
    texts = [text.get_text() for text in left.get_xticklabels()]
    assert texts == ["5,000", "10,000", "20,000", "40,000"]
    assert not any(text.get_text() for text in left.get_xticklabels(minor=True))
