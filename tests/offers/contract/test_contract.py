import re
from pathlib import Path
from typing import Any

import pytest

from offers.contract import contract as contracts
from offers.contract.column import Role
from offers.contract.contract import Contract
from offers.errors import ContractError


def line_of(text: str, marker: str) -> int:
    assert text.count(marker) == 1, f"{marker!r} stands {text.count(marker)} times"
    return text[: text.index(marker)].count("\n") + 1


def test_both_contracts_are_shipped_and_load() -> None:
    assert contracts.shipped() == ["bank-marketing", "personal-loan"]
    assert [contracts.load(name).name for name in contracts.shipped()] == contracts.shipped()


def test_bank_marketing_is_the_uci_codebook() -> None:
    contract = contracts.load("bank-marketing")
    assert len(contract.columns) == 21
    assert len(contract.inputs) == 19
    assert contract["duration"].role == Role.LEAKAGE
    assert contract["pdays"].missing == ("999",)
    assert contract["default"].values == ("no", "yes", "unknown")
    assert (contract.target.positive, contract.target.negative) == ("yes", "no")
    assert [column.name for column in contract.protected] == ["age", "marital"]
    assert contract.source.sha256 == "74adfc578bf77a7ff4bb1ba4a9f8709d9e3c6907342959c2c8416847e0afb4d8"


def test_personal_loan_has_no_time_and_declares_its_dirt() -> None:
    contract = contracts.load("personal-loan")
    assert contract.time is None
    assert contract.source.uri is None
    assert contract["Experience"].missing == ("-1", "-2", "-3")
    assert contract["Family"].values == ("1", "2", "3", "4")
    assert contract["ZIP Code"] not in contract.inputs


@pytest.mark.parametrize("name", ["bank-marketing", "personal-loan"])
def test_inputs_are_what_is_known_when_asked(name: str) -> None:
    contract = contracts.load(name)
    known = {Role.CUSTOMER, Role.OFFER, Role.CONTEXT}
    assert {column.role for column in contract.inputs} <= known
    assert [column.name for column in contract.columns if column.role in known] == [c.name for c in contract.inputs]


def test_shop_contract_reads_as_written(shop_contract: Contract) -> None:
    assert [column.name for column in shop_contract.inputs] == [
        "spending",
        "visits",
        "channel",
        "region",
        "member",
        "rating",
    ]
    assert shop_contract.source.format.decimal == ","
    assert not shop_contract["asked on"].is_input
    assert shop_contract["spending"].bands == (100.0, 1000.0)
    missing = {column.name for column in shop_contract.columns if column.may_be_missing}
    assert missing == {"visits", "region", "rating"}


def test_words_of_yaml_stay_words(shop_yaml: str) -> None:
    changed = shop_yaml.replace("positive: ja, negative: nein", "positive: yes, negative: no")
    changed = changed.replace("values: [mail, phone, web]", "values: [on, off, 1, 1.5, 2008-05-01, 010]")
    contract = contracts.parse(changed)
    assert (contract.target.positive, contract.target.negative) == ("yes", "no")
    assert contract["channel"].values == ("on", "off", "1", "1.5", "2008-05-01", "010")


