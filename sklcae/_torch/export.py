"""A fitted model as one module, from raw stamps to parameters, and as an ONNX graph.

The module does with tensors all that the estimator does with arrays before and after
the network. A test compares both. Pixels are float64 until they are scaled: float32
would lose digits where the sky is much brighter than its noise.
"""

import logging
import warnings
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from sklcae._torch.augmentation import turn_batch
from sklcae._torch.batches import Batch, joined

# The exporter must see a batch of neither none nor one, which it would not generalise.
N_EXAMPLES = 2
# Below this the exponential minus 1 loses digits, and three terms of its series do not.
SMALL = 1e-4


class Scaling(NamedTuple):
    """How an `ImageScaler` scales images; arrays (n_bands, 1, 1).

    Pixels are clipped at ``lowest`` and ``highest`` unless these are None. No scaled
    pixel is larger than ``largest``.
    """

    is_asinh: bool
    background: Any
    softening: Any
    minimum: Any
    range: Any
    lowest: Any
    highest: Any
    largest: float


class Filling(NamedTuple):
    """How masked pixels are filled.

    Each of the ``kernels`` are two matrices, (H, H) and (W, W), that smooth along the
    columns and the rows. A smoothed weight counts above ``least_weight``.
    """

    kernels: Any
    least_weight: float


class TrainingBounds(NamedTuple):
    """Bounds (n_statistics, n_bands) of statistics of stamps.

    ``tiny`` is the least number whose logarithm is taken, ``log_width`` the logarithm
    of the width of a PSF whose squares have the sum 1.
    """

    lowest: Any
    highest: Any
    tiny: float
    log_width: float


class PSFBounds(NamedTuple):
    """Bounds of a PSF that can be used, see `sklcae._planes`."""

    core: float
    least_sum: float
    farthest_center: float


class TargetUnits(NamedTuple):
    """From z_phy to parameters; arrays (n_targets,).

    Variances are multiplied by ``squared_scale``. The columns where ``is_logarithm``
    are logarithms, kept within ``largest``; None if there are none. ``matrices`` and
    ``offsets`` belong to the turns of the `Symmetry` of a test-time augmentation.
    """

    mean: Any
    scale: Any
    squared_scale: Any
    is_logarithm: Any
    largest: float
    matrices: Any
    offsets: Any


class ReaderParts(NamedTuple):
    """All that a `Reader` needs besides the network.

    ``squared_unit`` is the unit of the variance of the network, ``psf``
    (1, n_bands, H, W) that of all stamps or None, and ``filling`` None if NaN is no
    masked pixel.
    """

    band_shape: tuple[int, int, int]
    scaling: Scaling
    filling: Filling | None
    bounds: TrainingBounds
    psf_bounds: PSFBounds
    squared_unit: float
    psf: Any
    targets: TargetUnits


