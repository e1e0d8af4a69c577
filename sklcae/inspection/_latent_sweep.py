"""Images decoded while single latents vary."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from sklcae.inspection._labels import below, label_of, number_text, row_texts
from sklcae.inspection._panels import (
    check_names,
    check_stretch,
    find_limits,
    make_axes,
    plane_shape,
    psf_of,
    select_channel,
    show_color_bar,
    show_image,
)
from sklcae.metrics import half_light_radius, total_flux

# First and last value of a latent, in standard deviations of a target. They cover most
# of a uniform distribution.
_SPAN = (-1.5, 1.5)


class LatentSweepDisplay:
    """Images decoded while one latent varies, as in the paper's Figure 4.

    Create a display with :meth:`from_estimator` or :meth:`from_arrays`. All parameters
    are stored as attributes.

    Parameters
    ----------
    images : ndarray of shape (n_latents, n_steps, height, width)
        Decoded images in ADU.
    values : ndarray of shape (n_latents, n_steps)
        Values of the latent of each row.
    feature_names : list of str
        Name of the latent of each row. In the figure, the targets of
        :func:`~sklcae.datasets.make_galaxies` have their units.
    flux : ndarray of shape (n_latents, n_steps)
        Flux measured on each image, in ADU.
    half_light_radius : ndarray of shape (n_latents, n_steps)
        Half-light radius measured on each image, in units of `pixel_scale`; NaN if the
        flux is not positive.
    base_latent : ndarray of shape (latent_dim,), default=None
        Latents of the galaxy at the start of the sweep.
    target_values : ndarray of shape (n_latents, n_steps), default=None
        The requested values of the targets of physical latents, in the units of the
        targets. NaN for other latents.
    pixel_scale : float, default=1.0
        Size of a pixel in arcsec. With 1.0 the radius is in pixels.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_latents, n_steps)
        One axes for each image.
    color_bars_ : list of matplotlib Colorbar
        The scale of each row.
    figure_ : matplotlib Figure
        Figure that holds the axes.

    See Also
    --------
    ReconstructionDisplay : Images above their reconstructions.
    sklcae.metrics.sweep_slopes : Slope of measured against requested values.

    Examples
    --------
    >>> import numpy as np
    >>> from sklcae.inspection import LatentSweepDisplay
    >>> galaxy = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])
    >>> display = LatentSweepDisplay.from_arrays(
    ...     [[1 * galaxy, 2 * galaxy, 3 * galaxy]], [-1.0, 0.0, 1.0]
    ... )
    >>> display.flux
    array([[16., 32., 48.]])
    """

    def __init__(
        self,
        *,
        images: NDArray[Any],
        values: NDArray[Any],
        feature_names: Sequence[str],
        flux: NDArray[Any],
        half_light_radius: NDArray[Any],
        base_latent: ArrayLike | None = None,
        target_values: NDArray[Any] | None = None,
        pixel_scale: float = 1.0,
    ) -> None:
        self.images = images
        self.values = values
        self.feature_names = feature_names
        self.flux = flux
        self.half_light_radius = half_light_radius
        self.base_latent = base_latent
        self.target_values = target_values
        self.pixel_scale = pixel_scale

    def plot(
        self,
        ax: ArrayLike | None = None,
        *,
        stretch: Literal["linear", "asinh"] = "asinh",
        show_measurements: bool = True,
        im_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw one row for each latent.

        The titles are the requested values of the targets if they are known, and
        otherwise of the latents. All images of a row share the colour scale
        beside it, so that their brightness can be compared. It ends at the largest
        pixel of the row and begins slightly below 0, or at the smallest pixel.

        Parameters
        ----------
        ax : array-like of matplotlib Axes, default=None
            One axes for each image, in row-major order. By default a new figure is
            created.
        stretch : {"linear", "asinh"}, default="asinh"
            Colour scale. "asinh" shows faint parts: with "linear" a galaxy that grows
            at constant flux fades.
        show_measurements : bool, default=True
            Whether to write flux F and half-light radius R below each image.
        im_kwargs : dict, default=None
            Keywords for matplotlib's ``imshow``.

        Returns
        -------
        LatentSweepDisplay
            This display.

        Examples
        --------
        >>> import numpy as np
        >>> from sklcae.inspection import LatentSweepDisplay
        >>> galaxy = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])
        >>> display = LatentSweepDisplay.from_arrays(
        ...     [[1 * galaxy, 2 * galaxy, 3 * galaxy]], [-1.0, 0.0, 1.0]
        ... )
        >>> display.plot(stretch="linear").axes_.shape
        (1, 3)
        """
        check_stretch(stretch)
        self.figure_, self.axes_ = make_axes(
            ax,
            self.values.shape,
            panel_size=(1.5, 2.0 if show_measurements else 1.7),
            purpose="LatentSweepDisplay.plot",
        )
        kwargs = {"cmap": "gray", "stretch": stretch, **(im_kwargs or {})}
        self.color_bars_ = [
            self._draw_row(row, kwargs) for row in range(len(self.images))
        ]
        if show_measurements:
            self._write_measurements()
        return self

    def _draw_row(self, row, kwargs):
        """Draw the images of a row and return their colour bar."""
        axes, images = self.axes_[row], self.images[row]
        limits = find_limits(images)
        texts = row_texts(self._requested(row))
        for ax, image, text in zip(axes, images, texts, strict=True):
            artist = show_image(ax, image, limits, **kwargs)
            ax.set_title(text, fontsize="medium")
        axes[0].set_ylabel(below(label_of(self.feature_names[row])))
        extend = "min" if images.min() < limits[0] else "neither"
        return show_color_bar(
            artist, axes, extend=extend, shrink=0.65, aspect=12, pad=0.01
        )

    def _requested(self, row):
        if self.target_values is None or np.isnan(self.target_values[row]).any():
            return self.values[row]
        return self.target_values[row]

    def _write_measurements(self):
        unit = "pixel" if self.pixel_scale == 1 else "arcsec"
        for ax, flux, radius in zip(
            self.axes_.flat, self.flux.flat, self.half_light_radius.flat, strict=True
        ):
            text = f"F = {number_text(flux)} ADU\nR = {number_text(radius)} {unit}"
            ax.set_xlabel(text, fontsize="small")

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        *,
        latents: int | str | Sequence[int | str] | None = None,
        values: ArrayLike | None = None,
        target_values: ArrayLike | None = None,
        span: tuple[float, float] | None = None,
        n_steps: int = 7,
        channel: int = 0,
        pixel_scale: float = 1.0,
        background: ArrayLike = 0.0,
        ax: ArrayLike | None = None,
        stretch: Literal["linear", "asinh"] = "asinh",
        show_measurements: bool = True,
        im_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Encode one stamp, vary single latents, and draw the decoded images.

        Parameters
        ----------
        estimator : ConditionalAutoencoderRegressor
            Fitted estimator with the methods ``transform`` and ``inverse_transform``.
        X : array-like of shape (1, n_pixels), (1, height, width) or \
