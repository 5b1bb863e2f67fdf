"""The contract of a market: many users, hundreds of products, and users' events. One YAML file drives everything."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from offers.contract.column import Column, Role
from offers.contract.recommendation import Recommendation
from offers.contract.retrieval import Retrieval
from offers.contract.sections import ApprovalSettings, Calibration, ModelSettings, Month, Share
from offers.errors import ContractError
from offers.yaml_file import Kind, Problem, Section, form, refuse

ColumnName = Annotated[str, Field(min_length=1)]
Days = Annotated[float, Field(gt=0, le=36500)]
FileName = Annotated[str, form(r"^[^/]+\.(parquet|csv)$", "the name of a .parquet or .csv file, such as users.parquet")]
Name = Annotated[str, form(r"^[a-z][a-z0-9_]{0,39}$", "small letters, digits and _, such as clicks")]


class Table(Section):
    """A table of users or products: its file, its column of ids, and its column of moments from which rows are valid.

    A row is valid until there is a newer one of its id, and for `time_to_live` days at most. After that time, if there
    is no newer one, its values are missing.
    """

    file: FileName
    key: ColumnName
    time: ColumnName
    time_to_live: Days | None = None


class Interactions(Section):
    """The table of users' events: its file, and its columns of event, moment and position in the list.

    A user looks at position p with a probability proportional to p^-`position_bias`.
    """

    file: FileName
    event: ColumnName = "event"
    time: ColumnName = "at"
    position: ColumnName = "position"
    position_bias: Annotated[float, Field(ge=0, le=5)] = 0.0


class Event(Section):
    """A kind of event. The contract lists the kinds in the order in which they happen, from view to approval.

    In the simulated market an event follows the share `typical` of the events of the kind before, after `delay_hours`
    on average. `weight` is the importance of an event.
    """

    name: Name
    weight: Annotated[float, Field(ge=0, le=1000)] = 1.0
    typical: Share | None = None
    delay_hours: Annotated[float, Field(ge=0)] = 0.0


class Pair(Section):
    """A column of user-product pairs, which compares a user's column with a product's.

    `difference` is the user's value minus the product's, and `ratio` the user's divided by the product's. `at_least` is
    whether the user's value reaches the product's, and `equal` whether both are the same word.
    """

    name: Name
    user: ColumnName
    product: ColumnName
    measure: Literal["difference", "ratio", "at_least", "equal"]


class Feature(Section):
    """A feature of a user, a product or a pair, aggregated from the events before a moment.

    `count` is the number of events and `weight` the sum of their weights, within each of `windows` (days before the
    moment) or over all time. `recency` is the number of days since the newest event. An event at the moment itself does
    not count. The value is missing where there is no event, or the newest is older than `time_to_live` days; without a
    time to live, a count or weight of no events is 0.
    """

    name: Name
    by: Literal["user", "product", "pair"]
    events: Annotated[tuple[Name, ...], Field(min_length=1)]
    aggregate: Literal["count", "weight", "recency"] = "count"
    windows: tuple[Days, ...] = ()
    time_to_live: Days | None = None

    @property
    def columns(self) -> dict[str, float | None]:
        """The names of the feature's columns, with the window of each, in days."""
        return {f"{self.name}_{window:g}d": window for window in self.windows} or {self.name: None}

    @property
    def ages(self) -> bool:
        """Whether the values depend on the moment of the newest event."""
        return self.aggregate == "recency" or self.time_to_live is not None


class Acceptance(Section):
    """What counts as accepted: the event, and the days after a view until it has either happened or not."""

    event: Name
    matures_after_days: Days = 30.0


