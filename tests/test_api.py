"""The reference of the API: its pages, their names, and the links that lead to them."""

import importlib
import inspect
import re
import sys
import tomllib
import zlib
from html import unescape
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
import sklearn
from numpydoc.docscrape_sphinx import get_doc_object
from sklearn.base import BaseEstimator

import sklcae
from sklcae._compat import DOCUMENTATION
from tests.test_docstrings import MODULES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = Path(sklcae.__file__).parent
ESTIMATORS = [sklcae.ConditionalAutoencoderRegressor, sklcae.ProfileFitRegressor]
LINKS_PARAMETERS = [int(n) for n in sklearn.__version__.split(".")[:2]] >= [1, 9]


def names_in_index():
    """Return the full names in the tables of the index, in their order."""
    module, in_table = None, False
    for line in (DOCS / "api" / "index.rst").read_text().splitlines():
        if found := re.fullmatch(r"\.\. module:: (\S+)", line):
            module = found[1]
        if line and not line.startswith(" "):
            in_table = line == ".. autosummary::"
        elif in_table and (found := re.fullmatch(r"   (\w+)", line)):
            yield f"{module}.{found[1]}"


def public_names():
    for name in MODULES:
        for member in importlib.import_module(name).__all__:
            if not member.startswith("__"):
                yield f"{name}.{member}"


def split_names():
    return [name.rsplit(".", 1) for name in public_names()]


def test_the_index_has_all_public_names_and_no_other():
    listed = list(names_in_index())
    assert sorted(listed) == sorted(public_names())


def test_all_public_modules_are_looked_at():
    files = [*PACKAGE.glob("[a-z]*.py"), *PACKAGE.glob("[a-z]*/")]
    names = {f"sklcae.{file.stem}" for file in files} - {"sklcae.weights"}
    assert names | {"sklcae"} == set(MODULES)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_html_links_to_the_page_of_the_estimator(estimator):
    name = f"sklcae.{estimator.__name__}"
    url = f"{DOCUMENTATION}api/generated/{name}.html"
    assert f'href="{url}"' in estimator()._repr_html_()
    assert name in names_in_index()


@pytest.mark.skipif(not LINKS_PARAMETERS, reason="scikit-learn 1.9 links parameters")
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_html_links_each_parameter_to_its_entry(estimator):
    html = estimator()._repr_html_()
    url = f"{DOCUMENTATION}api/generated/sklcae.{estimator.__name__}.html#:~:text="
    found = dict(re.findall(re.escape(url) + r'([^",]+),-([^"]+)"', html))
    assert set(found) == set(estimator().get_params(deep=False))
    for name, type_ in found.items():
        # A browser finds the text of the page, where words are one space apart.
        assert "  " not in unquote(type_), name
        # The link leads to the entry of this parameter, and shows its description.
        entry = re.search(rf"\n    {name} : (.+)\n +(.+)\n", estimator.__doc__)
        assert type_ == quote(entry[1].replace("`", "")), name
        assert entry[2].strip() in unescape(html), name


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_page_describes_the_attributes(estimator):
    page = get_doc_object(estimator)
    for attribute in page["Attributes"]:
        # A property with a docstring of its own is described by that one.
        own = inspect.getdoc(getattr(estimator, attribute.name, None))
        assert (own or attribute.desc[0]) in str(page)
    assert "attrgetter" not in str(page)


def test_a_subclass_from_elsewhere_has_no_link():
    class Mine(sklcae.ProfileFitRegressor):
        """An estimator that the documentation does not describe."""

    Mine.__module__ = "mine"
    assert DOCUMENTATION not in Mine()._repr_html_()


def test_all_estimators_are_looked_at():
    objects = [getattr(importlib.import_module(m), n) for m, n in split_names()]
    classes = [one for one in objects if inspect.isclass(one)]
    assert {one for one in classes if issubclass(one, BaseEstimator)} == set(ESTIMATORS)


def test_project_names_the_same_documentation():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Documentation"] == DOCUMENTATION


def test_inventories_are_those_that_the_script_makes(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(DOCS), *sys.path])
    script = importlib.import_module("make_inventories")

    def parts_of(inventory):
        *head, body = inventory.split(b"\n", 4)
        return head, zlib.decompress(body)

    folder = script.FOLDER
    assert {file.stem for file in folder.iterdir()} == set(script.PROJECTS)
    for project, (address, _) in script.PROJECTS.items():
        written = (folder / f"{project}.inv").read_bytes()
        assert parts_of(written) == parts_of(script.inventory_of(project))
        assert (folder / f"{project}.url").read_text().strip() == address
