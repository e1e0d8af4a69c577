"""make_galaxy_variants: stamps of the same galaxies with some parameters changed."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from sklcae._compat import validate_params
from sklcae._typing import Drawn, RandomState
from sklcae._units import PlainNumber
from sklcae.datasets._bands import in_band
from sklcae.datasets._galaxies import make_galaxies
from sklcae.datasets._parameters import (
    ALLOWED,
    BULGE,
    COLUMNS,
    InVariants,
    check_names,
)

_DESCR = """
Variants
    {n_galaxies} galaxies in {n_variants} variants each, consecutive stamps which
    differ in {differences} and share all other parameters of the galaxy.
    groups  the galaxy of every stamp, numbered from 0
"""


@validate_params(
    {
        "n_galaxies": [PlainNumber("n_galaxies", Integral, 1, 2**31, closed="left")],
        "n_variants": [PlainNumber("n_variants", Integral, 1, 2**31, closed="left")],
        "varied": [str, list, tuple],
    },
    # make_galaxies checks the other parameters; the decorator renames its errors.
    prefer_skip_nested_validation=False,
)
def make_galaxy_variants(
    n_galaxies: int = 100,
    *,
    n_variants: int = 2,
    varied: str | Sequence[str] = ("flux", "half_light_radius"),
    flux: Drawn = (500.0, 50_000.0),
    half_light_radius: Drawn = (0.3, 5.0),
    sersic_index: Drawn = (0.5, 4.0),
    ellipticity: Drawn = (0.0, 0.6),
    position_angle: Drawn = (0.0, 180.0),
    x0: Drawn | None = None,
    y0: Drawn | None = None,
    image_shape: tuple[int, int] = (64, 64),
    pixel_scale: float = 0.2,
    psf: Literal["gaussian", "moffat"] | ArrayLike | None = "gaussian",
    psf_fwhm: Drawn = 0.7,
    psf_ellipticity: Drawn = 0.0,
    psf_position_angle: Drawn = 0.0,
    moffat_beta: Drawn = 4.765,
    sersic_index_step: float | None = 0.05,
    sky_level: Drawn = 10.0,
    gain: float = 1.0,
    read_noise: Drawn = 2.0,
    noise: bool = True,
    bulge_fraction: Drawn = 0.0,
    bulge_sersic_index: Drawn = 4.0,
    bulge_radius_ratio: Drawn = (0.1, 0.5),
    neighbours: ArrayLike = 0,
    neighbour_distance: Drawn = (1.6, 6.0),
    neighbour_flux_ratio: Drawn = (0.2, 1.0),
    neighbour_half_light_radius: Drawn = (0.3, 1.5),
    bands: Sequence[str] | None = None,
    colors: Drawn | list[Drawn] = (0.0, 1.0),
    sky_offset: Drawn = 0.0,
    sky_gradient: Drawn = 0.0,
    cosmic_rays: float = 0.0,
    dead_columns: float = 0.0,
    saturation: float | None = None,
    noise_correlation: float = 0.0,
    targets: str | Sequence[str] = ("flux", "half_light_radius"),
    planes: str | Sequence[str] = ("image",),
    return_X_y: bool = True,
    n_jobs: int | None = None,
    random_state: RandomState = None,
    verbose: int = 0,
) -> Any:
    """Simulate several stamps of each galaxy that differ only in chosen parameters.

    The variants of a galaxy differ in the parameters `varied` and in their noise, and
    are otherwise the same. If PSF, noise level, neighbours or defects vary, each stamp
    has its own, as in repeated exposures. The variants are consecutive: galaxy 0
    variant 0, galaxy 0 variant 1 and so on. The function needs the extra ``simulate``:
    ``pip install 'sklcae[simulate]'``.

    Parameters
    ----------
    n_galaxies : int, default=100
        Number of galaxies.
    n_variants : int, default=2
        Number of stamps of each galaxy.
    varied : str or sequence of str, default=("flux", "half_light_radius")
        The physical parameters, among the seven from `flux` to `y0`, that differ
        between the variants of a galaxy. With ``varied=()`` only noise and, if they
        vary, PSF, neighbours and defects differ, as in repeated exposures.
    flux, half_light_radius, sersic_index, ellipticity, position_angle, x0, y0 : \
