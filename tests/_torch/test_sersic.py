"""The renderer against analytic profiles, GalSim, finite differences and itself."""

import math

import galsim
import numpy as np
import pytest
import torch
from scipy.special import gamma, gammainc, gammaincinv, ndtr

from sklcae._torch.sersic import (
    INDEX_LIMITS,
    N_PARAMETERS,
    RenderFunction,
    _table,
    psf_waves,
    render,
    render_with_jacobian,
    transform_size,
)

NAMES = ("log flux", "log radius", "log index", "e1", "e2", "x", "y")
SKY_NOISE = 3.7
CPU = torch.device("cpu")


def profile(flux=1.0, radius=3.0, index=1.0, e1=0.0, e2=0.0, x=15.0, y=15.0):
    """One profile as `render` takes it, float64."""
    logs = [math.log(value) for value in (flux, radius, index)]
    return torch.tensor([[*logs, e1, e2, x, y]], dtype=torch.float64)


def gaussian_psf(sigma=1.4, side=33):
    """An effective PSF: a Gaussian integrated over the pixels, (1, side, side)."""
    edges = np.arange(side + 1) - side // 2 - 0.5
    line = np.diff(ndtr(edges / sigma))
    return torch.tensor(np.outer(line, line)[None])


def no_psf():
    return torch.ones(1, 1, 1, dtype=torch.float64)


def image_of(parameters, psf=None, shape=(32, 32), size=None):
    """Render with a transform of the usual size, or another one."""
    psf = gaussian_psf() if psf is None else psf
    waves = psf_waves(psf.to(parameters.dtype), size or transform_size(shape))
    waves = waves.expand(len(parameters), -1, -1)
    return render(parameters, waves, shape).numpy()


def moments_of(image):
    """Return flux, centre x and y, and second moments xx, yy, xy of an image."""
    y, x = np.indices(image.shape)
    flux = image.sum()
    center_x, center_y = (x * image).sum() / flux, (y * image).sum() / flux
    dx, dy = x - center_x, y - center_y
    second = [(part * image).sum() / flux for part in (dx**2, dy**2, dx * dy)]
    return flux, center_x, center_y, *second


def random_profiles(n, random_state, shape=(48, 48), faintest=500.0, brightest=5e4):
    """Profiles over all limits: radii from 0.05 pixels to more than the stamp."""
    rng = np.random.default_rng(random_state)
    height, width = shape
    low = [faintest, 0.05, INDEX_LIMITS[0]]
    high = [brightest, 1.2 * max(shape), INDEX_LIMITS[1]]
    logs = rng.uniform(np.log(low), np.log(high), size=(n, 3))
    e, angle = rng.uniform(0, 0.9, n), rng.uniform(0, 2 * np.pi, n)
    center = rng.uniform([4, 4], [width - 5, height - 5], size=(n, 2))
    columns = logs, (e * np.cos(angle))[:, None], (e * np.sin(angle))[:, None], center
    return torch.tensor(np.hstack(columns))


# Analytic values ----------------------------------------------------------------------


@pytest.mark.parametrize("index", [0.3, 0.5, 1.0, 1.7])
@pytest.mark.parametrize(("e1", "e2"), [(0.0, 0.0), (0.3, -0.2), (0.0, 0.6)])
def test_flux_centre_and_second_moments(index, e1, e2):
    sigma, radius = 1.4, 2.0
    shape = (96, 96)
    parameters = profile(7.0, radius, index, e1, e2, x=46.3, y=48.6)
    found = moments_of(image_of(parameters, gaussian_psf(sigma), shape)[0])
    # The mean squared radius of a Sersic profile. The shear stretches its halves.
    b = gammaincinv(2 * index, 0.5)
    squared = radius**2 * b ** (-2 * index) * gamma(4 * index) / gamma(2 * index)
    stretched = squared / 2 / math.sqrt(1 - e1**2 - e2**2)
    pixel = 1 / 12
    blur = sigma**2 + pixel
    expected = [7.0, 46.3, 48.6, stretched * (1 + e1) + blur]
    expected += [stretched * (1 - e1) + blur, stretched * e2]
    np.testing.assert_allclose(found, expected, rtol=3e-3, atol=1e-3)
    np.testing.assert_allclose(found[0], 7.0, rtol=1e-3)