(1, n_channels, height, width)
            The stamp at the start of the sweep, in ADU.
        latents : int, str or list of int or str, default=None
            The latents to vary, by their column in ``transform(X)`` or their name in
            ``get_feature_names_out()``. By default the physical latents.
        values : array-like of shape (n_steps,) or (n_latents, n_steps), default=None
            Values of the latents, one row for all or one row for each. By default the
            values follow from `target_values`, or from `span` and `n_steps`.
        target_values : array-like of shape (n_steps,) or (n_latents, n_steps), \
default=None
            Values of the targets in their units, such as fluxes in ADU, in place of
            `values`. Only for physical latents.
        span : (float, float), default=None
            First and last value of the latents. By default -1.5 and 1.5, which covers
            most of a uniform distribution of standardised targets; for physical latents
            cut to the range of the training set, ``estimator.target_range_``. Unused
            with `values` or `target_values`.
        n_steps : int, default=7
            Number of evenly spaced values of the latent. Unused with `values` or
            `target_values`.
        channel : int, default=0
            Channel to show and measure.
        pixel_scale : float, default=1.0
            Size of a pixel in arcsec. With 1.0 the radius is in pixels.
        background : float or "border", default=0.0
            Level that is subtracted for the measurements only, see
            :func:`sklcae.metrics.half_light_radius`.
        ax : array-like of matplotlib Axes, default=None
            One axes for each image, in row-major order. By default a new figure is
            created.
        stretch : {"linear", "asinh"}, default="asinh"
            Colour scale. "asinh" shows faint parts: with "linear" a galaxy that grows
            at constant flux fades.
        show_measurements : bool, default=True
            Whether to write flux F and half-light radius R below each image.
        im_kwargs : dict, default=None
            Keywords for matplotlib's ``imshow``.

        Returns
        -------
        LatentSweepDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `X` is not one stamp, a latent does not exist, `target_values` are given
            together with `values` or for a latent that is not physical, or another
            parameter is not valid.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.

        Examples
        --------
        >>> from sklcae import ConditionalAutoencoderRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> from sklcae.inspection import LatentSweepDisplay
        >>> X, y = make_galaxies(20, image_shape=(16, 16), random_state=0)
        >>> model = ConditionalAutoencoderRegressor(max_epochs=2, random_state=0)
        >>> model = model.fit(X, y)
        >>> display = LatentSweepDisplay.from_estimator(model, X[:1], n_steps=3)
        >>> display.feature_names, display.images.shape
        (['target 0', 'target 1'], (2, 3, 16, 16))
        """
        check_is_fitted(estimator)
        n_stamps = len(X)  # type: ignore[arg-type]
        if n_stamps != 1:
            raise ValueError(
                f"X must hold one stamp, got {n_stamps}. Select one with X[[index]]."
            )
        names = list(estimator.get_feature_names_out())
        latents = range(estimator.n_targets_) if latents is None else latents
        columns = _find_columns(latents, names)
        base_latent = np.asarray(estimator.transform(X))[0]
        if target_values is not None:
            if values is not None:
                raise ValueError("values must be None if target_values are given.")
            values = _find_latents(estimator, base_latent, columns, target_values)
        elif values is None:
            values = _spread(estimator, columns, span, n_steps)
        values = _check_values(values, len(columns), "values")
        Z = _sweep(base_latent, columns, values)
        psf = {
            name: np.repeat(plane, len(Z), axis=0)
            for name, plane in psf_of(estimator, X).items()
        }
        images = select_channel(
            estimator.inverse_transform(Z, **psf),
            "inverse_transform(Z)",
            image_shape=plane_shape(estimator),
            channel=channel,
        )
        return cls.from_arrays(
            images.reshape(*values.shape, *images.shape[1:]),
            values,
            target_values=_find_targets(estimator, Z, columns, values.shape),
            feature_names=[_name_row(names[column], column) for column in columns],
            base_latent=base_latent,
            pixel_scale=pixel_scale,
            background=background,
            ax=ax,
            stretch=stretch,
            show_measurements=show_measurements,
            im_kwargs=im_kwargs,
        )

    @classmethod
    def from_arrays(
        cls,
        images: ArrayLike,
        values: ArrayLike,
        *,
        target_values: ArrayLike | None = None,
        feature_names: Sequence[str] | None = None,
        base_latent: ArrayLike | None = None,
        pixel_scale: float = 1.0,
        background: ArrayLike = 0.0,
        ax: ArrayLike | None = None,
        stretch: Literal["linear", "asinh"] = "asinh",
        show_measurements: bool = True,
        im_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Measure and draw decoded images.

        Parameters
        ----------
        images : array-like of shape (n_latents, n_steps, height, width)
            Decoded images in ADU.
        values : array-like of shape (n_steps,) or (n_latents, n_steps)
            Values of the latent of each row, one row for all or one row for each.
        target_values : array-like of shape (n_latents, n_steps), default=None
            Values of the target of each row in the unit of the target, for the titles.
            In a row with NaN the titles are `values`.
        feature_names : list of str, default=None
            Name of the latent of each row. By default "z_phy0" and so on.
        base_latent : array-like of shape (latent_dim,), default=None
            Latents of the galaxy at the start of the sweep.
        pixel_scale : float, default=1.0
            Size of a pixel in arcsec. With 1.0 the radius is in pixels.
        background : float or "border", default=0.0
            Level that is subtracted for the measurements only, see
            :func:`sklcae.metrics.half_light_radius`.
        ax : array-like of matplotlib Axes, default=None
            One axes for each image, in row-major order. By default a new figure is
            created.
        stretch : {"linear", "asinh"}, default="asinh"
            Colour scale. "asinh" shows faint parts: with "linear" a galaxy that grows
            at constant flux fades.
        show_measurements : bool, default=True
            Whether to write flux F and half-light radius R below each image.
        im_kwargs : dict, default=None
            Keywords for matplotlib's ``imshow``.

        Returns
        -------
        LatentSweepDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the shapes do not match or a parameter is out of range.

        Examples
        --------
        >>> import numpy as np
        >>> from sklcae.inspection import LatentSweepDisplay
        >>> galaxy = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])
        >>> display = LatentSweepDisplay.from_arrays(
        ...     [[1 * galaxy, 2 * galaxy]], [0.0, 1.0], feature_names=["flux"]
        ... )
        >>> display.flux
        array([[16., 32.]])
        """
        images = _check_sweep_images(images)
        values = _check_steps(values, images, "values")
        if target_values is not None:
            target_values = _check_steps(
                target_values, images, "target_values", ensure_all_finite="allow-nan"
            )
        names = check_names(
            feature_names, len(images), "feature_names", default="z_phy"
        )
        stamps = images.reshape(-1, *images.shape[2:])
        flux = total_flux(stamps, background=background)
        radius = half_light_radius(
            stamps, pixel_scale=pixel_scale, background=background
        )
        display = cls(
            images=images,
            values=values,
            feature_names=names,
            flux=flux.reshape(values.shape),
            half_light_radius=radius.reshape(values.shape),
            base_latent=base_latent,
            target_values=target_values,
            pixel_scale=pixel_scale,
        )
        return display.plot(
            ax,
            stretch=stretch,
            show_measurements=show_measurements,
            im_kwargs=im_kwargs,
        )


