"""Names of targets, and files of figures, for the examples."""

NAMES = {
    "flux": "flux",
    "half_light_radius": "half-light radius",
    "sersic_index": "Sersic index",
}
UNITS = {"flux": "ADU", "half_light_radius": "arcsec"}


def save(figure, path, quick):
    """Write a figure. If it shows a quick run, the picture says so."""
    if quick:
        figure.suptitle("quick run: too few galaxies and epochs", color="firebrick")
    figure.savefig(path, dpi=150)
    print(f"Wrote {path}", flush=True)