@pytest.mark.parametrize("index", [0.5, 1.0, 2.5, 4.0, 6.2])
def test_half_of_the_light_is_inside_the_half_light_radius(index):
    radius, side = 24.0, 257
    parameters = profile(1.0, radius, index, x=128.0, y=128.0)
    image = image_of(parameters, gaussian_psf(0.8), (side, side))[0]
    distance = np.hypot(*(np.indices(image.shape) - side // 2))
    for share in (1.0, 2.0, 4.0):
        b = gammaincinv(2 * index, 0.5)
        expected = gammainc(2 * index, b * share ** (1 / index))
        # The share of a pixel that is inside the circle, nearly.
        inside = (share * radius - distance + 0.5).clip(0, 1)
        found = (image * inside).sum()
        assert found == pytest.approx(expected, abs=2e-3), share


def test_index_one_half_is_a_gaussian_through_gaussian_and_pixel():
    radius, psf_sigma = 2.5, 1.3
    # Half of the light of a Gaussian is within sqrt(2 ln 2) sigma.
    sigma = math.hypot(radius / math.sqrt(2 * math.log(2)), psf_sigma)
    image = image_of(profile(1.0, radius, 0.5, x=14.2, y=17.7), gaussian_psf(psf_sigma))
    lines = [
        np.diff(ndtr((np.arange(33) - 0.5 - center) / sigma)) for center in (17.7, 14.2)
    ]
    np.testing.assert_allclose(image[0], np.outer(*lines), atol=3e-7)


def test_the_transform_of_an_exponential_disc():
    table = _table(torch.float64, CPU)
    step, first = table.frequency_step, table.first_frequency
    frequency = np.exp(first + step * np.arange(table.values.shape[2]))
    b = gammaincinv(2, 0.5)
    parameters = profile(radius=1.0)
    place = (parameters[0, 2] - table.first_index) / table.index_step
    # n = 1 lies between two rows of the table: a cubic through four of them.
    nodes = int(place) + np.arange(-1, 3)
    weights = [
        np.prod([(float(place) - j) / (i - j) for j in nodes if j != i]) for i in nodes
    ]
    found = np.tensordot(weights, table.values[nodes, 0], 1)
    expected = (1 + (frequency / b) ** 2) ** -1.5
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("index", INDEX_LIMITS)
def test_the_limits_of_the_index_are_rendered(index):
    step = 1e-5
    inside = index + (step if index < 1 else -step)
    at, near = (image_of(profile(index=n)) for n in (index, inside))
    assert np.isfinite(at).all()
    np.testing.assert_allclose(at, near, atol=1e-6)


def test_a_tiny_galaxy_is_the_psf():
    psf = gaussian_psf()
    image = image_of(profile(5.0, 0.001, 1.0, x=16.0, y=16.0), psf, (33, 33))
    np.testing.assert_allclose(image[0], 5 * psf[0], atol=1e-5)


def test_the_profile_without_a_psf_is_the_brightness():
    image = image_of(profile(1.0, 12.0, 1.0, 0.3, 0.2), no_psf(), (48, 48))[0]
    x, y = np.indices(image.shape)[::-1] - 15.0
    squared = x**2 + y**2 - 0.3 * (x**2 - y**2) - 2 * 0.2 * x * y
    distance = np.sqrt(squared) / (1 - 0.3**2 - 0.2**2) ** 0.25 / 12.0
    b = gammaincinv(2, 0.5)
    light = b**2 / (2 * math.pi * 12.0**2) * np.exp(-b * distance)
    outside = distance > 0.5
    np.testing.assert_allclose(image[outside], light[outside], 2e-3, 2e-6)


# GalSim -------------------------------------------------------------------------------

ACCURATE = galsim.GSParams(
    folding_threshold=3e-4,
    stepk_minimum_hlr=30,
    maxk_threshold=1e-4,
    kvalue_accuracy=1e-6,
    maximum_fft_size=16384,
)
PSFS = {
    "gaussian": galsim.Gaussian(fwhm=3.0, gsparams=ACCURATE),
    "moffat": galsim.Moffat(beta=3.0, fwhm=3.2, trunc=20.0, gsparams=ACCURATE),
    "elliptical": galsim.Gaussian(fwhm=3.5, gsparams=ACCURATE).shear(e1=0.1, e2=-0.05),
}


def galsim_image(row, psf, shape):
    """Draw a galaxy through PSF and pixel as GalSim does."""
    flux, radius, index = np.exp(row[:3])
    e1, e2, x, y = row[3:]
    galaxy = galsim.Sersic(
        n=index, half_light_radius=radius, flux=flux, gsparams=ACCURATE
    ).shear(e1=e1, e2=e2)
    image = galsim.ImageD(shape[1], shape[0], scale=1.0)
    center = galsim.PositionD(x + 1, y + 1)
    return galsim.Convolve(galaxy, psf).drawImage(image, center=center).array


def differences_from_galsim(parameters, name, shape):
    """Return rms differences over the noise, and the largest, of each galaxy."""
    psf, side = PSFS[name], transform_size(shape) - 1
    stamp = psf.drawImage(nx=side, ny=side, scale=1.0, dtype=float).array
    images = image_of(parameters, torch.tensor(stamp)[None], shape)
    expected = np.array([galsim_image(row, psf, shape) for row in parameters.numpy()])
    noise = np.sqrt(SKY_NOISE**2 + expected.clip(0))
    difference = (images - expected) / noise
    return np.sqrt((difference**2).mean((1, 2))), abs(difference).max((1, 2))


def test_images_equal_those_of_galsim():
    for seed, name in enumerate(PSFS):
        parameters = random_profiles(5, seed)
        rms, largest = differences_from_galsim(parameters, name, (48, 48))
        # The Moffat has a thousandth of its power beyond the Nyquist frequency.
        assert rms.max() < (0.02 if name == "moffat" else 0.005), name
        assert largest.max() < (0.15 if name == "moffat" else 0.03), name


@pytest.mark.slow
@pytest.mark.parametrize("name", PSFS)
@pytest.mark.parametrize("shape", [(32, 32), (33, 48), (64, 64)])
def test_images_equal_those_of_galsim_everywhere(name, shape):
    parameters = random_profiles(25, 7, shape)
    rms, largest = differences_from_galsim(parameters, name, shape)
    assert np.median(rms) < 0.002
    assert rms.max() < 0.03
    assert largest.max() < 0.25


# Precision ----------------------------------------------------------------------------


def test_float32_suffices():
    parameters = random_profiles(40, 3)
    psf = gaussian_psf(1.4, 49)
    double = image_of(parameters, psf, (48, 48))
    single = image_of(parameters.float(), psf, (48, 48))
    assert single.dtype == np.float32
    noise = np.sqrt(SKY_NOISE**2 + double.clip(0))
    assert (abs(single - double) / noise).max() < 0.02


def with_jacobian(parameters, psf=None, shape=(32, 32)):
    psf = gaussian_psf() if psf is None else psf
    waves = psf_waves(psf.to(parameters.dtype), transform_size(shape))
    waves = waves.expand(len(parameters), -1, -1)
    return render_with_jacobian(parameters, waves, shape).numpy()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_circles_have_finite_images_and_derivatives(dtype):
    rows = [
        profile(radius=radius, index=index, x=x, y=y)
        for radius in (0.02, 3.0, 100.0)
        for index in (0.3, 1.0, 4.0, 6.2)
        for x, y in ((15.0, 15.0), (15.5, 15.5), (-0.5, 31.5))
    ]
    found = with_jacobian(torch.cat(rows).to(dtype))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_profiles_are_finite(dtype):
    parameters = random_profiles(64, 4)
    parameters[:, 3:5] *= 0.95 / parameters[:, 3:5].norm(dim=1, keepdim=True)
    parameters[::2, 1] = math.log(0.02)
    parameters[1::2, 1] = math.log(4 * 48)
    assert np.isfinite(with_jacobian(parameters.to(dtype), shape=(48, 48))).all()


# Derivatives --------------------------------------------------------------------------


@pytest.mark.parametrize("column", range(N_PARAMETERS), ids=NAMES.__getitem__)
@pytest.mark.parametrize("shape", [(32, 32), (17, 24)])
def test_derivatives_equal_finite_differences(column, shape):
    rows = [
        profile(100.0, 2.0, 1.3, 0.2, -0.1, 10.3, 9.6),
        profile(100.0, 9.0, 3.7, -0.4, 0.3, 7.1, 8.8),
        profile(100.0, 0.4, 0.6, 0.0, 0.0, 12.0, 7.0),
        profile(100.0, 25.0, 5.5, 0.0, 0.0, 11.6, 9.9),
    ]
    parameters = torch.cat(rows)
    jacobian = with_jacobian(parameters, shape=shape)
    step = 1e-4
    ends = []
    for sign in (-1, 1):
        moved = parameters.clone()
        moved[:, column] += sign * step
        ends.append(image_of(moved, shape=shape))
    expected = (ends[1] - ends[0]) / (2 * step)
    scale = abs(expected).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(jacobian[:, column] / scale, expected / scale, atol=2e-4)


def test_image_and_jacobian_agree():
    parameters = random_profiles(8, 5, (32, 32))
    jacobian = with_jacobian(parameters)
    np.testing.assert_allclose(jacobian[:, 0], image_of(parameters), atol=1e-7)


def test_autograd_uses_the_derivatives():
    shape = (9, 12)
    parameters = torch.cat(
        [
            profile(10.0, 2.0, 1.3, 0.2, -0.1, 5.3, 4.6),
            profile(10.0, 3.0, 3.1, 0.0, 0.0, 6.0, 4.0),
        ]
    ).requires_grad_()
    waves = psf_waves(gaussian_psf(side=9), transform_size(shape)).expand(2, -1, -1)

    def images(values):
        return RenderFunction.apply(values, waves, shape)

    # The table is interpolated by pieces, whose slopes agree to this.
    assert torch.autograd.gradcheck(
        images, parameters, eps=1e-4, atol=1e-4, rtol=1e-3, nondet_tol=0
    )
    images(parameters).square().sum().backward()
    assert torch.isfinite(parameters.grad).all()
    expected = render(parameters.detach(), waves, shape)
    np.testing.assert_allclose(images(parameters).detach(), expected, atol=1e-9)


# Shapes and transforms ----------------------------------------------------------------


def test_folded_light_is_subtracted():
    parameters = random_profiles(40, 6, faintest=5e4, brightest=5e4)
    # Radii up to 15 pixels: the larger are copied over wide distances.
    parameters[:, 1] = parameters[:, 1].clamp(max=math.log(15.0))
    usual, wide = (
        image_of(parameters, shape=(48, 48), size=factor * 48) for factor in (2, 4)
    )
    assert transform_size((48, 48)) == 96
    assert abs(usual - wide).max() < 0.01 * SKY_NOISE
    assert usual.min() > -0.01 * SKY_NOISE


@pytest.mark.parametrize("shape", [(33, 48), (48, 33), (21, 40), (31, 31)])
def test_rectangular_stamps_are_parts_of_larger_ones(shape):
    parameters = profile(100.0, 4.0, 2.0, 0.3, 0.2, x=14.4, y=11.7)
    large = image_of(parameters, shape=(64, 64))[0]
    found = image_of(parameters, shape=shape)[0]
    assert found.shape == shape
    np.testing.assert_allclose(found, large[: shape[0], : shape[1]], atol=2e-3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 10), (10, 1), (2, 3)])
