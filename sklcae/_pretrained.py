"""Models that come with the package."""

from importlib.resources import as_file, files

from sklcae._conditional_autoencoder import ConditionalAutoencoderRegressor

SUFFIX = ".sklcae"


def load_pretrained(name: str = "ground") -> ConditionalAutoencoderRegressor:
    """Load a fitted model that comes with the package.

    "ground" reads seven parameters off stamps of ground-based surveys, crowded ones
    too: flux, half-light radius, Sersic index, e1, e2, x0 and y0, with error bars. The
    stamps are 64 x 64 pixels with the planes "image", "variance" and "psf", see
    :func:`~sklcae.stack_planes`, and the galaxy is within 4 pixels of the middle.
    Pixels have 0.2 arcsec and a gain of 1, unless
    :meth:`ConditionalAutoencoderRegressor.rescale` sets others. In pixels and electrons
    the training set had:

    ====================== ==========================================
    FWHM of the PSF        1.8 to 7.7 pixels, Gaussian and Moffat
    noise of a pixel       2.5 to 45 electrons
    flux                   300 to 1,000,000 electrons
    half-light radius      1 to 25 pixels
    Sersic index           0.5 to 4
    neighbours             one on average, 7 to 38 pixels away
    background left        0.3 times the noise of a pixel
    ====================== ==========================================

    Stamps whose brightness, noise or PSF is outside of it get a warning, and NaN as
    errors. Correlated noise, other shapes and more neighbours are not noticed. The
    model must not be used for stars, for images from space, whose PSF is sharper, or
    for correlated noise (its errors are then too small).

    Parameters
    ----------
    name : str, default="ground"
        The name of the model.

    Returns
    -------
    model : ConditionalAutoencoderRegressor
        The fitted model, a new one with each call.

    Raises
    ------
    ValueError
        If there is no model with this name.

    Examples
    --------
    >>> from sklcae import load_pretrained
    >>> from sklcae.datasets import make_galaxies
    >>> model = load_pretrained("ground")
    >>> X, y = make_galaxies(
    ...     10, x0=32.0, y0=32.0, planes=model.planes, targets=model.target_names_
    ... )
    >>> model.predict(X).shape
    (10, 7)
    """
    folder = files("sklcae") / "weights"
    known = {
        file.name.removesuffix(SUFFIX): file
        for file in folder.iterdir()
        if file.name.endswith(SUFFIX)
    }
    if not (isinstance(name, str) and name in known):
        raise ValueError(f"name must be one of {sorted(known)}. Got {name!r}.")
    with as_file(known[name]) as file:
        model = ConditionalAutoencoderRegressor.load(file)
    # Its training printed a line an epoch.
    return model.set_params(verbose=0)
