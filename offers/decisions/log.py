"""The decision log: one event per answer, written before the answer is sent.

An event is one line of JSON, a CloudEvents 1.0 envelope around the decisions of one request. Its type carries the
version of its schema. Events hold pseudonyms of customers, and never their ids.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Self

import numpy as np
import orjson

from offers.contract.contract import Contract
from offers.contract.market import Market
from offers.decisions.pseudonym import Pseudonyms
from offers.policy.arbitration import Policy

SOURCE = "/offers/ranker"
DECIDED, POLICY, OBSERVED = "offers.decided.v1", "offers.policy.v1", "offers.outcomes.v1"
INTERACTED, MARKET_POLICY = "offers.interactions.v1", "offers.market-policy.v1"
"""Types of events: decisions of a request, a catalogue with its contract, outcomes, interactions, a market's policy."""

_CODE = version("offers")


@dataclass(frozen=True)
class Customers:
    """The customers of a request as the log has them. They can be written before anything is scored.

    Attributes
    ----------
    columns : customer and context columns after checks, as JSON
    """

    pseudonyms: Sequence[str]
    key_id: str
    columns: bytes

    @classmethod
    def of(cls, ids: Sequence[str], columns: Mapping[str, np.ndarray], pseudonyms: Pseudonyms) -> Self:
        """Write customers; `columns` have words with None and numbers with NaN where missing, both become null."""
        content = orjson.dumps({name: values.tolist() for name, values in columns.items()})
        return cls(list(map(pseudonyms.of, ids)), pseudonyms.key_id, content)


# Not frozen: that would cost each answer a call for each of so many fields.
@dataclass(slots=True)
class Answer:
    """The decisions of one request; lists have one entry for each customer.

    Attributes
    ----------
    decided_at : when the answer was ready
    customers : who was asked about
    asked : the offers that the caller named, None for all
    k : places that the caller asked for, None for the catalogue's `k`
    offers : ids of the policy's offers, in its order
    propensity : ndarray, shape (n_customers, n_offers), NaN where a pair was not scored
    answers : each customer's prediction as it is sent, JSON without the customer's id
    model : bundle that scored, None where nothing was scored
    experiment, arms : the experiment and each customer's arm, where customers are split among arms
    ledger_head : end of the ledger, as its number and SHA-256, where a ledger says what serves
    caller : who sent the request, None where nobody is asked for a token
    latency_ms : milliseconds until the predictor had answered; None where nothing was scored
    score, action_probability : ndarray, of the shape of `propensity`, where the answers do not tell them of all offers
    """

    request_id: str
    decided_at: datetime
    customers: Customers
    asked: Sequence[Sequence[str] | None]
    k: Sequence[int | None]
    offers: Sequence[str]
    propensity: np.ndarray
    answers: Sequence[bytes]
    fallback: bool
    model: str | None
    policy: str
    catalogue: str
    contract: str
    experiment: str | None = None
    arms: Sequence[str] | None = None
    ledger_head: str | None = None
    caller: str | None = None
    latency_ms: float | None = None
    score: np.ndarray | None = None
    action_probability: np.ndarray | None = None


def decided(answer: Answer) -> bytes:
    """Write the event of one request's decisions."""
    return _event(
        DECIDED,
        answer.decided_at,
        {
            "request_id": answer.request_id,
            "key_id": answer.customers.key_id,
            "customers": answer.customers.pseudonyms,
            "columns": orjson.Fragment(answer.customers.columns),
            "asked": answer.asked,
            "k": answer.k,
            "offers": answer.offers,
            "propensity": np.ascontiguousarray(answer.propensity),
            "answers": list(map(orjson.Fragment, answer.answers)),
            "fallback": answer.fallback,
            "model": answer.model,
            "policy": answer.policy,
            "catalogue": answer.catalogue,
            "contract": answer.contract,
            "code": _CODE,
            "experiment": answer.experiment,
            "arms": answer.arms,
            "ledger_head": answer.ledger_head,
            "caller": answer.caller,
            "latency_ms": answer.latency_ms,
            "score": _matrix(answer.score),
            "action_probability": _matrix(answer.action_probability),
        },
    )


def policy(rules: Policy, contract: Contract) -> bytes:
    """Write the event that keeps a catalogue and its contract, so that decisions can be reproduced.

    The log has it before the first decision that names the catalogue.
    """
    catalogue = rules.catalogue
    content = {
        "catalogue": f"{catalogue.name}-{catalogue.version}",
        "catalogue_text": catalogue.model_dump_json(by_alias=True, exclude_defaults=True),
        "contract": contract.name,
        "contract_text": contract.model_dump_json(by_alias=True, exclude_defaults=True),
        "code": _CODE,
    }
    return _event(POLICY, datetime.now(UTC), content)


def market_policy(catalogue: str, catalogue_text: str, market: Market) -> bytes:
    """Write the event that keeps a market's contract and products, so that decisions can be reproduced.

    Parameters
    ----------
    catalogue : name and version of both, as decisions record it
    catalogue_text : the products, as JSON
    """
    content = {
        "catalogue": catalogue,
        "catalogue_text": catalogue_text,
        "contract": market.name,
        "contract_text": market.model_dump_json(by_alias=True, exclude_defaults=True),
        "code": _CODE,
    }
    return _event(MARKET_POLICY, datetime.now(UTC), content)


def observed(outcomes: Sequence[Mapping[str, Any]], received_at: datetime, request_id: str) -> bytes:
    """Write the event of the outcomes in one request."""
    return _event(OBSERVED, received_at, {"request_id": request_id, "outcomes": outcomes})


def interacted(
    interactions: Sequence[Mapping[str, Any]],
    received_at: datetime,
    request_id: str,
    pseudonyms: Pseudonyms | None = None,
) -> bytes:
    """Write the event of the interactions of a market's users in one request.

    Parameters
    ----------
    pseudonyms : stand as `customer` in place of `user_id`, for the decision log; None for who moves users' features
    """
    data: dict[str, Any] = {"request_id": request_id, "interactions": interactions}
    if pseudonyms:
        others = [{name: value for name, value in one.items() if name != "user_id"} for one in interactions]
        customers = [{"customer": pseudonyms.of(one["user_id"])} for one in interactions]
        rows = [own | other for own, other in zip(customers, others, strict=True)]
        data |= {"key_id": pseudonyms.key_id, "interactions": rows}
    return _event(INTERACTED, received_at, data)


def _event(kind: str, time: datetime, data: Mapping[str, Any]) -> bytes:
    event = {
        "specversion": "1.0",
        "type": kind,
        "source": SOURCE,
        "id": os.urandom(16).hex(),
        "time": time,
        "datacontenttype": "application/json",
        "data": data,
    }
    return orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY)


def _matrix(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else np.ascontiguousarray(values)
