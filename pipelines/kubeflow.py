"""Runs on a cluster: submit, schedule and follow them through the API of Kubeflow Pipelines."""

import io
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import kfp_server_api
import urllib3
from kfp import Client

from offers.errors import ServiceError

EXPERIMENT = "offers"
ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
_HEALTH = "/apis/v2beta1/healthz"


@dataclass(frozen=True)
class Task:
    """One step of a run."""

    name: str
    state: str
    began: datetime | None
    ended: datetime | None


@dataclass(frozen=True)
class ClusterRun:
    """A run as Kubeflow tells it; `state` is one of its words, such as RUNNING, SUCCEEDED or FAILED."""

    id: str
    name: str
    state: str
    created: datetime | None
    finished: datetime | None
    error: str
    tasks: tuple[Task, ...]

    @property
    def over(self) -> bool:
        return self.state in ENDED


class Kubeflow:
    """The API at `url`.

    Raises
    ------
    ServiceError
        nothing answers there, or not Kubeflow Pipelines; of every method too
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        _check(self.url)
        with self._calls(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._client = Client(host=self.url)

    def submit(self, package: Path, arguments: Mapping[str, Any], name: str) -> ClusterRun:
        """Start a run of a compiled pipeline, or find the one that has this name already."""
        with self._calls():
            if known := self.find(name):
                return known
            experiment = self._client.create_experiment(EXPERIMENT)
            begun = self._client.create_run_from_pipeline_package(
                str(package), dict(arguments), run_name=name, experiment_id=experiment.experiment_id
            )
            return _run(begun.run_info)

    def find(self, name: str) -> ClusterRun | None:
        """The newest run of a name."""
        with self._calls(f"run {name!r}"):
            found = self._client.list_runs(filter=_named(name), sort_by="created_at desc").runs
            return _run(found[0]) if found else None

    def schedule(self, package: Path, arguments: Mapping[str, Any], name: str, cron: str) -> str:
        """Run a compiled pipeline again and again, one run at a time, by a cron line of six fields; gives its id.

        A schedule of that name is replaced: first the new one is made, then the old one deleted.
        """
        if (fields := len(cron.split())) != 6:
            expected = "expected six fields, second minute hour day month weekday"
            raise ServiceError(f"schedule {cron!r}: {expected}, got {fields}")
        with self._calls():
            old = self._client.list_recurring_runs(filter=_named(name)).recurring_runs or []
            experiment = self._client.create_experiment(EXPERIMENT)
            made = self._client.create_recurring_run(
                experiment.experiment_id,
                name,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                params=dict(arguments),
                pipeline_package_path=str(package),
            )
            for recurring in old:
                self._client.delete_recurring_run(recurring.recurring_run_id)
            return str(made.recurring_run_id)

    def page(self, run: ClusterRun) -> str:
        """Where a person sees the run."""
        return f"{self.url}/#/runs/details/{run.id}"

    def run(self, run_id: str) -> ClusterRun:
        """How one run stands, step by step."""
        with self._calls(f"run {run_id}"):
            return _run(self._client.get_run(run_id))

    def runs(self, number: int = 10) -> list[ClusterRun]:
        """The newest runs, the newest first."""
        with self._calls():
            found = self._client.list_runs(page_size=number, sort_by="created_at desc").runs or []
            return [_run(run) for run in found]

    @contextmanager
    def _calls(self, what: str = "the request") -> Iterator[None]:
        try:
            # The client prints lines of its own for notebooks.
            with redirect_stdout(io.StringIO()):
                yield
        except kfp_server_api.ApiException as error:
            if error.status == 404:
                raise ServiceError(f"{what}: Kubeflow at {self.url} knows none of that name") from None
            raise ServiceError(f"{what}: Kubeflow at {self.url} answers {error.status}: {_reason(error)}") from None
        except urllib3.exceptions.HTTPError as error:
            raise ServiceError(f"{what}: Kubeflow at {self.url} has gone away: {_short(error)}") from None


def _check(url: str) -> None:
    """Ask for its health first: the client itself would try for half a minute and print each failure."""
    remedy = "set OFFERS_KUBEFLOW_URL, or name it with --kubeflow"
    try:
        answer = httpx.get(url + _HEALTH, timeout=5, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceError(f"no Kubeflow Pipelines answers at {url}: {_short(error)}; {remedy}") from None
    if answer.status_code != 200 or not answer.headers.get("content-type", "").startswith("application/json"):
        raise ServiceError(f"{url} is not Kubeflow Pipelines: {_HEALTH} answers {answer.status_code}; {remedy}")


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _run(run: Any) -> ClusterRun:
    details = run.run_details.task_details if run.run_details else None
    return ClusterRun(
        id=run.run_id,
        name=run.display_name,
        state=run.state or "PENDING",
        created=run.created_at,
        finished=_time(run.finished_at),
        error=run.error.message if run.error else "",
        tasks=tuple(
            Task(task.display_name, task.state or "PENDING", _time(task.start_time), _time(task.end_time))
            for task in details or ()
        ),
    )


def _time(moment: datetime | None) -> datetime | None:
    """Kubeflow writes the beginning of 1970 for what has not happened yet."""
    return None if moment is None or moment.year < 2000 else moment


def _reason(error: kfp_server_api.ApiException) -> str:
    try:
        content = json.loads(error.body)
        return str(content.get("message") or content.get("error") or error.reason)[:300]
    except (TypeError, ValueError, AttributeError):
        return str(error.reason)


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
