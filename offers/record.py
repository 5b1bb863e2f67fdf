"""The base of all records that are written as JSON and read again."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen record. It refuses unknown fields, so that a misspelt field is not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")
