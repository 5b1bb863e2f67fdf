"""Scores columns through NVIDIA's tritonclient; a process of its own, for it can't be imported beside KServe.

Reads {"columns": {name: [datatype, values]}} and writes {"propensity": [...]} or {"error": [status, message]}.
"""

import json
import sys

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

TYPES = {"FP64": np.float64, "FP32": np.float32, "INT64": np.int64, "BOOL": np.bool_, "BYTES": np.object_}


def main(protocol: str, address: str, model: str) -> None:
    library = tritonclient.grpc if protocol == "grpc" else tritonclient.http
    binary = {} if protocol == "grpc" else {"binary_data": protocol == "http"}
    inputs = []
    for name, (datatype, values) in json.load(sys.stdin)["columns"].items():
        column = np.array(values, TYPES[datatype])
        inputs.append(library.InferInput(name, column.shape, datatype))
        inputs[-1].set_data_from_numpy(column, **binary)
    client = library.InferenceServerClient(address)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(model)
    metadata = client.get_model_metadata(model, **({"as_json": True} if protocol == "grpc" else {}))
    try:
        outputs = [library.InferRequestedOutput("propensity", **binary)]
        result = client.infer(model, inputs, request_id="of triton", outputs=outputs)
        answer = {"propensity": result.as_numpy("propensity").tolist(), "metadata": metadata}
    except InferenceServerException as error:
        answer = {"error": [error.status(), error.message()]}
    print(json.dumps(answer))
    client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
