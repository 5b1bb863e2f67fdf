"""Submits, schedules and follows runs on a cluster through the API of Kubeflow Pipelines."""

import asyncio
import io
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import kfp_server_api
import urllib3
from kfp import Client

from offers.errors import ServiceError
from offers.http_client import Peer
from offers.http_pool import Pool
from pipelines import progress
from pipelines.progress import RunState, Step, moment

EXPERIMENT = "offers"
ROOT = "s3://mlpipeline/v2/artifacts"
"""Where Kubeflow keeps what steps leave, if a run names no other place."""
KEPT = timedelta(days=8)
"""By this age the last run of a deleted schedule is over, and its workflow is gone."""
TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"
"""As kfp's own client calls it."""
_HEALTH, _HEALTH_SECONDS = "/apis/v2beta1/healthz", 5.0


@dataclass(frozen=True)
class ClusterRun:
    """A run as Kubeflow reports it.

    `lost_at` names Kubeflow's own task at which the run failed, and `root` the place of its logs. For a run from a list
    the steps and `lost_at` are unknown; only `Kubeflow.runs` knows whether its gate refused.
    """

    id: str
    name: str
    pipeline: str
    state: RunState
    created: datetime | None
    finished: datetime | None
    error: str
    root: str
    steps: tuple[Step, ...]
    lost_at: str

    @property
    def over(self) -> bool:
        return self.state not in ("waiting", "running")


@dataclass(frozen=True)
class Schedule:
    """Runs that begin at the times of a cron line."""

    id: str
    name: str
    cron: str
    created: datetime | None


class Kubeflow:
    """The API at `url`.

    Raises
    ------
    ServiceError
        nothing answers there, or it is not Kubeflow Pipelines; every method may raise this
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        token = _token()
        _check(self.url, token)
        with self._calls(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._client = _Client(host=self.url, existing_token=token or None)
            self._client.bound()

    def submit(self, package: Path, arguments: Mapping[str, Any], name: str) -> ClusterRun:
        """Start a run of a compiled pipeline, or find the run that has this name already."""
        with self._calls():
            if same := self.find(name):
                return same
            experiment = self._client.create_experiment(EXPERIMENT)
            answer = self._client.create_run_from_pipeline_package(
                str(package), dict(arguments), run_name=name, experiment_id=experiment.experiment_id
            )
            return _run(answer.run_info)

    def find(self, name: str) -> ClusterRun | None:
        """Get the newest run of a name, with its steps; None where there is none."""
        with self._calls(f"run {name!r}"):
            runs = self._client.list_runs(filter=_named(name), sort_by="created_at desc").runs
            return _run(self._client.get_run(runs[0].run_id)) if runs else None

    def run(self, run: str) -> ClusterRun:
        """Get a run by its name or its id, with its steps."""
        with self._calls(f"run {run!r}"):
            return self.find(run) or _run(self._client.get_run(run))

    def runs(self, number: int = 10) -> list[ClusterRun]:
        """List the newest runs, the newest first."""
        with self._calls():
            newest = self._client.list_runs(page_size=number, sort_by="created_at desc").runs or []
            # Only the steps of a successful run show whether its gate passed a model.
            return [_run(self._client.get_run(run.run_id) if run.state == "SUCCEEDED" else run) for run in newest]

    def schedule(self, package: Path, arguments: Mapping[str, Any], name: str, cron: str) -> str:
        """Schedule a compiled pipeline by a cron line of six fields, one run at a time; returns the schedule's id.

        An existing schedule of that name is replaced: the new one is made first, then the old one ended as by
        `unschedule`.
        """
        if (fields := len(cron.split())) != 6:
            expected = "expected six fields, second minute hour day month weekday"
            raise ServiceError(f"schedule {cron!r}: {expected}, got {fields}")
        with self._calls(f"schedule {name!r}"):
            old = self._schedules(name)
            experiment = self._client.create_experiment(EXPERIMENT)
            answer = self._client.create_recurring_run(
                experiment.experiment_id,
                name,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                params=dict(arguments),
                pipeline_package_path=str(package),
            )
            self._end(old)
            return str(answer.recurring_run_id)

    def unschedule(self, name: str) -> None:
        """End a schedule: no further run begins. A run that is under way goes on, and logs of runs are kept."""
        with self._calls(f"schedule {name!r}"):
            old = self._schedules(name)
            if not any(_enabled(recurring) for recurring in old):
                raise ServiceError(f"schedule {name!r}: Kubeflow at {self.url} has none of that name")
            self._end(old)

    def schedules(self) -> list[Schedule]:
        """List the active schedules, sorted by name."""
        with self._calls():
            enabled = [recurring for recurring in self._schedules() if _enabled(recurring)]
        return sorted((_schedule(recurring) for recurring in enabled), key=lambda schedule: schedule.name)

    def page(self, run: ClusterRun) -> str:
        """Build the address of the run's page."""
        return f"{self.url}/#/runs/details/{run.id}"

    def _schedules(self, name: str = "") -> list[Any]:
        answer = self._client.list_recurring_runs(page_size=200, filter=_named(name) if name else None)
        return list(answer.recurring_runs or ())

    def _end(self, schedules: Iterable[Any]) -> None:
        """Disable schedules; those that were disabled long ago are deleted.

        They are not deleted at once, because Kubeflow then also deletes the workflows, pods and logs of their runs,
        even of runs that are under way.
        """
        for recurring in schedules:
            if _enabled(recurring):
                self._client.disable_recurring_run(recurring.recurring_run_id)
            elif recurring.updated_at and datetime.now(UTC) - recurring.updated_at > KEPT:
                self._client.delete_recurring_run(recurring.recurring_run_id)

    @contextmanager
    def _calls(self, what: str = "the request") -> Iterator[None]:
        try:
            # The client prints links, which are meant for notebooks.
            with redirect_stdout(io.StringIO()):
                yield
        except kfp_server_api.ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                raise ServiceError(f"{what}: Kubeflow at {self.url} knows none of that name") from None
            raise ServiceError(f"{what}: Kubeflow at {self.url} answers {error.status}: {_reason(error)}") from None
        except urllib3.exceptions.HTTPError as error:
            raise ServiceError(f"{what}: Kubeflow at {self.url} has gone away: {_short(error)}") from None