def test_tiny_stamps(shape):
    psf = gaussian_psf(side=min(3, transform_size(shape) - 1))
    found = with_jacobian(profile(5.0, 1.0, 1.0, x=0.0, y=0.0), psf, shape)
    assert found.shape == (1, N_PARAMETERS, *shape)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("shape", [(8, 9), (9, 8), (8, 8), (9, 9)])
def test_the_centre_of_a_psf_is_its_middle_pixel(shape):
    psf = torch.zeros(1, *shape, dtype=torch.float64)
    psf[0, shape[0] // 2, shape[1] // 2] = 1
    found, expected = (
        image_of(profile(5.0, 4.0, 1.0, x=10.0, y=9.0), kernel)
        for kernel in (psf, no_psf())
    )
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_shifted_psf_shifts_the_image():
    psf = gaussian_psf()
    shifted = psf.roll((2, -3), (1, 2))
    expected = image_of(profile(x=12.0, y=17.0), psf)
    np.testing.assert_allclose(image_of(profile(), shifted), expected, atol=1e-8)


def test_every_stamp_has_its_own_psf():
    parameters = torch.cat([profile(), profile()])
    psfs = [gaussian_psf(1.2), gaussian_psf(2.4)]
    both = image_of(parameters, torch.cat(psfs))
    for image, psf in zip(both, psfs, strict=True):
        np.testing.assert_allclose(image, image_of(profile(), psf)[0], atol=1e-12)


def test_tables_are_small():
    table = _table(torch.float32, CPU)
    assert table.values.numel() * table.values.element_size() < 5e6