def _find_columns(latents, names):
    if isinstance(latents, (str, Integral)):
        latents = [latents]
    if len(latents) == 0:
        raise ValueError("latents must hold at least one latent, got none.")
    return [_find_column(latent, names) for latent in latents]


def _find_column(latent, names):
    if isinstance(latent, str) and latent in names:
        return names.index(latent)
    if isinstance(latent, Integral) and 0 <= latent < len(names):
        return int(latent)
    raise ValueError(
        f"latents must hold integers from 0 to {len(names) - 1} or names from "
        f"get_feature_names_out() ({names[0]!r} to {names[-1]!r}), got {latent!r}."
    )


def _name_row(name, column):
    """Return the name of a row; the number of its target if it has no name."""
    return f"target {column}" if name == f"z_phy{column}" else name


def _spread(estimator, columns, span, n_steps):
    """Return evenly spaced values for each latent."""
    if not isinstance(n_steps, Integral) or n_steps < 1:
        raise ValueError(f"n_steps must be a positive integer, got {n_steps!r}.")
    if span is not None and np.shape(span) != (2,):
        raise ValueError(f"span must hold two numbers, got {span!r}.")
    spans = np.tile(_SPAN if span is None else span, (len(columns), 1))
    if span is None:
        trained = np.transpose(_scale(estimator, estimator.target_range_))
        for row, column in enumerate(columns):
            if column < estimator.n_targets_:
                spans[row] = np.clip(spans[row], *trained[column])
    return np.linspace(*spans.T, n_steps, axis=1)


