"""GalSim, imported on first use."""


def import_galsim():
    """Return the module galsim, or raise an ImportError that names the extra."""
    try:
        import galsim
    except ImportError:
        # This module imports scikit-learn, which parallel jobs do not need.
        from sklcae._compat import import_optional

        return import_optional("galsim", extra="simulate", purpose="make_galaxies")
    return galsim
