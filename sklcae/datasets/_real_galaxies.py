"""make_real_galaxies: real galaxies as another telescope would see them."""

import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch

from sklcae._compat import validate_params
from sklcae._typing import Columns, Drawn, File, RandomState
from sklcae._units import PlainNumber
from sklcae.datasets._description import noise_text, psf_text
from sklcae.datasets._galaxies import (
    PIXELS,
    check_centers,
    check_image_shape,
    check_planes,
    make_frame,
)
from sklcae.datasets._galsim import import_galsim
from sklcae.datasets._parallel import map_chunks
from sklcae.datasets._parameters import (
    COLUMNS,
    center_range,
    check_names,
    parameter_error,
    parse_parameters,
)
from sklcae.datasets._random import Stream, draw_entropy, draw_uniforms, stamp_generator
from sklcae.datasets._real_catalog import find_catalog, read_labels
from sklcae.datasets._real_stamps import RealStamp, draw_chunk
from sklcae.datasets._simulation import fill_psf, fill_variance
from sklcae.datasets._telescope import GAIN, Telescope, make_telescope, parse_telescope

# The random numbers of a stamp; the stream is none of those of make_galaxies.
_NUMBERS = ("galaxy", "rotation", "flux", "x0", "y0")
_STREAM = 100

_DESCR = """\
Real galaxies
-------------

{n_samples} stamps of {height} x {width} pixels at {pixel_scale} arcsec per pixel, with
one real galaxy each, re-observed with GalSim from the catalogue
{path}.

Recipe
    The PSF of the original image is removed. The galaxy is {rotated}
    {psf},
    and integrated over the pixels.
    {noise}

Data
    data    {shape} float32, ADU
    planes  {planes}
    frame   {columns}
    target  {target_names}

Labels
    {n_known} stamps have a label in all columns of the target, in the units of
    make_galaxies. The others have NaN.
"""


class _Galaxies(NamedTuple):
    """The galaxies of all stamps; arrays of shape (n_stamps,).

    ``row`` is the row of the catalogue. ``labels`` are the parameters in the original
    image, NaN if unknown. ``factor`` is ADU for each count. It is NaN if the sum of the
    original image is to be ``flux`` instead.
    """

    row: np.ndarray
    labels: dict
    rotation: np.ndarray
    flux: np.ndarray
    factor: np.ndarray
    x0: np.ndarray
    y0: np.ndarray


class _Observation(NamedTuple):
    """All that determines the stamps; ``path`` is the file of the catalogue."""

    path: str
    galaxies: _Galaxies
    telescope: Telescope
    noise: bool
    entropy: tuple

    def stamps(self, indices):
        """Return a `RealStamp` for each of some indices."""
        return [self._stamp(int(i)) for i in indices]

    def _stamp(self, i):
        galaxies = self.galaxies
        labels = galaxies.labels
        return RealStamp(
            row=int(galaxies.row[i]),
            factor=float(galaxies.factor[i]),
            flux=float(galaxies.flux[i]),
            rotation=float(galaxies.rotation[i]),
            origin=(float(labels["x0"][i]), float(labels["y0"][i])),
            center=(float(galaxies.x0[i]), float(galaxies.y0[i])),
            optics=self.telescope.optics(i),
            detector=self.telescope.detector(i) if self.noise else None,
            generator=stamp_generator(self.entropy, i, Stream.NOISE),
        )


