"""What the loop reaches on real rows, at alignments of the blocks that chose no setting.

The bounds are what holds today, a little looser than what was measured; `docs/loop.md` tells the goals beside them, and
which of them are not reached.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import pytest
from threadpoolctl import threadpool_limits

from cli.backtest import _history
from offers.backtest.clock import AT_ONCE, Delay
from offers.backtest.comparison import measure
from offers.backtest.history import History
from offers.backtest.results import Case, ReplayResult
from offers.backtest.schedule import Schedule

pytestmark = pytest.mark.nightly
ALIGNMENTS = (101, 187, 411)
LOOP = Schedule("two of three", True)
PLAIN = (Schedule("never", False), Schedule("rows", False, 2000))


@pytest.fixture(scope="module")
def uci(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> History:
    if not (data_dir / "bank-additional-full.csv").is_file():
        pytest.skip(f"{data_dir} holds no bank-additional-full.csv")
    return _history("bank-marketing", "", 0, tmp_path_factory.mktemp("boosters"))[0]


@pytest.fixture(scope="module")
def loans(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> History:
    contract, rows = data_dir / "lending-club.yaml", data_dir / "lendingclub.csv"
    if not (contract.is_file() and rows.is_file()):
        pytest.skip(f"{data_dir} holds no lending-club.yaml and lendingclub.csv")
    return _history(str(contract), str(rows), 0, tmp_path_factory.mktemp("boosters"))[0]


def replayed(
    history: History,
    policy: Schedule = LOOP,
    batch: int = 0,
    alignments: Sequence[int] = ALIGNMENTS,
    delay: Delay = AT_ONCE,
) -> list[ReplayResult]:
    with threadpool_limits(1):
        return [measure(history, Case(policy, alignment, delay, batch)) for alignment in alignments]


def assert_lives(results: Sequence[ReplayResult]) -> None:
    """No quarter of the rows goes without an accepted model."""
    assert all(result.live_from is not None and result.live_from < 16_476 / 4 for result in results)


def auc(results: Sequence[ReplayResult]) -> float:
    return mean(result.pooled.auc or 0.0 for result in results)


def test_labels_known_at_once_on_the_uci_contacts(uci: History) -> None:
    results = replayed(uci)
    assert auc(results) >= 0.787
    assert mean(result.pooled.within or 0.0 for result in results) >= 0.622
    assert mean(result.pooled.ece for result in results) <= 0.018
    assert mean(result.pooled.log_loss for result in results) <= 0.419
    assert mean(len(result.retrained) for result in results) <= 13
    assert mean(result.pooled.accepted[0] for result in results) >= 528
    assert_lives(results)


@pytest.mark.parametrize(("batch", "floor"), [(100, 0.796), (50, 0.799)])
def test_smaller_batches_of_labels_on_the_uci_contacts(uci: History, batch: int, floor: float) -> None:
    assert auc(replayed(uci, batch=batch)) >= floor


@pytest.mark.parametrize(
    ("delay", "floor", "error"),
    [(Delay(500), 0.745, 0.031), (Delay(2000), 0.694, 0.056), (Delay(30, by_days=True), 0.708, 0.05)],
    ids=str,
)
def test_labels_that_come_late_on_the_uci_contacts(uci: History, delay: Delay, floor: float, error: float) -> None:
    results = replayed(uci, delay=delay)
    assert auc(results) >= floor
    assert mean(result.pooled.ece for result in results) <= error
    assert_lives(results)


def test_a_stable_world_is_left_alone_on_lending_clubs_loans(loans: History) -> None:
    loop = replayed(loans, alignments=ALIGNMENTS[:2])
    assert auc(loop) >= 0.702
    assert all(len(result.retrained) <= 8 for result in loop)
    plain = [replayed(loans, policy, alignments=ALIGNMENTS[:1]) for policy in PLAIN]
    assert auc(loop) >= max(map(auc, plain)) - 0.002
