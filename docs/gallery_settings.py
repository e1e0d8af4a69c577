"""The order of the examples in the gallery, and their arguments."""

from pathlib import Path

# The narrative order.
EXAMPLES = [
    "plot_cae_vs_pca.py",
    "plot_grid_search_alpha_beta.py",
    "plot_paper_results.py",
    "plot_closure.py",
    "plot_uncertainty.py",
    "plot_incomplete_data.py",
    "plot_three_telescopes.py",
]


def narrative_order(filename):
    """Return the place of an example, for sorting."""
    return EXAMPLES.index(filename) if filename in EXAMPLES else len(EXAMPLES)


def quick_run(gallery_conf, script_vars):
    """Return the arguments of an example: those that train long run quickly."""
    text = Path(script_vars["src_file"]).read_text()
    return ["--quick"] if '"--quick"' in text else []
