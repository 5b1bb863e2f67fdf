"""Where services of this machine answer, for the programs beside them."""

from pathlib import Path
from typing import Self

from pydantic import ValidationError

from offers.errors import ServiceError
from offers.files import os_errors, settle
from offers.record import Record
from serving.local import ADDRESSES, Services, in_use

STARTED = "services"
"""Word on the command line of a program that tells it that services are being started beside it."""


class Addresses(Record):
    """URLs without a path, an empty one where there is no such service.

    `bundle` is the bundle's directory, and `catalogue` a file or the name of a shipped one.
    """

    ranker: str
    predictor: str
    drift: str = ""
    tables: str = ""
    bundle: Path
    catalogue: str

    @classmethod
    def of(cls, running: Services, bundle: Path, catalogue: str) -> Self:
        """Gather the addresses of services that serve a bundle with a catalogue."""
        drift, shipper = running.drift, running.shipper
        return cls(
            ranker=running.ranker.url,
            predictor=running.predictor.url,
            drift=drift.url if drift else "",
            tables=shipper.bound["tables"] if shipper else "",
            bundle=bundle.resolve(),
            catalogue=str(Path(catalogue).resolve()) if Path(catalogue).is_file() else catalogue,
        )

    def write(self, directory: Path) -> None:
        """Leave them in the services' directory, which has them until other services start there."""
        path = directory / ADDRESSES
        with os_errors(path):
            settle(path, lambda unfinished: unfinished.write_text(self.model_dump_json(indent=1) + "\n", "utf-8"))

    @classmethod
    def present(cls, directory: Path) -> Self | None:
        """Read them; None where no services of this directory answer yet.

        Raises
        ------
        ServiceError
            another version has written them
        """
        path = directory / ADDRESSES
        if not in_use(directory) or not path.exists():
            return None
        with os_errors(path, ServiceError):
            content = path.read_bytes()
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            detail = error.errors()[0]
            where = ".".join(map(str, detail["loc"])) or "it"
            raise ServiceError(
                f"{path}: expected the addresses of services of this version, but {where}: {detail['msg']}; stop them,"
                " and start 'offers serve'"
            ) from None
