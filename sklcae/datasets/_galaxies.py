"""make_galaxies: simulated galaxy stamps with known parameters."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import Bunch

from sklcae._compat import (
    InvalidParameterError,
    StrOptions,
    import_optional,
    validate_params,
)
from sklcae._units import PlainNumber
from sklcae.datasets._chunks import make_chunk
from sklcae.datasets._parallel import map_chunks
from sklcae.datasets._parameters import (
    ALLOWED,
    COLUMNS,
    InVariants,
    center_range,
    check_names,
    draw_parameters,
    parameter_error,
    parse_parameters,
)
from sklcae.datasets._random import draw_entropy, stamp_generator
from sklcae.datasets._render import PSFS

# Constraints of the settings, also used by cramer_rao_bound and signal_to_noise.
OPTICS = {
    "image_shape": [tuple, list],
    "pixel_scale": [
        PlainNumber(
            "pixel_scale", Real, 1e-30, 1e30, closed="both", unit="arcsec / pix"
        )
    ],
    "psf": [StrOptions(set(PSFS)), None],
    "psf_fwhm": [
        PlainNumber("psf_fwhm", Real, 1e-30, 1e30, closed="both", unit="arcsec")
    ],
    # GalSim's limits. At 1.1 the light of an untruncated Moffat diverges. From 91, and
    # in large stamps with a narrow PSF earlier, the Bessel functions of its Fourier
    # transform overflow; up to 50 they do not.
    "moffat_beta": [PlainNumber("moffat_beta", Real, 1.1, 50, closed="right")],
}
# With these limits noise and variance do not overflow float32 and float64.
DETECTOR = {
    "sky_level": [PlainNumber("sky_level", Real, 0, 1e37, closed="both", unit="adu")],
    "gain": [
        PlainNumber("gain", Real, 1e-25, 1e25, closed="both", unit="electron / adu")
    ],
    "read_noise": [
        PlainNumber("read_noise", Real, 0, 1e12, closed="both", unit="electron")
    ],
}

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
    data    ({n_samples}, {n_pixels}) float32, ADU
    images  data with the shape ({n_samples}, {height}, {width})
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
        **OPTICS,
        **DETECTOR,
        "sersic_index_step": [
            PlainNumber("sersic_index_step", Real, 0, None, closed="neither"),
            None,
        ],
        "noise": ["boolean"],
        "targets": [str, list, tuple],
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
    moffat_beta=4.765,
    sersic_index_step=0.05,
    sky_level=10.0,
    gain=1.0,
    read_noise=2.0,
    noise=True,
    targets=("flux", "half_light_radius"),
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

    Each of the seven physical parameters, `flux` to `y0`, is one of

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
    psf : {"gaussian", "moffat"} or None, default="gaussian"
        Shape of the PSF. With None there is no PSF, and only the pixels blur the
        galaxy.
    psf_fwhm : float, default=0.7
        Full width at half maximum of the PSF, in arcsec. Unused with ``psf=None``.
    moffat_beta : float, default=4.765
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
    sky_level : float, default=10.0
        Sky background in ADU per pixel. Its mean is subtracted from the stamp; its
        noise remains.
    gain : float, default=1.0
        Electrons per ADU, from 1e-25 to 1e25.
    read_noise : float, default=2.0
        Standard deviation of the read noise, in electrons per pixel. At most 1e12.
    noise : bool, default=True
        Whether to add noise. If False, `sky_level`, `gain` and `read_noise` are unused.
    targets : str or sequence of str, default=("flux", "half_light_radius")
        The columns of y: names of the seven physical parameters, "e1" or "e2". The
        components e1 and e2 are ``ellipticity * cos(2 * position_angle)`` and
        ``ellipticity * sin(2 * position_angle)``. They suit a regression better than
        an angle that jumps from 180 to 0. A single string gives a 1-D y.
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
    X : ndarray of shape (n_samples, height * width), float32
        The flattened stamps in ADU, in row-major order. Only if ``return_X_y=True``.
    y : ndarray of shape (n_samples, n_targets) or (n_samples,), float64
        The targets, in the units of the parameters. Only if ``return_X_y=True``.
    galaxies : :class:`~sklearn.utils.Bunch`
        Only if ``return_X_y=False``. Its attributes are

        data : ndarray of shape (n_samples, height * width), float32
            Same as X above.
        images : ndarray of shape (n_samples, height, width), float32
            The stamps as images; a view of data.
        target : ndarray of shape (n_samples, n_targets) or (n_samples,), float64
            Same as y above.
        target_names : list of str
            Names of the columns of the target.
        frame : DataFrame of shape (n_samples, 9)
            The seven physical parameters, e1 and e2 of every stamp.
        image_shape, pixel_scale, psf, psf_fwhm, moffat_beta, sky_level, gain, \
read_noise, noise
            The given settings.
        DESCR : str
            The recipe, the units and the settings.

    Raises
    ------
    ValueError
        If a parameter or a value drawn from a distribution is not allowed, which is
        checked before rendering. Also if a galaxy is so large compared with its pixels
        that rendering it would take gigabytes of memory.
    TypeError
        If a parameter is an astropy Quantity, which would lose its unit.
    ImportError
        If GalSim, joblib, pandas or tqdm is needed and not installed.

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
    any ``n_samples > i``. Each parameter has its own random numbers: fixing a parameter
    or changing its range does not change the others.

    Most stamps are rendered with a Fourier transform much smaller than GalSim's, and
    the light of the galaxy's wings that it folds into the stamp is subtracted. For
    1,500 galaxies with the default ranges, the stamps differed from GalSim's by 0.015 %
    (root mean square) of the noise of an empty pixel, the worst one by 0.22 %. GalSim's
    own transform is used if the estimated error in a pixel exceeds 1e-7 of the galaxy's
    light. With ``psf=None`` rendering is slower, because each pixel is integrated in
    real space.

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
    """
    height, width = check_image_shape(image_shape)
    names = check_names("targets", targets, COLUMNS)
    given = {
        "flux": flux,
        "half_light_radius": half_light_radius,
        "sersic_index": sersic_index,
        "ellipticity": ellipticity,
        "position_angle": position_angle,
        "x0": center_range(x0, width),
        "y0": center_range(y0, height),
    }
    sources = parse_parameters(given, n_samples)
    entropy = draw_entropy(random_state)
    table = draw_parameters(
        sources, n_samples, sersic_index_step=sersic_index_step, entropy=entropy
    )
    check_centers(table, height, width)
    _check_brightness(table, sky_level, gain, noise)
    optics = {
        "image_shape": (height, width),
        "pixel_scale": pixel_scale,
        "psf": psf,
        "psf_fwhm": psf_fwhm,
        "moffat_beta": moffat_beta,
    }
    detector = {"sky_level": sky_level, "gain": gain, "read_noise": read_noise}
    # Before rendering, so that a missing pandas is noticed early.
    frame = None if return_X_y else _make_frame(table)
    X = _make_stamps(
        table, optics, detector if noise else None, entropy, n_jobs, verbose
    )
    columns = [table[name] for name in names]
    y = columns[0].copy() if isinstance(targets, str) else np.column_stack(columns)
    if return_X_y:
        return X, y
    settings = {**optics, **detector, "noise": noise}
    return Bunch(
        data=X,
        images=X.reshape(n_samples, height, width),
        target=y,
        target_names=names,
        frame=frame,
        **settings,
        DESCR=_description(n_samples, names, given, sersic_index_step, settings),
    )


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


