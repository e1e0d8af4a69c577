"""Errors that sklcae raises beyond scikit-learn's own."""

__all__ = ["ImageShapeError", "ModelFileError"]


class ImageShapeError(ValueError):
    """Images do not have the shape that the estimator needs.

    Raised when a flat row does not fit ``image_shape``, and when a stamp has another
    shape than those that the estimator was fitted on.
    """


class ModelFileError(ValueError):
    """A file does not hold what it should, a whole model or a whole checkpoint.

    Raised when a file is damaged, of another format, or contradicts itself. Nothing
    that it holds has been run or kept then.
    """
