"""The drift sidecar in its own environment, told of simulated rows over HTTP as the ranker tells it."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
from cloudevents.conversion import to_binary
from cloudevents.http import CloudEvent
from prometheus_client.parser import text_string_to_metric_families

from offers.bundle import bundle as bundles
from offers.drift.examination import Reference, at_mix, at_reference_offers, examine
from offers.drift.reference import SCORE
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from offers.policy.selection import selection
from offers.simulation.shifts import CovariateShift, ShareShift
from tests.support.sidecar import DEADLINE, WINDOW, Sidecar, Sink, members, refused, scored, sidecar, train_club, until

pytestmark = pytest.mark.slow

SPENDING = CovariateShift(0, "spending", 1.0)
POLICY = ShareShift(0, "channel", "web", 2.5)
NO_FAMILY = """\
name: holidays
contract: club
eligibility: [{reason: HAS_FAMILY, column: family, equals: false}]
families: [{name: holiday}]
offers: [{id: week, title: A week, family: holiday, attributes: {channel: web}, value: 50}]
"""
DAMAGED = b"PAR1 and then nothing"


@pytest.fixture(scope="module")
def club(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_club(tmp_path_factory.mktemp("club"))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `running` keeps its state; what it finds there is damaged."""
    directory = tmp_path_factory.mktemp("running") / "state"
    directory.mkdir()
    (directory / "state.parquet").write_bytes(DAMAGED)
    return directory


@pytest.fixture(scope="module")
def running(club: Path, state: Path) -> Iterator[Sidecar]:
    """A sidecar that is shared by the tests that fill no window."""
    with sidecar(club, state) as started:
        yield started


