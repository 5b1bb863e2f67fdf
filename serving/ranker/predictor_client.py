"""The predictor as the ranker calls it: V2 over gRPC, one deadline for a call and its retries."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import grpc
import numpy as np

from offers.contract.contract import Contract
from offers.errors import ServiceError
from offers.http_client import ClientTls
from serving.process.logs import log, request_id
from serving.process.telemetry import PREDICTOR_FAILURES, REQUEST_ID
from serving.protocol.kserve import (
    MESSAGE_LIMIT,
    GRPCInferenceServiceStub,
    PredictorConfig,
    ServerNotReady,
    messages,
)
from serving.protocol.tensor import datatype

_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # Else a predictor that has come back stays unknown for up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class SecurePredictorConfig(PredictorConfig):
    """A predictor's address, reached over TLS.

    Parameters
    ----------
    tls : whom to trust, which has to be given, and what to show
    """

    def __init__(self, host: str, timeout: float, retries: int, tls: ClientTls) -> None:
        super().__init__(host, "grpc-v2", True, timeout, retries)
        if tls.authorities is None:
            raise ServiceError(
                "--predictor_certificate: expected --predictor_authorities, too: it makes the channel TLS"
            )
        self.tls = tls

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files."""
        trusted, chain, key = (
            path and path.read_bytes() for path in (self.tls.authorities, self.tls.certificate, self.tls.key)
        )
        return grpc.ssl_channel_credentials(trusted, key, chain)


class PredictorAway(ServerNotReady):
    """The predictor does not answer in time, or not as a predictor does."""

    headers = {"Retry-After": "1"}  # noqa: RUF012

    def __init__(self, code: str) -> None:
        super().__init__()
        self.error_msg = f"the predictor does not answer ({code}): try again in {self.headers['Retry-After']} s"
        self.code = code


class ForeignPredictor(ServerNotReady):
    """The predictor takes other inputs than the contract says."""

    def __init__(self, sentence: str) -> None:
        super().__init__()
        self.error_msg = sentence


@dataclass(frozen=True)
class PairScores:
    """Propensities, shape (n_rows,), float64, the version of the model that they come from, and how long it took."""

    propensity: np.ndarray
    version: str
    milliseconds: float | None = None


