"""The card of a release, in Markdown and HTML: the facts of its training, and people's decisions about it since."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from offers.bundle import bundle as bundles
from offers.contract.contract import Contract
from offers.drift.reference import WATCH
from offers.experiments.comparison import LEAST_EXPOSURE
from offers.experiments.exposure import Exposure
from offers.governance.entries import (
    Approved,
    CanaryStepped,
    Entry,
    Head,
    Rejected,
    RetrainingDecided,
    RetrainingEnded,
    Returned,
    RolledBack,
)
from offers.governance.release import OpenRelease
from offers.governance.state import Release, State
from offers.policy.catalogue import Catalogue
from offers.policy.rules import Rule
from offers.reports.tables import Cell, Row, Table
from offers.reports.training import HTML, MARKDOWN, context
from offers.wording import counted

NOT_STATED = "not stated in the contract"

MAPPING = (
    ("SR 26-2: purpose and limits of use", "Intended use; Limits and caveats"),
    ("SR 26-2: tier by materiality, owner", "Standing"),
    ("SR 26-2: conceptual soundness, data quality", "Data; How it was evaluated; Contributions"),
    ("SR 26-2: outcomes analysis, benchmarks", "Figures (baseline, champion, intervals); Window by window"),
    ("SR 26-2: effective challenge", "Approvals, by other keys than the maker's; Gate"),
    ("SR 26-2: ongoing monitoring", "Monitored since; the figures are in the monitoring reports"),
    ("SR 26-2: inventory", "'offers model list' and the ledger"),
    ("AI Act, Annex IV 1: general description, versions", "Standing; Facts"),
    ("AI Act, Annex IV 2: development, data, validation", "Data; How it was evaluated; Figures; Facts"),
    ("AI Act, Annex IV 2(e), 3: human oversight", "Approvals; History"),
    ("AI Act, Annex IV 3: accuracy, foreseeable risks, groups", "Segments; Fairness of the score; Limits and caveats"),
    ("AI Act, Annex IV 4: suitability of the metrics", "Limits and caveats, in part"),
    ("AI Act, Annex IV 5: risk management system", "not here: the bank's own"),
    ("AI Act, Annex IV 6: changes through the life cycle", "History; 'offers model diff'"),
    ("AI Act, Annex IV 7, 8: standards, declaration of conformity", "not here"),
    ("AI Act, Annex IV 9: monitoring after release", "Monitored since, in part; the plan is the bank's own"),
    ("Fairness of exposure, after the policy", "Fairness of exposure"),
)
"""What asks for it, and the section that answers. To be checked by a lawyer before anybody relies on it."""


@dataclass(frozen=True)
class Card:
    """The content of both forms of the card.

    Attributes
    ----------
    standing : facts about the release by name
    exposed : the sentence about the fairness of exposure
    approvals, history, exposure, monitoring, contributions, rules, mapping : tables, without rows where there is
        nothing to show
    """

    release: OpenRelease
    standing: dict[str, str]
    approvals: Table
    history: Table
    exposed: str
    exposure: Table
    monitoring: Table
    contributions: Table
    rules: Table
    mapping: Table


def card_of(
    release: OpenRelease,
    state: State,
    entries: Sequence[Entry],
    head: Head | None,
    moment: datetime,
    exposure: Exposure | None = None,
) -> Card:
    """Gather the card of a release in the ledger.

    Parameters
    ----------
    state : the state that results from the entries
    head : end of the ledger, with which the owner of the card can prove all earlier entries
    moment : now, which decides whether an approval has lapsed
    exposure : by the decision log, if there is one
    """
    governed, contract = state.releases[release.name], release.bundle.contract
    lapses = governed.lapses(moment)
    people = governed.act.terms.people
    standing = {
        "release": release.name,
        "status": state.status(governed, moment),
        "approvals lapse": f"{lapses:%Y-%m-%d}" if lapses and people else "never" if not people else "not approved",
        "owner": contract.owner or NOT_STATED,
        "tier": contract.tier or NOT_STATED,
        "bundle": release.bundle.name,
        "catalogue": release.manifest.catalogue,
        "approval": f"{counted(people, 'person', 'people')} beside the gate" if people else "by the gate alone",
        "ledger": f"made by entry {governed.number}, of {len(entries)}",
        "head of the ledger": str(head or "none"),
    }
    return Card(
        release,
        standing,
        _table(("by", "on", "until", "conditions", "evidence"), _approvals(governed, state)),
        _table(("entry", "when", "who", "what", "why"), _history(release.name, state, entries)),
        _exposed(exposure, contract),
        _table(("column", "group", "customers", "made an offer", "of the most exposed", "verdict"), _groups(exposure)),
        _table(("entry", "when", "cause", "signals and reasons", "decision", "came of it"), _watched(release, entries)),
        _table(("column", "mean |contribution|", "unit"), _contributions(release, contract)),
        _table(("rule", "asks", "justification"), _rules(release.catalogue, contract)),
        _table(("asked", "answered by"), MAPPING),
    )


def markdown(card: Card) -> str:
    """Write a card in Markdown, with people's decisions above the facts of the training."""
    trained = (card.release.bundle_path / "model-card.md").read_text("utf-8")
    fields = vars(card) | {"contract": card.release.bundle.contract}
    return MARKDOWN.get_template("card.md").render(fields) + "\n" + trained


