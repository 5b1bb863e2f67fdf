"""The floor: a stock KServe transformer and predictor that carry requests of the ranker's size, and do nothing else.

Both read a file with what to carry: the columns of one call to the predictor, and an answer to the client.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, PredictorConfig, serve


class Transformer(Model):
    """V1 JSON in, one tensor per column to the predictor by gRPC, V1 JSON out."""

    def __init__(self, columns: dict[str, list[Any]], answer: dict[str, Any]) -> None:
        super().__init__("offers")
        self.inputs = [tensor(name, values) for name, values in columns.items()]
        self.answer = answer

    async def preprocess(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> InferRequest:
        return InferRequest("offers", self.inputs)

    async def postprocess(
        self,
        result: InferResponse,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        return self.answer


class Predictor(Model):
    """Answers each row with a number."""

    async def predict(
        self, payload: InferRequest, headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> InferResponse:
        n_rows = payload.inputs[0].shape[0]
        output = InferOutput("propensity", [n_rows], "FP64")
        output.set_data_from_numpy(np.zeros(n_rows), binary_data=True)
        return InferResponse(payload.id or "0", "offers", [output])


def tensor(name: str, values: list[Any]) -> InferInput:
    """A column as the ranker sends it: raw bytes, text with lengths."""
    is_text = any(isinstance(value, str) for value in values)
    column = InferInput(name, [len(values)], "BYTES" if is_text else "FP64")
    column.set_data_from_numpy(np.array(values, object if is_text else np.float64), binary_data=True)
    column.parameters = {}
    return column


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.floor", description=__doc__)
    parser.add_argument("--carry", type=Path, help="JSON file with columns and answer, for the transformer")
    parser.add_argument("--predictor_host", help="host and port of the predictor's gRPC, for the transformer")
    arguments, _ = parser.parse_known_args()
    if arguments.carry is None:
        serve(Predictor("offers"))
        return
    content = json.loads(arguments.carry.read_text("utf-8"))
    config = PredictorConfig(arguments.predictor_host, "grpc-v2", predictor_request_timeout_seconds=60)
    serve(Transformer(content["columns"], content["answer"]), config)


if __name__ == "__main__":
    main()