def _check_brightness(table, sky_level, gain, noise):
    """Reject pixels that overflow float32 or the integers of the Poisson generator."""
    brightest = float(table["flux"].max())
    if brightest > _MAX_FLUX:
        raise parameter_error("flux", f"at most {_MAX_FLUX:g} ADU", f"{brightest:g}")
    electrons = (brightest + sky_level) * gain
    if noise and not electrons < _MAX_ELECTRONS:
        raise InvalidParameterError(
            "The 'flux', 'sky_level' and 'gain' parameters of make_galaxies must give "
            f"less than {_MAX_ELECTRONS:g} electrons, (flux + sky_level) * gain. Got "
            f"{electrons:g} instead."
        )


def _make_stamps(table, optics, detector, entropy, n_jobs, verbose):
    """Render all stamps and return them as flat float32 rows."""

    def arguments(chunk):
        rows = [{name: float(table[name][i]) for name in ALLOWED} for i in chunk]
        generators = [stamp_generator(entropy, int(i), _NOISE_STREAM) for i in chunk]
        return rows, generators, optics, detector

    height, width = optics["image_shape"]
    X = np.empty((len(table["flux"]), height * width), dtype=np.float32)
    for chunk, stamps in map_chunks(
        make_chunk,
        arguments,
        table["sersic_index"],
        n_jobs=n_jobs,
        verbose=verbose,
        purpose="make_galaxies",
        desc="galaxies",
    ):
        X[chunk] = stamps
    return X


def _make_frame(table):
    pandas = import_optional("pandas", extra="simulate", purpose="make_galaxies")
    return pandas.DataFrame({name: table[name] for name in COLUMNS})


def _description(n_samples, names, given, sersic_index_step, settings):
    height, width = settings["image_shape"]
    return _DESCR.format(
        n_samples=n_samples,
        height=height,
        width=width,
        n_pixels=height * width,
        pixel_scale=settings["pixel_scale"],
        target_names=", ".join(names),
        sersic_index_step=sersic_index_step,
        psf=_psf_text(settings),
        noise=_noise_text(settings),
        **{name: _parameter_text(value) for name, value in given.items()},
    )


def _psf_text(settings):
    if settings["psf"] is None:
        return "without PSF"
    text = (
        f"convolved with a {settings['psf']} PSF of FWHM {settings['psf_fwhm']} arcsec"
    )
    if settings["psf"] == "moffat":
        text += f" and beta {settings['moffat_beta']}"
    return text


def _noise_text(settings):
    if not settings["noise"]:
        return "No noise."
    return (
        f"Poisson noise of galaxy and sky (sky_level {settings['sky_level']} ADU per "
        f"pixel, subtracted;\n    gain {settings['gain']} electrons per ADU) and read "
        f"noise ({settings['read_noise']} electrons)."
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
