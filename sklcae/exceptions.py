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

    Examples
    --------
    >>> import numpy as np
    >>> from sklcae import load_pretrained
    >>> from sklcae.exceptions import ImageShapeError
    >>> try:
    ...     load_pretrained("ground").predict(np.zeros((2, 3, 32, 32)))
    ... except ImageShapeError as error:
    ...     print(error)
    X must have images of 3 channels of 64 x 64 pixels (H x W), the planes ('image',
    'variance', 'psf') of stack_planes, as in fit. Got images of the shape (3, 32, 32).
    """


class ModelFileError(ValueError):
    """A file is not a complete and valid model or checkpoint.

    Raised if a file is damaged, has another format or is inconsistent. No content of
    the file has been executed or kept.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklcae import ConditionalAutoencoderRegressor
    >>> from sklcae.exceptions import ModelFileError
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.sklcae"
    ...     n = path.write_text("not a model")
    ...     try:
    ...         ConditionalAutoencoderRegressor.load(path)
    ...     except ModelFileError:
    ...         print("The file is no model.")
    The file is no model.
    """


class OutsideTrainingWarning(UserWarning):
    """Images or targets are outside the range of the training set.

    The network has not learned such images, and its results for them may be far off.

    Examples
    --------
    The warning can be made an error, so that no such prediction is used:

    >>> import warnings
    >>> from sklcae import load_pretrained
    >>> from sklcae.datasets import make_galaxies
    >>> model = load_pretrained("ground")
    >>> X, y = make_galaxies(
    ...     3, x0=32.0, y0=32.0, random_state=0,
    ...     planes=model.planes, targets=model.target_names_,
    ... )
    >>> from sklcae.exceptions import OutsideTrainingWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", OutsideTrainingWarning)
    ...     try:
    ...         y = model.predict(1000 * X)
    ...     except OutsideTrainingWarning as warning:
    ...         print(warning)
    3 of 3 images are outside the range of the training set, the first in row 0: ...
    """


class CatalogError(ValueError):
    """A catalogue cannot be made, continued or verified.

    Raised if a folder belongs to another plan or run, if the model or the stamps
    changed while they were measured, or if a catalogue is not complete.

    Examples
    --------
    >>> from sklcae.exceptions import CatalogError
    >>> from sklcae.survey import verify_catalog
    >>> try:
    ...     verify_catalog("nothing")
    ... except CatalogError as error:
    ...     print(error)
    path must be a folder ... Got 'nothing'.
    """
