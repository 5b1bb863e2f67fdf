"""How a step meets what is away, and how it ends."""

from itertools import pairwise

import pytest

from offers.errors import DataError, OffersError, StorageError
from offers.steps import execution
from pipelines.placement import PATIENCE


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the pipelines give it to their steps."""
    monkeypatch.setenv("OFFERS_PATIENCE", str(PATIENCE))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Moments, the last of which is now: a pause passes at once."""
    moments = [0.0]
    monkeypatch.setattr(execution.time, "monotonic", lambda: moments[-1])
    monkeypatch.setattr(execution.time, "sleep", lambda seconds: moments.append(moments[-1] + seconds))
    return moments


class Away:
    """A step that fails until a moment has come."""

    __name__ = "away"

    def __init__(self, clock: list[float], until: float, error: OffersError) -> None:
        self.clock, self.until, self.error, self.tries = clock, until, error, 0

    def __call__(self) -> str:
        self.tries += 1
        if self.clock[-1] < self.until:
            raise self.error
        return "done"


def test_a_store_that_is_away_for_two_minutes_is_waited_for(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    step = Away(clock, 119, StorageError("s3://bank: no answer", passes=True))
    assert execution.execute(step) == "done"
    assert 119 <= clock[-1] <= 120
    pauses = [later - earlier for earlier, later in pairwise(clock)]
    assert max(pauses) <= 20
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == step.tries - 1 < 20
    assert lines[0].startswith("offers: s3://bank: no answer; tried again in ")


def test_patience_has_an_end(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    step = Away(clock, 1000, StorageError("s3://bank: no answer", passes=True))
    with pytest.raises(SystemExit) as ended:
        execution.execute(step)
    assert ended.value.code == 1
    assert clock[-1] == pytest.approx(120)
    assert capsys.readouterr().err == "offers: stopped: s3://bank: no answer\n"


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(DataError("7 rows break the contract"), "120"), (StorageError("s3://bank: no answer", passes=True), "")],
)
def test_a_fault_of_the_data_and_one_on_this_machine_end_at_once(
    clock: list[float],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: OffersError,
    seconds: str,
) -> None:
    monkeypatch.setenv("OFFERS_PATIENCE", seconds)
    step = Away(clock, 1000, error)
    with pytest.raises(SystemExit):
        execution.execute(step)
    assert (step.tries, clock) == (1, [0.0])
    assert capsys.readouterr().err == f"offers: stopped: {error}\n"


@pytest.mark.parametrize("seconds", ["soon", "-1", "inf", "nan"])
def test_a_patience_that_is_none_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seconds: str
) -> None:
    monkeypatch.setenv("OFFERS_PATIENCE", seconds)
    with pytest.raises(SystemExit):
        execution.execute(str)
    told = f"offers: stopped: OFFERS_PATIENCE: expected seconds, 0 or more, got '{seconds}'\n"
    assert capsys.readouterr().err == told


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    def step() -> None:
        raise KeyError("auc")

    with pytest.raises(KeyError):
        execution.execute(step)
