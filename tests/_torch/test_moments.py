"""First guesses of profiles from the moments of images."""

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from sklcae._torch.moments import guess_profiles
from tests.profiles import SHAPE, draw_truth, images_of, make_stamps, rendered


def spot(sigma_x, sigma_y=None, x=15.7, y=14.4, shape=SHAPE):
    """A Gaussian of flux 1 integrated over the pixels."""
    sigma_y = sigma_y or sigma_x
    lines = [
        np.diff(ndtr((np.arange(length + 1) - 0.5 - center) / sigma))
        for length, center, sigma in (
            (shape[0], y, sigma_y),
            (shape[1], x, sigma_x),
        )
    ]
    return np.outer(*lines)


def psf_spot(sigma=1.3, shape=SHAPE):
    return spot(sigma, x=shape[1] // 2, y=shape[0] // 2, shape=shape)


def guess(images, counts=None, psf=None):
    images = np.asarray(images, dtype=float)
    counts = np.ones(images.shape) if counts is None else counts
    psf = psf_spot(shape=images.shape[1:]) if psf is None else psf
    arrays = images, counts, np.broadcast_to(psf, images.shape)
    tensors = [torch.tensor(np.array(array, np.float32)) for array in arrays]
    return guess_profiles(*tensors).numpy()


def test_centre_flux_and_sky_of_a_spot():
    (found,) = guess(500 * spot(2.5)[None] + 7)
    np.testing.assert_allclose(found[5:7], [15.7, 14.4], atol=0.02)
    assert found[7] == pytest.approx(7, abs=0.05)
    assert np.exp(found[0]) == pytest.approx(500 * 1.2, rel=0.05)
    np.testing.assert_allclose(found[3:5], 0, atol=0.01)


@pytest.mark.parametrize(("sigma_x", "sigma_y"), [(3.0, 2.2), (2.0, 2.6)])
def test_the_psf_is_subtracted(sigma_x, sigma_y):
    psf_sigma = 1.8
    image = 500 * spot(np.hypot(sigma_x, psf_sigma), np.hypot(sigma_y, psf_sigma))
    (found,) = guess(image[None], psf=psf_spot(psf_sigma))
    expected = (sigma_x**2 - sigma_y**2) / (sigma_x**2 + sigma_y**2)
    assert found[3] == pytest.approx(expected, abs=0.02)
    radius = 1.4 * np.sqrt((sigma_x**2 + sigma_y**2) / 2)
    assert np.exp(found[1]) == pytest.approx(radius, rel=0.03)


def test_guesses_are_near_enough_to_start_from():
    images, truth = make_stamps(60, 2)
    deviation = guess(images)[:, :7] - rendered(truth)[:, :7]
    assert (abs(np.median(deviation, axis=0)) < 0.3).all()
    # Logarithms of flux and radius, ellipticity and pixels.
    assert (abs(deviation[:, :2]) < 0.8).all()
    assert (np.hypot(*deviation[:, 3:5].T) < 0.35).all()
    assert (np.hypot(*deviation[:, 5:].T) < 0.6).all()


def test_masked_pixels_do_not_count():
    images = images_of(draw_truth(4)) + 3
    counts = np.ones(images.shape)
    counts[:, :4], counts[:, 20, 9] = 0, 0
    expected = guess(np.where(counts, images, 0), counts)
    found = guess(np.where(counts, images, 1e6), counts)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(expected[:, 7], 3, atol=0.5)


def test_the_sky_of_stamps_with_a_masked_border():
    images = np.full((1, *SHAPE), 5.0)
    counts = np.zeros(images.shape)
    counts[:, 10:20, 10:20] = 1
    assert guess(images, counts)[0, 7] == 5


@pytest.mark.parametrize("shape", [(1, 1), (1, 10), (2, 2), (3, 17), (10, 1)])
def test_tiny_stamps(shape):
    psf = np.zeros(shape)
    psf[shape[0] // 2, shape[1] // 2] = 1
    images = np.random.default_rng(0).normal(size=(5, *shape))
    assert np.isfinite(guess(images, psf=psf)).all()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros(SHAPE),
        np.full(SHAPE, -4.0),
        -spot(2.0) * 100,
        spot(0.05) * 1e5,
        np.random.default_rng(0).normal(size=SHAPE),
        np.arange(32.0) * np.ones(SHAPE),
    ],
    ids=["zero", "constant", "hole", "pixel", "noise", "ramp"],
)
def test_stamps_without_a_galaxy(image):
    (found,) = guess(image[None])
    assert np.isfinite(found).all()
    assert np.exp(found[1]) >= 0.29
    assert np.hypot(found[3], found[4]) <= 0.61
    assert -1 <= found[5] <= 32
    assert -1 <= found[6] <= 32
