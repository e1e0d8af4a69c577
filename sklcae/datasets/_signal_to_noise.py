"""signal_to_noise: the signal-to-noise ratio of galaxies on their stamps."""

import numpy as np
from numpy.typing import ArrayLike

from sklcae._compat import validate_params
from sklcae._typing import Floats
from sklcae._units import check_numbers
from sklcae.datasets._noise import inverse_variance
from sklcae.datasets._parameters import parameter_error, parse_values
from sklcae.datasets._telescope import DETECTOR, GAIN, check_variance


@validate_params({"gain": [*GAIN["gain"], None]}, prefer_skip_nested_validation=True)
def signal_to_noise(
    images: ArrayLike,
    *,
    variance: ArrayLike | None = None,
    sky_level: ArrayLike = 10.0,
    gain: float | None = 1.0,
    read_noise: ArrayLike = 2.0,
) -> Floats:
    """Compute the signal-to-noise ratio of each galaxy on its stamp.

    It is the ratio of a matched filter [1]_, the best linear measurement of the flux of
    a galaxy with known shape: the square root of the sum of ``I**2 / v`` over the
    pixels. Here I is the noiseless stamp and v the variance of its pixels: ``v = (I +
    sky_level) / gain + (read_noise / gain)**2``, or ``v = variance + I / gain`` if the
    variance of the background is given.

    Parameters
    ----------
    images : array-like of shape (n_images, height, width) or (n_images, n_pixels)
        Noiseless stamps of one band in ADU, without sky. In other stamps the noise, and
        the light of neighbours, would count as signal.
    variance : float or array-like of the shape of images or of one image, default=None
        Variance of the background of each pixel in ADU squared, such as the plane
        "variance" of :func:`make_galaxies`. Infinite where a pixel is masked. With a
        variance, `sky_level` and `read_noise` are unused.
    sky_level : float or array-like of shape (n_images,), default=10.0
        Sky background in ADU per pixel, as in :func:`make_galaxies`.
    gain : float or None, default=1.0
        Electrons per ADU. None, allowed with `variance`, means that the variance
        includes the noise of the galaxy.
    read_noise : float or array-like of shape (n_images,), default=2.0
        Standard deviation of the read noise, in electrons per pixel.

    Returns
    -------
    ndarray of shape (n_images,)
        Signal-to-noise ratios.

    Raises
    ------
    ValueError
        If `images` is not a finite array of two or three dimensions, if a variance is
        not above 0, or if another parameter is out of range.
    TypeError
        If a parameter is an astropy Quantity.

    See Also
    --------
    cramer_rao_bound : Returns these ratios together with the bound.
    sklcae.metrics.scores_by_signal_to_noise : Scores of faint and bright galaxies.

    References
    ----------
    .. [1] S. M. Kay, "Fundamentals of Statistical Signal Processing: Detection Theory",
       chapter 4, Prentice Hall (1998).

    Examples
    --------
    With the same random_state, ``noise=False`` gives the same stamps without noise:

    >>> from sklcae.datasets import make_galaxies, signal_to_noise
    >>> settings = {"sersic_index": 1.0, "image_shape": (32, 32), "random_state": 0}
    >>> X, y = make_galaxies(3, **settings)
    >>> noiseless, _ = make_galaxies(3, noise=False, **settings)
    >>> signal_to_noise(noiseless).round()
    array([61., 38., 69.])
    """
    images = check_numbers(
        images, "images", unit="adu", ensure_2d=True, ensure_min_samples=0
    )
    if images.ndim > 3:
        raise ValueError(
            "images must have the shape (n_images, height, width) or (n_images, "
            f"n_pixels), got {images.shape}."
        )
    if variance is not None:
        noise = {"background": check_variance(variance, images.shape)}
    elif gain is None:
        raise parameter_error("gain", "a number, except with 'variance'", "None")
    else:
        given = {"sky_level": sky_level, "read_noise": read_noise}
        noise = _check_detector(given, images)
    weight = inverse_variance(images, gain=gain, **noise)
    return np.sqrt((images**2 * weight).reshape(len(images), -1).sum(axis=1))


def _check_detector(given, images):
    """Return sky level and read noise of each image, to broadcast with its pixels."""
    shape = (-1, *(1,) * (images.ndim - 1))
    return {
        name: parse_values(name, given[name], len(images), "n_images").reshape(shape)
        for name in DETECTOR
    }
