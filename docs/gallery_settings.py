"""The order of the examples in the gallery, and their arguments."""

from pathlib import Path

# The narrative order.
EXAMPLES = [
    "plot_first_galaxies.py",
    "plot_set_a_parameter.py",
    "plot_closed_loop.py",
    "plot_three_telescopes.py",
    "plot_error_bars.py",
    "plot_neighbours.py",
    "plot_flags.py",
    "plot_survey_image.py",
    "plot_cae_vs_pca.py",
    "plot_grid_search_alpha_beta.py",
    "plot_missing_values.py",
    "plot_paper_results.py",
]


def narrative_order(filename):
    """Return the place of an example, for sorting."""
    return EXAMPLES.index(filename) if filename in EXAMPLES else len(EXAMPLES)


def quick_run(gallery_conf, script_vars):
    """Return the arguments of an example: those that train long run quickly."""
    text = Path(script_vars["src_file"]).read_text()
    return ["--quick"] if '"--quick"' in text else []
