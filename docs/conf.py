"""Settings of the documentation: python -m sphinx -W docs docs/_build."""

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from textwrap import indent

import matplotlib as mpl
from numpydoc.xref import DEFAULT_LINKS
from sphinx.pycode import ModuleAnalyzer

import sklcae.networks
import sklcae.survey
from sklcae._cli.parser import make_parser

DOCS = Path(__file__).parent
# The examples import each other, and Sphinx-Gallery imports its settings.
sys.path[:0] = [str(DOCS), str(DOCS.parent / "examples")]
mpl.use("agg")

from make_inventories import classes  # noqa: E402

project = "sklcae"
author = "The sklcae developers"
copyright = "2026, the sklcae developers"
release = installed_version("sklcae")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "gallery/*.ipynb"]
nitpicky = True
# Properties are described in the list of attributes, without a target of their own.
nitpick_ignore_regex = [("py:obj", r"[a-z_]+")]

# API ---------------------------------------------------------------------------------

autosummary_generate = True
numpydoc_show_class_members = False
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
# Classes in the types of parameters and results are links, by their short names too.
# Plain types such as float are not.
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = {name: name for name in DEFAULT_LINKS} | {
    alias: f":class:`{name}`" if alias == name else f":class:`~{name}`"
    for name in [
        *classes(),
        *(f"sklcae.{name}" for name in sklcae.__all__),
        *(f"sklcae.networks.{name}" for name in sklcae.networks.__all__),
        *(f"sklcae.survey.{name}" for name in sklcae.survey.__all__),
    ]
    if name.rpartition(".")[2][0].isupper()
    for alias in (name, name.rpartition(".")[2])
}
# Straight quotes: the strings of parameters can be copied.
smartquotes_action = "De"

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


def setup(app):
    app.connect("builder-inited", write_command_line)
    app.connect("autodoc-process-docstring", describe_data)


# Links to other projects. The inventories are in the repository, so that the site is
# built without a network.
INVENTORIES = DOCS / "_inventories"
intersphinx_mapping = {
    path.stem: ((INVENTORIES / f"{path.stem}.url").read_text().strip(), str(path))
    for path in sorted(INVENTORIES.glob("*.inv"))
}

# Gallery -----------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(^|/)(?!plot_)[^/]*\.py$",
    "within_subsection_order": "gallery_settings.narrative_order",
    "reset_argv": "gallery_settings.quick_run",
    "abort_on_example_error": True,
    "backreferences_dir": "api/backreferences",
    "doc_module": ("sklcae",),
    "reference_url": {"sklcae": None},
    "inspect_global_variables": True,
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
    "plot_gallery": "True",
}

# Pages -------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "sklcae"
html_static_path = ["_static"]
html_css_files = ["sklcae.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "sklcae"},
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "header_links_before_dropdown": 7,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
