"""Which products may be recommended now."""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
from numpy.typing import NDArray
from pyarrow import parquet

from offers.errors import OffersError, SourceError
from offers.files import os_errors
from offers.retrieval.bundle import MarketBundle
from serving.process.logs import log_event

_LOOK_SECONDS = 1.0


class ProductList:
    """The products of a bundle that are launched, and still stand in the market's table where that is named.

    Parameters
    ----------
    bundle : names the products that can be scored
    table : the market's table of products; it is read again when it changes, and where it can't be read the one before
        counts

    Raises
    ------
    SourceError
        the table can't be read
    """

    def __init__(self, bundle: MarketBundle, table: Path | None = None) -> None:
        self._bundle, self._table = bundle, table
        self._launched = bundle.products.launched
        self._offered = np.ones(len(bundle.product_ids), bool)
        self._others = frozenset[str]()
        self._changed, self._looked = -1.0, float("-inf")
        if table is not None:
            self._read(table)

    def available(self) -> NDArray[np.bool_]:
        """Say for each product of the bundle whether it may be recommended, shape (n_products,)."""
        self._look()
        return self._offered & (self._launched <= np.datetime64(time.time_ns() // 1000, "us"))

    def has(self, product: str) -> bool:
        """Whether there is such a product, in the bundle or in the table."""
        return product in self._bundle.products.places or product in self._others

    def _look(self) -> None:
        now = time.monotonic()
        if self._table is None or now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        try:
            self._read(self._table)
        except OffersError as error:
            log_event("the table of products can't be read; the one before counts", reason=str(error))

    def _read(self, table: Path) -> None:
        with os_errors(table, SourceError):
            changed = table.stat().st_mtime
            if changed == self._changed:
                return
            ids = _ids(table, self._bundle.market.products.key)
        self._offered = np.array([one in ids for one in self._bundle.product_ids])
        self._others = frozenset(ids - self._bundle.products.places.keys())
        self._changed = changed
        log_event("products", offered=int(self._offered.sum()), gone=int((~self._offered).sum()), new=len(self._others))


def _ids(path: Path, key: str) -> set[str]:
    try:
        if path.suffix == ".parquet":
            column = parquet.read_table(path, columns=[key])[key]
        else:
            options = arrow_csv.ConvertOptions(column_types={key: pa.string()}, include_columns=[key])
            column = arrow_csv.read_csv(path, convert_options=options)[key]
    except (pa.ArrowException, KeyError) as error:
        raise SourceError(f"{path}: expected a table of products with the column {key!r}: {error}") from None
    return {str(one) for one in column.to_pylist()}
