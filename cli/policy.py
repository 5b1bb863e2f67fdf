"""offers policy: look at a catalogue, and check it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.outcomes import TablesOption
from offers.wording import counted

if TYPE_CHECKING:
    from offers.experiments.evidence import Evidence
    from offers.experiments.off_policy import Difference

app = typer.Typer(no_args_is_help=True, help="Check catalogues of offers and their policies.")

CatalogueArgument = Annotated[str, typer.Argument(help="Name of a shipped catalogue, or a YAML file.")]
ContractOption = Annotated[
    str,
    typer.Option("--contract", "-c", help="Name of a shipped contract, or a YAML file; the catalogue's by default."),
]


@app.command()
def check(catalogue: CatalogueArgument, contract_name: ContractOption = "") -> None:
    """Hold a catalogue against its contract, and show its offers."""
    from cli.screen import console, plain_table
    from offers.contract import contract as contracts
    from offers.policy import catalogue as catalogues

    contract = contracts.load(contract_name or _contract_of(catalogue))
    content = catalogues.load(catalogue, contract)
    table = plain_table("offer", "family", "value", "cost", "weight", "lever")
    for offer in content.offers:
        figures = (offer.value, offer.cost, offer.weight, offer.lever)
        table.add_row(offer.id, offer.family, *(f"{figure:g}" for figure in figures))
    console.print(table)
    policy = content.policy
    typer.echo(
        f"{content.name} {content.version}, policy {policy.version}: {counted(len(content.offers), 'offer')} in"
        f" {counted(len(content.families), 'family', 'families')} keep to contract {contract.name}; k {policy.k},"
        f" exploration {policy.exploration.kind},"
        f" fallback {policy.fallback or 'none'}"
    )


@app.command()
def schema(
    output: Annotated[Path, typer.Argument(help="The JSON file to write.")] = Path("catalogue.schema.json"),
) -> None:
    """Write the JSON Schema by which an editor completes and checks catalogues."""
    from offers.files import new_text

    new_text(output, _schema())
    typer.echo(f"{output}: let the first line of a catalogue be # yaml-language-server: $schema={output}")


@app.command()
def init(
    contract: ContractOption = "bank-marketing",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The catalogue; by default NAME-offers.yaml.")
    ] = None,
) -> None:
    """Draft a catalogue for a contract, which 'offers policy check' takes at once."""
    from offers.contract import contract as contracts
    from offers.files import new_text
    from offers.policy import catalogue as catalogues
    from offers.policy import draft

    data_contract = contracts.load(contract)
    text = draft.catalogue_text(data_contract)
    path = output or Path(f"{data_contract.name}-offers.yaml")
    catalogue = catalogues.parse(text, data_contract, str(path))
    new_text(path, text)
    schema_beside = path.with_name(draft.SCHEMA)
    if not schema_beside.exists():
        new_text(schema_beside, _schema())
    offers = counted(len(catalogue.offers), "made-up offer")
    typer.echo(f"{path}: {offers} for contract {data_contract.name}; give them names and values")


def _schema() -> str:
    from offers.contract.reference import json_schema
    from offers.policy.catalogue import Catalogue
    from offers.policy.words import CATALOGUE

    return json_schema(Catalogue, "A catalogue of Offers", CATALOGUE)


@app.command()
def evaluate(
    candidate: Annotated[str, typer.Option(help="The catalogue to be held against the log: a name, or a YAML file.")],
    tables: TablesOption = "",
    bundle: Annotated[
        str, typer.Option(help="Bundle that scores the candidate's pairs; by default the logged propensities hold.")
    ] = "",
    since: Annotated[str, typer.Option(help="A moment in UTC, or a span before --until such as 30d.")] = "",
    until: Annotated[str, typer.Option(help="A moment in UTC; by default that of --as-of.")] = "",
    as_of: Annotated[str, typer.Option(help="Outcomes that came later don't count; by default now.")] = "",
    days: Annotated[int, typer.Option(min=1, help="Within which exploration is to give an answer.")] = 30,
) -> None:
    """Tell from logged decisions and outcomes what a candidate would earn more, or less, than what decided."""
    from cli.screen import console
    from offers.bundle.location import open_bundle
    from offers.contract import contract as contracts
    from offers.decisions.period import Period
    from offers.experiments.evidence import evidence
    from offers.policy import catalogue as catalogues
    from offers.settings import Settings
    from offers.store.delta import DeltaTables

    settings, period = Settings.from_env(), Period.parse(since, until, as_of)
    judge = open_bundle(bundle, settings) if bundle else None
    contract = judge.contract if judge else contracts.load(_contract_of(candidate))
    proof = evidence(
        DeltaTables.at(tables or str(settings.home / "tables"), settings),
        catalogues.load(candidate, contract),
        contract,
        period.since,
        period.until,
        period.as_of,
        judge.model.propensity if judge else None,
    )
    for line in told(proof, days):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def told(proof: "Evidence", days: int) -> Iterator[str]:
    """Yield the evidence about the candidate, line by line."""
    from offers.experiments.off_policy import evaluate as held_against

    verdict = held_against(proof.logged, proof.lowest, proof.highest)
    decisions, customers = counted(verdict.n_decisions, "decision"), counted(verdict.n_customers, "customer")
    yield f"{decisions} about {customers} earned {verdict.earned:.2f} EUR each"
    counts = {
        "without the predictor": proof.fallback,
        "erased": proof.erased,
        "not ripe": proof.unripe,
        "not presented": proof.unseen,
    }
    if any(counts.values()):
        yield "left out: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    if not proof.labels.impressions:
        yield "nobody told what was presented: each first place counts as presented"
    yield f"candidate and log agree on {verdict.agreement:.1%} of the choices"
    low, high = verdict.bounds
    yield f"whatever customers would have done, the difference is from {low:+.2f} to {high:+.2f} EUR per decision"
    if not verdict.differences:
        yield from _unexplored(proof, days)
        return
    yield "method        EUR per decision more than the log, with its 95 % interval"
    for method, difference in verdict.differences.items():
        yield f"{method:<12}{_interval(difference)}"
    yield f"effective sample {verdict.effective:.0f}, largest weight {verdict.largest_weight:.1f}, without support"
    yield f"{verdict.unsupported:.1%}; the logged exploration costs {verdict.price:.2f} EUR per decision"
    for warning in verdict.warnings:
        yield f"warning: {warning}"
    best = verdict.differences["switch_dr" if verdict.warnings else "dr"]
    yield f"verdict: {_VERDICTS[best.verdict]}"
    yield from _by_place(proof)


def _by_place(proof: "Evidence") -> Iterator[str]:
    from offers.experiments.places import evaluate as held_against

    if isinstance(proof.places, str):
        yield f"no table by place: {proof.places}"
        return
    verdict = held_against(proof.places)
    yield "place         EUR per decision more than the log, with its 95 % interval"
    for place in verdict.places:
        if place.difference is None:
            yield f"{place.place:<12} refused: {place.refusal}, and no model speaks for them"
        else:
            figures = f"effective sample {place.effective:.0f}, without support {place.unsupported:.1%}"
            yield f"{place.place:<12}{_interval(place.difference)}  {figures}"
    if verdict.total is not None:
        yield f"{'all':<12}{_interval(verdict.total)}"


def _interval(difference: "Difference") -> str:
    return f"{difference.value:+8.3f}  [{difference.low:+.3f}, {difference.high:+.3f}]"


def _unexplored(proof: "Evidence", days: int) -> Iterator[str]:
    import numpy as np

    from offers.experiments.off_policy import difference, smallest_exploration

    gain = difference(proof.logged, "dm").value
    yield f"nothing was explored, so there is no estimate; the model alone expects {gain:+.2f} EUR per decision"
    span = max(proof.days, 1.0)
    per_day = len(proof.logged.action) / span
    if not np.isclose(gain, 0):
        decisions = round(per_day * days)
        answer = smallest_exploration(proof.logged, proof.lowest, proof.highest, gain, decisions)
        yield (
            f"'exploration: {{kind: epsilon, epsilon: {answer[0]:.3g}}}' would answer in {days} days at {per_day:.0f}"
            f" decisions a day, and costs {answer[1]:.2f} EUR per decision"
            if answer
            else f"no exploration would answer in {days} days at {per_day:.0f} decisions a day"
        )


_VERDICTS = {
    "better": "the candidate earns more",
    "worse": "the candidate earns less",
    "open": "the log does not tell them apart",
}


def _contract_of(catalogue: str) -> str:
    from offers.contract import contract as contracts
    from offers.errors import CatalogueError
    from offers.policy import catalogue as catalogues

    name, shipped = catalogues.contract_of(catalogue), contracts.shipped()
    if name not in shipped:
        raise CatalogueError(
            f"{catalogue} is for contract {name!r}, which is none of the shipped ones ({', '.join(shipped)}): name its"
            " file with --contract"
        )
    return name
