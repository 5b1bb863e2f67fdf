"""The page of the contract and the schema of editors say what the models say."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.contract.reference import json_schema, sections_of, with_tables
from offers.contract.words import CONTRACT
from offers.policy import catalogue as catalogues
from offers.policy.catalogue import Catalogue
from offers.yaml_file import _Loader

PAGE = Path(__file__).parents[3] / "docs" / "contract.md"


def test_every_key_has_words() -> None:
    keys = {name: set(section.model_fields) for name, section in sections_of(Contract).items()}
    assert keys == {name: set(words) for name, words in CONTRACT.items()}


def test_the_page_holds_the_tables_of_the_models() -> None:
    page = PAGE.read_text("utf-8")
    assert with_tables(page, sections_of(Contract), CONTRACT) == page, "run python -m offers.contract.reference"
    assert "| `bootstrap` | 200 | resamples" in page
    for name in sections_of(Contract):
        assert f"<!-- keys of {name} -->" in page


@pytest.mark.parametrize("name", contracts.shipped())
def test_the_schema_takes_what_is_shipped(name: str) -> None:
    schemas: list[tuple[Any, Any]] = [(Contract, contracts), (Catalogue, catalogues)]
    for model, module in schemas:
        schema = json.loads(json_schema(model, "A file", CONTRACT))
        validator = jsonschema_rs.Draft202012Validator(schema)
        content = yaml.load(module.text(name), Loader=_Loader)
        assert [error.message for error in validator.iter_errors(json.loads(json.dumps(content, default=str)))] == []


def test_the_schema_has_the_words_of_the_page_and_refuses_what_the_contract_refuses() -> None:
    schema = json.loads(json_schema(Contract, "A contract", CONTRACT))
    assert (
        schema["$defs"]["EvaluationSettings"]["properties"]["bootstrap"]["description"]
        == "resamples for the 95 % intervals"
    )
    validator = jsonschema_rs.Draft202012Validator(schema)
    content = json.loads(contracts.load("personal-loan").model_dump_json(exclude_unset=True))
    assert validator.is_valid(content)
    assert not validator.is_valid(content | {"tittle": "x"})
    assert not validator.is_valid(content | {"evaluation": {"folds": 1}})
