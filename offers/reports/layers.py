"""The page of a contract's loads: volumes, freshness, missing values and ranges, and what is unlike earlier loads."""

from collections.abc import Sequence

from offers.contract.contract import Contract
from offers.contract.values import shown_number
from offers.layers.profile import LoadReport, Profile
from offers.reports.tables import Cell, Table, count, percent
from offers.reports.training import HTML


def loads_page(contract: Contract, loads: Sequence[LoadReport]) -> str:
    """Write the loads of a contract, the oldest first, as one HTML page that loads nothing."""
    return HTML.get_template("layers.html").render(
        contract=contract, loads=loads, newest=loads[-1], table=_loads(loads), columns=_columns(contract, loads)
    )


def _loads(loads: Sequence[LoadReport]) -> Table:
    head = (
        "Load",
        "Rows",
        "New",
        "Corrected",
        "Already there",
        "Late",
        "No outcome yet",
        "Rejected",
        "Newest row",
        "Gold",
    )
    rows = []
    for one in reversed(loads):
        change = one.change
        numbers = one.rows, change.new, change.corrected, change.unchanged, change.late, change.waiting
        cells = [
            *(Cell(count(number)) for number in numbers),
            Cell(count(one.rejected), percent(one.rejected / one.rows), "failed" if one.rejected else ""),
            Cell(f"{one.last:%Y-%m-%d}" if one.last else "–"),
            Cell("–" if one.gold is None else f"version {one.gold}", count(one.gold_rows)),
        ]
        rows.append((Cell(f"{one.at:%Y-%m-%d %H:%M} UTC", f"{one.load} from {one.source}"), *cells))
    return Table(tuple(Cell(name) for name in head), tuple(rows))


def _columns(contract: Contract, loads: Sequence[LoadReport]) -> Table:
    newest, before = loads[-1], loads[-2] if len(loads) > 1 else None
    head = (Cell("Column"), Cell("Missing", mark="bar"), Cell("Holds"), Cell("In the load before"))
    rows = []
    for column in contract.columns:
        if (now := newest.columns.get(column.name)) is None:
            continue
        earlier = before.columns.get(column.name) if before else None
        cells = (
            Cell(percent(now.missing), shade=now.missing),
            Cell(_holds(now)),
            Cell(_holds(earlier) if earlier else "–"),
        )
        rows.append((Cell(column.name, column.unit or ""), *cells))
    return Table(head, tuple(rows))


def _holds(profile: Profile) -> str:
    if profile.low is not None and profile.high is not None and profile.mean is not None:
        return f"{shown_number(profile.low)} to {shown_number(profile.high)}, mean {shown_number(profile.mean)}"
    words = ", ".join(f"{word} {share:.0%}" for word, share in list(profile.shares.items())[:5])
    more = len(profile.shares) - 5
    return f"{words}, {more} more" if more > 0 else words or "nothing"
