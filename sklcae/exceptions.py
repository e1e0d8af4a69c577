"""Errors that sklcae raises beyond scikit-learn's own."""

__all__ = ["ImageShapeError"]


class ImageShapeError(ValueError):
    """Images do not have the shape that the estimator needs.

    Raised when a flat row does not fit ``image_shape``, and when a stamp has another
    shape than those that the estimator was fitted on.
    """
