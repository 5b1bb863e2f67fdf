"""What the models' V1 and V2 requests and answers have in common."""

from typing import Any, TypeAlias

import numpy as np

from offers.contract.column import Column
from offers.errors import RequestError
from offers.wording import shown
from serving.process.logs import request_id
from serving.protocol.kserve import InferInput, InferOutput, InferRequest, InferResponse, Model
from serving.protocol.tensor import Tensor, datatype

MAX_ID = 128
"""Characters in the id of a V2 request."""

Payload: TypeAlias = dict[str, Any] | InferRequest
"""The JSON object of a V1 request, or a V2 request."""


def instances(payload: dict[str, Any], *optional: str) -> Any:
    """What a V1 request holds as 'instances'; raises RequestError where there is nothing, or something else too.

    Parameters
    ----------
    optional : what else it may hold
    """
    for key in payload:
        if key not in ("instances", *optional):
            expected = "'instances' alone" if not optional else f"'instances' and {' or '.join(map(repr, optional))}"
            raise RequestError(f"the body: expected {expected}, got {shown(key)} too")
    if "instances" not in payload:
        raise RequestError("the body: expected a list of objects as 'instances', but it is missing")
    return payload["instances"]


def tensors(request: InferRequest) -> list[Tensor]:
    """The inputs of a V2 request, not checked yet."""
    return [_tensor(item) for item in request.inputs]


def claimed_rows(payload: Payload) -> int:
    """How many rows a request claims to hold, before it is checked: enough to choose where to answer it."""
    if isinstance(payload, InferRequest):
        shapes = (item.shape for item in payload.inputs)
        return max((shape[0] for shape in shapes if shape and isinstance(shape[0], int)), default=0)
    rows = payload.get("instances")
    return len(rows) if isinstance(rows, list) else 0


def described(column: Column) -> dict[str, Any]:
    """A column as the metadata of a model tells of it, with what KServe's metadata has no place for as parameters."""
    limits = {
        "labels": list(column.values) or None,
        "min": column.min,
        "max": column.max,
        "unit": column.unit,
        "may_be_missing": column.may_be_missing,
    }
    limits_given = {key: value for key, value in limits.items() if value is not None}
    return {"name": column.name, "datatype": datatype(column), "shape": [-1], "parameters": limits_given}


def check_id(request_id_text: str) -> None:
    """Raise RequestError where the id of a V2 request is one that no answer could repeat."""
    if len(request_id_text) > MAX_ID:
        raise RequestError(f"'id': expected at most {MAX_ID} characters, got {len(request_id_text)}")
    if not request_id_text.isascii() and request_id_text.encode("utf-8", "ignore").decode() != request_id_text:
        raise RequestError(f"'id': expected text in UTF-8, got {shown(request_id_text)}")


def wanted_output(request: InferRequest, *names: str) -> str:
    """The one of a model's outputs that a V2 request asks for, by default the first; refuses others, and several."""
    outputs = request.request_outputs or []
    if len(outputs) > 1:
        raise RequestError(f"'outputs': expected one, got {len(outputs)}")
    for output in outputs:
        if output.name not in names:
            raise RequestError(f"'outputs': expected {' or '.join(map(repr, names))}, got {shown(output.name)}")
    return outputs[0].name if outputs else names[0]


def flag(request: InferRequest, name: str) -> bool:
    """A parameter of a V2 request that is true or false, by default false."""
    value = (request.parameters or {}).get(name, False) if not request.from_grpc else _message(request, name)
    if not isinstance(value, bool):
        raise RequestError(f"parameter {name!r}: expected true or false, got {shown(value)}")
    return value


def _message(request: InferRequest, name: str) -> Any:
    if name not in request.parameters:
        return False
    parameter = request.parameters[name]
    return getattr(parameter, parameter.WhichOneof("parameter_choice") or "bool_param")


def answered(request: InferRequest, model: Model, name: str, kind: str, values: np.ndarray) -> InferResponse:
    """The answer to a V2 request with one output, of datatype `kind` and a row per row, in the form that it asks."""
    output = InferOutput(name, list(values.shape), kind, values)
    if request.from_grpc:
        output.set_data_from_numpy(values, binary_data=request.use_binary_outputs)
    return InferResponse(
        request.id or request_id.get(),
        model.name,
        [output],
        model_version=model.version,
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )


def _tensor(item: InferInput) -> Tensor:
    return Tensor(item.name, item.datatype, item.shape, item.data, item._raw_data)
