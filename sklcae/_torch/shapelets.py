"""Shapelets through any PSF: the light of a galaxy beyond its Sersic profile.

Shapelets [1]_ are the functions ``phi_a(u) phi_b(v)``, where phi_a is the Gauss-Hermite
function of order a, and u and v are the coordinates of the frame in which the galaxy
is round. Shapelets are their own Fourier transforms, up to powers of -i. So they are
drawn in Fourier space, where the PSF multiplies them and no small galaxy is aliased.

References
----------
.. [1] A. Refregier, "Shapelets - I. A method for image analysis", MNRAS 338, 35 (2003).
"""

import math
from functools import lru_cache
from itertools import count, islice
from typing import NamedTuple

import torch

from sklcae._torch.sersic import (
    E1,
    LOG_FLUX,
    LOG_RADIUS,
    to_images,
    wave_numbers,
)

# Flux, centre, radius and ellipticity already set the orders a + b from 0 to 2.
FIRST_ORDER = 3
# Width of the Gaussian in all shapelets, in half-light radii.
SCALE = 0.7


def shapelet_orders(n):
    """Return the orders (a, b) of the first n shapelets.

    They are sorted by a + b, from 3 upwards. Within a sum they are sorted by the
    difference of a and b, largest first, and (a, b) stands before (b, a): (3, 0),
    (0, 3), (2, 1), (1, 2), (4, 0), ... So a turn by 90 degrees, which exchanges a and
    b, exchanges neighbours.

    Parameters
    ----------
    n : int
        Number of shapelets.

    Returns
    -------
    list of tuple of int
        The orders along u and v.
    """
    return list(islice(_all_orders(), n))


