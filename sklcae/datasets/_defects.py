"""Defects of images: correlated noise, sky left over, cosmic rays, dead columns.

Each function works on one stamp (height, width) and returns a new one. Like
`sklcae.datasets._chunks` this module imports neither scikit-learn nor `scipy.stats`.

A stamp gets its defects in the order of the light: noise, correlated noise, sky left
over, cosmic rays, saturation, dead columns.
"""

import math

import numpy as np
from scipy.ndimage import correlate1d

# Half the side of the smoothing kernel, in standard deviations. The kernel beyond would
# change a correlation by less than 1e-4.
_KERNEL_REACH = 4.0

# Electrons that a fast muon frees per micron of silicon, and a CCD: thicker than a
# thinned one of 15 microns, thinner than a fully depleted one of 100 to 250.
_ELECTRONS_PER_MICRON = 80.0
_PIXEL_MICRONS = 13.5
_THICKNESS_MICRONS = 40.0
# The losses follow a Moyal distribution. Its full width at half maximum is 3.6 times
# this scale, about a third of the most probable loss.
_LOSS_SCALE = 0.1
# A track that advances less, in pixels, crosses no border between pixels.
_NO_STEP = 1e-12


# Correlated noise --------------------------------------------------------------------


def correlate_noise(noise, noise_correlation, variance=None):
    """Smooth noise by a Gaussian and keep the variance of each pixel.

    Resampling an image to other pixels correlates its noise in this way.

    Parameters
    ----------
    noise : ndarray of shape (height, width)
        Independent noise: a noisy stamp minus the expected one.
    noise_correlation : float
        Standard deviation in pixels of the Gaussian by which the noise is smoothed. 0
        returns the noise unchanged.
    variance : ndarray of shape (height, width), default=None
        Variance of the noise in each pixel, if it differs between pixels.

    Returns
    -------
    correlated : ndarray of shape (height, width)
        The smoothed noise. Each pixel has the variance that it had before, also at the
        edge of the stamp, where part of the Gaussian is outside.
    """
    if noise_correlation == 0:
        return noise.copy()
    if variance is None:
        variance = np.ones(noise.shape)
    kernel = _kernel(noise_correlation)
    smoothed_variance = _smooth(variance, kernel**2)
    factor = np.divide(
        variance,
        smoothed_variance,
        out=np.zeros(noise.shape),
        where=smoothed_variance > 0,
    )
    return _smooth(noise, kernel) * np.sqrt(factor)


def noise_autocorrelation(noise_correlation):
    """Return the autocorrelation of the noise that `correlate_noise` makes.

    Parameters
    ----------
    noise_correlation : float
        Standard deviation in pixels of the Gaussian by which the noise is smoothed.

    Returns
    -------
    autocorrelation : ndarray of shape (2 m + 1, 2 m + 1)
        Correlation coefficient of the noise of two pixels as a function of their
        distance in rows and columns, 1 in the middle. It is 0 beyond m pixels. For a
        `noise_correlation` of at least 1 it differs by less than 0.001 from a Gaussian
        of standard deviation ``sqrt(2) * noise_correlation``. Pixels closer to the edge
        of a stamp than m / 2 deviate from it.
    """
    kernel = _kernel(noise_correlation)
    line = np.convolve(kernel, kernel)
    line = line / line[len(line) // 2]
    return np.outer(line, line)


def _kernel(noise_correlation):
    """Return the Gaussian along one axis, sampled at the pixels, of sum 1."""
    half = math.ceil(_KERNEL_REACH * noise_correlation)
    if half == 0:
        return np.ones(1)
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / noise_correlation) ** 2)
    return kernel / kernel.sum()


def _smooth(image, kernel):
    for axis in (0, 1):
        image = correlate1d(image, kernel, axis=axis, mode="constant")
    return image


# Sky left over -----------------------------------------------------------------------


def draw_gradient(sky_gradient, generator):
    """Return the x and y components of a gradient along a random direction."""
    angle = generator.uniform(0.0, 2 * math.pi)
    return sky_gradient * math.cos(angle), sky_gradient * math.sin(angle)


def sky_plane(image_shape, sky_offset, gradient_x=0.0, gradient_y=0.0):
    """Return the sky that is left in a stamp, in ADU per pixel.

    Parameters
    ----------
    image_shape : tuple of two ints
        Height and width.
    sky_offset : float
        The sky in the middle of the stamp, in ADU per pixel.
    gradient_x, gradient_y : float, default=0.0
        Change of the sky from a column, or row, to the next one, in ADU per pixel.

    Returns
    -------
    sky : ndarray of shape (height, width)
        A plane. Its mean is `sky_offset`.
    """
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in image_shape)
    return sky_offset + gradient_y * rows[:, np.newaxis] + gradient_x * columns


