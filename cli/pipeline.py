"""offers pipeline: compile the training pipeline for Kubeflow, or run that very file here."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.data import ContractOption, SourceOption

if TYPE_CHECKING:
    from offers.settings import Settings
    from pipelines.local import LocalRun

app = typer.Typer(no_args_is_help=True, help="Compile the training pipeline, or run it on this machine.")


@app.command("compile")
def compile_(
    output: Annotated[Path, typer.Argument(help="The YAML file to write.")] = Path("training.yaml"),
    pipeline: Annotated[str, typer.Option(help="training, monitoring, update, score or market-training.")] = "training",
) -> None:
    """Write a pipeline as Kubeflow Pipelines reads it."""
    from offers.errors import ServiceError
    from pipelines.compilation import PIPELINES, compile_pipeline

    if pipeline not in PIPELINES:
        raise ServiceError(f"--pipeline {pipeline!r}: expected one of {', '.join(PIPELINES)}")
    typer.echo(compile_pipeline(pipeline, output))


@app.command("run")
def run_(
    contract: ContractOption = "bank-marketing",
    source: SourceOption = "",
    trials: Annotated[int, typer.Option(min=0, help="Search budget; 0 takes the contract's settings.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    champion: Annotated[str, typer.Option(help="The bundle to beat: its path, name or s3:// URI.")] = "",
    publish: Annotated[str, typer.Option(help="Where a bundle that passed goes: a directory or s3:// URI.")] = "",
    gold_version: Annotated[int | None, typer.Option(min=0, help="Of the layers that the source names.")] = None,
) -> None:
    """Run the training pipeline on this machine, with the graph that compile writes."""
    if gold_version is not None:
        source = _at_version(source, gold_version)
    run(contract, source, trials, seed, champion, publish)


def run(contract: str, source: str = "", trials: int = 0, seed: int = 0, champion: str = "", publish: str = "") -> str:
    """Run the pipeline, show progress and results, and return its bundle; raises where it was refused or failed."""
    typer.echo("The training pipeline begins ...")
    from cli.mirror import mirrored
    from cli.release import registered
    from cli.run_display import RunDisplay
    from cli.screen import console
    from offers.bundle.location import open_champion
    from offers.contract import contract as contracts
    from offers.settings import Settings
    from pipelines import local
    from pipelines.compilation import compile_pipeline

    settings = Settings.from_env()
    data_contract = contracts.load(contract)
    if champion:
        open_champion(champion, data_contract, settings)
    directory = fresh(settings.home.resolve() / "runs", data_contract.name)
    arguments = training_arguments(contract, source, publish or str(settings.home.resolve() / "bundles"))
    arguments |= {"trials": trials, "seed": seed, "champion": champion}
    console.print(f"{data_contract.title}", style="bold")
    package = compile_pipeline("training", directory / "pipeline.yaml")
    # MLflow takes seconds to load; here it does so beside the first steps.
    with mirrored(settings, directory / "report.html"):
        with RunDisplay() as display:
            outcome = local.run(package, arguments, directory, display.update)
        bundle = finish(outcome, data_contract.name, arguments["publish"], settings)
        release = registered(bundle, settings) if bundle else ""
    if not bundle:
        raise typer.Exit(3)
    console.print(f"release {release}", soft_wrap=True)
    return bundle


def training_arguments(contract: str, source: str, publish: str) -> dict[str, Any]:
    """Build arguments of the training pipeline that are valid in another process or on another machine."""
    from offers.contract import contract as contracts
    from offers.contract import secret

    secret.refuse_literal(source, "--source")
    return {
        "contract": contract if contract in contracts.shipped() else contracts.text(contract),
        "source": _anywhere(source),
        "publish": publish,
    }


def _anywhere(source: str) -> str:
    """Make the paths of a source absolute, so that they are valid in any directory."""
    from offers.decisions import training_rows

    history, log = training_rows.parts(source)
    place = log.partition("?")[0]
    history, log = _absolute(history), _absolute(place) + log.removeprefix(place)
    if history.startswith(training_rows.LAYERS):
        place, at, version = history.removeprefix(training_rows.LAYERS).partition("@")
        history = f"{training_rows.LAYERS}{_absolute(place)}{at}{version}"
    if not log:
        return history
    alone = source.strip().startswith(training_rows.KIND)
    return f"{training_rows.KIND}{log}" if alone else f"{history} + {training_rows.KIND}{log}"


def _at_version(source: str, version: int) -> str:
    from offers.decisions.training_rows import LAYERS
    from offers.errors import SourceError

    if "@" in source or not (source or LAYERS).startswith(LAYERS):
        raise SourceError(f"--gold-version goes with --source layers:PLACE, not with {source!r}")
    return f"{source or LAYERS}@{version}"


def _absolute(path: str) -> str:
    return str(Path(path).resolve()) if path and Path(path).exists() else path


def finish(outcome: "LocalRun", contract: str, publish: str, settings: "Settings") -> str:
    """Print a run's result and return its bundle; empty where the gate refused it. Raises for a user's mistake."""
    from cli.release import register_refusal
    from cli.run_display import gate_notes, gate_table, results_table
    from cli.screen import console
    from offers.errors import DataError
    from offers.evaluation.figures import Evaluation
    from offers.evaluation.gate import GateVerdict

    violations, report = page(outcome, "validate", "violations"), page(outcome, "gate", "report")
    if outcome.mistake:
        data_fault = "prepare" in outcome.steps and outcome.steps["prepare"].state == "failed"
        raise DataError(f"{outcome.mistake}{f' (all of it: {violations})' if data_fault else ''}")
    if not outcome.succeeded:
        console.print(f"The run failed, and the fault is ours. Its log: {outcome.log}", style="red")
        raise typer.Exit(1)
    evaluation, verdict = outcome.artifact("evaluate", "evaluation"), outcome.artifact("gate", "verdict")
    assert evaluation is not None
    assert verdict is not None
    decision = GateVerdict.model_validate_json(verdict.read_text("utf-8"))
    console.print(results_table(Evaluation.model_validate_json((evaluation / "evaluation.json").read_text("utf-8"))))
    console.print(gate_table(decision))
    for note in gate_notes(decision):
        console.print(note, style="dim" if decision.passed else "red")
    console.print()
    console.print(f"report  {report}")
    if not decision.passed:
        register_refusal(verdict, contract, settings)
        console.print("The gate refused this model; no bundle was made.", style="bold red")
        return ""
    assert outcome.bundle is not None
    bundle = f"{publish.rstrip('/')}/{outcome.bundle.name}"
    console.print(f"bundle  {bundle}")
    return bundle


def page(outcome: "LocalRun", step: str, artifact: str) -> Path | None:
    """Copy a page to a file with an ending that browsers recognise; on a full disk it stays where it is."""
    import shutil

    page = outcome.artifact(step, artifact)
    if page is None:
        return None
    copy = outcome.directory / f"{artifact}.html"
    try:
        shutil.copyfile(page, copy)
    except OSError:
        return page
    return copy


def fresh(parent: Path, name: str) -> Path:
    from datetime import datetime

    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    number = 1
    while True:
        directory = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return directory
