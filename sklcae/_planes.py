"""Planes: the image of a stamp, its noise map and its PSF, stacked in X."""

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import gen_batches

from sklcae._array_likes import without_traps
from sklcae._typing import Floats
from sklcae._warning import warn_user

# The kinds of planes, in their order in X.
KINDS = ("image", "variance", "psf")
# All tuples of kinds that stamps may have: the image, and others in this order.
ALL_KINDS = tuple(
    (KINDS[0], *others)
    for n_others in range(len(KINDS))
    for others in combinations(KINDS[1:], n_others)
)

# The centre of a PSF is found from its pixels above this share of the brightest one:
# the wings of a measured PSF are mostly noise.
CORE = 0.1
# The least sum of a PSF, as a share of its brightest pixel.
LEAST_SUM = 1e-3
# Largest distance in pixels of this centre from the middle pixel.
FARTHEST_CENTER = 1.0
# More light of a PSF outside the stamp is worth a warning.
MUCH_LIGHT = 0.01
# So many stamps are stacked and checked together.
PART_SIZE = 32
# The sum of a channel that seems to be a PSF may differ from 1 by so much.
SUM_ROOM = 1e-3


class Planes(NamedTuple):
    """The planes of stamps, each (n, n_bands, H, W), or None if there is none.

    Parameters
    ----------
    image : ndarray
        The images, NaN where a pixel is masked.
    variance : ndarray or None
        The variance of each pixel, in the unit of the image squared.
    psf : ndarray or None
        The effective PSF: sampled at the pixels, pixel response included, of sum 1 with
        its centre in pixel (H // 2, W // 2).
    """

    image: Any
    variance: Any = None
    psf: Any = None


def is_kinds(value):
    """Return whether this is a tuple of kinds of planes in their order."""
    strings = isinstance(value, tuple) and all(isinstance(k, str) for k in value)
    return strings and value in ALL_KINDS


def check_kinds(planes, owner):
    """Return the kinds of planes as a tuple, or raise ValueError.

    The owner is the name of the estimator or function with the parameter `planes`.
    """
    given = (planes,) if isinstance(planes, str) else tuple(planes)
    if not is_kinds(given):
        raise ValueError(
            f"The 'planes' parameter of {owner} must be 'image', alone or followed by "
            f"'variance', 'psf' or both in this order. Got {planes!r} instead."
        )
    return given


def count_bands(n_channels, planes):
    """Return the number of bands of stamps with some channels, or raise ValueError."""
    n_bands, rest = divmod(n_channels, len(planes))
    if rest or not n_bands:
        raise ValueError(
            f"X must have one channel for each of the planes {planes} of each band: a "
            f"multiple of {len(planes)} channels, (n, C, H, W) as stack_planes makes "
            f"them. Got {n_channels}."
        )
    return n_bands


def warn_of_forgotten_planes(stamps):
    """Warn if the last of several bands (n, C, H, W) has the sum 1, as PSFs have."""
    with np.errstate(over="ignore", invalid="ignore"):
        has_sum = abs(stamps.sum(axis=(2, 3), dtype=np.float64) - 1) < SUM_ROOM
    if has_sum[:, -1].all() and not has_sum[:, 0].any():
        warn_user(
            "The last channel of X has the sum 1 in each stamp and seems to be a PSF, "
            f"but 'planes' takes all {stamps.shape[1]} channels for bands of the "
            f"image. Pass planes={KINDS} if stack_planes made X from these."
        )


def split_planes(stamps, planes):
    """Return the `Planes` of stamps (n, C, H, W), without a copy."""
    n_bands = stamps.shape[1] // len(planes)
    return Planes(
        **{
            kind: stamps[:, i * n_bands : (i + 1) * n_bands]
            for i, kind in enumerate(planes)
        }
    )


def check_planes(planes, first=0):
    """Raise ValueError unless variances and PSFs of some `Planes` can be used.

    ``first`` is the row of the first of these stamps in X, for the message.
    """
    if planes.variance is not None:
        wrong = _wrong_variances(planes.variance, planes.image)
        wanted = "be positive and finite in all pixels that are not masked"
        _raise_for(wrong, "variance", wanted, planes.variance, first)
    if planes.psf is not None:
        for wrong, wanted in _wrong_psfs(planes.psf):
            _raise_for(wrong, "psf", wanted, planes.psf, first)
        _check_centers(planes.psf, first)


