"""The steps of runs that a real Kubeflow Pipelines has told of."""

import json
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kfp_server_api
import pytest

from pipelines import progress

RECORDED = Path(__file__).parent / "recorded"
TRAINING = ["ingest", "validate", "prepare", "train", "evaluate", "gate", "package", "deploy"]


def recorded(name: str) -> Any:
    """A run as kfp's client reads it."""
    answer = SimpleNamespace(data=(RECORDED / f"run-{name}.json").read_text("utf-8"))
    return kfp_server_api.ApiClient().deserialize(answer, "V2beta1Run")


def states(run: Any) -> list[str]:
    return [step.state for step in progress.steps(run)]


@pytest.mark.parametrize(
    ("name", "state", "steps"),
    [
        ("succeeded", "succeeded", ["done"] * 8),
        ("failed-source", "failed", ["failed", *["not run"] * 7]),
        ("failed-killed", "failed", ["done", "failed", *["not run"] * 6]),
        ("terminated", "stopped", ["stopped", *["not run"] * 7]),
        ("gate-refused", "succeeded", [*["done"] * 6, "skipped", "skipped"]),
    ],
)
def test_each_run_shows_the_steps_of_its_pipeline_in_order(name: str, state: str, steps: list[str]) -> None:
    run = recorded(name)
    assert progress.run_state(run) == state
    assert [step.name for step in progress.steps(run)] == TRAINING
    assert states(run) == steps
    assert progress.refused(run, progress.steps(run)) == (name == "gate-refused")
    assert progress.pipeline_name(run) == "offers-training"
    assert progress.lost_at(run) == ""


def test_a_step_tells_when_it_began_how_long_it_took_and_how_often_it_was_tried() -> None:
    evaluate = progress.steps(recorded("succeeded"))[4]
    assert evaluate.began is not None
    assert evaluate.began.isoformat().startswith("2026-11-30T04:23:16")
    assert (evaluate.seconds, evaluate.tries) == (31, 1)
    never = progress.steps(recorded("failed-source"))[1]
    assert (never.began, never.seconds, never.tries) == (None, None, 0)


def test_a_step_that_was_tried_again_counts_its_tries() -> None:
    run = recorded("failed-killed")
    (wrapper,) = [
        task for task in run.run_details.task_details if task.display_name == "executor" and task.state == "FAILED"
    ]
    wrapper.child_tasks = wrapper.child_tasks * 3
    assert [step.tries for step in progress.steps(run)][:3] == [1, 3, 0]


def test_a_run_under_way() -> None:
    run = recorded("succeeded")
    run.state = "RUNNING"
    unfinished = {"evaluate": "RUNNING", "gate": None, "condition-1": None, "package": None, "deploy": None}
    for task in run.run_details.task_details:
        if task.display_name in unfinished:
            task.state, task.end_time = unfinished[task.display_name], None
    assert progress.run_state(run) == "running"
    assert states(run) == [*["done"] * 4, "running", "waiting", "waiting", "waiting"]
    evaluate = progress.steps(run)[4]
    assert evaluate.seconds is not None
    assert evaluate.seconds > 0


def test_the_rounds_of_a_loop_are_shown_one_by_one() -> None:
    run = recorded("succeeded")
    (last,) = [task for task in run.run_details.task_details if task.display_name == "evaluate"]
    first, failed = deepcopy(last), deepcopy(last)
    first.start_time -= timedelta(seconds=9)
    failed.start_time, failed.state = first.start_time + timedelta(seconds=3), "FAILED"
    run.run_details.task_details += [failed, first]
    rounds = [step for step in progress.steps(run) if step.name.startswith("evaluate")]
    assert [(step.name, step.state) for step in rounds] == [
        ("evaluate 1", "done"),
        ("evaluate 2", "failed"),
        ("evaluate 3", "done"),
    ]
    assert [step.seconds for step in rounds] == [40, 37, 31]


def test_a_driver_that_failed_is_kubeflows_own_loss() -> None:
    run = recorded("failed-source")
    for task in run.run_details.task_details:
        if task.display_name == "ingest-driver":
            task.state = "FAILED"
        elif task.display_name == "ingest":
            task.state = None
    assert states(run)[0] == "failed"
    assert progress.lost_at(run) == "ingest-driver"


def test_a_run_without_details_or_graph_has_no_steps() -> None:
    run = recorded("succeeded")
    run.run_details = None
    assert set(states(run)) == {"not run"}
    run.pipeline_spec = None
    assert progress.steps(run) == ()
    assert progress.lost_at(run) == ""


def test_a_graph_without_what_a_platform_has_to_know_lies_one_level_higher() -> None:
    run = recorded("succeeded")
    run.pipeline_spec = run.pipeline_spec["pipeline_spec"]
    assert states(run) == ["done"] * 8


def test_the_list_of_runs_says_which_was_stopped() -> None:
    answer = SimpleNamespace(data=(RECORDED / "runs.json").read_text("utf-8"))
    runs = kfp_server_api.ApiClient().deserialize(answer, "V2beta1ListRunsResponse").runs
    told = {run.display_name: progress.run_state(run) for run in runs}
    assert told["first-86cbb9c055ce-2"] == "running"
    names = json.loads((RECORDED / "runs.json").read_text("utf-8"))["runs"]
    ended_by_hand = {
        run["display_name"] for run in names if any(entry["state"] == "CANCELING" for entry in run["state_history"])
    }
    assert {name for name, state in told.items() if state == "stopped"} == ended_by_hand
