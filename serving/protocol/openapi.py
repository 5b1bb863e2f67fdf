"""What a service answers to, as an OpenAPI 3.1 document: made from the contract and the catalogue that it serves.

A service names its models, so that the addresses in its document are those that it answers.
"""

from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

from offers.contract.column import Role
from offers.contract.contract import Contract
from serving.process.edge import BODY_SECONDS
from serving.protocol import schemas
from serving.protocol.kserve import MESSAGE_LIMIT, Model
from serving.protocol.schemas import Schema, list_of, record, share
from serving.ranker import outcomes
from serving.ranker.question import example

_DESCRIPTION = f"""\
Every answer is JSON but for the metrics, and every error is `{{"error": "one sentence"}}`, which says what was \
expected, what arrived and where.

Beside what stands below, each address answers 404 where a model or a version is not served here, 405 to another \
method, 408 to a body that stops short, 413 to one of {MESSAGE_LIMIT} bytes or more, and 415 to a packed one. A body \
is JSON in UTF-8; where an object in it has a key twice, the last one counts. A request may carry `x-request-id`; each \
answer does, and so does the service's log. gRPC answers on a port of its own, by KServe's V2 protocol."""

_TAGS = {
    "Decisions": "What the model is for.",
    "Models": "What is served here.",
    "Service": "Whether it lives, and how it fares.",
}
ERRORS = {
    400: "The request breaks the contract; the sentence names the field, what was expected and what arrived.",
    404: "This model, or this version of it, is not served here.",
    408: f"The body did not arrive within {BODY_SECONDS:g} s, or within one when the service shuts down.",
    413: "More rows, or more bytes, than one request may hold.",
    415: "The body is packed; it has to come without a content-encoding.",
    503: "The model is not ready, or the predictor behind it does not answer.",
}
REQUEST_ID = {
    "description": "The caller's own id where it was a plain one, else one of ours.",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}


def document(models: Iterable[Model]) -> Schema:
    """Describe a service.

    Parameters
    ----------
    models : those it serves; one with a `bundle` is described as a predictor, one with a `policy` as a ranker, and
        any other by what all models answer to

    Returns
    -------
    dict
        an OpenAPI 3.1 document, ready for JSON
    """
    all_models = list(models)
    paths: Schema = {}
    for model in all_models:
        paths |= _of_model(model)
    title = f"Offers {', '.join(map(_kind, all_models))}"
    error = record({"error": {"type": "string", "description": "One sentence."}}, "Error")
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version("offers"), "description": _DESCRIPTION},
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "paths": paths | _of_service(),
        "components": {"schemas": {"Error": error}, "headers": {"RequestId": REQUEST_ID}},
    }


def _kind(model: Model) -> str:
    return "ranker" if hasattr(model, "policy") else "predictor" if hasattr(model, "bundle") else "model"


def _of_model(model: Model) -> Schema:
    v1, v2 = f"/v1/models/{model.name}", f"/v2/models/{model.name}"
    kinds: dict[str, Callable[[Any], Schema]] = {"predictor": _of_predictor, "ranker": _of_ranker}
    paths = kinds[_kind(model)](model) if _kind(model) in kinds else {}
    ready = record({"name": {"const": model.name}, "ready": {"const": True}})
    paths |= {
        v1: get("Models", "Is the model ready?", ready, 503),
        v2: get("Models", "Metadata of the model", schemas.metadata()),
        f"{v2}/ready": get("Models", "Is the model ready? (V2)", ready, 503),
    }
    return paths | {
        path.replace(v2, f"{v2}/versions/{{model_version}}"): _of_version(item, model.version)
        for path, item in paths.items()
        if path.startswith(v2)
    }


def _of_version(item: Schema, served: str) -> Schema:
    parameter = {"name": "model_version", "in": "path", "required": True, "example": served}
    refusing = {method: or_errors(operation, 404) for method, operation in item.items()}
    return {"parameters": [parameter | {"schema": {"enum": [served]}}], **refusing}


def _of_service() -> Schema:
    names = record({"models": list_of({"type": "string"})})
    about = {"name": {"const": "offers"}, "version": {"type": "string"}, "extensions": list_of({"type": "string"})}
    ready = get(
        "Service", "Are all models ready, and is it not shutting down?", record({"ready": {"const": True}}), 503
    )
    metrics = get("Service", "Prometheus metrics", {"type": "string"})
    text = {"schema": {"type": "string"}}
    metrics["get"]["responses"]["200"]["content"] = {"text/plain": text, "application/openmetrics-text": text}
    return {
        "/v1/models": get("Models", "Names of the models", names),
        "/v2/models": get("Models", "Names of the models (V2)", names),
        "/": get("Service", "Is the process alive?", record({"status": {"const": "alive"}})),
        "/v2": get("Service", "Metadata of the service", record(about)),
        "/v2/health/live": get("Service", "Is the process alive? (V2)", record({"live": {"const": True}})),
        "/v2/health/ready": ready,
        "/metrics": metrics,
    }


