"""Work that waits behind others: what priority it has, and what is left of it afterwards."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from offers.background import in_background

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")
PROGRAM = """
import json, os, sys, threading
from pathlib import Path
from offers import background
background._AUTOGROUP = Path(sys.argv[1])

def seen():
    return [os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), background._AUTOGROUP.read_text().split()[-1]]

before = seen()
during = background.in_background(seen)
after = seen()
background.step_back()
print(json.dumps([before, during, after, seen()]))
"""


def _priorities(autogroup: Path, own_session: bool = True) -> Any:
    command = [sys.executable, "-c", PROGRAM, str(autogroup)]
    return json.loads(subprocess.run(command, capture_output=True, check=True, start_new_session=own_session).stdout)


@LINUX
def test_work_in_the_background_yields_and_the_process_does_not_stay_behind(tmp_path: Path) -> None:
    (file := tmp_path / "autogroup").write_text("/autogroup-7 nice 3\n")
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    behind = max(nice, 10)
    assert _priorities(file) == [[nice, "3"], [behind, "10"], [nice, "3"], [behind, "10"]]
    file.write_text("/autogroup-7 nice 12\n")
    assert {weight for _, weight in _priorities(file)} == {"12"}


@LINUX
@pytest.mark.parametrize(("text", "own_session"), [("/autogroup-7 nice -5\n", True), ("/autogroup-7 nice 3\n", False)])
def test_a_session_is_left_alone_that_is_shared_or_could_not_get_its_weight_back(
    text: str, own_session: bool, tmp_path: Path
) -> None:
    (file := tmp_path / "autogroup").write_text(text)
    seen = {weight for _, weight in _priorities(file, own_session)}
    assert seen == {text.rsplit(maxsplit=1)[-1]}


def test_what_the_work_returns_and_raises_reaches_the_caller() -> None:
    assert in_background(lambda: 7) == 7
    with pytest.raises(SystemExit, match="2"):
        in_background(lambda: sys.exit(2))
