"""Users from a Feast feature server: named features by HTTP, packed into the rows that the other online stores keep."""

import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import httpx
import numpy as np
from numpy.typing import NDArray

from offers.contract.market import Market
from offers.data.feast_views import CONTRACT, NEWEST, SINCE, VIEWED, service
from offers.data.online import OnlineUsers, UserEvent
from offers.data.online_reading import Reading
from offers.data.online_row import LIVE_VIEW, NEVER, RowForm, UserRow
from offers.errors import DataError, StorageError
from offers.store.online import PATIENCE, Change, OnlineStore

SCHEMES = ("feast+http://", "feast+https://")
"""What the place of a feature server begins with."""


class FeastOnlineStore:
    """An online store that reads: `feast materialize` loads it.

    Parameters
    ----------
    url : feast+http://HOST:PORT or feast+https://HOST:PORT of a feature server
    form : of the market's rows
    patience : seconds that connecting, and each part of an answer, may take; nothing is tried again

    Raises
    ------
    StorageError
        the URL is wrong
    """

    def __init__(self, url: str, form: RowForm, patience: float) -> None:
        self._form = form
        try:
            address = httpx.URL(url.removeprefix("feast+"))
        except httpx.InvalidURL:
            address = httpx.URL("")
        if not url.startswith(SCHEMES) or not address.host or address.userinfo or address.path != "/":
            raise StorageError(f"expected feast+http://HOST:PORT, without a password, got {url.rpartition('@')[2]!r}")
        self._where = url
        verify = address.scheme == "https" and ssl.create_default_context()
        self._client = httpx.Client(base_url=address, timeout=patience, trust_env=False, verify=verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def get(self, ids: Sequence[str]) -> list[bytes | None]:
        users = self._form.market.users.key
        answer = self._ask({"feature_service": service(self._form.market), "entities": {users: list(ids)}})
        try:
            names, vectors = answer["metadata"]["feature_names"], answer["results"]
            return self._packed(dict(zip(names, vectors, strict=True)), len(ids))
        except (LookupError, AttributeError, TypeError, ValueError, OverflowError, DataError) as error:
            raise StorageError(f"{self._where}: its answer has not the market's features: {error!r}") from None

    def load(self, rows: Iterable[tuple[str, bytes]]) -> None:
        raise StorageError(f"{self._where}: a feature server is loaded by 'feast materialize'")

    def generation(self) -> int:
        self.get([""])
        return 0

    def update(self, ids: Sequence[str], change: Change) -> None:
        self.load(())

    def _ask(self, question: Mapping[str, Any]) -> Any:
        try:
            answer = self._client.post("/get-online-features", json=question)
            if answer.is_success:
                return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise StorageError(f"{self._where}: the online store can't be used: {reason}", passes=True) from None
        service_name, status = question["feature_service"], answer.status_code
        raise StorageError(
            f"{self._where}: answered {status} when asked for the feature service {service_name!r}, which 'feast apply'"
            f" makes: {answer.text[:300]}",
            passes=status >= 500,
        )

    def _packed(self, columns: Mapping[str, Any], number: int) -> list[bytes | None]:
        """Pack rows; a row of another contract has no content."""
        form, contracts = self._form, columns[CONTRACT]["values"]
        ours = [place for place in range(number) if contracts[place] == form.digest.hex()]

        def values(name: str) -> list[Any]:
            return [columns[name]["values"][place] for place in ours]

        records = np.zeros(len(ours), form.form)
        records["digest"] = np.void(form.digest)
        records["since"] = values(SINCE)
        moments = [max(vector["event_timestamps"][place] for vector in columns.values()) for place in ours]
        records["at"] = [np.datetime64(one.removesuffix("Z"), "us").astype(np.int64) for one in moments]
        for place, feature in enumerate(form.timed):
            records["newest"][:, place] = self._newest(columns[NEWEST + feature.name], ours)
        records["values"] = self._inputs(values)
        viewed = values(VIEWED) if form.viewed else [None] * len(ours)
        none, fresh = np.empty(0, np.uint64), np.empty(0, LIVE_VIEW)
        rows: list[bytes | None] = [None if contract is None else b"" for contract in contracts]
        for place, record, codes in zip(ours, records, viewed, strict=True):
            loaded = np.array(codes or [], np.uint32)
            rows[place] = UserRow(record, none.astype(np.int64), none, loaded, fresh).packed()
        return rows

    def _newest(self, vector: Mapping[str, Any], places: Sequence[int]) -> list[int]:
        """Read moments of newest events. A row that has none any more had one, which is beyond its time to live."""
        cells = [(vector["values"][place], vector["statuses"][place]) for place in places]
        return [(NEVER if status == "NOT_FOUND" else 0) if moment is None else moment for moment, status in cells]

    def _inputs(self, values: Callable[[str], list[Any]]) -> NDArray[np.float32]:
        """Encode features, apart from recencies. Without a row of events, a count without a time to live is 0."""
        absent = dict[str, float]()
        for feature in self._form.features:
            absent |= dict.fromkeys(feature.columns, np.nan if feature.ages else 0.0)
        inputs = dict[str, Any]()
        for one in self._form.encoder.features:
            cells = values(SINCE if one.name in self._recencies else one.name)
            if not one.values:
                cells = [absent.get(one.name, np.nan) if cell is None else cell for cell in cells]
            inputs[one.name] = np.array(cells, object if one.values else np.float64)
        return self._form.encoder.encode(inputs, threads=1)

    @cached_property
    def _recencies(self) -> set[str]:
        """Names of features that are computed on reading, whatever their columns hold here."""
        return {feature.name for feature in self._form.features if feature.aggregate == "recency"}


@dataclass(frozen=True, eq=False)
class FeastUsers(OnlineUsers):
    """The rows of a market's users in Feast.

    Recencies grow and times to live end as time passes, as in any online store. An event enters and leaves windows, and
    the newest views, when Feast materialises the tables that have it.
    """

    def open(self, where: str, patience: float = PATIENCE) -> OnlineStore:
        return FeastOnlineStore(where, self._form, patience)

    def apply(self, store: OnlineStore, events: Sequence[UserEvent]) -> list[str]:
        """Take live events, and leave their users to Feast."""
        return ["taken"] * len(events)

    @cached_property
    def _reading(self) -> Reading:
        return Reading(self._form, windows=False)


def users_at(market: Market, where: str) -> OnlineUsers:
    """Choose how the users of a market are read, by the place of their online store."""
    return (FeastUsers if where.startswith("feast+") else OnlineUsers)(market)
