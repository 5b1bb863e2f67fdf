"""What the sidecar tells on standard error: one line of JSON per thing that happened, without personal data."""

import json
import logging
import sys
import time
import traceback
from typing import Any

_log = logging.getLogger("offers.drift")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        return json.dumps(line | getattr(record, "fields", {}), default=str)


def configure() -> None:
    """Send every library's records to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    for name in ("httpx", "httpcore", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)


def say(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log one line."""
    _log.log(level, event, extra={"fields": fields})


def fault(error: BaseException) -> None:
    """Log where an unexpected exception came from; its text may quote a customer's data, so that stays out."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    say("fault", logging.ERROR, exception=type(error).__name__, at=frames[-8:])
