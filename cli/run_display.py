"""Shows a run on the terminal: its steps while they run, its figures, and the gate's verdict."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cli.screen import console
from offers.evaluation.figures import Evaluation, Scores
from offers.evaluation.gate import GateVerdict
from pipelines.local import LocalRun, Step

_MARKS = {"done": Text("✓", "green"), "failed": Text("✗", "red")}


class RunDisplay:
    """Shows the steps of a run: in a live table on a terminal, elsewhere by lines as steps begin and end."""

    def __init__(self) -> None:
        self._run: LocalRun | None = None
        self._step_began = time.monotonic()
        self._printed: set[str] = set()
        self._live = (
            Live(get_renderable=self._table, console=console, refresh_per_second=8) if console.is_terminal else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def update(self, run: LocalRun) -> None:
        if self._run is None or len(run.steps) > len(self._table_steps()):
            self._step_began = time.monotonic()
        self._run = run
        if not self._live:
            for step in self._table_steps():
                self._print_once(step)

    def _print_once(self, step: Step) -> None:
        """Print a line when a step begins and when it ends, so that a CI log shows what it waits for."""
        line = f"{step.name}:{step.state}"
        if line not in self._printed:
            self._printed.add(line)
            mark = _MARKS.get(step.state, Text("…", "dim"))
            console.print(
                mark, f"{step.name:<9} {step.seconds:6.1f} s  {step.note}" if step.state in _MARKS else step.name
            )

    def _table_steps(self) -> list[Step]:
        return [step for step in self._run.steps.values() if not step.name.startswith("condition")] if self._run else []

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for step in self._table_steps():
            running = step.state == "running"
            seconds = time.monotonic() - self._step_began if running else step.seconds
            mark = Spinner("dots") if running else _MARKS[step.state]
            table.add_row(mark, step.name, f"{seconds:6.1f} s", Text(step.note, "dim" if running else ""))
        return table


def results_table(evaluation: Evaluation) -> Table:
    """Tabulate figures on unseen rows: each window, all windows, the baseline, and the random split."""
    table = _plain_table(evaluation.scheme)
    for heading in ("", "yes", "AUC", "95 %", "log-loss", "ECE", "lift/max"):
        table.add_column(heading, justify="left" if heading == "" else "right", overflow="fold")
    for window in evaluation.windows:
        _scores_row(table, f"{window.name} {window.first_period} to {window.last_period}", window.model)
    _scores_row(table, "out of time" if evaluation.windows else "out of fold", evaluation.model, "bold")
    _scores_row(table, "logistic baseline", evaluation.baseline)
    if evaluation.champion:
        _scores_row(table, "champion", evaluation.champion.scores)
    if evaluation.windows:
        _scores_row(table, "random split: optimistic", evaluation.random_split, "dim")
        if evaluation.random_baseline:
            _scores_row(table, "logistic baseline there", evaluation.random_baseline, "dim")
    return table


def gate_table(verdict: GateVerdict) -> Table:
    """Tabulate each rule with its measured figure."""
    styles = {True: "green", False: "bold red", None: "dim"}
    title = f"gate: {'passed' if verdict.passed else 'REFUSED'}"
    table = _plain_table(title)
    for heading in ("rule", "measured", "threshold", "verdict"):
        table.add_column(heading, justify="right" if heading == "measured" else "left", overflow="fold")
    for rule in verdict.rules:
        figure = "-" if rule.measured is None else f"{rule.measured:.4f}"
        table.add_row(rule.rule, figure, rule.threshold, Text(rule.word, styles[rule.passed]))
    return table


def gate_notes(verdict: GateVerdict) -> Iterator[str]:
    """Yield the notes on rules that failed or did not apply."""
    return (f"{rule.rule}: {rule.note}" for rule in verdict.rules if rule.note and not rule.passed)


def _plain_table(title: str) -> Table:
    return Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1))


def _scores_row(table: Table, name: str, scores: Scores, style: str = "") -> None:
    def value(metric: str) -> str:
        return f"{scores[metric].value:.3f}" if metric in scores.figures else "-"

    auc = scores.figures.get("auc")
    interval = "" if auc is None or auc.low is None else f"{auc.low:.3f}-{auc.high:.3f}"
    lift = f"{scores['lift'].value:.2f}/{scores.lift_ceiling:.2f}" if auc else "-"
    row = (f"{scores.positive_rate:.1%}", value("auc"), interval, value("log_loss"), value("ece"), lift)
    table.add_row(name, *row, style=style)
