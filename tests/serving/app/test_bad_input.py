"""What pages make of strange records: a sentence and what to do, or text that stays text; no browser is needed."""

import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from offers.bundle import bundle as bundles
from offers.contract import contract as contracts
from offers.decisions.records import OUTCOMES
from offers.settings import Settings
from offers.store.delta import DeltaTables
from serving.local import ADDRESSES, in_use
from tests.support.experiment_log import logged
from tests.support.shop import SHOP
from tests.support.warranties import WARRANTIES

SCRIPT = "<script>alert(1)</script>"
SECONDS = 120


def shown(home: Path, monkeypatch: pytest.MonkeyPatch, script: Any, **arguments: Any) -> AppTest:
    """Run a page, whose traceback would be an exception on it."""
    monkeypatch.setenv("OFFERS_HOME", str(home))
    page = AppTest.from_function(script, default_timeout=SECONDS, kwargs=arguments).run()
    assert not page.exception
    return page


def of_page(name: str) -> None:
    from importlib import import_module

    from serving.app.screen import guarded

    guarded(import_module(f"serving.app.{name}").page)()


def of_withheld(prediction: dict[str, list[dict[str, str]]]) -> None:
    from serving.app.answers import show_ranking, show_withheld

    show_ranking(prediction, "main")
    show_withheld(prediction)


def of_form(text: str) -> None:
    import streamlit as st

    from offers.contract import contract as contracts
    from serving.app.fields import asked_of, fields

    contract = contracts.parse(text)
    values = fields(contract, {column.name: None for column in asked_of(contract)}, "form")
    st.text(str(len(values)))


@pytest.mark.parametrize("name", ["customer", "catalogue"])
def test_services_of_another_version_are_told_from_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from serving import addresses
    from serving.app import place

    directory = tmp_path / "serve"
    directory.mkdir()
    (directory / ADDRESSES).write_text(json.dumps({"ranker": "http://127.0.0.1:1", "model": "m"}))
    for module in (addresses, place):
        monkeypatch.setattr(module, in_use.__name__, lambda _: True)
    page = shown(tmp_path, monkeypatch, of_page, name=name)
    assert "of this version" in page.error[0].value
    assert "offers serve" in page.error[0].value


@pytest.mark.parametrize("name", ["customer", "catalogue"])
def test_a_bundle_without_services_says_what_starts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "bundles" / "shop-1").mkdir(parents=True)
    (tmp_path / "bundles" / "shop-1" / "manifest.json").touch()
    page = shown(tmp_path, monkeypatch, of_page, name=name)
    assert [error.value for error in page.error] == ["No services run here\\: 'make serve' starts them\\."]


@pytest.mark.parametrize("name", ["customer", "watch"])
def test_services_elsewhere_that_do_not_answer_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("OFFERS_RANKER_URL", "http://127.0.0.1:1")
    (tmp_path / "bundles" / "shop-1").mkdir(parents=True)
    (tmp_path / "bundles" / "shop-1" / "manifest.json").touch()
    page = shown(tmp_path, monkeypatch, of_page, name=name)
    said = [*page.error, *page.warning]
    assert ["no ranker of this version answers" in one.value for one in said] == [True]


def test_outcomes_without_a_row_leave_the_arms_without_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = tmp_path / "learn-1"
    learn.mkdir()
    (learn / "candidate.yaml").write_text(WARRANTIES.replace("value: 30", "value: 31"))
    (learn / "experiment.yaml").write_text("name: e\narms: [{name: a, share: 0.5, catalogue: candidate.yaml}]\n")
    tables = DeltaTables.at(str(logged(contracts.parse(SHOP), learn, learn / "experiment.yaml")), Settings())
    with tables.errors(OUTCOMES):
        tables.open(OUTCOMES).delete()
    assert tables.open(OUTCOMES).to_pyarrow_table().num_rows == 0
    page = shown(tmp_path, monkeypatch, of_page, name="experiments")
    assert "No outcome is final yet" in page.warning[0].value
    # This contract takes no silence for a refusal, so that a candidate can't be judged.
    assert ["offers outcomes load" in one.value for one in page.error] == [True]


def test_five_thousand_withheld_offers_are_counted_and_their_names_stay_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = {"code": "TOO_YOUNG", "text": SCRIPT}
    withheld = [{"offer_id": f"{SCRIPT}-{number}", "reasons": [reason]} for number in range(5000)]
    page = shown(tmp_path, monkeypatch, of_withheld, prediction={"fallback": False, "offers": [], "withheld": withheld})
    content = "".join(str(block.proto.body) for block in page.get("html"))
    assert "and 4,950 more" in content
    assert "&lt;script&gt;alert(1)&lt;/script&gt;-49" in content
    assert "<script" not in content
    assert page.expander[0].label == "Withheld: 5,000 offers"


def test_a_contract_of_two_hundred_columns_has_a_field_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = "  - {{name: '{} {}', role: customer, type: number, min: 0, max: 1, nullable: true}}\n"
    head, rest = SHOP.split("columns:\n", 1)
    wide = head + "columns:\n" + "".join(column.format(SCRIPT, number) for number in range(200)) + rest
    page = shown(tmp_path, monkeypatch, of_form, text=wide)
    assert int(page.text[0].value) == len(page.number_input) + len(page.selectbox)
    assert len(page.number_input) >= 200
    assert "<script" not in page.number_input[0].label.replace("\\<", "")


def test_the_model_page_shows_what_the_evaluation_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shop_bundle: Path
) -> None:
    def of_quality(path: str) -> None:
        from pathlib import Path

        from offers.bundle import bundle as bundles
        from serving.app.quality import show_quality

        show_quality(bundles.load(Path(path)))

    page = shown(tmp_path, monkeypatch, of_quality, path=str(shop_bundle))
    evaluation = bundles.load(shop_bundle).evaluation
    content = "".join(str(block.proto.body) for block in page.get("html"))
    for window in evaluation.windows:
        assert f"{window.model['auc'].value:.3f}" in content
    assert {f"By {one.column}" for one in evaluation.segments} <= {one.label for one in page.expander}
    drawn = json.loads(page.get("plotly_chart")[0].proto.spec)
    points = sorted(x for trace in drawn["data"][:-1] for x in trace["x"])
    promised = [one.model.mean_propensity for one in evaluation.windows]
    promised += [one.scores.mean_propensity for one in evaluation.segments]
    assert points == pytest.approx(sorted(100 * value for value in promised))
