"""Writes the bundle of a market: whole or not at all, and verified before it is moved into place."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from offers.bundle.directory import MANIFEST, settle
from offers.bundle.location import name_of
from offers.bundle.provenance import git_commit, libraries, version_of
from offers.bundle.writing import evenly
from offers.contract import market as markets
from offers.drift.reference import SCORE
from offers.files import os_errors, sha256_of
from offers.retrieval.bundle import FORMAT, Floats, MarketBundle, Places
from offers.retrieval.golden import golden_json
from offers.retrieval.manifest import MarketData, MarketManifest
from offers.retrieval.model_files import save_ranker, save_towers
from offers.retrieval.nearest import SCORES, highest
from offers.retrieval.popularity import Popularity
from offers.retrieval.product_index import EXACT, FILE, ProductIndex
from offers.retrieval.products import Products, values_of
from offers.retrieval.ranker import Ranker
from offers.retrieval.user_tower import Towers

GOLDEN_USERS, GOLDEN_PRODUCTS = 16, 50
REFERENCE_USERS = 10_000


@dataclass(frozen=True, eq=False)
class MarketModels:
    """What training made. `users` are rows of users from the training data, in time order."""

    products: Products
    ranker: Ranker
    popularity: Popularity
    towers: Towers | None
    users: NDArray[np.float32]


def write(parent: Path, market_text: str, models: MarketModels, data: MarketData, seed: int, evaluation: str) -> Path:
    """Write a bundle below `parent`, and verify it by loading it.

    Parameters
    ----------
    evaluation : the evaluation, as JSON

    Returns
    -------
    Path
        the bundle's directory; an existing bundle of that name is verified and left as it is

    Raises
    ------
    StorageError
        the directory can't be written
    """
    market = markets.parse(market_text)
    with os_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=parent))
        try:
            _write_models(partial, market_text, models)
            (partial / "evaluation.json").write_text(evaluation, "utf-8")
            _write_samples(partial, models)
            used = ["onnxruntime"] * bool(models.towers) + ["faiss-cpu"] * (partial / FILE).exists()
            manifest = MarketManifest(
                format=FORMAT,
                contract=market.name,
                files={path.name: sha256_of(path) for path in sorted(partial.iterdir())},
                data=data,
                seed=seed,
                retrieval="towers" if models.towers else "none",
                libraries=libraries() | {name: version_of(name) for name in used},
                git_commit=git_commit(),
            ).to_bytes()
            (partial / MANIFEST).write_bytes(manifest)
            return settle(partial, parent / name_of(manifest, market.name), MarketBundle.load)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _write_models(path: Path, market_text: str, models: MarketModels) -> None:
    (path / "market.yaml").write_text(market_text, "utf-8")
    models.products.write(path / "products.parquet")
    save_ranker(models.ranker, path)
    save_towers(models.towers, path)
    if models.towers and len(models.products.ids) > EXACT:
        value = values_of(markets.parse(market_text), models.products)
        worth = models.towers.worth(models.ranker.line.slope, value)
        (path / FILE).write_bytes(ProductIndex.build(worth.products).content)
    np.save(path / "popularity.npy", models.popularity.counts, allow_pickle=False)


def _write_samples(path: Path, models: MarketModels) -> None:
    """Write the golden rows, and a sample of users for drift with their propensity for the product that fits best."""
    golden = models.users[evenly(len(models.users), GOLDEN_USERS)]
    products, affinity = _first(models, golden, GOLDEN_PRODUCTS)
    propensity = models.ranker.propensity(golden, products, affinity)
    (path / "golden.json").write_text(golden_json(golden, products, affinity, propensity), "utf-8")

    users = models.users[evenly(len(models.users), REFERENCE_USERS)]
    score = models.ranker.propensity(users, *_first(models, users, 1))[:, 0]
    names = [*models.ranker.inputs.users.names]
    names += [f"_viewed_{number}" for number in range(users.shape[1] - len(names))]
    cells = {name: pa.array(users[:, place]) for place, name in enumerate(names)} | {SCORE: pa.array(score)}
    parquet.write_table(pa.table(cells), path / "reference.parquet")


def _first(models: MarketModels, users: Floats, count: int) -> tuple[Places, Floats | None]:
    """Find the products that fit users best, with their affinity; without towers the most popular ones."""
    if models.towers is None:
        popular = highest(models.popularity.scores()[None], count)
        return np.tile(popular, (len(users), 1)), None
    step = max(1, SCORES // len(models.products.ids))
    found = []
    for start in range(0, len(users), step):
        affinity = models.towers.affinity(users[start : start + step])
        products = highest(affinity, count)
        found.append((products, np.take_along_axis(affinity, products, axis=1)))
    places, affinities = (np.concatenate(part) for part in zip(*found, strict=True))
    return places, affinities
