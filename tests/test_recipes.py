"""The recipes of docs/developing/extending.rst work as they stand there."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import sklcae
from sklcae._torch.networks.register import NETWORKS

PACKAGE = Path(sklcae.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "developing" / "extending.rst"
BLOCK = re.compile(
    r"\.\. code-block:: \w+\n   :name: (?P<name>.*)\n\n(?P<code>(?:   .*\n|\n)+)"
)


def blocks():
    """Return the code of the page by its name."""
    found = BLOCK.finditer(PAGE.read_text())
    return {one["name"]: textwrap.dedent(one["code"]).strip("\n") for one in found}


BLOCKS = blocks()


def apply(edits, root):
    """Make the edits of a diff without line numbers; each place is there once."""
    for in_file in re.split(r"^\+\+\+ ", edits, flags=re.M)[1:]:
        name, *hunks = re.split(r"\n@@$", in_file, flags=re.M)
        path = root / name.strip()
        text = path.read_text()
        for hunk in hunks:
            lines = hunk.strip("\n").split("\n")
            before = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "+")
            after = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "-")
            assert text.count(before) == 1, f"{name}: {before}"
            text = text.replace(before, after)
        path.write_text(text)


def test_every_recipe_is_tried():
    names = ["network", "loss", "plane", "flag", "format", "display"]
    assert list(BLOCKS) == [
        f"{verb}-{name}" for name in names for verb in ("add", "try")
    ]


@pytest.mark.parametrize("name", ["network", "display"])
def test_recipe_without_edits(name):
    names = {"__name__": "recipe"}
    try:
        for verb in ("add", "try"):
            exec(compile(BLOCKS[f"{verb}-{name}"], PAGE, "exec"), names)
    finally:
        NETWORKS.pop("sums", None)


def test_recipes_with_edits(tmp_path):
    edited = ["loss", "plane", "flag", "format"]
    ignored = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(PACKAGE, tmp_path / "sklcae", ignore=ignored)
    for name in edited:
        apply(BLOCKS[f"add-{name}"], tmp_path)
    # One process, since the import of PyTorch takes longer than the recipes.
    lines = [f"print('{name}')\n{BLOCKS[f'try-{name}']}" for name in edited]
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
