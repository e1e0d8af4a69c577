"""Predictions or latents against the true physical parameters."""

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import check_is_fitted

from sklcae.inspection._panels import check_names, make_axes

_RESPONSE_METHODS = ("predict", "transform")


class ParameterRecoveryDisplay:
    """Predictions or latents against the true parameters of galaxies.

    Each galaxy is one point, as in the paper's Figures 3 and 5. Create a display with
    :meth:`from_estimator` or :meth:`from_predictions`. All parameters are stored as
    attributes.

    Parameters
    ----------
    y_true : ndarray of shape (n_samples, n_targets)
        True parameters.
    y_response : ndarray of shape (n_samples, n_targets)
        Predicted parameters, or the latent of each parameter.
    r2 : ndarray of shape (n_targets,)
        R2 of each target. Predictions use :func:`sklearn.metrics.r2_score`. Latents
        have other units and use the R2 of the best straight line, the squared
        correlation, which is NaN if a column is constant.
    target_names : list of str
        Name of each target.
    response_method : {"predict", "transform"}
        Whether `y_response` holds predictions or latents.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_targets,)
        One axes for each target.
    figure_ : matplotlib Figure
        Figure that holds the axes.
    scatters_ : list of matplotlib PathCollection
        The points of each target.
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

    def __init__(self, *, y_true, y_response, r2, target_names, response_method):
        self.y_true = y_true
        self.y_response = y_response
        self.r2 = r2
        self.target_names = target_names
        self.response_method = response_method

    def plot(self, ax=None, *, scatter_kwargs=None, line_kwargs=None):
        """Draw one panel for each target.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            One axes for each target. By default a new figure is created.
        scatter_kwargs : dict, default=None
            Keywords for matplotlib's ``scatter`` of the points.
        line_kwargs : dict, default=None
            Keywords for matplotlib's ``plot`` of the line.

        Returns
        -------
        ParameterRecoveryDisplay
            This display.
        """
        self.figure_, axes = make_axes(
            ax,
            (1, len(self.target_names)),
            panel_size=(3.8, 3.6),
            purpose="ParameterRecoveryDisplay.plot",
        )
        self.axes_ = axes[0]
        self.scatters_, self.lines_ = [], []
        for target in range(len(self.target_names)):
            self._draw_panel(target, scatter_kwargs or {}, line_kwargs or {})
        return self

    def _draw_panel(self, target, scatter_kwargs, line_kwargs):
        ax, name = self.axes_[target], self.target_names[target]
        x, y = self.y_true[:, target], self.y_response[:, target]
        points = {"s": 10, "alpha": 0.6, "linewidths": 0} | scatter_kwargs
        dashes = {"color": "black", "linewidth": 1, "linestyle": "--"} | line_kwargs
        self.scatters_.append(ax.scatter(x, y, **points))
        self.lines_ += ax.plot(*self._line(x, y), **dashes)
        latent = self.response_method == "transform"
        ax.set(
            title=f"$R^2$ = {self.r2[target]:.3f}",
            xlabel=f"True {name}",
            ylabel=f"Latent z_phy{target}" if latent else f"Predicted {name}",
        )

    def _line(self, x, y):
        """Return the x and y values of two points of the line."""
        if self.response_method == "predict":
            ends = min(x.min(), y.min()), max(x.max(), y.max())
            return ends, ends
        ends = np.array([x.min(), x.max()])
        spread = np.var(x)
        slope = np.mean((x - x.mean()) * (y - y.mean())) / spread if spread else 0.0
        return ends, y.mean() + slope * (ends - x.mean())

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        response_method="predict",
        target_names=None,
        ax=None,
        scatter_kwargs=None,
        line_kwargs=None,
    ):
        """Draw the predictions or latents of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Any fitted regressor for "predict". For "transform" the first latents must
            be the latents of the targets, in order.
        X : array-like of shape (n_samples, ...)
            Images in ADU, in a layout that the estimator accepts.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            True parameters.
        response_method : {"predict", "transform"}, default="predict"
            Whether to show predictions or latents.
        target_names : list of str, default=None
            Name of each target. By default the names of a DataFrame or Series `y`,
            otherwise "target 0" and so on.
        ax : matplotlib Axes or array-like of Axes, default=None
            One axes for each target. By default a new figure is created.
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
            If `response_method` is unknown, `y` does not have one column for each
            physical latent, or the shapes do not match.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        _check_response_method(response_method)
        check_is_fitted(estimator)
        response = np.asarray(getattr(estimator, response_method)(X))
        if response_method == "transform":
            n_columns = _as_columns(y, "y").shape[1]
            n_targets = getattr(estimator, "n_targets_", n_columns)
            if n_columns != n_targets:
                raise ValueError(
                    f"y must have {n_targets} columns, one for each physical latent, "
                    f"got {n_columns}."
                )
            response = response[:, :n_targets]
        return cls.from_predictions(
            y,
            response,
            response_method=response_method,
            target_names=target_names,
            ax=ax,
            scatter_kwargs=scatter_kwargs,
            line_kwargs=line_kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true,
        y_response,
        *,
        response_method="predict",
        target_names=None,
        ax=None,
        scatter_kwargs=None,
        line_kwargs=None,
    ):
        """Draw given predictions or latents.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
            True parameters.
        y_response : array-like of shape (n_samples,) or (n_samples, n_targets)
            Predicted parameters, or the latent of each parameter.
        response_method : {"predict", "transform"}, default="predict"
            Whether `y_response` holds predictions or latents.
        target_names : list of str, default=None
            Name of each target. By default the names of a DataFrame or Series `y_true`,
            otherwise "target 0" and so on.
        ax : matplotlib Axes or array-like of Axes, default=None
            One axes for each target. By default a new figure is created.
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
            If `response_method` is unknown or the shapes do not match.
        """
        _check_response_method(response_method)
        names = _find_names(y_true) if target_names is None else target_names
        y_true = _as_columns(y_true, "y_true")
        y_response = _as_columns(y_response, "y_response")
        _check_shapes(y_true, y_response)
        names = check_names(names, y_true.shape[1], "target_names", default="target ")
        score = _r2_of_line if response_method == "transform" else _r2_of_prediction
        display = cls(
            y_true=y_true,
            y_response=y_response,
            r2=score(y_true, y_response),
            target_names=names,
            response_method=response_method,
        )
        return display.plot(ax, scatter_kwargs=scatter_kwargs, line_kwargs=line_kwargs)