MISTAKES = {
    "unknown key": ("windows: 2", "windowz: 2", "windowz", "unknown key 'evaluation.windowz'"),
    "unknown key of a column": ("unit: EUR", "units: EUR", "units", "unknown key 'columns.spending.units'"),
    "missing key": ("title: A shop that offers its members a warranty\n", "", "name: shop", "key 'title' is missing"),
    "missing key of a column": ("name: member, role: customer, ", "name: member, ", "name: member", "member.role' is"),
    "wrong type": ("trees: 20", "trees: many", "trees", "model.trees: expected a whole number"),
    "wrong type of column": ("type: boolean", "type: bool", "type: bool", "columns.member.type: expected"),
    "wrong role": ("role: leakage", "role: leakadge", "leakadge", "columns.minutes.role: expected 'customer'"),
    "out of range": ("windows: 2", "windows: 0", "windows", "evaluation.windows: expected at least"),
    "duplicate key": ("unit: EUR", "unit: EUR\n    unit: USD", "unit: USD", "key 'unit' stands twice"),
    "duplicate key in braces": ("depth: 3", "trees: 3", "trees: 20", "key 'trees' stands twice"),
    "duplicate column": ("name: member", "name: region", "name: region, role: customer, type: boolean", "region.name"),
    "our own name": ("name: rating", "name: _rating", "_rating", "columns._rating.name: column names that begin"),
    **{
        f"{name} as an input": ("name: rating", f"name: {name}", f"name: {name}", f"columns.{name}.name: {name!r} is a")
        for name in ("k", "offers", "as_of", "customer_id", "decision_id", "scored_at", "bundle")
    },
    "bad yaml": ("min: 0\n    max: 10000", "min: [0\n    max: 10000", "max: 10000", "not valid YAML"),
    "templated yaml": ("title: A shop", "title: {{ shop }}\n#", "{{ shop }}", "not valid YAML"),
    "no target": (
        "role: target, type: category",
        "role: leakage, type: boolean",
        "column: bought",
        "role target are []",
    ),
    "other target": ("column: bought", "column: sold", "column: sold", "target.column: it is 'sold', but"),
    "two targets": ("role: leakage, type: integer", "role: target, type: boolean", "column: bought", "target.column:"),
    "same outcomes": ("negative: nein", "negative: ja", "negative: ja", "target.positive: 'positive' and"),
    "unquoted true": (
        "positive: ja",
        "positive: true",
        "positive: true",
        "target.positive: expected text",
    ),
    "target of numbers": ("target, type: category", "target, type: integer", "role: target", "bought.type: a target"),
    "target not known": (
        "role: target, type: category",
        "role: target, type: category, nullable: true",
        "nullable: true}\nevaluation",
        "columns.bought.role: a target can't be missing",
    ),
    "segment is no column": ("[channel, spending]", "[channel, age]", "age]", "segments.1: 'age' is no column"),
    "segment is the target": ("[channel, spending]", "[bought]", "[bought]", "segments.0: 'bought' has role target"),
    "segment is leakage": ("[channel, spending]", "[minutes]", "[minutes]", "segments.0: 'minutes' has role leakage"),
    "segment without bands": ("    bands: [100, 1000]\n", "", "segments", "segments.1: 'spending' is number: give"),
    "protected without bands": (
        "type: number, nullable: true",
        "type: number, nullable: true, protected: true",
        "protected: true",
        "columns.rating: a protected number column needs 'bands'",
    ),
    "protected leakage": (
        "role: leakage, type: integer",
        "role: leakage, type: integer, protected: true",
        "protected: true",
        "columns.minutes.protected: 'protected' marks inputs",
    ),
    "values twice": ("[mail, phone, web]", "[mail, web, web]", "[mail,", "columns.channel.values: 'values' holds"),
    "no values": (", values: [mail, phone, web]", "", "name: channel", "columns.channel.values: a category column"),
    "one value": ("[mail, phone, web]", "[mail]", "[mail]", "columns.channel.values: a category column needs"),
    "empty value": ("[mail, phone, web]", "[mail, ~]", "[mail, ~]", "columns.channel.values.1: expected text"),
    "list as value": ("[mail, phone, web]", "[mail, [web]]", "[mail,", "columns.channel.values.1: expected text"),
    "values of numbers": ("unit: EUR", "values: [a, b]", "values: [a", "columns.spending.values: 'values' belong"),
    "min above max": ("max: 10000", "max: -1", "min: 0\n    max: -1", "columns.spending.min: 'min' 0 is not below"),
    "min of words": ("type: boolean", "type: boolean, min: 0", "type: boolean", "member.min: 'min' belongs to numeric"),
    "falling bands": ("[100, 1000]", "[1000, 100]", "[1000, 100]", "columns.spending.bands: 'bands' must rise"),
    "text as input": ("type: boolean", "type: text", "role: customer, type: text", "columns.member.role: a text"),
    "date as input": ("role: time", "role: customer", "type: date", "columns.asked on.role: a date column can't be"),
    "text as time": ("type: date", "type: text", "type: text}\n  - name: spend", "columns.asked on.type: role time"),
    "typical of words": (
        "type: category, values: [mail, phone, web]",
        "type: category, values: [mail, phone, web], typical: {post: 1}",
        "typical",
        "columns.channel.typical: 'typical' names values that 'values' lacks: ['post']",
    ),
    "typical of numbers": (
        "unit: EUR",
        "typical: {a: 1}",
        "typical",
        "columns.spending.typical: 'typical' names values",
    ),
    "typical is a word": ("unit: EUR", "typical: some", "typical", "columns.spending.typical: expected"),
    "time is no column": ("{column: asked on}", "{column: day}", "day}", "time.column: 'day' is no column"),
    "time is a number": ("{column: asked on}", "{column: visits}", "column: visits", "time.column: 'visits' must be"),
    "time is no month": (
        "{column: asked on}",
        "{column: channel}",
        "column: channel",
        "its values must be of jan, feb",
    ),
    "date with start": ("asked on}", "asked on, start: 2023-01}", "start", "time: 'start' and 'until' belong"),
    "date may be missing": (
        "type: date",
        "type: date, nullable: true",
        "column: asked on",
        "time.column: 'asked on' may be missing",
    ),
    "rule asks nothing": (", at_least: 0.6", "", "auc", "gate.0: a rule needs one of at_least"),
    "unknown metric": ("metric: ece", "metric: gini", "gini", "gate.1.metric: expected 'auc'"),
    "chance by window": ("at_most: 0.2", "better_than_chance: true", "each_window", "gate.1.on: better_than_chance"),
    "baseline by window": ("at_most: 0.2", "better_than_baseline: true", "each_window", "gate.1.on: comparisons"),
    "ece within periods": ("each_window", "within_period", "within_period", "gate.1.metric: within periods only"),
    "windows without time": ("time: {column: asked on}\n", "", "each_window", "gate.1.on: a rule on windows"),
    "no rules": (
        "  - {metric: auc, on: pooled, at_least: 0.6}\n  - {metric: ece, on: each_window, at_most: 0.2}\n",
        "  []\n",
        "gate:",
        "gate: expected at least 1 entry",
    ),
    "bad checksum": ("file: orders.csv", "file: orders.csv\n  sha256: ABC", "sha256", "source.sha256: expected a SHA"),
    "bad name": ("name: shop", "name: My Shop", "name: My", "name: expected"),
}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("window: 10", "watch.window: expected at least 100, got 10"),
        ("share_ratio: 1", "watch.share_ratio: expected more than 1, got 1"),
        ("false_discovery_rate: 0", "watch.false_discovery_rate: expected more than 0, got 0"),
        ("windows: 500", "unknown key 'watch.windows'"),
    ],
)
def test_watch_settings_are_checked(shop_yaml: str, settings: str, message: str) -> None:
    with pytest.raises(ContractError, match=re.escape(message)):
        contracts.parse(shop_yaml + f"watch: {{{settings}}}\n")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_refused_with_line_and_key(shop_yaml: str, mistake: Any) -> None:
    old, new, marker, message = MISTAKES[mistake]
    assert shop_yaml.count(old) == 1
    wrong = shop_yaml.replace(old, new)
    with pytest.raises(ContractError) as refusal:
        contracts.parse(wrong, "shop.yaml")
    assert f"shop.yaml, line {line_of(wrong, marker)}: " in str(refusal.value)
    assert message in str(refusal.value)


