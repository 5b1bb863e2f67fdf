"""What a caller may send by the services' own OpenAPI documents, on the wire: nothing is a fault of ours or a wrong
answer.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from scipy.special import expit

from offers.bundle import bundle as bundles
from offers.bundle.bundle import Bundle
from offers.contract.contract import Contract
from offers.policy import catalogue as catalogues
from offers.policy.catalogue import Offer
from serving.local import Services, services
from tests.support.services import DEADLINE
from tests.support.warranties import WARRANTIES

PREDICT, EXPLAIN, INFER = "/v1/models/offers:predict", "/v1/models/offers:explain", "/v2/models/offers/infer"
FLAGS = dict.fromkeys(("true", "t", "yes", "y", "on", "1"), 1.0) | dict.fromkeys(
    ("false", "f", "no", "n", "off", "0"), 0.0
)
EXAMPLES = [20, pytest.param(100, marks=pytest.mark.slow)]
CONFIG = """\
[checks]
negative_data_rejection.expected-statuses = [400, 404, 405, 413, 415]

[[operations]]
include-path-regex = '{unsaid}'
checks.positive_data_acceptance.enabled = false
"""
# What a JSON schema can't say, so that a request may fit it and be refused: each tensor has as many values as its shape
# says; each customer stands once in a request, by a name of characters that this Python knows.
UNSAID = {"predictor": "/infer$", "ranker": "/infer$|:predict$"}


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalogue") / "warranties.yaml"
    path.write_text(WARRANTIES)
    return path


@pytest.fixture(scope="module")
def running(shop_bundle: Path, catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with services(shop_bundle, str(catalogue), tmp_path_factory.mktemp("logs")) as running:
        yield running


@pytest.fixture(scope="module")
def bundle(shop_bundle: Path) -> Bundle:
    return bundles.load(shop_bundle)


@pytest.fixture(scope="module")
def offers(shop_contract: Contract) -> dict[str, Offer]:
    return {offer.id: offer for offer in catalogues.parse(WARRANTIES, shop_contract).offers}


@pytest.fixture(scope="module")
def predictor(running: Services) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.predictor.url, timeout=DEADLINE) as client:
        yield client


@pytest.fixture(scope="module")
def ranker(running: Services) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.ranker.url, timeout=DEADLINE) as client:
        yield client


@pytest.fixture(scope="module")
def rows(predictor: httpx.Client) -> st.SearchStrategy[dict[str, Any]]:
    return bodies(predictor)


@pytest.fixture(scope="module")
def questions(ranker: httpx.Client) -> st.SearchStrategy[dict[str, Any]]:
    return bodies(ranker).map(said)


def bodies(service: httpx.Client) -> st.SearchStrategy[dict[str, Any]]:
    """Requests that fit what the service says of itself."""
    api = schemathesis.openapi.from_dict(service.get("/openapi.json").json(), config=SchemathesisConfig.from_dict({}))
    return api[PREDICT]["POST"].as_strategy().map(lambda case: case.body)


def said(question: dict[str, Any]) -> dict[str, Any]:
    """The question with what its schema can't say."""
    customers: dict[str, dict[str, Any]] = {}
    for customer in question["instances"]:
        name = "".join(letter if letter.isprintable() else "-" for letter in customer["customer_id"])
        customers[name] = customer | {"customer_id": name}
    return {"instances": list(customers.values())}


