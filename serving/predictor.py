"""The predictor: contract columns to calibrated propensities, by the model of one verified bundle."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from offers import bundle as bundles
from offers.bundle import Bundle
from offers.contract import Column
from offers.errors import OffersError, RequestError
from offers.requests import MAX_ROWS, RequestSchema, Rows, Tensor, datatype, shown
from serving import server
from serving.protocol import InferInput, InferOutput, InferRequest, InferResponse, Model
from serving.telemetry import ROWS, configure_logging, request_id

OUTPUT = "propensity"
INLINE_ROWS = 256
"""Rows that are scored on the event loop, within 2 ms; more go to a thread, where they hold up no health check."""
INLINE_EXPLAINED = 2
MAX_EXPLAINED = 1000
"""Rows that one request may have explained: each takes a hundred times as long as its score."""


class Predictor(Model):
    """Answers V1 and V2 requests with the propensity that the bundle's model gives to each row.

    A bundle is verified when it is loaded, golden rows and all, so a predictor is ready from the start.
    """

    platform = "offers_xgboost"

    def __init__(self, name: str, bundle: Bundle, max_rows: int = MAX_ROWS) -> None:
        super().__init__(name)
        self.bundle = bundle
        self.schema = RequestSchema(bundle.contract.inputs, max_rows)
        self.explained = RequestSchema(bundle.contract.inputs, min(max_rows, MAX_EXPLAINED))
        # More threads cost a request of a dozen rows more than they bring, and starve the event loop.
        bundle.model.booster.set_param({"nthread": 1})
        self._pool = ThreadPoolExecutor(2, "scoring")
        self.ready = True

    @property
    def version(self) -> str:
        return self.bundle.name

    def get_input_types(self) -> list[dict[str, Any]]:
        return [
            {"name": column.name, "datatype": datatype(column), "shape": [-1], "parameters": _limits(column)}
            for column in self.bundle.contract.inputs
        ]

    def get_output_types(self) -> list[dict[str, Any]]:
        return [{"name": OUTPUT, "datatype": "FP64", "shape": [-1]}]

    async def predict(
        self,
        payload: dict[str, Any] | InferRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any] | InferResponse:
        """Score the rows of a V1 or V2 request."""
        if isinstance(payload, InferRequest):
            _check_outputs(payload)
            answer = partial(self._infer, payload, payload.id or request_id.get())
            return await self._run(answer, _shape(payload.inputs) <= INLINE_ROWS)
        return await self._run(partial(self._predict, payload), _length(payload) <= INLINE_ROWS)

    async def explain(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Explain the rows of a V1 request: contributions, in log-odds, that sum with the bias to the margin."""
        return await self._run(partial(self._explain, payload), _length(payload) <= INLINE_EXPLAINED)

    async def _run(self, answer: Callable[[], Any], inline: bool) -> Any:
        if inline:
            return answer()
        return await asyncio.get_running_loop().run_in_executor(self._pool, answer)

    def _predict(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"predictions": self._score(_instances(payload, self.schema)).tolist()}

    def _infer(self, request: InferRequest, answer_id: str) -> InferResponse:
        propensity = self._score(self.schema.from_tensors([_tensor(item) for item in request.inputs]))
        output = InferOutput(OUTPUT, [len(propensity)], "FP64", propensity)
        if request.from_grpc:
            output.set_data_from_numpy(propensity, binary_data=request.use_binary_outputs)
        return InferResponse(
            answer_id,
            self.name,
            [output],
            model_version=self.version,
            use_binary_outputs=request.use_binary_outputs,
            requested_outputs=request.request_outputs,
        )

    def _explain(self, payload: dict[str, Any]) -> dict[str, Any]:
        rows = _instances(payload, self.explained)
        model = self.bundle.model
        propensity, margin, contributions = self._score(rows), model.margin(rows), model.contributions(rows)
        names = model.encoder.names
        return {
            "explanations": [
                {
                    OUTPUT: float(propensity[row]),
                    "margin": float(margin[row]),
                    "bias": float(contributions[row, -1]),
                    "contributions": dict(zip(names, contributions[row, :-1].tolist(), strict=True)),
                }
                for row in range(len(propensity))
            ],
            "calibration": {"slope": model.calibrator.slope, "intercept": model.calibrator.intercept},
        }

    def _score(self, rows: Rows) -> np.ndarray:
        propensity = self.bundle.model.propensity(rows)
        ROWS.labels(self.name).inc(len(propensity))
        return propensity


def _instances(payload: dict[str, Any], schema: RequestSchema) -> Rows:
    for key in payload:
        if key != "instances":
            raise RequestError(f"the body: expected 'instances' alone, got {shown(key)} too")
    if "instances" not in payload:
        raise RequestError("the body: expected a list of objects as 'instances', but it is missing")
    return schema.from_instances(payload["instances"])


def _check_outputs(request: InferRequest) -> None:
    for output in request.request_outputs or []:
        if output.name != OUTPUT:
            raise RequestError(f"'outputs': expected {OUTPUT!r}, got {shown(output.name)}")


def _limits(column: Column) -> dict[str, Any]:
    """What KServe's metadata has no place for: labels, range, unit, and whether a value may be missing."""
    found = {
        "labels": list(column.values) or None,
        "min": column.min,
        "max": column.max,
        "unit": column.unit,
        "may_be_missing": column.may_be_missing,
    }
    return {key: value for key, value in found.items() if value is not None}


def _tensor(item: InferInput) -> Tensor:
    return Tensor(item.name, item.datatype, item.shape, item.data, item._raw_data)


def _length(payload: dict[str, Any]) -> int:
    rows = payload.get("instances")
    return len(rows) if isinstance(rows, list) else 0


def _shape(inputs: list[InferInput]) -> int:
    return max((item.shape[0] for item in inputs if item.shape and isinstance(item.shape[0], int)), default=0)


def main() -> None:
    """Serve a bundle; a mistake in what was given is one sentence on standard error and exit code 2."""
    parser = argparse.ArgumentParser("python -m serving.predictor", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("/mnt/models"), help="directory of the bundle")
    parser.add_argument("--expected", default="", help="the name that the bundle has to have")
    parser.add_argument("--name", default="offers", help="name of the model in addresses")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--http_port", type=int, default=8080, help="0 for a free one")
    parser.add_argument("--grpc_port", type=int, default=8081, help="0 for a free one")
    parser.add_argument("--max_rows", type=int, default=MAX_ROWS, help="the most rows of one request")
    given = parser.parse_args()
    configure_logging()
    try:
        predictor = Predictor(given.name, bundles.load(given.bundle, given.expected), given.max_rows)
        server.run([predictor], server.Address(given.host, given.http_port, given.grpc_port))
    except OffersError as error:
        print(f"predictor: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
