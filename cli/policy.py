"""offers policy: look at a catalogue, and check it."""

from pathlib import Path
from typing import Annotated

import typer

from cli.outcomes import TablesOption
from offers.wording import counted

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
    sample: Annotated[int, typer.Option(min=0, help="Decisions that are read at most, by customer; 0 for all.")] = 0,
) -> None:
    """Tell from logged decisions and outcomes what a candidate would earn more, or less, than what decided."""
    from cli.screen import console
    from offers.bundle.location import open_bundle
    from offers.contract import contract as contracts
    from offers.decisions.period import Period
    from offers.decisions.pieces import Sample
    from offers.experiments.evidence import evidence
    from offers.policy import catalogue as catalogues
    from offers.reports.evidence import told
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
        Sample(sample) if sample else None,
    )
    for line in told(proof, days):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


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
