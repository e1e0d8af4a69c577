"""The results pages: tables are made of records, and quick records hold today."""

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score

from sklcae import load_pretrained
from sklcae.datasets import make_galaxies

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = sorted(RESULTS.glob("*.rst"))
TYPED = re.compile(r"^\.\. (list-table|csv-table|table)::|^=+ +=+", re.M)


def load(name):
    path = RESULTS / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"results_{name}", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # The module adds the benchmarks to the path, which ends with the context.
        patch.syspath_prepend(ROOT / "tests" / "benchmarks")
        spec.loader.exec_module(module)
        # Other tests must not find the benchmarks under their plain names.
        sys.modules.pop("records", None)
    return module


tables, make = load("tables"), load("make")
RECORDS = {path.stem: path for path in sorted(tables.DATA.glob("*.json"))}
SCRIPTS = {path.stem for path in (ROOT / "tests" / "benchmarks").glob("*.py")}
USED = {name for names, *_ in tables.TABLES.values() for name in names}


@pytest.fixture(scope="module")
def import_benchmark():
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tests" / "benchmarks")
        yield importlib.import_module
    for name in SCRIPTS - before:
        sys.modules.pop(name, None)


# Pages, tables and records ------------------------------------------------------------


def test_every_table_is_included_and_made_of_commands():
    text = "\n".join(page.read_text() for page in PAGES)
    included = re.findall(r"^\.\. include:: tables/(\w+)\.rst$", text, re.M)
    assert sorted(included) == sorted(tables.TABLES)
    assert text.count(".. include::") == len(included)
    assert set(make.RUNS) >= USED


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_table_is_typed(page):
    assert not TYPED.search(page.read_text())


@pytest.mark.parametrize("name", RECORDS)
def test_record_is_used_and_complete(name):
    assert name in USED, "docs/results/tables.py makes no table of it"
    record = json.loads(RECORDS[name].read_text())
    assert shlex.split(record["command"]) == shlex.split(make.RUNS[name].command)
    expected = {"command", "version", "date", "processor", "cores", "seconds", "tables"}
    assert set(record) == expected
    assert all(record["tables"].values())


@pytest.mark.parametrize("name", make.RUNS)
def test_commands_have_scripts_with_these_options(name):
    run = make.RUNS[name]
    written = "--output" if run.csv else "--json"
    for command in filter(None, (f"{run.command} {written}", run.first)):
        script, *words = shlex.split(command)
        text = (ROOT / script).read_text()
        if "add_option(parser)" in text:
            text += (ROOT / "tests" / "benchmarks" / "records.py").read_text()
        for word in words:
            assert not word.startswith("--") or f'"{word}"' in text, word


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_table_has_rows_and_the_commands_of_its_records(name):
    names, _ = tables.TABLES[name]
    text = tables.as_text(name)
    assert text.count("   * - ") > 1
    assert "nan" not in text
    for one in names:
        command = f"``python {make.RUNS[one].command}``"
        assert (one if len(names) > tables.MANY else command) in text


def test_table_follows_its_record(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "DATA", tmp_path)
    assert "--run best-scores`` does so" in tables.as_text("best_scores")
    scores = [{"of": "flux", "best R2": 0.12345, "uncertainty": 0.01}]
    record = json.loads(RECORDS["best-scores"].read_text())
    record["tables"] = {"scores": scores}
    (tmp_path / "best-scores.json").write_text(json.dumps(record))
    text = tables.as_text("best_scores")
    assert "   * - flux\n     - 0.123\n     - 0.01\n" in text
    assert f"``python {record['command']}``, {record['date']}" in text


@pytest.mark.parametrize(
    ("median", "to_reach", "shown"),
    [
        (0.9, "0.9", "0.9"),
        (0.845, "0.9", "0.9, missed"),
        (4.8, "below 10", "below 10"),
        (10.0, "below 10", "below 10, missed"),
    ],
)
def test_missed_goals_are_shown(median, to_reach, shown):
    assert tables.goal({"median": median, "to_reach": to_reach}) == shown


def test_missed_goals_of_speed_are_shown():
    rows = tables.Tables("speed")["rows"]
    shown = tables.speed(tables.Tables("speed")).set_index("Task")["Goal"]
    missed = set(rows["work"][rows["reached"].eq(False)])
    assert set(shown.index[shown.str.endswith(", missed")]) == missed


def test_readme_has_the_numbers_of_the_record():
    text = (ROOT / "README.md").read_text()
    cells = [re.split(r" *\| *", line) for line in text.splitlines() if line[:1] == "|"]
    shown = {row[1]: [re.sub("near 0", "0.0", x) for x in row[2:-1]] for row in cells}
    table = recorded("paper", "r2").set_index("method")
    expected = {tables.PAPER_METHODS[name]: row for name, row in table.iterrows()}
    assert len(shown.keys() & expected.keys()) == 4
    shown['"ground", galaxies in the middle'] = shown[
        '`load_pretrained("ground")`, galaxies in the middle'
    ]
    for name in shown.keys() & expected.keys():
        numbers = [float(x) if x else np.nan for x in shown[name]]
        assert numbers == pytest.approx(expected[name].tolist(), abs=6e-4, nan_ok=True)


