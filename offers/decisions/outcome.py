"""One outcome, which is a customer's response to a decision, checked field by field."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from offers.errors import DataError

Kind = Literal["presented", "clicked", "accepted", "declined", "overridden"]
KINDS = get_args(Kind)
REQUIRED, OPTIONAL = ("decision_id", "kind", "observed_at"), ("offer_id", "why")
SKEW = timedelta(minutes=5)
"""By how much clocks may differ: an outcome from later than this after its arrival is from the future."""

LONGEST = {"why": 1000}
"""Characters of a field; of any other at most `ID_LENGTH`."""
ID_LENGTH = 128


def checked(item: Mapping[str, Any]) -> dict[str, Any]:
    """Check an outcome and bring it into its normal form: all five fields, the moment in UTC.

    Raises
    ------
    DataError
        a field is missing, unknown or wrong
    """
    if strange := [name for name in item if name not in (*REQUIRED, *OPTIONAL)]:
        raise DataError(f"field {strange[0]!r:.80}: expected {', '.join((*REQUIRED, *OPTIONAL))}")
    texts = {name: item.get(name) for name in (*REQUIRED, *OPTIONAL)}
    for name, value in texts.items():
        absent = value is None or value == ""
        if absent and name in REQUIRED:
            raise DataError(f"field {name!r}: expected a value, but it is missing")
        longest = LONGEST.get(name, ID_LENGTH)
        if not absent and not (isinstance(value, str) and len(value) <= longest):
            raise DataError(f"field {name!r}: expected text of at most {longest} characters, got {value!r:.80}")
    if texts["kind"] not in KINDS:
        raise DataError(f"field 'kind': expected {', '.join(KINDS)}, got {texts['kind']!r:.80}")
    if texts["kind"] == "overridden" and not texts["why"]:
        raise DataError("field 'why': expected the reason of the person who overrode the decision, but it is missing")
    moment = _moment(str(texts["observed_at"]))
    return {
        "decision_id": texts["decision_id"],
        "offer_id": texts["offer_id"] or None,
        "kind": texts["kind"],
        "observed_at": moment.isoformat(),
        "why": texts["why"] or None,
    }


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise DataError(f"field 'observed_at': expected a moment such as 2024-05-31T12:00Z, got {text!r:.80}") from None
