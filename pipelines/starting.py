"""Starts the runs that retraining decides on: on this machine, or on a cluster."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from offers.bundle.location import open_bundle
from offers.decisions import training_rows
from offers.errors import ServiceError, StorageError
from offers.retraining.journal import UPDATES, Journal, Request
from offers.settings import Settings
from offers.store.store import open_store
from pipelines import local
from pipelines.compilation import compile_pipeline
from pipelines.kubeflow import ClusterRun, Kubeflow
from pipelines.logs import kept_logs

MARKET = "market"
"""The argument that only the pipeline of a market has."""

Ended = Callable[[str, bool, str, str], None]
"""Takes the run's name, whether it succeeded, the path of its bundle, and a note."""


@dataclass
class LocalRuns:
    """Runs of the training or the update pipeline on this machine.

    Parameters
    ----------
    arguments : arguments of both pipelines; `publish` is the place for bundles that passed
    directory : directory in which each run has a directory of its name
    ended : called when a run has ended, from a thread of its own
    settings : of the store that has the bundles
    """

    arguments: Mapping[str, Any]
    directory: Path
    ended: Ended
    shown: Callable[[local.LocalRun], None] = lambda run: None
    settings: Settings = field(default_factory=Settings)
    _threads: list[Thread] = field(default_factory=list)

    def __call__(self, request: Request, run: str) -> None:
        """Start a run and return at once."""
        thread = Thread(target=self._run, args=(request, run), name=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        """Wait until all runs have ended."""
        for thread in self._threads:
            thread.join()

    def _run(self, request: Request, run: str) -> None:
        try:
            outcome = self._pipeline(request, run)
        except Exception as error:
            self.ended(run, False, "", f"{type(error).__name__}: {error}")
            raise
        if not outcome.succeeded:
            self.ended(run, False, "", outcome.mistake or f"a fault of ours; see {outcome.log}")
        elif outcome.bundle is None:
            self.ended(run, True, "", "the gate refused the new model; the present one stays")
        else:
            self.ended(run, True, _published(self.arguments, outcome.bundle.name), "")

    def _pipeline(self, request: Request, run: str) -> local.LocalRun:
        directory = self.directory / run
        pipeline, arguments = _asked(request, self.arguments, self.settings)
        package = compile_pipeline(pipeline, directory / "pipeline.yaml")
        return local.run(package, arguments, directory, self.shown)


@dataclass
class ClusterRuns:
    """Runs of the training or the update pipeline on a cluster.

    Parameters
    ----------
    settings : with the address of Kubeflow Pipelines, and of the store where it keeps what steps have said
    arguments : of both pipelines; `publish` is where a bundle that passed is stored
    """

    settings: Settings
    arguments: Mapping[str, Any]

    def __call__(self, request: Request, run: str) -> None:
        """Submit a run; an existing run of this name is left alone."""
        pipeline, arguments = _asked(request, self.arguments, self.settings)
        with tempfile.TemporaryDirectory() as directory:
            image = str(request.evidence.get("image", ""))
            package = compile_pipeline(pipeline, Path(directory) / f"{pipeline}.yaml", image)
            Kubeflow(self.settings.kubeflow).submit(package, arguments, run)

    def settle(self, journal: Journal) -> None:
        """Write into the journal the ends of runs that it still lists as running."""
        for name in journal.running():
            run = Kubeflow(self.settings.kubeflow).find(name)
            if run is None or not run.over:
                continue
            if run.state == "succeeded":
                bundle = self._last_words(run, "package").removeprefix("bundle ")
                end = (True, _published(self.arguments, bundle) if bundle else "", "")
            elif run.state == "refused":
                note = f"the gate refused the new model; the present one stays; {self._last_words(run, 'gate')}"
                end = (True, "", note.rstrip("; "))
            else:
                end = (False, "", self._why(run))
            journal.ended(name, *end, lost=bool(run.lost_at) and not end[0])

    def _why(self, run: ClusterRun) -> str:
        if run.state == "stopped":
            return "somebody stopped it"
        if run.lost_at:
            return f"Kubeflow's own task {run.lost_at} failed, and no step of ours"
        name = next((step.name for step in run.steps if step.state == "failed"), "")
        words = self._last_words(run, name) if name else ""
        return f"{name}: {words}" if words else run.error or f"{name or 'it'} failed"

    def _last_words(self, run: ClusterRun, step: str) -> str:
        """Find a step's last words in its log; empty where Kubeflow's store has none."""
        try:
            logs = kept_logs(run.id, run.pipeline, open_store(run.root, self.settings))
        except StorageError:
            return ""
        return next((log.reason for log in logs if log.step == step), "")


def _asked(request: Request, arguments: Mapping[str, Any], settings: Settings) -> tuple[str, dict[str, Any]]:
    """Name the pipeline that a request asks for, with its arguments; raises ServiceError where there is none."""
    if MARKET in arguments:
        if request.action in UPDATES or request.cause == "new image":
            raise ServiceError(f"market {request.contract}: its models are trained anew: ask for a training")
        return "market-training", dict(arguments)
    if request.cause == "new image":
        # Nobody promotes what this makes: it is registered as a candidate, beside its figures on the same windows.
        champion = _published(arguments, str(request.evidence["bundle"]))
        own = {"champion": champion, "source": _rows_of(champion, str(arguments.get("source", "")), settings)}
        return "training", {**arguments, **own} | ({"service": ""} if "service" in arguments else {})
    if request.action not in UPDATES:
        return "training", dict(arguments)
    return "update", {**arguments, "parent": _published(arguments, str(request.evidence["bundle"]))}


def _rows_of(champion: str, source: str, settings: Settings) -> str:
    """Name the rows that a champion was trained on: of layers the version of gold, of any other source what it has."""
    history, _ = training_rows.parts(source)
    if not history.startswith(training_rows.LAYERS) or training_rows.gold_version(history)[1] is not None:
        return source
    origin, _ = training_rows.parts(open_bundle(champion, settings).manifest.data.origin)
    version = training_rows.gold_version(origin)[1] if origin.startswith(training_rows.LAYERS) else None
    return source if version is None else source.replace(history, f"{history}@{version}", 1)


def _published(arguments: Mapping[str, Any], bundle: str) -> str:
    return f"{str(arguments['publish']).rstrip('/')}/{bundle}"