def ask(service: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    answer = service.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.slow
@pytest.mark.parametrize("name", UNSAID)
def test_a_service_keeps_to_its_document(name: Any, running: Services, tmp_path: Path) -> None:
    """Each status, header, content type and answer is declared; what fits is answered, and what does not is refused."""
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG.format(unsaid=UNSAID[name]))
    command = [Path(sys.executable).parent / "schemathesis", "--config-file", config, "run", "--no-color"]
    bounds = ["--generation-deterministic", "--phases", "examples,coverage,fuzzing", "--max-examples", "50"]
    address = f"{getattr(running, name).url}/openapi.json"
    done = subprocess.run([*command, *bounds, address], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def flag(word: str) -> float:
    return FLAGS[word.strip().lower()]


def typed(rows: list[dict[str, Any]], contract: Contract) -> dict[str, np.ndarray]:
    """Rows as columns of words and numbers, with None and NaN for what is missing, written down by hand."""

    def word(value: Any) -> str | None:
        return value if value in ("mail", "phone", "web", "north", "south") else None

    def number(value: Any) -> float:
        if isinstance(value, str) and value.strip().lower() in FLAGS:
            return flag(value)
        return np.nan if value in (None, "?") else float(value)

    read = {column.name: word if column.type == "category" else number for column in contract.inputs}
    columns = {name: [each(row[name]) for row in rows] for name, each in read.items()}
    columns["visits"] = [np.nan if value == 99 else value for value in columns["visits"]]
    return {name: np.array(columns[name], object if each is word else np.float64) for name, each in read.items()}


def tensors(columns: dict[str, list[Any]]) -> dict[str, Any]:
    """A V2 request; numbers, booleans among them, as FP64, and text as BYTES."""

    def tensor(name: str, values: list[Any]) -> dict[str, Any]:
        as_text = any(isinstance(value, str) for value in values) or name in ("region", "as_of", "offers")
        data = values if as_text else [None if value is None else float(value) for value in values]
        return {"name": name, "datatype": "BYTES" if as_text else "FP64", "shape": [len(values)], "data": data}

    return {"inputs": [tensor(name, values) for name, values in columns.items()]}


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """The row as tensors say it: no word stands for a number, and a column of text holds words alone."""
    region, member = row["region"], row["member"]
    return row | {
        "visits": None if row["visits"] == "?" else row["visits"],
        "region": region if isinstance(region, str) else None,
        "member": flag(member) if isinstance(member, str) else member,
    }


@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_propensity_is_the_bundles_own(
    examples: Any, predictor: httpx.Client, bundle: Bundle, rows: st.SearchStrategy[dict[str, Any]]
) -> None:
    @settings(max_examples=examples)
    @given(rows)
    def holds(body: dict[str, Any]) -> None:
        expected = bundle.model.propensity(typed(body["instances"], bundle.contract)).tolist()
        assert ask(predictor, PREDICT, body) == {"predictions": expected}
        said = [plain(row) for row in body["instances"]]
        columns = {column.name: [row[column.name] for row in said] for column in bundle.contract.inputs}
        assert ask(predictor, INFER, tensors(columns))["outputs"][0]["data"] == expected

    holds()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_an_explanation_adds_up(
    examples: Any, predictor: httpx.Client, bundle: Bundle, rows: st.SearchStrategy[dict[str, Any]]
) -> None:
    @settings(max_examples=examples)
    @given(rows)
    def holds(body: dict[str, Any]) -> None:
        answer = ask(predictor, EXPLAIN, body)
        expected = bundle.model.propensity(typed(body["instances"], bundle.contract)).tolist()
        assert [one["propensity"] for one in answer["explanations"]] == expected
        for one in answer["explanations"]:
            assert one["bias"] + sum(one["contributions"].values()) == pytest.approx(one["margin"], abs=1e-4)
            log_odds = one["margin"]
            assert expit(log_odds) == pytest.approx(one["propensity"], abs=1e-6)

    holds()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_ranking_is_whole_and_in_order(
    examples: Any, ranker: httpx.Client, questions: st.SearchStrategy[dict[str, Any]], offers: dict[str, Offer]
) -> None:
    @settings(max_examples=examples)
    @given(questions)
    def holds(body: dict[str, Any]) -> None:
        answers = ask(ranker, PREDICT, body)["predictions"]
        assert [answer["customer_id"] for answer in answers] == [one["customer_id"] for one in body["instances"]]
        for customer, answer in zip(body["instances"], answers, strict=True):
            ranked, everything = answer["offers"], answer["offers"] + answer["withheld"]
            assert sorted(one["offer_id"] for one in everything) == sorted(set(customer.get("offers") or offers))
            assert [one["rank"] for one in ranked] == list(range(1, len(ranked) + 1))
            assert len(ranked) <= (customer.get("k") or 2)
            scores = [one["score"] for one in ranked]
            assert scores == sorted(scores, reverse=True)
            assert all(score >= 0 for score in scores)
            assert sum(one["action_probability"] for one in everything) == pytest.approx(1 if ranked else 0)

    holds()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_ranked_offer_has_the_bundles_propensity_and_its_score(
    examples: Any,
    ranker: httpx.Client,
    bundle: Bundle,
    questions: st.SearchStrategy[dict[str, Any]],
    offers: dict[str, Offer],
) -> None:
    seen = set()

    @settings(max_examples=examples)
    @given(questions)
    def holds(body: dict[str, Any]) -> None:
        answers = zip(body["instances"], ask(ranker, PREDICT, body)["predictions"], strict=True)
        ranked = [(asked["customer"] | asked["context"], one) for asked, answer in answers for one in answer["offers"]]
        rows = [known | offers[one["offer_id"]].attributes for known, one in ranked]
        propensities = bundle.model.propensity(typed(rows, bundle.contract)) if rows else ()
        for (known, one), propensity in zip(ranked, propensities, strict=True):
            offer = offers[one["offer_id"]]
            assert one["propensity"] == propensity
            weight = 2 if offer.id == "full" and (known["rating"] or 0) >= 4 else 1
            expected = propensity * weight * offer.value * offer.lever - offer.cost
            assert one["score"] == pytest.approx(expected)
            seen.add(offer.id)

    holds()
    assert len(seen) > 1


def places(k: int | None) -> int | None:
    """As many places as asked for, or what a tensor of doubles can say of more: no offer is lost by it."""
    return k if k is None else min(k, 2**53 - 1)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_v2_ranks_as_v1_does(examples: Any, ranker: httpx.Client, questions: st.SearchStrategy[dict[str, Any]]) -> None:
    @settings(max_examples=examples)
    @given(questions)
    def holds(body: dict[str, Any]) -> None:
        customers = body["instances"]
        known = [plain(customer["customer"] | customer["context"]) for customer in customers]
        fields = {
            "customer_id": [customer["customer_id"] for customer in customers],
            "k": [places(customer.get("k")) for customer in customers],
            "as_of": [customer.get("as_of") or "" for customer in customers],
            "offers": [",".join(customer.get("offers") or ()) for customer in customers],
        }
        answer = ask(ranker, INFER, tensors(fields | {name: [row[name] for row in known] for name in known[0]}))
        told = [json.loads(decision) for decision in answer["outputs"][0]["data"]]
        expected = ask(ranker, PREDICT, body)["predictions"]
        same = ("customer_id", "versions", "fallback", "offers", "withheld")
        assert [[one[key] for key in same] for one in told] == [[one[key] for key in same] for one in expected]

    holds()