class Reader(nn.Module):
    """The network of a fitted model, with all that comes before and after it.

    Parameters
    ----------
    network : torch.nn.Module
        The network.
    parts : ReaderParts
        The other parts of the model.
    """

    def __init__(self, network, parts):
        super().__init__()
        self.network = network
        self.parts = _as_tensors(parts)

    def forward(self, image, variance=None, psf=None):
        """Return parameters and, if predicted, errors (n, n_targets), and outside (n,).

        The planes are float32 of the shape (n, n_bands, H, W); the image may have any
        shape with the same pixels. Stamps that `predict` refuses have NaN.
        """
        parts = self.parts
        image = image.reshape(-1, *parts.band_shape).double()
        seen = ~image.isnan()
        usable = self._is_usable(image, seen, variance, psf)
        if parts.filling is not None:
            image = _filled(image, seen, parts.filling)
        if variance is not None:
            variance = _filled_variance(variance.double(), seen, parts.filling)
        if psf is not None:
            psf = psf.double()
            psf = psf / psf.sum((2, 3), keepdim=True)
        statistics = _statistics(image, seen, variance, psf, parts.bounds)
        bounds = parts.bounds
        inside = (statistics >= bounds.lowest) & (statistics <= bounds.highest)
        batch = self._batch(image, variance, psf)
        mean, variance = _parameters(self._encode(batch), parts.targets)
        mean = torch.where(usable[:, None], mean, torch.nan)
        outside = ~(inside.all((1, 2)) & mean.isfinite().all(1))
        median = _median(mean, parts.targets)
        if variance is None:
            return median, outside
        variance = torch.where(outside[:, None], torch.nan, variance)
        return median, _std(median, variance, parts.targets), outside

    def _is_usable(self, image, seen, variance, psf):
        """Return whether `predict` takes stamps and does not return NaN, (n,)."""
        if self.parts.filling is None:
            usable = image.isfinite().all((1, 2, 3))
        else:
            usable = ~image.isinf().any((1, 2, 3)) & seen.any((1, 2, 3))
        if variance is not None:
            positive = (variance > 0) & variance.isfinite()
            usable = usable & (positive | ~seen).all((1, 2, 3))
        if psf is not None:
            usable = usable & _is_usable_psf(psf.double(), self.parts.psf_bounds)
        return usable

    def _batch(self, image, variance, psf):
        """Return the `Batch` that the network reads."""
        scaling, fixed = self.parts.scaling, self.parts.psf
        if variance is not None:
            bounds = 1 / scaling.largest, scaling.largest
            variance = (variance / self.parts.squared_unit).clamp(*bounds).float()
        if fixed is not None:
            psf = fixed.expand(image.shape[0], -1, -1, -1)
        psf = None if psf is None else psf.float()
        return Batch(_scaled(image, scaling), variance=variance, psf=psf)

    def _encode(self, batch):
        matrices = self.parts.targets.matrices
        if matrices is None:
            return self.network.encode(batch)
        turned = [turn_batch(batch, element) for element in range(len(matrices))]
        return self.network.encode(joined(turned))


def _as_tensors(parts):
    """Return nested named tuples with tensors of float64, or bool, for arrays."""
    if isinstance(parts, tuple) and hasattr(parts, "_fields"):
        return type(parts)(*map(_as_tensors, parts))
    if isinstance(parts, list):
        return [tuple(map(_as_tensors, part)) for part in parts]
    if not hasattr(parts, "dtype"):
        return parts
    tensor = torch.from_numpy(np.array(parts))
    return tensor if tensor.dtype == torch.bool else tensor.double()


# Before the network ------------------------------------------------------------------


def _is_usable_psf(psf, bounds):
    """Return whether PSFs are finite, positive and in their place, (n,)."""
    height, width = psf.shape[2:]
    total, largest = psf.sum((2, 3)), psf.abs().amax((2, 3))
    core = torch.where(psf > bounds.core * psf.amax((2, 3), keepdim=True), psf, 0)
    light = core.sum((2, 3))
    x = core.sum(2) @ torch.arange(width).double() / light - width // 2
    y = core.sum(3) @ torch.arange(height).double() / light - height // 2
    usable = (total > bounds.least_sum * largest) & (
        x * x + y * y <= bounds.farthest_center**2
    )
    return psf.isfinite().all((1, 2, 3)) & usable.all(1)


def _filled(image, seen, filling):
    """Return images with masked pixels filled as by `fill_masked`."""
    known = torch.where(seen, image, 0)
    count = seen.double()
    filled, masked = known, ~seen
    for along_columns, along_rows in filling.kernels:
        sums = along_columns @ known @ along_rows.T
        weights = along_columns @ count @ along_rows.T
        near = masked & (weights > filling.least_weight)
        filled = torch.where(near, sums / weights, filled)
        masked = masked & ~near
    everything = {"dim": (1, 2, 3), "keepdim": True}
    mean = known.sum(**everything) / count.sum(**everything).clamp(min=1)
    return torch.where(masked, mean, filled)


