"""Pages and links that are made when the site is built."""

import os
from pathlib import Path
from textwrap import indent

from make_inventories import classes
from numpydoc.xref import DEFAULT_LINKS
from results.tables import write_tables
from sphinx.pycode import ModuleAnalyzer

import sklcae.networks
import sklcae.survey
from sklcae._cli.parser import make_parser

DOCS = Path(__file__).parent
PRIVATE_MODULES = {"sklcae.metrics.TARGET_ERRORS": "sklcae.metrics._field_scores"}


def write_command_line(app):
    """Write the page of the commands from their help."""
    os.environ["COLUMNS"] = "80"
    parser = make_parser()
    (subparsers,) = (a for a in parser._actions if isinstance(a.choices, dict))
    commands = {"sklcae": parser}
    commands |= {f"sklcae {name}": one for name, one in subparsers.choices.items()}
    lines = [
        "Commands",
        "========",
        "",
        "``python -m sklcae`` is the same as ``sklcae``.",
    ]
    for name, command in commands.items():
        text = indent(command.format_help(), "   ")
        lines += ["", name, "-" * len(name), "", ".. code-block:: text", "", text]
    page = DOCS / "api" / "generated" / "command_line.rst"
    page.parent.mkdir(exist_ok=True)
    page.write_text("\n".join(lines))


def describe_data(app, what, name, obj, options, lines):
    """Describe data by the comment where they are defined, in a private module."""
    if name in PRIVATE_MODULES:
        comments = ModuleAnalyzer.for_module(PRIVATE_MODULES[name]).find_attr_docs()
        lines[:] = comments["", name.rpartition(".")[2]]


def hide_constructor(app, what, name, obj, options, signature, returned):
    """Hide the signature of a class that functions return: it has no parameters."""
    if what == "class" and "Parameters\n" not in (obj.__doc__ or ""):
        return "", None
    return None


def class_links():
    """Return the classes that numpydoc links to, by their full and short names."""
    ours = [
        *(f"sklcae.{name}" for name in sklcae.__all__),
        *(f"sklcae.networks.{name}" for name in sklcae.networks.__all__),
        *(f"sklcae.survey.{name}" for name in sklcae.survey.__all__),
    ]
    return {name: name for name in DEFAULT_LINKS} | {
        alias: f":class:`{name}`" if alias == name else f":class:`~{name}`"
        for name in [*classes(), *ours]
        if name.rpartition(".")[2][0].isupper()
        for alias in (name, name.rpartition(".")[2])
    }


def setup(app):
    """Connect the functions to the events of Sphinx."""
    app.connect("builder-inited", write_command_line)
    app.connect("builder-inited", write_tables)
    app.connect("autodoc-process-docstring", describe_data)
    app.connect("autodoc-process-signature", hide_constructor)
