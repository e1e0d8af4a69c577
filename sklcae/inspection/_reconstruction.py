"""Images above their reconstructions."""

from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from sklcae.inspection._labels import number_text
from sklcae.inspection._panels import (
    check_stretch,
    make_axes,
    plane_shape,
    select_channel,
    show_image,
)


class ReconstructionDisplay:
    """Images above their reconstructions, as in the paper's Figure 2.

    Create a display with :meth:`from_estimator` or :meth:`from_predictions`. All
    parameters are stored as attributes.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width)
        The images shown, in ADU.
    reconstructions : ndarray of shape (n_images, height, width)
        Their reconstructions, in ADU.
    residuals : ndarray of shape (n_images, height, width)
        Images minus reconstructions, in ADU.
    rmse : ndarray of shape (n_images,)
        Root mean square of each image's residuals, in ADU.
    indices : ndarray of shape (n_images,)
        Index of each image in the original data.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_rows, n_images)
        One axes for each panel. The rows are the images, the reconstructions and,
        optionally, the residuals.
    figure_ : matplotlib Figure
        Figure that holds the axes.

    See Also
    --------
    LatentSweepDisplay : Images decoded while one latent varies.
    ParameterRecoveryDisplay : Predicted against true parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from sklcae.inspection import ReconstructionDisplay
    >>> images = np.arange(32.0).reshape(2, 4, 4)
    >>> display = ReconstructionDisplay.from_predictions(
    ...     images, images - 1.0, n_images=2
    ... )
    >>> display.rmse
    array([1., 1.])
    """

    def __init__(
        self,
        *,
        images: NDArray[Any],
        reconstructions: NDArray[Any],
        residuals: NDArray[Any],
        rmse: NDArray[Any],
        indices: NDArray[Any],
    ) -> None:
        self.images = images
        self.reconstructions = reconstructions
        self.residuals = residuals
        self.rmse = rmse
        self.indices = indices

    def plot(
        self,
        ax: ArrayLike | None = None,
        *,
        stretch: Literal["linear", "asinh"] = "linear",
        show_residuals: bool = False,
        im_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw each image above its reconstruction.

        Both have the colour scale of the image, from its smallest to its largest
        pixel. The colour scale of the residuals is symmetric about zero. The ends of
        the scales and the root mean square of the residuals are written below.

        Parameters
        ----------
        ax : array-like of matplotlib Axes, default=None
            One axes for each panel, in row-major order. By default a new figure is
            created.
        stretch : {"linear", "asinh"}, default="linear"
            Colour scale of images and reconstructions; "asinh" shows faint parts.
        show_residuals : bool, default=False
            Whether to draw a third row with the residuals.
        im_kwargs : dict, default=None
            Keywords for matplotlib's ``imshow`` of images and reconstructions.

        Returns
        -------
        ReconstructionDisplay
            This display.

        Examples
        --------
        >>> import numpy as np
        >>> from sklcae.inspection import ReconstructionDisplay
        >>> images = np.arange(32.0).reshape(2, 4, 4)
        >>> display = ReconstructionDisplay.from_predictions(
        ...     images, images - 1.0, n_images=2
        ... )
        >>> display.plot(show_residuals=True).axes_.shape
        (3, 2)
        """
        check_stretch(stretch)
        self.figure_, self.axes_ = make_axes(
            ax,
            (3 if show_residuals else 2, len(self.images)),
            panel_size=(1.6, 1.9),
            purpose="ReconstructionDisplay.plot",
        )
        kwargs = {"cmap": "gray", "stretch": stretch, **(im_kwargs or {})}
        for column in range(len(self.images)):
            self._draw_column(column, kwargs)
        for row, label in zip(
            self.axes_, ["Input", "Reconstruction", "Residual"], strict=False
        ):
            row[0].set_ylabel(label)
        return self

    def _draw_column(self, column, kwargs):
        axes, image = self.axes_[:, column], self.images[column]
        axes[0].set_title(f"image {self.indices[column]}", fontsize="medium")
        limits = image.min(), image.max()
        pair = image, self.reconstructions[column]
        for ax, picture in zip(axes, pair, strict=False):
            show_image(ax, picture, limits, **kwargs)
        low, high = map(number_text, limits)
        notes = ["", f"scale {low}\nto {high} ADU"]
        if len(axes) == 3:
            residual = self.residuals[column]
            limit = np.abs(residual).max()
            show_image(axes[2], residual, (-limit, limit), cmap="RdBu_r")
            notes.append(f"scale ±{number_text(limit)} ADU")
        notes[-1] += f"\nRMSE {number_text(self.rmse[column])} ADU"
        for ax, note in zip(axes, notes, strict=True):
            ax.set_xlabel(note, fontsize="small")

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        *,
        n_images: int = 8,
        indices: ArrayLike | None = None,
        channel: int = 0,
        ax: ArrayLike | None = None,
        stretch: Literal["linear", "asinh"] = "linear",
        show_residuals: bool = False,
        im_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Reconstruct images with a fitted estimator and draw them.

        Parameters
        ----------
        estimator : ConditionalAutoencoderRegressor
            Fitted estimator with a method ``reconstruct`` and an attribute
            ``image_shape_``.
        X : array-like of shape (n_samples, n_pixels), (n_samples, height, width) or \
(n_samples, n_channels, height, width)
            Images in ADU, in a layout that the estimator accepts.
        n_images : int, default=8
            Number of images to show, the first ones of `X`. Unused with `indices`.
        indices : array-like of int, default=None
            Indices of the images to show.
        channel : int, default=0
            Channel to show.
        ax : array-like of matplotlib Axes, default=None
            One axes for each panel, in row-major order. By default a new figure is
            created.
        stretch : {"linear", "asinh"}, default="linear"
            Colour scale of images and reconstructions; "asinh" shows faint parts.
        show_residuals : bool, default=False
            Whether to draw a third row with the residuals.
        im_kwargs : dict, default=None
            Keywords for matplotlib's ``imshow`` of images and reconstructions.

        Returns
        -------
        ReconstructionDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `n_images`, `indices` or `channel` is not valid for `X`, or `stretch` is
            unknown.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.

        Examples
        --------
        >>> from sklcae import ConditionalAutoencoderRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> from sklcae.inspection import ReconstructionDisplay
        >>> X, y = make_galaxies(20, image_shape=(16, 16), random_state=0)
        >>> model = ConditionalAutoencoderRegressor(max_epochs=2, random_state=0)
        >>> model = model.fit(X, y)
        >>> display = ReconstructionDisplay.from_estimator(model, X, n_images=3)
        >>> display.images.shape
        (3, 16, 16)
        """
        check_is_fitted(estimator)
        n_stamps = len(X)  # type: ignore[arg-type]
        indices = _select_indices(n_stamps, n_images, indices)
        X = X.iloc[indices] if hasattr(X, "iloc") else np.asarray(X)[indices]
        shape = estimator.image_shape_
        images = select_channel(X, "X", image_shape=shape, channel=channel)
        reconstructions = select_channel(
            estimator.reconstruct(X),
            "reconstructions",
            image_shape=plane_shape(estimator),
            channel=channel,
        )
        display = cls._from_pairs(images, reconstructions, indices)
        return display.plot(
            ax, stretch=stretch, show_residuals=show_residuals, im_kwargs=im_kwargs
        )

    @classmethod
    def from_predictions(
        cls,
        images: ArrayLike,
        reconstructions: ArrayLike,
        *,
        n_images: int = 8,
        indices: ArrayLike | None = None,
        channel: int = 0,
        ax: ArrayLike | None = None,
        stretch: Literal["linear", "asinh"] = "linear",
        show_residuals: bool = False,
        im_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw given images and reconstructions.

        Parameters
        ----------
        images : array-like of shape (n_samples, height, width) or \
(n_samples, n_channels, height, width)
            Images in ADU.
        reconstructions : array-like of the same shape
            Their reconstructions in ADU.
        n_images : int, default=8
            Number of images to show, the first ones. Unused with `indices`.
        indices : array-like of int, default=None
            Indices of the images to show.
        channel : int, default=0
            Channel to show.
        ax : array-like of matplotlib Axes, default=None
            One axes for each panel, in row-major order. By default a new figure is
            created.
        stretch : {"linear", "asinh"}, default="linear"
            Colour scale of images and reconstructions; "asinh" shows faint parts.
        show_residuals : bool, default=False
            Whether to draw a third row with the residuals.
        im_kwargs : dict, default=None
            Keywords for matplotlib's ``imshow`` of images and reconstructions.

        Returns
        -------
        ReconstructionDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the shapes differ, `n_images`, `indices` or `channel` is not valid for
            them, or `stretch` is unknown.

        Examples
        --------
        >>> import numpy as np
        >>> from sklcae.inspection import ReconstructionDisplay
        >>> images = np.arange(32.0).reshape(2, 4, 4)
        >>> display = ReconstructionDisplay.from_predictions(
        ...     images, images - 1.0, indices=[1], stretch="asinh"
        ... )
        >>> display.indices, display.rmse
        (array([1]), array([1.]))
        """
        images = select_channel(images, "images", channel=channel)
        reconstructions = select_channel(
            reconstructions, "reconstructions", channel=channel
        )
        if images.shape != reconstructions.shape:
            raise ValueError(
                "images and reconstructions must have the same shape, "
                f"got {images.shape} and {reconstructions.shape}."
            )
        indices = _select_indices(len(images), n_images, indices)
        display = cls._from_pairs(images[indices], reconstructions[indices], indices)
        return display.plot(
            ax, stretch=stretch, show_residuals=show_residuals, im_kwargs=im_kwargs
        )

    @classmethod
    def _from_pairs(cls, images, reconstructions, indices):
        residuals = np.subtract(images, reconstructions, dtype=np.float64)
        return cls(
            images=images,
            reconstructions=reconstructions,
            residuals=residuals,
            rmse=np.sqrt(np.mean(residuals**2, axis=(1, 2))),
            indices=indices,
        )


def _select_indices(n_samples, n_images, indices):
    if indices is None:
        if not isinstance(n_images, Integral) or not 1 <= n_images <= n_samples:
            raise ValueError(
                f"n_images must be an integer from 1 to {n_samples}, the number of "
                f"images given, got {n_images!r}."
            )
        return np.arange(n_images)
    chosen = np.asarray(indices)
    if chosen.ndim != 1 or chosen.size == 0 or chosen.dtype.kind not in "iu":
        raise ValueError(f"indices must be a list of integers, got {indices!r}.")
    if chosen.min() < 0 or chosen.max() >= n_samples:
        raise ValueError(
            f"indices must lie between 0 and {n_samples - 1}, got {indices!r}."
        )
    return chosen