@pytest.fixture(scope="module")
def busy(club: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar that is shared by tests that fill whole windows, and leave none half full."""
    with sidecar(club, tmp_path_factory.mktemp("busy") / "state") as started:
        yield started


@pytest.fixture(scope="module")
def few(club: Path) -> pd.DataFrame:
    return members(club, 3)


def metrics(of: Sidecar) -> dict[str, float]:
    """Samples by name and labels, as Prometheus reads them."""
    families = text_string_to_metric_families(of.client.get("/metrics").text)
    return {
        ",".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


# What the world does, and what the sidecar says of it


def test_drift_raises_one_alarm_and_neither_noise_nor_policy_does(club: Path, tmp_path: Path) -> None:
    with Sink() as sink, sidecar(club, tmp_path / "state", "--sink", sink.url) as watch:
        watch.feed(members(club, 4 * WINDOW))
        quiet = watch.when(lambda report: report["windows"] == 4)
        assert (quiet["alarms"], any(quiet["signals"].values())) == ([], False)

        watch.feed(members(club, 2 * WINDOW, POLICY, seed=2))
        policy = watch.when(lambda report: report["windows"] == 6)
        [channel] = [column for column in policy["latest"]["columns"] if column["name"] == "channel"]
        assert channel["breached"]
        assert policy["alarms"] == []

        drifted = members(club, 5 * WINDOW, SPENDING, seed=3)
        watch.feed(drifted.iloc[:WINDOW])
        first = watch.when(lambda report: report["windows"] == 7)
        assert first["latest"]["data_breached"]
        assert first["alarms"] == []
        watch.feed(drifted.iloc[WINDOW:])
        last = watch.when(lambda report: report["windows"] == 11 and all(a["delivered"] for a in report["alarms"]))

        lasted = [alarm for alarm in last["alarms"] if alarm["signals"]["data"]][-1]
        assert lasted["windows"] == 2
        assert last["history"][-1]["breached"] == ["spending"]
        assert any(reason.startswith("spending") for reason in lasted["reasons"])
        assert not any(
            reason.startswith(("visits", "region", "family", "channel", "rate ")) for reason in lasted["reasons"]
        )
        assert len(last["alarms"]) == _news(last["history"])
        assert sink.ids == [alarm["id"] for alarm in reversed(last["alarms"])]
        _check_alarm(sink.events[0], watch.bundle)
        _check_page(watch)
        _check_metrics(metrics(watch), last)
        _check_parity(club, drifted.iloc[4 * WINDOW :], last["latest"])


def test_rows_that_the_rules_let_pass_are_compared_with_a_reference_that_passes_them(club: Path, busy: Sidecar) -> None:
    rows = members(club, 6 * WINDOW, seed=4)
    no_family = rows[~rows["family"].astype(bool)].iloc[: 2 * WINDOW]
    assert len(no_family) == 2 * WINDOW
    contract, before = bundles.load(club).contract, busy.report()["windows"]
    policy = Policy(catalogues.parse(NO_FAMILY, contract), contract)

    busy.feed(no_family, selection=selection(policy, busy.bundle, club / "reference.parquet").word)
    same = busy.when(lambda report: report["windows"] == before + 2)
    [family] = [column for column in same["latest"]["columns"] if column["name"] == "family"]
    assert (family["suspect"], same["signals"]["data"]) == (False, False)
    assert 500 < same["reference"]["rows"] < same["reference"]["of"]
    assert "those that the catalogue's rules let pass" in busy.client.get("/report?format=html").text

    busy.feed(no_family)
    other = busy.when(lambda report: report["windows"] == before + 4)
    assert other["signals"]["data"]
    assert other["reference"]["rows"] == other["reference"]["of"]


def _news(history: list[dict[str, Any]]) -> int:
    """How often a signal has become an alarm that was none since there was last no alarm at all."""
    told, news = set[str](), 0
    for line in history:
        alarms = {name for name, given in line["signals"].items() if given}
        news += bool(alarms - told)
        told = told | alarms if alarms else set()
    return news


def _check_alarm(event: CloudEvent, bundle: str) -> None:
    assert (event["type"], event["source"], event["subject"]) == ("offers.drift.alarm", "/offers/drift", bundle)
    data = event.get_data()
    assert (data["bundle"], data["windows"]) == (bundle, 2)
    assert data["signals"]["data"]
    assert data["window"]["rows"] == WINDOW
    assert data["window"]["data_breached"]


def _check_page(watch: Sidecar) -> None:
    browser = watch.client.get("/report", headers={"accept": "text/html,application/xhtml+xml,*/*"})
    assert browser.headers["content-type"].startswith("text/html")
    assert browser.text == watch.client.get("/report?format=html").text
    assert "Drift that lasts" in browser.text
    for name in ("spending", "visits", "region", "family", "channel", "rate"):
        assert f"<th>{name}" in browser.text
    assert browser.text.count("<svg") == 6 + 1 + 4
    assert "http" not in browser.text.replace("http-equiv", "")
    assert "<script" not in browser.text


def _check_metrics(seen: dict[str, float], report: dict[str, Any]) -> None:
    column = next(column for column in report["latest"]["columns"] if column["name"] == "spending")
    expected = {
        "windows_total": 11,
        "rows_total": 11 * WINDOW,
        "alarms_total": len(report["alarms"]),
        "alarms_undelivered": 0,
        "signal,data": 1,
        "column_distance,spending,watched": column["ks"],
        "column_p_value,spending,watched": column["p_value"],
        "score_distance": report["latest"]["score"]["ks"],
        "last_window_timestamp_seconds": report["last_window"],
    }
    assert {name: seen[f"offers_drift_{name}"] for name in expected} == expected


def _check_parity(club: Path, rows: pd.DataFrame, seen: dict[str, Any]) -> None:
    """Alibi Detect and ours agree to the digits of float32 on p-values, and on all else the code is the same."""
    model, original = bundles.load(club).model, Reference.of_bundle(club)
    reference = at_mix(original, lambda rows: model.propensity(bundles.typed(rows, model.encoder)))
    inputs = rows.drop(columns=SCORE).reset_index(drop=True)
    typed = bundles.typed(at_reference_offers(reference, inputs), model.encoder)
    explained = np.unique(np.linspace(0, len(rows) - 1, 200).astype(int))
    ours = examine(reference, inputs, model.propensity(typed), model.importance(typed.iloc[explained])).to_dict()
    assert len(ours["columns"]) == 6
    for mine, theirs in zip(ours["columns"], seen["columns"], strict=True):
        assert theirs["p_value"] == pytest.approx(mine["p_value"], rel=1e-5, abs=1e-44)
        for key in ("ks", "cramers_v", "psi", "psi_noise", "missing", "unseen", "suspect", "breached"):
            same = pytest.approx(mine[key], rel=1e-9) if isinstance(mine[key], float) else mine[key]
            assert theirs[key] == same, (theirs["name"], key)
    assert seen["score"]["ks"] == pytest.approx(ours["score"]["ks"], abs=1e-9)
    assert seen["attribution"] == pytest.approx(ours["attribution"], abs=1e-6)
    assert seen["served_otherwise"] == 0


def test_missing_cells_and_new_categories_are_seen_and_hide_no_drift(club: Path, busy: Sidecar) -> None:
    rows = members(club, 2 * WINDOW, SPENDING)
    rows.loc[rows.index % 20 == 0, "spending"] = np.nan
    rows["region"] = rows["region"].astype(object)
    rows.loc[rows.index % 25 == 0, "region"] = "abroad"
    rows.loc[rows.index % 2 == 0, "visits"] = np.nan
    before = busy.report()["windows"]
    busy.feed(rows)
    seen = busy.when(lambda report: report["windows"] == before + 2)
    spending, visits, region = (column for column in seen["latest"]["columns"][:3])
    assert spending["missing"] == 0.05
    assert spending["p_value"] < 1e-6
    assert spending["breached"]
    assert region["unseen"] == 0.04
    assert region["breached"]
    assert visits["missing"] > 0.5
    assert visits["breached"]
    assert seen["signals"]["data"]
    [alarm] = seen["alarms"]
    assert alarm["delivered"] is None
    [logged] = busy.lines("alarm")
    assert (logged["id"], logged["reasons"]) == (alarm["id"], alarm["reasons"])
    assert "no sink" in busy.client.get("/report?format=html").text
    assert metrics(busy)["offers_drift_column_unseen_share,region,watched"] == 0.04


def test_scores_that_the_model_does_not_give_are_told(club: Path, busy: Sidecar) -> None:
    rows, before = members(club, WINDOW), busy.report()["windows"]
    rows.loc[rows.index % 10 == 0, SCORE] /= 2
    busy.feed(rows)
    seen = busy.when(lambda report: report["windows"] == before + 1)
    assert seen["latest"]["served_otherwise"] == 0.1


# A restart, a crash, a damaged state


def test_the_watch_goes_on_after_a_stop_and_after_a_crash(club: Path, tmp_path: Path) -> None:
    rows, state = members(club, 3 * WINDOW, SPENDING), tmp_path / "state"
    with Sink(answers=503) as sink:
        arguments = ("--sink", sink.url, "--sink_pause", 0.01)
        with sidecar(club, state, *arguments) as watch:
            watch.feed(rows.iloc[: WINDOW + 300])
            watch.when(lambda report: report["windows"] == 1)
        with sidecar(club, state, *arguments) as watch:
            before = watch.report()
            assert (before["windows"], before["window"]["rows"]) == (1, 300)
            assert before["streak"]["spending"] == 1
            watch.feed(rows.iloc[WINDOW + 300 : 2 * WINDOW + 100])
            seen = watch.when(lambda report: report["windows"] == 2 and report["saved"])
            assert seen["alarms"][0]["windows"] == 2
            until(lambda: len(sink.events), lambda n_tries: n_tries >= 3)
            watch.process.kill()
            assert watch.process.wait() != 0
        sink.answers = 202
        with sidecar(club, state, *arguments) as watch:
            after = watch.when(lambda report: all(alarm["delivered"] for alarm in report["alarms"]))
            assert (after["windows"], after["window"]["rows"]) == (2, 100)
            assert len(after["alarms"]) == 1
            assert after["latest"] == seen["latest"]
            # The sidecar was killed before it could note how the last of three had ended.
            assert after["sink"]["failures"] >= 2
            watch.feed(rows.iloc[2 * WINDOW + 100 :])
            last = watch.when(lambda report: report["windows"] == 3)
            assert last["streak"]["spending"] == 3
        assert set(sink.ids) == {seen["alarms"][0]["id"]}
        assert sink.events[0].get_data() == sink.events[-1].get_data()
        # What was judged is what was sent, in its order, through all of this.
        reference = Reference.of_bundle(club)
        ours = examine(reference, rows.iloc[2 * WINDOW :].drop(columns=SCORE), rows[SCORE][2 * WINDOW :])
        assert last["latest"]["columns"][0]["ks"] == pytest.approx(ours.columns[0].ks)


def test_a_damaged_state_is_set_aside(running: Sidecar) -> None:
    assert running.report()["windows"] == 0
    [said] = running.lines("state is damaged: beginning afresh")
    assert Path(said["kept"]).read_bytes() == DAMAGED


def test_another_bundle_begins_afresh_and_keeps_what_the_sink_has_not_taken(
    club: Path, shop_bundle: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    with Sink(answers=0) as sink:
        with sidecar(club, state, "--sink", sink.url) as watch:
            watch.feed(members(club, 2 * WINDOW + 10, SPENDING))
            before = watch.when(lambda report: report["windows"] == 2)
            until(lambda: sink.ids, len)
            # The sink hangs, and all else goes on.
            assert watch.client.get("/healthz").status_code == 200
            watch.feed(members(club, WINDOW - 10, SPENDING, seed=2))
            watch.when(lambda report: report["windows"] == 3)
        sink.answers = 202
        with sidecar(shop_bundle, state, "--sink", sink.url) as watch:
            after = watch.when(lambda report: all(alarm["delivered"] for alarm in report["alarms"]))
            assert (after["windows"], after["window"]["rows"]) == (0, 0)
            assert {alarm["id"] for alarm in before["alarms"]} <= set(sink.ids)
            [said] = watch.lines("another bundle: beginning afresh")
            assert (said["before"], said["bundle"]) == (club.name, shop_bundle.name)


# What arrives wrongly


def cell(name: str, value: Any, row: int = 1) -> Any:
    def change(data: dict[str, Any]) -> None:
        data["columns"][name][row] = value

    return change


def field(name: str, value: Any) -> Any:
    def change(data: dict[str, Any]) -> None:
        data[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        (cell("spending", "many"), 400, "column 'spending', row 2: expected a finite number or null, got 'many'"),
        (cell("spending", [1]), 400, "column 'spending', row 2: expected a finite number or null, got a list"),
        (cell("spending", float("nan")), 400, "NaN is no number of 64 bits"),
        (cell("spending", float("-inf")), 400, "-Infinity is no number of 64 bits"),
        (cell("spending", 10**400), 400, "10000000000000000000 is no number of 64 bits"),
        (cell("spending", 1e308), 400, "column 'spending', row 2: expected a number of at most 3.4e+38, got 1e+308"),
        (cell("region", "x" * 1001), 400, "column 'region', row 2: expected text of at most 1000 characters, got 1001"),
        (cell("region", 7), 400, "column 'region', row 2: expected text or null, got 7"),
        (cell("family", 2), 400, "column 'family', row 2: expected true, false or null, got 2"),
        (lambda data: data["columns"].pop("visits"), 400, "'columns': 'visits' is missing"),
        (lambda data: data["columns"].update(age=[1, 2, 3]), 400, "'columns': 'age' is no input of the contract"),
        (lambda data: data["columns"]["visits"].pop(), 400, "column 'visits': expected 3 cells, one for each"),
        (field("columns", [1]), 400, "'columns': expected an object with a list per column, got a list"),
        (field("propensity", [0.1, 0.2]), 400, "column 'spending': expected 2 cells, one for each propensity, got 3"),
        (field("propensity", [0.1, 1.2, 0.3]), 400, "'propensity', row 2: expected a number in [0, 1], got 1.2"),
        (field("propensity", [0.1, None, 0.3]), 400, "'propensity', row 2: expected a number in [0, 1], got None"),
        (field("propensity", "0.1"), 400, "'propensity': expected a list with a cell per row, got '0.1'"),
        (field("bundle", "club-0"), 409, "is watched here, got rows scored by 'club-0': send them to the sidecar"),
        (field("dropped", -1), 400, "'dropped': expected a whole number of rows, 0 or more, got -1"),
        (field("model", "x"), 400, "propensity, dropped, selection alone, got 'model' too"),
        (field("selection", 7), 400, "'selection': expected text, got 7"),
        (field("selection", "oA=="), 400, "'selection': expected a selection of 4000 rows in base64, got 'oA=='"),
        (lambda data: data.pop("propensity"), 400, "'data': expected bundle, columns, propensity, but 'propensity'"),
        (lambda data: data.update(propensity=[0.5] * 20_000), 413, "'propensity': expected at most 10000 rows, got"),
    ],
)
def test_wrong_rows_are_refused_in_a_sentence(
    running: Sidecar, few: pd.DataFrame, change: Any, status: int, sentence: str
) -> None:
    event, before = scored(running.bundle, few), running.report()
    change(event.data)
    _check_refused(running, before, running.post(event), status, sentence)


@pytest.mark.parametrize(
    ("headers", "body", "status", "sentence"),
    [
        ({"content-type": "application/cloudevents+json"}, b"{half", 400, "expected JSON in UTF-8"),
        ({"content-type": "application/cloudevents+json"}, b"\xff\xfe", 400, "expected JSON in UTF-8"),
        (
            {"content-type": "application/json"},
            b'{"instances": []}',
            400,
            "'specversion': expected '1.0', got nothing",
        ),
        ({"content-type": "application/json"}, b"[" * 100_000, 400, "too many levels"),
        ({}, b"", 415, "header content-type: expected application/cloudevents+json"),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]", 415, "header content-type"),
        ({"content-encoding": "gzip"}, b"{}", 415, "the body: expected no content-encoding, got 'gzip'"),
    ],
)
def test_what_is_no_event_is_refused_in_a_sentence(
    running: Sidecar, headers: dict[str, str], body: bytes, status: int, sentence: str
) -> None:
    before = running.report()
    _check_refused(running, before, running.client.post("/events", headers=headers, content=body), status, sentence)


def test_events_of_another_type_or_without_an_object_are_refused(running: Sidecar, few: pd.DataFrame) -> None:
    event, before = scored(running.bundle, few), running.report()
    event["type"] = "offers.decided"
    sentence = "'type': expected an event of type offers.scored, got 'offers.decided'"
    _check_refused(running, before, running.post(event), 400, sentence)
    event, before = scored(running.bundle, few), running.report()
    event.data = "text"
    _check_refused(running, before, running.post(event), 400, "'data': expected a JSON object, got 'text'")


def _check_refused(
    running: Sidecar, before: dict[str, Any], answer: httpx.Response, status: int, sentence: str
) -> None:
    assert answer.status_code == status, answer.text
    assert sentence in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    after = running.report()
    assert after["events"].get("refused", 0) == before["events"].get("refused", 0) + 1
    assert after["window"] == before["window"]
    assert running.client.get("/healthz").status_code == 200


def test_a_large_body_is_refused_before_it_has_arrived(running: Sidecar) -> None:
    connection = HTTPConnection(running.client.base_url.host, running.client.base_url.port, timeout=DEADLINE)
    connection.putrequest("POST", "/")
    connection.putheader("content-length", "50000000")
    connection.endheaders(b"{")
    with closing(connection), connection.getresponse() as declared:
        assert declared.status == 413
        assert json.load(declared) == {"error": "the body: expected less than 8388608 bytes, got 50000000"}

    before = psutil.Process(running.process.pid).memory_info().rss
    chunks = (b" " * 65_536 for _ in range(1600))
    answer = running.client.post("/", headers={"content-type": "application/cloudevents+json"}, content=chunks)
    assert answer.status_code == 413
    assert "and more" in answer.json()["error"]
    # 100 MB have been thrown away and not kept.
    assert psutil.Process(running.process.pid).memory_info().rss < before + 40e6


def test_an_event_in_binary_mode_and_one_sent_twice_count_once(running: Sidecar, few: pd.DataFrame) -> None:
    before, event = running.report(), scored(running.bundle, few)
    headers, body = to_binary(event)
    assert running.client.post("/", headers=headers, content=body).json() == {"outcome": "accepted", "rows": 3}
    assert running.post(event).json() == {"outcome": "duplicate", "rows": 3}
    after = running.report()
    assert after["window"]["rows"] == before["window"]["rows"] + 3
    assert after["events"]["duplicate"] == before["events"].get("duplicate", 0) + 1


def test_an_empty_batch_may_tell_what_was_dropped_before_it(running: Sidecar, few: pd.DataFrame) -> None:
    def tell(source: str, dropped: int) -> int:
        event = scored(running.bundle, few.iloc[:0], dropped=dropped)
        event["source"] = source
        assert running.post(event).json() == {"outcome": "accepted", "rows": 0}
        return int(running.report()["dropped"]["sender"])

    before = tell("/offers/ranker", 0)
    # Senders tell how many so far, and events may come in another order; who begins anew is another sender.
    told = [tell(*said) for said in (("/one", 100), ("/one", 90), ("/one", 110), ("/two", 100), ("/one", 110))]
    assert [count - before for count in told] == [100, 100, 110, 210, 210]
    assert metrics(running)["offers_drift_rows_dropped_total,sender"] == told[-1]


def test_missing_cells_of_every_kind_are_taken(running: Sidecar, few: pd.DataFrame) -> None:
    event = scored(running.bundle, few)
    for name in event.data["columns"]:
        event.data["columns"][name] = [None] * 3
    assert running.post(event).status_code == 202


def test_rows_that_find_no_room_are_sent_away_and_counted(club: Path, busy: Sidecar) -> None:
    rows, before = members(club, 4000), busy.report()
    answers = [busy.post(scored(club.name, rows)) for _ in range(20)]
    away = [answer for answer in answers if answer.status_code == 503]
    assert {answer.status_code for answer in answers} == {202, 503}
    assert away[0].json()["error"].startswith("expected at most ")
    taken = len(answers) - len(away)
    seen = busy.when(lambda report: report["windows"] == before["windows"] + taken * 4000 // WINDOW)
    events = {"accepted": before["events"].get("accepted", 0) + taken, "busy": len(away)}
    assert (seen["events"], seen["dropped"]) == (events, {"sidecar": len(away) * 4000, "sender": 0})
    assert metrics(busy)["offers_drift_rows_dropped_total,sidecar"] == len(away) * 4000


# The other addresses


def test_a_watch_without_a_window_can_be_read(running: Sidecar) -> None:
    report = running.report()
    assert (report["latest"], report["history"], report["last_window"]) == (None, [], None)
    assert "Waiting for the first full window" in running.client.get("/?format=html").text
    seen = metrics(running)
    assert seen["offers_drift_last_window_timestamp_seconds"] == report["since"]
    assert seen[f"offers_drift_info,{running.bundle}"] == 1
    assert running.client.get("/readyz").json() == {"ready": True, "bundle": running.bundle}


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/", 405), ("GET", "/report?format=pdf", 400)]
)
def test_other_questions_get_a_sentence(running: Sidecar, method: str, path: str, status: int) -> None:
    answer = running.client.request(method, path)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])


# What it does not start with


def test_it_does_not_start_with_what_is_wrong(club: Path, tmp_path: Path, running: Sidecar) -> None:
    old, changed, file = tmp_path / "old", tmp_path / "changed", tmp_path / "file"
    shutil.copytree(club, old)
    manifest = json.loads((old / "manifest.json").read_text())
    del manifest["files"]["watch.json"]
    (old / "manifest.json").write_text(json.dumps(manifest))
    shutil.copytree(club, changed)
    (changed / "calibrator.json").write_text('{"method": "platt", "slope": 2, "intercept": 0}')
    file.touch()
    right = ("--bundle", club, "--port", 0)
    sentences = [
        (("--bundle", old, "--port", 0, "--state", tmp_path / "a"), "it has no watch.json, so an older version"),
        (("--bundle", changed, "--port", 0, "--state", tmp_path / "a"), "calibrator.json was changed: fetch the"),
        (("--bundle", tmp_path, "--port", 0, "--state", tmp_path / "a"), "manifest.json is missing"),
        ((*right, "--state", file), "a part of this path is a file, not a directory"),
        ((*right, "--state", tmp_path / "a", "--sink", "sink:1"), "--sink: expected http://host:port/path"),
        (("--bundle", club, "--state", tmp_path / "a", "--port", running.client.base_url.port), "name another port"),
    ]
    for arguments, sentence in sentences:
        said = refused(*arguments)
        assert said.startswith("drift: ")
        assert sentence in said
    assert not (tmp_path / "a").exists()


def test_the_state_is_parquet_without_code(running: Sidecar, state: Path, few: pd.DataFrame) -> None:
    running.feed(few)
    rows = running.when(lambda report: report["saved"])["window"]["rows"]
    assert {path.name for path in state.iterdir()} == {"state.parquet", "state.damaged"}
    table = pq.read_table(state / "state.parquet")
    assert table.num_rows == rows >= 3
    assert list(table.schema.metadata) == [b"offers.drift.ledger"]
    assert json.loads(table.schema.metadata[b"offers.drift.ledger"])["bundle"] == running.bundle
    assert set(map(str, table.schema.types)) == {"double", "string"}
