"""Predictions or latents against the true physical parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import skew
from sklearn.metrics import r2_score
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import check_is_fitted

from sklcae.inspection._labels import below, label_of
from sklcae.inspection._panels import check_names, make_axes, scale_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RESPONSE_METHODS = ("predict", "transform")
_SCALES = ("auto", "linear", "log")
_MOST_COLUMNS = 4
# A panel of predictions extends beyond the true values by at most this fraction of
# their range, so that few wrong predictions do not crush all others.
_OVERSHOOT = 0.3
# Points of more galaxies than this are smaller and more transparent.
_SPARSE = 300


class ParameterRecoveryDisplay:
    """Predictions or latents against the true parameters of galaxies.

    Each galaxy is one point, as in the paper's Figures 3 and 5. Create a display with
    :meth:`from_estimator` or :meth:`from_predictions`. All parameters are stored as
    attributes.

    Parameters
    ----------
    y_true : ndarray of shape (n_samples, n_targets)
        True parameters, NaN where they are unknown.
    y_response : ndarray of shape (n_samples, n_targets)
        Predicted parameters, or the latent of each parameter. NaN where there is none.
    r2 : ndarray of shape (n_targets,)
        R2 of each target, without galaxies that have NaN. Predictions use
        :func:`sklearn.metrics.r2_score`. Latents have other units and use the R2 of the
        best straight line, the squared correlation, which is NaN if a column is
        constant.
    target_names : list of str
        Name of each target. On the axes, the targets of
        :func:`~sklcae.datasets.make_galaxies` have their units, and underscores of
        other names become spaces. For another unit write the label as it should be,
        such as "flux [uJy]".
    response_method : {"predict", "transform"}
        Whether `y_response` holds predictions or latents.
    y_std : ndarray of shape (n_samples, n_targets), default=None
        Standard deviation of each prediction, NaN where it is unknown.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_targets,)
        One axes for each target.
    figure_ : matplotlib Figure
        Figure that holds the axes.
    scatters_ : list of matplotlib PathCollection
        The points of each target.
    errorbars_ : list of matplotlib ErrorbarContainer
        The error bars of each target. Empty without `y_std`.
    lines_ : list of matplotlib Line2D
        The line of each target: y = x for predictions, the best straight line for
        latents.

    See Also
    --------
    LatentSweepDisplay : Images decoded while one latent varies.
    ReconstructionDisplay : Images above their reconstructions.

    Examples
    --------
    >>> from sklcae.inspection import ParameterRecoveryDisplay
    >>> display = ParameterRecoveryDisplay.from_predictions(
    ...     [1.0, 2.0, 3.0], [1.5, 2.0, 2.5], target_names=["flux"]
    ... )
    >>> display.r2
    array([0.75])
    """

    def __init__(
        self,
        *,
        y_true: NDArray[Any],
        y_response: NDArray[Any],
        r2: NDArray[Any],
        target_names: Sequence[str],
        response_method: Literal["predict", "transform"],
        y_std: NDArray[Any] | None = None,
    ) -> None:
        self.y_true = y_true
        self.y_response = y_response
        self.r2 = r2
        self.target_names = target_names
        self.response_method = response_method
        self.y_std = y_std

    def plot(
        self,
        ax: Axes | ArrayLike | None = None,
        *,
        scale: Literal["auto", "linear", "log"] = "auto",
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw one panel for each target.

        Galaxies with NaN are left out, and the title of the panel says how many are
        shown. Predictions far outside the range of the true values are drawn as
        triangles at the edge of the panel. With many galaxies the points are smaller
        and more transparent.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            One axes for each target. By default a new figure is created, with at most
            four panels in a row.
        scale : {"auto", "linear", "log"}, default="auto"
            Scale of both axes of predictions. "log" gives log axes to targets whose
            true and predicted values are all above 0. "auto" gives them only to such
            targets that span more than a decade and are spread more evenly in their
            logarithm. Other targets, and latents, have linear axes.
        scatter_kwargs : dict, default=None
            Keywords for matplotlib's ``scatter`` of the points.
        line_kwargs : dict, default=None
            Keywords for matplotlib's ``plot`` of the line.

        Returns
        -------
        ParameterRecoveryDisplay
            This display.

        Raises
        ------
        ValueError
            If `scale` is unknown or `ax` does not hold one axes for each target.

        Examples
        --------
        >>> from sklcae.inspection import ParameterRecoveryDisplay
        >>> display = ParameterRecoveryDisplay.from_predictions(
        ...     [1.0, 10.0, 100.0], [2.0, 9.0, 110.0], target_names=["flux"]
        ... )
        >>> display.plot(scale="log").axes_[0].get_xscale()
        'log'
        """
        _check_choice(scale, _SCALES, "scale")
        self.figure_, self.axes_ = self._make_axes(ax)
        self.scatters_, self.errorbars_, self.lines_ = [], [], []
        for target in range(len(self.target_names)):
            known = _are_known(self.y_true[:, target], self.y_response[:, target])
            x, y = self.y_true[known, target], self.y_response[known, target]
            ax = self.axes_[target]
            self.scatters_.append(_draw_points(ax, x, y, scatter_kwargs or {}))
            if self.y_std is not None:
                bars = _draw_errorbars(ax, x, y, self.y_std[known, target])
                self.errorbars_.append(bars)
            self.lines_.append(self._draw_line(ax, x, y, line_kwargs or {}))
            self._label_panel(target, known)
            if known.any():
                self._scale_panel(ax, x, y, scale)
        return self

    def _make_axes(self, ax):
        n_targets = len(self.target_names)
        n_rows = math.ceil(n_targets / _MOST_COLUMNS) if ax is None else 1
        figure, axes = make_axes(
            ax,
            (n_rows, math.ceil(n_targets / n_rows)),
            panel_size=(3.2, 3.3),
            purpose="ParameterRecoveryDisplay.plot",
        )
        for unused in axes.flat[n_targets:]:
            unused.remove()
        return figure, axes.ravel()[:n_targets]

    def _draw_line(self, ax, x, y, line_kwargs):
        dashes = {"color": "black", "linewidth": 1, "linestyle": "--"} | line_kwargs
        ends = self._line(x, y) if len(x) else ([], [])
        return ax.plot(*ends, **dashes)[0]

    def _line(self, x, y):
        """Return the x and y values of two points of the line."""
        if self.response_method == "predict":
            ends = min(x.min(), y.min()), max(x.max(), y.max())
            return ends, ends
        ends = np.array([x.min(), x.max()])
        spread = np.var(x)
        slope = np.mean((x - x.mean()) * (y - y.mean())) / spread if spread else 0.0
        return ends, y.mean() + slope * (ends - x.mean())

    def _label_panel(self, target, known):
        label, r2 = label_of(self.target_names[target]), self.r2[target]
        # A model that learned nothing may have an R2 with very many digits.
        score = f"{r2:.3f}" if r2 > -100 else f"{r2:.2g}"
        shown = "" if known.all() else f" ({known.sum()} of {len(known)} shown)"
        latent = self.response_method == "transform"
        self.axes_[target].set(
            title=f"$R^2$ = {score}{shown}",
            xlabel=f"True {label}",
            ylabel=f"Latent z_phy{target}" if latent else f"Predicted {below(label)}",
        )

    def _scale_panel(self, ax, x, y, scale):
        """Make a square panel; predictions have the axis of the true values."""
        ax.set_box_aspect(1)
        if self.response_method == "transform":
            scale_axis(ax, "x", x)
            scale_axis(ax, "y", [*y, *self._line(x, y)[1]])
            return
        log = _use_log(x, y, scale)
        window = _find_window(x, y, log)
        scale_axis(ax, "x", window, log)
        scale_axis(ax, "y", window, log)
        _mark_points_outside(ax, x, y)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        response_method: Literal["predict", "transform"] = "predict",
        show_std: bool = False,
        target_names: Sequence[str] | None = None,
        ax: Axes | ArrayLike | None = None,
        scale: Literal["auto", "linear", "log"] = "auto",
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the predictions or latents of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Any fitted regressor for "predict". For "transform" the first latents must
            be the latents of the targets, in order.
        X : array-like of shape (n_samples, ...)
            Images in ADU, in a layout that the estimator accepts.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            True parameters, NaN where they are unknown.
        response_method : {"predict", "transform"}, default="predict"
            Whether to show predictions or latents.
        show_std : bool, default=False
            Whether to draw error bars of one standard deviation, from
            ``estimator.predict(X, return_std=True)``. Not for latents.
        target_names : list of str, default=None
            Name of each target. By default the names of a DataFrame or Series `y`, or
            the `target_names_` of the estimator, otherwise "target 0" and so on.
        ax : matplotlib Axes or array-like of Axes, default=None
            One axes for each target. By default a new figure is created, with at most
            four panels in a row.
        scale : {"auto", "linear", "log"}, default="auto"
            Scale of both axes of predictions. "log" gives log axes to targets whose
            true and predicted values are all above 0. "auto" gives them only to such
            targets that span more than a decade and are spread more evenly in their
            logarithm. Other targets, and latents, have linear axes.
        scatter_kwargs : dict, default=None
            Keywords for matplotlib's ``scatter`` of the points.
        line_kwargs : dict, default=None
            Keywords for matplotlib's ``plot`` of the line.

        Returns
        -------
        ParameterRecoveryDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `response_method` or `scale` is unknown, `show_std` is set for latents,
            `y` does not have one column for each physical latent, or the shapes do not
            match.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.

        Examples
        --------
        >>> from sklcae.baselines import make_pca_baseline
        >>> from sklcae.datasets import make_galaxies
        >>> from sklcae.inspection import ParameterRecoveryDisplay
        >>> X, y = make_galaxies(20, image_shape=(16, 16), random_state=0)
        >>> model = make_pca_baseline(n_components=2).fit(X, y)
        >>> display = ParameterRecoveryDisplay.from_estimator(
        ...     model, X, y, target_names=["flux", "half_light_radius"]
        ... )
        >>> display.r2.shape
        (2,)
        """
        _check_choice(response_method, _RESPONSE_METHODS, "response_method")
        check_is_fitted(estimator)
        response, y_std = _respond(estimator, X, y, response_method, show_std)
        if target_names is None and _find_names(y) is None:
            target_names = getattr(estimator, "target_names_", None)
        return cls.from_predictions(
            y,
            response,
            y_std=y_std,
            response_method=response_method,
            target_names=target_names,
            ax=ax,
            scale=scale,
            scatter_kwargs=scatter_kwargs,
            line_kwargs=line_kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_response: ArrayLike,
        *,
        y_std: ArrayLike | None = None,
        response_method: Literal["predict", "transform"] = "predict",
        target_names: Sequence[str] | None = None,
        ax: Axes | ArrayLike | None = None,
        scale: Literal["auto", "linear", "log"] = "auto",
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw given predictions or latents.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
            True parameters, NaN where they are unknown.
        y_response : array-like of shape (n_samples,) or (n_samples, n_targets)
            Predicted parameters, or the latent of each parameter. NaN where there is
            none.
        y_std : array-like of the shape of `y_response`, default=None
            Standard deviation of each prediction, for error bars. A prediction with NaN
            has no error bar. Not for latents.
        response_method : {"predict", "transform"}, default="predict"
            Whether `y_response` holds predictions or latents.
        target_names : list of str, default=None
            Name of each target. By default the names of a DataFrame or Series `y_true`,
            otherwise "target 0" and so on.
        ax : matplotlib Axes or array-like of Axes, default=None
            One axes for each target. By default a new figure is created, with at most
            four panels in a row.
        scale : {"auto", "linear", "log"}, default="auto"
            Scale of both axes of predictions. "log" gives log axes to targets whose
            true and predicted values are all above 0. "auto" gives them only to such
            targets that span more than a decade and are spread more evenly in their
            logarithm. Other targets, and latents, have linear axes.
        scatter_kwargs : dict, default=None
            Keywords for matplotlib's ``scatter`` of the points.
        line_kwargs : dict, default=None
            Keywords for matplotlib's ``plot`` of the line.

        Returns
        -------
        ParameterRecoveryDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `response_method` or `scale` is unknown, `y_std` is negative or given for
            latents, or the shapes do not match.

        Examples
        --------
        >>> from sklcae.inspection import ParameterRecoveryDisplay
        >>> display = ParameterRecoveryDisplay.from_predictions(
        ...     [1.0, 2.0, 3.0], [1.5, 2.0, 2.5], y_std=[0.5, 0.5, 0.5]
        ... )
        >>> display.r2, len(display.errorbars_)
        (array([0.75]), 1)
        """
        _check_choice(response_method, _RESPONSE_METHODS, "response_method")
        names = _find_names(y_true) if target_names is None else target_names
        y_true = _as_columns(y_true, "y_true")
        y_response = _as_columns(y_response, "y_response")
        _check_shape(y_true, y_response, "y_response")
        names = check_names(names, y_true.shape[1], "target_names", default="target ")
        display = cls(
            y_true=y_true,
            y_response=y_response,
            r2=_r2_of_columns(y_true, y_response, response_method),
            target_names=names,
            response_method=response_method,
            y_std=_check_std(y_std, y_true, response_method),
        )
        return display.plot(
            ax, scale=scale, scatter_kwargs=scatter_kwargs, line_kwargs=line_kwargs
        )


