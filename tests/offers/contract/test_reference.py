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
from offers.policy.words import CATALOGUE
from offers.yaml_file import Section, _Loader

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "contract.md"


def test_every_key_has_words() -> None:
    documents: list[tuple[type[Section], dict[str, dict[str, str]]]] = [(Contract, CONTRACT), (Catalogue, CATALOGUE)]
    for model, words_of_model in documents:
        keys = {
            name: {field.alias or key for key, field in section.model_fields.items()}
            for name, section in sections_of(model).items()
        }
        assert keys == {name: set(words) for name, words in words_of_model.items()}


@pytest.mark.parametrize(
    ("noun", "directory", "schema"),
    [
        ("contract", "contract", json_schema(Contract, "A contract of Offers", CONTRACT)),
        ("policy", "policy", json_schema(Catalogue, "A catalogue of Offers", CATALOGUE)),
    ],
)
def test_shipped_files_point_to_a_schema_that_is_there(noun: str, directory: str, schema: str) -> None:
    folder = ROOT / "offers" / directory / "shipped"
    lines = {path.read_text("utf-8").splitlines()[0] for path in folder.glob("*.yaml")}
    [(before, where)] = {tuple(line.split("$schema=")) for line in lines}
    assert before == "# yaml-language-server: "
    shipped = (folder / where).resolve()
    assert shipped.read_text("utf-8") == schema, f"remove {shipped.name} and run offers {noun} schema {shipped}"


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
