"""One line of JSON for each thing that happens, on standard error, without personal data."""

import json
import logging
import sys
import time
import traceback
from contextvars import ContextVar
from typing import Any

_QUIET_LIBRARIES = ("httpx", "httpcore", "kserve")

request_id: ContextVar[str] = ContextVar("request_id", default="")
caller: ContextVar[str] = ContextVar("caller", default="")
log = logging.getLogger("offers.serving")


class JsonLines(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        if caller.get():
            line["caller"] = caller.get()
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__name__
        return json.dumps(line | getattr(record, "fields", {}), default=str)


def configure_logging() -> None:
    """Send every library's records to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    logging.getLogger("uvicorn.access").disabled = True
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns of every request that is none: whoever sends those would fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def log_event(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log one line."""
    log.log(level, event, extra={"fields": fields})


def log_fault(error: BaseException) -> None:
    """Log where an unexpected exception came from; its text may quote a customer's data, so that stays out."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    log_event("fault", logging.ERROR, exception=type(error).__name__, at=frames[-8:])
