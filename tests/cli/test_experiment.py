from collections.abc import Callable
from pathlib import Path

import pytest

from offers.contract.contract import Contract
from serving.ranker import routing
from serving.ranker.routing import Arm, Routing
from tests.support.experiment_log import logged
from tests.support.warranties import WARRANTIES


@pytest.fixture
def routed(tmp_path: Path, shop_yaml: str) -> Path:
    """A routing file with the shop's release, a catalogue beside it."""
    (tmp_path / "r1" / "bundle").mkdir(parents=True)
    (tmp_path / "r1" / "bundle" / "contract.yaml").write_text(shop_yaml)
    (tmp_path / "r1" / "catalogue.yaml").write_text(WARRANTIES)
    (tmp_path / "dearer.yaml").write_text(WARRANTIES.replace("value: 30", "value: 31"))
    champion = {"name": "champion", "share": 1, "release": "r1", "bundle": "shop-1", "predictor": "127.0.0.1:1"}
    arm = Arm.model_validate(champion | {"directory": tmp_path / "r1"})
    routing.write(tmp_path / "routing.json", Routing(arms=(arm,)))
    return tmp_path / "routing.json"


def test_an_experiment_begins_grows_and_ends(routed: Path, offers: Callable[..., tuple[int, str, str]]) -> None:
    def start(share: float, name: str = "e", **more: str) -> tuple[int, str, str]:
        file = routed.parent / "e.yaml"
        lines = [f"{key}: {value}" for key, value in more.items()]
        arm = f"{{name: a, share: {share}, catalogue: dearer.yaml}}"
        file.write_text("\n".join([f"name: {name}", *lines, f"arms: [{arm}]"]))
        return offers("experiment", "start", str(file), "--routing", str(routed))

    before = routed.read_bytes()
    assert "experiments" not in before.decode()
    code, out, _ = start(0.1)
    assert code == 0
    assert "control 90%, a 10%" in out
    assert start(0.25)[0] == 0
    (one,) = routing.read(routed).experiments
    assert (one.arms[0].share, one.arms[0].catalogue) == (0.25, routed.parent / "dearer.yaml")
    for refused, sentence in [
        (start(0.2), "arm 'a' begins elsewhere or shrinks"),
        (start(0.5, layer="[0, 0.5]"), "salt or layer differ"),
        (start(0.2, name="f"), "share customers"),
    ]:
        assert (refused[0], sentence in refused[2]) == (2, True), refused
    assert routing.read(routed).experiments == (one,)
    (routed.parent / "dearer.yaml").write_text(WARRANTIES.replace("contract: shop", "contract: other"))
    assert "the contract in use is 'shop'" in start(0.3)[2]
    assert offers("experiment", "stop", "f", "--routing", str(routed))[0] == 2
    assert offers("experiment", "stop", "e", "--routing", str(routed))[0] == 0
    assert routed.read_bytes() == before


@pytest.mark.parametrize("lost", [0, 400])
def test_the_report_tells_what_came_of_it(
    shop_contract: Contract, tmp_path: Path, offers: Callable[..., tuple[int, str, str]], lost: int
) -> None:
    file, page = tmp_path / "e.yaml", tmp_path / "e.html"
    file.write_text("name: e\narms: [{name: a, share: 0.5, catalogue: dearer.yaml}]\n")
    tables = logged(shop_contract, tmp_path, file, lost)
    code, out, _ = offers("experiment", "report", str(file), "--tables", str(tables), "--output", str(page))
    assert code == (3 if lost else 0)
    html = page.read_text()
    whole = ("a: earns more", "100.0%", "Nobody told what was presented", "answers without")
    for words in ("Customers are missing from an arm",) if lost else whole:
        assert words in out
        assert words in html


def test_shadows_alone_have_no_report(tmp_path: Path, offers: Callable[..., tuple[int, str, str]]) -> None:
    file = tmp_path / "e.yaml"
    file.write_text("name: e\narms: [{name: a, share: 0.5, catalogue: dearer.yaml, shadow: true}]\n")
    code, _, err = offers("experiment", "report", str(file))
    assert (code, "there is nothing to compare" in err) == (2, True)
