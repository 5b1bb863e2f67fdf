"""The predictor: contract columns to calibrated propensities, by the model of one verified bundle."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

import numpy as np

from offers.bundle.bundle import Bundle
from offers.model.boosters import learner_of
from serving.process.telemetry import LAYER_LABELS, LAYER_LAG, LAYER_SHARE, ROWS
from serving.protocol.kserve import InferRequest, InferResponse, Model
from serving.protocol.payload import Payload, answered, claimed_rows, described, instances, tensors, wanted_output
from serving.protocol.rows import MAX_ROWS, RequestSchema, Rows

OUTPUT, CONTRIBUTIONS = "propensity", "contributions"
INLINE_ROWS = 256
"""Rows that are scored on the event loop, within 2 ms; more go to a thread, where they hold up no health check."""
INLINE_EXPLAINED = 2
MAX_EXPLAINED = 1000
"""Rows that one request may have explained: each takes a hundred times as long as its score."""

T = TypeVar("T")


class Predictor(Model):
    """Answers V1 and V2 requests with the propensity that the bundle's model gives to each row.

    A bundle is verified when it is loaded, golden rows and all, so a predictor is ready from the start.
    """

    def __init__(self, name: str, bundle: Bundle, max_rows: int = MAX_ROWS) -> None:
        super().__init__(name)
        self.bundle = bundle
        self.schema = RequestSchema(bundle.contract.inputs, max_rows)
        self.explained = RequestSchema(bundle.contract.inputs, min(max_rows, MAX_EXPLAINED))
        self.platform = f"offers_{learner_of(bundle.model.booster)}"
        if self.platform == "offers_xgboost":
            # More threads cost a request of a dozen rows more than they bring, and starve the event loop. Boosters of
            # other libraries use one thread unless a call says otherwise.
            bundle.model.booster.set_param({"nthread": 1})
        self._pool = ThreadPoolExecutor(2, "scoring")
        ROWS.labels(name)
        if layer := bundle.model.layer:
            LAYER_SHARE.labels(name).set(layer.share)
            LAYER_LABELS.labels(name).set(layer.labels)
            LAYER_LAG.labels(name).set(layer.lag)
        self.ready = True

    @property
    def version(self) -> str:
        return self.bundle.name

    def get_input_types(self) -> list[dict[str, Any]]:
        return list(map(described, self.bundle.contract.inputs))

    def get_output_types(self) -> list[dict[str, Any]]:
        return [
            {"name": OUTPUT, "datatype": "FP64", "shape": [-1]},
            {"name": CONTRIBUTIONS, "datatype": "FP64", "shape": [-1, len(self.bundle.contract.inputs)]},
        ]

    async def predict(
        self, payload: Payload, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None
    ) -> dict[str, Any] | InferResponse:
        """Score the rows of a V1 or V2 request; one of V2 may ask for contributions in place of propensities."""
        inline = claimed_rows(payload) <= INLINE_ROWS
        if isinstance(payload, InferRequest):
            if wanted_output(payload, OUTPUT, CONTRIBUTIONS) == CONTRIBUTIONS:
                inline = claimed_rows(payload) <= INLINE_EXPLAINED
                return await self._run(partial(self._contribute, payload), inline)
            return await self._run(partial(self._infer, payload), inline)
        return await self._run(partial(self._predict, payload), inline)

    async def explain(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Explain the rows of a V1 request: contributions, in log-odds, that sum with the bias to the margin."""
        return await self._run(partial(self._explain, payload), claimed_rows(payload) <= INLINE_EXPLAINED)

    async def _run(self, answer: Callable[[], T], inline: bool) -> T:
        if inline:
            return answer()
        return await asyncio.get_running_loop().run_in_executor(self._pool, copy_context().run, answer)

    def _predict(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"predictions": self._score(self.schema.from_instances(instances(payload))).tolist()}

    def _infer(self, request: InferRequest) -> InferResponse:
        return answered(request, self, OUTPUT, "FP64", self._score(self.schema.from_tensors(tensors(request))))

    def _contribute(self, request: InferRequest) -> InferResponse:
        """Answer with contributions in log-odds: a row per row, a column per tensor, in the request's order."""
        columns = tensors(request)
        model = self.bundle.model
        contributions = model.contributions(self.explained.from_tensors(columns))
        order = [model.encoder.names.index(column.name) for column in columns]
        return answered(request, self, CONTRIBUTIONS, "FP64", np.ascontiguousarray(contributions[:, order]))

    def _explain(self, payload: dict[str, Any]) -> dict[str, Any]:
        rows = self.explained.from_instances(instances(payload))
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
            ]
        }

    def _score(self, rows: Rows) -> np.ndarray:
        propensity = self.bundle.model.propensity(rows)
        ROWS.labels(self.name).inc(len(propensity))
        return propensity
