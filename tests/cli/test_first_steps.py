"""First steps at the command line: a draft, its check, the schema, the version, and cells that look like markup."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.runs import offers

CASES = Path(__file__).parents[1] / "offers" / "data" / "cases"


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_draft_passes_at_once_and_is_not_overwritten(tmp_path: Path) -> None:
    contract, catalogue = tmp_path / "first.yaml", tmp_path / "offers.yaml"
    said = ok(offers(tmp_path, "contract", "init", CASES / "rich-markup.csv", "-o", contract))
    assert "the outcome is 'taken', accepted where 'y'" in said
    assert "keep to contract rich-markup" in ok(offers(tmp_path, "data", "validate", "-c", contract))
    assert "made-up offers" in ok(offers(tmp_path, "policy", "init", "-c", contract, "-o", catalogue))
    ok(offers(tmp_path, "policy", "check", catalogue, "-c", contract))
    for draft in (contract, catalogue):
        pointer = draft.read_text().splitlines()[0].removeprefix("# yaml-language-server: $schema=")
        assert json.loads((tmp_path / pointer).read_text())["$schema"].startswith("https://json-schema.org/")
    described = ok(offers(tmp_path, "data", "describe", "-c", contract))
    assert "[/b] x" in described.replace("\n", " ")
    again = offers(tmp_path, "contract", "init", CASES / "rich-markup.csv", "-o", contract)
    assert again.returncode == 2
    assert "is there already" in again.stderr


def test_schemas_and_version(tmp_path: Path) -> None:
    for noun in ("contract", "policy", "market"):
        ok(offers(tmp_path, noun, "schema", tmp_path / f"{noun}.json"))
        assert json.loads((tmp_path / f"{noun}.json").read_text())["type"] == "object"
    assert ok(offers(tmp_path, "--version")).startswith("offers 0.")


@pytest.mark.parametrize("arguments", [("data", "validate"), ("pipeline", "run")])
def test_a_password_in_a_source_is_refused_before_anything_runs(tmp_path: Path, arguments: tuple[str, str]) -> None:
    done = offers(tmp_path, *arguments, "-c", "personal-loan", "--source", "postgresql://me:tiger@warehouse/bank")
    assert done.returncode == 2
    assert "holds a password" in done.stderr
    assert "tiger" not in done.stdout + done.stderr
    assert not any("tiger" in path.read_text("utf-8", "replace") for path in tmp_path.rglob("*") if path.is_file())


def test_a_market_is_checked_and_simulated(tmp_path: Path) -> None:
    assert "events view, click, application, approval" in ok(offers(tmp_path, "market", "check", "fintech"))
    said = ok(offers(tmp_path, "market", "simulate", tmp_path / "market", "--users", "50", "--products", "10"))
    assert said.startswith("50 users, 10 products, ")
    said = ok(
        offers(tmp_path, "market", "features", tmp_path / "market", tmp_path / "rows.parquet", "--event", "click")
    )
    assert "since_click: beyond the time to live in " in said
    said = ok(offers(tmp_path, "market", "load", tmp_path / "market", tmp_path / "users.db", "--as-of", "2026-01-01"))
    assert said.startswith("50 users as of 2026-01-01T00:00:00")
    shown = ok(offers(tmp_path, "market", "user", "42", tmp_path / "users.db", "--now", "2026-01-02T01:00:00+01:00"))
    assert "row of          2026-01-01T00:00:00" in shown
    refused = offers(tmp_path, "market", "user", "42", tmp_path / "users.db", "--now", "noon")
    assert (refused.returncode, "expected a moment such as" in refused.stderr) == (2, True)
    refused = offers(tmp_path, "market", "check", "bazaar")
    assert (refused.returncode, "expected one of fintech" in refused.stderr) == (2, True)