def _scale(estimator, y):
    return np.asarray(estimator.target_scaler_.transform(y))


def _unscale(estimator, Z):
    z_phy = np.asarray(Z, dtype=np.float64)[:, : estimator.n_targets_]
    return estimator.target_scaler_.inverse_transform(z_phy)


def _find_latents(estimator, base_latent, columns, target_values):
    """Return the values of latents for the wanted values of their targets."""
    wanted = _check_values(target_values, len(columns), "target_values")
    if max(columns) >= estimator.n_targets_:
        raise ValueError(
            "target_values must be None for latents that are not physical, the columns "
            f"from {estimator.n_targets_}, got the columns {columns}."
        )
    y = _sweep(_unscale(estimator, base_latent[np.newaxis])[0], columns, wanted)
    return _pick(_scale(estimator, y), columns, wanted.shape)


def _find_targets(estimator, Z, columns, shape):
    """Return the values of the targets of swept latents, NaN where there is none."""
    y = np.full(Z.shape, np.nan)
    y[:, : estimator.n_targets_] = _unscale(estimator, Z)
    return _pick(y, columns, shape)


def _sweep(base, columns, values):
    """Return the vectors of all images in the row-major order of `values`.

    In each row of `values` one column of the base vector varies.
    """
    vectors = np.tile(base, (values.size, 1))
    vectors[np.arange(values.size), np.repeat(columns, values.shape[1])] = (
        values.ravel()
    )
    return vectors


def _pick(vectors, columns, shape):
    """Return the varied entries of vectors that `_sweep` made."""
    picked = vectors[np.arange(len(vectors)), np.repeat(columns, shape[1])]
    return picked.reshape(shape)


def _check_values(values, n_latents, name, ensure_all_finite=True):
    values = check_array(
        values,
        ensure_2d=False,
        dtype=np.float64,
        ensure_all_finite=ensure_all_finite,
        input_name=name,
    )
    if values.ndim == 1:
        values = np.tile(values, (n_latents, 1))
    if len(values) != n_latents:
        raise ValueError(
            f"{name} must have one row for all latents or {n_latents} rows, one for "
            f"each latent, got {len(values)}."
        )
    return values


def _check_steps(values, images, name, ensure_all_finite=True):
    values = _check_values(values, len(images), name, ensure_all_finite)
    if values.shape != images.shape[:2]:
        raise ValueError(
            f"{name} must have {images.shape[1]} steps, one for each image of a row, "
            f"got {values.shape[1]}."
        )
    return values


def _check_sweep_images(images):
    images = check_array(images, allow_nd=True, ensure_2d=False, input_name="images")
    if images.ndim != 4:
        raise ValueError(
            "images must have the shape (n_latents, n_steps, height, width), "
            f"got {images.shape}."
        )
    return images
