"""Axes, images and checks that the displays share."""

import math

import numpy as np
from sklearn.utils import check_array

from sklcae._compat import import_optional

# Below this fraction of the range the asinh stretch is approximately linear, which
# covers the noise and the faint outskirts of a galaxy.
LINEAR_PART = 0.02
# Space between the outermost points and the frame, as a fraction of the range.
MARGIN = 0.05
# More numbers would overlap; those of a logarithmic axis are not evenly spaced.
MOST_TICKS = 5
MOST_LOG_TICKS = 4
# Fewer numbers of this size have room beside each other.
LONG_NUMBER = 10_000
NUMBER_FORMAT = "{x:,.6g}"


def select_channel(images, name, *, image_shape=None, channel=0):
    """Return one channel of images (n, H, W) or (n, C, H, W), as (n, H, W).

    With an `image_shape` (C, H, W) the images may be flat. Messages use their `name`.
    """
    images = check_array(images, allow_nd=True, ensure_2d=False, input_name=name)
    if image_shape is not None:
        images = images.reshape(len(images), *image_shape)
    if images.ndim == 3:
        images = images[:, np.newaxis]
    if images.ndim != 4:
        raise ValueError(
            f"{name} must have the shape (n_images, height, width) or "
            f"(n_images, n_channels, height, width), got {images.shape}."
        )
    if channel not in range(images.shape[1]):
        raise ValueError(
            f"channel must be an integer from 0 to {images.shape[1] - 1}, "
            f"got {channel!r}."
        )
    return images[:, channel]


def plane_shape(estimator):
    """Return bands, height and width of one plane of the stamps of an estimator."""
    n_channels, *size = estimator.image_shape_
    planes = getattr(estimator, "planes", "image")
    n_planes = 1 if isinstance(planes, str) else len(planes)
    return n_channels // n_planes, *size


def psf_of(estimator, X):
    """Return the PSFs of stamps (n, n_bands, H, W) as keywords, empty if none."""
    if "psf" not in getattr(estimator, "planes", ()):
        return {}
    stamps = np.asarray(X).reshape(len(X), *estimator.image_shape_)
    # The PSF is the last plane.
    return {"psf": stamps[:, -plane_shape(estimator)[0] :]}


def make_axes(ax, shape, *, panel_size, purpose):
    """Return a figure and its grid of axes of a shape, either new or given.

    A panel of a new figure has the `panel_size` in inches. `purpose` is the method that
    needs matplotlib, for the message if it is missing.
    """
    if ax is None:
        plt = import_optional("matplotlib.pyplot", extra="plot", purpose=purpose)
        size = (panel_size[0] * shape[1], panel_size[1] * shape[0])
        return plt.subplots(*shape, squeeze=False, figsize=size, layout="constrained")
    axes = np.array(ax, dtype=object)
    if axes.size != math.prod(shape):
        raise ValueError(
            f"ax must be an array of {math.prod(shape)} axes, {shape[0]} rows of "
            f"{shape[1]}, got {axes.size}."
        )
    axes = axes.reshape(shape)
    return axes[0, 0].figure, axes


def check_stretch(stretch):
    """Raise an error if the stretch is unknown."""
    if stretch not in ("linear", "asinh"):
        raise ValueError(f"stretch must be 'linear' or 'asinh', got {stretch!r}.")


def check_names(names, n_names, parameter, *, default):
    """Return a name for each panel or row, made from the default prefix if None."""
    if names is None:
        return [f"{default}{number}" for number in range(n_names)]
    names = [str(name) for name in names]
    if len(names) != n_names:
        raise ValueError(f"{parameter} must hold {n_names} names, got {names!r}.")
    return names


def show_image(ax, image, limits, *, stretch="linear", **kwargs):
    """Draw one image without ticks, with the first row at the bottom.

    ``limits`` are the values at the two ends of the colour scale; ``kwargs`` go to
    ``imshow``. Returns the artist.
    """
    norm = _make_norm(*limits, stretch)
    ax.set(xticks=[], yticks=[])
    return ax.imshow(image, norm=norm, **{"origin": "lower", **kwargs})


def find_limits(images):
    """Return the ends of the colour scale of noiseless images.

    The sky is near 0. A few pixels far below 0 would make it gray.
    """
    low, high = images.min(), images.max()
    return max(low, -LINEAR_PART * high) if high > 0 else low, high


def show_color_bar(artist, axes, **kwargs):
    """Draw the colour bar of the images in some axes, and return it.

    ``kwargs`` go to ``colorbar``.
    """
    kwargs = {"ax": list(axes), "ticks": _color_ticks(artist.norm), **kwargs}
    color_bar = axes[0].figure.colorbar(artist, format=NUMBER_FORMAT, **kwargs)
    color_bar.minorticks_off()
    color_bar.ax.tick_params(labelsize="small")
    color_bar.set_label("ADU per pixel", fontsize="small")
    return color_bar


def _color_ticks(norm):
    from matplotlib.ticker import MaxNLocator

    if norm.vmin == norm.vmax:
        return [norm.vmin]
    if hasattr(norm, "linear_width"):
        return [0.0, *_log_ticks(3 * norm.linear_width, norm.vmax)]
    return MaxNLocator(MOST_TICKS)


def _make_norm(low, high, stretch):
    from matplotlib.colors import AsinhNorm, Normalize

    if stretch == "asinh" and high > low:
        return AsinhNorm((high - low) * LINEAR_PART, low, high)
    return Normalize(low, high)


def scale_axis(ax, side, values, log=False):
    """Set the scale, the limits and a few ticks of the "x" or "y" axis for values."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter

    axis = getattr(ax, f"{side}axis")
    ends = np.array([np.min(values), np.max(values)])
    ends = np.log10(ends) if log else ends
    margin = MARGIN * np.ptp(ends) or max(0.5, MARGIN * abs(ends[0]))
    limits = ends + [-margin, margin]
    if log:
        limits = 10**limits
        ax.set(**{f"{side}scale": "log"})
        axis.set_major_locator(FixedLocator(_log_ticks(*limits)))
        axis.set_minor_formatter(NullFormatter())
    else:
        fewer = int(np.abs(limits).max() >= LONG_NUMBER)
        locator = MaxNLocator(
            MOST_TICKS - fewer, steps=[1, 2, 5, 10], min_n_ticks=3 - fewer
        )
        axis.set_major_locator(locator)
    axis.set_major_formatter(NUMBER_FORMAT)
    ax.set(**{f"{side}lim": limits})


def _log_ticks(low, high):
    """Return the densest ticks that are few enough."""
    decades = 10.0 ** np.arange(
        math.floor(math.log10(low)), math.ceil(math.log10(high))
    )
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = np.outer(decades, steps).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) <= MOST_LOG_TICKS:
            return ticks
    return ticks[:: math.ceil(len(ticks) / MOST_LOG_TICKS)]
