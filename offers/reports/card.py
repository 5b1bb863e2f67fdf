"""The card of a release, in Markdown and HTML: the facts of its training, and people's decisions about it since."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from offers.bundle import bundle as bundles
from offers.contract.contract import Contract
from offers.drift.reference import WATCH
from offers.governance.entries import Approved, CanaryStepped, Entry, Head, Rejected, Returned, RolledBack
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
    ("SR 26-2: ongoing monitoring", "not here: the monitoring reports and the drift sidecar's page hold it"),
    ("SR 26-2: inventory", "'offers model list' and the ledger"),
    ("AI Act, Annex IV 1: general description, versions", "Standing; Facts"),
    ("AI Act, Annex IV 2: development, data, validation", "Data; How it was evaluated; Figures; Facts"),
    ("AI Act, Annex IV 2(e), 3: human oversight", "Approvals; History"),
    ("AI Act, Annex IV 3: accuracy, foreseeable risks, groups", "Segments; Fairness of the score; Limits and caveats"),
    ("AI Act, Annex IV 4: suitability of the metrics", "Limits and caveats, in part"),
    ("AI Act, Annex IV 5: risk management system", "not here: the bank's own"),
    ("AI Act, Annex IV 6: changes through the life cycle", "History; 'offers model diff'"),
    ("AI Act, Annex IV 7, 8: standards, declaration of conformity", "not here"),
    ("AI Act, Annex IV 9: monitoring after release", "not here: the monitoring reports hold it"),
    ("Fairness of exposure, after the policy", "not here: it is measured on decisions, not on training rows"),
)
"""What asks for it, and the section that answers. To be checked by a lawyer before anybody relies on it."""


@dataclass(frozen=True)
class Card:
    """The content of both forms of the card.

    Attributes
    ----------
    standing : facts about the release by name
    approvals, history, contributions, rules, mapping : tables, without rows where there is nothing to show
    """

    release: OpenRelease
    standing: dict[str, str]
    approvals: Table
    history: Table
    contributions: Table
    rules: Table
    mapping: Table


def card_of(release: OpenRelease, state: State, entries: Sequence[Entry], head: Head | None, moment: datetime) -> Card:
    """Gather the card of a release in the ledger.

    Parameters
    ----------
    state : the state that results from the entries
    head : end of the ledger, with which the owner of the card can prove all earlier entries
    moment : now, which decides whether an approval has lapsed
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


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]] | Iterator[tuple[str, ...]]) -> Table:
    def row(texts: tuple[str, ...]) -> Row:
        return tuple(Cell(text, mark="words") for text in texts)

    return Table(row(head), tuple(map(row, rows)))
