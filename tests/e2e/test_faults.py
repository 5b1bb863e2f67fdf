"""What a run and a service go through on a real cluster: faults that pass, faults that don't, changes under load."""

import json
import time

import pytest

from pipelines.placement import CONFIG
from serving.ranker.question import example
from tests.e2e import faults, load, steps
from tests.e2e.awaiting import await_that
from tests.e2e.cluster import CONTRACT, NAMESPACE, Cluster, image

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROWS = "e2e/rows.csv"


def submit(cluster: Cluster, name: str, *more: object) -> str:
    """Start a training that deploys nothing; gives the id of its run."""
    what = ("--contract", CONTRACT, "--publish", "s3://offers/e2e", "--name", f"{name}-{int(time.time())}", *more)
    return cluster.offers("pipeline", "submit", *what, seconds=120).split()[0]


def status(cluster: Cluster, run: str) -> str:
    """What a person reads of a run; its exit code is of no matter here."""
    try:
        return cluster.offers("pipeline", "status", run, seconds=120)
    except pytest.fail.Exception as error:
        return str(error)


def test_a_step_whose_store_is_away_for_a_minute_goes_on(cluster: Cluster) -> None:
    cluster.offers("data", "simulate", cluster.home / "rows.csv", "--rows", 8000, seconds=120)
    source = f"s3://offers/{ROWS}"
    steps.bucket(cluster).write_bytes(ROWS, (cluster.home / "rows.csv").read_bytes())
    with faults.steps_without_store(cluster.api):
        run = submit(cluster, "e2e-away", "--source", source)
        faults.step_pod(cluster.api, run, "ingest", steps.START)
        faults.pause(60)
        faults.come_back(cluster.api)
        faults.await_step(cluster, run, "validate", steps.RUN)
    said = cluster.offers("pipeline", "logs", run, "--step", "ingest", seconds=120)
    assert "no answer from e2e-store.kubeflow:9000" in said
    assert "tried again in" in said
    steps.stop(cluster.kubeflow, cluster.kubeflow.run(run), steps.START)


def test_a_killed_step_is_named_with_its_reason_and_kept_for_a_week(cluster: Cluster) -> None:
    run = submit(cluster, "e2e-killed", "--source", "simulated", "--trials", 20)
    pod = faults.step_pod(cluster.api, run, "train", steps.RUN)
    faults.kill(pod)
    look_at = f"offers pipeline status {run}"
    ended = await_that("the end of the run", lambda: steps.ended(cluster.kubeflow.run(run)), steps.RUN, look_at)
    assert [step.state for step in ended.steps][3] == "failed"
    assert "train: its process was killed (exit code 137)" in status(cluster, run)
    spec = faults.workflow(cluster.api, run)["spec"]
    week = CONFIG.ttl_seconds_after_finished
    assert spec["ttlStrategy"] == dict.fromkeys(
        ("secondsAfterCompletion", "secondsAfterFailure", "secondsAfterSuccess"), week
    )
    assert spec["templateDefaults"]["retryStrategy"]["retryPolicy"] == "OnError"


def test_a_run_that_kubeflow_lost_is_begun_again_once(cluster: Cluster) -> None:
    before = {run.id for run in cluster.kubeflow.runs(50)}
    served = cluster.release(steps.uri_of(cluster.service.read())).bundle
    steps.raise_alarm(cluster, served)
    lost = steps.await_retraining(cluster, before, steps.START)
    with faults.store_away(cluster):
        look_at = f"offers pipeline status {lost.name}"
        await_that("the loss of the run", lambda: steps.ended(cluster.kubeflow.run(lost.id)), steps.START * 3, look_at)
    assert cluster.kubeflow.run(lost.id).lost_at
    again = steps.await_retraining(cluster, {*before, lost.id}, steps.START * 2)
    assert f"{lost.name}  failed: Kubeflow's own task" in "\n".join(cluster.journal.lines())
    steps.stop(cluster.kubeflow, again, steps.START)


def test_a_schedule_is_replaced_while_its_run_goes_on(cluster: Cluster) -> None:
    def schedule(cron: str) -> None:
        what = ("training", "--contract", CONTRACT, "--source", "simulated", "--publish", "s3://offers/e2e")
        cluster.offers("pipeline", "schedule", *what, "--cron", cron, seconds=120)

    before = {run.id for run in cluster.kubeflow.runs(50)}
    name = f"train-{CONTRACT}"

    def begun() -> tuple[str | None, str]:
        new = [run for run in cluster.kubeflow.runs(50) if run.id not in before and run.name.startswith(name)]
        return next((run.id for run in new), None), f"{len(new)} runs"

    schedule("*/20 * * * * *")
    run = await_that("a run of the schedule", begun, steps.START, "offers pipeline schedules")
    schedule("0 0 3 1 1 *")
    faults.await_step(cluster, run, "validate", steps.RUN)
    assert faults.workflow(cluster.api, run)["metadata"]["name"]
    cluster.offers("pipeline", "unschedule", name, seconds=120)
    assert name not in cluster.offers("pipeline", "schedules", seconds=120)
    steps.stop(cluster.kubeflow, cluster.kubeflow.run(run), steps.START)


def test_a_rollback_by_one_command_under_load_fails_no_request(cluster: Cluster) -> None:
    served = steps.uri_of(cluster.service.read())
    contract = cluster.release(served).bundle.contract
    steps.await_run(cluster.kubeflow, steps.submit(cluster, int(time.time())), steps.RUN)
    with load.asking(cluster.api, image(cluster.api), json.dumps(example(contract))) as counts:
        steps.roll_back(cluster)
    assert steps.uri_of(cluster.service.read()) == served
    assert counts.failed == ()
    assert min(counts.kept, counts.new) > 100


def test_after_a_loss_of_all_but_the_bucket_one_command_serves_again(cluster: Cluster) -> None:
    served = steps.uri_of(cluster.service.read())
    before, runs = steps.bundles(cluster.bundles), len(cluster.kubeflow.runs(200))
    faults.without_namespace(cluster, NAMESPACE, "object-store", "pseudonym-key")
    cluster.offers("deploy", "--seconds", 600, seconds=1300)
    steps.check_served(cluster, cluster.release(served).bundle.name)
    assert steps.bundles(cluster.bundles) == before
    assert len(cluster.kubeflow.runs(200)) == runs
