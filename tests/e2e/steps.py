"""The loop, step by step: each waits for what it has brought about, and fails with what was seen last."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import httpx
import pandas as pd
import pytest

from cli.demo import CHANGED_ROWS
from cli.traffic import batches, send, shifted
from deployment.inference_service import InferenceService
from deployment.smoke import smoke
from offers.bundle.bundle import Bundle
from offers.contract.contract import Contract
from offers.errors import ServiceError
from offers.governance.release import key
from offers.store.store import Store, open_store
from pipelines.kubeflow import ClusterRun, Kubeflow
from serving.asking import ask
from serving.ranker.question import example
from tests.e2e.awaiting import await_that
from tests.e2e.cluster import BUCKET, BUNDLES, CONTRACT, NAME, NAMESPACE, Cluster

SOURCE = "simulated"
SMOKE_URL = "http://predictor.offers.svc:8085"
"""Where the deploy step of a pipeline, inside the cluster, asks for golden rows."""
RUN, READY, ANSWER, ALARM, START = 2700, 900, 300, 300, 180
"""Seconds: of a training run, of a roll-out, for an answer, for an alarm, for Kubeflow to show or stop a run."""
RANKER, PREDICTOR, SIDECAR = 8080, 8085, 8090
"""Ports of a serving pod."""
LOGS = f"kubectl -n {NAMESPACE} logs deployment/{NAME}-predictor --all-containers"
JOURNAL = f"kubectl -n {NAMESPACE} logs deployment/retraining-trigger, and its /journal"


def submit(cluster: Cluster, seed: int) -> str:
    """Start the training pipeline, which promotes what passes; gives the id of the run."""
    what = ("--contract", CONTRACT, "--source", SOURCE, "--seed", seed, "--name", f"e2e-{seed}")
    where = ("--publish", BUNDLES, "--service", _service(cluster), "--smoke-url", SMOKE_URL)
    # People would have to approve it else.
    return cluster.offers("pipeline", "submit", *what, *where, "--approval", "gate", seconds=120).split()[0]


def await_run(kubeflow: Kubeflow, run_id: str, seconds: float) -> ClusterRun:
    """Wait for the end of a run, and fail where that is no success."""
    look_at = f"{kubeflow.url}/#/runs/details/{run_id}, and offers pipeline logs {run_id}"
    run = await_that(f"the end of run {run_id}", lambda: ended(kubeflow.run(run_id)), seconds, look_at)
    if run.state != "succeeded":
        pytest.fail(f"run {run_id}: expected succeeded, got {_told(run)}; look at: {look_at}", pytrace=False)
    return run


def bundles(store: Store) -> set[str]:
    """Names of all bundles that a store holds whole."""
    keys = store.keys()
    return {key.partition("/")[0] for key in keys if key.endswith("/manifest.json")}


def await_bundle(store: Store, before: Collection[str], seconds: float) -> str:
    """Wait for a bundle that was not there before; gives its name."""

    def look() -> tuple[str | None, str]:
        found = bundles(store)
        return next(iter(found - set(before)), None), f"{len(found)} bundles, all from before"

    return await_that(f"a new bundle in {store.uri}", look, seconds, "the log of the run's step package")


def await_served(service: InferenceService, uri: str, seconds: float) -> None:
    """Wait until a service is ready with a bundle."""

    def look() -> tuple[bool | None, str]:
        found = service.read()
        has, ready = uri_of(found), _ready(found)
        is_ready = ready.get("status") == "True"
        seen = f"storageUri {has or 'unset'}, " + ("ready" if is_ready else f"not ready: {ready.get('message')}")
        return (True if is_ready and has == uri else None), seen

    look_at = f"kubectl -n {service.namespace} get inferenceservice {service.name} -o yaml, and {LOGS}"
    await_that(f"{service} to be ready with {uri}", look, seconds, look_at)


def await_answer(ranker: str, contract: Contract, bundle: str, seconds: float) -> dict[str, Any]:
    """Wait until a customer's offers are ranked by a bundle; gives the answer."""

    def look() -> tuple[dict[str, Any] | None, str]:
        prediction: dict[str, Any] = ask(ranker, example(contract))["predictions"][0]
        served, fallback = prediction["versions"]["model"], prediction["fallback"]
        seen = f"an answer by {'the fallback' if fallback else served}"
        return (prediction if served == bundle and not fallback else None), seen

    return await_that(f"an answer by {bundle}", look, seconds, LOGS)


def await_alarm(ranker: str, sidecar: str, contract: Contract, rows: pd.DataFrame, seconds: float) -> dict[str, Any]:
    """Send customers, a batch with each look, until the sidecar has an alarm of two signals, which asks for a model."""
    waiting = batches(rows)

    def look() -> tuple[dict[str, Any] | None, str]:
        if (batch := next(waiting, None)) is not None:
            send(ranker, contract, batch)
        report = _report(sidecar)
        loud = (alarm for alarm in report["alarms"] if all(alarm["signals"][name] for name in ("data", "score")))
        return next(loud, None), f"{report['windows']} windows, signals {report['signals']}, events {report['events']}"

    what = f"an alarm after {len(rows)} changed customers"
    return await_that(what, look, seconds, f"kubectl -n {NAMESPACE} port-forward deployment/{NAME}-predictor 8090")