def stack_planes(
    image: ArrayLike,
    variance: ArrayLike | None = None,
    psf: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Floats:
    """Stack images, noise maps and PSFs to stamps for the parameter `planes`.

    The stamps are ``X`` of :class:`ConditionalAutoencoderRegressor` and
    :class:`ProfileFitRegressor`. All that belongs to a stamp is in its row, so that it
    is cut, shuffled and cross-validated with it.

    Parameters
    ----------
    image : array-like of shape (n_samples, H, W) or (n_samples, n_bands, H, W)
        The images. NaN is a masked pixel.
    variance : float or array-like, (H, W) or the shape of image, default=None
        Variance of the noise of each pixel, in the unit of the image squared: one over
        the weight. Infinite where a pixel is masked.
    psf : array-like of shape (h, w), (n_samples, h, w) or \
            (n_samples, n_bands, h, w), default=None
        The effective PSF of all stamps or of each, sampled at the pixels of the stamps
        with the response of the pixel included, as PSFEx and Piff make it. The sides
        are odd and the centre is in the middle pixel; or they are the sides of the
        image, and the centre is in pixel ``(H // 2, W // 2)``. The sum may be any
        positive number.
    mask : bool array-like, (H, W) or the shape of image, default=None
        True where a pixel is masked.

    Returns
    -------
    X : ndarray of shape (n_samples, n_planes * n_bands, H, W)
        The planes in the order image, variance, psf, each with one channel for each
        band; float32 if the image is, else float64. Masked pixels are NaN in the image
        and have the median variance of the stamp. PSFs have the sum 1, and are padded
        or cut to H and W.

    Raises
    ------
    TypeError
        If an argument is a file name, a Quantity or a Table.
    ValueError
        If the shapes do not match; if a variance is negative, zero or NaN in a pixel
        that is not masked; if a PSF is not finite, does not have a positive sum, or has
        its centre more than a pixel from the middle. The message names the stamp.

    Warns
    -----
    UserWarning
        If more than 1 % of the light of a PSF is outside the stamp.

    Examples
    --------
    >>> import numpy as np
    >>> from sklcae import stack_planes
    >>> image = np.random.default_rng(0).normal(size=(5, 32, 32))
    >>> psf = np.outer([1, 2, 1], [1, 2, 1])
    >>> X = stack_planes(image, variance=1.0, psf=psf)
    >>> X.shape
    (5, 3, 32, 32)
    >>> X[0, 2, 15:18, 15:18]
    array([[0.0625, 0.125 , 0.0625],
           [0.125 , 0.25  , 0.125 ],
           [0.0625, 0.125 , 0.0625]])
    """
    image = _as_numbers(image, "image")
    if image.ndim not in (3, 4) or not image.size:
        raise ValueError(
            "image must have the shape (n_samples, H, W) or (n_samples, n_bands, H, "
            f"W). Got {image.shape}."
        )
    given = image.shape
    if mask is not None:
        mask = _spread(np.asarray(without_traps(mask, "mask"), bool), "mask", given)
    if variance is not None:
        variance = _spread(_as_numbers(variance, "variance"), "variance", given)
    if psf is not None:
        psf = _spread_psf(_as_numbers(psf, "psf"), given)
    parts = Planes(image=image, variance=variance, psf=psf)
    kinds = tuple(kind for kind in KINDS if getattr(parts, kind) is not None)
    n_bands = 1 if image.ndim == 3 else given[1]
    dtype = _float_type(image.dtype)
    stamps = np.empty((given[0], n_bands * len(kinds), *given[-2:]), dtype)
    lost = np.zeros(given[0])
    for rows in gen_batches(given[0], PART_SIZE):
        some = Planes(*(None if plane is None else plane[rows] for plane in parts))
        stacked = split_planes(stamps[rows], kinds)
        masked = None if mask is None else mask[rows]
        lost[rows] = _stack_part(stacked, some, masked, rows.start)
    _warn_of_lost_light(lost)
    return stamps


def _stack_part(stacked, given, mask, first):
    """Write a few stamps to `Planes`; return the light of their PSFs that is cut off.

    So few stamps stay in the cache of a core. ``first`` is the row of the first one.
    """
    image, variance, psf = stacked.image, stacked.variance, stacked.psf
    lost = 0.0
    image[:] = given.image.reshape(image.shape)
    if mask is not None:
        image[mask.reshape(image.shape)] = np.nan
    if variance is not None:
        variance[:] = given.variance.reshape(image.shape)
        if not variance.max() < np.inf:
            image[np.isposinf(variance)] = np.nan
    if psf is not None:
        lost = _cut_psf(psf, given.psf)
    if np.isinf(image).any():
        raise ValueError("image must be finite, or NaN where masked. Got infinity.")
    check_planes(stacked, first)
    if psf is not None:
        psf /= psf.sum(axis=(2, 3), keepdims=True)
    if variance is not None and np.isnan(image).any():
        variance[:] = filled_variance(stacked)
    return lost


def filled_variance(planes):
    """Return the variance with its median over the stamp in masked pixels."""
    masked = np.isnan(planes.image)
    if not masked.any():
        return planes.variance
    filled = np.array(planes.variance)
    for index in np.flatnonzero(masked.any(axis=(1, 2, 3))):
        good = planes.variance[index][~masked[index]]
        filled[index][masked[index]] = np.median(good) if len(good) else 1.0
    return filled


def check_psf(psf, n_stamps, band_shape):
    """Return the PSFs of stamps to be made, (n, n_bands, H, W), of sum 1.

    The shape is (h, w) for one PSF, (n, h, w) if there is one band, or
    (n, n_bands, h, w). Raises ValueError as `stack_planes` does.
    """
    psf = _as_numbers(psf, "psf")
    n_bands, *sides = band_shape
    one_band = psf.ndim == 3 and n_bands == 1
    bands = () if one_band else (n_bands,)
    n_given = 1 if psf.ndim == 2 else n_stamps
    given = _spread_psf(psf, (n_given, *bands, *sides))
    psf = np.empty((n_given, *band_shape))
    _warn_of_lost_light(_cut_psf(psf, given))
    check_planes(Planes(None, psf=psf))
    psf /= psf.sum(axis=(2, 3), keepdims=True)
    return np.broadcast_to(psf, (n_stamps, *band_shape))


def _as_numbers(values, name):
    """Return an array of numbers of any type, NaN where it is masked."""
    values = np.asanyarray(without_traps(values, name, masked=name == "image"))
    if values.dtype.kind not in "buif":
        raise ValueError(f"{name} must be an array of numbers. Got {values.dtype}.")
    return values


def _float_type(dtype):
    """Return the native float32 or float64 that holds the numbers of a type."""
    single = np.result_type(dtype, np.float32) == np.float32
    return np.dtype(np.float32 if single else np.float64)


def _spread(values, name, shape):
    """Return an array broadcast to the shape of the images, as they were given."""
    if values.ndim not in (0, 2, len(shape)):
        wanted = "a number, (H, W) or the shape of image"
    else:
        try:
            return np.broadcast_to(values, shape)
        except ValueError:
            wanted = "the shape of image"
    raise ValueError(f"{name} must have {wanted}, {shape}. Got {values.shape}.")


def _spread_psf(psf, shape):
    """Return PSFs broadcast to the axes of images, with sides of their own."""
    if psf.ndim not in (2, len(shape)) or 0 in psf.shape:
        raise ValueError(
            "psf must have the shape (h, w), or the axes of image with sides of its "
            f"own. Got {psf.shape} for images of the shape {shape}."
        )
    sides, wanted = psf.shape[-2:], shape[-2:]
    if sides != wanted and not all(side % 2 for side in sides):
        raise ValueError(
            "psf must have odd sides, with the centre in the middle pixel, or the "
            f"sides of image, {wanted}. Got {sides}."
        )
    try:
        return np.broadcast_to(psf, (*shape[:-2], *sides))
    except ValueError:
        raise ValueError(
            f"psf must be one PSF (h, w), or one for each image, {shape[:-2]}. Got "
            f"{psf.shape}."
        ) from None


def _cut_psf(fitted, psf):
    """Write PSFs to (n, n_bands, H, W), padded or cut; return the light cut off (n,).

    The light is that of the band that loses most, as a share of its PSF.
    """
    wanted, sides = fitted.shape[2:], psf.shape[-2:]
    psf = psf.reshape(*fitted.shape[:2], *sides)
    if wanted == sides:
        fitted[:] = psf
        return np.zeros(len(psf))
    fitted[:] = 0
    inside, outside = zip(*map(_overlap, wanted, sides), strict=True)
    kept = psf[..., outside[0], outside[1]]
    fitted[..., inside[0], inside[1]] = kept
    with np.errstate(invalid="ignore", over="ignore"):
        light, total = (part.sum(axis=(2, 3), dtype=np.float64) for part in (kept, psf))
        return (1 - light / total).max(axis=1)


def _warn_of_lost_light(lost):
    """Warn of PSFs that lose light at the edge of their stamps, (n,)."""
    if (lost > MUCH_LIGHT).any():
        stamp = int(np.argmax(lost > MUCH_LIGHT))
        warn_user(
            f"psf has {lost[stamp]:.1%} of its light outside the stamp in row "
            f"{stamp}, which is cut off: use larger stamps."
        )


def _overlap(length, other):
    """Return the parts of two axes that overlap when their middle pixels do."""
    start = length // 2 - other // 2
    n_common = min(length, start + other) - max(0, start)
    return slice(max(0, start), max(0, start) + n_common), slice(
        max(0, -start), max(0, -start) + n_common
    )


# Checks ------------------------------------------------------------------------------


def _raise_for(wrong, name, wanted, values, first):
    if wrong.any():
        index = int(np.argmax(wrong))
        low, high = np.min(values[index]), np.max(values[index])
        found = f"with values from {low:g} to {high:g}"
        raise _error_of_stamps(wrong, name, wanted, found, first)


def _error_of_stamps(wrong, name, wanted, found, first):
    return ValueError(
        f"The {name} of each stamp must {wanted}. Got {wrong.sum()} stamps with "
        f"another, the first in row {first + np.argmax(wrong)}, {found}."
    )


def _wrong_variances(variance, image):
    """Return which stamps have a variance that cannot be, in a pixel that counts."""
    axes = (1, 2, 3)
    usable = (variance.min(axis=axes) > 0) & (variance.max(axis=axes) < np.inf)
    wrong = ~usable
    for stamp in np.flatnonzero(wrong):
        some = variance[stamp]
        usable = (some > 0) & np.isfinite(some)
        wrong[stamp] = not (usable | np.isnan(image[stamp])).all()
    return wrong


def _wrong_psfs(psf):
    """Yield masks (n,) of stamps with a wrong PSF, each with the requirement."""
    largest, smallest = psf.max(axis=(2, 3)), psf.min(axis=(2, 3))
    # NaN is the largest and the smallest number.
    finite = np.isfinite(largest) & np.isfinite(smallest)
    yield ~finite.all(axis=1), "be finite"
    with np.errstate(over="ignore"):
        total = psf.sum(axis=(2, 3))
    # The sum of noise alone may be just above zero.
    least = LEAST_SUM * np.maximum(largest, -smallest)
    yield (total <= least).any(axis=1), "have a positive sum"


def _check_centers(psf, first):
    """Raise ValueError unless PSFs have their centres in the middle pixels."""
    core = np.zeros(psf.shape)
    largest = psf.max(axis=(2, 3), keepdims=True)
    np.copyto(core, psf, where=psf > CORE * largest)
    offsets = np.stack(_offsets(core))
    far = np.hypot(*offsets) > FARTHEST_CENTER
    if far.any():
        wrong = far.any(axis=1)
        down, right = offsets[:, far][:, 0]
        raise _error_of_stamps(
            wrong,
            "psf",
            "have its centre in pixel (H // 2, W // 2)",
            f"{down:+.2f} rows and {right:+.2f} columns from there",
            first,
        )


def _offsets(light):
    """Return the distances (n, n_bands) of centres of light from the middle pixel."""
    height, width = light.shape[2:]
    # One product reads the light once for its sum and its moment.
    weights = np.stack([np.ones(width), np.arange(width)], axis=1)
    rows, moments = np.moveaxis(light @ weights, -1, 0)
    total = rows.sum(axis=2)
    along_y, along_x = rows @ np.arange(height) / total, moments.sum(axis=2) / total
    return along_y - height // 2, along_x - width // 2
