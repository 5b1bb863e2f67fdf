"""Decisions of the shop's warranties as the ranker logs them, and a place for their tables."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from offers.contract.contract import Contract
from offers.decisions import log
from offers.decisions.answer import written
from offers.decisions.pseudonym import Pseudonyms
from offers.policy.arbitration import Policy
from tests.support.rankers import policy_of, typed
from tests.support.warranties import WARRANTIES

KEY = Pseudonyms(bytes(range(32)))
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)


def answered(
    contract: Contract,
    instances: list[dict[str, Any]],
    first_id: int = 0,
    decided_at: datetime = NOON,
    catalogue: str = WARRANTIES,
    seed: int = 0,
) -> log.Answer:
    """An answer about customers, with propensities that follow from the seed."""
    policy = policy_of(contract, catalogue)
    columns = typed(instances)
    pairs = policy.expand(columns)
    propensity = np.random.default_rng(seed).random(len(pairs))
    ids = [f"{first_id + place:032x}" for place in range(len(instances))]
    rankings = policy.arbitrate(pairs, propensity, keys=ids)
    name = f"{policy.catalogue.name}-{policy.catalogue.version}"
    versions = {"model": "shop-1", "policy": policy.catalogue.policy.version, "catalogue": name}
    as_of = decided_at.isoformat(timespec="milliseconds")
    dense = np.full(pairs.eligible.shape, np.nan)
    dense[pairs.eligible] = propensity[pairs.row[pairs.eligible]]
    return log.Answer(
        request_id=f"request-{first_id}",
        decided_at=decided_at,
        customers=log.Customers.of([instance["customer_id"] for instance in instances], pairs.given, KEY),
        asked=[None] * len(instances),
        k=[None] * len(instances),
        offers=[offer.id for offer in policy.offers],
        propensity=dense,
        answers=[written(key, as_of, versions, False, found) for key, found in zip(ids, rankings, strict=True)],
        fallback=False,
        model="shop-1",
        policy=versions["policy"],
        catalogue=name,
        contract=contract.name,
    )


def policy_event(contract: Contract, catalogue: str = WARRANTIES) -> bytes:
    policy: Policy = policy_of(contract, catalogue)
    return log.policy(policy, contract)


def outcome(decision_id: str, kind: str = "accepted", after: timedelta = timedelta(hours=1), **more: Any) -> Any:
    moment = (NOON + after).isoformat()
    return {"decision_id": decision_id, "offer_id": None, "kind": kind, "observed_at": moment, "why": None} | more