def _check_response_method(response_method):
    if response_method not in _RESPONSE_METHODS:
        raise ValueError(
            "response_method must be 'predict' or 'transform', "
            f"got {response_method!r}."
        )


def _as_columns(y, name):
    y = check_array(
        y, ensure_2d=False, dtype=np.float64, ensure_min_samples=2, input_name=name
    )
    return y.reshape(-1, 1) if y.ndim == 1 else y


def _check_shapes(y_true, y_response):
    check_consistent_length(y_true, y_response)
    if y_true.shape != y_response.shape:
        raise ValueError(
            f"y_true has {y_true.shape[1]} targets, so y_response must have as many "
            f"columns, got {y_response.shape[1]}."
        )


def _find_names(y):
    if hasattr(y, "columns"):
        return [str(column) for column in y.columns]
    name = getattr(y, "name", None)
    return None if name is None else [str(name)]


def _r2_of_prediction(y_true, y_pred):
    return r2_score(y_true, y_pred, multioutput="raw_values")


def _r2_of_line(y_true, latent):
    """Return the squared correlation of each pair of columns."""
    a, b = y_true - y_true.mean(axis=0), latent - latent.mean(axis=0)
    spread = (a**2).sum(axis=0) * (b**2).sum(axis=0)
    squared = (a * b).sum(axis=0) ** 2
    undefined = (np.ptp(a, axis=0) == 0) | (np.ptp(b, axis=0) == 0)
    return np.where(undefined, np.nan, squared / np.where(undefined, 1.0, spread))
