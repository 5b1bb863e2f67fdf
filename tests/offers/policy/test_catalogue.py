import re
from pathlib import Path
from typing import Any

import pytest

from cli import policy
from offers.contract import contract as contracts
from offers.contract.contract import RESERVED, Contract
from offers.errors import CatalogueError, ContractError
from offers.policy import catalogue as catalogues
from offers.policy.catalogue import Catalogue
from tests.support.warranties import WARRANTIES


def parse(text: str, contract: contracts.Contract) -> Catalogue:
    return catalogues.parse(text, contract, "warranties.yaml")


def line_of(text: str, marker: str) -> int:
    assert text.count(marker) == 1, f"{marker!r} stands {text.count(marker)} times"
    return text[: text.index(marker)].count("\n") + 1


@pytest.mark.parametrize("name", ["bank-marketing", "personal-loan"])
def test_each_contract_has_a_shipped_catalogue(name: str) -> None:
    assert catalogues.shipped() == contracts.shipped()
    catalogue = catalogues.load(name, contracts.load(name))
    assert (catalogue.name, catalogue.contract) == (name, name)
    assert catalogue.policy.exploration.kind == "none"


def test_bank_marketing_has_twelve_contact_plans() -> None:
    catalogue = catalogues.load("bank-marketing", contracts.load("bank-marketing"))
    assert len(catalogue.offers) == 12
    assert {tuple(sorted(offer.attributes)) for offer in catalogue.offers} == {("contact", "day_of_week")}
    assert len({(offer.family, *offer.attributes.values()) for offer in catalogue.offers}) == 12
    assert [family.name for family in catalogue.families] == ["6-months", "12-months", "24-months"]
    assert catalogue.policy.fallback == "value"


def test_personal_loan_has_five_sizes_and_no_attributes() -> None:
    catalogue = catalogues.load("personal-loan", contracts.load("personal-loan"))
    assert [offer.id for offer in catalogue.offers] == ["loan-5k", "loan-10k", "loan-20k", "loan-35k", "loan-50k"]
    assert all(not offer.attributes for offer in catalogue.offers)
    values = [offer.value for offer in catalogue.offers]
    incomes = [offer.eligibility[0].at_least for offer in catalogue.offers]
    assert values == sorted(values)
    assert incomes == sorted(incomes)
    assert catalogue.policy.fallback is None


def test_catalogue_reads_as_written(shop_contract: Contract) -> None:
    catalogue = parse(WARRANTIES, shop_contract)
    basic, full = catalogue.offers[:2]
    assert basic.attributes == {"channel": "mail"}
    assert (basic.value, basic.cost, basic.weight, basic.lever) == (10, 1, 1, 1)
    assert (full.lever, full.weights[0].weight, full.weights[0].when.at_least) == (1.5, 2, 4)
    assert [rule.reason for rule in catalogue.eligibility] == ["NO_CUSTOMER_YET"]
    assert [family.limit for family in catalogue.families] == [1, None]
    assert catalogue.policy.k == 2


CASES = Path(__file__).parent / "cases"


def test_aliases_that_stand_for_a_billion_values_are_refused_at_once() -> None:
    with pytest.raises(CatalogueError, match=r"bomb\.yaml: its aliases \(\*name\) stand for more than 10000 values"):
        catalogues.contract_of(str(CASES / "bomb.yaml"))


