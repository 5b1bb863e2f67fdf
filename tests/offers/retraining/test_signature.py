import hashlib
import hmac

import pytest

from offers.errors import ServiceError
from offers.retraining.signature import HEADER, key_of, refusal, sign

KEY, BODY = key_of("k" * 32), b'{"id": "1"}'


def test_signature_is_the_documented_hmac() -> None:
    expected = hmac.new(b"k" * 32, b'1700000000.{"id": "1"}', hashlib.sha256).hexdigest()
    assert sign(KEY, BODY, 1700000000.9) == f"t=1700000000,v1={expected}"
    assert refusal(KEY, BODY, sign(KEY, BODY, 1700000000), 1700000299) == ""
    assert refusal(KEY, BODY, sign(KEY, BODY)) == ""


@pytest.mark.parametrize(
    ("signature", "moment", "word"),
    [
        ("", 0, "none"),
        ("v1=" + "0" * 64, 0, "another"),
        ("t=1,v1=" + "0" * 64, 1, "our key"),
        (sign(KEY, BODY + b" ", 1), 1, "our key"),
        (sign(key_of("q" * 32), BODY, 1), 1, "our key"),
        (sign(KEY, BODY, 1).replace("t=1", "t=2"), 1, "our key"),
        (sign(KEY, BODY, 1000), 1301, "clocks"),
        (sign(KEY, BODY, 1301), 1000, "clocks"),
    ],
)
def test_refuses_what_the_key_did_not_sign_now(signature: str, moment: float, word: str) -> None:
    assert word in refusal(KEY, BODY, signature, moment)
    assert HEADER in refusal(KEY, BODY, signature, moment)


def test_short_keys_are_refused() -> None:
    assert key_of("") == b""
    with pytest.raises(ServiceError, match="OFFERS_ALARM_KEY: expected a key of at least 32 characters, got 7"):
        key_of("minio12")
