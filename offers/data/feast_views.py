"""What a market's contract makes of itself in Feast: views of users, of products, and one for each feature."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil

from offers.contract.column import Role
from offers.contract.market import Feature, Market, Table
from offers.errors import ContractError

OURS = "offers_"
"""What the names of fields begin with that no contract declares."""

FROM, CONTRACT, SINCE, NEWEST = f"{OURS}from", f"{OURS}contract", f"{OURS}since", f"{OURS}newest_"
"""The column of the moment from which a row holds; fields with the digest of what the contract says of users, with the
moment from which a user's row holds, and, as a prefix, with that of a feature's newest event, in microseconds of UTC.
"""

VIEWED = f"{OURS}viewed"
"""The field of the products of the newest views, as `offers.data.snapshot.code_of` numbers them."""

_TYPES = {"integer": "Int64", "number": "Float64", "category": "String", "boolean": "Bool"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class View:
    """A feature view of Feast, and its table.

    Attributes
    ----------
    name : of the view, and of its Parquet file
    keys : names of the entities
    fields : names of the features, with Feast's type of each
    days : Feast's time to live; 0 where a row holds until the next. The tables of features say by themselves where a
        time to live ends, which may be earlier: Feast's DuckDB store takes whole days
    about : what it holds, for people
    of_users : whether the recommender reads it
    feature : the contract's feature whose values it has
    """

    name: str
    keys: tuple[str, ...]
    fields: dict[str, str]
    days: int
    about: str
    of_users: bool = False
    feature: Feature | None = field(default=None)


def project(market: Market) -> str:
    """Name Feast's project, which may have no hyphen."""
    return market.name.replace("-", "_")


def service(market: Market) -> str:
    """Name the feature service that the recommender asks."""
    return f"{project(market)}_recommender"


def views(market: Market) -> list[View]:
    """List the views of a market.

    Raises
    ------
    ContractError
        a name or a time to live is none that Feast takes
    """
    found = list(_views(market))
    names = [name for view in found for name in (*view.keys, *view.fields) if not name.startswith(OURS)]
    strange = [name for name in (*names, *market.by_name) if not _NAME.fullmatch(name) or name.startswith(OURS)]
    if strange:
        raise ContractError(
            f"market {market.name}: Feast takes letters, digits and _ in a name, and those that begin with {OURS} are"
            f" ours; got {strange[0]!r}"
        )
    return found


def _views(market: Market) -> Iterator[View]:
    prefix, users, products = project(market), market.users, market.products
    for noun, table in (("users", users), ("products", products)):
        if (table.time_to_live or 0) % 1:
            raise ContractError(
                f"market {market.name}: Feast's DuckDB store takes a time to live of whole days; {noun} has"
                f" {table.time_to_live}"
            )
    columns = [column for column in market.user_columns if column.role == Role.CUSTOMER]
    fields = {column.name: _TYPES[column.type] for column in columns}
    ours = {CONTRACT: "String", SINCE: "Int64"}
    yield View(f"{prefix}_users", (users.key,), fields | ours, _days(users), "columns of users", True)
    fields = {column.name: _TYPES[column.type] for column in market.product_columns}
    yield View(f"{prefix}_products", (products.key,), fields, _days(products), "columns of products")
    keys = {"user": (users.key,), "product": (products.key,), "pair": (users.key, products.key)}
    for feature in market.features:
        fields = dict.fromkeys(() if feature.aggregate == "recency" else feature.columns, "Float64")
        fields |= {NEWEST + feature.name: "Int64"} if feature.ages else {}
        name = f"{prefix}_{feature.by}_{feature.name}"
        about = f"{feature.aggregate} of {', '.join(feature.events)}; without a row there was no event"
        yield View(name, keys[feature.by], fields, _days(feature), about, feature.by == "user", feature)
    if market.retrieval.viewed:
        about = f"the {market.retrieval.viewed} newest products that a user viewed, as numbers, oldest first"
        yield View(f"{prefix}_viewed", (users.key,), {VIEWED: "Array(Int64)"}, 0, about, True)


def _days(one: Table | Feature) -> int:
    return ceil(one.time_to_live or 0)