@validate_params(
    {
        "catalog_dir": [str, os.PathLike],
        "n_samples": [
            PlainNumber("n_samples", Integral, 1, 2**31, closed="left"),
            None,
        ],
        "catalog_name": [str, None],
        **PIXELS,
        **GAIN,
        "flux_scale": [PlainNumber("flux_scale", Real, 0, 1e30, closed="right")],
        "rotate": ["boolean"],
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
def make_real_galaxies(
    catalog_dir: File,
    n_samples: int | None = None,
    *,
    catalog_name: str | None = None,
    labels: Columns | None = None,
    idents: ArrayLike | None = None,
    flux: Drawn | None = None,
    flux_scale: float = 100.0,
    rotate: bool = True,
    x0: Drawn | None = None,
    y0: Drawn | None = None,
    image_shape: tuple[int, int] = (64, 64),
    pixel_scale: float = 0.2,
    psf: Literal["gaussian", "moffat"] | ArrayLike = "gaussian",
    psf_fwhm: Drawn = 0.7,
    psf_ellipticity: Drawn = 0.0,
    psf_position_angle: Drawn = 0.0,
    moffat_beta: Drawn = 4.765,
    sky_level: Drawn = 10.0,
    gain: float = 1.0,
    read_noise: Drawn = 2.0,
    noise: bool = True,
    targets: str | Sequence[str] = ("flux", "half_light_radius"),
    planes: str | Sequence[str] = ("image",),
    return_X_y: bool = True,
    n_jobs: int | None = None,
    random_state: RandomState = None,
    verbose: int = 0,
) -> Any:
    """Re-observe real galaxies of a catalogue with any PSF and noise.

    The catalogue has images of galaxies from a sharper telescope, and their PSFs. It is
    a ``RealGalaxyCatalog`` of GalSim [1]_, such as the COSMOS sample of the Hubble
    Space Telescope [2]_. The PSF of the original image is removed, the galaxy is
    rotated, convolved with the PSF of the stamp and integrated over its pixels. Then
    sky, Poisson and read noise are added as in :func:`make_galaxies`. Real galaxies
    have bulges, bars, spiral arms and companions. They show how well a model trained on
    Sersic profiles measures galaxies of other shapes.

    The function needs the extra ``simulate``: ``pip install 'sklcae[simulate]'``. It
    downloads nothing. GalSim's command ``galsim_download_cosmos`` downloads the COSMOS
    sample.

    Parameters
    ----------
    catalog_dir : str or path
        Folder with the catalogue and the files that it names.
    n_samples : int or None, default=None
        Number of stamps. Each shows a galaxy drawn at random, all with the same
        probability; the weights of the catalogue are not used. None gives every galaxy
        once, in the order of the catalogue or of `idents`.
    catalog_name : str or None, default=None
        Name of the catalogue file. None takes the only file ``*catalog*.fits`` of the
        folder that ends neither in ``_fits.fits`` nor in ``_selection.fits``.
    labels : DataFrame, mapping of columns or None, default=None
        Parameters of the galaxies in their original images, from which the targets are
        computed. The column "ident" names the galaxy, and any of the others may be
        missing: "flux" in counts of the original image, "half_light_radius" in arcsec,
        circularised, "sersic_index", "e1", "e2", and "x0", "y0" in pixels of the
        original image. All are defined as in :func:`make_galaxies`. NaN is unknown.

        None reads the published Sersic fits, ``<catalogue>_fits.fits``, if they are in
        the folder. Fits with a status outside 1 to 4 are unknown.
    idents : array-like of shape (n_galaxies,) or None, default=None
        The values of the catalogue's column "IDENT" of the galaxies to use. None uses
        all of them.
    flux : None, tuple, float, array-like or distribution, default=None
        Flux of the galaxies in ADU, given as in :func:`make_galaxies`. A galaxy whose
        label has a flux is scaled so that the label is this flux, another one so that
        the sum of its original image is. None scales the counts by `flux_scale`.
    flux_scale : float, default=100.0
        ADU for each count of the original image; used only if `flux` is None. Counts of
        COSMOS are electrons per second with the zero point 25.94 mag, so that 100 makes
        a galaxy of 25.94 mag as bright as 100 ADU.
    rotate : bool, default=True
        Whether to rotate each galaxy by a random angle. The PSF is not rotated.
    x0, y0 : None, tuple, float, array-like or distribution, default=None
        Place of the galaxy in the stamp, in pixels from the outer corner of the first
        pixel. It is the place of the centre if the label has one, else of the middle
        of the original image. None is uniform over the whole stamp.
    image_shape : tuple of two ints, default=(64, 64)
        Height and width of a stamp, in pixels.
    pixel_scale : float, default=0.2
        Arcsec per pixel.
    psf : {"gaussian", "moffat"} or array-like of shape (h, w) or (n_psfs, h, w), \
default="gaussian"
        Shape of the PSF, as in :func:`make_galaxies`. It may not be None, because
        details finer than the original PSF are not known.
    psf_fwhm : float, tuple, array-like or distribution, default=0.7
        Full width at half maximum of the PSF, in arcsec. At least the width of the PSF
        of the original image, along the minor axis of the new PSF too. A width near
        this limit amplifies the noise of the original image.
    psf_ellipticity, psf_position_angle, moffat_beta : float, tuple, array-like or \
distribution, default=0.0, 0.0, 4.765
        As in :func:`make_galaxies`.
    sky_level : float, tuple, array-like or distribution, default=10.0
        Sky background in ADU per pixel, as in :func:`make_galaxies`.
    gain : float, default=1.0
        Electrons per ADU, from 1e-25 to 1e25.
    read_noise : float, tuple, array-like or distribution, default=2.0
        Standard deviation of the read noise, in electrons per pixel.
    noise : bool, default=True
        Whether to add the noise of sky, galaxy and detector. The noise of the original
        image is in the stamps in both cases.
    targets : str or sequence of str, default=("flux", "half_light_radius")
        The columns of y, as in :func:`make_galaxies`. NaN where the label is unknown.
    planes : str or sequence of str, default=("image",)
        The planes of X, as in :func:`make_galaxies`. The plane "variance" does not
        include the noise of the original image.
    return_X_y : bool, default=True
        Whether to return ``(X, y)`` instead of a Bunch.
    n_jobs : int or None, default=None
        Number of parallel jobs, as in joblib. None means 1 unless in a
        `joblib.parallel_config` context.
    random_state : int, RandomState instance or None, default=None
        Pass an int for reproducible stamps across calls.
    verbose : int, default=0
        A value above 0 shows a progress bar on standard error.

    Returns
    -------
    X : ndarray of shape (n_samples, height * width) or (n_samples, n_planes, height, \
width), float32
        The flattened stamps in ADU; or, with more than one of the `planes`, the planes
        of each stamp. Only if ``return_X_y=True``.
    y : ndarray of shape (n_samples, n_targets) or (n_samples,), float64
        The targets, NaN if unknown. Only if ``return_X_y=True``.
    galaxies : :class:`~sklearn.utils.Bunch`
        Only if ``return_X_y=False``. Its attributes are

        data, images, variance_images, psf_images, target, target_names : see \
:func:`make_galaxies`
            The stamps and their targets.
        frame : DataFrame of shape (n_samples, n_columns)
            The seven physical parameters, e1 and e2 of every stamp, NaN if unknown;
            "ident", the identifier of the galaxy as a string; "rotation" in degrees
            counterclockwise; "image_flux", the sum of the original image in ADU of the
            stamp; "original_noise", the standard deviation of the noise of the original
            image in a pixel of the stamp, in ADU; and the settings of PSF and noise
            that differ between stamps.
        image_shape, pixel_scale, psf, psf_fwhm, psf_ellipticity, psf_position_angle, \
moffat_beta, sky_level, gain, read_noise, noise, planes
            The given settings.
        DESCR : str
            The recipe and the settings.

    Raises
    ------
    FileNotFoundError
        If the folder, the catalogue or a file that it names is missing.
    ValueError
        If a parameter is not allowed, or a table of labels or catalogue lacks columns.
        If the PSF is narrower than that of an original image.
    TypeError
        If a parameter is an astropy Quantity, which would lose its unit.
    ImportError
        If GalSim, joblib, pandas or tqdm is needed and not installed.

    See Also
    --------
    make_galaxies : Stamps of Sersic profiles with exactly known parameters.

    Notes
    -----
    Light beyond the edge of the original image is missing, and a fit takes the edge for
    a property of the galaxy: mostly for a lower Sersic index. A column "image_flux" far
    below "flux" shows that much light is missing.

    The noise of the original image stays in the stamps. It is neither whitened nor
    continued beyond the edge of the image. It is correlated over about the width of the
    PSF, and therefore disturbs a measurement more than independent noise of the same
    variance. Labels fitted to the same image have the same noise. Compare the column
    "original_noise" with the noise of the stamps. A smaller `flux_scale` or a larger
    `sky_level` makes its share smaller.

    Labels are fits of a Sersic profile. They have errors of their own, and a real
    galaxy is not exactly a Sersic profile.

    Stamp i depends only on `random_state`, i and the catalogue. On the same machine and
    with the same library versions it is bitwise the same for any `n_jobs`, and for any
    ``n_samples > i`` unless an array has one value or one PSF for each stamp.

    The original images are interpolated. For Sersic profiles in images without noise
    that hold all their light, the stamps differ by at most 0.3 % of the brightest pixel
    from those of :func:`make_galaxies`.

    References
    ----------
    .. [1] B. T. P. Rowe et al., "GalSim: The modular galaxy image simulation toolkit",
       Astronomy and Computing 10, 121 (2015).
    .. [2] R. Mandelbaum, C. Lackner, A. Leauthaud and B. Rowe, "COSMOS real galaxy
       dataset", Zenodo, doi:10.5281/zenodo.3242143 (2012).

    Examples
    --------
    A thousand stamps of galaxies of the COSMOS sample, with labels where they are
    known:

    >>> from sklcae.datasets import make_real_galaxies
    >>> X, y = make_real_galaxies(
    ...     "COSMOS_23.5_training_sample", 1000, random_state=0
    ... )  # doctest: +SKIP
    """
    import_galsim()
    shape = check_image_shape(image_shape)
    names = check_names("targets", targets, COLUMNS)
    kinds = check_planes(planes)
    settings = {
        "psf": _check_psf(psf),
        "psf_fwhm": psf_fwhm,
        "psf_ellipticity": psf_ellipticity,
        "psf_position_angle": psf_position_angle,
        "moffat_beta": moffat_beta,
        "sky_level": sky_level,
        "gain": gain,
        "read_noise": read_noise,
    }
    catalog = find_catalog(catalog_dir, catalog_name)
    usable = _usable_rows(catalog, idents)
    n_stamps = len(usable) if n_samples is None else n_samples
    sources = _parse_galaxies(flux, x0, y0, shape, n_stamps)
    telescope_sources = parse_telescope(settings, n_stamps, shape)
    labels = read_labels(catalog, labels)
    entropy = draw_entropy(random_state)
    galaxies = _draw_galaxies(
        sources,
        usable,
        labels,
        entropy=entropy,
        n_samples=n_samples,
        flux_scale=flux_scale,
        rotate=rotate,
    )
    check_centers({"x0": galaxies.x0, "y0": galaxies.y0}, *shape)
    telescope = make_telescope(
        telescope_sources,
        n_stamps,
        entropy=entropy,
        image_shape=shape,
        pixel_scale=pixel_scale,
    )
    table = _observed(galaxies)
    idents = catalog.idents[galaxies.row]
    # Before drawing, so that a missing pandas is noticed early.
    frame: Any = None if return_X_y else make_frame({"ident": idents, **table})
    stamps, measured = _make_stamps(
        _Observation(catalog.path, galaxies, telescope, noise, entropy),
        kinds,
        n_jobs=n_jobs,
        verbose=verbose,
    )
    columns = [table[name] for name in names]
    y = columns[0].copy() if isinstance(targets, str) else np.column_stack(columns)
    if return_X_y:
        return _as_data(stamps), y
    galaxies = Bunch(
        data=_as_data(stamps),
        images=stamps[:, 0],
        **{f"{kind}_images": stamps[:, i] for i, kind in enumerate(kinds) if i > 0},
        target=y,
        target_names=names,
        frame=frame.assign(**measured, **telescope.columns()),
        image_shape=shape,
        pixel_scale=pixel_scale,
        **settings,
        noise=noise,
        planes=kinds,
    )
    galaxies.DESCR = _description(galaxies, catalog.path, rotate)
    return galaxies


def _as_data(stamps):
    """Return images alone as flat rows, other stamps as they are."""
    return stamps.reshape(len(stamps), -1) if stamps.shape[1] == 1 else stamps


def _check_psf(psf):
    if psf is None:
        what = "'gaussian', 'moffat' or an array of effective PSFs"
        raise parameter_error("psf", what, "None")
    return psf


def _usable_rows(catalog, idents):
    """Return the rows of the catalogue with these idents, in their order."""
    if idents is None:
        return np.arange(len(catalog.idents))
    wanted = [str(ident) for ident in np.ravel(idents).tolist()]
    rows = {ident: row for row, ident in enumerate(catalog.idents.tolist())}
    unknown = [ident for ident in wanted if ident not in rows]
    if unknown or not wanted:
        what = "one or more idents of the catalogue"
        raise parameter_error("idents", what, repr(unknown[0]) if unknown else "none")
    return np.array([rows[ident] for ident in wanted])


def _parse_galaxies(flux, x0, y0, image_shape, n_stamps):
    """Return the sources of x0, y0 and, if it is given, flux."""
    height, width = image_shape
    given = {"x0": center_range(x0, width), "y0": center_range(y0, height)}
    if flux is not None:
        given["flux"] = flux
    return parse_parameters(given, n_stamps)


def _draw_galaxies(sources, usable, labels, *, entropy, n_samples, flux_scale, rotate):
    """Draw the `_Galaxies` of all stamps, each number of a stamp in its column."""
    n_stamps = len(usable) if n_samples is None else n_samples
    uniforms = draw_uniforms(n_stamps, len(_NUMBERS), entropy=entropy, stream=_STREAM)
    numbers = dict(zip(_NUMBERS, uniforms.T, strict=True))
    row = usable
    if n_samples is not None:
        row = usable[(numbers["galaxy"] * len(usable)).astype(np.intp)]
    drawn = {name: source.draw(numbers[name]) for name, source in sources.items()}
    labels = {name: values[row] for name, values in labels.items()}
    flux = drawn.pop("flux", np.full(n_stamps, np.nan))
    factor = flux / labels["flux"] if "flux" in sources else flux_scale
    return _Galaxies(
        row=row,
        labels=labels,
        rotation=360.0 * numbers["rotation"] * rotate,
        flux=flux,
        factor=np.broadcast_to(factor, n_stamps),
        **drawn,
    )


def _observed(galaxies):
    """Return the parameters of the galaxies in their stamps, NaN if unknown."""
    labels, angle = galaxies.labels, np.deg2rad(galaxies.rotation)
    shape = (labels["e1"] + 1j * labels["e2"]) * np.exp(2j * angle)
    has_center = np.isfinite(labels["x0"]) & np.isfinite(labels["y0"])
    table = {
        "flux": galaxies.factor * labels["flux"],
        "half_light_radius": labels["half_light_radius"],
        "sersic_index": labels["sersic_index"],
        "ellipticity": np.abs(shape),
        "position_angle": np.rad2deg(np.angle(shape) / 2) % 180,
        "x0": np.where(has_center, galaxies.x0, np.nan),
        "y0": np.where(has_center, galaxies.y0, np.nan),
        "e1": shape.real,
        "e2": shape.imag,
    }
    return {**table, "rotation": galaxies.rotation}


def _make_stamps(observation, kinds, *, n_jobs, verbose):
    """Return the planes (n_samples, n_planes, height, width), and numbers by name."""
    telescope, row = observation.telescope, observation.galaxies.row
    X = np.empty((len(row), len(kinds), *telescope.image_shape), np.float32)
    planes = {kind: X[:, i] for i, kind in enumerate(kinds)}
    if "variance" in planes:
        fill_variance(planes["variance"], telescope)
    if "psf" in planes and isinstance(telescope.psf, list):
        fill_psf(planes["psf"], telescope)
    draws_psf = "psf" in planes and not isinstance(telescope.psf, list)
    measured = {name: np.empty(len(row)) for name in ("image_flux", "original_noise")}
    for chunk, drawn in map_chunks(
        draw_chunk,
        lambda chunk: (observation.path, observation.stamps(chunk), draws_psf),
        # Galaxies of the same file are drawn together, so that it is opened once.
        row,
        n_jobs=n_jobs,
        verbose=verbose,
        purpose="make_real_galaxies",
        desc="galaxies",
    ):
        planes["image"][chunk] = drawn.images
        for name, values in measured.items():
            values[chunk] = getattr(drawn, name)
        if draws_psf:
            planes["psf"][chunk] = drawn.psfs
    return X, measured


def _description(galaxies, path, rotate):
    height, width = galaxies.image_shape
    target = galaxies.target.reshape(len(galaxies.frame), -1)
    return _DESCR.format(
        n_samples=len(target),
        height=height,
        width=width,
        pixel_scale=galaxies.pixel_scale,
        path=path,
        rotated="rotated by a random angle," if rotate else "not rotated,",
        psf=psf_text(galaxies),
        noise=noise_text(galaxies) if galaxies.noise else "No noise is added.",
        shape=galaxies.data.shape,
        planes=", ".join(galaxies.planes),
        columns=", ".join(galaxies.frame.columns),
        target_names=", ".join(galaxies.target_names),
        n_known=int(np.isfinite(target).all(axis=1).sum()),
    )
