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


def read_psfex(hdu):
    """Return the PSF model of a table of PSFEx, in pixels of the image."""
    from sklcae._compat import import_optional

    des = import_optional("galsim.des", extra="simulate", purpose="A PSFEx file")
    return des.DES_PSFEx(hdu)


def draw_psfex(model, x, y, side):
    """Return the effective PSF (side, side) at a place of the image.

    x and y are in pixels from the centre of the first pixel. The model has the
    response of the pixel already.
    """
    # PSFEx counts from 1.
    place = import_galsim().PositionD(x + 1, y + 1)
    image = model.getPSF(place).drawImage(
        nx=side, ny=side, scale=1.0, method="no_pixel"
    )
    return image.array
