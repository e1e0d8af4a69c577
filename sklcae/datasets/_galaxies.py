"""make_galaxies: simulated galaxy stamps with known parameters."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import Bunch

from sklcae._compat import InvalidParameterError, import_optional, validate_params
from sklcae._planes import check_kinds
from sklcae._units import PlainNumber
from sklcae.datasets._chunks import make_chunk
from sklcae.datasets._parallel import map_chunks
from sklcae.datasets._parameters import (
    ALLOWED,
    COLUMNS,
    TELESCOPE,
    InVariants,
    center_range,
    check_names,
    draw_parameters,
    is_number,
    parameter_error,
    parse_parameters,
)
from sklcae.datasets._random import draw_entropy, stamp_generator
from sklcae.datasets._telescope import (
    DETECTOR,
    check_psf,
    fit_psfs,
    make_telescope,
)

# Constraints of the settings, also used by cramer_rao_bound and signal_to_noise.
PIXELS = {
    "image_shape": [tuple, list],
    "pixel_scale": [
        PlainNumber(
            "pixel_scale", Real, 1e-30, 1e30, closed="both", unit="arcsec / pix"
        )
    ],
}
# With these limits noise and variance do not overflow float32 and float64.
GAIN = {
    "gain": [
        PlainNumber("gain", Real, 1e-25, 1e25, closed="both", unit="electron / adu")
    ],
}
# The settings that determine the PSF and the pixels of the stamps.
OPTICS = (*PIXELS, "psf", *(name for name in TELESCOPE if name not in DETECTOR))

# The attributes of the Bunch with the planes.
_PLANE_NAMES = {"image": "images", "variance": "variance_images", "psf": "psf_images"}

_NOISE_STREAM = 1
_MAX_SIDES_OUTSIDE = 4
_MAX_FLUX = 1e37
_MAX_ELECTRONS = 9e18

_DESCR = """\
Simulated galaxies
------------------

{n_samples} stamps of {height} x {width} pixels at {pixel_scale} arcsec per pixel, with
one galaxy each, rendered with GalSim.

Recipe
    A Sersic profile, sheared by its ellipticity (a^2-b^2)/(a^2+b^2) along its position
    angle, {psf},
    integrated over the pixels.
    {noise}

Data
    data    {shape} float32, ADU
    images  the images with the shape ({n_samples}, {height}, {width})
    planes  {planes}
    frame   {columns}
    target  {target_names}

Parameters (frame has the values of every stamp)
    flux               {flux}, ADU
    half_light_radius  {half_light_radius}, arcsec, circularised: sqrt(a b)
    sersic_index       {sersic_index}, step {sersic_index_step}
    ellipticity        {ellipticity}
    position_angle     {position_angle}, degrees counterclockwise from +x
    x0                 {x0}, pixels from the outer corner of the first pixel
    y0                 {y0}, pixels from the outer corner of the first pixel
    e1, e2             ellipticity * cos and sin of 2 position_angle
"""


@validate_params(
    {
        "n_samples": [PlainNumber("n_samples", Integral, 1, 2**31, closed="left")],
        **PIXELS,
        **GAIN,
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
    },
    prefer_skip_nested_validation=True,
)
def make_galaxies(
    n_samples=100,
    *,
    flux=(500.0, 50_000.0),
    half_light_radius=(0.3, 5.0),
    sersic_index=(0.5, 4.0),
    ellipticity=(0.0, 0.6),
    position_angle=(0.0, 180.0),
    x0=None,
    y0=None,
    image_shape=(64, 64),
    pixel_scale=0.2,
    psf="gaussian",
    psf_fwhm=0.7,
    psf_ellipticity=0.0,
    psf_position_angle=0.0,
    moffat_beta=4.765,
    sersic_index_step=0.05,
    sky_level=10.0,
    gain=1.0,
    read_noise=2.0,
    noise=True,
    targets=("flux", "half_light_radius"),
    planes=("image",),
    return_X_y=True,
    n_jobs=None,
    random_state=None,
    verbose=0,
):
    """Simulate stamps of single galaxies with known physical parameters.

    Each galaxy is a Sersic profile, convolved with a point spread function (PSF) and
    integrated over the pixels by GalSim [2]_. Then sky, Poisson and read noise are
    added. The defaults follow section 2 and Table 1 of [1]_ wherever the paper gives a
    value. The function needs the extra ``simulate``: ``pip install
    'sklcae[simulate]'``.

    Each of the seven physical parameters, `flux` to `y0`, and each of the settings
    `psf_fwhm`, `psf_ellipticity`, `psf_position_angle`, `moffat_beta`, `sky_level` and
    `read_noise` is one of

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
        Electrons per ADU, from 1e-25 to 1e25.
    read_noise : float, tuple, array-like or distribution, default=2.0
        Standard deviation of the read noise, in electrons per pixel. At most 1e12.
    noise : bool, default=True
        Whether to add noise. If False, `sky_level`, `gain` and `read_noise` do not
        change the images.
    targets : str or sequence of str, default=("flux", "half_light_radius")
        The columns of y: names of the seven physical parameters, "e1" or "e2". The
        components e1 and e2 are ``ellipticity * cos(2 * position_angle)`` and
        ``ellipticity * sin(2 * position_angle)``. They suit a regression better than
        an angle that jumps from 180 to 0. A single string gives a 1-D y.
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
        `planes`, the planes of each stamp. Only if ``return_X_y=True``.
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
        target : ndarray of shape (n_samples, n_targets) or (n_samples,), float64
            Same as y above.
        target_names : list of str
            Names of the columns of the target.
        frame : DataFrame of shape (n_samples, n_columns)
            The seven physical parameters, e1 and e2 of every stamp. If the PSF or the
            noise level differ between stamps, also psf_fwhm, psf_ellipticity and
            psf_position_angle, moffat_beta with ``psf="moffat"``, or instead of these
            psf_index, the place in the array of PSFs; and sky_level and read_noise.
        image_shape, pixel_scale, psf, psf_fwhm, psf_ellipticity, psf_position_angle, \