def test_tables_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "WRITTEN", tmp_path / "tables")
    tables.write_tables()
    written = {path.stem for path in (tmp_path / "tables").iterdir()}
    assert written == set(tables.TABLES)


def test_record_of_a_run(tmp_path, monkeypatch, import_benchmark):
    records = import_benchmark("records")
    path = tmp_path / "folder" / "one.json"
    script = ROOT / "tests" / "benchmarks" / "crowded.py"
    arguments = [str(script), "one", "--json", str(path), "--n", "4"]
    monkeypatch.setattr(sys, "argv", arguments)
    record = records.Record()
    for value in (1.5, np.nan):
        record.add("errors", pd.DataFrame({"flux": [value]}))
    record.write(None)
    record.write(path)
    content = json.loads(path.read_text())
    assert content["command"] == "tests/benchmarks/crowded.py one --n 4"
    assert content["tables"] == {"errors": [{"flux": 1.5}, {"flux": None}]}


def test_tables_of_an_example_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(make, "DATA", tmp_path)

    def start(command, option, folder):
        assert (command, option) == (make.RUNS[name].command, "--output")
        for table in make.RUNS[name].csv:
            Path(folder, f"{table}.csv").write_text("PSF,peak\nwide,2.0\n")

    name = "paper"
    monkeypatch.setattr(make, "start", start)
    make.run(name)
    content = json.loads((tmp_path / f"{name}.json").read_text())
    assert content["command"] == make.RUNS[name].command
    rows = [{"PSF": "wide", "peak": 2.0}]
    assert content["tables"] == dict.fromkeys(make.RUNS[name].csv, rows)


@pytest.mark.parametrize("name", sorted(SCRIPTS - {"conftest", "job"}))
def test_benchmarks_can_be_imported(name, import_benchmark, monkeypatch):
    """They run only on request, where a wrong import would be noticed late."""
    # One script sets the number of threads of its processes.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert import_benchmark(name).__doc__


# Quick records, measured again --------------------------------------------------------


def recorded(name, table):
    """Return a table of a record."""
    return pd.DataFrame(json.loads(RECORDS[name].read_text())["tables"][table])


OF = ("flux", "half", "sers", "e1")


def scores_of(cases, method, kind):
    """Return the scores of bright galaxies without a neighbour."""
    chosen = (cases[""] == "bright") & (cases["case"] == "isolated")
    row = cases[chosen & (cases["method"] == method)].iloc[0]
    return row[[f"{kind} {name}" for name in OF]].to_numpy(float)


def measured(import_benchmark, n, seed, **options):
    """Return the scores of galaxies without neighbours."""
    crowded, records = map(import_benchmark, ("crowded", "records"))
    record = records.Record("")
    crowded.run_case("isolated", n, seed, record=record, **options)
    return pd.DataFrame(record.tables["cases"])


def test_errors_of_the_pretrained_model_are_the_recorded_ones(import_benchmark):
    """The same stamps as in the record."""
    then = recorded("crowded-ground", "cases")
    options = {"model": load_pretrained("ground"), "fits": False}
    now = measured(import_benchmark, 800, 5, **options)
    for kind, tolerance in (("over", 0.03), ("in 68", 1.0)):
        expected = scores_of(then, "one pass", kind)
        found = scores_of(now, "one pass", kind)
        np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)


def test_dispersion_of_fits_over_the_bound_is_the_recorded_one(import_benchmark):
    """Other stamps than in the record, and fewer."""
    then = recorded("crowded-neighbours", "cases")
    now = measured(import_benchmark, 100, 11, model=None)
    ratio = scores_of(now, "fit", "over") / scores_of(then, "fit", "over")
    # The dispersion of 70 bright stamps is uncertain by a seventh.
    assert 0.75 < np.exp(np.log(ratio).mean()) < 1.33, ratio
    inside = scores_of(now, "fit", "in 68").mean()
    assert abs(inside - scores_of(then, "fit", "in 68").mean()) < 10


def test_r2_of_the_pretrained_model_is_the_recorded_one(import_benchmark):
    profile_fits = import_benchmark("profile_fits")
    model = load_pretrained("ground")
    settings = {**profile_fits.STAMPS, **profile_fits.MIXED, "return_X_y": True}
    X, y = make_galaxies(300, random_state=5, **settings)
    found = r2_score(y, model.predict(X), multioutput="raw_values")
    scores = recorded("one-pass-ground", "R2")
    expected = scores[scores["method"] == "one pass"]["R2"]
    # Few galaxies have most of the variance that is not explained.
    unexplained = (1 - found) / (1 - expected.to_numpy())
    assert ((unexplained > 0.33) & (unexplained < 2)).all(), unexplained


def test_best_scores_are_the_recorded_ones(import_benchmark):
    best_scores = import_benchmark("best_scores")
    n = 100
    found = best_scores.score(*best_scores.simulate(n, seed=2))
    scores = recorded("best-scores", "scores")
    uncertainty = scores["uncertainty"] * np.sqrt(2000 / n)
    assert (abs(found - scores["best R2"]) < 4 * uncertainty).all()
