"""offers monitor: hold live decisions against the bundle that made them, and see whether that is still being done."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.data import ContractOption

if TYPE_CHECKING:
    from pipelines.local import LocalRun

app = typer.Typer(no_args_is_help=True, help="Watch live decisions: drift, performance, and the watching itself.")

ALARM = 3
"""Exit code where there is something to do."""

StoreOption = Annotated[
    str,
    typer.Option(
        envvar="OFFERS_STORE",
        help="Where reports and statuses are left: a directory or s3:// URI; by default OFFERS_HOME.",
    ),
]


@app.command("run")
def run_(
    bundle: Annotated[
        str,
        typer.Option(
            help="The bundle that made the decisions: its path, name or s3:// URI. Of a place that holds bundles, the "
            "one that scored the newest row of the period."
        ),
    ],
    scored: Annotated[str, typer.Option(help="Scored rows: a Parquet file, a directory of them, or s3://.")],
    outcomes: Annotated[str, typer.Option(help="Outcomes, the same; without them performance is not judged.")] = "",
    since: Annotated[str, typer.Option(help="A moment in UTC, or a span before --until such as 7d.")] = "",
    until: Annotated[str, typer.Option(help="A moment in UTC; by default that of --as-of.")] = "",
    as_of: Annotated[str, typer.Option(help="Outcomes that came later don't count; by default now.")] = "",
    store: StoreOption = "",
    trigger: Annotated[str, typer.Option(help="URL of the service to ask for a new model, where one is wanted.")] = "",
) -> None:
    """Run the monitoring pipeline on this machine. Exit code 3: it asks for action, or a signal is an alarm."""
    from cli.pipeline import fresh
    from cli.run_display import RunDisplay
    from cli.screen import console
    from offers.bundle.location import open_bundle
    from offers.decisions.period import Period
    from offers.settings import Settings
    from offers.steps import monitoring
    from pipelines import local
    from pipelines.compilation import compile_pipeline

    settings = Settings.from_env()
    period = Period.parse(since, until, as_of)
    where = monitoring.which_bundle(bundle, scored, period, settings)
    bundle_object = open_bundle(where, settings)
    contract = bundle_object.contract
    directory = fresh(settings.home.resolve() / "runs", f"{contract.name}-monitoring")
    arguments = {
        "bundle": where,
        "scored": scored,
        "outcomes": outcomes,
        "since": since,
        "until": until,
        "as_of": as_of,
        "store": store or str(settings.home.resolve()),
        "trigger": trigger,
    }
    console.print(f"{contract.title}", style="bold")
    console.print(f"bundle  {bundle_object.name}")
    package = compile_pipeline("monitoring", directory / "pipeline.yaml")
    with RunDisplay() as display:
        outcome = local.run(package, arguments, directory, display.update)
    finish(outcome)


def finish(outcome: "LocalRun") -> None:
    """Print the result of a run; raises for a user's mistake, exits with 3 if there is something to do."""
    from cli.pipeline import page
    from cli.screen import console
    from offers.errors import DataError
    from offers.reports.monitoring import headline
    from offers.steps import monitoring

    report = page(outcome, "judge", "report")
    if outcome.mistake:
        raise DataError(outcome.mistake)
    if not outcome.succeeded:
        console.print(f"The run failed, and the fault is ours. Its log: {outcome.log}", style="red")
        raise typer.Exit(1)
    verdict = outcome.artifact("judge", "verdict")
    assert verdict is not None
    verdict_record = monitoring.verdict_of(verdict)
    console.print(f"\n{headline(verdict_record)}", style="bold")
    for reason in verdict_record.reasons:
        console.print(f"- {reason}")
    console.print(f"\nreport  {report}")
    if not verdict_record.quiet:
        raise typer.Exit(ALARM)


@app.command()
def status(
    contract: ContractOption = "bank-marketing",
    every: Annotated[str, typer.Option(help="How often a report is due: 12h, 1d, 2w.")] = "1d",
    store: StoreOption = "",
    form: Annotated[
        Literal["text", "prometheus"], typer.Option("--format", help="For people, or for Prometheus.")
    ] = "text",
) -> None:
    """Say when the monitor last reported. Exit code 3: it is overdue."""
    from datetime import UTC, datetime

    from offers.contract import contract as contracts
    from offers.decisions.period import span
    from offers.monitoring import heartbeat
    from offers.settings import Settings
    from offers.store.store import open_store

    settings, name, due = Settings.from_env(), contracts.load(contract).name, span(every)
    last, now = heartbeat.last(open_store(store or str(settings.home), settings), name), datetime.now(UTC)
    if form == "prometheus":
        typer.echo(heartbeat.prometheus(name, last, due, now), nl=False)
    else:
        typer.echo(heartbeat.sentence(name, last, due, now))
    if heartbeat.overdue(last, due, now):
        raise typer.Exit(ALARM)
