"""The versions that the tests are run with are those that pyproject.toml speaks of."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(*extras):
    lines = [*PROJECT["dependencies"]]
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    named = [Requirement(line) for line in lines]
    return [requirement for requirement in named if requirement.name != "sklcae"]


def pinned(file):
    lines = (ROOT / file).read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


NEWEST, OLDEST = pinned("constraints.txt"), pinned("constraints-oldest.txt")


@pytest.mark.parametrize(
    "requirement",
    requirements(*PROJECT["optional-dependencies"]),
    ids=str,
)
def test_newest_versions_are_allowed(requirement):
    assert NEWEST[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize(
    "requirement",
    requirements("simulate", "plot", "survey", "onnx", "test"),
    ids=str,
)
def test_oldest_versions_are_the_lower_bounds(requirement):
    (bound,) = requirement.specifier
    assert bound.operator == ">="
    version = OLDEST[canonicalize_name(requirement.name)]
    assert Requirement(f"{requirement.name}=={bound.version}").specifier.contains(
        version
    )
