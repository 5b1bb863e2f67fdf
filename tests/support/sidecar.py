"""The drift sidecar as a process in its own environment, what is sent to it, and a sink that takes its alarms."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pandas as pd
import pytest
from cloudevents.conversion import to_structured
from cloudevents.http import CloudEvent, from_http

from offers.bundle import bundle as bundles
from offers.contract import contract as contracts
from offers.data.csv_writer import write_csv
from offers.drift.reference import SCORE
from offers.simulation.shifts import Regime
from offers.simulation.world import World
from tests.support import loopback
from tests.support.loopback import Loopback
from tests.support.runs import train_file

ROOT = Path(__file__).parents[2]
DEADLINE = 180.0
WINDOW = 500

CLUB = f"""\
name: club
title: A club that offers its members a holiday
source: {{file: members.csv}}
target: {{column: booked, positive: "yes", negative: "no"}}
columns:
  - {{name: member, role: identifier, type: text}}
  - {{name: spending, role: customer, type: number, min: 0, max: 10000, typical: [50, 2000]}}
  - {{name: visits, role: customer, type: integer, min: 0, max: 60, missing: ["99"], typical: [1, 30]}}
  - name: region
    role: customer
    type: category
    values: [north, south, east, west]
    typical: {{north: 0.4, south: 0.3, east: 0.25, west: 0.05}}
    unknown: missing
  - {{name: family, role: customer, type: boolean}}
  - {{name: channel, role: offer, type: category, values: [mail, phone, web]}}
  - {{name: rate, role: context, type: number, min: 0, max: 5, drift: expected}}
  - {{name: booked, role: target, type: category}}
evaluation: {{folds: 2, bootstrap: 50}}
model: {{trees: 30, depth: 3, learning_rate: 0.2}}
calibration: {{rows: 300}}
gate:
  - {{metric: auc, on: pooled, at_least: 0.5}}
simulation: {{base_rate: 0.2}}
watch: {{window: {WINDOW}, consecutive: 2}}
"""


def train_club(directory: Path) -> Path:
    """Train a bundle on 4 000 simulated members."""
    contract = contracts.parse(CLUB)
    csv = directory / "members.csv"
    write_csv(World(contract).sample(4000).frame, contract, csv)
    return train_file(directory, CLUB, csv).bundle


def members(bundle: Path, rows: int, *regimes: Regime, seed: int = 1) -> pd.DataFrame:
    """Members of the same world, none of whom was in the training data, with the bundle's propensities."""
    loaded = bundles.load(bundle)
    inputs = [column.name for column in loaded.contract.inputs]
    frame = World(loaded.contract).sample(rows, seed=seed, regimes=regimes).frame[inputs]
    return frame.assign(**{SCORE: loaded.model.propensity(frame)})


def scored(bundle: str, rows: pd.DataFrame, **more: Any) -> CloudEvent:
    """An event of scored rows, as the ranker makes it: words, and float64 for all other types; null where missing."""
    columns = {str(name): _plain(rows[name]) for name in rows.columns if name != SCORE}
    data = {"bundle": bundle, "columns": columns, "propensity": rows[SCORE].tolist(), **more}
    return CloudEvent({"type": "offers.scored", "source": "/offers/ranker", "subject": bundle}, data)


def _plain(cells: "pd.Series[Any]") -> list[Any]:
    kind = str if isinstance(cells.dtype, pd.CategoricalDtype) or cells.dtype == object else float
    return [None if pd.isna(cell) else kind(cell) for cell in cells]


@dataclass(frozen=True)
class Sidecar:
    """A sidecar that answers."""

    process: subprocess.Popen[str]
    bundle: str
    log: Path
    client: httpx.Client

    def post(self, event: CloudEvent) -> httpx.Response:
        headers, body = to_structured(event)
        return self.client.post("/", headers=headers, content=body)

    def feed(self, rows: pd.DataFrame, **more: Any) -> None:
        """Post rows in batches that fit no window; `more` stands in each event."""
        for start in range(0, len(rows), 180):
            answer = self.post(scored(self.bundle, rows.iloc[start : start + 180], **more))
            assert answer.status_code == 202, answer.text

    def report(self) -> dict[str, Any]:
        answer = self.client.get("/report")
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content

    def when(self, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The first report of which something holds."""
        return until(self.report, holds)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What it has logged of one kind so far."""
        lines = map(json.loads, self.log.read_text("utf-8").splitlines())
        return [line for line in lines if line["event"] == event]


def until(look: Callable[[], Any], holds: Callable[[Any], Any]) -> Any:
    """Look again and again until something holds, and fail after the deadline."""
    end = time.monotonic() + DEADLINE
    while not holds(seen := look()):
        assert time.monotonic() < end, f"waited in vain; last seen: {seen}"
        time.sleep(0.02)
    return seen


def python() -> str:
    """The interpreter of the sidecar's own environment."""
    path = ROOT / ".venv-drift" / "bin" / "python"
    if not path.exists():
        pytest.fail(f"the drift sidecar's environment {path.parents[1]} is missing: run `make setup`")
    return str(path)


def call(*arguments: object) -> list[str]:
    return [python(), "-W", "error::ResourceWarning", "-m", "serving.drift", *map(str, arguments)]


@contextmanager
def sidecar(bundle: Path, state: Path, *arguments: object) -> Iterator[Sidecar]:
    """Start a sidecar on a free port; SIGTERM has to end it with exit code 0 then, unless it was killed."""
    log = state.with_suffix(".log")
    command = call("--bundle", bundle, "--state", state, "--port", 0, *arguments)
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text("utf-8")
        bound = json.loads(line)
        url = f"http://{bound['host']}:{bound['http_port']}"
        with httpx.Client(base_url=url, timeout=DEADLINE, trust_env=False) as client:
            yield Sidecar(process, bound["bundle"], log, client)
        if process.poll() is None:
            process.terminate()
            assert process.wait(DEADLINE) == 0, log.read_text("utf-8")
    finally:
        process.kill()
        process.communicate()


def refused(*arguments: object) -> str:
    """What a sidecar that does not start says; one sentence and exit code 2."""
    done = subprocess.run(call(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    [line] = done.stderr.splitlines()
    return line


@dataclass
class Sink(Loopback):
    """Takes CloudEvents; `answers` with a status, or not at all before `go_on` where that is 0."""

    answers: int = 202
    events: list[CloudEvent] = field(default_factory=list)
    go_on: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        super().__init__(_Handler.of(self), patient=False)

    def __exit__(self, *details: object) -> None:
        self.go_on.set()
        super().__exit__(*details)

    @property
    def url(self) -> str:
        return f"{super().url}/alarms"

    @property
    def ids(self) -> Sequence[str]:
        return [event["id"] for event in self.events]


class _Handler(loopback.Handler):
    double: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.double.events.append(from_http(dict(self.headers.items()), body))
        if not self.double.answers:
            self.double.go_on.wait(DEADLINE)
            self.close_connection = True
            return
        self.send_response(self.double.answers)
        self.send_header("Content-Length", "0")
        self.end_headers()