def _check_choice(value, allowed, parameter):
    if value not in allowed:
        *others, last = map(repr, allowed)
        raise ValueError(
            f"{parameter} must be {', '.join(others)} or {last}, got {value!r}."
        )


def _respond(estimator, X, y, response_method, show_std):
    """Return predictions or latents, and the standard deviations or None."""
    if response_method == "transform":
        if show_std:
            raise ValueError(
                "show_std must be False with response_method='transform', because "
                f"latents have no standard deviation, got {show_std!r}."
            )
        return _physical_latents(estimator, X, y), None
    if show_std:
        return estimator.predict(X, return_std=True)
    return estimator.predict(X), None


def _physical_latents(estimator, X, y):
    latents = np.asarray(estimator.transform(X))
    n_columns = _as_columns(y, "y").shape[1]
    n_targets = getattr(estimator, "n_targets_", n_columns)
    if n_columns != n_targets:
        raise ValueError(
            f"y must have {n_targets} columns, one for each physical latent, got "
            f"{n_columns}."
        )
    return latents[:, :n_targets]


def _as_columns(y, name):
    y = check_array(
        y,
        ensure_2d=False,
        dtype=np.float64,
        ensure_all_finite="allow-nan",
        ensure_min_samples=2,
        input_name=name,
    )
    return y.reshape(-1, 1) if y.ndim == 1 else y


