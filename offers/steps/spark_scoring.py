"""Scores customers with Spark, in a process of an environment that holds Spark.

This module is also the program of that process: `python -m offers.steps.spark_scoring ORDER [MASTER]`.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from offers.errors import DataError, ServiceError
from offers.settings import Settings
from offers.steps import champion
from offers.steps.execution import MISTAKE, PREFIX
from offers.wording import Say, counted

PYTHON = Path(__file__).resolve().parents[2] / ".venv-spark" / "bin" / "python"
"""Of the environment that `make spark` installs."""


def score(text: str, master: str, settings: Settings, say: Say = print) -> int:
    """Score the customers of an order with Spark.

    Parameters
    ----------
    text : the order, as JSON
    master : such as local[2]; empty for the one that spark-submit names

    Returns
    -------
    int
        the number of customers
    """
    from offers.batch import spark
    from offers.batch.order import Order

    order = Order.model_validate_json(text)
    engine = spark.session(master)
    try:
        customers, state = spark.read_customers(engine, champion.fetched(order, settings), settings)
        summary = spark.score(customers, order, state, settings, say, champion.fetched)
    finally:
        engine.stop()
    people = f"{summary.customers} customers ({summary.earlier} of them by an earlier run)"
    say(f"{people}, {counted(summary.parts, 'part')} in {order.output}")
    return summary.customers


def score_apart(text: str, master: str, log: Path, say: Say = print) -> None:
    """Score the customers of an order with Spark on this machine, in Spark's environment.

    Parameters
    ----------
    text : the order, as JSON; its places are valid in any process of this machine
    log : file for all that Spark says

    Raises
    ------
    ServiceError
        Spark is not installed
    DataError
        the process failed; the message is the process's own sentence
    """
    if not PYTHON.exists():
        raise ServiceError(f"{PYTHON}: expected the environment of Spark; 'make spark' installs it")
    command = [str(PYTHON), "-m", "offers.steps.spark_scoring", text, master]
    with log.open("w") as noise, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=noise, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(PREFIX):
                say(line.removeprefix(PREFIX).rstrip())
    if process.returncode:
        sentence = mistake(log.read_text("utf-8", "replace").splitlines())
        sentence = sentence or f"Spark ended with {process.returncode}"
        raise DataError(f"{sentence} (all that Spark said: {log})")


def mistake(lines: Sequence[str]) -> str:
    """Find the last sentence of ours in a log; empty where there is none."""
    said = (MISTAKE.fullmatch(line.strip()) for line in reversed(lines))
    return next((match["sentence"] for match in said if match), "")


if __name__ == "__main__":
    from offers.steps.execution import execute
    from offers.steps.execution import say as step_say

    execute(score, sys.argv[1], "".join(sys.argv[2:]), Settings.from_env(), step_say)