class _Client(Client):
    """Kubeflow's client over our own connections; its default ones wait for ever, follow redirects and read all."""

    def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
        # The constructor may call this, and would sleep and retry five times; `_check` has already got an answer.
        self.bound()
        return self._healthz_api.healthz_service_get_healthz()

    def bound(self) -> None:
        rest = self._run_api.api_client.rest_client
        rest.pool_manager = Pool(self._existing_config.host.startswith("https://"))


def _check(url: str, token: str) -> None:
    """Check Kubeflow's health first, because the client itself would retry for half a minute and print each failure."""
    remedy = "set OFFERS_KUBEFLOW_URL, or name it with --kubeflow"
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        answer = asyncio.run(_health(Peer(httpx.URL(url + _HEALTH), _HEALTH_SECONDS), headers))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceError(f"no Kubeflow Pipelines answers at {url}: {_short(error)}; {remedy}") from None
    if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise ServiceError(
            f"{url} refuses with {answer.status_code}: name the file with a token of its own in {TOKEN_FILE}"
        )
    if answer.status_code != HTTPStatus.OK or not answer.headers.get("content-type", "").startswith("application/json"):
        raise ServiceError(f"{url} is not Kubeflow Pipelines: {_HEALTH} answers {answer.status_code}; {remedy}")


async def _health(kubeflow: Peer, headers: Mapping[str, str]) -> httpx.Response:
    async with kubeflow.client() as client:
        return await kubeflow.get(client, headers)


def _token() -> str:
    """Read this process's token, if there is one; it comes from a file, because the cluster renews it."""
    file = os.environ.get(TOKEN_FILE, "")
    try:
        return Path(file).read_text("utf-8").strip() if file else ""
    except (OSError, ValueError) as error:
        raise ServiceError(f"{TOKEN_FILE}: expected a file with a token, got {file!r} ({error})") from None


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _enabled(recurring: Any) -> bool:
    return "DISABLE" not in str(recurring.status or recurring.mode or "")


def _schedule(recurring: Any) -> Schedule:
    cron = recurring.trigger.cron_schedule.cron if recurring.trigger and recurring.trigger.cron_schedule else ""
    return Schedule(recurring.recurring_run_id, recurring.display_name, cron, moment(recurring.created_at))


def _run(run: Any) -> ClusterRun:
    steps, state = progress.steps(run), progress.run_state(run)
    return ClusterRun(
        id=run.run_id,
        name=run.display_name,
        pipeline=progress.pipeline_name(run),
        state="refused" if state == "succeeded" and progress.refused(run, steps) else state,
        created=moment(run.created_at),
        finished=moment(run.finished_at),
        error=run.error.message if run.error else "",
        root=_root(run),
        steps=steps,
        lost_at=progress.lost_at(run),
    )


def _root(run: Any) -> str:
    root = (run.runtime_config.pipeline_root if run.runtime_config else "") or ROOT
    return root.replace("minio://", "s3://", 1)


def _reason(error: kfp_server_api.ApiException) -> str:
    try:
        content = json.loads(error.body)
        return str(content.get("message") or content.get("error") or error.reason)[:300]
    except (TypeError, ValueError, AttributeError):
        return str(error.reason)


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
