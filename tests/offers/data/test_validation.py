import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.data.cells import DATE
from offers.data.periods import days, periods
from offers.data.validation import Violation, broken_contract, validate


@pytest.fixture
def changed(shop_rows: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """Six good raw rows of the shop, with some cells replaced: {column: {row from 1: cell}}."""

    def rows(cells: dict[str, dict[int, str]] | None = None, **more: dict[int, str]) -> pd.DataFrame:
        raw = shop_rows(6)
        raw["bought"] = pd.array(["ja", "nein"] * 3, "string[pyarrow]")
        for column, values in {**(cells or {}), **more}.items():
            for row, cell in values.items():
                raw.loc[row - 1, column] = cell
        return raw

    return rows


def bank_rows(**columns: list[str]) -> pd.DataFrame:
    """Raw rows of bank-marketing: one good row, repeated, with whole columns replaced."""
    row = {
        "age": "56",
        "job": "housemaid",
        "marital": "married",
        "education": "basic.4y",
        "default": "no",
        "housing": "no",
        "loan": "no",
        "contact": "telephone",
        "month": "may",
        "day_of_week": "mon",
        "duration": "261",
        "campaign": "1",
        "pdays": "999",
        "previous": "0",
        "poutcome": "nonexistent",
        "emp.var.rate": "1.1",
        "cons.price.idx": "93.994",
        "cons.conf.idx": "-36.4",
        "euribor3m": "4.857",
        "nr.employed": "5191",
        "y": ["yes", "no"],
    }
    count = max(len(values) for values in columns.values())
    outcomes = {"y": (["yes", "no"] * count)[:count]}
    return pd.DataFrame({**row, **outcomes, **columns}, dtype="string[pyarrow]")


def loan_rows(**columns: list[str]) -> pd.DataFrame:
    """Raw rows of personal-loan, as `bank_rows` makes them."""
    row = {
        "ID": "1",
        "Age": "25",
        "Experience": "1",
        "Income": "49",
        "ZIP Code": "91107",
        "Family": "4",
        "CCAvg": "1.6",
        "Education": "1",
        "Mortgage": "0",
        "Personal Loan": "0",
        "Securities Account": "1",
        "CD Account": "0",
        "Online": "0",
        "CreditCard": "0",
    }
    count = max(len(values) for values in columns.values())
    outcomes = {"Personal Loan": (["1", "0"] * count)[:count]}
    return pd.DataFrame({**row, **outcomes, **columns}, dtype="string[pyarrow]")


def test_good_rows_become_typed(shop_contract: Contract, changed: Callable[..., pd.DataFrame]) -> None:
    raw = changed({"spending": {1: "0", 2: "12,5", 3: "10000"}, "member": {1: "1", 2: "no", 3: "TRUE"}})
    checked = validate(raw, shop_contract)
    assert checked.violations == ()
    assert checked.passed
    frame = checked.frame
    assert list(frame.columns) == [column.name for column in shop_contract.columns]
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        "order": "object",
        "asked on": "datetime64[ns]",
        "spending": "float64",
        "visits": "float64",
        "channel": "category",
        "region": "category",
        "member": "bool",
        "rating": "float64",
        "minutes": "int64",
        "bought": "bool",
    }
    assert frame["spending"].tolist()[:3] == [0.0, 12.5, 10000.0]
    assert frame["member"].tolist()[:3] == [True, False, True]
    assert frame["channel"].cat.categories.tolist() == ["mail", "phone", "web"]
    assert frame["bought"].tolist() == [True, False] * 3
    assert frame["asked on"].iloc[0] == pd.Timestamp("2023-01-01")


def test_rows_that_were_handed_in_stay_as_they_are(
    shop_contract: Contract, changed: Callable[..., pd.DataFrame]
) -> None:
    raw = changed(visits={2: "?"})
    before = raw.copy()
    validate(raw, shop_contract)
    pd.testing.assert_frame_equal(raw, before)