def _check_shape(y_true, values, name):
    check_consistent_length(y_true, values)
    if y_true.shape != values.shape:
        raise ValueError(
            f"y_true has {y_true.shape[1]} targets, so {name} must have as many "
            f"columns, got {values.shape[1]}."
        )


def _check_std(y_std, y_true, response_method):
    if y_std is None:
        return None
    if response_method == "transform":
        raise ValueError(
            "y_std must be None with response_method='transform', because latents have "
            "no standard deviation."
        )
    y_std = _as_columns(y_std, "y_std")
    _check_shape(y_true, y_std, "y_std")
    if np.any(y_std < 0):
        raise ValueError(f"y_std must be at least 0 or NaN, got {np.nanmin(y_std)}.")
    return y_std


def _find_names(y):
    if hasattr(y, "columns"):
        return [str(column) for column in y.columns]
    name = getattr(y, "name", None)
    return None if name is None else [str(name)]


def _draw_points(ax, x, y, scatter_kwargs):
    share = _SPARSE / max(len(x), _SPARSE)
    points = {"s": 3 + 9 * share, "alpha": 0.6 * share**0.4, "linewidths": 0}
    return ax.scatter(x, y, **points | scatter_kwargs)


def _draw_errorbars(ax, x, y, y_std):
    alpha = (_SPARSE / max(len(x), _SPARSE)) ** 0.4
    bars = {"fmt": "none", "ecolor": "0.7", "elinewidth": 0.8, "zorder": 0}
    return ax.errorbar(x, y, y_std, alpha=alpha, **bars)


