"""Shapelets against a sum over fine pixels, GalSim and themselves."""

import math

import galsim
import numpy as np
import pytest
import torch
from scipy.special import eval_hermite, ndtr

from sklcae._torch.sersic import psf_waves, transform_size
from sklcae._torch.shapelets import (
    SCALE,
    _places,
    render_shapelets,
    shapelet_orders,
)

# Orders 3 to 9, and four pairs of order 10.
M = 57
SIGMA = 1.4
SHAPE = (40, 48)


def frame(flux=3.0, radius=4.0, e1=0.3, e2=-0.2, x=22.3, y=18.6):
    """Parameters of one profile, as `render` takes them, float64."""
    return torch.tensor(
        [[math.log(flux), math.log(radius), 0.0, e1, e2, x, y]], dtype=torch.float64
    )


def one_of(a, b, coefficient=1.0):
    """Coefficients of one shapelet alone."""
    row = [coefficient * (orders == (a, b)) for orders in shapelet_orders(M)]
    return torch.tensor([row], dtype=torch.float64)


def random_coefficients(n, random_state=0):
    return torch.tensor(np.random.default_rng(random_state).normal(size=(n, M)))


def gaussian_psf(side=33):
    """An effective PSF: a Gaussian integrated over the pixels, (1, side, side)."""
    line = np.diff(ndtr((np.arange(side + 1) - side // 2 - 0.5) / SIGMA))
    return torch.tensor(np.outer(line, line)[None])


def draw(coefficients, parameters, psf=None, shape=SHAPE):
    """Draw through a PSF with the usual transform, (n, H, W)."""
    psf = gaussian_psf() if psf is None else psf
    waves = psf_waves(psf.to(parameters.dtype), transform_size(shape))
    waves = waves.expand(len(parameters), -1, -1)
    return render_shapelets(coefficients, parameters, waves, shape)


# The light in pixels ------------------------------------------------------------------


def surface_brightness(coefficients, parameters, x, y):
    """Evaluate the formula of the docstring at x (1, w) and y (h, 1)."""
    log_flux, log_radius, _, e1, e2, x0, y0 = parameters[0].tolist()
    # GalSim's shear, turned around: it takes positions to the round galaxy.
    e = math.hypot(e1, e2)
    g = e / (1 + math.sqrt(1 - e**2))
    g1, g2 = (g * part / e if e else 0.0 for part in (e1, e2))
    s = SCALE * math.exp(log_radius)
    scale = s * math.sqrt(1 - g**2)
    u = ((1 - g1) * (x - x0) - g2 * (y - y0)) / scale
    v = (-g2 * (x - x0) + (1 + g1) * (y - y0)) / scale
    gaussian = np.exp(-(u**2 + v**2) / 2) / (2 * math.pi * s**2)
    light = np.zeros_like(gaussian)
    for c, (a, b) in zip(coefficients[0].tolist(), shapelet_orders(M), strict=True):
        norm = math.sqrt(2.0 ** (a + b) * math.factorial(a) * math.factorial(b))
        light += c / norm * eval_hermite(a, u) * eval_hermite(b, v) * gaussian
        # Of the integral of an even Hermite function only this is left.
        l_ab = math.sqrt(math.comb(a, a // 2) * math.comb(b, b // 2) / 2.0 ** (a + b))
        light -= c * l_ab * (a % 2 == b % 2 == 0) * gaussian
    return math.exp(log_flux) * light


def sum_over_fine_pixels(coefficients, parameters, step, margin=24):
    """Convolve the surface brightness with Gaussian and pixel, in pixel space."""
    lines = []
    for length in SHAPE:
        fine = np.arange(-margin, length + margin, step)
        offset = np.arange(length)[:, None] - fine
        edges = [ndtr((offset + side) / SIGMA) for side in (0.5, -0.5)]
        lines.append((fine, step * (edges[0] - edges[1])))
    (y, along_y), (x, along_x) = lines
    light = surface_brightness(coefficients, parameters, x[None], y[:, None])
    return along_y @ light @ along_x.T


@pytest.mark.parametrize(
    ("changed", "step"),
    [({}, 0.25), ({"e1": 0.0, "e2": 0.0}, 0.25), ({"radius": 0.5}, 1 / 8)],
    ids=["sheared", "round", "small"],
)
def test_light_is_the_formula_through_psf_and_pixel(changed, step):
    coefficients, parameters = random_coefficients(1), frame(**changed)
    expected = sum_over_fine_pixels(coefficients, parameters, step)
    found = draw(coefficients, parameters)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * abs(expected).max())


def test_each_shapelet_has_its_place():
    parameters = frame(radius=3.0)
    for orders in [(3, 0), (0, 3), (2, 1), (4, 0), (2, 2), (4, 5), (3, 7)]:
        expected = sum_over_fine_pixels(one_of(*orders), parameters, 0.25)
        found = draw(one_of(*orders), parameters)[0].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4 * abs(expected).max())


def test_shapelets_of_galsim():
    """The real part of (u + iv)^3, and the second ring of a round shapelet."""
    radius, flux, e1, e2, x, y = 3.0, 5.0, 0.3, -0.2, 22.3, 18.6
    psf = galsim.Moffat(beta=3.5, fwhm=3.2, trunc=16).shear(e1=0.1, e2=0.05)
    stamp = psf.drawImage(nx=63, ny=63, scale=1.0, dtype=float).array[None]
    three = {(3, 0): 0.5, (1, 2): -math.sqrt(3) / 2}
    ring = {(4, 0): math.sqrt(6) / 4, (0, 4): math.sqrt(6) / 4, (2, 2): 0.5}
    # Positions of Re b_30 and b_22 in GalSim's vectors. The former counts twice, as its
    # conjugate belongs to it; the latter has the light of a Gaussian.
    for wanted, order, place, value in [
        (three, 3, 6, math.sqrt(0.5)),
        (ring, 4, 14, 1.0),
    ]:
        coefficients = sum(one_of(*pair, c) for pair, c in wanted.items())
        parameters = frame(flux, radius, e1, e2, x, y)
        found = draw(coefficients, parameters, torch.tensor(stamp))[0].numpy()
        vector = np.zeros((order + 1) * (order + 2) // 2)
        vector[place] = value
        vector[0] = -1.0 if wanted is ring else 0.0
        galaxy = galsim.Shapelet(SCALE * radius, order, flux * vector)
        seen = galsim.Convolve(galaxy.shear(e1=e1, e2=e2), psf)
        image = galsim.ImageD(SHAPE[1], SHAPE[0], scale=1.0)
        expected = seen.drawImage(image, center=galsim.PositionD(x + 1, y + 1)).array
        np.testing.assert_allclose(found, expected, atol=2e-3 * abs(expected).max())


def test_total_light_is_zero():
    coefficients = random_coefficients(1)
    light = draw(coefficients, frame(radius=3.0))
    assert light.sum().abs() < 1e-6 * light.abs().sum()


def test_shapelet_is_about_as_bright_as_its_galaxy():
    """Its root mean square is that of a Gaussian with flux and width of the galaxy."""
    flux, radius = 7.0, 6.0
    point = torch.ones(1, 1, 1, dtype=torch.float64)
    parameters = frame(flux, radius)
    squared = flux**2 / (4 * math.pi * (SCALE * radius) ** 2)
    for a, b in [(3, 0), (2, 1), (5, 4)]:
        light = draw(one_of(a, b), parameters, point)
        assert (light**2).sum().item() == pytest.approx(squared, rel=1e-3)


# Order, linearity, gradients ----------------------------------------------------------


def test_orders_are_those_of_the_docstring():
    assert shapelet_orders(5) == [(3, 0), (0, 3), (2, 1), (1, 2), (4, 0)]
    assert shapelet_orders(9)[4:] == [(4, 0), (0, 4), (3, 1), (1, 3), (2, 2)]
    orders = shapelet_orders(M)
    assert len(set(orders)) == M
    assert [sum(pair) for pair in orders] == sorted(sum(pair) for pair in orders)
    assert orders[48:] == [(4, 5), *shapelet_orders(60)[49:57]]
    assert shapelet_orders(10) == orders[:10]


def test_a_quarter_turn_exchanges_the_orders():
    """The first 57 shapelets are the same set after a turn, which needs whole pairs."""
    c, orders, middle = random_coefficients(1), shapelet_orders(M), 20.0
    light = draw(c, frame(x=middle + 2, y=middle - 1), shape=(41, 41))
    turned = torch.zeros_like(c)
    for value, (a, b) in zip(c[0], orders, strict=True):
        turned[0, orders.index((b, a))] = (-1) ** a * value
    parameters = frame(e1=-0.3, e2=0.2, x=middle - 1, y=middle - 2)
    found = draw(turned, parameters, shape=(41, 41))
    torch.testing.assert_close(found, torch.rot90(light, 1, (1, 2)))


def test_light_is_linear_in_the_coefficients():
    first, second = random_coefficients(2).split(1)
    parameters = frame()
    expected = 2 * draw(first, parameters) - 3 * draw(second, parameters)
    torch.testing.assert_close(draw(2 * first - 3 * second, parameters), expected)
    assert not draw(0 * first, parameters).any()


def test_only_coefficients_and_flux_have_a_gradient():
    coefficients = random_coefficients(2).requires_grad_()
    parameters = frame().repeat(2, 1).requires_grad_()
    light = draw(coefficients, parameters)
    weights = torch.rand(light.shape, generator=torch.Generator().manual_seed(0))
    (light * weights).sum().backward()
    # The light is proportional to the flux, whose logarithm is the parameter.
    by_flux = (light * weights).sum((1, 2)).detach()
    torch.testing.assert_close(parameters.grad[:, 0], by_flux)
    assert (parameters.grad[:, 1:] == 0).all()
    # The light is linear: the derivatives are the images of single shapelets.
    images = draw(torch.eye(M, dtype=torch.float64), frame().expand(M, -1))
    torch.testing.assert_close(
        coefficients.grad, torch.einsum("mhw,nhw->nm", images, weights.double())
    )


def test_gradient_after_a_first_use_in_inference_mode():
    _places.cache_clear()
    coefficients, parameters = random_coefficients(1), frame()
    with torch.inference_mode():
        draw(coefficients, parameters)
    draw(coefficients.requires_grad_(), parameters).sum().backward()
    assert coefficients.grad.isfinite().all()


# Batches and types --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_light_is_bitwise_the_same_alone_and_in_a_batch(dtype):
    n = 5
    parameters = frame().repeat(n, 1)
    parameters[:, 1:] += 0.1 * torch.arange(n)[:, None]
    coefficients, parameters = random_coefficients(n).to(dtype), parameters.to(dtype)
    light = draw(coefficients, parameters)
    assert light.dtype == dtype
    for i in range(n):
        alone = draw(coefficients[i : i + 1], parameters[i : i + 1])
        assert torch.equal(alone[0], light[i])


def test_float32_is_float64_up_to_rounding():
    coefficients, parameters = random_coefficients(1), frame()
    expected = draw(coefficients, parameters)
    found = draw(coefficients.float(), parameters.float())
    largest = expected.abs().max().item()
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("radius", [1e-3, 1e3])
@pytest.mark.parametrize("e1", [0.0, 0.98])
def test_any_frame_gives_finite_light(radius, e1):
    light = draw(random_coefficients(1).float(), frame(1.0, radius, e1, 0.0).float())
    assert light.isfinite().all()
