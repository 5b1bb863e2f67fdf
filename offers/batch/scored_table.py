"""The columns of a scored table."""

from collections.abc import Iterable, Sequence

import pyarrow as pa

from offers.errors import DataError
from offers.wording import some

WORD = pa.dictionary(pa.int32(), pa.string())
_COLUMNS = [
    ("customer", pa.string()),
    ("rank", pa.int16()),
    ("offer", WORD),
    ("propensity", pa.float64()),
    ("value", pa.float64()),
    ("score", pa.float64()),
    ("action_probability", pa.float64()),
    ("reasons", pa.list_(pa.string())),
    ("bundle", WORD),
    ("policy", WORD),
    ("catalogue", WORD),
]


def table_schema(protected: Iterable[str] = ()) -> pa.Schema:
    """Build the schema of a scored table, with the groups of protected columns at the end.

    A row is an offer in a customer's answer, or a withheld offer, whose rank is null and whose reasons say why.
    """
    return pa.schema([*_COLUMNS, *((group_column(name), WORD) for name in protected)])


def group_column(protected: str) -> str:
    """Name the column that holds the groups of a protected column."""
    return f"group_{protected}"


def unfinished(origin: str) -> DataError:
    """Refuse a table whose run has not ended yet."""
    return DataError(
        f"{origin}: expected a complete scored table, but the run that writes it has not ended; give the same 'offers"
        " score' again, which goes on with it"
    )


def check_columns(names: Sequence[str], needed: Sequence[str], origin: str) -> None:
    """Raise `DataError` where a column that a campaign reads is missing."""
    if absent := [name for name in needed if name not in names]:
        raise DataError(
            f"{origin}: expected a table that 'offers score' wrote, with --groups where a campaign has floors of"
            f" exposure; missing: {some(absent)}"
        )
