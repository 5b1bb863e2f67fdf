"""Drift of preferences: seen when tastes change, and not seen while they stay, whatever the season."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from offers.data.market import write_simulated
from offers.retrieval.drift import PreferenceWindow, preference_windows
from offers.retrieval.views import read_views
from offers.simulation.market import SimulatedMarket
from offers.simulation.shifts import TasteShift
from tests.support.markets import SmallMarket


def windows(
    fintech: SmallMarket, directory: Path, days: float, shifts: Sequence[TasteShift] = (), **world: float
) -> list[PreferenceWindow]:
    """Watch users of the market of whom most were not in the training."""
    simulation = fintech.market.simulation.model_copy(update={"users": 12_000, **world})
    market = fintech.market.model_copy(update={"simulation": simulation})
    write_simulated(SimulatedMarket(market, 3, tuple(shifts)), directory)
    with read_views(market, directory) as (views, _):
        return list(preference_windows(fintech.bundle, views, days))


@pytest.mark.parametrize("season", [0.3, 0.9])
def test_without_a_shift_no_week_of_a_year_gives_an_alarm(fintech: SmallMarket, tmp_path: Path, season: float) -> None:
    found = windows(fintech, tmp_path, 7.0, season=season)
    assert len(found) == 53
    assert [one for one in found if one.alarm] == []


def test_a_shift_is_seen_from_its_window_on(fintech: SmallMarket, tmp_path: Path) -> None:
    found = windows(fintech, tmp_path, 30.0, [TasteShift(200.0, share=0.5)])
    shifted = [one.start + np.timedelta64(30, "D") > np.datetime64("2025-07-20") for one in found]
    assert [one.alarm for one in found] == shifted
