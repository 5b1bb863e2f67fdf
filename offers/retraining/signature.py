"""Signatures of alarms: an HMAC over time and body with a key that sender and trigger share.

This module imports only the standard library and `offers.errors`, because the drift sidecar signs, too.
"""

import hashlib
import hmac
import re
import time

from offers.errors import ServiceError

HEADER = "offers-signature"
VARIABLE = "OFFERS_ALARM_KEY"
"""Environment variable that holds the key."""
LIFETIME = 300.0
"""Seconds; the clocks of sender and trigger differ by less."""
_SHORTEST = 32
_FORM = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")


def key_of(text: str) -> bytes:
    """Read a key; an empty text means that there is no key.

    Raises
    ------
    ServiceError
        the text is too short for a key
    """
    if text and len(text) < _SHORTEST:
        raise ServiceError(
            f"{VARIABLE}: expected a key of at least {_SHORTEST} characters, got {len(text)}; `openssl rand -hex 32`"
            " makes one"
        )
    return text.encode()


def sign(key: bytes, body: bytes, moment: float | None = None) -> str:
    """Sign a body; returns the value of header `offers-signature`."""
    seconds = int(time.time() if moment is None else moment)
    return f"t={seconds},v1={_digest(key, seconds, body)}"


def refusal(key: bytes, body: bytes, signature: str, moment: float | None = None) -> str:
    """Explain why a body does not count as signed by the key; empty where it does."""
    form = _FORM.fullmatch(signature)
    if form is None:
        return f"expected header {HEADER} of the form t=SECONDS,v1=HEX, got {'none' if not signature else 'another'}"
    seconds = int(form[1])
    if not hmac.compare_digest(_digest(key, seconds, body), form[2]):
        return f"header {HEADER}: it is not of this body by our key; give both sides the same {VARIABLE}"
    if abs((time.time() if moment is None else moment) - seconds) > LIFETIME:
        return f"header {HEADER}: it is older or younger than {LIFETIME:g} s; set the clocks, or sign anew"
    return ""


def _digest(key: bytes, seconds: int, body: bytes) -> str:
    return hmac.new(key, b"%d." % seconds + body, hashlib.sha256).hexdigest()
