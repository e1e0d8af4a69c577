"""The public names have types, and programs that use them pass `mypy --strict`."""

import importlib
import inspect
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import sklcae
from sklcae._compat import StrOptions

PACKAGE = Path(sklcae.__file__).parent
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


def function_of(value):
    """Return the function behind a method, a property or a decorated function."""
    value = getattr(value, "__func__", getattr(value, "fget", value))
    value = inspect.unwrap(value) if callable(value) else value
    return value if inspect.isfunction(value) else None


def public_functions():
    """Yield the names and functions of the public surface, once each."""
    found = {}
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            value = getattr(module, name)
            members = {name: value}
            if inspect.isclass(value):
                members = {
                    f"{name}.{key}": member
                    for base in value.__mro__
                    if base.__module__.startswith("sklcae")
                    for key, member in vars(base).items()
                    if key == "__init__" or not key.startswith("_")
                }
            for label, member in members.items():
                function = function_of(member)
                if function and function.__module__.startswith("sklcae"):
                    found.setdefault(function, label)
    return [(label, function) for function, label in found.items()]


FUNCTIONS = public_functions()
LABELS = [label for label, _ in FUNCTIONS]


def test_public_functions_are_found():
    wanted = {
        "ConditionalAutoencoderRegressor.fit",
        "Stamps.target",
        "Encoder.features",
        "make_galaxies",
        "register",
    }
    assert wanted <= set(LABELS)


@pytest.mark.parametrize(("label", "function"), FUNCTIONS, ids=LABELS)
def test_signature_has_types(label, function):
    signature = inspect.signature(function)
    untyped = [
        name
        for name, parameter in signature.parameters.items()
        if name not in ("self", "cls") and parameter.annotation is parameter.empty
    ]
    assert untyped == []
    assert signature.return_annotation is not signature.empty


def literals(annotation):
    """Return the strings of the Literal types of an annotation, one set of each."""
    parts = [annotation, *typing.get_args(annotation)]
    return [
        {value for value in typing.get_args(part) if isinstance(value, str)}
        for part in parts
        if typing.get_origin(part) is typing.Literal
    ]


def names_to_choose():
    """Yield the parameters of the estimators that take one of some names."""
    for cls in (sklcae.ConditionalAutoencoderRegressor, sklcae.ProfileFitRegressor):
        annotations = cls.__init__.__annotations__
        for name, allowed in cls._parameter_constraints.items():
            options = [set(one.options) for one in allowed if type(one) is StrOptions]
            if options and name != "network":
                yield pytest.param(annotations[name], options, id=name)


@pytest.mark.parametrize(("annotation", "options"), list(names_to_choose()))
def test_types_allow_the_names_that_the_estimator_allows(annotation, options):
    assert literals(annotation) == options


@pytest.mark.slow
def test_a_program_of_a_user_passes_strict_checks(tmp_path):
    # mypy takes installed packages from the interpreter, others from MYPYPATH.
    installed = PACKAGE.parent.name == "site-packages"
    path = {} if installed else {"MYPYPATH": str(PACKAGE.parent)}
    program = Path(__file__).with_name("typed_program.py")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"]
    # The settings of the repository are not those of a user.
    command += ["--config-file=", f"--cache-dir={tmp_path}", str(program)]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, **path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_types_are_part_of_the_package():
    assert (PACKAGE / "py.typed").is_file()