tuple, float, array-like or distribution
        The physical parameters, with the meaning, the defaults and the types of
        :func:`make_galaxies`. A parameter of `varied` with a range or a distribution is
        drawn for every stamp, any other parameter once per galaxy. An array has
        ``n_galaxies * n_variants`` values, in the order of the stamps, for a parameter
        of `varied`, and `n_galaxies` values for any other parameter. A parameter of
        `varied` cannot be a number.
    image_shape, pixel_scale, psf, psf_fwhm, psf_ellipticity, psf_position_angle, \
moffat_beta, sersic_index_step, sky_level, gain, read_noise, noise : object
        As in :func:`make_galaxies`, for ``n_samples = n_galaxies * n_variants`` stamps:
        ranges and distributions of PSF and noise level are drawn for every stamp, and
        an array has the values of all stamps. Such an array made by
        :func:`numpy.repeat` shares values between the variants of a galaxy.
    bulge_fraction, bulge_sersic_index, bulge_radius_ratio : object
        As in :func:`make_galaxies`, but the variants of a galaxy share their bulge: an
        array has `n_galaxies` values.
    neighbours, neighbour_distance, neighbour_flux_ratio, \
neighbour_half_light_radius : object
        As in :func:`make_galaxies`. The neighbours are drawn for every stamp, with
        fluxes relative to that of the variant. An array of numbers of neighbours has
        the values of all stamps.
    bands, colors : object
        As in :func:`make_galaxies`, but the variants of a galaxy share their colours:
        an array has `n_galaxies` values.
    sky_offset, sky_gradient, cosmic_rays, dead_columns, saturation, \
noise_correlation : object
        As in :func:`make_galaxies`, for every stamp.
    targets, planes : object
        As in :func:`make_galaxies`.
    return_X_y : bool, default=True
        Whether to return ``(X, y, groups)`` instead of a Bunch.
    n_jobs, random_state, verbose : object
        As in :func:`make_galaxies`.

    Returns
    -------
    X : ndarray of shape (n_galaxies * n_variants, height * width) or \
(n_galaxies * n_variants, n_planes, height, width), float32
        The flattened stamps in ADU, or their planes, as in :func:`make_galaxies`. Only
        if ``return_X_y=True``.
    y : ndarray of shape (n_galaxies * n_variants, n_targets) or \
