"""Which answer an exception becomes, over REST and gRPC alike."""

from dataclasses import dataclass, field

from grpc import StatusCode
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from offers.errors import RequestError, RequestTooLarge
from serving.process.edge import Refused
from serving.process.logs import log_fault, request_id
from serving.protocol.kserve import InvalidInput, ModelNotFound, ModelNotReady, ServerNotReady


@dataclass(frozen=True)
class Failure:
    """An answer that is an error: HTTP status, gRPC code and one sentence."""

    status: int
    code: StatusCode
    sentence: str
    headers: dict[str, str] = field(default_factory=dict)


KINDS: dict[type[Exception], tuple[int, StatusCode]] = {
    RequestTooLarge: (413, StatusCode.INVALID_ARGUMENT),
    RequestError: (400, StatusCode.INVALID_ARGUMENT),
    InvalidInput: (400, StatusCode.INVALID_ARGUMENT),
    ModelNotFound: (404, StatusCode.NOT_FOUND),
    ModelNotReady: (503, StatusCode.UNAVAILABLE),
    ServerNotReady: (503, StatusCode.UNAVAILABLE),
    ClientDisconnect: (499, StatusCode.CANCELLED),
    NotImplementedError: (501, StatusCode.UNIMPLEMENTED),
}
"""What callers may meet; an exception of any other kind is a fault of ours."""


_REFUSALS = {401: StatusCode.UNAUTHENTICATED, 429: StatusCode.RESOURCE_EXHAUSTED}


def failure(error: Exception) -> Failure:
    """Find the answer for an exception; a fault of ours is logged, and its answer tells the request id only."""
    if isinstance(error, HTTPException):
        return Failure(error.status_code, StatusCode.UNKNOWN, error.detail, dict(error.headers or {}))
    if isinstance(error, Refused):
        return Failure(error.status, _REFUSALS.get(error.status, StatusCode.UNAVAILABLE), str(error))
    for kind, (status, code) in KINDS.items():
        if isinstance(error, kind):
            return Failure(status, code, str(error), getattr(error, "headers", {}))
    log_fault(error)
    sentence = f"a fault of ours, not of the request: report request id {request_id.get()}"
    return Failure(500, StatusCode.INTERNAL, sentence)
