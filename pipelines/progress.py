"""The progress of a run on a cluster: the pipeline's own steps in order, derived from Kubeflow's report of the run.

Kubeflow's tasks are Argo's nodes, in no order. Each step has up to seven: its driver, its executor, a wrapper of each
that retries, and every try. A step is found by its name in the graph, and its tries by the time of its wrapper. In a
loop several nodes have a step's name, one for each round that has begun; each is a step, numbered by its start.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

StepState = Literal["waiting", "running", "done", "skipped", "not run", "stopped", "failed"]
RunState = Literal["waiting", "running", "succeeded", "refused", "stopped", "failed"]

GATED = "passed"
"""Name of the condition behind which a pipeline has what only a model that passed the gate gets."""
_RUN_STATES: dict[str, RunState] = {
    "SUCCEEDED": "succeeded",
    "SKIPPED": "succeeded",
    "FAILED": "failed",
    "CANCELED": "stopped",
    "RUNNING": "running",
    "PAUSED": "running",
    "CANCELING": "running",
}


@dataclass(frozen=True)
class Step:
    """One step of the pipeline; `tries` is 0 where it has not begun."""

    name: str
    state: StepState = "waiting"
    began: datetime | None = None
    seconds: float | None = None
    tries: int = 0


def run_state(run: Any) -> RunState:
    """Translate Kubeflow's state of a run into ours; Kubeflow calls a terminated run FAILED."""
    state = _RUN_STATES.get(run.state or "", "waiting")
    return "stopped" if state == "failed" and _terminated(run) else state


def steps(run: Any, now: datetime | None = None) -> tuple[Step, ...]:
    """List the steps of a run in the order of its graph; the steps of a branch come at the branch's place.

    Parameters
    ----------
    run : as kfp's client reads it, with its details
    now : moment up to which the duration of a running step counts
    """
    return tuple(_Steps(run, now or datetime.now(UTC)).of("root", enclosing="waiting"))


def refused(run: Any, steps: Sequence[Step]) -> bool:
    """Whether a run succeeded without a model because its gate refused the candidate."""
    gate = next((step for step in steps if step.name == "gate"), None)
    behind = [name for name, _, branch in _graph(run) if branch == GATED]
    skipped = {step.name for step in steps if step.state == "skipped"}
    return gate is not None and gate.state == "done" and bool(behind) and skipped.issuperset(behind)


def lost_at(run: Any) -> str:
    """Name the task of Kubeflow's own at which a run failed, if no step of ours failed; else empty.

    Kubeflow can't retry such a task once it is registered, so only a new run helps.
    """
    if run_state(run) != "failed":
        return ""
    failures = [task for task in _tasks(run) if task.state == "FAILED" and task.display_name.endswith("-driver")]
    return str(min(failures, key=lambda task: task.create_time).display_name) if failures else ""


def pipeline_name(run: Any) -> str:
    """Name the pipeline, which is a part of the path where Kubeflow keeps artifacts and logs."""
    return str(_spec(run).get("pipelineInfo", {}).get("name", ""))


class _Steps:
    def __init__(self, run: Any, now: datetime) -> None:
        self._spec, self._tasks, self._now = _spec(run), _tasks(run), now
        self._over = run_state(run) in ("succeeded", "stopped", "failed")
        self._stopped = _terminated(run)
        self._by_name: dict[str, Any] = {task.display_name: task for task in self._tasks}

    def of(self, component: str, enclosing: StepState) -> Iterator[Step]:
        """Yield the steps of one graph; `enclosing` is the state of the branch that contains it."""
        for name, task in _ordered(_tasks_of(self._spec, component)):
            inner, state = task["componentRef"]["name"], self._state(name, enclosing)
            if _tasks_of(self._spec, inner):
                yield from self.of(inner, state)
            elif len(rounds := self._rounds(name)) > 1:
                for number, node in enumerate(rounds, 1):
                    yield self._step(f"{name} {number}", self._node_state(node, None, enclosing), node)
            else:
                yield self._step(name, state, self._by_name.get(name))

    def _rounds(self, name: str) -> list[Any]:
        nodes = [task for task in self._tasks if task.display_name == name]
        return sorted(nodes, key=lambda node: (node.start_time is None, node.start_time or node.create_time))

    def _step(self, name: str, state: StepState, node: Any) -> Step:
        began = moment(node.start_time) if node is not None and node.state else None
        if node is None or began is None or state in ("waiting", "not run", "skipped"):
            return Step(name, state)
        end = moment(node.end_time) or self._now
        return Step(name, state, began, max(0.0, (end - began).total_seconds()), self._tries(node))

    def _state(self, name: str, enclosing: StepState) -> StepState:
        return self._node_state(self._by_name.get(name), self._by_name.get(f"{name}-driver"), enclosing)

    def _node_state(self, node: Any, driver: Any, enclosing: StepState) -> StepState:
        word = node.state if node is not None else None
        if word in ("SUCCEEDED", "CACHED"):
            return "done"
        if word == "SKIPPED" or enclosing == "skipped":
            return "skipped"
        if word in ("FAILED", "CANCELED") or (driver is not None and driver.state == "FAILED"):
            return "stopped" if self._stopped else "failed"
        if self._over:
            return "not run"
        return "running" if word == "RUNNING" else "waiting"

    def _tries(self, step: Any) -> int:
        """Count how often a step's container was started: its wrapper starts with it, and has each try as a child."""
        wrappers = [task for task in self._tasks if task.display_name == "executor"]
        tries = [len(task.child_tasks or ()) for task in wrappers if task.start_time == step.start_time]
        return max([1, *tries])


def moment(time: datetime | None) -> datetime | None:
    """Turn the beginning of 1970, which Kubeflow writes for an event that has not happened yet, into None."""
    return None if time is None or time.year < 2000 else time


def _terminated(run: Any) -> bool:
    return any(entry.state in ("CANCELING", "CANCELED") for entry in run.state_history or ())


def _tasks(run: Any) -> Sequence[Any]:
    return (run.run_details.task_details if run.run_details else None) or ()


def _spec(run: Any) -> Mapping[str, Any]:
    """Get the graph from a run's specification, which may also have a part for the platform."""
    spec: Mapping[str, Any] = run.pipeline_spec or {}
    return spec.get("pipeline_spec", spec)


def _tasks_of(spec: Mapping[str, Any], component: str) -> Mapping[str, Any]:
    whole = spec.get("root", {}) if component == "root" else spec.get("components", {}).get(component, {})
    tasks: Mapping[str, Any] = whole.get("dag", {}).get("tasks", {})
    return tasks


def _graph(run: Any, component: str = "root", branch: str = "") -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Yield the steps of the graph, each with the name of the branch that directly or indirectly contains it."""
    spec = _spec(run)
    for name, task in _ordered(_tasks_of(spec, component)):
        inner = task["componentRef"]["name"]
        if _tasks_of(spec, inner):
            yield from _graph(run, inner, branch or str(task.get("taskInfo", {}).get("name", name)))
        else:
            yield name, task, branch


def _ordered(tasks: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each task after those on which it depends; where that leaves a choice, by name."""
    rest = dict(sorted(tasks.items()))
    while rest:
        ready = [name for name, task in rest.items() if not rest.keys() & set(task.get("dependentTasks", ()))]
        # Only a damaged graph has a cycle.
        for name in ready or list(rest):
            yield name, rest.pop(name)