(n_galaxies * n_variants,), float64
        The targets, in the units of the parameters. Only if ``return_X_y=True``.
    groups : ndarray of shape (n_galaxies * n_variants,), int
        The galaxy of each stamp, numbered from 0. With these groups
        :class:`~sklearn.model_selection.GroupKFold` keeps all variants of a galaxy in
        one fold. Only if ``return_X_y=True``.
    galaxies : :class:`~sklearn.utils.Bunch`
        The Bunch of :func:`make_galaxies` with `groups` added. Only if
        ``return_X_y=False``.

    Raises
    ------
    ValueError
        If a parameter of `varied` is a number, and as in :func:`make_galaxies`.
    TypeError, ImportError
        As in :func:`make_galaxies`.

    See Also
    --------
    make_galaxies : One stamp of each galaxy.

    Notes
    -----
    The parameters and the noise of variant j of galaxy i depend only on
    `random_state`, `n_variants`, i and j. As in :func:`make_galaxies`, they are bitwise
    the same for any `n_jobs` and any ``n_galaxies > i``, and each parameter has its own
    random numbers: adding a parameter to `varied` or removing it changes only that
    parameter.

    With the same `random_state` and without arrays, variant 0 of galaxy i is stamp
    ``i * n_variants`` of :func:`make_galaxies`. A different `n_variants` gives
    different galaxies.

    Examples
    --------
    >>> from sklcae.datasets import make_galaxy_variants
    >>> X, y, groups = make_galaxy_variants(
    ...     n_galaxies=3,
    ...     varied="flux",
    ...     sersic_index=1.0,
    ...     image_shape=(16, 16),
    ...     random_state=0,
    ... )
    >>> X.shape, y.shape
    ((6, 256), (6, 2))
    >>> groups
    array([0, 0, 1, 1, 2, 2])

    The variants of a galaxy differ in flux and share the half-light radius:

    >>> y[0::2, 0] == y[1::2, 0]
    array([False, False, False])
    >>> y[0::2, 1] == y[1::2, 1]
    array([ True,  True,  True])
    """
    names = check_names("varied", varied, ALLOWED, may_be_empty=True)
    given = {
        "flux": flux,
        "half_light_radius": half_light_radius,
        "sersic_index": sersic_index,
        "ellipticity": ellipticity,
        "position_angle": position_angle,
        "x0": x0,
        "y0": y0,
    }
    shared = {
        "bulge_fraction": bulge_fraction,
        "bulge_sersic_index": bulge_sersic_index,
        "bulge_radius_ratio": bulge_radius_ratio,
    }
    drawn: dict[str, Any] = {
        name: InVariants(value, n_variants, shared=name not in names)
        for name, value in {**given, **shared}.items()
    }
    galaxies = make_galaxies(
        n_galaxies * n_variants,
        **drawn,
        colors=_share_colors(colors, n_variants),
        # PSF and noise belong to an exposure, not to a galaxy.
        image_shape=image_shape,
        pixel_scale=pixel_scale,
        psf=psf,
        psf_fwhm=psf_fwhm,
        psf_ellipticity=psf_ellipticity,
        psf_position_angle=psf_position_angle,
        moffat_beta=moffat_beta,
        sersic_index_step=sersic_index_step,
        sky_level=sky_level,
        gain=gain,
        read_noise=read_noise,
        noise=noise,
        neighbours=neighbours,
        neighbour_distance=neighbour_distance,
        neighbour_flux_ratio=neighbour_flux_ratio,
        neighbour_half_light_radius=neighbour_half_light_radius,
        bands=bands,
        sky_offset=sky_offset,
        sky_gradient=sky_gradient,
        cosmic_rays=cosmic_rays,
        dead_columns=dead_columns,
        saturation=saturation,
        noise_correlation=noise_correlation,
        targets=targets,
        planes=planes,
        return_X_y=return_X_y,
        n_jobs=n_jobs,
        random_state=random_state,
        verbose=verbose,
    )
    groups = np.repeat(np.arange(n_galaxies), n_variants)
    if return_X_y:
        return (*galaxies, groups)
    galaxies.groups = groups
    differences = [*names, *_varying_settings(galaxies.frame, galaxies.bands)]
    differences += ["neighbours"] if "neighbours" in galaxies else []
    differences += [name for name in ("cosmic_rays", "dead_columns") if galaxies[name]]
    differences += ["noise"] if noise else []
    galaxies.DESCR += _DESCR.format(
        n_galaxies=n_galaxies,
        n_variants=n_variants,
        differences=", ".join(differences) or "nothing",
    )
    return galaxies


def _share_colors(colors, n_variants):
    if isinstance(colors, list):
        return [_share_colors(one, n_variants) for one in colors]
    return InVariants(colors, n_variants, shared=True)


def _varying_settings(frame, bands):
    """Return the names of settings of PSF, noise and sky that differ between stamps."""
    fluxes = [in_band("flux", band) for band in bands or ()]
    settings = frame.columns.drop([*fluxes, *COLUMNS, *BULGE], errors="ignore")
    return [name for name in settings if frame[name].nunique() > 1]
