"""Every public object is documented as numpydoc has it, with an example that runs."""

import doctest
import importlib
import inspect

import pytest
from numpydoc.validate import Validator, validate

MODULES = [
    "sklcae",
    "sklcae.baselines",
    "sklcae.datasets",
    "sklcae.exceptions",
    "sklcae.inspection",
    "sklcae.metrics",
    "sklcae.networks",
    "sklcae.onnx",
    "sklcae.survey",
]
# See Also and an extended summary are there where they help; a return value may have a
# name, as in scikit-learn.
IGNORED = {"SA01", "SA04", "ES01", "RT02", "GL01"}
# Functions return these. Their pages have no parameters, which stand in a docstring of
# the constructor.
RETURNED = {"sklcae.survey.CatalogRun", "sklcae.survey.Cutouts", "sklcae.survey.Stamps"}
# The example needs a catalogue of several gigabytes.
NEVER_RUN = {"sklcae.datasets.make_real_galaxies"}


def public_objects():
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            value = getattr(module, name)
            if not inspect.isclass(value) and not inspect.isfunction(value):
                continue
            yield f"{module_name}.{name}"
            if inspect.isclass(value):
                yield from own_methods(f"{module_name}.{name}", value)


def own_methods(path, cls):
    for name, value in vars(cls).items():
        # PyTorch's `forward`, and the methods of a base class, are documented there.
        inherited = name == "forward" or any(name in vars(b) for b in cls.__mro__[1:])
        callable_ = callable(getattr(value, "__func__", value))
        if callable_ and not name.startswith("_") and not inherited:
            yield f"{path}.{name}"


def test_all_public_modules_are_looked_at():
    paths = list(public_objects())
    assert "sklcae.ConditionalAutoencoderRegressor.fit" in paths
    assert "sklcae.datasets.make_galaxies" in paths
    assert "sklcae.inspection.LatentSweepDisplay.from_estimator" in paths


@pytest.mark.parametrize("path", list(public_objects()))
def test_docstring(path):
    ignored = IGNORED | ({"PR01"} if path in RETURNED else set())
    errors = [
        f"{code}: {text}"
        for code, text in validate(path)["errors"]
        if code not in ignored
    ]
    assert errors == []


@pytest.mark.parametrize("path", sorted(RETURNED))
def test_returned_classes_have_no_parameters(path):
    doc = inspect.getdoc(Validator._load_obj(path))
    assert "Parameters\n" not in doc
    assert ":func:`" in doc.partition("Attributes\n")[0]
    # The parameters of the constructor are described for developers.
    errors = [code for code, _ in validate(f"{path}.__init__")["errors"]]
    assert not [code for code in errors if code.startswith("PR")]


@pytest.mark.parametrize("path", sorted(set(public_objects()) - NEVER_RUN))
def test_a_doctest_runs_the_example(path):
    doc = inspect.getdoc(Validator._load_obj(path))
    examples = doctest.DocTestParser().get_examples(doc)
    run = [one for one in examples if not one.options.get(doctest.SKIP)]
    # An import alone shows nothing.
    assert any(not one.source.startswith(("import ", "from ")) for one in run)
