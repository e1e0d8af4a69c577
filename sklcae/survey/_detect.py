"""Sources of a survey image, found by sep."""

from __future__ import annotations

from contextlib import contextmanager
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sklcae._compat import Interval, validate_params
from sklcae._typing import File
from sklcae._warning import warn_user
from sklcae.survey._geometry import sky_of_pixels
from sklcae.survey._image import (
    AUTO,
    library,
    masked_share,
    mesh_background,
    read_image,
)

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.nddata import NDData
    from astropy.table import Table
    from astropy.wcs import WCS

# The parameters that determine an image are those of `cutouts`.
DETECTION = {
    "threshold": [Interval(Real, 0, None, closed="neither")],
    "min_area": [Interval(Integral, 1, None, closed="left")],
    "deblend_levels": [Interval(Integral, 1, None, closed="left")],
    "deblend_contrast": [Interval(Real, 0, 1, closed="both")],
}
BACKGROUND_SIZE = {"background_size": [Interval(Integral, 8, None, closed="left")]}
# sep keeps so many pixels of sources at least, and so many more for larger images.
SHARE_OF_STACK = 4
MOST_SUB_OBJECTS = 10_000
# If no source is found and more of the image is masked, the mask may be wrong.
MOST_MASKED = 0.5


class Detections(NamedTuple):
    """Sources of an image, and their pixels.

    Parameters
    ----------
    table : Table
        The sources, the brightest first.
    segmentation : ndarray of shape (H, W)
        The number of the source that a pixel belongs to, from 1; 0 for none.
    centers : ndarray of shape (n, 2)
        The places x and y of the sources, in the order of these numbers.
    """

    table: Any
    segmentation: np.ndarray
    centers: np.ndarray


@validate_params({**DETECTION, **BACKGROUND_SIZE}, prefer_skip_nested_validation=True)
def detect_sources(
    image: File | ArrayLike | NDData,
    *,
    threshold: float = 4.0,
    min_area: int = 5,
    deblend_levels: int = 32,
    deblend_contrast: float = 0.005,
    hdu: int | str | None = None,
    weight: File | ArrayLike | None = AUTO,
    variance: File | ArrayLike | None = AUTO,
    mask: File | ArrayLike | None = AUTO,
    mask_bits: int | None = None,
    wcs: WCS | Header | None = None,
    background_size: int = 128,
) -> Table:
    """Find the sources of a survey image.

    The library sep [1]_ does the work of SExtractor [2]_: a mesh background is
    subtracted, connected pixels above a threshold are sources, and blends are divided
    at several levels of brightness.

    Parameters
    ----------
    image : str, PathLike, array-like of shape (H, W) or NDData
        The image, as in :func:`cutouts`.
    threshold : float, default=4.0
        The least brightness of a pixel of a source in units of its noise, both after
        the matched filter of sep, a mean over 3 x 3 pixels. With 4 no source is found
        in an image of 4096 x 4096 pixels of noise, with 3 there are 91.
    min_area : int, default=5
        The least number of pixels of a source.
    deblend_levels : int, default=32
        Number of levels at which blends are divided.
    deblend_contrast : float, default=0.005
        The least share of the light of a blend that is a source of its own; 1 divides
        no blends.
    hdu : int or str, default=None
        The HDU of the image in its file, as in :func:`cutouts`.
    weight, variance, mask : float, array-like of shape (H, W), str, PathLike or None, \
            default="auto"
        The noise and the mask, as in :func:`cutouts`. Without a weight or a variance
        the noise is that of the mesh.
    mask_bits : int, default=None
        The sum of the bits of `mask` that make a pixel bad. None takes all.
    wcs : astropy.wcs.WCS or Header, default=None
        The WCS, in place of the one that comes with the image.
    background_size : int, default=128
        Side of a mesh of the background, in pixels.

    Returns
    -------
    sources : astropy.table.Table
        One row for each source, the brightest first:

        object_id : int
            The number of the row.
        x, y : float
            Mean place of the light above the threshold, in pixels from the centre of
            the first pixel.
        ra, dec : float
            Place on the sky in degrees, in ICRS; NaN without a WCS.
        flux : float
            Light above the threshold (isophotal), less than the total.
        a, b : float
            Semi-axes in pixels, standard deviations of the light along them.
        theta : float
            Angle of the long axis in degrees, from +x to +y.
        flags : int
            The extraction flags of sep, such as 1 for a blend and 2 for a source that
            is cut by the edge.

    Raises
    ------
    ImportError
        If sep or astropy is not installed.
    ValueError
        If a parameter is not as described.

    Warns
    -----
    UserWarning
        If there is no source, and most pixels are masked.

    References
    ----------
    .. [1] K. Barbary, "SEP: Source Extractor as a library", JOSS 1, 58 (2016).
    .. [2] E. Bertin and S. Arnouts, "SExtractor: Software for source extraction",
       A&AS 117, 393 (1996).

    Examples
    --------
    >>> import numpy as np
    >>> from sklcae.survey import detect_sources
    >>> y, x = np.indices((100, 100))
    >>> image = np.random.default_rng(0).normal(size=(100, 100))
    >>> image += 50 * np.exp(-((x - 30.0) ** 2 + (y - 60.0) ** 2) / 18)
    >>> sources = detect_sources(image, variance=1.0, threshold=3.0)
    >>> len(sources), round(sources["x"][0]), round(sources["y"][0])
    (1, 30, 60)
    """
    survey_image = read_image(
        image,
        hdu=hdu,
        weight=weight,
        variance=variance,
        mask=mask,
        mask_bits=mask_bits,
        wcs=wcs,
    )
    sources = find_sources(
        survey_image,
        background_size,
        threshold=threshold,
        min_area=min_area,
        deblend_levels=deblend_levels,
        deblend_contrast=deblend_contrast,
    ).table
    warn_of_no_source(sources, survey_image)
    return sources


