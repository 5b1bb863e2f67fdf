"""Reproduces a market's decisions from the log: the same answer to the byte, by the policy that the log keeps."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from offers.contract import market as markets
from offers.data.online import OnlineUsers
from offers.errors import DataError
from offers.retrieval.answer import written
from offers.retrieval.arbitration import MarketPolicy
from offers.retrieval.bundle import MarketBundle
from offers.retrieval.products import Products, product_encoder, products_among
from offers.retrieval.views import full_rows

VIEWED = "_viewed"
"""The input with the products that the user viewed, among the inputs of a logged decision."""

_COMPUTED = ("offers", "withheld", "withheld_by_reason")
"""The fields of an answer that the policy computes; the others are facts of the moment."""


def catalogue_of(policy: MarketPolicy) -> tuple[str, str]:
    """Write a policy's products as JSON; returns name and version of contract and products together, and the JSON."""
    matrix = [[None if np.isnan(value) else float(value) for value in row] for row in policy.products.matrix]
    text = json.dumps({"ids": policy.products.ids, "matrix": matrix}, separators=(",", ":"))
    version = hashlib.sha256(f"{policy.market.digest} {text}".encode()).hexdigest()
    return f"{policy.market.name}-{version[:12]}", text


def policy_of(market_text: str, catalogue_text: str) -> MarketPolicy:
    """Read a policy back.

    Parameters
    ----------
    market_text : the contract of the market, as JSON or YAML
    catalogue_text : as `catalogue_of` writes it
    """
    market, content = markets.parse(market_text, "the log's market"), orjson.loads(catalogue_text)
    encoder, matrix = product_encoder(market), np.array(content["matrix"], np.float32)
    launched = np.full(len(matrix), np.datetime64("NaT", "us"))
    return MarketPolicy(market, Products(encoder, content["ids"], launched, matrix))


def redo(rows: Iterable[Mapping[str, Any]], policies: Mapping[str, MarketPolicy]) -> list[str]:
    """Make decisions again; returns the ids of those that come out otherwise.

    Parameters
    ----------
    rows : rows of the log's table of decisions, with their inputs
    policies : by the name and version that decisions record

    Raises
    ------
    DataError
        a policy is missing, or a decision names a product that its policy lacks
    """
    return [row["decision_id"] for row in rows if row["answer"].encode() != _answer(row, policies)]


def rescore(
    rows: Iterable[Mapping[str, Any]], policies: Mapping[str, MarketPolicy], bundle: MarketBundle
) -> NDArray[np.float64]:
    """Score the ranked decisions of a bundle again; returns by how much each logged propensity differs.

    Raises
    ------
    DataError
        a policy is missing, or a decision names a product that its policy lacks
    """
    whole = dict[str, MarketBundle]()
    distances = [np.empty(0)]
    for row in rows:
        if row["model"] != bundle.name:
            continue
        name = row["catalogue"]
        policy, candidates = _policy(row, policies), _candidates(row, policies)
        if name not in whole:
            new = set(policy.products.ids) - bundle.products.places.keys()
            whole[name] = bundle.with_products(products_among(policy.products, new)) if new else bundle
        own = whole[name]
        inputs, places = orjson.loads(row["inputs"]), own.products.places
        viewed = np.full((1, policy.market.retrieval.viewed), -1)
        seen = [places[one] for one in inputs[VIEWED]]
        viewed[0, : len(seen)] = seen
        user = full_rows(_user(policy, inputs)[None], viewed)
        ids = np.array([[places[policy.products.ids[one]] for one in candidates.tolist()]])
        logged = np.array([pair["propensity"] for pair in row["pairs"]], np.float64)
        distances.append(np.abs(own.propensity(user, ids)[0] - logged))
    return np.concatenate(distances)


def _policy(row: Mapping[str, Any], policies: Mapping[str, MarketPolicy]) -> MarketPolicy:
    if row["catalogue"] not in policies:
        raise DataError(f"catalogue {row['catalogue']}: expected it among the log's policies, found none")
    return policies[row["catalogue"]]


def _candidates(row: Mapping[str, Any], policies: Mapping[str, MarketPolicy]) -> NDArray[np.int64]:
    places = _policy(row, policies).products.places
    try:
        return np.array([places[pair["offer_id"]] for pair in row["pairs"]], np.int64)
    except KeyError as error:
        raise DataError(f"decision {row['decision_id']}: its policy has no product {error}") from None


def _answer(row: Mapping[str, Any], policies: Mapping[str, MarketPolicy]) -> bytes:
    policy, candidates, answer = _policy(row, policies), _candidates(row, policies), orjson.loads(row["answer"])
    if answer["ground"] == "ranked":
        propensity = np.array([pair["propensity"] for pair in row["pairs"]], np.float64)
        user = _user(policy, orjson.loads(row["inputs"]))
        recommended = policy.arbitrate(user, candidates, propensity, row["k"], row["decision_id"])
    else:
        recommended = policy.popular(candidates, row["k"])
    facts = {name: value for name, value in answer.items() if name not in _COMPUTED}
    # The sentences of an explanation follow from the bundle, not from the logged propensities.
    sentences = [offer["reasons"][1:] for offer in answer["offers"]]
    aligned = sentences if len(sentences) == len(recommended.offers) else []
    return written(facts, policy.products.ids, recommended, aligned, bool(answer["withheld"]))


def _user(policy: MarketPolicy, inputs: Mapping[str, Any]) -> NDArray[np.float32]:
    """Encode a user's logged inputs."""
    row = list[float]()
    for feature in OnlineUsers(policy.market).encoder.features:
        value = inputs[feature.name]
        row.append(np.nan if value is None else feature.values.index(value) if feature.values else value)
    return np.array(row, np.float32)
