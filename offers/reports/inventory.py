"""The catalogue of everything that can be used: contracts, features, data sets, releases, owners and lineage."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from offers.contract.contract import Contract
from offers.governance.entries import Head
from offers.governance.state import State
from offers.lineage.datasets import DataSet
from offers.reports.tables import Cell, Row, Table
from offers.reports.training import HTML

VERSION = 1
_NO_OWNER = "not stated"


def inventory(
    contracts: Sequence[Contract], sets: Sequence[DataSet], state: State, head: Head | None, moment: datetime
) -> dict[str, Any]:
    """Gather the catalogue in the form of its JSON; later versions may add keys.

    Parameters
    ----------
    sets : data sets from the lineage of this machine's runs
    state, head : state and head of the ledger
    moment : now, which decides whether an approval has lapsed
    """
    return {
        "version": VERSION,
        "made_at": moment.isoformat(timespec="seconds"),
        "ledger": str(head or ""),
        "contracts": [_contract(contract) for contract in contracts],
        "releases": [
            {
                "name": release.name,
                "contract": release.act.contract,
                "status": state.status(release, moment),
                "bundle": release.act.bundle,
                "catalogue": release.act.catalogue,
                "made_at": release.at.isoformat(timespec="seconds"),
                "made_by": sorted(state.name_of(key) for key in release.makers),
                "approved_by": list(dict.fromkeys(state.name_of(approval.key) for approval in release.approvals)),
            }
            for release in state.releases.values()
        ],
        "data_sets": [asdict(data) for data in sets],
    }


def html(catalogue: dict[str, Any]) -> str:
    """Write the catalogue as one HTML page that loads nothing."""
    features = [
        (contract["name"], feature["name"], feature["role"], feature["type"], feature["unit"], feature["description"])
        for contract in catalogue["contracts"]
        for feature in contract["features"]
    ]
    return HTML.get_template("inventory.html").render(
        catalogue=catalogue,
        contracts=_table(
            ("contract", "title", "owner", "tier", "source", "licence"),
            (
                [entry[key] for key in ("name", "title", "owner", "tier", "source", "licence")]
                for entry in catalogue["contracts"]
            ),
        ),
        features=_table(("contract", "feature", "role", "type", "unit", "meaning"), features),
        data_sets=_table(
            ("data set", "rows", "version", "written by", "at", "read by"),
            (
                (
                    f"{entry['namespace']}: {entry['name']}",
                    entry["rows"],
                    entry["version"][:16],
                    entry["written_by"],
                    entry["written_at"][:19],
                    ", ".join(entry["read_by"]),
                )
                for entry in catalogue["data_sets"]
            ),
        ),
        releases=_table(
            ("release", "status", "bundle", "catalogue", "made by", "approved by"),
            (
                (
                    entry["name"],
                    entry["status"],
                    entry["bundle"],
                    entry["catalogue"],
                    ", ".join(entry["made_by"]),
                    ", ".join(entry["approved_by"]),
                )
                for entry in catalogue["releases"]
            ),
        ),
    )


def _contract(contract: Contract) -> dict[str, Any]:
    return {
        "name": contract.name,
        "title": contract.title,
        "owner": contract.owner or _NO_OWNER,
        "tier": contract.tier or _NO_OWNER,
        "source": contract.source.file,
        "licence": contract.source.licence or _NO_OWNER,
        "target": contract.target.column,
        "features": [
            {
                "name": column.name,
                "role": column.role.value,
                "type": column.type,
                "unit": column.unit or "",
                "description": column.description,
                "protected": column.protected,
            }
            for column in contract.inputs
        ],
    }


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    def row(values: Sequence[object]) -> Row:
        return tuple(Cell("" if value is None else str(value), mark="words") for value in values)

    return Table(row(head), tuple(map(row, rows)))
