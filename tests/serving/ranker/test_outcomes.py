import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from offers.contract.contract import Contract
from offers.decisions.pseudonym import Pseudonyms
from offers.decisions.records import OUTCOMES, QUARANTINE
from offers.decisions.segment import sealed
from offers.decisions.shipping import ship
from offers.decisions.spool import Spool, SpoolLimits
from offers.settings import Settings
from offers.store.delta import DeltaTables
from serving.protocol.dataplane import ServicePlane
from serving.protocol.kserve import PredictorConfig
from serving.protocol.openapi import document
from serving.protocol.rest import application
from serving.ranker.decision_log import DecisionLog
from serving.ranker.outcomes import EXAMPLE, MAX_OUTCOMES, PATH
from serving.ranker.ranker import Ranker
from tests.support.rankers import policy_of
from tests.support.warranties import WARRANTIES

GOOD = {"decision_id": "a", "kind": "accepted", "observed_at": "2024-03-01T10:00:00Z"}


def ranker(contract: Contract, directory: Path, most_bytes: int = 2**20) -> Ranker:
    spool = Spool(directory / "spool", "pod", SpoolLimits(most_bytes=most_bytes))
    log = DecisionLog(spool, Pseudonyms(bytes(32)), "refuse")
    config = PredictorConfig("127.0.0.1:9", "grpc-v2", False, 1, 1)
    return Ranker("offers", policy_of(contract, WARRANTIES), contract, config, decision_log=log)


def told(model: Ranker, body: Any) -> httpx.Response:
    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(application(ServicePlane([model])))
        async with httpx.AsyncClient(transport=transport, base_url="http://ranker") as client:
            return await client.post(PATH, content=body if isinstance(body, bytes) else orjson.dumps(body))

    return asyncio.run(post())


def test_outcomes_come_to_their_table_and_those_from_the_future_to_quarantine(
    shop_contract: Contract, tmp_path: Path
) -> None:
    model, tables = ranker(shop_contract, tmp_path), DeltaTables.at(str(tmp_path / "tables"), Settings())
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    batch = [GOOD, GOOD | {"decision_id": "b", "kind": "overridden", "why": "asked for a visit", "offer_id": "web"}]
    answer = told(model, {"outcomes": [*batch, GOOD | {"observed_at": tomorrow}]})
    assert (answer.status_code, answer.json()) == (200, {"logged": 3, "quarantined": 1})
    assert told(model, {"outcomes": batch}).json() == {"logged": 2, "quarantined": 0}
    assert model.decision_log is not None
    model.decision_log.spool.seal()
    assert [one.rows for one in ship(tmp_path / "spool", tables)] == [{OUTCOMES: 4, QUARANTINE: 1}]
    rows = tables.open(OUTCOMES).to_pyarrow_table().to_pylist()
    assert [(row["decision_id"], row["kind"], row["offer_id"], row["why"]) for row in rows] == [
        ("a", "accepted", None, None),
        ("b", "overridden", "web", "asked for a visit"),
    ] * 2
    assert {row["observed_at"] for row in rows} == {datetime(2024, 3, 1, 10, tzinfo=UTC)}
    assert rows[0]["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "the body: expected JSON in UTF-8"),
        ([GOOD], 400, "the body: expected a JSON object"),
        ({"outcomes": GOOD}, 400, "the body: expected a list of objects as 'outcomes' alone"),
        ({"outcomes": [GOOD], "more": 1}, 400, "the body: expected a list of objects as 'outcomes' alone"),
        ({"outcomes": []}, 400, f"'outcomes': expected 1 to {MAX_OUTCOMES} in a request, got none"),
        ({"outcomes": [GOOD] * (MAX_OUTCOMES + 1)}, 413, f"got {MAX_OUTCOMES + 1}"),
        ({"outcomes": [GOOD, 7]}, 400, "'outcomes', row 2: expected an object, got 7"),
        ({"outcomes": [GOOD, GOOD | {"kind": "bought"}]}, 400, "'outcomes', row 2: field 'kind': expected presented"),
        ({"outcomes": [GOOD | {"kind": {}}]}, 400, "'outcomes', row 1: field 'kind': expected text"),
        ({"outcomes": [GOOD | {"customer": "Maria"}]}, 400, "field 'customer': expected decision_id"),
    ],
)
def test_a_wrong_batch_is_refused_whole(
    body: Any, status: int, said: str, shop_contract: Contract, tmp_path: Path
) -> None:
    model = ranker(shop_contract, tmp_path)
    answer = told(model, body)
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_full_spool_takes_none(shop_contract: Contract, tmp_path: Path) -> None:
    answer = told(ranker(shop_contract, tmp_path, most_bytes=10), {"outcomes": [GOOD]})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert sealed(tmp_path / "spool") == []


def test_the_document_tells_of_the_route_where_decisions_are_logged(shop_contract: Contract, tmp_path: Path) -> None:
    model = ranker(shop_contract, tmp_path)
    assert PATH in document([model])["paths"]
    assert told(model, EXAMPLE).status_code == 200
    config = PredictorConfig("127.0.0.1:9", "grpc-v2", False, 1, 1)
    without = Ranker("offers", policy_of(shop_contract, WARRANTIES), shop_contract, config)
    assert PATH not in document([without])["paths"]
    assert told(without, EXAMPLE).status_code == 404