class PredictorClient:
    """Scores contract columns; `config` says where, within how many seconds, and how often to try again."""

    def __init__(self, config: PredictorConfig, model: str, contract: Contract) -> None:
        self.config = config
        self.model = model
        self._contract = contract.name
        self._inputs = {column.name: datatype(column) for column in contract.inputs}
        self._foreign = ""
        self._frames = {
            column.name: {value: _frame(value or "") for value in (*column.values, None)}
            for column in contract.inputs
            if column.type == "category"
        }

    async def score(
        self, columns: Mapping[str, np.ndarray], meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> PairScores:
        """Score rows in one call.

        Parameters
        ----------
        meanwhile : awaited once, after the request has left and before its answer is awaited

        Raises
        ------
        PredictorAway
            there was no answer by the deadline, an error, or an answer of another form
        """
        began = time.monotonic()
        try:
            scores = _scores(await self._infer(self._request(columns), meanwhile), len(next(iter(columns.values()))))
            return replace(scores, milliseconds=round((time.monotonic() - began) * 1000, 3))
        except PredictorAway as error:
            _count(error)
            raise

    async def contributions(self, columns: Mapping[str, np.ndarray], version: str) -> np.ndarray:
        """Ask for each column's contribution to the propensity of rows, in log-odds, shape (n_rows, n_columns).

        Raises
        ------
        PredictorAway
            as `score` does, or it serves another version of the model by now
        """
        request = self._request(columns)
        request.outputs.add(name="contributions")
        try:
            return _contributions(
                await self._infer(request), (len(next(iter(columns.values()))), len(columns)), version
            )
        except PredictorAway as error:
            _count(error)
            raise

    async def check(self) -> None:
        """Refuse a predictor that can't score this contract.

        It is asked each time, for another may answer at its address by now.

        Raises
        ------
        PredictorAway
            it is not there, or not ready
        ForeignPredictor
            its inputs are not the contract's: names the first that differs
        """
        options = {"timeout": self.config.timeout}
        try:
            state, described = await asyncio.gather(
                self._stub.ModelReady(messages.ModelReadyRequest(name=self.model), **options),
                self._stub.ModelMetadata(messages.ModelMetadataRequest(name=self.model), **options),
            )
        except grpc.aio.AioRpcError as error:
            raise PredictorAway(error.code().name) from None
        if not state.ready:
            raise PredictorAway("NOT_READY")
        self._compare({item.name: item.datatype for item in described.inputs}, ", ".join(described.versions))

    def _compare(self, columns: dict[str, str], versions: str) -> None:
        names = [*self._inputs, *columns]
        differing = next((name for name in names if columns.get(name) != self._inputs.get(name)), None)
        foreign = ""
        if differing is not None:
            there, here = (inputs.get(differing, "no column") for inputs in (columns, self._inputs))
            foreign = (
                f"the predictor serves {versions or 'a model'}, where {differing!r} is {there}; contract"
                f" {self._contract} has {here}: give both services the same bundle"
            )
        if foreign not in ("", self._foreign):
            log.warning("foreign predictor", extra={"fields": {"reason": foreign}})
        self._foreign = foreign
        if foreign:
            raise ForeignPredictor(foreign)

    @cached_property
    def _stub(self) -> Any:
        if isinstance(self.config, SecurePredictorConfig):
            credentials = self.config.credentials()
            channel = grpc.aio.secure_channel(self.config.predictor_host, credentials, options=_OPTIONS)
        else:
            channel = grpc.aio.insecure_channel(self.config.predictor_host, options=_OPTIONS)
        return GRPCInferenceServiceStub(channel)

    async def _infer(self, request: Any, meanwhile: Callable[[], Awaitable[None]] | None = None) -> Any:
        loop = asyncio.get_running_loop()
        deadline, retries = loop.time() + self.config.timeout, self.config.retries
        metadata = ((REQUEST_ID, request_id.get()),)
        while True:
            try:
                call = self._stub.ModelInfer(request, timeout=deadline - loop.time(), metadata=metadata)
                if meanwhile:
                    # The call leaves in the loop's next turn.
                    await asyncio.sleep(0)
                    await meanwhile()
                    meanwhile = None
                return await call
            except grpc.aio.AioRpcError as error:
                away = PredictorAway(error.code().name)
                if error.code() != grpc.StatusCode.UNAVAILABLE or not retries:
                    raise away from None
                PREDICTOR_FAILURES.labels(away.code).inc()
                retries -= 1

    def _request(self, columns: Mapping[str, np.ndarray]) -> Any:
        tensors = [
            {"name": name, "datatype": "BYTES" if name in self._frames else "FP64", "shape": [len(values)]}
            for name, values in columns.items()
        ]
        contents = [self._bytes(name, values) for name, values in columns.items()]
        return messages.ModelInferRequest(model_name=self.model, inputs=tensors, raw_input_contents=contents)

    def _bytes(self, name: str, values: np.ndarray) -> bytes:
        if name in self._frames:
            return b"".join(map(self._frames[name].__getitem__, values.tolist()))
        return values.astype("<f8").tobytes()


def _count(away: PredictorAway) -> None:
    PREDICTOR_FAILURES.labels(away.code).inc()
    log.warning("predictor away", extra={"fields": {"code": away.code}})


def _contributions(response: Any, shape: tuple[int, int], version: str) -> np.ndarray:
    raw = response.raw_output_contents
    if response.model_version != version:
        raise PredictorAway("ANOTHER_VERSION")
    if len(response.outputs) != 1 or response.outputs[0].datatype != "FP64" or len(raw) != 1:
        raise PredictorAway("NOT_A_PREDICTORS_ANSWER")
    values = np.frombuffer(raw[0], "<f8")
    if values.size != shape[0] * shape[1] or not np.isfinite(values).all():
        raise PredictorAway("NOT_CONTRIBUTIONS")
    return values.reshape(shape)


def _frame(word: str) -> bytes:
    encoded = word.encode()
    return len(encoded).to_bytes(4, "little") + encoded


def _scores(response: Any, n_rows: int) -> PairScores:
    raw = response.raw_output_contents
    if (
        len(response.outputs) != 1
        or response.outputs[0].datatype != "FP64"
        or len(raw) != 1
        or len(raw[0]) != 8 * n_rows
    ):
        raise PredictorAway("NOT_A_PREDICTORS_ANSWER")
    propensity = np.frombuffer(raw[0], "<f8")
    if not ((propensity >= 0) & (propensity <= 1)).all():
        raise PredictorAway("NOT_PROPENSITIES")
    return PairScores(propensity, response.model_version)
