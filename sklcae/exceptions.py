"""Exceptions of sklcae in addition to scikit-learn's."""

__all__ = [
    "CatalogError",
    "ImageShapeError",
    "ModelFileError",
    "OutsideTrainingWarning",
]


class ImageShapeError(ValueError):
    """Images do not have the shape that the estimator expects.

    Raised if the length of flat rows does not match ``image_shape``, or if the shape of
    a stamp differs from the shape seen in ``fit``.
    """


class ModelFileError(ValueError):
    """A file is not a complete and valid model or checkpoint.

    Raised if a file is damaged, has another format or is inconsistent. No content of
    the file has been executed or kept.
    """


class OutsideTrainingWarning(UserWarning):
    """Images or targets are outside the range of the training set.

    The network has not learned such images, and its results for them may be far off.
    """


class CatalogError(ValueError):
    """A catalogue cannot be made, continued or verified.

    Raised if a folder belongs to another plan or run, if the model or the stamps
    changed while they were measured, or if a catalogue is not complete.
    """