@pytest.mark.parametrize("name", RESERVED)
def test_a_column_named_as_a_field_of_requests_is_refused_where_a_catalogue_is_checked(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text((CASES / "reserved-name.yaml").read_text().replace("name: k", f"name: {name}"))
    with pytest.raises(ContractError, match=rf"line 6: columns\.{name}\.name: '{name}' is a field of requests"):
        policy.check(str(CASES / "reserved-offers.yaml"), str(path))


MISTAKES = {
    "unknown key": ("policy: {k: 2}", "polizy: {k: 2}", "polizy", "unknown key 'polizy'"),
    "unknown key of an offer": ("lever: 1.5", "levers: 1.5", "levers", "unknown key 'offers.full.levers'"),
    "unknown operator": ("at_least: 1}", "atleast: 1}", "atleast", "unknown key 'eligibility.NO_CUSTOMER_YET.atleast'"),
    "missing key": ("contract: shop\n", "", "name: warranties", "key 'contract' is missing"),
    "missing key of an offer": ("    value: 30\n", "", "id: full", "key 'offers.full.value' is missing"),
    "missing reason": ("reason: NO_CUSTOMER_YET, ", "", "column: visits", "key 'eligibility.0.reason' is missing"),
    "missing weight": ("}, weight: 2}", "}}", "weights", "key 'offers.full.weights.0.weight' is missing"),
    "key twice": ("lever: 1.5", "lever: 1.5\n    lever: 2", "lever: 2", "key 'lever' stands twice"),
    "not yaml": ("policy: {k: 2}", "policy: {k: 2", "offers:", "not valid YAML"),
    "other contract": ("contract: shop", "contract: bank", "contract: bank", "contract: it is for 'bank', and the"),
    "no offers": (WARRANTIES[WARRANTIES.index("offers:") :], "offers: []\n", "offers:", "offers: expected at least 1"),
    "bad name": ("name: warranties", "name: Our Warranties", "Our", "name: expected"),
    "bad id": ("id: full", "id: the full one", "the full", "offers.the full one.id: expected"),
    "id twice": ("id: full", "id: &twice basic", "twice", "offers.basic.id: 'basic' stands twice"),
    "family twice": ("name: long", "name: &twice short", "twice", "families.short.name: 'short' stands twice"),
    "unknown family": ("family: long", "family: lang", "family: lang", "full.family: expected one of short, long, got"),
    "negative value": ("value: 30", "value: -30", "value: -30", "offers.full.value: expected at least"),
    "endless value": ("value: 30", "value: .inf", "value: .inf", "offers.full.value: expected at most"),
    "value is a word": ("value: 30", "value: high", "value: high", "offers.full.value: expected a number"),
    "negative cost": (
        "cost: 4",
        "cost: -4",
        "cost: -4",
        "offers.full.cost: expected at least 0",
    ),
    "negative weight": (
        "weight: 2}",
        "weight: -2}",
        "weights",
        "offers.full.weights.0.weight: expected at least",
    ),
    "negative lever": ("lever: 1.5", "lever: -1", "lever: -1", "offers.full.lever: expected at least"),
    "family limit of 0": ("limit: 1", "limit: 0", "limit: 0", "families.short.limit: expected at least"),
    "attribute is no column": (
        "channel: phone",
        "chanel: phone",
        "chanel",
        "full.attributes.chanel: contract shop has",
    ),
    "attribute of a customer": (
        "channel: phone",
        "channel: phone, member: true",
        "member: true}\n    value",
        "offers.full.attributes.member: 'member' has role customer; an offer sets columns of role offer",
    ),
    "attribute is leakage": (
        "channel: phone",
        "channel: phone, minutes: 3",
        "minutes",
        "offers.full.attributes.minutes: 'minutes' has role leakage",
    ),
    "attribute out of values": (
        "channel: phone",
        "channel: pigeon",
        "pigeon",
        "offers.full.attributes.channel: expected one of mail, phone, web, got 'pigeon'",
    ),
    "attribute is a list": (
        "channel: phone",
        "channel: [phone]",
        "[phone]",
        "attributes.channel: expected a number, a",
    ),
    "attribute not set": ("{channel: phone}", "{}", "attributes: {}", "offers.full.attributes: 'channel' is not set"),
    "rule on no column": ("column: visits", "column: visit", "column: visit,", "column: contract shop has no column"),
    "rule on leakage": (
        "column: visits",
        "column: minutes",
        "column: minutes",
        "eligibility.NO_CUSTOMER_YET.column: 'minutes' has role leakage, so it is not there when a decision is made",
    ),
    "rule on the target": ("column: visits", "column: bought", "column: bought", "column: 'bought' has role target"),
    "rule on an identifier": ("column: visits", "column: order", "column: order", "'order' has role identifier"),
    "rule on the time": ("column: visits", "column: asked on", "asked on", "column: 'asked on' has role time"),
    "rule on leakage, inside": (
        "{column: region, equals: north}",
        "{not: {column: minutes, equals: 1}}",
        "minutes",
        "families.long.suitability.FAR_AWAY.any.0.not.column: 'minutes' has role leakage",
    ),
    "weight on leakage": (
        "column: rating, at_least: 4",
        "column: minutes, at_least: 4",
        "minutes",
        "offers.full.weights.0.when.column: 'minutes' has role leakage",
    ),
    "number asked of a category": (
        "equals: north",
        "at_least: 3",
        "at_least: 3",
        "any.0.at_least: 'region' is category, so expected one of equals, in, is_not, missing",
    ),
    "list asked of a boolean": (
        "equals: true",
        "in: [true]",
        "[true]",
        "offers.free.eligibility.NO_MEMBER.in: 'member' is boolean, so expected one of equals, missing",
    ),
    "list asked of a number": (
        "column: rating, at_least: 4",
        "column: rating, in: [4]",
        "in: [4]",
        "offers.full.weights.0.when.in: 'rating' is number, so expected one of at_least, at_most, equals, missing",
    ),
    "unknown category": ("equals: north", "equals: east", "equals: east", "any.0.equals: expected one of north, south"),
    "unknown category in a list": (
        "equals: north",
        "in: [north, east]",
        "[north, east]",
        "families.long.suitability.FAR_AWAY.any.0.in.1: expected one of north, south, got 'east'",
    ),
    "true for a word": ("equals: north", "equals: true", "region, equals", "expected one of north, south, got True"),
    "word for true": ("equals: true", "equals: ja", "equals: ja", "NO_MEMBER.equals: expected true or false, got 'ja'"),
    "number for true": ("equals: true", "equals: 1", "equals: 1", "NO_MEMBER.equals: expected true or false, got 1"),
    "below the range": ("at_least: 1}", "at_least: -1}", "-1", "at_least: expected a whole number from 0 to 50, got"),
    "above the range": ("at_least: 1}", "at_most: 51}", "51", "at_most: expected a whole number from 0 to 50, got 51"),
    "half a visit": ("at_least: 1}", "equals: 1.5}", "equals: 1.5", "YET.equals: expected a whole number, got 1.5"),
    "word for a number": (
        "at_least: 1}",
        "at_least: one}",
        "at_least: one}",
        "YET.at_least: expected a number",
    ),
    "word for an integer": ("at_least: 1}", "in: [1, two]}", "two]", "YET.in.1: expected a whole number, got 'two'"),
    "not a number": ("at_least: 1}", "at_least: .nan}", ".nan", "YET.at_least: expected a finite number"),
    "huge number": ("at_least: 1}", f"equals: 1{'0' * 400}}}", "equals: 1000", "YET.equals: expected a number, a word"),
    "empty list": ("at_least: 1}", "in: []}", "in: []", "NO_CUSTOMER_YET.in: expected at least 1 entry"),
    "one value for a list": ("at_least: 1}", "in: 1}", "in: 1", "NO_CUSTOMER_YET.in: expected a list"),
    "nothing in a list": ("at_least: 1}", "in: [~]}", "in: [~]", "YET.in.0: expected a number, a word, true or false"),
    "missing is a word": ("at_least: 1}", "missing: maybe}", "maybe", "YET.missing: expected true or false"),
    "missing is not alone": (
        "at_least: 1}",
        "at_least: 1, missing: false}",
        "missing: false",
        "missing: 'missing' stan",
    ),
    "number in quotes": (
        "at_least: 1}",
        "at_least: '1'}",
        "'1'",
        "YET.at_least: expected a number, got '1'",
    ),
    "number with a stroke": ("at_least: 1}", "at_least: 1_0}", "1_0}", "YET.at_least: expected a number"),
    "true for a number": (
        "at_least: 1}",
        "at_least: true}",
        "t: true}",
        "YET.at_least: expected a number",
    ),
    "true for a bound": ("at_least: 1}", "at_most: true}", "t: true}", "YET.at_most: expected a number"),
    "yes for true": (
        "at_least: 1}",
        "missing: yes}",
        "g: yes}",
        "YET.missing: expected true or false, got 'yes'",
    ),
    "no for false": (
        "at_least: 1}",
        "missing: no}",
        "g: no}",
        "YET.missing: expected true or false, got 'no'",
    ),
    "1 for true": ("at_least: 1}", "missing: 1}", "g: 1}", "YET.missing: expected true or false, got 1"),
    "missing can't be": (
        "visits, at_least: 1}",
        "spending, missing: true}",
        "missing: true",
        "NO_CUSTOMER_YET.missing: 'spending' is never missing by the contract, so expected another operator",
    ),
    "missing never is": (
        "visits, at_least: 1}",
        "channel, missing: false}",
        "missing: false",
        "NO_CUSTOMER_YET.missing: 'channel' is never missing by the contract, so expected another operator",
    ),
    "true for a value": (
        "value: 30",
        "value: true",
        "value: true",
        "offers.full.value: expected a number",
    ),
    "value in quotes": (
        "value: 30",
        "value: '30'",
        "'30'",
        "offers.full.value: expected a number, got '30'",
    ),
    "value with a stroke": ("value: 30", "value: 3_0", "3_0", "offers.full.value: expected a number"),
    "true for a cost": ("cost: 4", "cost: true", "cost: true", "offers.full.cost: expected a number"),
    "true for a lever": ("lever: 1.5", "lever: true", "lever", "offers.full.lever: expected a number"),
    "true for a weight": (
        "weight: 2}",
        "weight: true}",
        "weight: true}",
        "offers.full.weights.0.weight: expected a number, got True",
    ),
    "true for a limit": ("limit: 1", "limit: true", "limit", "families.short.limit: expected a whole number"),
    "true for k": ("k: 2", "k: true", "k: true", "policy.k: expected a whole number, got True"),
    "k in quotes": ("k: 2", "k: '2'", "k: '2'", "policy.k: expected a whole number, got '2'"),
    "nothing asked": ("visits, at_least: 1}", "visits}", "visits}", "NO_CUSTOMER_YET: column 'visits' needs one of"),
    "no column": ("column: visits, ", "", "reason: NO_CUSTOMER_YET", "YET: expected exactly one of column, all, any"),
    "two branches": (
        "any:",
        "not: {column: visits, equals: 1}\n        any:",
        "FAR_AWAY",
        "FAR_AWAY: expected exactly one",
    ),
    "no branches": (
        "any:\n          - {column: region, equals: north}\n          - {column: spending, at_least: 500}\n",
        "any: []\n",
        "any: []",
        "families.long.suitability.FAR_AWAY.any: expected at least 1 entry",
    ),
    "operator beside a branch": (
        "any:",
        "equals: 1\n        any:",
        "equals: 1",
        "FAR_AWAY.equals: an operator needs a",
    ),
    "crossed bounds": ("at_least: 1}", "at_least: 2, at_most: 1}", "at_most: 1", "'at_least' 2 is above 'at_most' 1"),
    "reason is no code": (
        "NO_CUSTOMER_YET",
        "no customer yet",
        "no customer",
        "yet.reason: expected",
    ),
    "reason is ours": (
        "NO_CUSTOMER_YET",
        "BEYOND_K",
        "BEYOND_K",
        "BEYOND_K.reason: BEYOND_K is a reason of arbitratio",
    ),
    "reason inside a rule": (
        "north}",
        "north, reason: FAR}",
        "FAR}",
        "unknown key 'families.long.suitability.FAR_AWAY.any",
    ),
    "rule that holds itself": (
        "{column: region, equals: north}",
        "&a {not: *a}",
        "&a",
        "not valid YAML: a value that holds itself",
    ),
    "k of 0": ("k: 2", "k: 0", "k: 0", "policy.k: expected at least 1, got 0"),
    "half a place": ("k: 2", "k: 1.5", "k: 1.5", "policy.k: expected a whole number"),
    "unknown fallback": ("k: 2", "k: 2, fallback: guess", "guess", "policy.fallback: expected 'value', got"),
    "unknown exploration": (
        "k: 2",
        "exploration: {kind: greedy}",
        "greedy",
        "exploration.kind: expected 'none'",
    ),
    "softmax without temperature": (
        "k: 2",
        "exploration: {kind: softmax}",
        "softmax",
        "kind: softmax needs 'temperature",
    ),
    "epsilon without epsilon": ("k: 2", "exploration: {kind: epsilon}", "epsilon", "kind: epsilon needs 'epsilon'"),
    "epsilon above 1": (
        "k: 2",
        "exploration: {kind: epsilon, epsilon: 1.1}",
        "1.1",
        "policy.exploration.epsilon: expected at most 1",
    ),
    "temperature of 0": (
        "k: 2",
        "exploration: {kind: softmax, temperature: 0}",
        "temperature: 0",
        "policy.exploration.temperature: expected at least 0.01",
    ),
    "temperature of epsilon": (
        "k: 2",
        "exploration: {kind: epsilon, epsilon: 0.1, temperature: 3}",
        "temperature",
        "policy.exploration.temperature: 'temperature' belongs to softmax; this exploration is epsilon",
    ),
    "epsilon of none": ("k: 2", "exploration: {epsilon: 0.1}", "epsilon", "'epsilon' belongs to epsilon; this"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_refused_with_line_and_key(shop_contract: Contract, mistake: Any) -> None:
    old, new, marker, message = MISTAKES[mistake]
    assert WARRANTIES.count(old) == 1
    wrong = WARRANTIES.replace(old, new)
    with pytest.raises(CatalogueError) as refusal:
        parse(wrong, shop_contract)
    assert f"warranties.yaml, line {line_of(wrong, marker)}: " in str(refusal.value)
    assert message in str(refusal.value)


def test_several_mistakes_are_told_at_once(shop_contract: Contract) -> None:
    wrong = WARRANTIES.replace("column: visits", "column: minutes").replace("channel: phone", "channel: pigeon")
    with pytest.raises(CatalogueError) as refusal:
        parse(wrong, shop_contract)
    assert len(re.findall(r"warranties.yaml, line \d+: ", str(refusal.value))) == 2


def test_offer_may_leave_out_an_attribute_that_may_be_missing(shop_yaml: str) -> None:
    contract = contracts.parse(shop_yaml.replace("[mail, phone, web]}", "[mail, phone, web], unknown: missing}"))
    catalogue = parse(WARRANTIES.replace("{channel: phone}", "{}"), contract)
    assert catalogue.offers[1].attributes == {}


def test_whole_numbers_will_do_for_amounts_and_bounds(shop_contract: Contract) -> None:
    whole = parse(WARRANTIES.replace("lever: 1.5", "lever: 2").replace("at_least: 500", "at_least: 1"), shop_contract)
    written = parse(
        WARRANTIES.replace("lever: 1.5", "lever: 2.0").replace("at_least: 500", "at_least: 1.0"), shop_contract
    )
    assert whole == written
    assert [type(offer.value) for offer in whole.offers] == [float] * 3


def test_version_follows_what_is_said_and_not_how(shop_contract: Contract) -> None:
    version = parse(WARRANTIES, shop_contract).version
    assert re.fullmatch("[0-9a-f]{12}", version)
    assert parse("# ours\n" + WARRANTIES.replace("weight: 2}", "weight:   2.0}"), shop_contract).version == version
    assert parse(WARRANTIES.replace("cost: 4", "cost: 4\n    weight: 1"), shop_contract).version == version
    changes = [("cost: 4", "cost: 5"), ("k: 2", "k: 3"), ("at_least: 1}", "at_least: 2}"), ("lever: 1.5", "lever: 1")]
    versions = {parse(WARRANTIES.replace(*change), shop_contract).version for change in changes}
    assert len(versions | {version}) == len(changes) + 1


def test_policy_has_a_version_of_its_own(shop_contract: Contract) -> None:
    catalogue = parse(WARRANTIES, shop_contract)
    dearer = parse(WARRANTIES.replace("cost: 4", "cost: 5"), shop_contract)
    longer = parse(WARRANTIES.replace("k: 2", "k: 3"), shop_contract)
    assert catalogue.policy.version == dearer.policy.version != longer.policy.version


def test_load_takes_a_name_a_path_or_the_text(tmp_path: Path, shop_contract: Contract) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(WARRANTIES, "utf-8")
    catalogue = parse(WARRANTIES, shop_contract)
    assert catalogues.load(str(path), shop_contract) == catalogues.load(WARRANTIES, shop_contract) == catalogue
    assert catalogues.text(str(path)) == WARRANTIES
    assert "12-months" in catalogues.text("bank-marketing")
    path.write_text(WARRANTIES.replace("k: 2", "k: 0"), "utf-8")
    with pytest.raises(CatalogueError, match=rf"^{re.escape(str(path))}, line \d+: policy.k: "):
        catalogues.load(str(path), shop_contract)


@pytest.mark.parametrize("where", ["no-such-catalogue", ""])
def test_unknown_name_lists_the_shipped_catalogues(
    where: str, shop_contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CatalogueError, match=f"catalogue '{where}': expected one of bank-marketing, personal-loan, or"):
        catalogues.load(where, shop_contract)


def test_catalogue_of_another_contract_is_refused() -> None:
    with pytest.raises(CatalogueError, match=r"personal-loan.yaml, line 4: contract: it is for 'personal-loan', and"):
        catalogues.load("personal-loan", contracts.load("bank-marketing"))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
def test_text_without_keys_is_refused(text: str, shop_contract: Contract) -> None:
    with pytest.raises(CatalogueError, match="expected keys such as name, contract, families and offers"):
        parse(text, shop_contract)


def test_example_of_the_documentation_loads() -> None:
    contract, catalogue = (
        re.search("```yaml\n(.*?)```", (Path(__file__).parents[3] / "docs" / page).read_text("utf-8"), re.DOTALL)[1]
        for page in ("contract.md", "catalogue.md")
    )
    assert len(catalogues.parse(catalogue, contracts.parse(contract)).offers) == 3


def test_a_justification_says_something_and_changes_no_version_of_those_without() -> None:
    contract, text = contracts.load("bank-marketing"), catalogues.text("bank-marketing")
    blank = re.sub(r"justification: A contract with a minor[^\n]*", "justification: ' '", text)
    with pytest.raises(CatalogueError, match=r"justification: expected a sentence that says why, got ' '"):
        catalogues.parse(blank, contract)
    weight = next(offer.weights[0] for offer in catalogues.parse(text, contract).offers if offer.weights)
    assert weight.model_dump() == {"when": weight.when.model_dump(), "weight": weight.weight}


def test_a_rule_on_a_protected_column_says_why() -> None:
    contract = contracts.load("bank-marketing")
    text = re.sub(r"\n *justification: A contract with a minor[^\n]*", "", catalogues.text("bank-marketing"))
    with pytest.raises(
        CatalogueError, match=r"AGE_BELOW_18\.justification: it asks age, which is protected by contract"
    ):
        catalogues.parse(text, contract)