def find_sources(
    image,
    background_size,
    *,
    threshold=4.0,
    min_area=5,
    deblend_levels=32,
    deblend_contrast=0.005,
):
    """Return the `Detections` of a `SurveyImage`."""
    bad = np.isnan(image.pixels)
    mesh = mesh_background(image.pixels, bad, background_size)
    filled = np.where(bad, 0, image.pixels - mesh.back())
    if image.variance is None:
        noise = mesh.rms().astype(np.float64)
    else:
        noise = np.sqrt(np.broadcast_to(image.variance, bad.shape))
    with _room_for(bad.size):
        found, segmentation = library("sep").extract(
            filled.astype(np.float64, copy=False),
            float(threshold),
            err=np.ascontiguousarray(noise),
            mask=bad,
            minarea=int(min_area),
            deblend_nthresh=int(deblend_levels),
            deblend_cont=float(deblend_contrast),
            segmentation_map=True,
        )
    centers = np.column_stack([found["x"], found["y"]])
    found = found[np.argsort(-found["flux"], kind="stable")]
    return Detections(_table_of(found, image.wcs), segmentation, centers)


def warn_of_no_source(sources, image):
    """Warn if no source is found on a `SurveyImage` that is mostly masked."""
    masked = masked_share(image)
    if not len(sources) and masked > MOST_MASKED:
        warn_user(
            f"No source was found on {image.name}: {masked:.1%} of its pixels are "
            "masked or have no positive weight or variance. In a mask True, or a "
            "number but 0, is a bad pixel."
        )


@contextmanager
def _room_for(n_pixels):
    """Let sep keep enough pixels and sources of an image."""
    sep = library("sep")
    stack, objects = sep.get_extract_pixstack(), sep.get_sub_object_limit()
    sep.set_extract_pixstack(max(stack, n_pixels // SHARE_OF_STACK))
    sep.set_sub_object_limit(max(objects, MOST_SUB_OBJECTS))
    try:
        yield
    except Exception as error:
        # sep has no class of its own for this error.
        if "buffer full" not in str(error):
            raise
        raise ValueError(
            "image must have fewer pixels above the threshold: more than one in "
            f"{SHARE_OF_STACK} belong to sources. Its weight or variance may be wrong, "
            "or the threshold of the detection too low."
        ) from error
    finally:
        sep.set_extract_pixstack(stack)
        sep.set_sub_object_limit(objects)


def _table_of(found, wcs):
    """Return the found sources as a table with units."""
    x, y = (np.array(found[name], dtype=np.float64) for name in "xy")
    ra, dec = np.full((2, len(x)), np.nan) if wcs is None else sky_of_pixels(wcs, x, y)
    columns = {
        "object_id": np.arange(len(x)),
        "x": x,
        "y": y,
        "ra": ra,
        "dec": dec,
        "flux": found["flux"],
        "a": found["a"],
        "b": found["b"],
        "theta": np.rad2deg(found["theta"]),
        "flags": found["flag"],
    }
    units = dict.fromkeys(("x", "y", "a", "b"), "pixel")
    units |= dict.fromkeys(("ra", "dec", "theta"), "deg")
    return library("astropy.table").Table(columns, units=units)