class MarketSimulation(Section):
    """The simulated market: its size, and how users choose. `offers.simulation.market` has the rules."""

    users: Annotated[int, Field(ge=1)] = 20_000
    products: Annotated[int, Field(ge=2, le=1_000_000)] = 100
    start: Month = "2025-01"
    days: Annotated[int, Field(ge=1, le=3650)] = 365
    views: Annotated[float, Field(gt=0, le=10_000)] = 20.0
    taste: Annotated[float, Field(ge=0, le=20)] = 4.0
    popularity: Annotated[float, Field(ge=0, le=20)] = 0.5
    private: Annotated[float, Field(ge=0, le=1)] = 0.1
    new_users: Annotated[float, Field(ge=0, lt=1)] = 0.2
    new_products: Annotated[float, Field(ge=0, lt=1)] = 0.1
    season: Annotated[float, Field(ge=0, lt=1)] = 0.3
    position_bias: Annotated[float, Field(ge=0, le=5)] = 0.5


class Market(Section):
    """Everything that is known about a market before its first event arrives.

    A column of role `customer` describes users, and one of role `offer` describes products. A `protected` column
    describes users, and no model sees it.
    """

    name: Annotated[str, form(r"^[a-z][a-z0-9-]{1,40}$", "small letters, digits and -, such as fintech")]
    title: str
    description: str = ""
    users: Table
    products: Table
    interactions: Interactions
    columns: Annotated[tuple[Column, ...], Field(min_length=2)]
    pairs: tuple[Pair, ...] = ()
    events: Annotated[tuple[Event, ...], Field(min_length=1)]
    features: tuple[Feature, ...] = ()
    accepted: Acceptance | None = None
    value: ColumnName | None = None
    segments: tuple[ColumnName, ...] = ()
    retrieval: Retrieval = Retrieval()
    recommendation: Recommendation = Recommendation()
    model: ModelSettings = ModelSettings()
    calibration: Calibration = Calibration(rows=20_000)
    approval: ApprovalSettings = ApprovalSettings()
    simulation: MarketSimulation = MarketSimulation()

    @cached_property
    def by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @property
    def user_columns(self) -> tuple[Column, ...]:
        """The columns of the table of users apart from key and time, protected columns included."""
        return tuple(column for column in self.columns if column.role != Role.OFFER)

    @property
    def product_columns(self) -> tuple[Column, ...]:
        """The columns of the table of products apart from key and time."""
        return tuple(column for column in self.columns if column.role == Role.OFFER)

    @property
    def acceptance(self) -> Acceptance:
        """What counts as accepted; by default the last event."""
        return self.accepted or Acceptance(event=self.events[-1].name)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file's content, in hex; comments and layout don't count."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        checks = (self._column_problems(), self._name_problems(), self._pair_problems(), self._event_problems())
        truths = [pair.name for pair in self.pairs if pair.measure in ("at_least", "equal")]
        places = self.recommendation.problems(self.by_name, truths)
        refuse(chain(*checks, self._feature_problems(), self._ranking_problems(), places))
        return self

    def _column_problems(self) -> Iterator[Problem]:
        for place, column in enumerate(self.columns):
            if column.role not in (Role.CUSTOMER, Role.OFFER, Role.PROTECTED):
                yield (
                    ("columns", place, "role"),
                    f"expected customer (a user's), offer (a product's) or protected, got {column.role}",
                )
            elif column.type in ("date", "text"):
                yield ("columns", place, "type"), f"no model takes a {column.type}: leave the column out"
        for role, noun in ((Role.CUSTOMER, "users"), (Role.OFFER, "products")):
            if not any(column.role == role for column in self.columns):
                yield ("columns",), f"no column has role {role}, so nothing would be known of {noun}"

    def _name_problems(self) -> Iterator[Problem]:
        """Yield names that are reserved or taken, because a joined row has one column of each name."""
        entries: list[tuple[tuple[str | int, ...], str]] = [
            (("users", "key"), self.users.key),
            (("products", "key"), self.products.key),
            (("interactions", "event"), self.interactions.event),
            (("interactions", "time"), self.interactions.time),
            (("interactions", "position"), self.interactions.position),
            *((("columns", place, "name"), column.name) for place, column in enumerate(self.columns)),
            *((("pairs", place, "name"), pair.name) for place, pair in enumerate(self.pairs)),
            *((("features", place, "name"), name) for place, one in enumerate(self.features) for name in one.columns),
        ]
        files = [self.users.file, self.products.file, self.interactions.file]
        if len(set(files)) < len(files):
            yield ("interactions", "file"), f"users, products and interactions need a file each, got {files}"
        names = [name.lower() for _, name in entries]
        for place, (key, name) in enumerate(entries):
            if name.lower() in names[:place]:
                yield key, f"{name!r} is the name of another column already"
            if name.startswith("_"):
                yield key, f"column names that begin with '_' are ours: {name!r}"
        for noun, table in (("users", self.users), ("products", self.products)):
            if table.time == table.key or table.time in self.by_name:
                yield (noun, "time"), f"{table.time!r} is the name of another column already"

    def _pair_problems(self) -> Iterator[Problem]:
        for place, pair in enumerate(self.pairs):
            sides = (("user", pair.user, Role.CUSTOMER), ("product", pair.product, Role.OFFER))
            for key, name, role in sides:
                column = self.by_name.get(name)
                if column is None or column.role != role:
                    yield ("pairs", place, key), f"{name!r} is no column of role {role}"
                elif pair.measure == "equal" and column.type != "category":
                    yield ("pairs", place, key), f"{name!r} is {column.type}: 'equal' compares categories"
                elif pair.measure != "equal" and not column.is_numeric:
                    yield ("pairs", place, key), f"{name!r} is {column.type}: '{pair.measure}' compares numbers"

    def _event_problems(self) -> Iterator[Problem]:
        names = [event.name for event in self.events]
        for place, event in enumerate(self.events):
            if event.name in names[:place]:
                yield ("events", place, "name"), f"event {event.name!r} is declared twice"
            if place and event.typical is None:
                yield ("events", place), "it needs 'typical': the share of the events before it that it follows"
            if not place and event.typical is not None:
                yield ("events", place, "typical"), "the first event follows no other"

    def _feature_problems(self) -> Iterator[Problem]:
        names = [event.name for event in self.events]
        for place, feature in enumerate(self.features):
            if strange := [name for name in feature.events if name not in names]:
                yield ("features", place, "events"), f"{strange[0]!r} is no event: expected some of {', '.join(names)}"
            if feature.aggregate == "recency" and feature.windows:
                yield ("features", place, "windows"), "recency has no windows: it is the time since the newest event"

    def _ranking_problems(self) -> Iterator[Problem]:
        names = [event.name for event in self.events]
        if self.accepted is not None and self.accepted.event not in names[1:]:
            yield ("accepted", "event"), f"expected an event after the first, got {self.accepted.event!r}"
        value = self.by_name.get(self.value or "")
        if self.value is not None and (value is None or value.role != Role.OFFER or not value.is_numeric):
            yield ("value",), f"{self.value!r} is no number of role offer"
        for place, name in enumerate(self.segments):
            column = self.by_name.get(name)
            if column is None or column.role != Role.CUSTOMER or column.type not in ("category", "boolean"):
                yield ("segments", place), f"{name!r} is no category or boolean of role customer"


_FILE = Kind("market", "offers.contract.markets", "name, users, products and interactions", ContractError)


def shipped() -> list[str]:
    """Names of the contracts of markets that come with the package."""
    return _FILE.shipped()


def load(where: str) -> Market:
    """Load the contract of a market by the name of a shipped one, by path, or from its YAML text.

    Raises
    ------
    ContractError
        there is no such market, it is not YAML, or a key is unknown, missing or wrong; the message names line and key
    """
    return parse(*_FILE.find(where))


def text(where: str) -> str:
    """Get the YAML text that `load` would read."""
    return _FILE.find(where)[0]


def parse(yaml_text: str, origin: str = "market") -> Market:
    """Build the contract of a market from YAML text; `origin` names the file in messages."""
    return _FILE.read(yaml_text, origin).into(Market)