DIRT = {
    "a word as number": ("spending", {3: "much"}, "a number", "'much'"),
    "an empty number": ("spending", {3: None}, "a value, not an empty cell", "nothing"),
    "blanks as number": ("spending", {3: "  "}, "a number", "'  '"),
    "no characters": ("spending", {3: ""}, "a number", "''"),
    "nan": ("spending", {3: "nan"}, "a number", "'nan'"),
    "infinity": ("spending", {2: "inf", 3: "-inf"}, "a number", "'inf'"),
    "beyond all numbers": ("spending", {3: "1e999"}, "a number", "'1e999'"),
    "hexadecimal": ("minutes", {3: "0x1F"}, "a number", "'0x1F'"),
    "a decimal dot": ("spending", {3: "12.5"}, "a number", "'12.5'"),
    "a thousands dot": ("spending", {3: "1.234,5"}, "a number", "'1.234,5'"),
    "below the range": ("spending", {3: "-0,01"}, "at least 0", "-0,01"),
    "above the range": ("spending", {1: "10000,01", 6: "20000"}, "at most 10000", "10000,01"),
    "a fraction": ("visits", {3: "2,5"}, "a whole number", "2,5"),
    "a fraction in leakage": ("minutes", {3: "2,5"}, "a whole number", "2,5"),
    "an unknown category": ("channel", {2: "fax", 5: "pigeon"}, "one of mail, phone, web", "'fax'"),
    "another case": ("channel", {3: "Mail"}, "one of mail, phone, web", "'Mail'"),
    "blanks round a category": ("channel", {3: " mail"}, "one of mail, phone, web", "' mail'"),
    "an empty category": ("channel", {3: None}, "a value, not an empty cell", "nothing"),
    "not yes or no": ("member", {3: "2"}, "0 or 1 (or true and false, yes and no)", "'2'"),
    "an empty boolean": ("member", {3: None}, "a value, not an empty cell", "nothing"),
    "a word as date": ("asked on", {3: "soon"}, DATE, "'soon'"),
    "now": ("asked on", {3: "now"}, DATE, "'now'"),
    "a day that is not": ("asked on", {3: "2023-02-29"}, DATE, "'2023-02-29'"),
    "another form of date": ("asked on", {3: "31.05.2023"}, DATE, "'31.05.2023'"),
    "a year": ("asked on", {3: "2023"}, DATE, "'2023'"),
    "a time zone": (
        "asked on",
        {6: "2025-01-01T10:00+02:00"},
        "dates that all have a time zone, or none of them",
        "'2025-01-01T10:00+02:00'",
    ),
    "an empty date": ("asked on", {3: None}, "a value, not an empty cell", "nothing"),
    "another outcome": ("bought", {3: "vielleicht"}, "'ja' or 'nein'", "'vielleicht'"),
    "an empty outcome": ("bought", {1: None, 2: None}, "a value, not an empty cell", "nothing"),
}


@pytest.mark.parametrize("dirt", DIRT)
def test_dirt_is_listed_once_with_column_row_and_count(
    shop_contract: Contract, changed: Callable[..., pd.DataFrame], dirt: Any
) -> None:
    column, cells, expected, shown = DIRT[dirt]
    checked = validate(changed({column: cells}), shop_contract)
    (violation,) = checked.violations
    assert (violation.column, violation.expected, violation.count) == (column, expected, len(cells))
    assert tuple(row for row, _ in violation.examples) == tuple(cells)
    assert violation.examples[0][1] == shown


def test_every_rule_that_is_broken_is_listed(shop_contract: Contract, changed: Callable[..., pd.DataFrame]) -> None:
    raw = changed(spending={1: "-5", 2: "x"}, channel={2: "fax"}, member={6: "2"}, bought={4: "?"}, minutes={5: "1,5"})
    violations = validate(raw, shop_contract).violations
    assert {(v.column, v.expected, tuple(row for row, _ in v.examples)) for v in violations} == {
        ("spending", "a number", (2,)),
        ("spending", "at least 0", (1,)),
        ("channel", "one of mail, phone, web", (2,)),
        ("member", "0 or 1 (or true and false, yes and no)", (6,)),
        ("minutes", "a whole number", (5,)),
        ("bought", "'ja' or 'nein'", (4,)),
    }


def test_five_examples_stand_for_many_rows(shop_contract: Contract, shop_rows: Callable[..., pd.DataFrame]) -> None:
    raw = shop_rows(1000)
    raw.loc[100:899, "channel"] = "fax"
    (violation,) = validate(raw, shop_contract).violations
    assert violation.count == 800
    assert violation.examples == tuple((row, "'fax'") for row in range(101, 106))