moffat_beta, sky_level, gain, read_noise, noise, planes
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

    Stamp i and its parameters depend only on `random_state` and i. On the same machine
    and with the same library versions they are bitwise the same for any `n_jobs` and
    any ``n_samples > i``, except where an array has one value or one PSF for each
    stamp. Each parameter and each setting of PSF and noise has its own random numbers:
    fixing one or changing its range does not change the others.

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
    height, width = check_image_shape(image_shape)
    names = check_names("targets", targets, COLUMNS)
    kinds = _check_planes(planes)
    given = {
        "flux": flux,
        "half_light_radius": half_light_radius,
        "sersic_index": sersic_index,
        "ellipticity": ellipticity,
        "position_angle": position_angle,
        "x0": center_range(x0, width),
        "y0": center_range(y0, height),
    }
    telescope_given = {
        "psf_fwhm": psf_fwhm,
        "psf_ellipticity": psf_ellipticity,
        "psf_position_angle": psf_position_angle,
        "moffat_beta": moffat_beta,
        "sky_level": sky_level,
        "read_noise": read_noise,
    }
    sources = parse_parameters(given, n_samples)
    telescope_sources = parse_parameters(telescope_given, n_samples)
    checked_psf = check_psf(psf, (height, width))
    entropy = draw_entropy(random_state)
    table = draw_parameters(
        sources, n_samples, sersic_index_step=sersic_index_step, entropy=entropy
    )
    telescope = make_telescope(
        telescope_sources,
        checked_psf,
        telescope_given,
        n_samples,
        entropy=entropy,
        image_shape=(height, width),
        pixel_scale=pixel_scale,
        gain=gain,
    )
    check_centers(table, height, width)
    _check_brightness(table, telescope, noise)
    # Before rendering, so that a missing pandas is noticed early.
    frame = None if return_X_y else _make_frame({**table, **telescope.columns()})
    X = _make_stamps(kinds, table, telescope, noise, entropy, n_jobs, verbose)
    columns = [table[name] for name in names]
    y = columns[0].copy() if isinstance(targets, str) else np.column_stack(columns)
    if return_X_y:
        return _as_data(X), y
    settings = {
        "image_shape": (height, width),
        "pixel_scale": pixel_scale,
        "psf": psf,
        **telescope_given,
        "gain": gain,
        "noise": noise,
        "planes": kinds,
    }
    return Bunch(
        data=_as_data(X),
        **{_PLANE_NAMES[kind]: X[:, i] for i, kind in enumerate(kinds)},
        target=y,
        target_names=names,
        frame=frame,
        **settings,
        DESCR=_description(names, {**given, **settings}, sersic_index_step, frame),
    )


def _check_planes(planes):
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


def _check_brightness(table, telescope, noise):
    """Reject pixels that overflow float32 or the integers of the Poisson generator."""
    brightest = float(table["flux"].max())
    if brightest > _MAX_FLUX:
        raise parameter_error("flux", f"at most {_MAX_FLUX:g} ADU", f"{brightest:g}")
    light = table["flux"] + telescope.values["sky_level"]
    electrons = float(light.max()) * telescope.gain
    if noise and not electrons < _MAX_ELECTRONS:
        raise InvalidParameterError(
            "The 'flux', 'sky_level' and 'gain' parameters of make_galaxies must give "
            f"less than {_MAX_ELECTRONS:g} electrons, (flux + sky_level) * gain. Got "
            f"{electrons:g} instead."
        )


def _make_stamps(kinds, table, telescope, noise, entropy, n_jobs, verbose):
    """Return the planes of all stamps, (n_samples, n_planes, height, width)."""
    shape = (len(table["flux"]), len(kinds), *telescope.image_shape)
    X = np.empty(shape, dtype=np.float32)
    _fill_variance(X, kinds, telescope)
    _fill_psf(X, kinds, telescope)
    _render_all(X, kinds, table, telescope, noise, entropy, n_jobs, verbose)
    return X


