"""Stamps that are cut from a survey image when they are read."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation, generate_binary_structure
from scipy.spatial import cKDTree

from sklcae._compat import InvalidParameterError, validate_params
from sklcae._flags import LEAST_SATURATED
from sklcae._planes import KINDS
from sklcae._profiles import CORNER
from sklcae._typing import Columns, File, Floats
from sklcae._warning import warn_user
from sklcae.survey._detect import (
    BACKGROUND_SIZE,
    DETECTION,
    find_sources,
    warn_of_no_source,
)
from sklcae.survey._geometry import (
    LARGEST_ANISOTROPY,
    LARGEST_SCALE,
    LocalFrames,
    to_sky,
)
from sklcae.survey._image import AUTO, library, read_image
from sklcae.survey._image_psf import FunctionPSF, image_psf
from sklcae.survey._positions import read_positions
from sklcae.survey._rows import LazyStamps

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.io.fits import Header
    from astropy.nddata import NDData
    from astropy.wcs import WCS

    from sklcae.survey._detect import Detections
    from sklcae.survey._image import SurveyImage
    from sklcae.survey._positions import Positions

# So many stamps are cut together.
ROWS_OF_CHUNK = 64
# Pixels of other sources are masked with all pixels so near.
GROWTH = 3
_CROSS = generate_binary_structure(2, 1)
# A source of another table that is nearer to a galaxy, in pixels, is the galaxy.
SAME_PLACE = 3.0


class Cutouts(LazyStamps):
    """Stamps of a survey image, which are cut when a slice of rows is taken.

    :func:`cutouts` returns them. They are X for
    :class:`~sklcae.ConditionalAutoencoderRegressor` and
    :class:`~sklcae.ProfileFitRegressor`, which measure them a block at a time.

    Attributes
    ----------
    shape : tuple of int
        (n_samples, C, H, W), all planes of each stamp.
    dtype : dtype
        float32.
    planes : tuple of str
        The kinds of planes, for the parameter `planes`.
    unit : str or None
        The unit of the image.
    ids : ndarray of shape (n_samples,)
        The names of the stamps, or their rows.
    ra, dec : ndarray of shape (n_samples,) or None
        The positions on the sky in degrees, in ICRS; None without a WCS.
    x, y : ndarray of shape (n_samples,)
        The positions in pixels of the image, from the centre of its first pixel. NaN
        if they are unknown.
    is_inside : bool ndarray of shape (n_samples,)
        Whether the position is on the image.
    pixel_scale : ndarray of shape (n_samples,) or None
        Side of a pixel at the stamp in arcsec, the square root of its area; None
        without a WCS.
    position_angle : ndarray of shape (n_samples,) or None
        Angle of the y axis at the stamp in degrees, from north through east.
    parity : ndarray of shape (n_samples,) or None
        1 where the stamp is seen as on the sky, with east on the left if north is up,
        and -1 where it is a mirror image.
    chunks : tuple of int
        The stamps that are cut together.

    Examples
    --------
    >>> import numpy as np
    >>> from sklcae.survey import cutouts
    >>> image = np.random.default_rng(0).normal(size=(200, 300))
    >>> stamps = cutouts(image, [[150.0, 80.0], [2.0, 90.0]], 32, variance=1.0)
    >>> stamps.shape, stamps.planes
    ((2, 2, 32, 32), ('image', 'variance'))
    >>> stamps.x, stamps.is_inside
    (array([150.,   2.]), array([ True,  True]))
    """

    def __init__(
        self,
        image: SurveyImage,
        positions: Positions,
        shape: tuple[int, int],
        psf: Any,
        detections: Detections | None = None,
    ) -> None:
        """Find the places of the stamps.

        Parameters
        ----------
        image : SurveyImage
            The image.
        positions : Positions
            The positions of the stamps.
        shape : tuple of int
            Height and width of a stamp.
        psf : object
            The PSF, as `image_psf` takes it, or None.
        detections : Detections or None, default=None
            The sources of the image whose pixels are masked on the stamps that do not
            have their centres.
        """
        self._image, self._detections = image, detections
        self.x, self.y, self.ra, self.dec, self.ids = positions
        height, width = image.pixels.shape
        self.is_inside = (abs(self.x - (width - 1) / 2) <= width / 2) & (
            abs(self.y - (height - 1) / 2) <= height / 2
        )
        self._frames = self._find_frames()
        self._psf = None if psf is None else image_psf(psf, shape, self._scale())
        if isinstance(self._psf, FunctionPSF) and len(self.x):
            first = np.argmax(self.is_inside)
            self._psf.check(*(place[first] for place in self._places()))
        has = {
            "image": True,
            "variance": image.variance is not None,
            "psf": self._psf is not None,
        }
        self._set_planes(tuple(kind for kind in KINDS if has[kind]), shape)

    def _set_planes(self, planes, shape):
        self.planes = planes
        self.shape = (len(self.x), len(planes), *shape)
        self.chunks = (ROWS_OF_CHUNK, *self.shape[1:])

    def _find_frames(self):
        """Return the `LocalFrames`, of the nearest place on the image."""
        if self._image.wcs is None:
            return None
        frames = LocalFrames.of_wcs(self._image.wcs, *self._places())
        largest = frames.anisotropy.max(initial=0)
        scale = frames.pixel_scale.max(initial=0)
        if scale > LARGEST_SCALE:
            warn_user(
                f"The WCS of {self._image.name} has pixels of {scale:.4g} arcsec. Its "
                "steps (CDELT or CD) must be in degrees for a pixel."
            )
        elif largest > LARGEST_ANISOTROPY:
            warn_user(
                f"The pixels of {self._image.name} are longer on one side by up to "
                f"{largest:.1%} on the sky. Radii and ellipticities do not allow for "
                "it: resample the image to square pixels."
            )
        return frames

    def _places(self):
        """Return the positions x and y, or the nearest places on the image."""
        height, width = self._image.pixels.shape
        return tuple(
            np.where(np.isfinite(p), p, (side - 1) / 2).clip(-0.5, side - 0.5)
            for p, side in ((self.x, width), (self.y, height))
        )

    def _scale(self):
        """Return the largest pixel scale, or None if it is unknown."""
        if self._frames is None:
            return None
        return self._frames.pixel_scale.max(initial=0) or np.inf

    @property
    def unit(self) -> str | None:
        """The unit of the image."""
        return self._image.unit

    @property
    def pixel_scale(self) -> Floats | None:
        """Side of a pixel at each stamp in arcsec."""
        return None if self._frames is None else self._frames.pixel_scale

    @property
    def position_angle(self) -> Floats | None:
        """Angle of the y axis at each stamp, from north through east."""
        return None if self._frames is None else self._frames.position_angle

    @property
    def parity(self) -> Floats | None:
        """1 where the stamp is seen as on the sky, and -1 in a mirror image."""
        return None if self._frames is None else self._frames.parity

    @property
    def origin(self) -> Floats:
        """The first pixel of each stamp in the image, x and y; NaN if unknown."""
        height, width = self.shape[2:]
        sides = np.array([width, height])
        return np.ceil(np.column_stack([self.x, self.y]) - sides / 2)

    def __repr__(self):
        return (
            f"<Cutouts of {self._image.name}: {len(self)} with the planes "
            f"{self.planes}, {self.shape[1:]}, unit {self.unit}>"
        )

    def wcs_of(self, row: int) -> WCS:
        """Return the WCS of a stamp.

        Parameters
        ----------
        row : int
            The row.

        Returns
        -------
        wcs : astropy.wcs.WCS
            The WCS, for places in pixels from the centre of the first pixel of the
            stamp.

        Raises
        ------
        ValueError
            If the image has no WCS, or the stamp is not on it.

        Examples
        --------
        >>> import numpy as np
        >>> from astropy.wcs import WCS
        >>> from sklcae.survey import cutouts
        >>> wcs = WCS(naxis=2)
        >>> wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 2.0]
        >>> wcs.wcs.cdelt = [-0.2 / 3600, 0.2 / 3600]
        >>> image = np.zeros((200, 200))
        >>> stamps = cutouts(image, [[90.0, 120.0]], 32, variance=1.0, wcs=wcs)
        >>> stamps.wcs_of(0).pixel_to_world(15, 15).ra.degree.round(3)
        np.float64(149.995)
        """
        self._check_wcs("wcs_of")
        nddata = library("astropy.nddata")
        try:
            cut = nddata.Cutout2D(
                np.broadcast_to(np.float32(0), self._image.pixels.shape),
                (self.x[row], self.y[row]),
                self.shape[2:],
                wcs=self._image.wcs,
                mode="partial",
            )
        except (ValueError, nddata.NoOverlapError) as error:
            raise ValueError(
                f"row must be that of a stamp on the image. Got {row}, at "
                f"x={self.x[row]:g} and y={self.y[row]:g}."
            ) from error
        return cut.wcs

    def to_sky(self, results: Columns, *, pixel_scale: float = 1.0) -> dict[str, Any]:
        """Turn results of the stamps into those on the sky.

        Parameters
        ----------
        results : table or dict of arrays
            Columns of the shape (n_samples,) with the names of
            :func:`~sklcae.datasets.make_galaxies`, as the estimators return them. The
            standard deviation of a column, such as "flux", has the name "flux_err", and
            the covariance of the ellipticities the name "e1_e2_cov".
        pixel_scale : float, default=1.0
            The side of a pixel in the unit of the radii: `pixel_scale` of the
            estimator, or 1 for radii in pixels.

        Returns
        -------
        sky : dict of ndarrays
            The columns on the sky. "half_light_radius" is in arcsec, with the pixel
            scale of each stamp. "position_angle" is in degrees from north through east,
            and "e1" and "e2" are the ellipticity times the cosine and the sine of twice
            that angle. In place of "x0" and "y0" there are "x" and "y", in pixels of
            the image from the centre of its first pixel, and "ra" and "dec" in degrees.
            All others are unchanged.

        Raises
        ------
        ValueError
            If the image has no WCS, or one of "e1" and "e2" or of "x0" and "y0" is
            missing.

        Examples
        --------
        >>> import numpy as np
        >>> from astropy.wcs import WCS
        >>> from sklcae.survey import cutouts
        >>> wcs = WCS(naxis=2)
        >>> wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 2.0]
        >>> wcs.wcs.cdelt = [-0.2 / 3600, 0.2 / 3600]
        >>> image = np.zeros((200, 200))
        >>> stamps = cutouts(image, [[90.0, 120.0]], 32, variance=1.0, wcs=wcs)
        >>> results = {"x0": [16.5], "y0": [16.5], "half_light_radius": [2.0]}
        >>> sky = stamps.to_sky(results)
        >>> sky["x"], sky["half_light_radius"].round(1)
        (array([90.]), array([0.4]))
        """
        self._check_wcs("to_sky")
        return to_sky(results, self._frames, self.origin, self._image.wcs, pixel_scale)

    def _check_wcs(self, method):
        if self._image.wcs is None:
            raise ValueError(
                f"{method} needs an image with a WCS: pass it as 'wcs'. Got "
                f"{self._image.name} without one."
            )

    def find_neighbours(
        self, positions: Columns | ArrayLike | SkyCoord | None = None
    ) -> dict[str, NDArray[Any]]:
        """Find the other sources that are on each stamp.

        Parameters
        ----------
        positions : table or array-like of shape (m, 2), default=None
            The positions of all sources of the image, as in :func:`cutouts`. The
            nearest one within 3 pixels of the position of a stamp is the galaxy itself.
            None takes the positions of the stamps.

        Returns
        -------
        neighbours : dict of ndarrays
            The row of the stamp, "stamp", and the place of each neighbour in pixels
            from the outer corner of the first pixel of the stamp, "x0" and "y0": the
            form of the parameter `neighbours` of
            :meth:`sklcae.ProfileFitRegressor.predict`.

        Raises
        ------
        ValueError
            If `positions` is not as described.

        Examples
        --------
        >>> import numpy as np
        >>> from sklcae.survey import cutouts
        >>> image = np.random.default_rng(0).normal(size=(200, 300))
        >>> stamps = cutouts(image, [[150.0, 80.0], [2.0, 90.0]], 32, variance=1.0)
        >>> neighbours = stamps.find_neighbours([[150.0, 80.0], [155.0, 84.0]])
        >>> neighbours["stamp"], neighbours["x0"], neighbours["y0"]
        (array([0]), array([21.5]), array([20.5]))
        """
        own = np.column_stack([self.x, self.y])
        others, is_own = own, positions is None
        if not is_own:
            given = read_positions(positions, self._image.wcs)
            others = np.column_stack([given.x, given.y])
        numbers = np.flatnonzero(np.isfinite(others).all(axis=1))
        stamps = np.flatnonzero(np.isfinite(own).all(axis=1))
        tree = cKDTree(others[numbers])
        # The longest way from a position to the edge of its stamp.
        reach = max(self.shape[2:]) / 2 + 1
        found = tree.query_ball_point(own[stamps], reach, p=np.inf, return_sorted=True)
        stamp = np.repeat(stamps, [len(one) for one in found])
        other = numbers[np.array([i for one in found for i in one], dtype=int)]
        itself = other == stamp
        if not is_own:
            itself = other == _nearest(tree, numbers, own)[stamp]
        places = others[other] - self.origin[stamp] + CORNER
        sides = np.array(self.shape[:1:-1])
        on_stamp = ((places >= 0) & (places <= sides)).all(axis=1) & ~itself
        x0, y0 = places[on_stamp].T
        return {"stamp": stamp[on_stamp], "x0": x0, "y0": y0}

    def _planes_of(self, rows):
        """Return the arguments of `stack_planes` for some rows."""
        chosen = range(len(self))[rows]
        planes = {"image": self._cut(self._image.pixels, chosen, np.nan)}
        if "psf" in self.planes:
            x, y = (place[rows] for place in self._places())
            scales = None if self._frames is None else self._frames.pixel_scale[rows]
            planes["psf"], usable = self._psf.stamps(x, y, scales)
            planes["image"][~usable] = np.nan
        if "variance" in self.planes:
            variance = self._image.variance
            if np.ndim(variance):
                variance = self._cut(variance, chosen, 1.0)
            planes["variance"] = variance
        if self._detections is not None:
            planes["mask"] = self._pixels_of_others(chosen)
        if self._image.raw is not None:
            raw = self._cut(self._image.raw, chosen, np.nan)
            raw = np.where(planes.get("mask", False), np.nan, raw)
            _level_saturated(planes["image"], raw)
        return planes

    def _pixels_of_others(self, rows):
        """Return the pixels (n, H, W) of sources whose centre is not on the stamp.

        The source at the position of the stamp is none of them.
        """
        found = self._detections
        numbers = self._cut(found.segmentation, rows, 0, found.segmentation.dtype)
        # The number 0 is no source.
        centers = np.vstack([[0.0, 0.0], found.centers])[numbers]
        first = self.origin[rows][:, None, None]
        last = first + np.array(self.shape[:1:-1]) - 1
        off = ((centers < first - CORNER) | (centers > last + CORNER)).any(axis=3)
        places = np.column_stack([self.x, self.y])[rows] - self.origin[rows]
        columns, lines = np.nan_to_num(places).round().astype(int).T
        own = numbers[np.arange(len(numbers)), lines, columns]
        is_own = (numbers == own[:, None, None]) & (numbers > 0)
        off &= (numbers > 0) & ~is_own
        grown = binary_dilation(off, _CROSS[None], iterations=GROWTH)
        return grown & ~is_own

    def _cut(self, array, rows, fill, dtype=np.float32):
        """Return stamps (n, H, W) of an array, filled outside of the image."""
        nddata = library("astropy.nddata")
        stamps = np.full((len(rows), *self.shape[2:]), fill, dtype)
        for stamp, row in zip(stamps, rows, strict=True):
            place = self.y[row], self.x[row]
            if not np.isfinite(place).all():
                continue
            try:
                in_image, in_stamp = nddata.overlap_slices(
                    array.shape, stamp.shape, place, mode="partial"
                )
            except nddata.NoOverlapError:
                continue
            stamp[in_stamp] = array[in_image]
        return stamps


def _level_saturated(stamps, raw):
    """Give the pixels that share the highest value of a raw stamp one value.

    The background that was subtracted differs between these pixels, and the flag
    "saturated" needs equal ones.
    """
    for stamp, pixels in zip(stamps, raw, strict=True):
        saturated = pixels == np.fmax.reduce(pixels, axis=None)
        if saturated.sum() >= LEAST_SATURATED:
            stamp[saturated] = stamp[saturated].max()


def _nearest(tree, numbers, places):
    """Return the number of the source at each of some places, or -1."""
    nearest = np.full(len(places), -1)
    known = np.isfinite(places).all(axis=1)
    if len(numbers) and known.any():
        distance, index = tree.query(places[known])
        nearest[known] = np.where(distance <= SAME_PLACE, numbers[index], -1)
    return nearest


@validate_params(
    {**BACKGROUND_SIZE, "mask_others": ["boolean"], "detection": [dict, None]},
    prefer_skip_nested_validation=True,
)
def cutouts(
    image: File | ArrayLike | NDData,
    positions: File | Columns | ArrayLike | SkyCoord | None = None,
    size: int | tuple[int, int] = 64,
    *,
    hdu: int | str | None = None,
    weight: File | ArrayLike | None = AUTO,
    variance: File | ArrayLike | None = AUTO,
    mask: File | ArrayLike | None = AUTO,
    mask_bits: int | None = None,
    psf: File | ArrayLike | Callable[..., Any] | None = None,
    wcs: WCS | Header | None = None,
    background: File | ArrayLike | None = None,
    background_size: int = 128,
    mask_others: bool = False,
    detection: dict[str, Any] | None = None,
) -> Cutouts:
    """Cut stamps from a survey image.

    The image is read once. The stamps are cut when rows are read, so that a hundred
    thousand of them need no memory.

    Parameters
    ----------
    image : str, PathLike, array-like of shape (H, W) or NDData
        The image: a FITS file, an array, or an object of `astropy.nddata` such as
        CCDData, whose uncertainty, mask and WCS are used. NaN is a masked pixel.
    positions : table, str, PathLike, SkyCoord, array-like of shape (n, 2) or None, \
            default=None
        The sources. A Table, DataFrame or dict has the columns "x" and "y" or "ra" and
        "dec", and maybe "object_id" or "id", in small or capital letters; x and y go
        first. A file has such a table: CSV, ECSV, FITS, Parquet or VOTable. An array
        has x and y. x and y are in pixels from the centre of the first pixel, as in
        astropy and sep (1 less than in FITS headers and SExtractor); ra and dec are in
        degrees, in ICRS. None finds sources by :func:`detect_sources`. A stamp is cut
        around the nearest pixels; positions that are NaN, or whose stamp is off the
        image, give stamps of masked pixels.
    size : int or tuple of int, default=64
        Side of the stamps, or height and width, in pixels.
    hdu : int or str, default=None
        The HDU of the image in its file. None takes the first one with the name SCI or
        IMAGE, else the first with an image.
    weight, variance, mask : float, array-like of shape (H, W), str, PathLike or None, \
            default="auto"
        The inverse variance or the variance of each pixel, and its mask, where True or
        any number but 0 is a bad pixel. A number, an array, the name of an HDU in the
        file of the image, or a file. "auto" takes HDUs with the usual names: WHT, WGT,
        WEIGHT or IVAR; VAR or VARIANCE, which goes first; MASK, MSK or DQ. Pixels whose
        weight or variance is not positive and finite are masked; so are those of a
        weight that "auto" finds beside a variance. The variance "sep" is that of the
        mesh background. None leaves a part out.
    mask_bits : int, default=None
        The sum of the bits of `mask` that make a pixel bad. None takes all.
    psf : float, array-like of shape (h, w), str, PathLike or callable, default=None
        The PSF. A number is the FWHM of a Gaussian in arcsec. An array is the effective
        PSF of all stamps, as in :func:`~sklcae.stack_planes`; a FITS file may have it
        as its first image. Other files are models of PSFEx [1]_, which have the
        response of the pixel; they are read by GalSim [2]_, from the extra
        ``simulate``. A callable takes x and y, in pixels from the centre of
        the first pixel, and returns the effective PSF there. It is called for the first
        position at once, so that a wrong function is an error. Stamps with a PSF that
        is not finite are masked. None leaves the plane out.
    wcs : astropy.wcs.WCS or Header, default=None
        The WCS, in place of the one that comes with the image.
    background : float, array-like of shape (H, W), str, PathLike or None, default=None
        The background that is subtracted from the image: a number, an array, the name
        of an HDU, a file, or "sep" for the mesh background of sep. None subtracts
        nothing. The network of :func:`~sklcae.load_pretrained` needs images without a
        background. Saturated pixels, three or more that share the highest value of a
        stamp, keep one value.
    background_size : int, default=128
        Side of a mesh of the background, in pixels. Meshes that are not much larger
        than the galaxies take some of their light.
    mask_others : bool, default=False
        Whether pixels are masked that belong to a source whose centre is not on the
        stamp, as sep finds it, and those within 3 pixels. Its light is no part of a fit
        of the sources on the stamp.
    detection : dict, default=None
        Parameters of :func:`detect_sources` with ``positions=None`` or `mask_others`:
        "threshold", "min_area", "deblend_levels" and "deblend_contrast".

    Returns
    -------
    stamps : Cutouts
        The stamps.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ImportError
        If astropy, sep or GalSim is needed and not installed.
    ValueError
        If a parameter is not as described.

    Warns
    -----
    UserWarning
        If pixels are longer on one side by more than 2 % on the sky, for which radii
        and ellipticities do not allow; if they are larger than 10 arcsec; if x, y and
        ra, dec of a table differ; and if most pixels are masked and no source is found.

    References
    ----------
    .. [1] E. Bertin, "Automated Morphometry with SExtractor and PSFEx", ASP Conference
       Series 442, 435 (2011).
    .. [2] B. Rowe et al., "GalSim: The modular galaxy image simulation toolkit",
       Astronomy and Computing 10, 121 (2015).

    Examples
    --------
    >>> import numpy as np
    >>> from sklcae.survey import cutouts
    >>> image = np.random.default_rng(0).normal(size=(200, 300))
    >>> psf = np.outer([1, 2, 1], [1, 2, 1])
    >>> stamps = cutouts(image, [[150.0, 80.0], [2.0, 90.0]], 32, variance=1.0, psf=psf)
    >>> stamps.planes, stamps.shape, stamps[:1].shape
    (('image', 'variance', 'psf'), (2, 3, 32, 32), (1, 3, 32, 32))
    """
    shape = _check_size(size)
    is_searched = positions is None or mask_others
    options = _check_detection(detection, is_searched)
    survey_image = read_image(
        image,
        hdu=hdu,
        weight=weight,
        variance=variance,
        mask=mask,
        mask_bits=mask_bits,
        wcs=wcs,
        background=background,
        background_size=background_size,
    )
    found = None
    if is_searched:
        found = find_sources(survey_image, background_size, **options)
        if positions is None:
            positions = found.table
            warn_of_no_source(positions, survey_image)
    places = read_positions(positions, survey_image.wcs)
    return Cutouts(survey_image, places, shape, psf, found if mask_others else None)


def _check_size(size):
    """Return the height and the width of the stamps."""
    sides = (size, size) if isinstance(size, Integral) else size
    is_pair = isinstance(sides, tuple) and len(sides) == 2
    if not is_pair or not all(isinstance(s, Integral) and s > 0 for s in sides):
        raise ValueError(
            f"size must be a positive int, or a tuple of two. Got {size!r}."
        )
    return tuple(map(int, sides))


def _check_detection(detection, is_searched):
    """Return the parameters of `find_sources`."""
    if detection is None:
        return {}
    if not is_searched:
        raise ValueError(
            "detection must be None with positions and mask_others=False. Got "
            f"{detection!r}."
        )
    unknown = set(detection) - set(DETECTION)
    if unknown:
        raise ValueError(
            f"detection must be a dict with keys among {list(DETECTION)}. Got "
            f"{sorted(map(str, unknown))}."
        )
    for name, value in detection.items():
        if not any(c.is_satisfied_by(value) for c in DETECTION[name]):
            raise InvalidParameterError(
                f"detection must have a {name} that is "
                f"{' or '.join(map(str, DETECTION[name]))}. Got {value!r}."
            )
    return detection
