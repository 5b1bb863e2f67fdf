"""How many packages of offers something passes through: a reader who follows it has to know that many."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import offers
from offers.contract.contract import Contract
from offers.settings import Settings
from offers.steps import monitoring
from tests.support.live import CLUB, live
from tests.support.runs import ShopRun, train_file

PACKAGE = Path(offers.__file__).parent
ROWS, WINDOW = 1987, 500


@pytest.fixture(scope="module")
def walk_of_a_contract(tmp_path_factory: pytest.TempPathFactory) -> tuple[ShopRun, set[str]]:
    directory = tmp_path_factory.mktemp("club")
    contract = CLUB.replace("base_rate: 0.25", "rows: 3000, base_rate: 0.25")
    return walk(lambda: train_file(directory, contract, Path("simulated")), lambda value: isinstance(value, Contract))


def test_a_contract_passes_through_few_packages(walk_of_a_contract: tuple[ShopRun, set[str]]) -> None:
    assert len(walk_of_a_contract[1]) <= 12


def test_a_decision_passes_through_few_packages(walk_of_a_contract: tuple[ShopRun, set[str]], tmp_path: Path) -> None:
    bundle, settings = walk_of_a_contract[0].bundle, Settings(home=tmp_path)
    decisions = live(bundle, rows=ROWS)
    scored, outcomes = decisions.write(tmp_path)
    steps = [tmp_path / name for name in ("decisions", "findings", "verdict", "page.html")]

    def monitor() -> None:
        monitoring.collect(str(bundle), scored, outcomes, ("", "", decisions.end), steps[0], settings, print)
        monitoring.inspect(str(bundle), *steps[:2], settings, print)
        monitoring.judge(str(bundle), *steps, str(tmp_path), settings, print)

    _, packages = walk(monitor, holds_decisions)
    assert {"decisions", "monitoring", "drift"} <= packages
    assert len(packages) <= 8


def walk(call: Callable[[], Any], wanted: Callable[[Any], bool]) -> tuple[Any, set[str]]:
    """Call, and give the packages that have a function which is handed what is wanted."""
    packages = set[str]()

    def follow(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(f"{PACKAGE}/"):
            return
        parts = Path(code.co_filename).relative_to(PACKAGE).parts
        if len(parts) == 2 and parts[1].endswith(".py") and parts[0] not in packages:
            arguments = (frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount])
            if any(wanted(value) for value in arguments):
                packages.add(parts[0])

    sys.setprofile(follow)
    try:
        return call(), packages
    finally:
        sys.setprofile(None)


def holds_decisions(value: object) -> bool:
    tables = (
        part for part in parts(value) if isinstance(part, pd.DataFrame | pd.Series | np.ndarray) and np.ndim(part)
    )
    return any(len(table) in (ROWS, WINDOW) for table in tables)


def parts(value: object) -> Iterator[object]:
    """The value itself, and what a record holds."""
    yield value
    if is_dataclass(value) and not isinstance(value, type):
        yield from (getattr(value, field.name) for field in fields(value))
