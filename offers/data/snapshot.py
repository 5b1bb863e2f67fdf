"""What is known of every user at one moment: columns, features, and the events that are still within a window.

The values equal those of `point_in_time.joined` at the same moment, but one pass over the events is enough.
"""

import zlib
from collections.abc import Iterator

import duckdb
import numpy as np
import pyarrow as pa

from offers.contract.market import Feature, Market
from offers.data.market_tables import quoted, text
from offers.data.point_in_time import BATCH
from offers.errors import SourceError

NEWEST, RECENT = "_newest ", "_recent"
"""The prefix of columns with a feature's newest event, and the column of the events within a window."""

KINDS = 256
"""A recent event is one number: its moment in microseconds times this, plus the place of its kind in the contract."""

VIEWED = "_viewed"
"""The column of the products of the newest views, as `code_of` numbers them."""

USERS, _SAMPLE = 125_000, 20_000
"""Rows of users in a block, roughly, and those of which a sample tells where blocks end."""

SINCE = "_since"
"""The column of the moment since when a user's columns hold."""


def snapshot(market: Market, connection: duckdb.DuckDBPyConnection, moment: np.datetime64) -> Iterator[pa.Table]:
    """Yield what is known of all users at a moment, in the order of their ids.

    Values beyond their time to live are there as well; the moments in the columns SINCE and NEWEST tell which they are.

    Parameters
    ----------
    connection : a connection of `market_tables.opened`
    moment : in UTC; an event at the moment itself does not count

    Yields
    ------
    pyarrow.Table
        at most BATCH rows: id; the users' columns; the features by user; SINCE; the moment of the newest event of each
        feature; RECENT, a list of events within the largest window of their kind, oldest first; and VIEWED, a list of
        the newest views, oldest first

    Raises
    ------
    SourceError
        the tables can't be joined
    """
    try:
        ids = [one for (one,) in connection.execute("SELECT DISTINCT _key FROM products").fetchall()]
        codes = pa.array([code_of(one) for one in ids], pa.uint32())
        connection.register("product_codes", pa.table({"id": pa.array(ids, pa.string()), "code": codes}))
        for block in _blocks(connection):
            reader: pa.RecordBatchReader = connection.sql(_query(market, moment, block)).to_arrow_reader(BATCH)
            for batch in reader:
                yield pa.Table.from_batches([batch])
    except duckdb.Error as error:
        raise SourceError(f"the tables can't be joined: {str(error).splitlines()[0]}") from None


