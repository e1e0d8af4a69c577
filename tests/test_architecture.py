"""Which part of the package may import which; design rules that a linter cannot see."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sklcae

ROOT = Path(sklcae.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def imported_by(path):
    """Return the dotted names of all that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args:
            first = node.args[0]
            called = getattr(node.func, "id", "")
            if "import" in called and isinstance(first, ast.Constant):
                names.add(first.value)
    return names


def users_of(package):
    """Return the files, relative to the package, that import a package."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in FILES
        if any(f"{name}.".startswith(f"{package}.") for name in imported_by(path))
    }


def in_folder(folder):
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py")}


@pytest.mark.parametrize("package", ["torch", "skorch"])
def test_only_one_folder_imports_torch(package):
    assert users_of(package)
    assert users_of(package) <= in_folder("_torch")


def test_torch_folder_knows_neither_scikit_learn_nor_the_rest():
    for name in in_folder("_torch"):
        for imported in imported_by(ROOT / name):
            assert not imported.startswith("sklearn"), name
            if imported.startswith("sklcae"):
                assert imported.startswith("sklcae._torch"), name


def test_one_file_imports_galsim():
    assert users_of("galsim") == {"datasets/_galsim.py"}


def test_files_are_read_in_one_place_and_never_unpickled():
    assert users_of("safetensors") == {"_storage/archive.py"}
    for package in ("pickle", "cloudpickle", "marshal", "shelve", "zipfile"):
        assert users_of(package) == set(), package


def test_private_names_of_scikit_learn_stand_in_one_file():
    private = {
        path.relative_to(ROOT).as_posix()
        for path in FILES
        for name in imported_by(path)
        if name.startswith("sklearn.") and "._" in name
    }
    assert private == {"_compat.py"}


# A room, a file or a folder of the package, imports only from those before it.
ROOMS = [
    "_version",
    "_typing",
    "exceptions",
    "_compat",
    "_warning",
    "_noise",
    "_detection",
    "_cosmic_rays",
    "_masking",
    "_units",
    "_array_likes",
    "_attributes",
    "_gain",
    "_planes",
    "_fixed_psf",
    "_profiles",
    "_neighbours",
    "_blocks",
    "_streaming",
    "_dask",
    "_sources",
    "_symmetry",
    "_targets",
    "_novelty",
    "_images",
    "_scaling",
    "_image_inputs",
    "_inputs",
    "datasets",
    "_bulges",
    "metrics",
    "inspection",
    "baselines",
    "_torch",
    "networks",
    "_profile_training",
    "_codec",
    "_fitting",
    "_profile_fitter",
    "_labels",
    "_adaptation",
    "_rescaling",
    "_flags",
    "_storage",
    "_fit_monitor",
    "_recommended",
    "_onnx",
    "_conditional_autoencoder",
    "_profile_fit",
    "_pretrained",
    "survey",
    "onnx",
    "_cli",
    "__main__",
    "__init__",
]


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_all_rooms_are_named():
    assert {room_of(path) for path in FILES} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_go_one_way(path):
    below = ROOMS[: ROOMS.index(room_of(path)) + 1]
    for imported in imported_by(path):
        parts = imported.split(".")
        if parts[0] == "sklcae" and parts[1] != "_version":
            assert parts[1] in below, imported


@pytest.mark.parametrize("folder", ["datasets", "inspection", "metrics"])
def test_tools_use_no_estimator(folder):
    estimators = ("sklcae._torch", "sklcae._conditional", "sklcae.Conditional")
    for name in in_folder(folder):
        for imported in imported_by(ROOT / name):
            assert not imported.startswith(estimators), name


@pytest.mark.parametrize(
    "module", ["sklcae", "sklcae.datasets", "sklcae.inspection", "sklcae.metrics"]
)
def test_import_is_light(module):
    code = (
        f"import sys, {module}; "
        "print([n for n in ('torch', 'galsim', 'matplotlib') if n in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


def test_missing_optional_package_names_the_extra():
    from sklcae._compat import import_optional

    with pytest.raises(ImportError, match=r"A thing needs nothere.*sklcae\[plot\]"):
        import_optional("nothere.sub", extra="plot", purpose="A thing")


def test_package_lists_its_public_names():
    assert {"ConditionalAutoencoderRegressor", "__version__"} <= set(dir(sklcae))
    with pytest.raises(AttributeError, match="nothing"):
        sklcae.nothing  # noqa: B018