def test_a_bad_cell_may_stand_for_a_good_value_of_a_narrow_range() -> None:
    raw = bank_rows(age=["17", "old", "18"], **{"nr.employed": ["5191", "5191", "many"]})
    violations = validate(raw, contracts.load("bank-marketing")).violations
    assert [(v.column, v.expected) for v in violations] == [("age", "a number"), ("nr.employed", "a number")]


def test_999_days_mean_never() -> None:
    checked = validate(bank_rows(pdays=["999", "3", "999.0", "0"]), contracts.load("bank-marketing"))
    assert checked.passed
    np.testing.assert_array_equal(checked.frame["pdays"], [np.nan, 3, np.nan, 0])


def test_years_below_zero_mean_not_known() -> None:
    contract = contracts.load("personal-loan")
    checked = validate(loan_rows(Experience=["-1", "-2", "-3", "0", "12"]), contract)
    assert checked.passed
    np.testing.assert_array_equal(checked.frame["Experience"], [np.nan, np.nan, np.nan, 0, 12])
    (violation,) = validate(loan_rows(Experience=["1", "-4"]), contract).violations
    assert (violation.column, violation.expected, violation.examples) == ("Experience", "at least 0", ((2, "-4"),))


def test_words_may_stand_for_missing_numbers(shop_contract: Contract, changed: Callable[..., pd.DataFrame]) -> None:
    checked = validate(changed(visits={1: "?", 2: "99", 3: "99,0", 4: "7"}), shop_contract)
    assert checked.passed
    np.testing.assert_array_equal(checked.frame["visits"][:4], [np.nan, np.nan, np.nan, 7])


@pytest.mark.parametrize("column", ["visits", "rating", "region"])
def test_column_that_may_be_missing_takes_an_empty_cell(
    shop_contract: Contract, changed: Callable[..., pd.DataFrame], column: str
) -> None:
    checked = validate(changed({column: {2: None}}), shop_contract)
    assert checked.passed
    assert checked.frame[column].isna()[1]


def test_missing_codes_of_booleans_and_dates_count(shop_yaml: str, changed: Callable[..., pd.DataFrame]) -> None:
    text = shop_yaml.replace("type: boolean", "type: boolean, missing: [x]")
    text = text.replace("role: leakage, type: integer", "role: leakage, type: date, missing: ['0000-00-00']")
    raw = changed(member={1: "x", 2: "1"})
    raw["minutes"] = pd.array(["0000-00-00", "2024-05-31 10:30", *[None] * 4], "string[pyarrow]")
    checked = validate(raw, contracts.parse(text))
    assert checked.passed
    assert checked.frame["member"].isna()[0]
    assert checked.frame["member"][1] == 1.0
    assert checked.frame["minutes"].isna()[0]
    assert checked.frame["minutes"][1] == pd.Timestamp("2024-05-31 10:30")


def test_unknown_category_may_count_as_missing(shop_contract: Contract, changed: Callable[..., pd.DataFrame]) -> None:
    checked = validate(changed(region={2: "east", 3: "south"}), shop_contract)
    assert checked.passed
    assert checked.frame["region"].isna()[1]
    assert checked.frame["region"][2] == "south"


