"""Towers and rankers as files: in a bundle, and between the steps of a pipeline."""

from pathlib import Path

import numpy as np

from offers.contract.market import Market
from offers.errors import BundleError
from offers.model.boosters import LIBRARIES, library_of, read_booster
from offers.model.calibrator import Calibrator, Platt
from offers.retrieval.products import Products
from offers.retrieval.ranker import PairInputs, Ranker
from offers.retrieval.user_tower import Tower, Towers

BOOSTER = LIBRARIES["xgboost"].file
TOWER, PRODUCT_TOWER, VECTORS = "user_tower.onnx", "product_tower.onnx", "product_vectors.npy"
LINE, CALIBRATOR = "line.json", "calibrator.json"


def save_towers(towers: Towers | None, path: Path) -> None:
    """Write towers into a directory; nothing where there are none."""
    if towers is not None:
        (path / TOWER).write_bytes(towers.user.content)
        (path / PRODUCT_TOWER).write_bytes(towers.product.content)
        np.save(path / VECTORS, towers.products, allow_pickle=False)


def load_towers(path: Path) -> Towers | None:
    """Read what `save_towers` wrote."""
    if not (path / TOWER).exists():
        return None
    vectors = np.load(path / VECTORS, allow_pickle=False)
    user, product = (Tower((path / name).read_bytes()) for name in (TOWER, PRODUCT_TOWER))
    return Towers(user, product, vectors)


def save_ranker(ranker: Ranker, path: Path) -> None:
    """Write a ranker into a directory."""
    (path / BOOSTER).write_bytes(library_of(ranker.booster).dump(ranker.booster))
    (path / LINE).write_text(ranker.line.to_json(), "utf-8")
    (path / CALIBRATOR).write_text(ranker.calibrator.to_json(), "utf-8")


def load_ranker(path: Path, market: Market, products: Products) -> Ranker:
    """Read what `save_ranker` wrote.

    Raises
    ------
    BundleError
        a file is not what it has to be
    """
    booster = read_booster("xgboost", (path / BOOSTER).read_bytes(), path)
    line, calibrator = (Calibrator.from_json((path / file).read_text("utf-8")) for file in (LINE, CALIBRATOR))
    if not isinstance(line, Platt):
        raise BundleError(f"{path}: {LINE} is no line: train it again")
    return Ranker(PairInputs(market, products), booster, line, calibrator)
