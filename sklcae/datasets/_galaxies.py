"""make_galaxies: simulated galaxy stamps with known parameters."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch

from sklcae._compat import InvalidParameterError, import_optional, validate_params
from sklcae._planes import check_kinds
from sklcae._typing import Drawn, RandomState
from sklcae._units import PlainNumber
from sklcae.datasets._bands import check_bands, in_band
from sklcae.datasets._defect_settings import DEFECTS, NO_DEFECTS
from sklcae.datasets._description import describe
from sklcae.datasets._parameters import (
    ALLOWED,
    BULGE,
    COLUMNS,
    NEIGHBOUR,
    TELESCOPE,
    center_range,
    check_names,
    is_zero,
    parameter_error,
)
from sklcae.datasets._random import draw_entropy
from sklcae.datasets._simulation import (
    Settings,
    Simulation,
    check_brightness,
    draw_simulation,
    make_stamps,
    parse_settings,
)
from sklcae.datasets._telescope import DETECTOR, GAIN

# Constraints of the settings, also used by cramer_rao_bound and signal_to_noise.
PIXELS = {
    "image_shape": [tuple, list],
    "pixel_scale": [
        PlainNumber(
            "pixel_scale", Real, 1e-30, 1e30, closed="both", unit="arcsec / pix"
        )
    ],
}
# The settings that determine the PSF and the pixels of the stamps.
OPTICS = (*PIXELS, "psf", *(name for name in TELESCOPE if name not in DETECTOR))

# The attributes of the Bunch with the planes.
_PLANE_NAMES = {"image": "images", "variance": "variance_images", "psf": "psf_images"}

_MAX_SIDES_OUTSIDE = 4

# Constraints of the arguments of make_galaxies.
CONSTRAINTS = {
    "n_samples": [PlainNumber("n_samples", Integral, 1, 2**31, closed="left")],
    **PIXELS,
    "gain": [*GAIN["gain"], dict],
    **DEFECTS,
    "bands": [list, tuple, None],
    "sersic_index_step": [
        PlainNumber("sersic_index_step", Real, 0, None, closed="neither"),
        None,
    ],
    "noise": ["boolean"],
    "targets": [str, list, tuple],
    "planes": [str, list, tuple],
    "return_X_y": ["boolean"],
    "n_jobs": [Integral, None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


@validate_params(CONSTRAINTS, prefer_skip_nested_validation=True)
def make_galaxies(
    n_samples: int = 100,
    *,
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
    """Simulate stamps of galaxies with known physical parameters.

    Each galaxy is a Sersic profile, convolved with a point spread function (PSF) and
    integrated over the pixels by GalSim [2]_. Then sky, Poisson and read noise are
    added. The defaults follow section 2 and Table 1 of [1]_ wherever the paper gives a
    value. The function needs the extra ``simulate``: ``pip install
    'sklcae[simulate]'``.

    On request a galaxy has a bulge and neighbours, is seen in several bands, and its
    images have the defects of real ones. All of this is off by default.

    Each of the seven physical parameters, `flux` to `y0`, and each of the settings
    `psf_fwhm`, `psf_ellipticity`, `psf_position_angle`, `moffat_beta`, `sky_level`,
    `read_noise`, `bulge_fraction`, `bulge_sersic_index`, `bulge_radius_ratio`,
    `colors`, `sky_offset` and `sky_gradient` is one of

    - a (low, high) tuple: values are drawn uniformly between the two;
    - a number: the same value for every stamp;
    - a 1-D array or list of `n_samples` values: one per stamp. Only a tuple is a range,
      so a list of two numbers gives the values of two stamps;
    - a frozen distribution of `scipy.stats`, such as ``scipy.stats.loguniform(500,
      50_000)``.

    Parameters
    ----------
    n_samples : int, default=100
        Number of stamps.
    flux : tuple, float, array-like or distribution, default=(500.0, 50_000.0)
        Total flux of the galaxy, including the light outside the stamp, in ADU.
        Above 0.
    half_light_radius : tuple, float, array-like or distribution, default=(0.3, 5.0)
        Radius that encloses half of the light before the convolution with the PSF, in
        arcsec. Above 0. For an elliptical galaxy it is the circularised radius
        ``sqrt(a * b)``, where a and b are the semi-axes of the ellipse that encloses
        half of the light.
    sersic_index : tuple, float, array-like or distribution, default=(0.5, 4.0)
        Concentration of the light: 0.5 is a Gaussian, 1 an exponential disc, 4 a de
        Vaucouleurs profile. From 0.3 to 6.2, the limits of GalSim.
    ellipticity : tuple, float, array-like or distribution, default=(0.0, 0.6)
        The distortion ``(a**2 - b**2) / (a**2 + b**2)``, called ``e`` in GalSim. At
        least 0 and below 1. It is neither ``1 - b / a`` nor GalSim's ``g``.
    position_angle : tuple, float, array-like or distribution, default=(0.0, 180.0)
        Angle of the major axis in degrees, counterclockwise from +x if y points up:
        from increasing columns to increasing rows.
    x0, y0 : None, tuple, float, array-like or distribution, default=None
        Centre of the galaxy, in pixels from the outer corner of the first pixel: the
        centre of pixel ``[row, col]`` is at ``x0 = col + 0.5, y0 = row + 0.5``, and
        32.0 is the middle of 64 pixels. None is uniform over the whole stamp, so that
        the edge cuts off some galaxies.
    image_shape : tuple of two ints, default=(64, 64)
        Height and width of a stamp, in pixels.
    pixel_scale : float, default=0.2
        Arcsec per pixel.
    psf : {"gaussian", "moffat"}, None or array-like of shape (h, w) or \
