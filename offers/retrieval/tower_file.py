"""Writes a user tower as an ONNX file, weights and scales included."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from offers.retrieval.dense import LIMIT, Dense, Floats

Layers = Sequence[tuple[Floats, Floats]]
"""Weights, shape (before, after), and bias, shape (after,), of each layer; a ReLU is between two."""

OPSET, IR_VERSION = 17, 8
"""The oldest versions that have what is needed, so that the file runs in as many places as possible."""


def tower_file(inputs: Dense, layers: Layers) -> bytes:
    """Write a tower that takes encoded rows, `users`, and gives vectors, `vectors`, whose last component is 1.

    The 1 lets a product's vector carry what does not depend on the user.
    """
    from onnx import TensorProto, helper

    graph = _Graph()
    values = graph.node("Gather", "users", graph.constant(np.array(inputs.numbers, np.int64)), axis=1)
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
        codes = graph.node("Gather", "users", graph.constant(np.array([place], np.int64)), axis=1)
        hot = graph.node("Equal", codes, graph.constant(np.arange(count, dtype=np.float32)))
        parts.append(graph.node("Cast", hot, to=TensorProto.FLOAT))
    flow = graph.node("Concat", *parts, axis=1)
    for place, (weights, bias) in enumerate(layers):
        flow = graph.node("Add", graph.node("MatMul", flow, graph.constant(weights)), graph.constant(bias))
        if place < len(layers) - 1:
            flow = graph.node("Relu", flow)
    ends = graph.constant(np.array([0, 0, 0, 1], np.int64))
    flow = graph.node("Pad", flow, ends, graph.constant(np.float32(1)))
    graph.nodes[-1].output[0] = "vectors"
    columns = len(inputs.numbers) + len(inputs.categories)
    users, vectors = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("users", columns), ("vectors", layers[-1][0].shape[1] + 1))
    )
    content = helper.make_graph(graph.nodes, "user tower", [users], [vectors], graph.constants)
    model = helper.make_model(content, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model.SerializeToString(deterministic=True))


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
