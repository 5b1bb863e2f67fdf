"""The command line.

Exit codes: 0 done, 1 a run that failed or a fault of ours, 2 a mistake in what was given, 3 refused by the gate, a
monitor that sees an alarm, asks for action or is overdue, a ledger that does not hold, or an approval that has lapsed.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import app as pages
from cli import (
    audit,
    backtest,
    bundle,
    campaign,
    cluster,
    contract,
    data,
    decisions,
    demo,
    experiment,
    inventory,
    key,
    layers,
    learn,
    market,
    market_feast,
    market_rates,
    market_service,
    model,
    monitor,
    night,
    outcomes,
    pipeline,
    policy,
    retrain,
    runs,
    score,
    serve,
    submission,
    usage,
)
from offers import __version__
from offers.errors import OffersError
from offers.files import os_errors

app = typer.Typer(
    name="offers", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
app.command("demo")(demo.demo)
app.command("night")(night.night)
app.command("learn")(learn.learn)
app.command("serve")(serve.serve)
app.command("app")(pages.app)
app.command("rank")(serve.rank)
app.command("score")(score.score)
app.command("campaign")(campaign.campaign)
app.command("backtest")(backtest.backtest)
app.command("catalogue")(inventory.catalogue)
app.command("deploy")(cluster.deploy)
app.command("rollback")(cluster.rollback)
data.app.command("ingest")(layers.ingest)
data.app.command("loads")(layers.loads)
app.add_typer(contract.app, name="contract")
app.add_typer(data.app, name="data")
market.app.command("feast")(market_feast.feast)
market.app.command("rates")(market_rates.rates)
market.app.command("serve")(market_service.serve)
market.app.command("drift")(market_service.drift)
market.app.command("demo")(market_service.demo)
app.add_typer(market.app, name="market")
app.command("status")(cluster.status)
for command in (
    submission.submit,
    submission.schedule,
    submission.schedules,
    submission.unschedule,
    runs.status,
    runs.logs,
):
    pipeline.app.command()(command)
pipeline.app.command("list")(runs.list_)
app.add_typer(pipeline.app, name="pipeline")
app.add_typer(bundle.app, name="bundle")
app.add_typer(model.app, name="model")
app.add_typer(key.app, name="key")
app.add_typer(audit.app, name="audit")
app.add_typer(monitor.app, name="monitor")
app.add_typer(retrain.app, name="retrain")
app.add_typer(policy.app, name="policy")
app.add_typer(decisions.app, name="decisions")
app.add_typer(outcomes.app, name="outcomes")
app.add_typer(experiment.app, name="experiment")


def _print_version(flag: bool) -> None:
    if flag:
        typer.echo(f"offers {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version, and end.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command; a user's mistake is one sentence on standard error and exit code 2."""
    usage.use_own_words()
    # A command that shows no help should not wait for Rich.
    if "--help" in sys.argv or len(sys.argv) < 3:
        from cli.screen import wrap_help

        wrap_help()
    try:
        with os_errors(Path.cwd()):
            app()
    except OffersError as error:
        print(f"offers: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("offers: interrupted; earlier results are untouched", file=sys.stderr)
        sys.exit(130)
