"""Targets, their scaling to mean 0 and variance 1, and their distributions."""

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm
from sklearn.preprocessing import StandardScaler

# The exponential of a larger number overflows.
LARGEST_LOGARITHM = 700.0


class TargetScaler(StandardScaler):
    """Scale targets to mean 0 and variance 1, some of them in their logarithm.

    Mean, variance and scale belong to the logarithm in the columns that are listed in
    `logarithmic`. `transform` raises ValueError if such a target is not positive.

    Parameters
    ----------
    logarithmic : tuple of int, default=()
        The columns whose natural logarithm is scaled.
    """

    def __init__(self, logarithmic=()):
        super().__init__()
        self.logarithmic = logarithmic

    def fit(self, y, sample_weight=None):
        """Learn mean and variance, ignoring NaN."""
        return super().fit(self.to_logarithms(y), sample_weight=sample_weight)

    def transform(self, y):
        """Return standardised targets."""
        return super().transform(self.to_logarithms(y))

    def inverse_transform(self, z_phy):
        """Return targets in their units."""
        return from_logarithms(self.unscale(z_phy), self.logarithmic)

    def unscale(self, z_phy):
        """Return targets, with the logarithm in some columns."""
        return super().inverse_transform(np.asarray(z_phy, dtype=np.float64))

    def to_logarithms(self, y):
        """Return targets with the logarithm in some columns."""
        if not self.logarithmic:
            return y
        columns = list(self.logarithmic)
        y = np.array(y, dtype=np.float64)
        if (y[:, columns] <= 0).any():
            raise ValueError(
                "y must be positive for the targets of 'log_targets'. Got "
                f"{np.nanmin(y[:, columns]):g}."
            )
        y[:, columns] = np.log(y[:, columns])
        return y


def from_logarithms(y, columns):
    """Return the exponential of some columns, finite for any finite number."""
    if not columns:
        return y
    y, columns = np.array(y), list(columns)
    y[:, columns] = np.exp(y[:, columns].clip(-LARGEST_LOGARITHM, LARGEST_LOGARITHM))
    return y


def fit_target_scaler(y, weights, symmetry, logarithmic=(), guess=None):
    """Fit a scaler to all targets of the training, including turned ones.

    Targets are NaN where one is missing; without a symmetry no target turns. A target
    without any label takes mean and scale from a guess (2, n_targets).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        seen = y if symmetry is None else symmetry.turned_targets(y)
        if weights is not None:
            weights = np.tile(weights, len(seen) // len(y))
        scaler = TargetScaler(logarithmic).fit(seen, sample_weight=weights)
    if guess is not None:
        unknown = np.isnan(y).all(axis=0)
        scaler.mean_[unknown], scaler.scale_[unknown] = guess[:, unknown]
        scaler.var_[unknown] = guess[1, unknown] ** 2
        scaler.n_samples_seen_ = np.maximum(scaler.n_samples_seen_, 1)
    if not np.isfinite([scaler.mean_, scaler.scale_]).all():
        raise ValueError(
            "y must have a finite mean and variance. Got values up to "
            f"{np.nanmax(np.abs(y)):g}, which overflow."
        )
    return scaler


def check_coverage(coverage):
    """Raise ValueError unless this is a probability of an interval."""
    if not (isinstance(coverage, Real) and 0 < coverage < 1):
        raise ValueError(
            f"The 'coverage' parameter must be above 0 and below 1. Got {coverage!r}."
        )


class TargetDistribution(NamedTuple):
    """Gaussian distributions of targets, or of the logarithms of some of them.

    Mean and variance have the shape (n, n_targets); the variance is None if unknown.
    ``outside`` (n,) is True for images outside the range of the training set.
    """

    mean: Any
    variance: Any
    logarithmic: tuple[int, ...]
    outside: Any

    def median(self):
        """Return the medians of the targets."""
        return from_logarithms(self.mean, self.logarithmic)

    def std(self):
        """Return the standard deviations of the targets."""
        std = np.sqrt(self.variance)
        columns = list(self.logarithmic)
        if columns:
            # A log-normal distribution.
            variance = self.variance[:, columns]
            with np.errstate(over="ignore"):
                factor = np.exp(variance / 2) * np.sqrt(np.expm1(variance))
                std[:, columns] = self.median()[:, columns] * factor
        return std

    def interval(self, coverage):
        """Return the ends of the central intervals that hold this share."""
        ends = norm.interval(coverage, self.mean, np.sqrt(self.variance))
        return tuple(from_logarithms(end, self.logarithmic) for end in ends)
