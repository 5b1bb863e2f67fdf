"""Which products may be recommended now."""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offers.data.market_tables import opened_products
from offers.errors import OffersError, SourceError
from offers.files import os_errors
from offers.retrieval.bundle import MarketBundle
from offers.retrieval.products import products_among, read_products
from serving.process.logs import log_event

_LOOK_SECONDS = 1.0


class ProductList:
    """The products of a bundle that are launched, and still stand in the market's table where that is named.

    Parameters
    ----------
    bundle : that was trained
    table : the market's table of products; it is read again when it changes, and where it can't be read the one before
        counts

    Attributes
    ----------
    bundle : the bundle, with the products of the table that were launched after the training

    Raises
    ------
    SourceError
        the table can't be read, or breaks the contract
    """

    def __init__(self, bundle: MarketBundle, table: Path | None = None) -> None:
        self.bundle = self._trained = bundle
        self._table = table
        self._offered = np.ones(len(bundle.product_ids), bool)
        self._changed, self._looked = -1.0, float("-inf")
        if table is not None:
            self._read(table)

    def available(self) -> NDArray[np.bool_]:
        """Say for each product of `bundle`, which may be another one now, whether it may be recommended."""
        self._look()
        return self._offered & (self.bundle.products.launched <= np.datetime64(time.time_ns() // 1000, "us"))

    def has(self, product: str) -> bool:
        """Whether there is such a product, in the trained bundle or in the table."""
        return product in self.bundle.products.places

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
        with opened_products(self._trained.market, table) as connection:
            products = read_products(self._trained.market, connection)
        ours, ids = self._trained.products.places, set(products.ids)
        new = products_among(products, ids - ours.keys())
        self.bundle = self._trained.with_products(new) if new.ids else self._trained
        self._offered = np.array([one in ids for one in self.bundle.product_ids])
        self._changed = changed
        log_event("products", offered=int(self._offered.sum()), gone=int((~self._offered).sum()), new=len(new.ids))