def _of_predictor(model: Any) -> Schema:
    contract: Contract = model.bundle.contract
    row, typical = schemas.row(contract.inputs, "Row"), _typical(contract)
    sample = {"instances": [typical]}
    path = f"/v1/models/{model.name}"
    return {
        f"{path}:predict": post(
            "How likely is acceptance?",
            f"Scores rows of the contract *{contract.title}*, customer, offer and context together.",
            body(schemas.instances(row, model.schema.max_rows), sample),
            record({"predictions": list_of(share("Calibrated probability of acceptance, one per row."))}),
        ),
        f"{path}:explain": post(
            "Why this propensity?",
            "Takes scores apart. A propensity is the logistic function of `slope * margin + intercept`.",
            body(schemas.instances(row, model.explained.max_rows), sample),
            schemas.explanations(model.bundle.model.encoder.names),
        ),
        f"/v2/models/{model.name}/infer": _infer(
            model, typical, "Takes a tensor per column, and answers with one of propensities."
        ),
    }


def _of_ranker(model: Any) -> Schema:
    contract, policy, sample = model.contract, model.policy, example(model.contract)
    [customer] = sample["instances"]
    posts = {
        path: post(
            "What did customers do about it?",
            "Takes outcomes of decisions; sent again they do no harm. Those from the future go to quarantine.",
            body(outcomes.schema(), outcomes.EXAMPLE),
            outcomes.answer_schema(),
        )
        for path in model.takes
    }
    return posts | {
        f"/v1/models/{model.name}:predict": post(
            "Which offer for whom?",
            f"Ranks the offers of the catalogue *{policy.catalogue.title or policy.catalogue.name}* for customers, and"
            " says why the others are withheld. Asks the predictor once, whatever the number of customers, and a second"
            " time for an explanation.",
            body(
                schemas.instances(
                    schemas.question(contract, policy), model.schema.max_customers, explain=schemas.EXPLAIN
                ),
                sample,
            ),
            record({"predictions": list_of(schemas.ranking(policy))}),
        ),
        f"/v2/models/{model.name}/infer": _infer(
            model,
            customer["customer"] | customer["context"] | customer,
            "Takes a tensor per field, and answers with one of text: each the JSON object that V1 answers with.",
        ),
    }


def _infer(model: Model, row: Schema, description: str) -> Schema:
    inputs, outputs = model.get_input_types(), [item["name"] for item in model.get_output_types()]
    sample = [
        {"name": item["name"], "shape": [1], "datatype": item["datatype"], "data": [row[item["name"]]]}
        for item in inputs
        if item["name"] in row
    ]
    described = post(
        "The same by the V2 protocol",
        f"{description} Tensors may also follow the JSON as bytes, by the binary tensor data extension.",
        body(schemas.tensors(inputs, outputs), {"inputs": sample}),
        schemas.inference(model.name, outputs),
    )
    described["post"]["responses"]["200"]["content"]["application/octet-stream"] = {}
    return described


def _typical(contract: Contract) -> Schema:
    """A made-up row; the example of a question leaves out the columns that an offer sets."""
    columns = tuple(column.model_copy(update={"role": Role.CUSTOMER}) for column in contract.inputs)
    row: Schema = example(contract.model_copy(update={"columns": columns}))["instances"][0]["customer"]
    return row


def body(schema: Schema, sample: Schema) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": sample}}}


def get(tag: str, summary: str, answer: Schema, *failures: int) -> Schema:
    return {"get": or_errors({"tags": [tag], "summary": summary, "responses": {"200": response(answer)}}, *failures)}


def post(summary: str, description: str, body: Schema, answer: Schema) -> Schema:
    operation = {
        "tags": ["Decisions"],
        "summary": summary,
        "description": description,
        "requestBody": body,
        "responses": {"200": response(answer)},
    }
    return {"post": or_errors(operation, 400, 408, 413, 415, 503)}


def or_errors(operation: Schema, *failures: int) -> Schema:
    errors = {str(status): response({"$ref": "#/components/schemas/Error"}, ERRORS[status]) for status in failures}
    return operation | {"responses": operation["responses"] | errors}


def response(schema: Schema, description: str = "The answer.") -> Schema:
    headers = {"x-request-id": {"$ref": "#/components/headers/RequestId"}}
    return {"description": description, "headers": headers, "content": {"application/json": {"schema": schema}}}