def _mark_points_outside(ax, x, y):
    """Draw triangles at the lower and the upper edge for points beyond them."""
    for edge, beyond, marker in zip(
        ax.get_ylim(), (np.less, np.greater), "v^", strict=True
    ):
        outside = x[beyond(y, edge)]
        marks = {"color": "C3", "s": 20, "linewidths": 0, "clip_on": False}
        ax.scatter(outside, np.full(len(outside), edge), marker=marker, **marks)


def _are_known(x, y):
    return np.isfinite(x) & np.isfinite(y)


def _use_log(x, y, scale):
    """Return whether the axes of true and predicted values are logarithmic."""
    if scale == "linear" or min(x.min(), y.min()) <= 0:
        return False
    spread_in_log = abs(skew(np.log(x))) < abs(skew(x))
    return scale == "log" or (x.max() > 10 * x.min() and spread_in_log)


def _find_window(x, y, log):
    """Return the ends of the axes of true values x and predicted values y."""
    true, predicted = (np.log10(x), np.log10(y)) if log else (x, y)
    room = _OVERSHOOT * np.ptp(true) or np.inf
    low = max(min(true.min(), predicted.min()), true.min() - room)
    high = min(max(true.max(), predicted.max()), true.max() + room)
    return np.power(10, [low, high]) if log else (low, high)


def _r2_of_columns(y_true, y_response, response_method):
    score = _r2_of_line if response_method == "transform" else r2_score
    return np.array(
        [_r2(x, y, score) for x, y in zip(y_true.T, y_response.T, strict=True)]
    )


def _r2(x, y, score):
    known = _are_known(x, y)
    return score(x[known], y[known]) if known.sum() > 1 else np.nan


def _r2_of_line(y_true, latent):
    """Return the squared correlation, NaN if it is undefined."""
    if np.ptp(y_true) == 0 or np.ptp(latent) == 0:
        return np.nan
    return np.corrcoef(y_true, latent)[0, 1] ** 2
