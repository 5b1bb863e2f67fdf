"""Events of the steps, held against OpenLineage's own classes; sinks that are away, slow or refuse."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from openlineage.client import event_v2 as open_events
from openlineage.client.facet_v2 import (
    data_quality_metrics_input_dataset,
    dataset_version_dataset,
    error_message_run,
    job_type_job,
    output_statistics_output_dataset,
    parent_run,
    schema_dataset,
)
from openlineage.client.serde import Serde
from pyarrow import parquet
from pydantic import SecretStr

from offers.errors import ContractError, DataError
from offers.lineage import events
from offers.lineage.sink import FILE, SECONDS, Sink
from offers.lineage.telling import followed
from offers.settings import LineageSettings, Settings
from offers.steps import data as steps
from offers.steps import training
from tests.support.loopback import Handler, Loopback
from tests.support.runs import ShopRun


def _told(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / FILE).read_text().splitlines()]


def test_a_step_tells_what_it_read_and_wrote_as_openlineage_says_it(shop_run: ShopRun, tmp_path: Path) -> None:
    typed, gold = shop_run.directory / "typed", tmp_path / "gold"
    data = followed(steps.prepare, (shop_run.text, typed, gold), Settings(home=tmp_path))
    began, ended = _told(tmp_path)
    assert (began["eventType"], ended["eventType"]) == ("START", "COMPLETE")
    assert began["run"] == ended["run"]
    schema = parquet.read_schema(gold / "rows.parquet")
    assert ended == Serde.to_dict(_prepared(ended, shop_run.directory / "typed", schema, data.fingerprint, data.rows))


def _prepared(told: dict[str, Any], typed: Path, schema: Any, fingerprint: str, rows: int) -> open_events.RunEvent:
    """The event as OpenLineage's own client would have sent it."""
    shared: dict[str, Any] = {"producer": events.PRODUCER}

    def described(columns: Any, version: str) -> dict[str, Any]:
        fields = [schema_dataset.SchemaDatasetFacetFields(column.name, str(column.type)) for column in columns]
        return {
            "schema": schema_dataset.SchemaDatasetFacet(fields, **shared),
            "version": dataset_version_dataset.DatasetVersionDatasetFacet(version, **shared),
        }

    parent = parent_run.ParentRunFacet(
        parent_run.Run(told["run"]["facets"]["parent"]["run"]["runId"]), parent_run.Job("offers", "shop"), **shared
    )
    quality = data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet(
        rowCount=parquet.read_metadata(typed / "rows.parquet").num_rows, columnMetrics={}, **shared
    )
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows, **shared)
    source = json.loads((typed / "provenance.json").read_text())["source_sha256"]
    columns = parquet.read_schema(typed / "rows.parquet")
    return open_events.RunEvent(
        eventType=open_events.RunState.COMPLETE,
        eventTime=told["eventTime"],
        run=open_events.Run(told["run"]["runId"], {"parent": parent}),
        job=open_events.Job(
            "offers",
            "shop.prepare",
            {
                "jobType": job_type_job.JobTypeJobFacet(
                    processingType="BATCH", integration="OFFERS", jobType="TASK", **shared
                )
            },
        ),
        inputs=[
            open_events.InputDataset(
                "offers", "shop.typed", facets=described(columns, source), inputFacets={"dataQualityMetrics": quality}
            )
        ],
        outputs=[
            open_events.OutputDataset(
                "offers",
                "shop.gold",
                facets=described(schema, fingerprint),
                outputFacets={"outputStatistics": statistics},
            )
        ],
        **shared,
    )


def test_a_step_that_fails_tells_why_and_fails_as_before(shop_run: ShopRun, tmp_path: Path) -> None:
    typed = tmp_path / "run" / "validate" / "typed"
    typed.mkdir(parents=True)
    for file in (shop_run.directory / "typed").iterdir():
        (typed / file.name).write_bytes(file.read_bytes())
    (typed / "refusal.txt").write_text("3 rows break the contract")
    with pytest.raises(DataError, match="3 rows break"):
        followed(steps.prepare, (shop_run.text, typed, tmp_path / "run" / "prepare" / "gold"), Settings(home=tmp_path))
    _, failed = _told(tmp_path)
    facet = error_message_run.ErrorMessageRunFacet(
        message="3 rows break the contract", programmingLanguage="Python", producer=events.PRODUCER
    )
    assert failed["eventType"] == "FAIL"
    assert failed["run"]["facets"]["errorMessage"] == Serde.to_dict(facet)


def test_a_failure_of_a_driver_tells_no_secret(tmp_path: Path) -> None:
    def ingest(contract: str, source: str) -> None:
        raise ValueError(f"can't connect to {source}")

    with pytest.raises(ValueError, match="tiger"):
        followed(ingest, ("shop", "postgresql://reader:tiger@warehouse/bank"), Settings(home=tmp_path))
    assert "tiger" not in (tmp_path / FILE).read_text()
    assert _told(tmp_path)[-1]["run"]["facets"]["errorMessage"]["message"] == "ValueError"


def test_packaging_tells_what_its_candidate_is_made_of(shop_run: ShopRun, tmp_path: Path) -> None:
    candidate = training.Candidate(shop_run.gold, shop_run.model, shop_run.result, shop_run.verdict)
    settings = Settings(home=tmp_path)
    name = followed(training.package, (shop_run.text, candidate, tmp_path / "bundles", "", settings), settings)
    *_, ended = _told(tmp_path)
    assert [data["name"] for data in ended["inputs"]] == ["shop.gold", "shop.model", "shop.result", "shop.verdict"]
    assert [data["facets"]["version"]["datasetVersion"] for data in ended["outputs"]] == [name]


