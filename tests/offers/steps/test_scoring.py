"""The steps of the scoring pipeline, each called in this process."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable
from pyarrow import parquet

from offers.errors import CatalogueError, DataError, LedgerError, OffersError, SourceError
from offers.governance import release as releases
from offers.governance.entries import ApprovalTerms, GateJudged, ReleaseMade
from offers.settings import Settings
from offers.steps import scoring
from offers.store.directory import DirectoryStore
from tests.support.ledgers import Bank
from tests.support.warranties import WARRANTIES

CUSTOMERS = 400


@pytest.fixture
def customers(tmp_path: Path) -> Path:
    generator, path = np.random.default_rng(0), tmp_path / "customers.parquet"
    columns = {
        "customer_id": [f"c{number}" for number in range(CUSTOMERS)],
        "spending": generator.uniform(0, 2000, CUSTOMERS).round(2),
        "visits": generator.integers(0, 20, CUSTOMERS),
        "region": generator.choice(["north", "south"], CUSTOMERS),
        "member": generator.choice([0, 1], CUSTOMERS),
        "rating": np.where(generator.random(CUSTOMERS) < 0.1, np.nan, 3.5),
    }
    pd.DataFrame(columns).to_parquet(path, index=False)
    return path


def told(text: str) -> None:
    assert text


def shards(places: tuple[str, str, str, str], count: int, settings: Settings) -> tuple[list[str], list[int]]:
    orders = scoring.plan(places, count, "{pairs: true, rows: 50}", settings, told)
    numbers = []
    # The last shard comes first: no shard waits for another.
    for order in reversed(orders):
        result = settings.home / "result"
        settings.home.mkdir(exist_ok=True)
        scoring._score(order, result, settings, told)
        numbers.append(int(result.read_text()))
    return orders, numbers


def test_shards_make_the_table_of_one_run_and_a_summary_of_it(
    offers: Callable[..., tuple[int, str, str]], settings: Settings, tmp_path: Path, shop_bundle: Path, customers: Path
) -> None:
    whole, parts, table = (str(tmp_path / name) for name in ("whole", "parts", "table.delta"))
    (tmp_path / "warranties.yaml").write_text(WARRANTIES)
    asked = "--bundle", shop_bundle, "--catalogue", tmp_path / "warranties.yaml", "--pairs", "--rows", 50
    assert offers("score", customers, whole, *asked)[0] == 0
    rows = pd.concat([parquet.read_table(path).to_pandas() for path in sorted(Path(whole).glob("*.parquet"))])
    for output in (parts, table):
        places = str(shop_bundle), str(customers), output, WARRANTIES
        orders, numbers = shards(places, 3, settings)
        # Parts of 50: eight for three shards.
        assert sorted(numbers) == [100, 150, 150]
        volumes = scoring.summarise(orders, numbers, tmp_path / "out", tmp_path / "page.html", settings, told)
        firsts = rows[rows["rank"] == 1]
        assert (volumes.customers, volumes.answered) == (CUSTOMERS, len(firsts))
        assert {entry.offer: entry.first for entry in volumes.offers if entry.first} == dict(
            firsts["offer"].astype(str).value_counts()
        )
        for entry in volumes.offers:
            mine = firsts[firsts["offer"] == entry.offer]
            assert entry.propensity == (pytest.approx(mine["propensity"].mean()) if len(mine) else None)
            assert entry.answers == (rows["offer"] == entry.offer).sum()
        assert sum(volumes.bins) == volumes.answered
        assert sum(volumes.reference_bins) == volumes.reference_answered
        # These customers are drawn as the bundle's own were.
        assert volumes.psi is not None
        assert volumes.psi < 0.1
        assert "These customers score as the reference does" in (tmp_path / "page.html").read_text()
        assert json.loads((tmp_path / "out" / "summary.json").read_text())["customers"] == CUSTOMERS
    pd.testing.assert_frame_equal(
        pd.concat([parquet.read_table(path).to_pandas() for path in sorted(Path(parts).glob("*.parquet"))]), rows
    )
    delta = DeltaTable(table).to_pandas().astype({"offer": str})
    keys = ["customer", "rank", "offer", "score", "propensity"]
    pd.testing.assert_frame_equal(
        delta[keys].sort_values(keys[:2], ignore_index=True),
        rows.astype({"offer": str})[keys].sort_values(keys[:2], ignore_index=True),
    )
    code, _, complaint = offers("score", customers, parts, *asked)
    assert (code, "was begun with shards 3, and this run has 1" in complaint) == (2, True)


def test_a_shard_that_is_missing_is_noticed_and_one_that_was_scored_is_not_scored_again(
    settings: Settings, tmp_path: Path, shop_bundle: Path, customers: Path
) -> None:
    for output in (str(tmp_path / "parts"), str(tmp_path / "table.delta")):
        places = str(shop_bundle), str(customers), output, WARRANTIES
        orders = scoring.plan(places, 2, "", settings, told)
        settings.home.mkdir(exist_ok=True)
        said = list[str]()
        for _ in range(2):
            scoring._score(orders[0], settings.home / "result", settings, said.append)
        assert [line.partition(": ")[2] for line in said if "earlier" in line] == [
            "200 customers (0 of them by an earlier run), 1 parts",
            "200 customers (200 of them by an earlier run), 1 parts",
        ]
        with pytest.raises(DataError, match="expected a complete scored table"):
            scoring.summarise(orders, [200], tmp_path / "out", tmp_path / "page.html", settings, told)


def test_the_champion_scores_with_its_own_catalogue(
    settings: Settings, tmp_path: Path, shop_bundle: Path, customers: Path
) -> None:
    store = DirectoryStore(settings.home)
    release = releases.make(tmp_path / "made", shop_bundle, WARRANTIES)
    releases.store_release(store, release)
    places = "champion:shop", str(customers), str(tmp_path / "parts"), ""
    with pytest.raises(LedgerError, match=r"expected a contract with a champion \(none\), got 'shop'"):
        scoring.plan(places, 2, "", settings, told)
    bank = Bank(store)
    bank.write("trainer", GateJudged(contract="shop", bundle=release.bundle.name, passed=True, evidence={}))
    names = {"bundle": release.bundle.name, "catalogue": release.manifest.catalogue}
    terms = ApprovalTerms(people=2, days=90)
    bank.write("trainer", ReleaseMade(release=release.name, contract="shop", evidence={}, terms=terms, **names))
    bank.approve(release.name)
    bank.promote(release.name)
    orders, numbers = shards(places, 2, settings)
    assert {json.loads(order)["bundle"] for order in orders} == {f"release:{release.name}"}
    scoring.summarise(orders, numbers, tmp_path / "out", tmp_path / "page.html", settings, told)
    table = parquet.read_table(tmp_path / "parts" / "part-000001.parquet").to_pandas()
    assert {name: str(table[name].iloc[0]) for name in names} == names


def test_a_schedule_makes_a_table_a_day(settings: Settings, tmp_path: Path, shop_bundle: Path, customers: Path) -> None:
    places = str(shop_bundle), str(customers), str(tmp_path / "scored-{date}"), WARRANTIES
    before = datetime.now(UTC)
    order, after = json.loads(scoring.plan(places, 1, "", settings, told)[0]), datetime.now(UTC)
    assert order["output"] in [str(tmp_path / f"scored-{day:%Y-%m-%d}") for day in (before, after)]


@pytest.mark.parametrize(
    ("change", "error", "complaint"),
    [
        ({"customers": "absent.parquet"}, SourceError, "absent.parquet"),
        ({"catalogue": "absent"}, CatalogueError, "'absent'"),
        ({"shards": 0}, DataError, "shards: expected 1 to 1000, got 0"),
        ({"options": "{pears: true}"}, DataError, "pears"),
        ({"options": "{k: 0}"}, DataError, "k: expected at least 1, got 0"),
        ({"customers": "postgresql://me:secret@bank/db"}, OffersError, "password"),
    ],
)
def test_a_plan_is_refused_before_any_shard_begins(
    change: dict[str, str],
    error: type[OffersError],
    complaint: str,
    settings: Settings,
    tmp_path: Path,
    shop_bundle: Path,
    customers: Path,
) -> None:
    asked = {"customers": str(customers), "catalogue": WARRANTIES, "shards": 2, "options": ""} | change
    places = str(shop_bundle), str(asked["customers"]), str(tmp_path / "out"), str(asked["catalogue"])
    with pytest.raises(error, match=complaint):
        scoring.plan(places, int(asked["shards"]), str(asked["options"]), settings, told)
    assert not (tmp_path / "out").exists()