TYPED = {
    "numpy": lambda column, raw: {
        "asked on": pd.to_datetime(raw["asked on"].astype(object)),
        "spending": raw["spending"].str.replace(",", ".").astype("float64"),
        "visits": raw["visits"].astype("int64"),
        "member": raw["member"] == "1",
        "rating": np.where(raw["rating"].isna(), np.nan, 3.5),
        "minutes": raw["minutes"].astype("float32"),
        "channel": raw["channel"].astype("category"),
        "bought": raw["bought"].astype(object),
    }[column],
    "objects, as from SQL": lambda column, raw: {
        "asked on": pd.Series([dt.date.fromisoformat(day) for day in raw["asked on"]], dtype=object),
        "spending": pd.Series([Decimal(cell.replace(",", ".")) for cell in raw["spending"]], dtype=object),
        "visits": pd.Series([int(cell) for cell in raw["visits"]], dtype=object),
        "member": pd.Series([cell == "1" for cell in raw["member"]], dtype=object),
        "rating": pd.Series([None if pd.isna(cell) else 3.5 for cell in raw["rating"]], dtype=object),
        "minutes": pd.Series([int(cell) for cell in raw["minutes"]], dtype=object),
        "channel": raw["channel"].astype(object),
        "bought": raw["bought"].astype(object),
    }[column],
    "nullable": lambda column, raw: {
        "asked on": pd.to_datetime(raw["asked on"].astype(object)).dt.tz_localize("UTC"),
        "spending": raw["spending"].str.replace(",", ".").astype("Float64"),
        "visits": raw["visits"].astype("Int64"),
        "member": (raw["member"] == "1").astype("boolean"),
        "rating": pd.Series([None if pd.isna(cell) else 3.5 for cell in raw["rating"]], dtype="Float64"),
        "minutes": raw["minutes"].astype("Int16"),
        "channel": raw["channel"].astype("string"),
        "bought": raw["bought"].astype("category"),
    }[column],
    "arrow": lambda column, raw: {
        "asked on": pd.to_datetime(raw["asked on"].astype(object)).astype(pd.ArrowDtype(pa.timestamp("s"))),
        "spending": raw["spending"].str.replace(",", ".").astype("float64").astype(pd.ArrowDtype(pa.float64())),
        "visits": raw["visits"].astype("int64").astype(pd.ArrowDtype(pa.int64())),
        "member": (raw["member"] == "1").astype(pd.ArrowDtype(pa.bool_())),
        "rating": pd.Series(np.where(raw["rating"].isna(), None, 3.5), dtype=pd.ArrowDtype(pa.float32())),
        "minutes": raw["minutes"].astype("int64").astype(pd.ArrowDtype(pa.uint8())),
        "channel": raw["channel"].astype(pd.ArrowDtype(pa.large_string())),
        "bought": raw["bought"].astype(pd.ArrowDtype(pa.string())),
    }[column],
}


@pytest.mark.parametrize("kind", TYPED)
def test_typed_cells_count_like_text(
    shop_contract: Contract, shop_rows: Callable[..., pd.DataFrame], kind: Any
) -> None:
    raw = shop_rows(30)
    plain = ["asked on", "spending", "visits", "member", "rating", "minutes", "channel", "bought"]
    typed = raw.assign(**{column: TYPED[kind](column, raw) for column in plain})
    expected, got = validate(raw, shop_contract), validate(typed, shop_contract)
    assert expected.passed
    assert got.violations == ()
    pd.testing.assert_frame_equal(got.frame, expected.frame)


@pytest.mark.parametrize("kind", ["int64", "float64", "Int64", "bool", "boolean", "object"])
def test_outcomes_and_categories_may_be_numbers(kind: str) -> None:
    contract = contracts.load("personal-loan")
    raw = loan_rows(Education=["1", "2", "3", "1"])
    raw["Personal Loan"] = raw["Personal Loan"].astype("int64").astype(kind)
    raw["Online"] = raw["Personal Loan"]
    raw["Education"] = raw["Education"].astype("float64")
    checked = validate(raw, contract)
    assert checked.violations == ()
    assert checked.frame["Personal Loan"].tolist() == [True, False, True, False]
    assert checked.frame["Online"].tolist() == [True, False, True, False]
    assert checked.frame["Education"].tolist() == ["1", "2", "3", "1"]


def test_typed_cells_are_held_to_the_contract_too(
    shop_contract: Contract, shop_rows: Callable[..., pd.DataFrame]
) -> None:
    raw = shop_rows(4)
    raw["bought"] = pd.array(["ja", "nein"] * 2)
    raw["spending"] = [1.0, np.inf, -1.0, np.nan]
    raw["asked on"] = [20230101, 20230102, 20230103, 20230104]
    violations = validate(raw, shop_contract).violations
    assert {(v.column, v.expected, tuple(row for row, _ in v.examples)) for v in violations} == {
        ("spending", "at least 0", (3,)),
        ("spending", "a number", (2,)),
        ("spending", "a value, not an empty cell", (4,)),
        ("asked on", DATE, (1, 2, 3, 4)),
    }


def test_date_that_goes_back_is_out_of_order(shop_contract: Contract, changed: Callable[..., pd.DataFrame]) -> None:
    dates = ["2024-01-01", "2024-01-02", "2024-01-02", "2024-01-01", "2024-02-01", "2024-01-31"]
    checked = validate(changed({"asked on": dict(enumerate(dates, 1))}), shop_contract)
    (violation,) = checked.violations
    assert violation.column == "asked on"
    assert [row for row, _ in violation.examples] == [4, 6]


