"""The products of a market as the models see them."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from offers.contract.market import Market
from offers.data.market_tables import quoted
from offers.data.snapshot import code_of
from offers.errors import BundleError, SourceError
from offers.model import encoder
from offers.model.encoder import Encoder

_ID, _LAUNCHED = "_id", "_launched"


def product_encoder(market: Market) -> Encoder:
    """The encoder of the columns of role offer."""
    columns = market.product_columns
    return Encoder(tuple(encoder.Feature(one.name, one.values, one.unknown == "missing") for one in columns))


@dataclass(frozen=True, eq=False)
class Products:
    """The products' table as of training, sorted by id. A product's place in it is its number everywhere.

    Attributes
    ----------
    ids : of length n_products
    launched : ndarray of datetime64[us], shape (n_products,), the moments of the first rows
    matrix : ndarray, shape (n_products, columns), float32, the encoder's rows; NaN where missing
    """

    encoder: Encoder
    ids: list[str]
    launched: NDArray[np.datetime64]
    matrix: NDArray[np.float32]

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each id."""
        return {one: place for place, one in enumerate(self.ids)}

    def places_of(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find the places of products by `offers.data.snapshot.code_of`; -1 for one that is not here."""
        known, places = self._codes
        if not codes.size:
            return codes
        found = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        return np.where(known[found] == codes, places[found], -1)

    @cached_property
    def _codes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The codes of products in ascending order, and the place of each."""
        codes = np.array([code_of(one) for one in self.ids], np.int64)
        order = np.argsort(codes, kind="stable")
        return codes[order], order

    @cached_property
    def columns(self) -> dict[str, NDArray[Any]]:
        """The values of each column: numbers, NaN where missing, or words, None where missing."""
        out: dict[str, NDArray[Any]] = {}
        for place, feature in enumerate(self.encoder.features):
            values = self.matrix[:, place]
            if feature.values:
                codes = np.nan_to_num(values, nan=len(feature.values)).astype(np.intp)
                out[feature.name] = np.array([*feature.values, None], object)[codes]
            else:
                out[feature.name] = values.astype(np.float64)
        return out

    def write(self, path: Path) -> None:
        cells = {_ID: pa.array(self.ids, pa.string()), _LAUNCHED: pa.array(self.launched)}
        cells |= {name: pa.array(self.matrix[:, place]) for place, name in enumerate(self.encoder.names)}
        parquet.write_table(pa.table(cells), path)


def read_products(market: Market, connection: duckdb.DuckDBPyConnection) -> Products:
    """Take the newest row of each product.

    Parameters
    ----------
    connection : a connection of `market_tables.opened`

    Raises
    ------
    SourceError
        the table can't be read, or is empty
    """
    columns = [quoted(column.name) for column in market.product_columns]
    newest = ", ".join(f"arg_max({name}, _since) AS {name}" for name in columns)
    query = f"SELECT _key, min(_since) AS _since, {newest} FROM products GROUP BY _key ORDER BY _key"
    try:
        table = connection.sql(query).to_arrow_table()
    except duckdb.Error as error:
        raise SourceError(f"the products can't be read: {str(error).splitlines()[0]}") from None
    if not len(table):
        raise SourceError(f"{market.products.file}: expected at least one product, found none")
    rows = product_encoder(market)
    launched = table["_since"].to_numpy().astype("datetime64[us]")
    return Products(rows, table["_key"].to_pylist(), launched, rows.encode(table))


def products_among(products: Products, ids: Collection[str]) -> Products:
    """Take the products of some ids."""
    places = np.array([place for place, one in enumerate(products.ids) if one in ids], np.intp)
    own = [products.ids[place] for place in places]
    return Products(products.encoder, own, products.launched[places], products.matrix[places])


def load_products(market: Market, path: Path) -> Products:
    """Read what `Products.write` wrote.

    Raises
    ------
    BundleError
        the file is of another market
    """
    rows, table = product_encoder(market), parquet.read_table(path)
    if table.column_names != [_ID, _LAUNCHED, *rows.names]:
        raise BundleError(f"{path}: its columns are {', '.join(table.column_names)}, not those of {market.name}")
    matrix = np.column_stack([table[name].to_numpy() for name in rows.names]).astype(np.float32)
    return Products(rows, table[_ID].to_pylist(), table[_LAUNCHED].to_numpy().astype("datetime64[us]"), matrix)


def values_of(market: Market, products: Products) -> NDArray[np.float64]:
    """The margin of an acceptance of each product, shape (n_products,); 0 where it is missing."""
    if market.value is None:
        return np.ones(len(products.ids))
    return np.nan_to_num(products.columns[market.value].astype(np.float64))
