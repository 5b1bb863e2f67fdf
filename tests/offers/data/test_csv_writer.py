"""What is written as CSV: simulated rows, which are read back as they were, and nothing for people."""

import re
from pathlib import Path

from offers.contract import contract as contracts
from offers.data import table_file
from offers.data.csv_writer import write_csv
from offers.data.validation import validate
from offers.simulation.world import World

ROOT = Path(__file__).parents[3]
WRITERS = re.compile(r"\bto_csv\(|\bCSVWriter\b|\bcsv\.(writer|DictWriter)\b|\bwrite_csv\(|text/csv")
SIMULATED = {"offers/data/csv_writer.py", "offers/data/market.py", "offers/data/sources.py", "cli/data.py"}
FOR_TRAINING = {"cli/traffic.py"}
CASES = Path(__file__).parent / "cases"


def test_nothing_that_a_caller_sends_is_written_as_csv() -> None:
    """A spreadsheet would run a cell that begins with an equals sign: quote such cells where people get a CSV file."""
    rooms = ("offers", "cli", "serving", "pipelines", "deployment", "components")
    modules = (path for room in rooms for path in (ROOT / room).rglob("*.py"))
    found = {str(path.relative_to(ROOT)) for path in modules if WRITERS.search(path.read_text("utf-8"))}
    assert found == SIMULATED | FOR_TRAINING


def test_words_that_look_like_formulas_or_markup_are_read_back_as_they_were(tmp_path: Path) -> None:
    contract = contracts.parse(
        re.sub(r"source: .*", "source: {file: lab.csv}", (CASES / "contract-with-password.yaml").read_text("utf-8"))
    )
    rows = World(contract, 3).sample(300).frame
    assert {"=cmd|' /C calc'!A0"} < set(rows["channel"])
    write_csv(rows, contract, tmp_path / "lab.csv")
    again = validate(table_file.read(tmp_path / "lab.csv", contract, "lab"), contract)
    assert again.passed
    for name in ("channel", "region", "age", "vip"):
        assert again.frame[name].astype("string").equals(rows[name].astype("string")), name