MONTHS_IN_ORDER = ["may", "jun", "jul", "aug", "oct", "nov", "dec", "mar", "apr", "may", "dec", "mar", "nov"]


def test_months_follow_each_other_over_the_turn_of_the_year() -> None:
    contract = contracts.load("bank-marketing")
    checked = validate(bank_rows(month=MONTHS_IN_ORDER), contract)
    assert checked.passed
    expected = "2008-05 2008-06 2008-07 2008-08 2008-10 2008-11 2008-12 2009-03 2009-04 2009-05 2009-12 2010-03 2010-11"
    assert periods(checked.frame, contract).tolist() == expected.split()


@pytest.mark.parametrize(
    ("months", "row"),
    [
        (MONTHS_IN_ORDER[::-1], 1),
        (MONTHS_IN_ORDER[7:] + MONTHS_IN_ORDER[:7], 1),
        (MONTHS_IN_ORDER[1:], 1),
        ([*MONTHS_IN_ORDER, "dec"], 14),
        (["may", "jul", "jun", "aug", "jul", "dec", "may"], 6),
        (["may", "mar"] * 4, 6),
    ],
    ids=["reversed", "second half first", "beginning cut off", "too long", "swapped", "shuffled"],
)
def test_months_out_of_order_are_refused(months: Any, row: int) -> None:
    (violation,) = validate(bank_rows(month=months), contracts.load("bank-marketing")).violations
    assert violation.column == "month"
    assert "rows in time order" in violation.expected
    assert violation.examples[0] == (row, repr(months[row - 1]))


def test_days_of_dates_are_the_dates(shop_contract: Contract, changed: Callable[..., pd.DataFrame]) -> None:
    frame = validate(changed(), shop_contract).frame
    assert shop_contract.time is not None
    expected = (frame[shop_contract.time.column] - pd.Timestamp("1970-01-01")).dt.days
    found = days(frame, shop_contract)
    assert found is not None
    assert found.tolist() == expected.tolist()


def test_rows_that_have_a_month_only_are_spread_over_its_days() -> None:
    contract = contracts.load("bank-marketing")
    frame = validate(bank_rows(month=["may"] * 31 + ["jun"] * 3 + ["jan"] * 2), contract).frame
    rows = days(frame, contract)
    assert rows is not None
    found = rows.astype("datetime64[D]").astype(str).tolist()
    assert found[:31] == [f"2008-05-{day:02}" for day in range(1, 32)]
    assert found[31:] == ["2008-06-01", "2008-06-11", "2008-06-21", "2009-01-01", "2009-01-16"]


def test_rows_without_time_order_have_no_days() -> None:
    contract = contracts.load("personal-loan")
    assert days(validate(loan_rows(Age=["30", "40"]), contract).frame, contract) is None


def test_periods_of_dates_are_months(shop_contract: Contract, changed: Callable[..., pd.DataFrame]) -> None:
    dates = ["2023-12-31", "2024-01-01", "2024-01-31 23:59:59", "2024-02-29", "2024-02-29", "2025-02-01"]
    frame = validate(changed({"asked on": dict(enumerate(dates, 1))}), shop_contract).frame
    assert periods(frame, shop_contract).tolist() == ["2023-12", *["2024-01"] * 2, *["2024-02"] * 2, "2025-02"]


def test_without_time_there_is_one_period() -> None:
    contract = contracts.load("personal-loan")
    assert set(periods(validate(loan_rows(Age=["30", "40"]), contract).frame, contract)) == {"all"}


@pytest.mark.parametrize(("only", "absent"), [("ja", "nein"), ("nein", "ja")])
def test_one_outcome_only_is_refused(
    shop_contract: Contract, changed: Callable[..., pd.DataFrame], only: str, absent: str
) -> None:
    (violation,) = validate(changed(bought=dict.fromkeys(range(1, 7), only)), shop_contract).violations
    assert violation == Violation("bought", f"both outcomes, 'ja' and 'nein'; '{absent}' never occurs", 6)


