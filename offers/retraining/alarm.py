"""An alarm as a CloudEvent, sent to the service that takes requests for a new model."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx
from cloudevents.conversion import to_structured
from cloudevents.http import CloudEvent

from offers.errors import ServiceError
from offers.http_client import peer
from offers.retraining.signature import HEADER, sign

TYPE = "offers.drift.alarm"
_SECONDS = 30.0


def send(
    trigger: str, source: str, identity: str, moment: datetime, data: Mapping[str, Any], key: bytes = b""
) -> dict[str, Any]:
    """Send an alarm, and return what was decided.

    Parameters
    ----------
    trigger : URL of the service
    source : the sender of the alarm, as a path
    identity : id of the alarm, the same when it is sent again, so that it starts at most one run
    data : at least `bundle`, `signals` and `reasons`
    key : key that signs the alarm; see `offers.retraining.signature`

    Returns
    -------
    dict
        the decision as the journal has it: `started`, `reason`, `run` and more

    Raises
    ------
    ServiceError
        the service can't be reached, or did not accept the alarm
    """
    attributes = {"type": TYPE, "source": source, "id": identity, "time": moment.isoformat(), "subject": data["bundle"]}
    headers, body = to_structured(CloudEvent(attributes, dict(data)))
    if key:
        headers[HEADER] = sign(key, body)
    try:
        answer = peer("the trigger", trigger, _SECONDS).ask(body, headers)
        decision = answer.raise_for_status().json()
    except httpx.HTTPStatusError:
        reply = " ".join(answer.text.split())[:200]
        sentence = f"{trigger}: expected the alarm to be taken, got {answer.status_code} {reply}"
        raise ServiceError(sentence, passes=answer.is_server_error) from None
    except (httpx.HTTPError, ValueError) as error:
        raise ServiceError(
            f"{trigger}: expected a service that takes alarms, got {error or type(error).__name__}: correct the URL, "
            "or start the service",
            passes=isinstance(error, httpx.TransportError),
        ) from None
    if not isinstance(decision, dict):
        raise ServiceError(f"{trigger}: expected a decision, got something else: is it the trigger's URL?")
    return decision