# Cosmic rays -------------------------------------------------------------------------


def draw_cosmic_rays(image_shape, cosmic_rays, generator):
    """Draw the charge that cosmic rays leave in a stamp.

    The rays are fast muons, which cross a CCD 40 microns thick with pixels of 13.5
    microns in straight lines. Their number is Poisson distributed. Their intensity
    falls with the zenith angle as its squared cosine, their azimuth is uniform, and the
    middle of each track is uniform over the stamp. The length of a track depends on its
    angle and on the thickness of the CCD [1]_. A muon most probably frees 80 electrons
    per micron of its path [2]_. The charge of a pixel is proportional to the length of
    the path in it. Neither the PSF nor diffusion spreads it.

    Half of the tracks are longer than 1.9 pixels, and a tenth than 4.4 pixels. A muon
    perpendicular to the CCD leaves 3,200 electrons in one pixel.

    Parameters
    ----------
    image_shape : tuple of two ints
        Height and width.
    cosmic_rays : float
        Mean number of tracks.
    generator : numpy.random.Generator
        The source of random numbers.

    Returns
    -------
    electrons : ndarray of shape (height, width)
        The added charge.
    mask : bool ndarray of shape (height, width)
        True where a track crosses the pixel.

    References
    ----------
    .. [1] J. Vandenbroucke et al., "Measurement of camera image sensor depletion
       thickness with cosmic rays", Journal of Instrumentation 11, P04019 (2016).
    .. [2] C. Damerell, "Physics and technology of silicon detectors", RAL seminar
       (2009).
    """
    electrons = np.zeros(image_shape)
    for _ in range(generator.poisson(cosmic_rays)):
        _add_track(electrons, *_draw_track(image_shape, generator))
    return electrons, electrons > 0


def _draw_track(image_shape, generator):
    """Return the start and the vector of a track, (row, column), and its electrons."""
    middle = generator.uniform(size=2) * image_shape
    # Per solid angle, muons cross a horizontal area as the cube of the cosine.
    cosine = (1.0 - generator.uniform()) ** 0.25
    azimuth = generator.uniform(0.0, 2 * math.pi)
    loss = 1.0 - _LOSS_SCALE * math.log(generator.normal() ** 2)
    length = _THICKNESS_MICRONS / _PIXEL_MICRONS * math.sqrt(1 - cosine**2) / cosine
    vector = length * np.array([math.sin(azimuth), math.cos(azimuth)])
    path = _THICKNESS_MICRONS / cosine
    return middle - vector / 2, vector, _ELECTRONS_PER_MICRON * loss * path


def _add_track(electrons, start, vector, charge):
    """Share the charge of a track among the pixels by the length in each of them."""
    ends = [np.array([0.0, 1.0])]
    for n, first, step in zip(electrons.shape, start, vector, strict=True):
        if abs(step) > _NO_STEP:
            ends.append((np.arange(n + 1) - first) / step)
    ends = np.unique(np.clip(np.concatenate(ends), 0.0, 1.0))
    middles = (ends[1:] + ends[:-1]) / 2
    pixels = np.floor(start + middles[:, np.newaxis] * vector).astype(int)
    inside = ((pixels >= 0) & (pixels < electrons.shape)).all(axis=1)
    rows, columns = pixels[inside].T
    np.add.at(electrons, (rows, columns), charge * np.diff(ends)[inside])


# Saturation and dead columns ---------------------------------------------------------


def saturate(stamp, saturation):
    """Clip pixels at a full well, without the charge that overflows along the column.

    Parameters
    ----------
    stamp : ndarray of shape (height, width)
        The stamp in ADU, after the mean sky was subtracted.
    saturation : float
        Largest value of a pixel, in ADU.

    Returns
    -------
    clipped : ndarray of shape (height, width)
        The stamp with at most `saturation` in each pixel.
    mask : bool ndarray of shape (height, width)
        True where the stamp was above `saturation`.
    """
    return np.minimum(stamp, saturation), stamp > saturation


def kill_columns(stamp, dead_columns, generator):
    """Return a stamp with NaN in whole columns.

    Parameters
    ----------
    stamp : ndarray of shape (height, width)
        The stamp.
    dead_columns : float
        Mean number of dead columns, Poisson distributed. Columns beyond the width do
        not count.
    generator : numpy.random.Generator
        The source of random numbers.

    Returns
    -------
    stamp : ndarray of shape (height, width)
        A copy with NaN in the dead columns.
    """
    width = stamp.shape[1]
    n_dead = min(generator.poisson(dead_columns), width)
    stamp = stamp.copy()
    stamp[:, generator.choice(width, n_dead, replace=False)] = np.nan
    return stamp
