"""Residuals of fits: scores of correlated noise, and the test of the PSF."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from sklcae._torch.residuals import (
    derivative_of_blur,
    excess_of_last,
    score_covariance,
)

SHAPE = (24, 20)


def gaussian_correlation(sigma, reach=4):
    """Return the autocorrelation of white noise smoothed by a Gaussian."""
    point = np.zeros((4 * reach + 1, 4 * reach + 1))
    point[2 * reach, 2 * reach] = 1
    kernel = ndimage.gaussian_filter(point, sigma)
    smooth = ndimage.gaussian_filter(kernel, sigma)
    middle = slice(reach, 3 * reach + 1)
    return smooth[middle, middle] / smooth.max()


def test_scores_of_independent_pixels():
    rng = np.random.default_rng(0)
    derivatives = torch.tensor(rng.normal(size=(2, 3, *SHAPE)))
    variance = torch.tensor(rng.uniform(1, 3, (2, *SHAPE)))
    counts = torch.tensor(rng.random((2, *SHAPE)) > 0.2)
    point = torch.zeros(5, 5)
    point[2, 2] = 1
    found = score_covariance(derivatives, variance, counts, point)
    flat = derivatives.flatten(2)
    weights = (counts / variance).flatten(1)[:, None]
    torch.testing.assert_close(found, (flat * weights) @ flat.transpose(1, 2))


def test_scores_of_correlated_pixels():
    rng = np.random.default_rng(1)
    derivatives = np.stack(
        [np.ones(SHAPE), ndimage.gaussian_filter(rng.normal(size=SHAPE), 2)]
    )
    variance = rng.uniform(1, 3, SHAPE)
    counts = rng.random(SHAPE) > 0.1
    noise = ndimage.gaussian_filter(
        rng.normal(size=(20_000, *SHAPE)), 0.8, axes=(1, 2), mode="wrap"
    )
    noise *= np.sqrt(variance) / noise.std()
    weighted = derivatives * counts / variance
    scores = np.einsum("pyx,nyx->np", weighted, noise)
    expected = np.cov(scores.T)
    correlation = torch.tensor(gaussian_correlation(0.8))
    (found,) = score_covariance(
        torch.tensor(derivatives)[None],
        torch.tensor(variance)[None],
        torch.tensor(counts)[None],
        correlation,
    )
    # The noise goes round at the edges, where that of the formula ends.
    np.testing.assert_allclose(found, expected, rtol=0.1)


def test_blur_widens_a_gaussian():
    rows, columns = np.indices(SHAPE)
    squared = (columns - 10.3) ** 2 + (rows - 11.8) ** 2

    def gaussian(variance):
        return torch.tensor(np.exp(-squared / (2 * variance)) / (2 * np.pi * variance))

    step = 1e-4
    expected = (gaussian(9 + step) - gaussian(9 - step)) / (2 * step)
    found = derivative_of_blur(gaussian(9.0)[None])[0]
    assert abs(found - expected).max() < 0.06 * abs(expected).max()
    assert (found[[0, -1]] == 0).all()
    assert (found[:, [0, -1]] == 0).all()


@pytest.mark.parametrize("truth", [0.0, 3.0])
def test_excess_of_a_parameter_that_is_not_fitted(truth):
    rng = np.random.default_rng(2)
    design = rng.normal(size=(40, 3))
    design[:, 2] += design[:, 0]
    data = rng.normal(size=(4_000, 40)) + truth * design[:, 2] / 10
    fitted, *_ = np.linalg.lstsq(design[:, :2], data.T, rcond=None)
    residual = data - (design[:, :2] @ fitted).T
    hessian = np.broadcast_to(design.T @ design, (len(data), 3, 3))
    found = excess_of_last(
        torch.tensor(residual @ design), torch.tensor(hessian), torch.tensor(hessian)
    )
    error = np.sqrt(np.linalg.inv(design.T @ design)[2, 2])
    expected = stats.norm(truth / 10 / error)
    assert stats.kstest(found.numpy(), expected.cdf).pvalue > 1e-3


def test_a_singular_fit_has_no_excess():
    zero = torch.zeros(1, 3, 3, dtype=torch.float64)
    assert excess_of_last(zero[:, 0], zero, zero).isnan().all()