def test_the_steps_of_a_scoring_tell_of_customers_and_table(tmp_path: Path) -> None:
    order = {"bundle": "release:shop-release-1", "customers": "s3://bank/all.delta", "output": "s3://bank/scored.delta"}

    def score_shard(order: str) -> int:
        return len(order)

    def summarise(orders: list[str], summary: Path) -> None: ...

    settings = Settings(home=tmp_path)
    followed(score_shard, (json.dumps(order),), settings)
    followed(summarise, ([json.dumps(order)], tmp_path), settings)
    told = _told(tmp_path)
    assert {event["job"]["name"] for event in told} == {"shop.score_shard", "shop.summarise"}
    assert len({event["run"]["facets"]["parent"]["run"]["runId"] for event in told}) == 1
    ended = [event for event in told if event["eventType"] == "COMPLETE"]
    names = [([data["name"] for data in event[way]]) for event in ended for way in ("inputs", "outputs")]
    assert names == [["s3://bank/all.delta"], ["s3://bank/scored.delta"], ["s3://bank/scored.delta"], ["shop.summary"]]
    assert ended[0]["inputs"][0]["namespace"] == "s3://bank"


def test_steps_of_one_run_share_their_parent(tmp_path: Path) -> None:
    run = "0f3f4a52-0d60-4b5e-8a53-2f9f6c4d9a11"
    for root in (tmp_path / "run-1", Path("/s3/bank/v2/artifacts/training") / run):
        parents = {
            events.step_of(name, {"contract_text": "shop", "raw": root / name / "raw"}, "offers").parent
            for name in ("ingest", "validate")
        }
        assert len(parents) == 1
    assert parents == {run}


def test_what_is_no_step_and_what_is_switched_off_tells_nothing(tmp_path: Path) -> None:
    assert followed(abs, (-1,), Settings(home=tmp_path)) == 1
    off = Settings(home=tmp_path, lineage=LineageSettings(off=True))
    with pytest.raises(ContractError):
        followed(steps.prepare, ("name: shop", tmp_path, tmp_path), off)
    assert not (tmp_path / FILE).exists()


class _Server(Loopback):
    """Takes events, or holds them until the end."""

    def __init__(self, slow: bool = False, status: int = 201) -> None:
        taken: list[tuple[str, str, bytes]] = []
        over = self.over = Event()
        self.taken = taken

        class Answers(Handler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                taken.append((self.path, self.headers["authorization"] or "", body))
                if slow:
                    over.wait()
                self.send(status, "text/plain", b"")

        super().__init__(Answers)

    def __exit__(self, *details: object) -> None:
        self.over.set()
        super().__exit__(*details)


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as running:
        yield running


def test_a_server_takes_events_with_its_token(server: _Server, tmp_path: Path) -> None:
    Sink(tmp_path, LineageSettings(url=f"{server.url}/", key=SecretStr("secret"))).send({"eventType": "START"})
    assert server.taken == [("/api/v1/lineage", "Bearer secret", b'{"eventType":"START"}')]
    assert not (tmp_path / FILE).exists()


def test_a_step_that_fails_tells_a_server_so(server: _Server, shop_run: ShopRun, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, lineage=LineageSettings(url=server.url, namespace="bank"))
    (typed := tmp_path / "typed").mkdir()
    (typed / "provenance.json").write_bytes((shop_run.directory / "typed" / "provenance.json").read_bytes())
    (typed / "refusal.txt").write_text("3 rows break the contract")
    with pytest.raises(DataError, match="3 rows break"):
        followed(steps.prepare, (shop_run.text, typed, tmp_path / "gold"), settings)
    began, failed = (json.loads(body) for _, _, body in server.taken)
    assert (began["eventType"], failed["eventType"]) == ("START", "FAIL")
    assert (failed["run"]["runId"], failed["job"]["namespace"]) == (began["run"]["runId"], "bank")
    assert failed["run"]["facets"]["errorMessage"]["message"] == "3 rows break the contract"


def test_a_server_that_hangs_takes_no_step_s_result(
    shop_run: ShopRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 * SECONDS < 1
    with _Server(slow=True) as hanging:
        settings = Settings(home=tmp_path, lineage=LineageSettings(url=hanging.url))
        data = followed(steps.prepare, (shop_run.text, shop_run.directory / "typed", tmp_path / "gold"), settings)
    assert data.fingerprint == steps.prepare(shop_run.text, shop_run.directory / "typed", tmp_path / "same").fingerprint
    assert capsys.readouterr().err.count(f"no answer within {SECONDS:g} s") == 2


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://[", "https://127.0.0.1:9/x"])
def test_a_sink_that_is_away_is_a_line_in_the_log(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Sink(tmp_path, LineageSettings(url=url)).send({})
    assert f"offers: lineage not told to {url}: " in capsys.readouterr().err


def test_a_slow_or_refusing_server_holds_nobody_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _Server(slow=True) as slow:
        before = time.monotonic()
        Sink(tmp_path, LineageSettings(url=slow.url)).send({})
        assert time.monotonic() - before < 2 * SECONDS
        assert "lineage not told" in capsys.readouterr().err
    with _Server(status=500) as broken:
        Sink(tmp_path, LineageSettings(url=broken.url)).send({})
    assert "it answers 500" in capsys.readouterr().err


def test_a_disk_that_takes_nothing_fails_no_step(locked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Sink(locked / "home", LineageSettings()).send({})
    assert "lineage not told" in capsys.readouterr().err
