"""The views of a market with what was known of the user then, and whether each ended in an acceptance."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray
from pyarrow import parquet

from offers.contract.market import Market
from offers.data.market_tables import opened, text
from offers.data.online import OnlineUsers
from offers.data.point_in_time import joined
from offers.errors import SourceError
from offers.model.encoder import fingerprint
from offers.retrieval.history import History, history_of
from offers.retrieval.manifest import MarketData
from offers.retrieval.products import Products, load_products, read_products

MICROSECONDS_PER_DAY = 86_400_000_000

_USER, _USERS, _PRODUCTS = "_user", "users.parquet", "products.parquet"

_FORMS = {"product": np.int32, "user": np.int32, "position": np.int32, "moment": np.int64, "accepted": np.bool_}


@dataclass(frozen=True, eq=False)
class Views:
    """Views in the order of their moments; arrays of length n, in files that are mapped into memory.

    Attributes
    ----------
    rows : ndarray, shape (n, columns), float32, what the online store would have held of the user at the moment
    number : places among all views
    history : of all views
    product : places in the table of products
    user : numbers of users, from 0 on
    position : in the list, from 1 on
    moment : microseconds since 1970
    accepted : whether the contract's `accepted` event followed in time
    users : the ids of all users, by number
    """

    rows: NDArray[np.float32]
    product: NDArray[np.int32]
    user: NDArray[np.int32]
    position: NDArray[np.int32]
    moment: NDArray[np.int64]
    accepted: NDArray[np.bool_]
    users: pa.Array
    number: NDArray[np.int64]
    history: History

    def __len__(self) -> int:
        return len(self.product)

    def __getitem__(self, places: slice | NDArray[np.int64]) -> "Views":
        return Views(
            self.rows[places],
            self.product[places],
            self.user[places],
            self.position[places],
            self.moment[places],
            self.accepted[places],
            self.users,
            self.number[places],
            self.history,
        )

    def viewed(self, count: int) -> NDArray[np.int32]:
        """List the products of the users' newest views before each view, as places; shape (n, count), -1 for none."""
        numbers = self.history.views(self.number, count)
        return np.where(numbers < 0, np.int32(-1), np.asarray(self.history.product[numbers]))

    def full(self, count: int) -> NDArray[np.float32]:
        """Build the rows of users as towers take them: `rows`, then the places that `viewed` lists, NaN for none."""
        return full_rows(np.asarray(self.rows), self.viewed(count))

    def data(self, products: int) -> MarketData:
        """Describe the views, for the manifest of a bundle."""
        first, last = (str(self.moment[place].astype("datetime64[us]"))[:19] for place in (0, -1))
        return MarketData(
            fingerprint=fingerprint(self.rows, self.accepted, self.product.astype(np.float64)),
            views=len(self),
            accepted=int(self.accepted.sum()),
            users=len(np.unique(self.user)),
            products=products,
            first=first,
            last=last,
        )


def views_of(
    rows: NDArray[np.float32],
    users: pa.Array,
    *,
    product: NDArray[np.int32],
    user: NDArray[np.int32],
    position: NDArray[np.int32],
    moment: NDArray[np.int64],
    accepted: NDArray[np.bool_],
) -> Views:
    """Build views from their columns, in the order of their moments."""
    history = history_of(product, user, moment)
    return Views(rows, product, user, position, moment, accepted, users, np.arange(len(product)), history)


def full_rows(rows: NDArray[np.float32], viewed: NDArray[np.integer]) -> NDArray[np.float32]:
    """Put the places of viewed products, -1 for none, behind rows of the online store."""
    return np.concatenate([rows, np.where(viewed < 0, np.nan, viewed)], axis=1, dtype=np.float32)


@contextmanager
def read_views(market: Market, directory: Path) -> Iterator[tuple[Views, Products]]:
    """Read the views of a market, and its products; what is read is gone afterwards.

    Raises
    ------
    SourceError
        as of `write_views`
    """
    with TemporaryDirectory(prefix=".views-", dir=directory) as scratch:
        write_views(market, directory, Path(scratch))
        # By now DuckDB has given its memory back.
        yield open_views(market, Path(scratch))


def write_views(market: Market, directory: Path, files: Path) -> int:
    """Write the views of a market, and its products, into the directory `files`; returns the number of views.

    An acceptance counts for the newest view before it by the same user, of the same product at the same position, if
    that is not older than the days of `accepted`.

    Raises
    ------
    SourceError
        a table is missing, can't be read or breaks the contract, or there are no views
    """
    with opened(market, directory, files) as connection:
        products = read_products(market, connection)
        products.write(files / _PRODUCTS)
        return _write(market, connection, products, files)


