"""The base of all records that are written as JSON and read again."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen record. A field that it does not know is refused, so that nothing is read that was not meant."""

    model_config = ConfigDict(frozen=True, extra="forbid")