MONTHLY = "{column: month, start: 2008-05, until: 2010-11}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("values: [jan, feb,", "values: [january, feb,", "time.column: 'month' is a category, so its values must be"),
        (MONTHLY, "{column: month}", "time.start: 'month' is a month, so 'start' must say the first"),
        (MONTHLY, "{column: month, start: 2008-05, until: 2008-04}", "time.until: 'until' 2008-04 is before 'start'"),
        (MONTHLY, "{column: month, start: 2008-13}", "time.start: expected"),
    ],
)
def test_months_that_give_no_order_are_refused(old: Any, new: str, message: str) -> None:
    with pytest.raises(ContractError, match=r"contract, line \d+: ") as refusal:
        contracts.parse(contracts.text("bank-marketing").replace(old, new))
    assert message in str(refusal.value)


def test_month_that_is_known_only_afterwards_gives_no_order() -> None:
    text = contracts.text("bank-marketing")
    place = text.index("role: context", text.index("- name: month"))
    with pytest.raises(ContractError, match="'month' has role leakage"):
        contracts.parse(text[:place] + text[place:].replace("role: context", "role: leakage", 1))


def test_contract_without_inputs_is_refused(shop_yaml: str) -> None:
    text = shop_yaml.replace("role: customer", "role: protected").replace("role: offer", "role: protected")
    with pytest.raises(ContractError, match="a model would see nothing"):
        contracts.parse(text.replace("role: context", "role: identifier").replace("[channel, spending]", "[]"))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
