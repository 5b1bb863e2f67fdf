"""Events of OpenLineage, spec 2-0-2: a step of a run began, ended or failed, and what it read and wrote."""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from offers import __version__

Kind = Literal["START", "COMPLETE", "FAIL"]
PRODUCER = f"urn:offers:{__version__}"
_SPEC = "https://openlineage.io/spec"
_FACETS = {
    "parent": "1-2-0/ParentRunFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "schema": "1-2-0/SchemaDatasetFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet",
    "dataQualityMetrics": "1-0-3/DataQualityMetricsInputDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
}
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ROWS = "rows.parquet"
_VERSIONS = (("data.json", "fingerprint"), ("provenance.json", "source_sha256"))


@dataclass(frozen=True)
class Traffic:
    """The arguments of a step that name directories or files it reads, and those that name ones it writes.

    `customers` and `output` are places of the order of a scoring.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]


STEPS = {
    "ingest": Traffic((), ("raw",)),
    "validate": Traffic(("raw",), ("typed",)),
    "prepare": Traffic(("typed",), ("gold",)),
    "train": Traffic(("gold",), ("model",)),
    "update": Traffic(("gold",), ("model",)),
    "evaluate": Traffic(("gold", "model"), ("result",)),
    "gate": Traffic(("gold", "model", "result"), ("verdict",)),
    "package": Traffic(("gold", "model", "result", "verdict"), ()),
    "import_tables": Traffic((), ("tables",)),
    "write_features": Traffic(("tables",), ("views",)),
    "train_towers": Traffic(("views",), ("towers",)),
    "train_ranker": Traffic(("views", "towers"), ("ranker",)),
    "evaluate_market": Traffic(("tables", "views", "towers", "ranker"), ("result",)),
    "gate_market": Traffic(("result",), ("verdict",)),
    "package_market": Traffic(("views", "result"), ()),
    "load_users": Traffic(("tables",), ()),
    "collect": Traffic((), ("decisions",)),
    "inspect": Traffic(("decisions",), ("findings",)),
    "judge": Traffic(("decisions", "findings"), ("verdict",)),
    "score_shard": Traffic(("customers",), ("output",)),
    "score_on_spark": Traffic(("customers",), ("output",)),
    "summarise": Traffic(("output",), ("summary",)),
}
"""The steps that are told of, by name."""


@dataclass(frozen=True)
class Step:
    """A step of one run.

    Attributes
    ----------
    name : one of `STEPS`
    contract : name of the contract whose data the step handles
    run : id of the step's own run
    parent : id of the pipeline's run, which all its steps share
    paths : the step's arguments that are paths, by name
    places : customers and output of the step's order
    namespace : namespace of jobs and data sets
    """

    name: str
    contract: str
    run: str
    parent: str
    paths: Mapping[str, Path]
    places: Mapping[str, str]
    namespace: str


def step_of(name: str, arguments: Mapping[str, object], namespace: str) -> Step:
    """Describe a step that is about to run with the given arguments."""
    paths, order = dict(_paths(arguments)), _order(arguments)
    contract = _contract(order or arguments)
    places = {place: order[place] for place in ("customers", "output") if order}
    # The steps of a scoring have no directory in common, but they have the table.
    parent = str(uuid.uuid5(uuid.NAMESPACE_URL, places["output"])) if places else _parent(contract, paths)
    return Step(name, contract, str(uuid.uuid4()), parent, paths, places, namespace)


def event(step: Step, kind: Kind, origin: str = "", made: str = "", problem: str = "") -> dict[str, Any]:
    """Build an event as it is sent.

    Parameters
    ----------
    origin : origin of rows from outside, if the step read such rows
    made : name of the bundle that the step made
    problem : why the step failed
    """
    pipeline = {"namespace": step.namespace, "name": step.contract, "facets": {}}
    facets = {"parent": _facet("parent", run={"runId": step.parent, "facets": {}}, job=pipeline)}
    if problem:
        facets["errorMessage"] = _facet("errorMessage", message=problem[:2000], programmingLanguage="Python")
    job = _facet("jobType", processingType="BATCH", integration="OFFERS", jobType="TASK")
    traffic, whole = STEPS[step.name], kind == "COMPLETE"
    inputs = [_input(step, name) for name in traffic.reads]
    if origin:
        inputs.append(_outside(origin) | {"inputFacets": {}})
    outputs = [_output(step, name) for name in traffic.writes] if whole else []
    if made and whole:
        version = _facet("version", datasetVersion=made)
        name = f"{step.contract}.bundle"
        outputs.append({"namespace": step.namespace, "name": name, "facets": {"version": version}, "outputFacets": {}})
    return {
        "eventType": kind,
        "eventTime": datetime.now(UTC).isoformat(),
        "producer": PRODUCER,
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": step.run, "facets": facets},
        "job": {
            "namespace": step.namespace,
            "name": f"{step.contract}.{step.name}",
            "facets": {"jobType": job},
        },
        "inputs": inputs,
        "outputs": outputs,
    }


def _facet(name: str, **fields: Any) -> dict[str, Any]:
    place = _FACETS[name]
    schema = f"{_SPEC}/facets/{place}.json#/$defs/{place.partition('/')[2]}"
    return {"_producer": PRODUCER, "_schemaURL": schema, **fields}


def _input(step: Step, name: str) -> dict[str, Any]:
    if name in step.places:
        return _outside(step.places[name]) | {"inputFacets": {}}
    data = _dataset(step, name)
    rows = _row_count(step.paths[name])
    metrics = (
        {} if rows is None else {"dataQualityMetrics": _facet("dataQualityMetrics", rowCount=rows, columnMetrics={})}
    )
    return data | {"inputFacets": metrics}


def _output(step: Step, name: str) -> dict[str, Any]:
    if name in step.places:
        return _outside(step.places[name]) | {"outputFacets": {}}
    data, rows = _dataset(step, name), _row_count(step.paths[name])
    statistics = {} if rows is None else {"outputStatistics": _facet("outputStatistics", rowCount=rows)}
    return data | {"outputFacets": statistics}


def _outside(place: str) -> dict[str, Any]:
    return {"namespace": _place(place), "name": place, "facets": {}}


def _dataset(step: Step, name: str) -> dict[str, Any]:
    facets, path = {}, step.paths[name]
    if (path / _ROWS).is_file():
        from pyarrow import parquet

        columns = parquet.read_schema(path / _ROWS)
        fields = [{"name": column.name, "type": str(column.type), "fields": []} for column in columns]
        facets["schema"] = _facet("schema", fields=fields)
    for file, key in _VERSIONS:
        if (path / file).is_file() and (version := json.loads((path / file).read_bytes()).get(key)):
            facets["version"] = _facet("version", datasetVersion=version)
            break
    return {"namespace": step.namespace, "name": f"{step.contract}.{name}", "facets": facets}


def _row_count(path: Path) -> int | None:
    if not (path / _ROWS).is_file():
        return None
    from pyarrow import parquet

    return int(parquet.read_metadata(path / _ROWS).num_rows)


def _paths(arguments: Mapping[str, object]) -> Iterator[tuple[str, Path]]:
    """Yield the arguments that are paths, and the paths inside those that are records."""
    for name, value in arguments.items():
        if isinstance(value, Path):
            yield name, value
        elif is_dataclass(value):
            yield from _paths(vars(value))


def _contract(arguments: Mapping[str, object]) -> str:
    """Find the contract's name in its text or in the bundle's name, without parsing the contract."""
    text = str(arguments.get("contract_text", ""))
    if text:
        match = re.search(r"^name:\s*[\"']?([a-z0-9-]+)", text, re.MULTILINE)
        return match[1] if match else text.strip()[:200]
    name = str(arguments.get("bundle", "")).rstrip("/").rpartition("/")[2].rpartition("-")[0]
    return name.removeprefix("release:").removesuffix("-release") or "offers"


def _order(arguments: Mapping[str, object]) -> dict[str, str]:
    """Find the order of a scoring among the arguments; all shards of one have the same places."""
    orders = arguments.get("orders", [arguments.get("order", "")])
    try:
        order: dict[str, str] = json.loads(orders[0]) if isinstance(orders, list) else {}
    except (ValueError, TypeError):
        # The step itself says what is wrong with it.
        return {}
    return order


def _parent(contract: str, paths: Mapping[str, Path]) -> str:
    """Find the id of the pipeline's run: Kubeflow's, if a path has it, else one derived from the steps' directory."""
    for path in paths.values():
        if match := _UUID.search(str(path)):
            return match[0]
    name = next((str(path.parent.parent) for path in paths.values()), contract)
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def _place(origin: str) -> str:
    scheme, there, rest = origin.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if there else "file"