def _all_orders():
    for total in count(FIRST_ORDER):
        for b in range(total // 2 + 1):
            a = total - b
            yield a, b
            if a != b:
                yield b, a


def render_shapelets(coefficients, parameters, waves, image_shape):
    r"""Return the light of shapelets through PSFs.

    The light before the PSF is ``flux * sum(coefficient * B_ab)``, with

    .. math::

        B_{ab}(u, v) = \frac{\phi_a(u / s) \, \phi_b(v / s)}{2 \sqrt{\pi} s^2}
        - l_{ab} \frac{e^{-(u^2 + v^2) / 2 s^2}}{2 \pi s^2},
        \qquad s = 0.7 \, r,

    where r is the half-light radius, :math:`\phi_a` has the squared integral 1, and
    :math:`l_{ab}` is such that the integral of :math:`B_{ab}` is 0. The flux of the
    galaxy stays the same. The first term with a coefficient of 1 is as bright, in its
    root mean square, as a Gaussian with the flux of the galaxy and the width s.

    The light is linear in the coefficients and in the flux, which alone have a
    gradient. Without a gradient of the flux, shapelets that take light away and a flux
    that adds it would grow without limit.

    Parameters
    ----------
    coefficients : torch.Tensor of shape (n, m)
        Coefficients of the first m `shapelet_orders`.
    parameters : torch.Tensor of shape (n, 7)
        Parameters of the profiles, as `sklcae._torch.sersic.render` takes them. Flux,
        radius, ellipticity and centre are used.
    waves : torch.Tensor of shape (n, size / 2, size)
        Fourier transforms of the PSFs, from `sklcae._torch.sersic.psf_waves`.
    image_shape : tuple of int
        Height and width of the images.

    Returns
    -------
    torch.Tensor of shape (n, H, W)
        The light in the pixels.
    """
    frame = _Frame.of(parameters)
    k = wave_numbers(waves.shape[2], parameters.dtype, parameters.device)
    matrices = _matrices(coefficients)
    planes = _transformed(matrices, frame, k) * waves
    # The discrete transform repeats the shapelets with a period of two stamps. Orders
    # up to 10 fall off like a Gaussian. Copies in the stamp matter for half-light radii
    # above a quarter of its side: with an ellipticity of 0.6 they reach 1e-6 of the
    # brightest pixel at a fifth, 0.003 at a quarter and 0.1 at 0.3 of the side.
    images = to_images(planes[:, None], frame, k, image_shape)[:, 0]
    return images * frame.flux


class _Frame(NamedTuple):
    """Where galaxies are, (n, 1, 1) each: flux, width s, ellipticity and centre."""

    flux: torch.Tensor
    width: torch.Tensor
    e1: torch.Tensor
    e2: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor

    @classmethod
    def of(cls, parameters):
        """Take the frames of parameters (n, 7)."""
        flux = parameters[:, LOG_FLUX, None, None].exp()
        values = parameters.detach()[:, :, None, None]
        width = SCALE * values[:, LOG_RADIUS].exp()
        return cls(flux, width, *values[:, E1:].unbind(1))

    def round_frequencies(self, k):
        """Return the frequencies along u and v, times s, (n, m, 2m) each.

        Their squared sum is the squared frequency in the Sersic profile. Its matrix,
        ``[[1 + e1, e2], [e2, 1 - e1]] / root``, has the determinant 1, and its root,
        which is symmetric too, is the matrix plus 1, over ``sqrt(trace + 2)``.
        """
        root = (1 - self.e1**2 - self.e2**2).sqrt()
        scale = self.width / (2 * root * (1 + root)).sqrt()
        along_u = scale * ((1 + self.e1 + root) * k.x + self.e2 * k.y)
        along_v = scale * (self.e2 * k.x + (1 - self.e1 + root) * k.y)
        return along_u, along_v


class _Places(NamedTuple):
    """Where coefficients go in the flattened matrices of `_matrices`.

    ``places`` (m,) are the entries, ``signs`` (m,) the signs of the powers of -i, and
    ``light`` (m,) is the integral of each shapelet, over that of order 0.
    """

    n_orders: int
    places: torch.Tensor
    signs: torch.Tensor
    light: torch.Tensor


@lru_cache(maxsize=8)
# Autograd keeps no tensors that were made in inference mode.
@torch.inference_mode(False)
def _places(n, dtype, device):
    orders = shapelet_orders(n)
    n_orders = 1 + max(a + b for a, b in orders)
    at_zero = _hermite(torch.zeros(1, dtype=torch.float64), n_orders)[:, 0]
    at_zero = (at_zero / at_zero[0]).tolist()
    # The powers of -i are 1, -i, -1, i.
    signs = [(1, -1, -1, 1)[(a + b) % 4] for a, b in orders]
    places = [((a + b) % 2 * n_orders + a) * n_orders + b for a, b in orders]
    # Odd functions have no light; for the others the transform at 0 is real.
    light = [
        sign * at_zero[a] * at_zero[b]
        for sign, (a, b) in zip(signs, orders, strict=True)
    ]
    return _Places(
        n_orders,
        torch.tensor(places).to(device),
        *(torch.tensor(part).to(device, dtype) for part in (signs, light)),
    )


def _matrices(coefficients):
    """Return matrices (n, 2, n_orders, n_orders) of coefficients by a and b.

    The first has the real parts of the transforms, the second the imaginary parts.
    """
    n, m = coefficients.shape
    n_orders, places, signs, light = _places(m, coefficients.dtype, coefficients.device)
    matrices = coefficients.new_zeros(n, 2 * n_orders**2)
    matrices = matrices.index_copy(1, places, coefficients * signs)
    # Order 0 takes away the light of the others.
    surplus = (coefficients * light).sum(1, keepdim=True)
    matrices = torch.cat([-surplus, matrices[:, 1:]], dim=1)
    return matrices.view(n, 2, n_orders, n_orders)


def _transformed(matrices, frame, k):
    """Return the Fourier transforms (n, m, 2m) for a flux of 1."""
    n_orders = matrices.shape[2]
    along_u, along_v = frame.round_frequencies(k)
    in_u, in_v = (_hermite(along.flatten(1), n_orders) for along in (along_u, along_v))
    lines = (matrices.flatten(1, 2) @ in_v).unflatten(1, matrices.shape[1:3])
    real, imaginary = (math.sqrt(math.pi) * (lines * in_u[:, None]).sum(2)).unbind(1)
    return torch.complex(real, imaginary).view(along_u.shape)


def hermite_functions(x, n_orders):
    """Return the Gauss-Hermite functions of orders 0, 1, ..., n_orders - 1, a list.

    Their squared integrals are 1. Each follows from the two before it.
    """
    functions = [math.pi**-0.25 * (x**2 / -2).exp()]
    functions.append(math.sqrt(2) * x * functions[0])
    for order in range(2, n_orders):
        second = -math.sqrt((order - 1) / order) * functions[-2]
        new = second.addcmul(x, functions[-1], value=math.sqrt(2 / order))
        functions.append(new)
    return functions[:n_orders]


def _hermite(t, n_orders):
    """Return the Gauss-Hermite functions of t (..., p), (..., n_orders, p)."""
    return torch.stack(hermite_functions(t, n_orders), dim=-2)