def open_views(market: Market, files: Path) -> tuple[Views, Products]:
    """Map into memory what `write_views` wrote."""
    arrays = {name: np.load(files / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("rows", *_FORMS)}
    users = parquet.read_table(files / _USERS)[_USER].combine_chunks()
    return views_of(**arrays, users=users), load_products(market, files / _PRODUCTS)


def _write(market: Market, connection: duckdb.DuckDBPyConnection, products: Products, files: Path) -> int:
    encoder = OnlineUsers(market).encoder
    connection.register("product_places", _numbered(products.ids))
    kind = f"_event = {text(market.events[0].name)}"
    views = f"SELECT e.* FROM events e WHERE {kind} AND _product IN (SELECT id FROM product_places)"
    try:
        distinct = f"SELECT DISTINCT {_USER} FROM ({views})"
        numbers = f"SELECT {_USER}, row_number() OVER (ORDER BY {_USER}) - 1 AS number FROM ({distinct})"
        connection.execute(f"CREATE TEMP TABLE user_numbers AS {numbers}")
        users = connection.sql(f"SELECT {_USER} FROM user_numbers ORDER BY number").to_arrow_table()
        parquet.write_table(users, files / _USERS)
        connection.execute(f"CREATE TEMP TABLE viewed AS {_labels(market, views)}")
        [(number,)] = connection.execute("SELECT count(*) FROM viewed").fetchall()
        if not number:
            raise SourceError(
                f"expected interactions of event {market.events[0].name!r} with known products, found none"
            )
        with ExitStack() as stack:
            others = {
                name: stack.enter_context(_array(files / f"{name}.npy", (number,), form))
                for name, form in _FORMS.items()
            }
            for batch in connection.sql("SELECT * FROM viewed").to_arrow_reader(100_000):
                for name, append in others.items():
                    append(batch.column(name).to_numpy(zero_copy_only=False))
        connection.execute("DROP TABLE viewed")
    except duckdb.Error as error:
        raise SourceError(f"the views can't be read: {str(error).splitlines()[0]}") from None
    # Both orders are by moment, user and product; a user has one row at a moment, so ties do not matter.
    with _array(files / "rows.npy", (number, len(encoder.names)), np.float32) as append:
        for table in joined(market, connection, views, ("user",)):
            append(encoder.encode(table))
    return int(number)


@contextmanager
def _array(path: Path, shape: tuple[int, ...], form: type[np.generic]) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Open a file of NumPy for an array that arrives in blocks of rows; memory holds one block."""
    with path.open("wb") as file:
        header = {"shape": shape, "fortran_order": False, "descr": dtype_to_descr(np.dtype(form))}
        write_array_header_1_0(file, header)

        def append(block: NDArray[Any]) -> None:
            file.write(np.ascontiguousarray(block, form).tobytes())

        yield append


def _labels(market: Market, views: str) -> str:
    """Write the SQL of views in the order of `joined`, with numbers for ids, and with labels."""
    acceptance = market.acceptance
    place = "coalesce(_position, 1)"
    keys = "a._user = v._user AND a._product = v._product AND a._place = v._place AND a._at >= v._at"
    accepted = f"SELECT _user, _product, {place} AS _place, _at FROM events WHERE _event = {text(acceptance.event)}"
    distinct = f"SELECT DISTINCT _user, _product, {place} AS _place, _at FROM viewed_events"
    led = (
        f"SELECT DISTINCT v._user, v._product, v._place, v._at FROM ({accepted}) a ASOF JOIN ({distinct}) v ON {keys}"
        f" WHERE a._at <= v._at + to_seconds({acceptance.matures_after_days * 86400!r})"
    )
    return (
        f"WITH viewed_events AS ({views}), led AS ({led}) "
        f"SELECT p.place AS product, n.number AS user, {place} AS position, epoch_us(r._at) AS moment,"
        " l._at IS NOT NULL AS accepted"
        " FROM viewed_events r JOIN product_places p ON r._product = p.id JOIN user_numbers n ON r._user = n._user"
        f" LEFT JOIN led l ON l._user = r._user AND l._product = r._product AND l._place = {place} AND l._at = r._at"
        " ORDER BY r._at, r._user, r._product"
    )


def _numbered(ids: list[str]) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.string()), "place": pa.array(range(len(ids)), pa.int32())})
