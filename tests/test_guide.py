"""The code of the guide and of the pages on understanding runs, first line to last.

A page is run like one script, in an empty folder, with warnings as errors:

- ``.. code-block:: python`` is executed. All blocks of a page share their names.
- ``.. code-block:: sh`` has commands of ``sklcae``, which must return 0.
- ``:class: not-run`` under either leaves a block out, for GPUs and clusters.
- Blocks in any other language (``text``, ``console``) are not run. A bare ``::`` is not
  allowed, so that no code is left out by mistake.

Sizes on the pages are those of real work. ``SMALLER`` lists how they are reduced here:
a number of galaxies to be reduced is written with an underscore, such as 2_000.
`adapt` trains on fewer galaxies than usual.
"""

import re
import shlex
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import matplotlib.pyplot as plt
import pytest
import sklearn

from sklcae._cli import main

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted([*DOCS.glob("guide/*.rst"), *DOCS.glob("understanding/*.rst")])
# Sizes on a page, and those of the test.
SMALLER = (
    (r"\b\d{1,3}_000\b(?!\.)", "50"),
    (r"\bmax_epochs=\d+", "max_epochs=1"),
    (r"(?<= )-n \d+", "-n 20"),
)
BLOCK = re.compile(
    r"""^(?P<indent>\ *)\.\.\ code-block::\ *(?P<language>\S*)\n
    (?P<options>(?:(?P=indent)\ +:.*\n)*)
    (?:\ *\n)+
    (?P<code>(?:(?P=indent)\ +\S.*\n|\ *\n)+)""",
    re.MULTILINE | re.VERBOSE,
)
BARE = re.compile(r"^(?!\ *\.\.\ ).*::\ *$", re.MULTILINE)


class Block(NamedTuple):
    """A code block of a page."""

    language: str
    line: int
    code: str


def blocks_to_run(text):
    """Return the blocks of a page that run, in order."""
    return [
        Block(
            match["language"],
            text.count("\n", 0, match.start("code")),
            textwrap.dedent(match["code"]),
        )
        for match in BLOCK.finditer(text)
        if match["language"] in RUN and "not-run" not in match["options"]
    ]


def smaller(code):
    """Return code with the sizes of the test."""
    for pattern, replacement in SMALLER:
        code = re.sub(pattern, replacement, code)
    return code


def run_python(block, page, module):
    """Execute a block; tracebacks show the lines of the page."""
    source = "\n" * block.line + smaller(block.code)
    exec(compile(source, page, "exec"), vars(module))


def run_shell(block, page, module):
    """Run the commands of a block."""
    for command in smaller(block.code).replace("\\\n", " ").splitlines():
        words = shlex.split(command, comments=True)
        place = f"{page}:{block.line + 1}: {command}"
        assert words[:1] in ([], ["sklcae"]), f"{place}\nis no command of sklcae"
        assert not words or main(words[1:]) == 0, place


RUN = {"python": run_python, "sh": run_shell}


def name_of(page):
    return str(page.relative_to(DOCS))


# After a training with few galaxies some of the others are outside of it.
@pytest.mark.filterwarnings("ignore::sklcae.exceptions.OutsideTrainingWarning")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks_to_run(page.read_text())], ids=name_of
)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    script = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", script)
    monkeypatch.chdir(tmp_path)
    for name in ("N_OWN", "N_HERE", "N_THERE"):
        monkeypatch.setattr(f"sklcae._adaptation.{name}", 64)
    with sklearn.config_context():
        for block in blocks_to_run(page.read_text()):
            RUN[block.language](block, str(page), script)
    plt.close("all")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_language_of_every_block_is_named(page):
    text = page.read_text()
    lines = [text.count("\n", 0, match.start()) + 1 for match in BARE.finditer(text)]
    assert not lines, f"{page}: bare :: in lines {lines}"


def test_the_blocks_that_run():
    page = """
.. code-block:: python
   :emphasize-lines: 1

   x = make_galaxies(20_000, flux=(1_000.0, 2_000.0))

   y = fit(max_epochs=40)

.. code-block:: python
   :class: not-run

   on_a_gpu()

.. code-block:: text

   no code

1. A step.

   .. code-block:: sh

      sklcae simulate out.zarr -n 1000

The end.
"""
    python, shell = blocks_to_run(page)
    assert (python.language, python.line) == ("python", 4)
    assert smaller(python.code).strip().splitlines() == [
        "x = make_galaxies(50, flux=(1_000.0, 2_000.0))",
        "",
        "y = fit(max_epochs=1)",
    ]
    assert smaller(shell.code).strip() == "sklcae simulate out.zarr -n 20"
    assert BARE.findall("As here::\n") == ["As here::"]
    assert not BARE.findall(page)