def _as_data(X):
    """Return stamps of one plane as flat rows, others as they are."""
    return X.reshape(len(X), -1) if X.shape[1] == 1 else X


def _fill_variance(X, kinds, telescope):
    """Write the variance of the background, and refuse what float32 cannot hold."""
    if "variance" not in kinds:
        return
    with np.errstate(over="ignore", under="ignore"):
        variance = telescope.background_variance().astype(np.float32)
    wrong = ~((variance > 0) & np.isfinite(variance))
    if wrong.any():
        raise InvalidParameterError(
            "The 'sky_level', 'read_noise' and 'gain' parameters of make_galaxies must "
            "give a positive variance that float32 can hold, for the plane 'variance' "
            f"of each stamp. Got {variance[wrong][0]:g} at index {np.argmax(wrong)} "
            "instead."
        )
    X[:, kinds.index("variance")] = variance[:, np.newaxis, np.newaxis]


def _fill_psf(X, kinds, telescope):
    """Write PSFs that are images; other PSFs are drawn with the stamps."""
    if "psf" in kinds and isinstance(telescope.psf, list):
        fitted = fit_psfs(np.stack([psf.image for psf in telescope.psf]), X.shape[2:])
        X[:, kinds.index("psf")] = fitted[telescope.values["psf_index"]]


def _render_all(X, kinds, table, telescope, noise, entropy, n_jobs, verbose):
    """Render all stamps into the planes of X, and PSFs that are not images."""
    draws_psf = "psf" in kinds and not isinstance(telescope.psf, list)

    def arguments(chunk):
        return (
            [{name: float(table[name][i]) for name in ALLOWED} for i in chunk],
            [stamp_generator(entropy, int(i), _NOISE_STREAM) for i in chunk],
            [telescope.optics(i) for i in chunk],
            [telescope.detector(i) if noise else None for i in chunk],
            draws_psf,
        )

    for chunk, (stamps, psfs) in map_chunks(
        make_chunk,
        arguments,
        table["sersic_index"],
        n_jobs=n_jobs,
        verbose=verbose,
        purpose="make_galaxies",
        desc="galaxies",
    ):
        X[chunk, 0] = stamps
        if draws_psf:
            X[chunk, kinds.index("psf")] = psfs


def _make_frame(columns):
    pandas = import_optional("pandas", extra="simulate", purpose="make_galaxies")
    return pandas.DataFrame(columns)


def _description(names, values, sersic_index_step, frame):
    height, width = values["image_shape"]
    n_samples, kinds = len(frame), values["planes"]
    shape = (n_samples, height * width)
    if len(kinds) > 1:
        shape = (n_samples, len(kinds), height, width)
    return _DESCR.format(
        n_samples=n_samples,
        height=height,
        width=width,
        shape=shape,
        planes=", ".join(kinds),
        pixel_scale=values["pixel_scale"],
        target_names=", ".join(names),
        sersic_index_step=sersic_index_step,
        psf=_psf_text(values),
        noise=_noise_text(values),
        columns=", ".join(frame.columns),
        **{name: _parameter_text(values[name]) for name in ALLOWED},
    )


def _psf_text(settings):
    psf = settings["psf"]
    if psf is None:
        return "without PSF"
    if not isinstance(psf, str):
        n_psfs = 1 if np.ndim(psf) == 2 else len(psf)
        return f"convolved with an effective PSF from {n_psfs} image(s)"
    fwhm = _parameter_text(settings["psf_fwhm"])
    text = f"convolved with a {psf} PSF of FWHM {fwhm} arcsec"
    if psf == "moffat":
        text += f" and beta {_parameter_text(settings['moffat_beta'])}"
    if not _is_zero(settings["psf_ellipticity"]):
        text += (
            f",\n    ellipticity {_parameter_text(settings['psf_ellipticity'])} along "
            f"the angle {_parameter_text(settings['psf_position_angle'])} degrees"
        )
    return text


def _is_zero(value):
    return is_number(value) and value == 0


def _noise_text(settings):
    if not settings["noise"]:
        return "No noise."
    sky_level, read_noise = (_parameter_text(settings[name]) for name in DETECTOR)
    return (
        f"Poisson noise of galaxy and sky (sky_level {sky_level} ADU per "
        f"pixel, subtracted;\n    gain {settings['gain']} electrons per ADU) and read "
        f"noise ({read_noise} electrons)."
    )


def _parameter_text(value):
    if isinstance(value, InVariants):
        return _parameter_text(value.value)
    if isinstance(value, tuple):
        return "uniform in [{}, {}]".format(*value)
    if isinstance(value, Real):
        return f"{value}"
    if hasattr(value, "support"):
        return "drawn from a distribution with the support [{:g}, {:g}]".format(
            *value.support()
        )
    return "given for every stamp"
