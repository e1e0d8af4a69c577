"""Settings of the documentation: python -m sphinx -W docs docs/_build."""

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

import matplotlib as mpl

DOCS = Path(__file__).parent
# The examples import each other, and Sphinx-Gallery imports its settings.
sys.path[:0] = [str(DOCS), str(DOCS.parent / "examples")]
mpl.use("agg")
# Progress bars of short examples are not part of their output.
os.environ["TQDM_DELAY"] = "60"

from made_pages import class_links  # noqa: E402

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
    # It listens to events of autodoc.
    "made_pages",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "gallery/*.ipynb", "results/tables"]
nitpicky = True
# Properties are described in the list of attributes, without a target of their own.
nitpick_ignore_regex = [("py:obj", r"[a-z_]+")]

# API ---------------------------------------------------------------------------------

autosummary_generate = True
# Types stand in the descriptions of parameters; signatures with them are unreadable.
autodoc_typehints = "none"
numpydoc_show_class_members = False
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
# Classes in the types of parameters and results are links, by their short names too.
# Plain types such as float are not.
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = class_links()
# Straight quotes: the strings of parameters can be copied.
smartquotes_action = "De"

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
    "header_links_before_dropdown": 5,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
