"""A profile fit: seven parameters of a GalSim model, by scipy's least squares."""

import numpy as np
from plain import (
    GAIN,
    PIXEL_SCALE,
    PSF_FWHM,
    READ_NOISE,
    SIDE,
    SKY_LEVEL,
    draw_stamp,
)
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares

# Flux, half-light radius, Sersic index, e1, e2, x0, y0: somewhat wider than Table 1.
LOW = np.array([50.0, 0.1, 0.4, -0.65, -0.65, -4.0, -4.0])
HIGH = np.array([5e5, 8.0, 5.0, 0.65, 0.65, SIDE + 4.0, SIDE + 4.0])
# Width in pixels of the Gaussian that smooths the stamp for the initial guess.
SMOOTHING = 2.0
# Steps of the derivatives: GalSim's tables are too coarse for SciPy's tiny ones.
STEPS = np.array([1e-3, 1e-3, 1e-2, 1e-3, 1e-3, 1e-2, 1e-2])
RELATIVE = np.array([True, True, False, False, False, False, False])


def fit_profile(stamp):
    """Return the best-fitting parameters of a stamp (H, W), and the number of images.

    The variance of the noise comes first from the smoothed stamp, then from the model.
    If it came from the noisy pixels, low pixels would get more weight, and all galaxies
    would come out too faint.

    Returns
    -------
    parameters : ndarray of shape (7,)
        The parameters.
    n_drawn : int
        Number of images that were drawn for the fit.
    """
    smooth = gaussian_filter(stamp.astype(float), SMOOTHING)
    parameters, n_first = _least_squares(stamp, smooth, _guess(smooth))
    model = draw_stamp(*parameters).array
    parameters, n_second = _least_squares(stamp, model, parameters)
    return parameters, n_first + 1 + n_second


def _least_squares(stamp, expected, parameters):
    variance = (np.clip(expected, 0, None) + SKY_LEVEL) / GAIN + (
        READ_NOISE / GAIN
    ) ** 2
    n_drawn = 0

    def residuals(parameters):
        nonlocal n_drawn
        n_drawn += 1
        image = draw_stamp(*parameters).array
        return ((image - stamp) / np.sqrt(variance)).ravel()

    result = least_squares(
        residuals,
        np.clip(parameters, LOW + 1e-3, HIGH - 1e-3),
        jac=lambda parameters: _derivatives(residuals, parameters),
        bounds=(LOW, HIGH),
        x_scale=np.array([1e4, 1.0, 1.0, 0.1, 0.1, 1.0, 1.0]),
        xtol=1e-3,
        ftol=1e-4,
        max_nfev=50,
    )
    return result.x, n_drawn


def _guess(smooth):
    """Return initial parameters, from the smoothed pixels above the noise."""
    noise = np.sqrt(SKY_LEVEL / GAIN + (READ_NOISE / GAIN) ** 2)
    noise /= 2 * SMOOTHING * np.sqrt(np.pi)
    light = np.where(smooth > max(3 * noise, 0.02 * smooth.max()), smooth, 0)
    light[np.unravel_index(smooth.argmax(), smooth.shape)] += noise
    y, x = np.indices(smooth.shape) + 0.5
    x0, y0 = np.average(x, weights=light), np.average(y, weights=light)
    xx = np.average((x - x0) ** 2, weights=light) + 0.1
    yy = np.average((y - y0) ** 2, weights=light) + 0.1
    xy = np.average((x - x0) * (y - y0), weights=light)
    blur = (PSF_FWHM / PIXEL_SCALE / 2.355) ** 2 + SMOOTHING**2
    size = np.sqrt(max((xx + yy) / 2 - blur, 1.0))
    # 1.18 is the half-light radius of a Gaussian, and the outskirts are missing.
    radius = 1.3 * 1.18 * size * PIXEL_SCALE
    e1, e2 = (xx - yy) / (xx + yy), 2 * xy / (xx + yy)
    return np.array([1.3 * light.sum() + 100, radius, 1.5, e1, e2, x0, y0])


def _derivatives(residuals, parameters):
    here = residuals(parameters)
    steps = np.where(RELATIVE, STEPS * parameters, STEPS)
    steps = np.where(parameters + steps > HIGH, -steps, steps)
    columns = [
        (residuals(parameters + step) - here) / step.sum() for step in np.diag(steps)
    ]
    return np.stack(columns, axis=1)
