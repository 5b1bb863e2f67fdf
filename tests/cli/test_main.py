import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.runs import ShopRun
from tests.support.warranties import WARRANTIES

Offers = Callable[..., tuple[int, str, str]]


def _first_cells(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


def _first_spending(value: str) -> Callable[[str], str]:
    return lambda text: re.sub(r"(\n\d+;[^;]+;)[^;]+", rf"\g<1>{value}", text, count=1)


def _first_outcome(value: str) -> Callable[[str], str]:
    return lambda text: re.sub("(nein|ja)\n", f"{value}\n", text, count=1)


def _shuffled(text: str) -> str:
    header, *rows = text.splitlines(keepends=True)
    return "".join([header, *rows[1500:], *rows[:1500]])


BROKEN = {
    "empty": (lambda text: "", "empty"),
    "header only": (lambda text: text.splitlines(keepends=True)[0], "column names only"),
    "wrong separator": (lambda text: text.replace(";", "|"), r"separat.*'\|'|'\|'.*separat"),
    "missing column": (lambda text: text.replace("channel", "kanal", 1), "channel"),
    "extra column": (lambda text: text.replace("\n", ";1\n"), "extra|unexpected|not in"),
    "wrong type": (_first_spending("much"), "column 'spending', row 1: expected a number, got 'much'"),
    "out of range": (_first_spending("99999"), "column 'spending', row 1: expected at most 10000"),
    "unknown category": (_first_cells(";web;", ";fax;"), "expected one of mail, phone, web, got 'fax'"),
    "one class only": (lambda text: text.replace("nein\n", "ja\n"), "both outcomes.*'nein' never occurs"),
    "target missing": (_first_outcome(""), "column 'bought', row 1: expected a value"),
    "out of time order": (_shuffled, "column 'asked on', row 1501: expected rows in time order"),
    "ragged row": (lambda text: text + "only;three;cells\n", "row|line"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_rows_end_with_code_2_and_a_sentence(
    kind: str, offers: Offers, shop_run: ShopRun, tmp_path: Path
) -> None:
    breakage, sentence = BROKEN[kind]
    broken = tmp_path / "orders.csv"
    broken.write_text(breakage(shop_run.csv.read_text()))
    code, _, complaint = offers("data", "validate", "--contract", shop_run.contract_file, "--source", broken)
    assert code == 2
    assert re.search(sentence, complaint), complaint
    assert len(complaint.strip().splitlines()) == 1
    assert "Traceback" not in complaint


def test_a_missing_file_is_named(offers: Offers, shop_run: ShopRun, tmp_path: Path) -> None:
    code, _, complaint = offers("data", "fetch", "-c", shop_run.contract_file, "--source", tmp_path / "absent.csv")
    assert code == 2
    assert "absent.csv" in complaint


def test_a_contract_with_a_typo_names_line_and_key(offers: Offers, shop_run: ShopRun, tmp_path: Path) -> None:
    contract = tmp_path / "typo.yaml"
    contract.write_text(shop_run.text.replace("refit_every", "refit_evry"))
    code, _, complaint = offers("pipeline", "run", "--contract", contract)
    line = next(n for n, text in enumerate(contract.read_text().splitlines(), 1) if "refit_evry" in text)
    assert code == 2
    assert f"line {line}: unknown key 'evaluation.refit_evry'" in complaint
    assert not (tmp_path / "home").exists()


def test_an_unknown_contract_lists_the_known(offers: Offers) -> None:
    code, _, complaint = offers("data", "describe", "--contract", "bank-marketin")
    assert code == 2
    assert "bank-marketing, personal-loan" in complaint


def test_an_unknown_champion_stops_before_anything_is_written(offers: Offers, tmp_path: Path) -> None:
    code, _, complaint = offers("pipeline", "run", "--champion", "bank-marketing-0000000000000000")
    assert code == 2
    assert "expected a directory, found nothing" in complaint
    assert not (tmp_path / "home").exists()


def test_a_directory_that_cannot_be_written(offers: Offers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OFFERS_HOME", str(tmp_path / "file" / "home"))
    code, _, complaint = offers("pipeline", "run", "--source", "simulated")
    assert code == 2
    assert "is a file, not a directory" in complaint
    assert "Traceback" not in complaint


def test_describe_shows_columns_and_periods(offers: Offers, shop_run: ShopRun) -> None:
    code, shown, _ = offers("data", "describe", "-c", shop_run.contract_file, "--source", shop_run.csv)
    assert code == 0
    assert "3000 rows" in shown
    assert "spending" in shown
    assert "2023-01" in shown
    assert re.search(r"ja \d+%, nein \d+%", shown), "the outcomes in the contract's words"


def test_simulate_writes_rows_that_validate(offers: Offers, tmp_path: Path) -> None:
    for contract in ("bank-marketing", "personal-loan"):
        path = tmp_path / f"{contract}.csv"
        assert offers("data", "simulate", path, "-c", contract, "--rows", 2000, "--seed", 3)[0] == 0
        code, shown, complaint = offers("data", "validate", "-c", contract, "--source", path)
        assert code == 0, complaint
        assert "2000 rows" in shown


def test_bundle_show_and_verify(offers: Offers, shop_run: ShopRun, tmp_path: Path) -> None:
    code, shown, _ = offers("bundle", "show", shop_run.bundle)
    assert code == 0
    assert shop_run.bundle.name in shown
    assert offers("bundle", "verify", shop_run.bundle)[0] == 0
    code, _, complaint = offers("bundle", "verify", tmp_path / "shop-0123456789abcdef")
    assert code == 2
    assert "found nothing" in complaint


def test_a_catalogue_of_an_own_contract_is_checked_with_its_file(
    offers: Offers, shop_run: ShopRun, tmp_path: Path
) -> None:
    catalogue = tmp_path / "warranties.yaml"
    catalogue.write_text(WARRANTIES)
    code, _, complaint = offers("policy", "check", catalogue)
    assert code == 2
    assert "is for contract 'shop', which is none of the shipped ones (bank-marketing, personal-loan)" in complaint
    assert "--contract" in complaint
    code, shown, complaint = offers("policy", "check", catalogue, "--contract", shop_run.contract_file)
    assert code == 0, complaint
    assert "3 offers in 2 families keep to contract shop" in shown


def test_help_names_every_command(offers: Offers) -> None:
    _, shown, _ = offers("--help")
    assert all(command in shown for command in ("demo", "data", "pipeline", "bundle"))
