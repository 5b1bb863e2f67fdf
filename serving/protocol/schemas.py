"""What requests and answers hold, as JSON schemas: from the contract, the catalogue, and the inputs of a model."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from offers.contract.column import Column, Role
from offers.contract.contract import Contract
from offers.contract.values import as_number, boolean_words, limits, numbers_among, word
from offers.policy.arbitration import Policy
from offers.policy.catalogue import RESERVED, Ruled
from offers.policy.explanation import MOST_REASONS
from offers.policy.ranking import WHY_HERE
from serving.protocol.payload import MAX_ID
from serving.protocol.tensor import NUMBERS

Schema = dict[str, Any]

_PRINTABLE = r"^[ \p{L}\p{M}\p{N}\p{P}\p{S}]+$"
_DATATYPES = {"enum": ["BOOL", "BYTES", *NUMBERS]}
_TEXT, _NUMBER, _NULL = {"type": "string"}, {"type": "number"}, {"type": "null"}
_PARAMETERS = {"type": ["object", "null"]}
EXPLAIN: Schema = {
    "type": "boolean",
    "description": "Whether reasons are told in sentences, too; V2 has a parameter of this name.",
}


def record(properties: Schema, title: str = "", optional: Sequence[str] = (), closed: bool = False) -> Schema:
    """An object; a `closed` one may hold nothing else."""
    required = [name for name in properties if name not in optional]
    schema: Schema = {"type": "object", "required": required, "properties": properties}
    return ({"title": title} if title else {}) | schema | ({"additionalProperties": False} if closed else {})


def list_of(items: Schema, description: str = "", at_least: int = 0) -> Schema:
    schema: Schema = {"type": "array", "items": items}
    return schema | _told(description) | ({"minItems": at_least} if at_least else {})


def share(description: str) -> Schema:
    """A probability."""
    return {"type": "number", "minimum": 0, "maximum": 1, "description": description}


def instances(item: Schema, most: int, **optional: Schema) -> Schema:
    """The body of a V1 request for at most so many rows or customers, and what else it may hold."""
    return record({"instances": list_of(item, at_least=1) | {"maxItems": most}} | optional, "", list(optional), True)


def row(columns: Iterable[Column], title: str) -> Schema:
    """An object with a value per column, as `serving.protocol.rows` checks it."""
    return record({column.name: _column(column) for column in columns}, title, closed=True)


def question(contract: Contract, policy: Policy) -> Schema:
    """One customer who waits for a ranking, as `serving.ranker.question` checks it.

    It takes a name twice in a request, and a character newer than Python's Unicode, which are refused: a schema can't
    say so.
    """
    parts = {
        part: row([column for column in contract.inputs if column.role == role], part.capitalize())
        for part, role in (("customer", Role.CUSTOMER), ("context", Role.CONTEXT))
    }
    offers = list_of({"enum": [offer.id for offer in policy.offers]}, at_least=1)
    moments: list[Schema] = [_TEXT | {"format": form} for form in ("date", "date-time")]
    fields: Schema = {
        "customer_id": _TEXT
        | {"minLength": 1, "maxLength": 128, "pattern": _PRINTABLE}
        | _told("Printable characters; each customer once in a request."),
        "customer": parts["customer"] | _told("What is known of the customer."),
        "context": parts["context"] | _told("What is known of the day, whoever is asked."),
        "offers": {"anyOf": [offers, _NULL]} | _told("The offers to choose from; by default every one."),
        "k": {"type": ["integer", "null"], "minimum": 1}
        | _told(f"Places in the answer; by default {policy.catalogue.policy.k}."),
        "as_of": {"anyOf": [*moments, _NULL]}
        | _told("The caller's own mark of when, in ISO 8601: the answer repeats it; by default now."),
    }
    optional = ["offers", "k", "as_of", *([] if parts["context"]["properties"] else ["context"])]
    return record(fields, "Instance", optional, closed=True)


def ranking(policy: Policy) -> Schema:
    """The answer for one customer."""
    either = {
        "offer_id": {"enum": [offer.id for offer in policy.offers]},
        "score": {"type": ["number", "null"]} | _told("Expected margin in EUR; null where it was not scored."),
        "action_probability": share("The probability with which the policy puts this offer first."),
    }
    ranked = either | {
        "rank": {"type": "integer", "minimum": 1, "maximum": len(policy.offers)},
        "propensity": share("Probability of acceptance; null in the fallback.") | {"type": ["number", "null"]},
        "value": _NUMBER | {"minimum": 0} | _told("Margin of an acceptance in EUR."),
        "reasons": list_of(
            {"anyOf": [{"enum": list(WHY_HERE)}, _TEXT]},
            "Why it stands where it does; where an explanation was asked for, of the first offer also sentences.",
        ),
    }
    reason = {
        "code": {"enum": sorted(set(_reasons(policy)))},
        "kind": {"enum": ["eligibility", "suitability", "arbitration"]},
        "evaluated": {"type": "boolean"} | _told("False where a rule can't be told: a value is missing."),
        "text": _TEXT,
    }
    sentences = list_of(_TEXT, "Where an explanation was asked for: why, in at most four sentences.")
    withheld = either | {
        "reasons": list_of(record(reason, "Reason"), at_least=1),
        "principal_reasons": sentences | {"maxItems": MOST_REASONS},
    }
    versions = {"model": {"type": ["string", "null"]}, "policy": _TEXT, "catalogue": _TEXT}
    fields = {
        "customer_id": _TEXT,
        "decision_id": _TEXT | _told("Name it when the outcome is known."),
        "as_of": _TEXT | _told("As it was asked; the time of the answer where nothing was said."),
        "versions": record(versions, "Versions") | _told("What decided; no model where nothing was scored."),
        "fallback": {"type": "boolean"} | _told("Whether it was ranked by value, without the predictor."),
        "offers": list_of(record(ranked, "RankedOffer"), "The best first."),
        "withheld": list_of(record(withheld, "WithheldOffer", ["principal_reasons"])),
    }
    return record(fields, "Ranking")


def explanations(features: Iterable[str]) -> Schema:
    """The answer that takes scores apart."""
    explanation = {
        "propensity": share("Probability of acceptance."),
        "margin": _NUMBER | _told("Log-odds of the propensity: the bias and the contributions, summed."),
        "bias": _NUMBER | _told("Log-odds that every row starts from."),
        "contributions": record(dict.fromkeys(features, _NUMBER)) | _told("Log-odds that each feature adds."),
    }
    return record({"explanations": list_of(record(explanation, "Explanation"))})


def tensors(inputs: Sequence[Schema], outputs: Sequence[str]) -> Schema:
    """The body of a V2 request for a model with these inputs, as its metadata has them, and these outputs.

    It takes a tensor twice, and one whose values are not as many as its shape says, which are refused: a schema can't
    say so.
    """
    optional = sum(bool(item["parameters"].get("optional")) for item in inputs)
    tensor = {
        "name": {"enum": [item["name"] for item in inputs]},
        "shape": list_of({"type": "integer", "minimum": 1}, "[n] or [n, 1].", at_least=1) | {"maxItems": 2},
        "datatype": _DATATYPES,
        "data": {"type": "array"} | _told("Values as V1 takes them, or each in a list of its own."),
        "parameters": _PARAMETERS,
    }
    each = list_of(record(tensor, "Tensor", ["parameters"]), "Each once, in any order.", len(inputs) - optional)
    outputs_schema = record({"name": {"enum": list(outputs)}, "parameters": _PARAMETERS}, optional=["parameters"])
    fields = {
        "id": {"type": ["string", "null"], "maxLength": MAX_ID},
        "inputs": each | {"maxItems": len(inputs)},
        "outputs": {"anyOf": [list_of(outputs_schema) | {"maxItems": 1}, _NULL]}
        | _told("One of them; by default the first."),
        "parameters": _PARAMETERS,
    }
    return record(fields, optional=["id", "outputs", "parameters"])


def inference(model: str, outputs: Sequence[str]) -> Schema:
    """The answer to a V2 request."""
    shape = list_of({"type": "integer"})
    output = {"name": {"enum": list(outputs)}, "shape": shape, "datatype": _DATATYPES, "data": {"type": "array"}}
    fields = {
        "id": _TEXT,
        "model_name": {"const": model},
        "model_version": _TEXT,
        "outputs": list_of(record(output, "Output")),
    }
    return record(fields)


def metadata() -> Schema:
    """What a model tells of itself in V2."""
    described = list_of(record({"name": _TEXT, "datatype": _TEXT, "shape": list_of({"type": "integer"})}))
    fields = {"name": _TEXT, "platform": _TEXT, "versions": list_of(_TEXT), "inputs": described, "outputs": described}
    return record(fields, "Metadata")


def _reasons(policy: Policy) -> Iterator[str]:
    catalogue = policy.catalogue
    ruled: tuple[Ruled, ...] = (catalogue, *catalogue.families, *catalogue.offers)
    yield from RESERVED
    for one in ruled:
        yield from (rule.reason for _, _, rule in one.rules())


def _column(column: Column) -> Schema:
    choices = list(_values(column))
    if column.unknown == "missing":
        others: Schema = {"type": ["string", "number", "boolean"]}
        choices.append(others | _told("Any other word counts as missing."))
    if column.missing:
        choices.append({"enum": list(_stand_ins(column))} | _told("Stands for a missing value."))
    if column.may_be_missing:
        choices.append(_NULL)
    unit = f"({column.unit})" if column.unit else ""
    described = _told(f"{column.description} {unit}".strip())
    return described | (choices[0] if len(choices) == 1 else {"anyOf": choices})


def _values(column: Column) -> Iterator[Schema]:
    """The forms of a column's value."""
    if column.type == "category":
        yield _TEXT | {"enum": list(column.values)}
        if numbers := [number for number in numbers_among(column.values) if word(number) in column.values]:
            yield {"type": "number", "enum": numbers} | _told("The word that the number is.")
        if booleans := [one for one in (False, True) if word(one, column.values) in column.values]:
            yield {"type": "boolean", "enum": booleans} | _told("The word that means it.")
        return
    low, high = limits(column)
    if column.type == "boolean":
        yield {"type": ["boolean", "integer"], "minimum": 0, "maximum": 1}
        yield _TEXT | {"enum": list(boolean_words(column))} | _told("In capitals or not.")
    else:
        yield {"type": column.type, "minimum": low, "maximum": high}


def _stand_ins(column: Column) -> Iterator[str | float]:
    for token in column.missing:
        number = as_number(token)
        if number is None or column.type == "category":
            yield token
        if number is not None and (column.type != "category" or word(number) == token):
            yield int(number) if number.is_integer() else number


def _told(description: str) -> Schema:
    return {"description": description} if description else {}