def test_no_rows_at_all_are_refused(shop_contract: Contract, shop_rows: Callable[..., pd.DataFrame]) -> None:
    violations = validate(shop_rows(6).iloc[:0], shop_contract).violations
    assert {violation.column for violation in violations} == {"bought"}


def test_refusal_is_one_sentence(shop_contract: Contract, changed: Callable[..., pd.DataFrame]) -> None:
    raw = changed(spending={1: "-5"}, channel={2: "fax", 3: "fax"}, member={6: "2"}, minutes={5: "1,5"})
    message = str(broken_contract("shop", validate(raw, shop_contract).violations))
    assert message.startswith("5 rows break contract shop: column '")
    assert message.endswith("; and 1 more rule. Mend the data, or the contract")
    assert "column 'member', row 6: expected 0 or 1 (or true and false, yes and no), got '2'" in message


def test_violation_reads_as_a_sentence() -> None:
    one = Violation("age", "a number", 1, ((7, "'old'"),))
    assert str(one) == "column 'age', row 7: expected a number, got 'old'"
    many = Violation("age", "a number", 3, ((7, "'old'"), (8, "'older'")))
    assert str(many) == "column 'age', row 7: expected a number, got 'old' (3 rows)"
    assert str(Violation("y", "both outcomes", 9)) == "column 'y': expected both outcomes"


cells = st.one_of(
    st.text(max_size=8),
    st.from_regex(r"\A[+-]?[0-9]{0,6}[.,]?[0-9]{0,3}(e[+-]?[0-9]{1,3})?\Z", alphabet="0123456789+-.,e"),
    st.sampled_from(["nan", "inf", "None", "true", "NO", "mail", "north", "ja", "nein", "2025-01-31", "9999-12-31"]),
    st.dates().map(str),
    st.datetimes(timezones=st.none() | st.timezones()).map(str),
)


@pytest.mark.parametrize("column", ["spending", "visits", "member", "asked on", "channel", "region", "bought"])
@given(cell=cells)
@settings(max_examples=40)
def test_any_text_is_a_good_value_or_a_violation_of_its_row(
    shop_contract: Contract, shop_rows: Callable[..., pd.DataFrame], column: str, cell: Any
) -> None:
    raw = shop_rows(7)
    raw["bought"] = pd.array(["ja", "nein", "ja", "nein", "ja", "nein", "ja"], "string[pyarrow]")
    raw.loc[6, column] = cell
    checked = validate(raw, shop_contract)
    if not checked.passed:
        assert [(v.column, v.examples[0][0]) for v in checked.violations] == [(column, 7)] * len(checked.violations)
        return
    value = checked.frame[column].iloc[6]
    if column in ("spending", "visits"):
        read = float(cell.replace(",", "."))
        assert np.isnan(value) if column == "visits" and read == 99 else value == read
        assert np.isnan(value) or shop_contract[column].min <= value <= shop_contract[column].max
    elif column == "asked on":
        assert str(value).startswith(cell[:10])
    elif column == "region":
        assert value == cell if cell in ("north", "south") else pd.isna(value)
    elif column == "channel":
        assert value == cell
    else:
        assert value == (cell.lower() in ("1", "true", "yes", "ja"))


def test_the_uci_file_keeps_to_its_contract(uci_raw: pd.DataFrame, uci_typed: pd.DataFrame) -> None:
    contract = contracts.load("bank-marketing")
    checked = validate(uci_raw, contract)
    assert checked.passed
    assert uci_typed["pdays"].isna().sum() == (uci_raw["pdays"] == "999").sum() == 39673
    assert uci_typed["y"].sum() == 4640
    months = periods(uci_typed, contract)
    assert (months[0], months[-1], len(np.unique(months))) == ("2008-05", "2010-11", 26)


@pytest.mark.parametrize("order", ["reversed", "shuffled", "halves swapped"])
def test_the_uci_file_in_another_order_is_refused(uci_raw: pd.DataFrame, order: str) -> None:
    half, count = len(uci_raw) // 2, len(uci_raw)
    rows = {
        "reversed": np.arange(count)[::-1],
        "shuffled": np.random.default_rng(0).permutation(count),
        "halves swapped": np.r_[half:count, :half],
    }[order]
    violations = validate(uci_raw.iloc[rows], contracts.load("bank-marketing")).violations
    assert [violation.column for violation in violations] == ["month"]
