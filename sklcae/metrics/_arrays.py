"""Checks of true and predicted targets."""

import numpy as np

from sklcae._units import check_numbers

_MAX_ROWS_NAMED = 10


def check_true_targets(y_true):
    """Return y_true of shape (n_samples, n_targets); NaN is a missing entry."""
    return _check_matrix(y_true, "y_true", ensure_all_finite="allow-nan")


def check_predictions(y_pred, y_true):
    """Return y_pred in the shape of the checked y_true, or name the rows with NaN."""
    y_pred = check_like(y_pred, "y_pred", y_true, ensure_all_finite="allow-nan")
    rows = np.flatnonzero(np.isnan(y_pred).any(axis=1))
    if len(rows):
        more = ", ..." if len(rows) > _MAX_ROWS_NAMED else ""
        raise ValueError(
            f"Input y_pred contains NaN in {len(rows)} rows, counted from 0: "
            f"{', '.join(map(str, rows[:_MAX_ROWS_NAMED]))}{more}. To score the other "
            "rows, leave these out of y_true and y_pred."
        )
    return y_pred


def check_like(values, name, y_true, **options):
    """Return values in the shape of the checked y_true."""
    values = _check_matrix(values, name, **options)
    if values.shape != y_true.shape:
        raise ValueError(
            f"{name} must have the shape of y_true, {y_true.shape}, got {values.shape}."
        )
    return values


def _check_matrix(values, name, **options):
    values = check_numbers(values, name, allow_nd=False, **options)
    return values.reshape(-1, 1) if values.ndim == 1 else values
