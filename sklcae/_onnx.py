"""A fitted model as an ONNX graph: raw stamps in, parameters and errors out."""

import json
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from sklcae._codec import Codec
from sklcae._compat import import_optional
from sklcae._fixed_psf import FWHM_OF_SIGMA
from sklcae._images import LARGEST_SCALED
from sklcae._masking import FILLING_SIGMAS, LEAST_WEIGHT
from sklcae._planes import CORE, FARTHEST_CENTER, LEAST_SUM
from sklcae._profiles import kind_of
from sklcae._symmetry import Symmetry
from sklcae._targets import LARGEST_LOGARITHM
from sklcae._torch.export import (
    Filling,
    NotExportableError,
    PSFBounds,
    ReaderParts,
    Scaling,
    TargetUnits,
    TrainingBounds,
    export_graph,
)
from sklcae._version import __version__

NAME = "ConditionalAutoencoderRegressor"
# The exporter of PyTorch writes no older operators.
LEAST_OPSET = 18
# The first version of the file format that has these operators, for old runtimes.
IR_VERSION = 8
# The licence of the format, an identifier of SPDX. The weights may have any licence.
FORMAT_LICENSE = "Apache-2.0"
# Units of the parameters of profiles. The others have none.
UNITS = {
    "flux": "unit of the images",
    "half_light_radius": "unit of pixel_scale",
    "x0": "pixel",
    "y0": "pixel",
}


class Exported(NamedTuple):
    """A fitted model and the parameters that decide its predictions.

    The ``symmetry`` is that of a test-time augmentation, or None.
    """

    codec: Codec
    allow_nan: bool
    symmetry: Symmetry | None

    def input_shapes(self):
        """Return the shape of one stamp for each input of the graph, by name."""
        layout = self.codec.layout
        if len(layout.planes) == 1:
            return {"image": layout.sample_shape}
        return dict.fromkeys(layout.planes, layout.band_shape)

    def to_graph(self, opset=LEAST_OPSET):
        """Return the `onnx.ModelProto`, see `sklcae._torch.export.export_graph`."""
        purpose = f"The ONNX export of {NAME}"
        onnx = import_optional("onnx", extra="onnx", purpose=purpose)
        import_optional("onnxscript", extra="onnx", purpose=purpose)
        # A copy on the CPU: the model may be on another device.
        codec = Codec.from_state(self.codec.to_state())
        parts = parts_of_reader(codec, self.allow_nan, self.symmetry)
        network = codec.net.module_
        try:
            graph = export_graph(network, parts, self.input_shapes(), opset)
        except NotExportableError as error:
            raise ValueError(
                f"The 'network' parameter of {NAME} must be a network that can be "
                f"exported to ONNX. Got {codec.network!r:.100}: {error}"
            ) from error
        _check_domains(graph, codec.network)
        _describe(onnx, graph, codec)
        onnx.checker.check_model(graph, full_check=True)
        return graph


def _check_domains(graph, network):
    """Raise ValueError unless all operators are those of ONNX itself."""
    others = {node.domain for node in graph.graph.node} - {"", "ai.onnx"}
    others |= {function.domain for function in graph.functions}
    if others:
        raise ValueError(
            f"The 'network' parameter of {NAME} must be a network of the operators of "
            f"ONNX. Got {network!r:.100}, which needs those of {sorted(others)}."
        )


def _describe(onnx, graph, codec):
    """Replace the notes of the exporter by those for the users of the file."""
    body = graph.graph
    # They have the paths of source files.
    for part in (body, *body.node, *body.input, *body.output):
        part.ClearField("metadata_props")
    for node in body.node:
        node.ClearField("doc_string")
    body.ClearField("value_info")
    for value in (*body.input, *body.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    body.name = NAME
    graph.ir_version = IR_VERSION
    graph.producer_name, graph.producer_version = "sklcae", __version__
    graph.doc_string = "Parameters of galaxies from their image stamps."
    onnx.helper.set_model_props(graph, metadata_of(codec))


def metadata_of(codec):
    """Return the notes in a file, str by str. Lists and numbers are JSON."""
    layout = codec.layout
    notes = {
        "target_names": layout.target_names,
        "planes": layout.planes,
        "image_shape": layout.band_shape,
        "pixel_scale": codec.pixel_scale,
        "gain": codec.gain,
    }
    if codec.guess is not None:
        notes["target_units"] = [
            UNITS.get(kind_of(name), "") for name in layout.target_names
        ]
    known = {name: json.dumps(note) for name, note in notes.items() if note is not None}
    return known | {"sklcae_version": __version__, "format_license": FORMAT_LICENSE}


# The parts of the graph --------------------------------------------------------------


def parts_of_reader(codec, allow_nan, symmetry):
    """Return the `ReaderParts` of a codec."""
    band_shape = codec.layout.band_shape
    seen = codec.training_range
    return ReaderParts(
        band_shape=band_shape,
        scaling=_scaling_of(codec.image_scaler),
        filling=filling_of(band_shape) if allow_nan else None,
        bounds=bounds_of(seen.lowest, seen.highest),
        psf_bounds=PSFBounds(CORE, LEAST_SUM, FARTHEST_CENTER),
        squared_unit=codec.light_unit**2,
        psf=codec.psf,
        targets=_targets_of(codec, symmetry),
    )


def bounds_of(lowest, highest):
    """Return the `TrainingBounds`; the lowest and highest may be None."""
    width_of_one = float(np.log(FWHM_OF_SIGMA / np.sqrt(4 * np.pi)))
    tiny = float(np.finfo(np.float32).tiny)
    return TrainingBounds(lowest, highest, tiny, width_of_one)


def _scaling_of(scaler):
    is_robust = scaler.limits == "robust"
    return Scaling(
        is_asinh=scaler.stretch == "asinh",
        background=scaler.background_,
        softening=scaler.softening_,
        minimum=scaler.minimum_,
        range=scaler.range_,
        lowest=scaler.lower_fence_ if is_robust else None,
        highest=scaler.upper_fence_ if is_robust else None,
        largest=LARGEST_SCALED,
    )


def filling_of(band_shape):
    """Return the `Filling` of images: the Gaussians of `fill_masked` as matrices."""
    sides = [np.eye(length) for length in band_shape[1:]]
    kernels = [
        tuple(gaussian_filter1d(side, sigma, axis=0) for side in sides)
        for sigma in FILLING_SIGMAS
    ]
    return Filling(kernels, LEAST_WEIGHT)


def _targets_of(codec, symmetry):
    scaler = codec.target_scaler
    columns = np.arange(codec.layout.n_targets)
    logarithmic = scaler.logarithmic
    return TargetUnits(
        mean=scaler.mean_,
        scale=scaler.scale_,
        squared_scale=(scaler.scale_ * codec.error_scale) ** 2,
        is_logarithm=np.isin(columns, logarithmic) if logarithmic else None,
        largest=LARGEST_LOGARITHM,
        matrices=None if symmetry is None else symmetry.matrices,
        offsets=None if symmetry is None else symmetry.offsets,
    )
