"""The market's demo, small: every step of it prints what it promises."""

from collections.abc import Callable
from pathlib import Path

import pytest

from offers.contract import market as markets


@pytest.mark.slow
def test_the_demo_recommends_sees_a_click_and_shows_preferences_that_change(
    offers: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    text = markets.text("fintech").replace("products: 100,", "products: 40,").replace("epochs: 8", "epochs: 2")
    (tmp_path / "small.yaml").write_text(text)
    code, printed, complaint = offers(
        "market", "demo", "--users", 500, "--market", tmp_path / "small.yaml", "--directory", tmp_path / "demo"
    )
    assert (code, complaint) == (0, "")
    assert "500 users as of 2025-12-31" in printed
    assert "an answer" in printed
    assert "s later has seen it" in printed
    windows = printed[printed.index("window from") :]
    assert windows.count("2025-") == 13
    assert "drift" in windows
    assert "drift" not in windows[: windows.index("2025-06-30")]


def test_a_place_without_a_bundle_is_one_sentence(offers: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, _, complaint = offers("market", "serve", "--bundle", tmp_path)
    assert code == 2
    assert "expected a market's bundle, or a directory of them; 'offers market train' makes one" in complaint


def test_a_repository_for_feast_says_where_its_tables_must_lie(
    offers: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, output, _ = offers("market", "feast", tmp_path / "feast")
    assert (code, sorted(path.name for path in (tmp_path / "feast").iterdir())) == (
        0,
        ["definitions.py", "feature_store.yaml"],
    )
    assert f"must lie in {tmp_path / 'feast' / 'data'}, as fintech_users.parquet" in output
    code, output, errors = offers("market", "feast", tmp_path / "none", "--tables", tmp_path)
    assert (code, output) == (2, "")
    assert f"{tmp_path / 'users.parquet'}: there is no such file" in errors
    assert not list((tmp_path / "none").rglob("*.py"))
