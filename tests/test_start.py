"""The README and the pages of docs/start run, and show what comes."""

import re
import textwrap
import tomllib
from pathlib import Path

import numpy as np

from sklcae._cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
NUMBER = re.compile(r"-?\d+(\.\d+)?")


def blocks_of(page, kind):
    """Return the blocks of a kind in a page of docs/start."""
    text = (ROOT / "docs" / "start" / page).read_text()
    found = re.findall(rf"code-block:: {kind}\n\n((?:    .*\n|\n)+)", text)
    return [textwrap.dedent(block).strip() for block in found]


def run(codes):
    """Run codes one after the other, and return their names."""
    names = {}
    for code in codes:
        exec(compile(code, "page", "exec"), names)
    return names


def without_numbers(text):
    """Return a text in which all numbers are alike: processors round differently."""
    return " ".join(NUMBER.sub("0", text).split())


def test_ten_lines_show_what_the_pages_say(capsys):
    first, *others = blocks_of("first_galaxies.rst", "python")
    outputs = blocks_of("first_galaxies.rst", "text")
    assert len([line for line in first.splitlines() if line]) <= 12
    assert first in README
    assert outputs[0].strip() in README
    names = run([first])
    assert without_numbers(capsys.readouterr().out) == without_numbers(outputs[0])
    pulls = (names["y"] - names["sky"].target) / names["y_std"]
    assert np.median(abs(pulls)) < 1.5
    for code, output in zip(others, outputs[1:], strict=True):
        exec(compile(code, "page", "exec"), names)
        assert without_numbers(capsys.readouterr().out) == without_numbers(output)


def test_an_image_becomes_a_catalogue(tmp_path, monkeypatch, capsys):
    """In Python and by the command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    page = "image_to_catalogue.rst"
    names = run(blocks_of(page, "python"))
    outputs = blocks_of(page, "text")
    printed = capsys.readouterr().out
    assert without_numbers(printed) == without_numbers(" ".join(outputs[1:]))
    assert (tmp_path / "catalogue.png").stat().st_size > 10_000
    good = names["good"]
    assert len(good) > 20
    pulls = (good["half_light_radius"] - names["true"]) / good["half_light_radius_err"]
    assert np.median(abs(pulls)) < 1.0
    [command, _] = blocks_of(page, "sh")
    assert main(command.replace("\\\n", " ").split()[1:]) == 0
    assert capsys.readouterr().out.strip() == outputs[0]


def test_one_command_checks_the_installation(capsys):
    [console] = blocks_of("install.rst", "console")
    command, output = console.split("\n", maxsplit=1)
    assert main(command.split()[2:]) == 0
    assert capsys.readouterr().out.strip() == output


def test_install_page_lists_all_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "docs" / "start" / "install.rst").read_text()
    listed = re.findall(r"^   \* - ``(\w+)``$", text, re.M)
    assert sorted(listed) == sorted(project["optional-dependencies"])


def test_readme_has_exactly_two_set_up_commands():
    commands = re.findall(r"^pip install .*&& python .*$", README, re.M)
    assert len(commands) == 2
    assert "examples/plot_paper_results.py" in commands[0]
    assert commands[1].endswith("python -m pytest")


def test_readme_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []
