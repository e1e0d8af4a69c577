"""Images decoded while single latents vary."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from sklcae.inspection._panels import (
    check_names,
    check_stretch,
    make_axes,
    select_channel,
    show_image,
)
from sklcae.metrics import half_light_radius, total_flux


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
        Name of the latent of each row.
    flux : ndarray of shape (n_latents, n_steps)
        Flux measured on each image, in ADU.
    half_light_radius : ndarray of shape (n_latents, n_steps)
        Half-light radius measured on each image, in units of `pixel_scale`; NaN if the
        flux is not positive.
    base_latent : ndarray of shape (latent_dim,), default=None
        Latents of the galaxy at the start of the sweep.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_latents, n_steps)
        One axes for each image.
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
        images,
        values,
        feature_names,
        flux,
        half_light_radius,
        base_latent=None,
    ):
        self.images = images
        self.values = values
        self.feature_names = feature_names
        self.flux = flux
        self.half_light_radius = half_light_radius
        self.base_latent = base_latent

    def plot(self, ax=None, *, stretch="asinh", show_measurements=True, im_kwargs=None):
        """Draw one row for each latent.

        All images of a row share a colour scale, from the smallest to the largest pixel
        of the row.

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
        """
        check_stretch(stretch)
        self.figure_, self.axes_ = make_axes(
            ax,
            self.values.shape,
            panel_size=(1.5, 2.0 if show_measurements else 1.7),
            purpose="LatentSweepDisplay.plot",
        )
        kwargs = {"cmap": "gray", "stretch": stretch, **(im_kwargs or {})}
        for row in range(len(self.images)):
            self._draw_row(row, kwargs)
            self.axes_[row, 0].set_ylabel(self.feature_names[row])
        if show_measurements:
            self._write_measurements()
        return self

    def _draw_row(self, row, kwargs):
        images = self.images[row]
        limits = images.min(), images.max()
        for ax, image, value in zip(
            self.axes_[row], images, self.values[row], strict=True
        ):
            show_image(ax, image, limits, **kwargs)
            ax.set_title(f"{value:+.2f}", fontsize="medium")

    def _write_measurements(self):
        for ax, flux, radius in zip(
            self.axes_.flat, self.flux.flat, self.half_light_radius.flat, strict=True
        ):
            text = f"F = {_number_text(flux)}\nR = {_number_text(radius)}"
            ax.set_xlabel(text, fontsize="small")

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        *,
        latents=None,
        values=None,
        span=(-1.5, 1.5),
        n_steps=7,
        channel=0,
        pixel_scale=1.0,
        background=0.0,
        ax=None,
        stretch="asinh",
        show_measurements=True,
        im_kwargs=None,
    ):
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
            Values of the latents, one row for all or one row for each. Physical latents
            are standardised targets: ``estimator.target_scaler_.transform(y)`` gives
            the values for requested fluxes and radii y. By default the values follow
            from `span` and `n_steps`.
        span : (float, float), default=(-1.5, 1.5)
            First and last value. The default covers most of a uniform distribution of
            standardised targets. Unused with `values`.
        n_steps : int, default=7
            Number of evenly spaced values. Unused with `values`.
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
            If `X` is not one stamp, a latent does not exist, or another parameter is
            not valid.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        check_is_fitted(estimator)
        if len(X) != 1:
            raise ValueError(
                f"X must hold one stamp, got {len(X)}. Select one with X[[index]]."
            )
        names = list(estimator.get_feature_names_out())
        latents = range(estimator.n_targets_) if latents is None else latents
        columns = _find_columns(latents, names)
        if values is None:
            values = _spread(span, n_steps)
        values = _check_values(values, len(columns))
        base_latent = np.asarray(estimator.transform(X))[0]
        images = select_channel(
            estimator.inverse_transform(_sweep(base_latent, columns, values)),
            "inverse_transform(Z)",
            image_shape=estimator.image_shape_,
            channel=channel,
        )
        return cls.from_arrays(
            images.reshape(*values.shape, *images.shape[1:]),
            values,
            feature_names=[names[column] for column in columns],
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
        images,
        values,
        *,
        feature_names=None,
        base_latent=None,
        pixel_scale=1.0,
        background=0.0,
        ax=None,
        stretch="asinh",
        show_measurements=True,
        im_kwargs=None,
    ):
        """Measure and draw decoded images.

        Parameters
        ----------
        images : array-like of shape (n_latents, n_steps, height, width)
            Decoded images in ADU.
        values : array-like of shape (n_steps,) or (n_latents, n_steps)
            Values of the latent of each row.
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
        """
        images = _check_sweep_images(images)
        values = _check_values(values, len(images))
        if values.shape != images.shape[:2]:
            raise ValueError(
                f"values must have {images.shape[1]} steps, one for each image of a "
                f"row, got {values.shape[1]}."
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


def _spread(span, n_steps):
    if not isinstance(n_steps, Integral) or n_steps < 1:
        raise ValueError(f"n_steps must be a positive integer, got {n_steps!r}.")
    if np.shape(span) != (2,):
        raise ValueError(f"span must hold two numbers, got {span!r}.")
    return np.linspace(*span, n_steps)


def _check_values(values, n_latents):
    values = check_array(values, ensure_2d=False, dtype=np.float64, input_name="values")
    if values.ndim == 1:
        values = np.tile(values, (n_latents, 1))
    if len(values) != n_latents:
        raise ValueError(
            f"values must have one row for all latents or {n_latents} rows, one for "
            f"each latent, got {len(values)}."
        )
    return values


def _sweep(base_latent, columns, values):
    """Return the latents of all images in the row-major order of `values`."""
    Z = np.tile(base_latent, (values.size, 1))
    Z[np.arange(values.size), np.repeat(columns, values.shape[1])] = values.ravel()
    return Z


def _check_sweep_images(images):
    images = check_array(images, allow_nd=True, ensure_2d=False, input_name="images")
    if images.ndim != 4:
        raise ValueError(
            "images must have the shape (n_latents, n_steps, height, width), "
            f"got {images.shape}."
        )
    return images


def _number_text(number):
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"
