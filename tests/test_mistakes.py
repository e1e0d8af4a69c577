"""The mistakes of docs/start/mistakes.rst are made, and say what the page shows."""

import re
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from sklcae import load_pretrained
from sklcae._storage import archive

PAGE = Path(__file__).parents[1] / "docs" / "start" / "mistakes.rst"
BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:    .*\n|\n)+)", re.M)


def read_blocks():
    """Return the code of all mistakes, and pairs of the code and the message of each.

    The pairs begin with the title.
    """
    names, *parts = re.split(r"\n(?=.+\n---+\n)", PAGE.read_text())
    mistakes = []
    for part in parts:
        found = [(kind, textwrap.dedent(text)) for kind, text in BLOCK.findall(part)]
        kinds, texts = zip(*found, strict=True)
        assert kinds == ("python", "text") * (len(kinds) // 2)
        title = part.splitlines()[0]
        mistakes += zip([title] * len(texts), texts[::2], texts[1::2], strict=False)
    [(_, setting)] = BLOCK.findall(names)
    return textwrap.dedent(setting), mistakes


SETTING, MISTAKES = read_blocks()


@pytest.fixture(scope="module")
def names():
    names = {}
    exec(compile(SETTING, PAGE.name, "exec"), names)
    return names


@pytest.fixture
def surroundings(monkeypatch, tmp_path):
    """Make a folder with a model of a newer version."""
    monkeypatch.chdir(tmp_path)
    model = load_pretrained("ground")
    with monkeypatch.context() as newer:
        newer.setattr(archive, "FORMAT_VERSION", archive.FORMAT_VERSION + 1)
        newer.setattr(archive, "_check_readable", lambda data: None)
        model.save("newer.sklcae")


def said_by(code, names, capsys):
    """Return the error, the warnings or the output of some code, as Python shows it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            exec(compile(code, PAGE.name, "exec"), dict(names))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    if caught:
        return "\n".join(f"{one.category.__name__}: {one.message}" for one in caught)
    return capsys.readouterr().out


def in_one_line(text):
    return " ".join(text.split())


@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize(
    ("title", "code", "message"), MISTAKES, ids=[title for title, _, _ in MISTAKES]
)
def test_a_mistake_says_what_the_page_shows(
    names, monkeypatch, capsys, title, code, message
):
    if title == "An extra is missing":
        monkeypatch.setitem(sys.modules, "galsim", None)
    said = said_by(code, names, capsys)
    assert in_one_line(said) == in_one_line(message)


def test_there_are_fifteen():
    titles = list(dict.fromkeys(title for title, _, _ in MISTAKES))
    assert len(titles) == 15