(n_psfs, h, w), default="gaussian"
        Shape of the PSF. With None there is no PSF, and only the pixels blur the
        galaxy.

        An array has images of effective PSFs: sampled at the pixels of the stamps, with
        the response of the pixel included, as PSFEx and Piff make them. The sides are
        odd and the centre is in the middle pixel; or they are the sides of the stamp,
        and the centre is in pixel ``(height // 2, width // 2)``. The sum may be any
        positive number; it is scaled to 1. If `n_psfs` equals `n_samples`, stamp i has
        PSF i. Otherwise the PSF of each stamp is drawn from the array.
    psf_fwhm : float, tuple, array-like or distribution, default=0.7
        Full width at half maximum of the PSF, in arcsec; for an elliptical PSF the
        geometric mean of the widths along both axes. Unused if `psf` is None or an
        array, as the next two.
    psf_ellipticity : float, tuple, array-like or distribution, default=0.0
        The distortion ``(a**2 - b**2) / (a**2 + b**2)`` of the PSF, defined as
        `ellipticity`. At least 0 and below 1.
    psf_position_angle : float, tuple, array-like or distribution, default=0.0
        Angle of the major axis of the PSF, defined as `position_angle`.
    moffat_beta : float, tuple, array-like or distribution, default=4.765
        Exponent of the Moffat PSF, above 1.1 and at most 50, the range in which GalSim
        computes it reliably; smaller values give stronger wings. With 50 a stamp
        differs by at most 1.4 % of its peak from a stamp with a Gaussian PSF; use
        ``psf="gaussian"`` for larger exponents. The default is the prediction of
        atmospheric turbulence theory [3]_. Used only with ``psf="moffat"``.
    sersic_index_step : float or None, default=0.05
        Round Sersic indices drawn from a range or a distribution to multiples of this
        step, because GalSim builds a table for each new index, which takes as long as
        a stamp. The rounded value is rendered and returned. None does not round.
        Numbers and arrays are never rounded.
    sky_level : float, tuple, array-like or distribution, default=10.0
        Sky background in ADU per pixel. Its mean is subtracted from the stamp; its
        noise remains.
    gain : float, default=1.0
        Electrons per ADU, from 1e-25 to 1e25. With `bands`, `gain`, `sky_level`,
        `read_noise`, `psf` and the settings of the PSF may also be dicts with the
        setting of each band.
    read_noise : float, tuple, array-like or distribution, default=2.0
        Standard deviation of the read noise, in electrons per pixel. At most 1e12.
    noise : bool, default=True
        Whether to add noise. If False, `sky_level`, `read_noise` and
        `noise_correlation` do not change the images, and `gain` changes only cosmic
        rays.
    bulge_fraction : float, tuple, array-like or distribution, default=0.0
        Share of the flux that is in a bulge, from 0 to 1. The rest is in a disc with
        the same centre, ellipticity and position angle. `flux` and `half_light_radius`
        are those of bulge and disc together, and `sersic_index` is that of the disc.
    bulge_sersic_index : float, tuple, array-like or distribution, default=4.0
        The Sersic index of the bulge, from 0.3 to 6.2. Drawn values are rounded to
        `sersic_index_step`. Unused without a bulge, as the next one.
    bulge_radius_ratio : float, tuple, array-like or distribution, default=(0.1, 0.5)
        Half-light radius of the bulge over that of the disc, from 0.01 to 10. If
        a compact bulge has most of the light, the disc is many times larger than
        `half_light_radius`.
    neighbours : float or array-like of int, default=0
        Number of other galaxies around the central galaxy: the mean of a Poisson
        distribution, or a 1-D array with the number of every stamp. At most 1000.

        A neighbour is a Sersic profile without a bulge. Its Sersic index, ellipticity
        and position angle are drawn as those of the central galaxies are; if these are
        given as arrays, from the values of the array. The targets are those of the
        central galaxy. The light of the neighbours has Poisson noise too.
    neighbour_distance : float, tuple or distribution, default=(1.6, 6.0)
        Distance of a neighbour from the central galaxy in arcsec, at least 0. The
        direction is random, and the neighbour may be outside the stamp. Arrays are not
        allowed for the three settings of neighbours, which are unused without any.
    neighbour_flux_ratio : float, tuple or distribution, default=(0.2, 1.0)
        Flux of a neighbour over that of the central galaxy. Above 0.
    neighbour_half_light_radius : float, tuple or distribution, default=(0.3, 1.5)
        Half-light radius of a neighbour in arcsec, defined as `half_light_radius`.
    bands : sequence of str or None, default=None
        Names of the bands, such as ``("g", "r", "i")``. Each stamp then has an image in
        every band. The galaxies differ between bands only in flux: `flux` is the flux
        in the first band, and `colors` gives the others. Bulge and disc have the same
        colours. PSF, noise and defects are drawn for each band, except where a number
        or an array is the same for all bands or a dict has settings of each band.
    colors : tuple, float, array or distribution, or list of these, \
default=(0.0, 1.0)
        Colours of the galaxies: the magnitude in a band minus the magnitude in the next
        one, with the same zero point in all bands. From -50 to 50. A list has a setting
        for each pair of successive bands; anything else applies to all pairs, so that
        only an array of NumPy gives one value for each stamp. Neighbours have colours
        of their own, drawn in the same way. Used only with `bands`.
    sky_offset : float, tuple, array-like or distribution, default=0.0
        Sky left over after the subtraction, in ADU per pixel, in the middle of the
        stamp. It may be negative, and has no noise.
    sky_gradient : float, tuple, array-like or distribution, default=0.0
        Gradient of the sky left over along a random direction, in ADU per pixel from a
        pixel to the next one. At least 0.
    cosmic_rays : float, default=0.0
        Mean number of cosmic rays that hit a stamp, Poisson distributed. At most 1000.
        They are straight tracks of muons in silicon, which the PSF does not blur.
    dead_columns : float, default=0.0
        Mean number of columns that are NaN, Poisson distributed. At most 1000. The
        estimators take NaN for masked pixels.
    saturation : float or None, default=None
        Largest value of a pixel in ADU, after the subtraction of the sky. Larger ones
        are set to it. The charge does not spread along the column.
    noise_correlation : float, default=0.0
        Standard deviation in pixels, up to 100, of a Gaussian that smooths the noise,
        as resampling does. The variance of each pixel stays the same.
    targets : str or sequence of str, default=("flux", "half_light_radius")
        The columns of y: names of the seven physical parameters, "e1" or "e2"; and of
        the three settings of the bulge, if there are bulges. With `bands` the fluxes
        have names such as "flux_g", and "flux" stands for those of all bands. The
        components e1 and e2 are ``ellipticity * cos(2 * position_angle)`` and
        ``ellipticity * sin(2 * position_angle)``. They suit a regression better than
        an angle that jumps from 180 to 0. A single name of one column gives a 1-D y.
    planes : str or sequence of str, default=("image",)
        The planes of X: "image", alone or followed by "variance", "psf" or both, as for
        the parameter `planes` of :class:`~sklcae.ConditionalAutoencoderRegressor`. The
        plane "variance" is the variance of the background of each pixel in ADU squared,
        ``sky_level / gain + (read_noise / gain)**2``, without the noise of the galaxy.
        The plane "psf" is the effective PSF: sampled at the pixels, with the response
        of the pixel, of sum 1 and with its centre in pixel ``(height // 2, width //
        2)``. Light of the PSF outside the stamp is cut off.
    return_X_y : bool, default=True
        Whether to return ``(X, y)`` instead of a Bunch.
    n_jobs : int or None, default=None
        Number of parallel jobs, as in joblib. None means 1 unless in a
        `joblib.parallel_config` context.
    random_state : int, RandomState instance or None, default=None
        Pass an int for reproducible galaxies across calls. None draws a seed from
        NumPy's global generator, as in scikit-learn.
    verbose : int, default=0
        A value above 0 shows a progress bar on standard error.

    Returns
    -------
    X : ndarray of shape (n_samples, height * width) or (n_samples, n_planes, height, \
width), float32
        The flattened stamps in ADU, in row-major order; or, with more than one of the
        `planes`, the planes of each stamp. With `bands` always the planes, each with
        one channel for every band: (n_samples, n_planes * n_bands, height, width), as
        :func:`~sklcae.stack_planes` makes them. Only if ``return_X_y=True``.
    y : ndarray of shape (n_samples, n_targets) or (n_samples,), float64
        The targets, in the units of the parameters. Only if ``return_X_y=True``.
    galaxies : :class:`~sklearn.utils.Bunch`
        Only if ``return_X_y=False``. Its attributes are

        data : ndarray, float32
            Same as X above.
        images : ndarray of shape (n_samples, height, width), float32
            The stamps as images; a view of data.
        variance_images, psf_images : ndarray of shape (n_samples, height, width), \
float32
            The other planes as images, if they are among `planes`; views of data.
        cosmic_ray_mask : bool ndarray of shape (n_samples, height, width)
            True where a cosmic ray hit the pixel. Only with `cosmic_rays`.
        saturated_mask : bool ndarray of shape (n_samples, height, width)
            True where the pixel was above `saturation`. Only with `saturation`. With
            `bands` these masks and all images have the shape (n_samples, n_bands,
            height, width).
        target : ndarray of shape (n_samples, n_targets) or (n_samples,), float64
            Same as y above.
        target_names : list of str
            Names of the columns of the target.
        frame : DataFrame of shape (n_samples, n_columns)
            The seven physical parameters, e1 and e2 of every stamp. If the PSF or the
            noise level differ between stamps, also psf_fwhm, psf_ellipticity and
            psf_position_angle, moffat_beta with ``psf="moffat"``, or instead of these
            psf_index, the place in the array of PSFs; and sky_level and read_noise.
            With bulges their three settings. With sky left over sky_offset, and
            sky_gradient_x and sky_gradient_y, the components of the gradient. With
            `bands` the name of the band follows the names of the flux and of all
            settings of PSF, noise and sky, as in flux_g.
        neighbours : DataFrame of shape (n_neighbours, 10)
            The place of the stamp and the parameters of each neighbour, as in frame.
            Only with `neighbours`.
        image_shape, pixel_scale, psf, psf_fwhm, psf_ellipticity, psf_position_angle, \
moffat_beta, sky_level, gain, read_noise, noise, planes, bands, sky_offset, \
sky_gradient, cosmic_rays, dead_columns, saturation, noise_correlation
            The given settings.
        DESCR : str
            The recipe, the units and the settings.

    Raises
    ------
    ValueError
        If a parameter or a value drawn from a distribution is not allowed, which is
        checked before rendering. Also if a galaxy is so large compared with its pixels
        that rendering it would take gigabytes of memory. If a PSF of an array is not
        finite, does not have a positive sum, or has its centre more than a pixel from
        the middle.
    TypeError
        If a parameter is an astropy Quantity, which would lose its unit.
    ImportError
        If GalSim, joblib, pandas or tqdm is needed and not installed.

    Warns
    -----
    UserWarning
        If more than 1 % of the light of a PSF of an array is outside its plane "psf".

    See Also
    --------
    make_galaxy_variants : Several stamps of each galaxy with some parameters changed.

    Notes
    -----
    The variance of a pixel is ``(I + sky_level) / gain + (read_noise / gain)**2`` in
    ADU squared, where I is the noiseless stamp, as in ``galsim.CCDNoise``. The mean
    background of a stamp is 0. Noiseless stamps can have pixels slightly below 0
    because they are rendered with a Fourier transform.

    A stamp is made in this order: the light of all galaxies, noise, sky left over,
    cosmic rays, saturation, dead columns. The plane "variance" includes none of the
    defects.

    Stamp i and its parameters depend only on `random_state` and i. On the same machine
    and with the same library versions they are bitwise the same for any `n_jobs` and
    any ``n_samples > i``, except where an array has one value or one PSF for each
    stamp. Each parameter and each setting has its own random numbers: fixing one or
    changing its range does not change the others. So bulges, neighbours, bands and
    defects do not change the parameters of the galaxies, and the first band has the
    numbers of a single band. A neighbour stays the same if a stamp has more of them.

    Half of the light of a galaxy with bulge and disc is within its `half_light_radius`,
    because the radius of the disc is computed from the analytic light of both profiles.
    The light of a neighbour far outside its stamp is taken from its Sersic profile
    without PSF and pixels, if the estimated error in a pixel is below 1e-7 of the
    neighbour's light, or if the distance exceeds 512 pixels and 4 sides of the stamp.

    Most stamps are rendered with a Fourier transform much smaller than GalSim's, and
    the light of the galaxy's wings that it folds into the stamp is subtracted. For
    1,500 galaxies with the default ranges, the stamps differed from GalSim's by 0.015 %
    (root mean square) of the noise of an empty pixel, the worst one by 0.22 %. For 750
    galaxies with a Gaussian or Moffat PSF each, 0.5 to 1.2 arcsec wide, with
    ellipticities up to 0.1 and `moffat_beta` from 2.5 to 5, it was 0.012 %, and 0.1 %
    for the worst one. GalSim's own transform is used if the estimated error in a pixel
    exceeds 1e-7 of the galaxy's light. It cannot draw an elliptical Moffat PSF with a
    `moffat_beta` above 15; a galaxy that needs this is an error. With ``psf=None``
    rendering is slower, because each pixel is integrated in real space.

    The images of an array of PSFs are interpolated between their pixels without
    frequencies above half a cycle per pixel. For 300 galaxies the stamps differed by
    0.014 % of the noise, the worst one by 0.07 %, from the stamps that GalSim draws
    with the same images and Lanczos interpolation of order 31. The difference from the
    true PSF is larger if its image does not hold all light and all frequencies. For 80
    galaxies with a Gaussian or Moffat PSF of 2.5 pixels FWHM, the worst pixel was wrong
    by 0.08 % of the brightest pixel of its stamp; by 0.4 % at 2 pixels, 1.4 % at 1.5
    pixels and 8 % at 1 pixel. Below 2 pixels a PSF is undersampled: its image does not
    determine the PSF between the pixels. With "gaussian" and "moffat" the images are
    exact at any width, but the plane "psf" of an undersampled PSF has the same limit.

    References
    ----------
    .. [1] K. Leung, C. Yan and J. Yin, "A Generative Model for Disentangling Galaxy
       Photometric Parameters", section 2 and Table 1.
    .. [2] B. T. P. Rowe et al., "GalSim: The modular galaxy image simulation toolkit",
       Astronomy and Computing 10, 121 (2015).
    .. [3] I. Trujillo, J. A. L. Aguerri, J. Cepa and C. M. Gutierrez, "The effects of
       seeing on Sersic profiles - II. The Moffat PSF", Monthly Notices of the Royal
       Astronomical Society 328, 977 (2001).

    Examples
    --------
    >>> from sklcae.datasets import make_galaxies
    >>> X, y = make_galaxies(n_samples=3, random_state=0)
    >>> X.shape, y.shape
    ((3, 4096), (3, 2))

    Galaxies that differ only in flux, in the middle of noiseless stamps:

    >>> galaxies = make_galaxies(
    ...     n_samples=3,
    ...     flux=[1000.0, 2000.0, 3000.0],
    ...     half_light_radius=1.0,
    ...     sersic_index=1.0,
    ...     ellipticity=0.0,
    ...     position_angle=0.0,
    ...     x0=32.0,
    ...     y0=32.0,
    ...     noise=False,
    ...     return_X_y=False,
    ... )
    >>> galaxies.images.shape
    (3, 64, 64)
    >>> galaxies.images.sum(axis=(1, 2)).round(-1)
    array([1000., 2000., 3000.], dtype=float32)

    Crowded stamps in two bands, with colours from 0.2 to 0.8 mag:

    >>> galaxies = make_galaxies(
    ...     n_samples=2,
    ...     sersic_index=1.0,
    ...     neighbours=[3, 0],
    ...     bands=("g", "r"),
    ...     colors=(0.2, 0.8),
    ...     return_X_y=False,
    ...     random_state=0,
    ... )
    >>> galaxies.images.shape
    (2, 2, 64, 64)
    >>> galaxies.target_names
    ['flux_g', 'flux_r', 'half_light_radius']
    >>> galaxies.neighbours["stamp"].tolist()
    [0, 0, 0]

    Stamps of different seeing and noise, with the variance and the PSF of each:

    >>> X, y = make_galaxies(
    ...     n_samples=3,
    ...     psf_fwhm=(0.5, 1.2),
    ...     sky_level=(5.0, 20.0),
    ...     planes=("image", "variance", "psf"),
    ...     random_state=0,
    ... )
    >>> X.shape
    (3, 3, 64, 64)
    >>> bool(X[0, 2].argmax() == 32 * 64 + 32)
    True
    """
    plan = plan_galaxies(locals())
    simulation, settings = plan.simulation, plan.settings
    columns = simulation.columns()
    # Before rendering, so that a missing pandas is noticed early.
    frame = None if return_X_y else make_frame(columns)
    stamps, masks = make_stamps(simulation, plan.kinds, n_jobs=n_jobs, verbose=verbose)
    data = _as_data(stamps, plan.bands)
    y = plan.target()
    if return_X_y:
        return data, y
    planes_of_stamps = dict(zip(plan.kinds, stamps.swapaxes(0, 1), strict=True))
    galaxies = Bunch(
        data=data,
        **_as_images({**planes_of_stamps, **masks}, plan.bands),
        target=y,
        target_names=plan.target_names,
        frame=frame,
        **_neighbour_frame(simulation),
        image_shape=simulation.stamps_shape[2:],
        pixel_scale=pixel_scale,
        **settings.telescope,
        noise=noise,
        planes=plan.kinds,
        bands=plan.bands,
        **settings.defects,
    )
    galaxies.DESCR = describe(settings, galaxies, sersic_index_step=sersic_index_step)
    return galaxies


class GalaxyPlan(NamedTuple):
    """All stamps of a call of `make_galaxies`, drawn but not rendered.

    Parameters
    ----------
    simulation : Simulation
        The galaxies, the telescope and the defects of each stamp.
    kinds : tuple of str
        The planes.
    target_names : list of str
        The columns of the target.
    has_one_target : bool
        Whether the target is 1-D.
    settings : Settings
        The given settings.
    bands : tuple of str or None
        The names of the bands.
    """

    simulation: Simulation
    kinds: tuple
    target_names: list
    has_one_target: bool
    settings: Settings
    bands: tuple | None

    def target(self):
        """Return y: the columns of the target, or the only one."""
        columns = self.simulation.columns()
        chosen = [columns[name] for name in self.target_names]
        return chosen[0].copy() if self.has_one_target else np.column_stack(chosen)


def plan_galaxies(given):
    """Draw the `GalaxyPlan` of arguments of `make_galaxies` by name, all of them."""
    height, width = check_image_shape(given["image_shape"])
    kinds = check_planes(given["planes"])
    bands = check_bands(given["bands"])
    settings = _settings_of(given, height, width, bands)
    targets = given["targets"]
    names = _check_targets(targets, settings)
    sources = parse_settings(settings, given["n_samples"], (height, width))
    simulation = draw_simulation(
        sources,
        given["n_samples"],
        image_shape=(height, width),
        pixel_scale=given["pixel_scale"],
        sersic_index_step=given["sersic_index_step"],
        noise=given["noise"],
        entropy=draw_entropy(given["random_state"]),
    )
    check_centers(simulation.scene.table, height, width)
    check_brightness(simulation)
    has_one = isinstance(targets, str) and len(names) == 1
    return GalaxyPlan(simulation, kinds, names, has_one, settings, bands)


def _settings_of(given, height, width, bands):
    """Return the `Settings` of arguments of `make_galaxies` by name."""

    def some(names):
        return {name: given[name] for name in names}

    galaxies = some(ALLOWED)
    galaxies["x0"] = center_range(given["x0"], width)
    galaxies["y0"] = center_range(given["y0"], height)
    return Settings(
        galaxies=galaxies,
        bulges=some(BULGE),
        neighbours=some(("neighbours", *NEIGHBOUR)),
        colors=given["colors"],
        telescope=some(("psf", "gain", *TELESCOPE)),
        defects=some(NO_DEFECTS),
        bands=bands or (None,),
    )


def _check_targets(targets, settings):
    """Return the names of the targets; with bands "flux" means the flux of each."""
    fluxes = [in_band("flux", band) for band in settings.bands]
    bulges = [] if is_zero(settings.bulges["bulge_fraction"]) else BULGE
    allowed = [*fluxes, *COLUMNS[1:], *bulges]
    listed = [targets] if isinstance(targets, str) else list(targets)
    if settings.bands != (None,) and "flux" in listed:
        place = listed.index("flux")
        targets = [*listed[:place], *fluxes, *listed[place + 1 :]]
    return check_names("targets", targets, allowed)


def check_planes(planes):
    """Return the kinds of planes as a tuple."""
    try:
        return check_kinds(planes, "make_galaxies")
    except ValueError as error:
        raise InvalidParameterError(str(error)) from error


def check_image_shape(image_shape):
    """Return the height and width as ints."""
    if len(image_shape) == 2 and all(map(_is_positive_int, image_shape)):
        return tuple(map(int, image_shape))
    what = "two positive ints, (height, width)"
    raise parameter_error("image_shape", what, repr(image_shape))


def _is_positive_int(value):
    return isinstance(value, Integral) and not isinstance(value, bool) and value > 0


def check_centers(table, height, width):
    """Reject centres so far outside that rendering would take gigabytes."""
    for name, side in (("x0", width), ("y0", height)):
        low, high = -_MAX_SIDES_OUTSIDE * side, (1 + _MAX_SIDES_OUTSIDE) * side
        least, most = table[name].min(), table[name].max()
        if least < low or most > high:
            what = f"in pixels from the corner of the stamp, from {low} to {high}"
            raise parameter_error(name, what, f"values from {least:g} to {most:g}")


def _neighbour_frame(simulation):
    """Return a dict with the DataFrame of the neighbours, if there may be any."""
    if simulation.scene.neighbours is None:
        return {}
    columns = simulation.scene.neighbour_columns(simulation.bands)
    return {"neighbours": make_frame(columns)}


def _as_data(stamps, bands):
    """Return images of one band as flat rows, other stamps with one axis of channels.

    The stamps are (n_samples, n_planes, n_bands, height, width).
    """
    n_samples, n_planes, n_bands, *shape = stamps.shape
    if n_planes == 1 and bands is None:
        return stamps.reshape(n_samples, -1)
    return stamps.reshape(n_samples, n_planes * n_bands, *shape)


def _as_images(planes, bands):
    """Return planes and masks by the names of a Bunch, without an axis of one band."""
    return {
        _PLANE_NAMES.get(kind, kind): plane if bands else plane[:, 0]
        for kind, plane in planes.items()
    }


def make_frame(columns):
    """Return a DataFrame of a dict of columns."""
    pandas = import_optional("pandas", extra="simulate", purpose="make_galaxies")
    return pandas.DataFrame(columns)
