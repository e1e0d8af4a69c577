"""Settings of the documentation: python -m sphinx -W docs docs/_build."""

from importlib.metadata import version as installed_version

project = "sklcae"
author = "The sklcae developers"
copyright = "2026, the sklcae developers"
release = installed_version("sklcae")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "numpydoc",
]
numpydoc_show_class_members = False
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Galaxy parameters from images, and back"}