def _filled_variance(variance, seen, filling):
    """Return variances with the median over the stamp in masked pixels."""
    if filling is None:
        return variance
    values = torch.where(seen, variance, torch.inf).flatten(1)
    values = values.topk(values.shape[1], largest=False).values
    count = seen.flatten(1).sum(1, keepdim=True)
    low = values.gather(1, (count - 1).clamp(min=0) // 2)
    median = (low + values.gather(1, count // 2)) / 2
    median = torch.where(count > 0, median, 1.0)
    return torch.where(seen, variance, median[:, :, None, None])


def _statistics(image, seen, variance, psf, bounds):
    """Return statistics (n, n_statistics, n_bands) as `stamp_statistics` does."""
    least = image.amin((2, 3))
    along_rows = _differences(image, 3)
    second = [_differences(along_rows, 3), _differences(_differences(image, 2), 2)]
    largest = [_largest_size(values) for values in second if values.numel()]
    zero = torch.zeros_like(least)
    positive = [
        image.amax((2, 3)) - least,
        along_rows.abs().mean((2, 3)) if image.shape[3] > 1 else zero,
        torch.stack([zero, *largest]).amax(0),
    ]
    logarithms = [part.clamp(min=bounds.tiny).log() for part in positive]
    statistics = [least, *logarithms, 1 - seen.double().mean((2, 3))]
    if variance is not None:
        statistics.append(_medians(variance.flatten(2)).log() / 2)
    if psf is not None:
        statistics.append(bounds.log_width - (psf**2).sum((2, 3)).log() / 2)
    return torch.stack(statistics, 1)


def _differences(values, axis):
    length = max(values.shape[axis] - 1, 0)
    return values.narrow(axis, values.shape[axis] - length, length) - values.narrow(
        axis, 0, length
    )


def _largest_size(values):
    return values.abs().amax((2, 3))


def _medians(values):
    """Return the medians of values (n, n_bands, p) along the last axis."""
    n = values.shape[2]
    lowest = values.topk(n // 2 + 1, largest=False).values
    middle = lowest[:, :, -1]
    return middle if n % 2 else (middle + lowest[:, :, -2]) / 2


def _scaled(image, scaling):
    """Return images as `PreparedImages` scales them, float32."""
    if scaling.lowest is not None:
        image = torch.minimum(torch.maximum(image, scaling.lowest), scaling.highest)
    stretched = (image - scaling.background) / scaling.softening
    if scaling.is_asinh:
        # No runtime has this function for float64.
        stretched = stretched.float().asinh().double()
    scaled = (stretched - scaling.minimum) / scaling.range
    scaled = scaled.clamp(-scaling.largest, scaling.largest)
    return torch.where(scaled.isnan(), 0, scaled).float()


# Behind the network ------------------------------------------------------------------


def _parameters(encoding, targets):
    """Return targets (n, n_targets), some in their logarithm, and variances or None."""
    mean = encoding.z_phy.double() * targets.scale + targets.mean
    variance = None
    if encoding.log_variance is not None:
        variance = encoding.log_variance.exp().double() * targets.squared_scale
    if targets.matrices is None:
        return mean, variance
    return _mean_over_turns(mean, variance, targets)


def _mean_over_turns(mean, variance, targets):
    """Return what `Symmetry.mean_over_turns` does, of turned stamps in one batch."""
    matrices, n_turns = targets.matrices, len(targets.matrices)
    # The matrices swap and change signs: their transposes are their inverses.
    back = (mean.unflatten(0, (n_turns, -1)) - targets.offsets[:, None]) @ matrices
    mean = back.mean(0)
    if variance is None:
        return mean, None
    common = (variance.unflatten(0, (n_turns, -1)) @ matrices**2).mean(0)
    spread = ((back - mean) ** 2).sum(0) / max(n_turns - 1, 1)
    return mean, (common - spread).clamp(min=0) + spread / n_turns


def _median(mean, targets):
    if targets.is_logarithm is None:
        return mean
    exponential = mean.clamp(-targets.largest, targets.largest).exp()
    return torch.where(targets.is_logarithm, exponential, mean)


def _std(median, variance, targets):
    """Return standard deviations, those of log-normal distributions for logarithms."""
    std = variance.sqrt()
    if targets.is_logarithm is None:
        return std
    series = variance * (1 + variance / 2 * (1 + variance / 3))
    minus_one = torch.where(variance < SMALL, series, variance.exp() - 1)
    lognormal = median * (variance / 2).exp() * minus_one.sqrt()
    return torch.where(targets.is_logarithm, lognormal, std)


# The graph ---------------------------------------------------------------------------


class NotExportableError(ValueError):
    """Raised if a network cannot become an ONNX graph."""


def export_graph(network, parts, input_shapes, opset):
    """Return a `Reader` as an ONNX model with operators of the default domain.

    Parameters
    ----------
    network : torch.nn.Module
        The network, on the CPU.
    parts : ReaderParts
        The other parts of the model.
    input_shapes : dict of tuple
        For each of the planes the shape of one stamp.
    opset : int
        Version of the operators.

    Returns
    -------
    onnx.ModelProto
        The model. Its inputs have the names of the planes; the outputs are
        "parameters", "errors" if the network predicts variances, and "outside".

    Raises
    ------
    NotExportableError
        If the network cannot be traced or has operations that ONNX lacks.
    """
    reader = Reader(network, parts).eval()
    examples = {
        name: torch.ones(N_EXAMPLES, *shape) for name, shape in input_shapes.items()
    }
    stamps = {0: torch.export.Dim("n")}
    with _quiet():
        try:
            program = torch.export.export(
                reader, (), examples, dynamic_shapes=dict.fromkeys(examples, stamps)
            )
            return _to_onnx(program, opset)
        # A network may raise anything when it is traced.
        except Exception as error:
            raise NotExportableError(_reason(error)) from error


def _to_onnx(program, opset):
    from onnx_ir.passes import common as passes
    from onnxscript.optimizer import fold_constants

    # With predicted errors there are three outputs.
    has_errors = len(program.graph_signature.user_outputs) == 3
    names = ["parameters", *(["errors"] if has_errors else []), "outside"]
    onnx_program = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=opset,
        custom_translation_table=_translations(),
        output_names=names,
        verbose=False,
        optimize=False,
    )
    # The optimizer of onnxscript also tries to fuse nodes, as runtimes do with a file.
    # For the network "sersic" that takes half as long as all the rest.
    fold_constants(onnx_program.model)
    for simplify in (
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
    ):
        simplify(onnx_program.model)
    return onnx_program.model_proto


def _reason(error):
    """Return a cause in one line, the first line of the first of its causes."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    if lines[0].startswith("Constraints violated"):
        return (
            "it is only for the number of stamps with which it was traced. The first "
            "axis of x must be x.shape[0], and not len(x)"
        )
    return lines[0]


@contextmanager
def _quiet():
    """Keep notes of the exporter from the users, who can do nothing about them."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning
            )
            yield
    finally:
        logger.setLevel(level)


def _translations():
    """Return operations that the exporter of PyTorch does not translate itself."""
    from onnxscript import opset18 as op

    def hypot(x, y):
        return op.Sqrt(op.Add(op.Mul(x, x), op.Mul(y, y)))

    def median(x, dim, keepdim=False):
        # PyTorch's median is the lower one of the two in the middle.
        place = (x.shape[dim] - 1) // 2
        values, indices = op.TopK(
            x, op.Constant(value_ints=[place + 1]), axis=dim, largest=0
        )
        last = op.Constant(value_int=place)
        both = [op.Gather(part, last, axis=dim) for part in (values, indices)]
        if keepdim:
            axis = op.Constant(value_ints=[dim])
            both = [op.Unsqueeze(part, axis) for part in both]
        return tuple(both)

    aten = torch.ops.aten
    return {aten.hypot.default: hypot, aten.median.dim: median}
