from importlib.resources import files

import pytest

from offers.errors import CatalogueError, ContractError
from offers.yaml_file import Kind, Section, Text

NOTES = Kind("notes", "offers.contract.shipped", "title and lines", CatalogueError)


class Line(Section):
    id: str
    words: tuple[Text, ...]


class Notes(Section):
    title: str
    lines: tuple[Line, ...]


TEXT = "title: off\nlines:\n  - {id: first, words: [yes, 010, 1.5, 2024-05-31]}\n  - id: second\n    words: [no]\n"


def test_words_of_yaml_stay_words() -> None:
    notes = NOTES.read(TEXT, "notes.yaml").into(Notes)
    assert notes.title == "off"
    assert notes.lines[0].words == ("yes", "010", "1.5", "2024-05-31")


def test_mistake_is_told_with_line_and_label() -> None:
    document = NOTES.read(TEXT.replace("words: [no]", "words: [no, [on]]"), "notes.yaml")
    with pytest.raises(CatalogueError, match=r"^notes.yaml, line 5: lines.second.words.1: expected text"):
        document.into(Notes)


def test_problems_found_later_are_told_with_line_and_label() -> None:
    document = NOTES.read(TEXT, "notes.yaml")
    document.refuse([])
    with pytest.raises(CatalogueError) as refusal:
        document.refuse([(("lines", 0, "words", 2), "too short"), (("lines", 1, "id"), "too dull"), ((), "too few")])
    assert str(refusal.value) == (
        "notes.yaml, line 3: lines.first.words.2: too short; notes.yaml, line 4: lines.second.id: too dull;"
        " notes.yaml, line 1: notes: too few"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: " + "1" * 5000, "Exceeds the limit"),
        ("a: {b: 1, b: 2}", "line 1: not valid YAML: key 'b' stands twice"),
    ],
)
def test_what_can_not_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=f"notes.yaml.*{message}"):
        NOTES.read(text, "notes.yaml")


def test_kind_finds_its_shipped_files() -> None:
    contracts = Kind("contract", "offers.contract.shipped", "name", ContractError)
    text = (files("offers.contract.shipped") / "personal-loan.yaml").read_text("utf-8")
    assert contracts.find("personal-loan") == (text, "personal-loan.yaml")
    assert contracts.find("a: 1\n") == ("a: 1\n", "contract")
    with pytest.raises(
        ContractError, match="contract 'loans': expected one of bank-marketing, personal-loan, or the path"
    ):
        contracts.find("loans")
