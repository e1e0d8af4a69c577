"""The files around the package agree with each other."""

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
