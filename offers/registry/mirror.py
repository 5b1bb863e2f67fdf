"""Mirrors the ledger in MLflow: a run per training, a version per release, aliases for champion and challenger.

No decision reads the mirror. Anybody may delete or overwrite MLflow's content; the mirror is then rebuilt from the
ledger.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from offers.errors import OffersError
from offers.governance import release as releases
from offers.governance.entries import Entry, GateJudged
from offers.governance.ledger import Ledger
from offers.governance.state import Release, State
from offers.registry import training

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.store.entities import PagedList

Item = TypeVar("Item")
BUNDLE, RELEASE, HEAD, WHOLE = "offers.bundle", "offers.release", "offers.head", "offers.whole"
_PAGES = "offers"


class Mirror:
    """Writes into MLflow what the ledger has and MLflow lacks.

    Parameters
    ----------
    home : directory in which releases are kept on this machine
    artifacts : where runs keep their pages; empty for the server's own place
    run : the MLflow run that Kubeflow began for the newest training, if it did
    report : the report page of that training
    """

    def __init__(
        self,
        client: "MlflowClient",
        ledger: Ledger,
        home: Path,
        artifacts: str = "",
        run: str = "",
        report: Path | None = None,
    ) -> None:
        self.client = client
        self.ledger = ledger
        self.home = home
        self.artifacts = artifacts
        self.run = run
        self.report = report
        self.notes: list[str] = []
        self._judged: GateJudged | None = None

    def sync(self) -> None:
        """Bring MLflow up to date with the ledger; `notes` lists pages and releases that could not be read."""
        state, moment, head = self.ledger.state(), self.ledger.clock(), str(self.ledger.head or "")
        runs = self._runs()
        entries = self.ledger.entries()
        self._judged = next((entry.act for entry in reversed(entries) if isinstance(entry.act, GateJudged)), None)
        self._refused(entries, runs)
        for contract in dict.fromkeys(release.act.contract for release in state.releases.values()):
            versions = self._versions(contract)
            for release in state.releases.values():
                if release.act.contract == contract:
                    self._show(state, release, moment, runs, versions)
            self._point(state, contract, versions)
            self.client.set_registered_model_tag(contract, HEAD, head)

    def _runs(self) -> dict[str, tuple[str, bool]]:
        """Find the runs of all experiments by the bundle they made, and whether each was written completely."""
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        pages = _all(
            lambda token: self.client.search_runs(
                experiments, f"tags.`{BUNDLE}` LIKE '%'", max_results=1000, page_token=token
            )
        )
        return {run.data.tags[BUNDLE]: (run.info.run_id, WHOLE in run.data.tags) for run in pages}

    def _versions(self, contract: str) -> "dict[str, ModelVersion]":
        """Find the versions of a contract's model by release; the model is created if it does not exist."""
        if not self.client.search_registered_models(f"name = '{contract}'"):
            self.client.create_registered_model(contract)
        pages = _all(
            lambda token: self.client.search_model_versions(f"name = '{contract}'", max_results=1000, page_token=token)
        )
        return {version.tags[RELEASE]: version for version in pages if RELEASE in version.tags}

    def _show(
        self,
        state: State,
        release: Release,
        moment: datetime,
        runs: dict[str, tuple[str, bool]],
        versions: "dict[str, ModelVersion]",
    ) -> None:
        tags = _tags(state, release, moment) | {"offers.uri": f"{self.ledger.store.uri}/releases/{release.name}"}
        version = versions.get(release.name)
        if version is None:
            run = self._run(state, release, runs)
            source = self._source(run, tags["offers.uri"])
            versions[release.name] = self.client.create_model_version(release.act.contract, source, run, tags)
            return
        for name, value in tags.items():
            if version.tags.get(name) != value:
                self.client.set_model_version_tag(version.name, version.version, name, value)

    def _source(self, run: str, uri: str) -> str:
        # A server could not read a path on this machine.
        if "://" in uri or self.artifacts:
            return uri
        return f"{self.client.get_run(run).info.artifact_uri}/{_PAGES}"

    def _run(self, state: State, release: Release, runs: dict[str, tuple[str, bool]]) -> str:
        """Find or write the run of a release's training; a new one goes into Kubeflow's run, if there is one."""
        bundle, newest = release.act.bundle, release.name == list(state.releases)[-1]
        run, whole = runs.get(bundle, ("", False))
        if whole:
            return run
        at = int(release.at.timestamp() * 1000)
        foreign = self.run if newest else ""
        run = run or foreign or self._new_run(release.act.contract, bundle, at)
        # The report is that of the newest training, which may be of another bundle.
        own = self._judged is not None and self._judged.bundle == bundle
        tags = self._record(run, release, at, self.report if own else None)
        if run != foreign:
            self.client.set_terminated(run, "FINISHED", at)
        self._complete(run, tags | {BUNDLE: bundle})
        runs[bundle] = run, True
        return run

    def _record(self, run: str, release: Release, at: int, report: Path | None) -> dict[str, str]:
        """Write figures, parameters and pages of a training into a run; returns the tags that belong to it."""
        from mlflow.entities import Metric, Param

        tags = {"offers.contract": release.act.contract}
        try:
            record = training.read(releases.local(self.ledger.store, release.name, self.home) / "bundle")
        except (OffersError, OSError, ValueError) as error:
            self.notes.append(f"{release.name}: {error}")
        else:
            tags |= record.tags
            metrics = [Metric(measure.name, measure.value, at, measure.step) for measure in record.measures]
            parameters = [Param(name, value) for name, value in record.parameters.items()]
            self.client.log_batch(run, metrics, parameters, [])
            self._keep(run, (*record.pages, report) if report else record.pages)
        return tags

    def _complete(self, run: str, tags: dict[str, str]) -> None:
        """Give a run its tags at last: one without them was interrupted, and is written again."""
        from mlflow.entities import RunTag

        self.client.log_batch(run, (), (), [RunTag(name, value) for name, value in (tags | {WHOLE: "yes"}).items()])

    def _refused(self, entries: list[Entry], runs: dict[str, tuple[str, bool]]) -> None:
        """Write a run for each candidate that the gate refused, for which there is no bundle."""
        for entry in entries:
            name = f"refused-{entry.number}"
            run, whole = runs.get(name, ("", False))
            if isinstance(entry.act, GateJudged) and not entry.act.passed and not whole:
                at = int(entry.at.timestamp() * 1000)
                run = run or self._new_run(entry.act.contract, name, at)
                if self.report is not None and entry.act is self._judged:
                    self._keep(run, (self.report,))
                self.client.set_terminated(run, "FAILED", at)
                self._complete(run, {"offers.gate": "refused"})

    def _new_run(self, contract: str, name: str, at: int) -> str:
        experiment = self.client.get_experiment_by_name(contract)
        identity = (
            experiment.experiment_id
            if experiment
            else self.client.create_experiment(contract, artifact_location=self.artifacts or None)
        )
        run = self.client.create_run(identity, start_time=at, tags={BUNDLE: name}, run_name=name)
        return str(run.info.run_id)

    def _keep(self, run: str, pages: tuple[Path, ...]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            for page in pages:
                self.client.log_artifact(run, str(page), _PAGES)
        except (MlflowException, OSError) as error:
            self.notes.append(f"pages of run {run}: {str(error).splitlines()[0]}")

    def _point(self, state: State, contract: str, versions: "dict[str, ModelVersion]") -> None:
        present = self.client.get_registered_model(contract).aliases
        for alias, release in (("champion", state.champion(contract)), ("challenger", state.challenger(contract))):
            if release is None:
                if alias in present:
                    self.client.delete_registered_model_alias(contract, alias)
            elif str(present.get(alias)) != str(versions[release.name].version):
                self.client.set_registered_model_alias(contract, alias, versions[release.name].version)


def _tags(state: State, release: Release, moment: datetime) -> dict[str, str]:
    people = dict.fromkeys(state.name_of(approval.key) for approval in release.approvals)
    return {
        RELEASE: release.name,
        BUNDLE: release.act.bundle,
        "offers.catalogue": release.act.catalogue,
        "offers.status": state.status(release, moment),
        "offers.approved_by": ", ".join(people) or ("the gate" if not release.act.terms.people else "nobody"),
        "offers.entry": str(release.number),
    }


def _all(search: "Callable[[str | None], PagedList[Item]]") -> Iterator[Item]:
    """Yield the results of all pages of a search."""
    page = search(None)
    yield from page
    while page.token:
        page = search(page.token)
        yield from page
