"""The files around the package agree with each other."""

import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

import sklcae
from tests.test_constraints import NEWEST, PROJECT

ROOT = Path(__file__).parents[1]


def read_yaml(name):
    return yaml.safe_load((ROOT / name).read_text())


def test_hooks_have_the_pinned_versions():
    hooks = read_yaml(".pre-commit-config.yaml")["repos"]
    pinned = {Path(one["repo"]).name: one["rev"] for one in hooks if "rev" in one}
    assert pinned == {"ruff-pre-commit": f"v{NEWEST['ruff']}"}


def test_citation_is_that_of_this_version():
    citation = read_yaml("CITATION.cff")
    assert citation["version"] == sklcae.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["url"] == PROJECT["urls"]["Documentation"]
    assert citation["repository-code"] == PROJECT["urls"]["Source"]
    names = [one["family-names"] for one in citation["preferred-citation"]["authors"]]
    assert names == ["Leung", "Yan", "Yin"]


def test_classifiers_name_the_least_version_of_python():
    prefix = "Programming Language :: Python :: 3."
    minors = [
        int(line.removeprefix(prefix))
        for line in PROJECT["classifiers"]
        if line.startswith(prefix)
    ]
    assert PROJECT["requires-python"] == f">=3.{min(minors)}"
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert ruff["target-version"] == f"py3{min(minors)}"
    assert minors == list(range(min(minors), max(minors) + 1))


def test_diagram_is_the_one_that_its_script_draws():
    script = ROOT / "docs" / "developing" / "architecture.py"
    drawn = runpy.run_path(script)["draw"]()
    assert script.with_suffix(".svg").read_text() == drawn


def test_dead_links_of_the_site_are_found(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "other.html").write_text('<p id="here"><a href="../index.html">')
    good = (
        '<a href="a/other.html#here"> <a href="#top" id="top"> <a href="https://x.org">'
    )
    page = tmp_path / "index.html"
    command = [sys.executable, ROOT / ".ci" / "links.py", tmp_path]
    page.write_text(good)
    assert subprocess.run(command, check=False).returncode == 0
    page.write_text(f'{good} <img src="no.png"> <a href="a/other.html#gone">')
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stdout.split("\n")[:2] == [
        "index.html: no.png",
        "index.html: a/other.html#gone",
    ]