def _blocks(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Cut the users into blocks by their ids, in ascending order; returns the condition of each on the column `{}`.

    DuckDB spills no lists, so the lists of a block must fit into memory. Each block reads all events once.
    """
    [(number,)] = connection.execute("SELECT count(*) FROM users").fetchall()
    count = -(-number // USERS)
    if count < 2:
        return ["true"]
    sample = connection.execute(f"SELECT _key FROM users USING SAMPLE reservoir({_SAMPLE} ROWS) REPEATABLE (0)")
    keys = sorted(one for (one,) in sample.fetchall())
    edges = list(dict.fromkeys(text(keys[place * len(keys) // count]) for place in range(1, count)))
    lower, upper = [f"{{}} >= {edge} AND " for edge in edges], [f"{{}} < {edge}" for edge in edges]
    return [low + high for low, high in zip(["", *lower], [*upper, "true"], strict=True)]


def code_of(product: str) -> int:
    """Number a product by the checksum of its id, 32 bits, which another catalogue does not change."""
    return zlib.crc32(product.encode())


def user_features(market: Market) -> list[Feature]:
    """List the features by user."""
    return [feature for feature in market.features if feature.by == "user"]


def event_weights(market: Market, feature: Feature) -> dict[str, float]:
    """Map each event of a feature to what it adds to the feature's value."""
    weights = {event.name: event.weight if feature.aggregate == "weight" else 1.0 for event in market.events}
    return {name: weights[name] for name in feature.events}


def windows(market: Market) -> dict[str, float]:
    """Map each kind of event to the largest window, in days, of a feature by user that counts it."""
    largest = dict[str, float]()
    for feature in user_features(market):
        for name in feature.events:
            largest[name] = max([largest.get(name, 0.0), *feature.windows])
    return {name: days for name, days in largest.items() if days > 0}


def _query(market: Market, moment: np.datetime64, block: str) -> str:
    at = f"TIMESTAMP '{str(moment.astype('datetime64[us]')).replace('T', ' ')}'"
    features = user_features(market)
    cells = [f"u._key AS {quoted(market.users.key)}"]
    cells += [f"u.{quoted(column.name)}" for column in market.user_columns]
    sums = list[str]()
    for place, feature in enumerate(features):
        own, aggregates = _feature(market, feature, f"f{place}", at)
        cells, sums = cells + own, sums + aggregates
    cells += [f"u._since AS {SINCE}", f"e.{RECENT} AS {RECENT}"]
    cells += [f"e.f{place}_newest AS {quoted(NEWEST + feature.name)}" for place, feature in enumerate(features)]
    of_block = block.replace("{}", "_user")
    names = sorted({name for feature in features for name in feature.events})
    events = f"SELECT _user, {', '.join([*sums, _recent(market, at)])} FROM events"
    events += f" WHERE _at < {at} AND _event IN ({', '.join(map(text, names or ['']))}) AND {of_block} GROUP BY _user"
    views = f"SELECT _user, {_viewed(market)} FROM events JOIN product_codes ON _product = id"
    views += f" WHERE _at < {at} AND _event = {text(market.events[0].name)} AND {of_block} GROUP BY _user"
    cells.append(f"v.{VIEWED} AS {VIEWED}")
    rank = "row_number() OVER (PARTITION BY _key ORDER BY _since DESC)"
    users = f"SELECT * FROM users WHERE _since <= {at} AND {block.replace('{}', '_key')} QUALIFY {rank} = 1"
    joins = f"LEFT JOIN ({events}) e ON u._key = e._user LEFT JOIN ({views}) v ON u._key = v._user"
    return f"SELECT {', '.join(cells)} FROM ({users}) u {joins} ORDER BY u._key"


def _viewed(market: Market) -> str:
    if not market.retrieval.viewed:
        return f"NULL::UINTEGER[] AS {VIEWED}"
    # Second and code in one number take a fraction of the memory of rows. Of views in one second the code decides.
    keys = f"list_sort(list((CAST(epoch(_at) AS BIGINT) << 32) + code))[-{market.retrieval.viewed}:]"
    return f"list_transform({keys}, lambda key: CAST(key & 4294967295 AS UINTEGER)) AS {VIEWED}"


def _feature(market: Market, feature: Feature, short: str, at: str) -> tuple[list[str], list[str]]:
    """Write the SQL of a feature's cells, and of the aggregates that they need."""
    weights = event_weights(market, feature)
    weight = "CASE _event " + " ".join(f"WHEN {text(name)} THEN {weights[name]!r}" for name in weights) + " END"
    events = f"_event IN ({', '.join(map(text, weights))})"
    aggregates = [f"max(_at) FILTER (WHERE {events}) AS {short}_newest"]
    if feature.aggregate != "recency":
        aggregates.append(f"sum({weight}) AS {short}_sum")
    cells = list[str]()
    for place, (name, window) in enumerate(feature.columns.items()):
        value = f"(epoch_us({at}) - epoch_us(e.{short}_newest)) / 86400e6"
        if feature.aggregate != "recency":
            value = f"coalesce(e.{short}_sum, 0)" if feature.time_to_live is None else f"e.{short}_sum"
            if window is not None:
                start = f"{at} - to_seconds({window * 86400!r})"
                aggregates.append(f"sum({weight}) FILTER (WHERE _at < {start}) AS {short}_{place}")
                value = f"{value} - coalesce(e.{short}_{place}, 0)"
        cells.append(f"CAST({value} AS DOUBLE) AS {quoted(name)}")
    return cells, aggregates


def _recent(market: Market, at: str) -> str:
    kinds = [event.name for event in market.events]
    largest = windows(market)
    within = " OR ".join(
        f"(_event = {text(name)} AND _at >= {at} - to_seconds({days * 86400!r}))" for name, days in largest.items()
    )
    codes = " ".join(f"WHEN {text(name)} THEN {kinds.index(name)}" for name in largest) or "WHEN '' THEN 0"
    number = f"epoch_us(_at) * {KINDS} + CASE _event {codes} END"
    return f"list_sort(list({number}) FILTER (WHERE {within or 'false'})) AS {RECENT}"