def test_text_without_keys_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match="expected keys such as name, source and columns"):
        contracts.parse(text)


@pytest.mark.parametrize("text", ["name: \0\n", "a: 1\n---\nb: 2\n", "a: !!python/name:os.system\n", "a: *b\n"])
def test_what_is_not_plain_yaml_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match="not valid YAML"):
        contracts.parse(text)


def test_yaml_that_holds_itself_is_refused() -> None:
    with pytest.raises(ContractError, match="line 1: not valid YAML: a value that holds itself"):
        contracts.parse("name: &name [*name]\n")


def test_load_takes_a_name_a_path_or_the_text(tmp_path: Path, shop_yaml: str, shop_contract: Contract) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(shop_yaml, "utf-8")
    assert contracts.load(str(path)) == shop_contract
    assert contracts.load(shop_yaml) == shop_contract
    assert contracts.text(str(path)) == shop_yaml
    assert contracts.parse(contracts.text("personal-loan")) == contracts.load("personal-loan")


def test_path_is_named_in_the_message(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: shop\nname: shop\n", "utf-8")
    with pytest.raises(ContractError, match=rf"{path}, line 2: "):
        contracts.load(str(path))


@pytest.mark.parametrize("where", ["no-such-contract", "somewhere/else", "x" * 5000, ""])
def test_unknown_name_lists_the_shipped_contracts(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ContractError) as refusal:
        contracts.load(where)
    assert "expected one of bank-marketing, personal-loan" in str(refusal.value) or "can't be read" in str(
        refusal.value
    )


def test_path_that_can_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "directory.yaml").mkdir()
    (tmp_path / "latin.yaml").write_bytes("title: Überziehung\n".encode("latin-1"))
    for name in ("absent.yaml", "directory.yaml", "latin.yaml"):
        with pytest.raises(ContractError, match=f"{name}: can't be read"):
            contracts.load(str(tmp_path / name))


@pytest.mark.parametrize("document", ["docs/getting-started.md", "docs/contract.md"])
def test_the_example_of_the_documents_is_a_contract(document: str) -> None:
    text = (Path(__file__).parents[3] / document).read_text("utf-8")
    example = text.split("```yaml\n")[1].split("```")[0]
    contract = contracts.parse(example, document)
    assert [column.name for column in contract.inputs] == ["income", "region", "channel"]
