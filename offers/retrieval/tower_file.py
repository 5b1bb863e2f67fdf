"""Writes a tower as an ONNX file, weights and scales included."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from offers.retrieval.dense import LIMIT, Dense, Floats

Layers = Sequence[tuple[Floats, Floats]]
"""Weights, shape (before, after), and bias, shape (after,), of each layer; a ReLU is between two."""

OPSET, IR_VERSION = 17, 8
"""The oldest versions that have what is needed, so that the file runs in as many places as possible."""


SHRINKAGE = 5.0
"""Views that a user is given beside their own, so that the first ones tell less."""


def tower_file(inputs: Dense, layers: Layers, viewed: Floats | None = None, history: int = 0) -> bytes:
    """Write a tower that takes encoded rows, `rows`, and gives vectors, `vectors`, whose last component is 1.

    The 1 lets a product's vector carry what does not depend on the user.

    Parameters
    ----------
    viewed : a vector of each product, shape (n_products, dimensions); the layers take the mean of those of the views
    history : how many columns behind those of the rows are places of viewed products, NaN for none
    """
    from onnx import TensorProto, helper

    graph = _Graph()
    values = graph.node("Gather", "rows", graph.constant(np.array(inputs.numbers, np.int64)), axis=1)
    missing = graph.node("IsNaN", values)
    zero = graph.constant(np.float32(0))
    known = graph.node("Where", missing, zero, values)
    log = graph.node("Log", graph.node("Add", graph.node("Abs", known), graph.constant(np.float32(1))))
    parts = []
    for place, scale in enumerate((known, graph.node("Mul", graph.node("Sign", known), log))):
        centred = graph.node("Sub", scale, graph.constant(inputs.centres[place]))
        scaled = graph.node("Div", centred, graph.constant(inputs.scales[place]))
        cut = graph.node("Clip", scaled, graph.constant(np.float32(-LIMIT)), graph.constant(np.float32(LIMIT)))
        parts.append(graph.node("Where", missing, zero, cut))
    parts.append(graph.node("Cast", missing, to=TensorProto.FLOAT))
    for place, count in inputs.categories:
        codes = graph.node("Gather", "rows", graph.constant(np.array([place], np.int64)), axis=1)
        hot = graph.node("Equal", codes, graph.constant(np.arange(count, dtype=np.float32)))
        parts.append(graph.node("Cast", hot, to=TensorProto.FLOAT))
    columns = len(inputs.numbers) + len(inputs.categories)
    if viewed is not None:
        parts.append(_of_views(graph, viewed, columns, history))
    flow = graph.node("Concat", *parts, axis=1)
    for place, (weights, bias) in enumerate(layers):
        flow = graph.node("Add", graph.node("MatMul", flow, graph.constant(weights)), graph.constant(bias))
        if place < len(layers) - 1:
            flow = graph.node("Relu", flow)
    ends = graph.constant(np.array([0, 0, 0, 1], np.int64))
    flow = graph.node("Pad", flow, ends, graph.constant(np.float32(1)))
    graph.nodes[-1].output[0] = "vectors"
    users, vectors = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("rows", columns + history), ("vectors", layers[-1][0].shape[1] + 1))
    )
    content = helper.make_graph(graph.nodes, "tower", [users], [vectors], graph.constants)
    model = helper.make_model(content, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model.SerializeToString(deterministic=True))


def _of_views(graph: "_Graph", viewed: Floats, columns: int, history: int) -> str:
    """Average the vectors of a user's views, drawn towards 0; where a place is missing there is no view."""
    from onnx import TensorProto

    places = graph.constant(np.arange(columns, columns + history, dtype=np.int64))
    values = graph.node("Gather", "rows", places, axis=1)
    missing = graph.node("IsNaN", values)
    known = graph.node("Where", missing, graph.constant(np.float32(len(viewed))), values)
    table = graph.constant(np.concatenate([viewed, np.zeros((1, viewed.shape[1]), np.float32)]))
    axes = graph.constant(np.array([1], np.int64))
    vectors = graph.node("Gather", table, graph.node("Cast", known, to=TensorProto.INT64), axis=0)
    there = graph.node("Cast", graph.node("Not", missing), to=TensorProto.FLOAT)
    summed = graph.node("ReduceSum", vectors, axes, keepdims=0)
    count = graph.node("Add", graph.node("ReduceSum", there, axes, keepdims=1), graph.constant(np.float32(SHRINKAGE)))
    return graph.node("Div", summed, count)


class _Graph:
    """Nodes and constants, with names by their number."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name
