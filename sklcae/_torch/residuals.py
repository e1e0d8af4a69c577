"""The residuals of profile fits: correlated noise, and PSFs of a wrong width."""

import torch
import torch.nn.functional as F


def score_covariance(derivatives, variance, counts, correlation):
    """Return the covariance (n, m, m) of scores whose pixels have correlated noise.

    A score is the sum over the pixels of a derivative times the residual, over the
    variance. With independent pixels the covariance is the Gauss-Newton matrix. With
    correlated ones it stands between two inverses of that matrix in the covariance of
    the parameters, the sandwich estimator [1]_.

    Parameters
    ----------
    derivatives : torch.Tensor of shape (n, m, H, W)
        The derivatives of the images.
    variance, counts : torch.Tensor of shape (n, H, W)
        The variance of each pixel, and 0 where it is masked, else 1.
    correlation : torch.Tensor of shape (h, w)
        The autocorrelation of the noise, with odd sides and 1 in the middle.

    References
    ----------
    .. [1] H. White, "A Heteroskedasticity-Consistent Covariance Matrix Estimator and a
       Direct Test for Heteroskedasticity", Econometrica 48, 817 (1980).
    """
    n, m = derivatives.shape[:2]
    over_noise = derivatives.double() * (counts / variance.sqrt())[:, None]
    flat = over_noise.flatten(0, 1)[:, None]
    kernel = _cropped(correlation, derivatives.shape[2:]).to(flat)[None, None]
    padding = tuple(side // 2 for side in kernel.shape[2:])
    # The autocorrelation is symmetric: to correlate is to convolve.
    seen = F.conv2d(flat, kernel, padding=padding).view(n, m, -1)
    covariance = over_noise.flatten(2) @ seen.transpose(1, 2)
    return (covariance + covariance.transpose(1, 2)) / 2


def _cropped(correlation, image_shape):
    """Return a correlation without the shifts that no two pixels of an image have."""
    middle = [side // 2 for side in correlation.shape]
    reach = [min(m, side - 1) for m, side in zip(middle, image_shape, strict=True)]
    rows, columns = (
        slice(m - r, m + r + 1) for m, r in zip(middle, reach, strict=True)
    )
    return correlation[rows, columns]


def derivative_of_blur(image):
    """Return the derivatives of images (n, H, W) by the variance of a Gaussian blur.

    It is half the Laplacian, from differences of pixels. It is 0 in the pixels at the
    edge, which lack a neighbour.
    """
    if min(image.shape[1:]) < 3:
        return torch.zeros_like(image)
    inner = image[:, 1:-1, 1:-1]
    neighbours = (
        image[:, :-2, 1:-1]
        + image[:, 2:, 1:-1]
        + image[:, 1:-1, :-2]
        + image[:, 1:-1, 2:]
    )
    return F.pad((neighbours - 4 * inner) / 2, (1, 1, 1, 1))


def excess_of_last(gradient, hessian, scores):
    """Return by how many of its errors the last parameter should be larger, (n,).

    It is the statistic of a score test [1]_: the last parameter was not fitted, and
    all others are at the minimum. Gradients (n, m), Gauss-Newton matrices and
    covariances of the scores (n, m, m) are those of all parameters.

    References
    ----------
    .. [1] C. R. Rao, "Large sample tests of statistical hypotheses concerning several
       parameters", Mathematical Proceedings 44, 50 (1948).
    """
    fitted, crossed = hessian[:, :-1, :-1], hessian[:, :-1, -1:]
    solved, failed = torch.linalg.solve_ex(fitted, crossed)[:2]
    weights = torch.cat([-solved[:, :, 0], torch.ones_like(gradient[:, :1])], dim=1)
    score = (weights * gradient).sum(1)
    variance = (weights[:, None] @ scores @ weights[:, :, None])[:, 0, 0]
    excess = score / variance.sqrt()
    return torch.where(failed > 0, torch.nan, excess)
