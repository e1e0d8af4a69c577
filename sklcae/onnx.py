"""Pipelines with a model of sklcae as ONNX files, by sklearn-onnx.

A fitted model alone is exported by
:meth:`~sklcae.ConditionalAutoencoderRegressor.to_onnx`. :func:`register` makes the
model known to ``skl2onnx.to_onnx``, which exports pipelines.
"""

from sklcae._compat import import_optional
from sklcae._conditional_autoencoder import ConditionalAutoencoderRegressor
from sklcae._onnx import LEAST_OPSET, NAME
from sklcae._profile_fit import ProfileFitRegressor

__all__ = ["register"]

PURPOSE = "sklcae.onnx.register"
ALIAS = "SklcaeConditionalAutoencoderRegressor"


def register() -> None:
    """Make the models of sklcae known to sklearn-onnx.

    Afterwards ``skl2onnx.to_onnx`` exports a fitted
    :class:`~sklcae.ConditionalAutoencoderRegressor`, alone or as the last step of a
    :class:`~sklearn.pipeline.Pipeline`. The graph has one input, the X of the pipeline,
    with all planes. Its outputs are ``parameters``, ``errors`` for models that predict
    standard deviations, and ``outside``, as in
    :meth:`~sklcae.ConditionalAutoencoderRegressor.to_onnx`; parameters and errors have
    the type of the input. Inside of other estimators, such as a
    :class:`~sklearn.ensemble.VotingRegressor`, there are the parameters only. The
    conversion raises ValueError if the ``target_opset`` is below 18, and for a
    :class:`~sklcae.ProfileFitRegressor`, whose fits have no graph.

    Calling it again changes nothing.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    Examples
    --------
    >>> import skl2onnx
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> import sklcae.onnx
    >>> from sklcae import ConditionalAutoencoderRegressor
    >>> from sklcae.datasets import make_galaxies
    >>> X, y = make_galaxies(20, image_shape=(16, 16), random_state=0)
    >>> model = ConditionalAutoencoderRegressor(max_epochs=2, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), model).fit(X, y)
    >>> sklcae.onnx.register()
    >>> graph = skl2onnx.to_onnx(pipeline, X[:1])
    >>> [output.name for output in graph.graph.output]
    ['parameters', 'outside']
    """
    skl2onnx = import_optional("skl2onnx", extra="onnx", purpose=PURPOSE)
    skl2onnx.update_registered_converter(
        ConditionalAutoencoderRegressor, ALIAS, _set_shapes, _convert, parser=_parse
    )
    # sklearn-onnx asks for the shapes first.
    skl2onnx.update_registered_converter(
        ProfileFitRegressor, "SklcaeProfileFitRegressor", _refuse_fits, _convert
    )


def _types():
    name = "skl2onnx.common.data_types"
    return import_optional(name, extra="onnx", purpose=PURPOSE)


def _parse(scope, model, inputs, custom_parsers=None):
    """Declare the outputs of a model that is not inside of another one."""
    types = _types()
    operator = scope.declare_local_operator(ALIAS, model)
    operator.inputs = inputs
    kinds = {"parameters": types.guess_tensor_type(inputs[0].type)}
    if model.codec_.predicts_variance:
        kinds["errors"] = types.guess_tensor_type(inputs[0].type)
    kinds["outside"] = types.BooleanTensorType()
    for name, kind in kinds.items():
        operator.outputs.append(scope.declare_local_variable(name, kind))
    return operator.outputs


def _set_shapes(operator):
    """Set the shapes of the outputs."""
    n = operator.inputs[0].get_first_dimension()
    n_targets = operator.raw_operator.codec_.layout.n_targets
    for output in operator.outputs:
        output.type.shape = [n] if output.raw_name == "outside" else [n, n_targets]


def _refuse_fits(operator):
    """Raise ValueError for a model of profile fits, which have no graph."""
    raise ValueError(
        "ProfileFitRegressor cannot be exported to ONNX: its fits take as many steps "
        "as they need. Export the model from which they start."
    )


def _convert(scope, operator, container):
    """Add the graph of a fitted model to that of a pipeline."""
    onnx = import_optional("onnx", extra="onnx", purpose=PURPOSE)
    _check_conversion(operator, container)
    exported = operator.raw_operator._exported()
    # No name may occur twice in a pipeline.
    prefix = scope.get_unique_operator_name("sklcae") + "_"
    model = exported.to_graph(container.target_opset)
    graph = onnx.compose.add_prefix(model, prefix).graph
    planes = [value.name for value in graph.input]
    _divide_input(onnx, scope, operator, container, exported.codec.layout, planes)
    for node in graph.node:
        _name_inputs(node)
    container.initializers.extend(graph.initializer)
    container.nodes.extend(graph.node)
    container.node_domain_version_pair_sets.add(("", container.target_opset))
    found = {value.name.removeprefix(prefix): value.name for value in graph.output}
    for output in operator.outputs:
        # Another estimator declares one output, with a name of its own.
        name = found.get(output.raw_name, found["parameters"])
        kind = _types().guess_proto_type(output.type)
        container.add_node("Cast", [name], [output.full_name], to=kind)


def _check_conversion(operator, container):
    """Raise ValueError unless the conversion can have the graph of a model."""
    if container.target_opset < LEAST_OPSET:
        raise ValueError(
            f"The 'target_opset' of the conversion must be at least {LEAST_OPSET} for "
            f"a {NAME}. Got {container.target_opset}."
        )
    if len(operator.inputs) > 1:
        raise ValueError(
            f"The {NAME} in a pipeline must have one input, an array with all pixels. "
            f"Got {len(operator.inputs)} inputs."
        )


def _name_inputs(node):
    """Give all inputs of a node a name, without which sklearn-onnx cannot sort it.

    An optional input that is left out is an empty name. Raises ValueError for other
    operators than a "Clip" without the lower bound.
    """
    if "" not in node.input:
        return
    if node.op_type != "Clip" or node.input[1]:
        raise ValueError(
            f"The 'network' parameter of {NAME} must be a network without the operator "
            f"{node.op_type!r}, which sklearn-onnx cannot sort, to be exported with a "
            "pipeline. Export the model alone by its method to_onnx."
        )
    values, _, bound = node.input
    node.op_type, node.input[:] = "Min", [values, bound]


def _divide_input(onnx, scope, operator, container, layout, planes):
    """Add nodes that divide X into its planes, float32, with these names."""

    def add_integers(name, values):
        name = scope.get_unique_variable_name(name)
        kind = onnx.TensorProto.INT64
        container.add_initializer(name, kind, [len(values)], values)
        return name

    n_planes = len(planes)
    one_plane = n_planes == 1
    shape = layout.sample_shape if one_plane else layout.image_shape
    numbers = scope.get_unique_variable_name("numbers")
    stamps = planes[0] if one_plane else scope.get_unique_variable_name("stamps")
    X = operator.inputs[0].full_name
    container.add_node("Cast", [X], [numbers], to=onnx.TensorProto.FLOAT)
    container.add_node(
        "Reshape", [numbers, add_integers("shape", [-1, *shape])], [stamps]
    )
    if not one_plane:
        sizes = add_integers("sizes", [layout.band_shape[0]] * n_planes)
        container.add_node("Split", [stamps, sizes], planes, axis=1)