def raise_alarm(cluster: Cluster, served: Bundle) -> dict[str, Any]:
    """Send customers of a changed world to a serving pod until its sidecar raises an alarm; gives that."""
    with cluster.pod(RANKER, SIDECAR) as (ranker, sidecar):
        await_answer(ranker, served.contract, served.name, ANSWER)
        return await_alarm(ranker, sidecar, served.contract, shifted(served, CHANGED_ROWS), ALARM)


def bucket(cluster: Cluster) -> Store:
    """The whole bucket."""
    return open_store(BUCKET, cluster.settings)


def await_retraining(cluster: Cluster, before: Collection[str], seconds: float) -> ClusterRun:
    """Wait for a run of the trigger whose id was not there before."""

    def look() -> tuple[ClusterRun | None, str]:
        runs = [run for run in cluster.kubeflow.runs(50) if run.id not in before]
        asked = (run for run in runs if run.name.startswith(f"retrain-{CONTRACT}-"))
        decisions = [entry for entry in cluster.journal.entries() if entry.kind == "decision"]
        decided = f"the trigger's last decision: {decisions[-1].reason if decisions else 'none'}"
        return next(asked, None), f"new runs: {', '.join(run.name for run in runs) or 'none'}; {decided}"

    return await_that("a retraining run in Kubeflow", look, seconds, JOURNAL)


def stop(kubeflow: Kubeflow, run: ClusterRun, seconds: float) -> ClusterRun:
    """End a run, so that it deploys nothing later."""
    httpx.post(f"{kubeflow.url}/apis/v2beta1/runs/{run.id}:terminate", timeout=30, trust_env=False).raise_for_status()
    look_at = f"{kubeflow.url}/#/runs/details/{run.id}"
    return await_that(f"run {run.name} to stop", lambda: ended(kubeflow.run(run.id)), seconds, look_at)


def roll_back(cluster: Cluster) -> None:
    """Return to the release before by the command that people use, which a kubeconfig is enough for."""
    unset = dict.fromkeys(("OFFERS_S3_ENDPOINT", "OFFERS_LEDGER", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "")
    alone = replace(cluster, env={**cluster.env, **unset})
    what = ("--service", _service(cluster), "--seconds", 600, "--reason", "a test")
    alone.offers("rollback", *what, seconds=1300)


def check_served(cluster: Cluster, name: str) -> None:
    """The service is ready with a bundle, its predictor scores golden rows as training did, customers are answered."""
    uri = uri_of_bundle(cluster, name)
    await_served(cluster.service, uri, READY)
    bundle = cluster.release(uri).bundle
    with cluster.pod(RANKER, PREDICTOR) as (ranker, predictor):
        smoke(predictor, bundle, ANSWER)
        answer = await_answer(ranker, bundle.contract, name, ANSWER)
    assert all(0 < offer["propensity"] < 1 for offer in answer["offers"])
    assert answer["offers"]


def uri_of_bundle(cluster: Cluster, name: str) -> str:
    """URI of the newest release of a bundle."""
    made = [release.name for release in cluster.ledger.state().releases.values() if release.act.bundle == name]
    if not made:
        pytest.fail(f"bundle {name}: the ledger knows no release of it", pytrace=False)
    return f"{BUCKET}/{key(made[-1])}"


def uri_of(service: Mapping[str, Any]) -> str:
    """URI of the release that an InferenceService is told to have; empty before its first."""
    return str(service["spec"]["predictor"]["model"].get("storageUri", ""))


def _ready(service: Mapping[str, Any]) -> dict[str, Any]:
    conditions = service.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == "Ready"), {"message": "it has no such condition yet"})


def _service(cluster: Cluster) -> str:
    return f"{cluster.service.namespace}/{cluster.service.name}"


def ended(run: ClusterRun) -> tuple[ClusterRun | None, str]:
    """A look at a run, for the wait for its end."""
    return (run if run.over else None), _told(run)


def _told(run: ClusterRun) -> str:
    steps = ", ".join(f"{step.name} {step.state}" for step in run.steps)
    lost = f", lost at {run.lost_at}" if run.lost_at else ""
    return f"{run.state}{f' ({run.error})' if run.error else ''}{lost}, steps: {steps or 'none yet'}"


def _report(sidecar: str) -> dict[str, Any]:
    try:
        answer = httpx.get(f"{sidecar}/report", params={"format": "json"}, timeout=10, trust_env=False)
        content: dict[str, Any] = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        raise ServiceError(f"the sidecar at {sidecar} gives no report: {error or type(error).__name__}") from None
    return content
