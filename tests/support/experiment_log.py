"""The decision log of an experiment of the shop."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from offers.contract.contract import Contract
from offers.decisions import log
from offers.decisions.shipping import ship
from offers.decisions.spool import Spool, SpoolLimits
from offers.experiments import experiment as experiments
from offers.settings import Settings
from offers.store.delta import DeltaTables
from tests.support.decision_log import KEY, NOON, answered, outcome, policy_event
from tests.support.rankers import someone


def logged(contract: Contract, directory: Path, file: Path, lost: int = 0) -> Path:
    """Decisions about 1 200 members of an experiment; those of its arm accept, of the control one in two."""
    one, spool = experiments.load(str(file)), Spool(directory / "spool", "pod", SpoolLimits())
    spool.append(policy_event(contract))
    crowd = [someone(f"customer-{k}") for k in range(1200)]
    arms = [one.arm_name(place) for place in one.assign([KEY.of(row["customer_id"]) for row in crowd]).tolist()]
    kept = [k for k, arm in enumerate(arms) if arm == "control" or k >= lost]
    answer = answered(contract, [crowd[k] for k in kept])
    spool.append(log.decided(replace(answer, experiment=one.name, arms=[arms[k] for k in kept])))
    kinds = ["accepted" if arms[k] != "control" or k % 2 else "declined" for k in kept]
    told = [outcome(f"{place:032x}", kind) for place, kind in enumerate(kinds)]
    spool.append(log.observed(told, NOON + timedelta(days=1), "r"))
    spool.seal()
    tables = directory / "tables"
    assert not [one for one in ship(spool.directory, DeltaTables.at(str(tables), Settings())) if one.refusal]
    return tables
