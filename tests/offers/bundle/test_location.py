"""A champion is compared before it is used: contract, inputs, outcome."""

from pathlib import Path

import pytest

from offers.bundle.location import difference_of, open_bundle, open_champion
from offers.contract import contract as contracts
from offers.errors import GateError
from offers.settings import Settings

CHANGES = {
    "another contract": ("name: shop", "name: store", "it is of contract shop"),
    "one more input": (
        "  - {name: member,",
        "  - {name: age, role: customer, type: integer}\n  - {name: member,",
        "it does not know age",
    ),
    "one input less": ("name: member, role: customer", "name: member, role: leakage", "it needs member"),
    "other values": (
        "values: [mail, phone, web]",
        "values: [mail, phone, web, fax]",
        "it knows channel with other values",
    ),
    "another outcome": ("positive: ja, negative: nein", "positive: nein, negative: ja", "its outcome is another"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_foreign_champion_is_refused_with_the_difference(change: str, shop_bundle: Path, shop_yaml: str) -> None:
    old, new, difference = CHANGES[change]
    assert shop_yaml.count(old) == 1
    contract, settings = contracts.parse(shop_yaml.replace(old, new)), Settings(home=shop_bundle)
    with pytest.raises(GateError, match=f"champion {shop_bundle.name}: expected one of .*, but {difference}"):
        open_champion(str(shop_bundle), contract, settings)


def test_a_champion_of_the_same_inputs_is_taken(shop_bundle: Path, shop_yaml: str) -> None:
    settings = Settings(home=shop_bundle)
    contract = contracts.parse(shop_yaml.replace("trees: 20", "trees: 30"))
    assert open_champion(str(shop_bundle), contract, settings).name == shop_bundle.name
    assert difference_of(open_bundle(str(shop_bundle), settings), contract) is None