def html(card: Card) -> str:
    """Write a card as one HTML page that loads nothing."""
    bundle = card.release.bundle
    facts = context(bundle.contract, bundle.evaluation, bundle.verdict, bundles.show(bundle))
    return HTML.get_template("card.html").render(facts | vars(card))


def _approvals(release: Release, state: State) -> Iterator[tuple[str, ...]]:
    for approval in release.approvals:
        act = approval.act
        evidence = ", ".join(f"{name} {digest[:12]}" for name, digest in act.evidence.items())
        conditions = "; ".join(act.conditions) or "none"
        yield state.name_of(approval.key), f"{approval.at:%Y-%m-%d}", f"{act.until:%Y-%m-%d}", conditions, evidence


def _history(release: str, state: State, entries: Sequence[Entry]) -> Iterator[tuple[str, ...]]:
    for entry in entries:
        act = entry.act
        if release in (getattr(act, "release", ""), getattr(act, "withdrawn", "")):
            why = act.reason if isinstance(act, Rejected | Returned) else ""
            if isinstance(act, Approved):
                why = "; ".join(act.conditions)
            if isinstance(act, CanaryStepped):
                why = f"answers {act.share:.0%} of the customers: {act.evidence}"
            if isinstance(act, RolledBack):
                why = f"{act.withdrawn} was withdrawn"
            yield str(entry.number), f"{entry.at:%Y-%m-%d %H:%M}", state.name_of(entry.actor), act.kind, why


def _exposed(exposure: Exposure | None, contract: Contract) -> str:
    if exposure is None:
        return "No decision log was read, so exposure was not measured; 'offers model card' reads one."
    if not exposure.decisions:
        return f"The log has no decision of this release since {exposure.since:%Y-%m-%d}."
    where = f"{counted(exposure.decisions, 'decision')} between {exposure.since:%Y-%m-%d} and {exposure.until:%Y-%m-%d}"
    if not exposure.groups:
        return f"The contract declares no protected column with groups, so nothing was compared over {where}."
    least = f"a group with less than {LEAST_EXPOSURE:.0%} of the most exposed one's share fails, as in experiments"
    return f"The share of customers who were made an offer, over {where}: {least}."


def _groups(exposure: Exposure | None) -> Iterator[tuple[str, ...]]:
    for one in exposure.groups if exposure else ():
        ratio = "-" if math.isnan(one.ratio) else f"{one.ratio:.0%}"
        yield one.column, one.group, f"{one.customers:,}".replace(",", " "), f"{one.share:.1%}", ratio, one.verdict


def _watched(release: OpenRelease, entries: Sequence[Entry]) -> Iterator[tuple[str, ...]]:
    """List alarms, verdicts and retrainings about the bundle, from its release on."""
    ends = {entry.act.run: entry.act for entry in entries if isinstance(entry.act, RetrainingEnded)}
    contract, begun = release.bundle.contract.name, False
    for entry in entries:
        act = entry.act
        begun = begun or getattr(act, "release", "") == release.name
        if not (begun and isinstance(act, RetrainingDecided) and act.contract == contract):
            continue
        if act.evidence.get("bundle", release.bundle.name) != release.bundle.name:
            continue
        signals = act.evidence.get("signals")
        names = [name for name, on in signals.items() if on] if isinstance(signals, dict) else []
        reasons = act.evidence.get("reasons")
        why = "; ".join([*names, *map(str, reasons if isinstance(reasons, list) else ())])
        end = ends.get(act.run)
        result = "" if not act.started else "under way" if end is None else end.bundle.rpartition("/")[2] or end.note
        decision = f"{act.action}: {act.reason}"
        yield str(entry.number), f"{entry.at:%Y-%m-%d %H:%M}", act.cause, why[:500], decision, result


def _contributions(release: OpenRelease, contract: Contract) -> Iterator[tuple[str, ...]]:
    importance = json.loads((release.bundle_path / WATCH).read_text("utf-8"))["importance"]
    for name, value in sorted(importance.items(), key=lambda item: -item[1]):
        column = contract.by_name[name]
        label = f"{name} (protected)" if column.protected else name
        yield label, f"{value:.3f}", column.unit or ""


def _rules(catalogue: Catalogue, contract: Contract) -> Iterator[tuple[str, ...]]:
    ruled = [catalogue, *catalogue.families, *catalogue.offers]
    rules: list[Rule] = [rule for part in ruled for _, _, rule in part.rules()]
    for rule in rules:
        if protected := rule.protected(contract):
            yield rule.reason, ", ".join(protected), rule.justification or ""
    for offer in catalogue.offers:
        for weight in offer.weights:
            if protected := weight.when.protected(contract):
                yield f"weight {weight.weight:g} of {offer.id}", ", ".join(protected), weight.justification or ""


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]] | Iterator[tuple[str, ...]]) -> Table:
    def row(texts: tuple[str, ...]) -> Row:
        return tuple(Cell(text, mark="words") for text in texts)

    return Table(row(head), tuple(map(row, rows)))
