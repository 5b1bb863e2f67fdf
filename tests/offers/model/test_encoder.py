import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.data.validation import validate
from offers.errors import BundleError, DataError
from offers.model.encoder import BLOCK, Encoder, Feature, fingerprint

COLOURS = ("red", "green", "blue")
PAINT = Encoder((Feature("size"), Feature("colour", COLOURS)))
LENIENT = Encoder((Feature("size"), Feature("colour", COLOURS, unknown_is_missing=True)))
NAN = np.nan


def paint(sizes: Sequence[float] | np.ndarray, colours: Sequence[str | None] | np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"size": sizes, "colour": pd.Series(colours, dtype=object)})


def test_encoder_follows_from_the_contract(shop_contract: Contract) -> None:
    encoder = Encoder.of(shop_contract)
    assert encoder.names == ["spending", "visits", "channel", "region", "member", "rating"]
    assert encoder.feature_types == ["q", "q", "c", "c", "q", "q"]
    assert encoder.features[2] == Feature("channel", ("mail", "phone", "web"))
    assert encoder.features[3] == Feature("region", ("north", "south"), unknown_is_missing=True)


@pytest.mark.parametrize("name", contracts.shipped())
def test_leakage_and_target_are_no_features(name: Any) -> None:
    contract = contracts.load(name)
    names = set(Encoder.of(contract).names)
    assert not names & {column.name for column in contract.columns if not column.is_input}
    assert "duration" not in names


def test_matrix_is_the_one_made_by_hand(shop_contract: Contract, shop_rows: Callable[..., pd.DataFrame]) -> None:
    raw = shop_rows(3)
    raw["spending"] = ["10,5", "0", "9999,99"]
    raw["visits"] = ["99", "0", "7"]
    raw["channel"] = ["web", "mail", "phone"]
    raw["region"] = ["south", "east", "north"]
    raw["member"] = ["1", "0", "1"]
    raw["rating"] = [None, "-1,25", "3"]
    raw["bought"] = ["ja", "nein", "ja"]
    matrix = Encoder.of(shop_contract).encode(validate(raw, shop_contract).frame)
    expected = [[10.5, NAN, 2, 1, 1, NAN], [0, 0, 0, NAN, 0, -1.25], [9999.99, 7, 1, 0, 1, 3]]
    np.testing.assert_array_equal(matrix, np.array(expected, np.float32))
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous


words = st.lists(st.sampled_from([*COLOURS, None]), min_size=1, max_size=12)


@given(colours=words, order=st.permutations(COLOURS), extra=st.booleans())
@settings(max_examples=60)
def test_every_form_of_text_gives_the_same_matrix(colours: Any, order: Any, extra: Any) -> None:
    sizes = np.arange(len(colours), dtype=np.float64)
    codes = [NAN if colour is None else COLOURS.index(colour) for colour in colours]
    expected = np.column_stack([sizes, codes]).astype(np.float32)
    categories = [*order, "pink"] if extra else list(order)
    plain = pd.Series(colours, dtype=object)
    arrow = pa.array(colours, pa.string())
    indices = [None if colour is None else categories.index(colour) for colour in colours]
    forms = {
        "objects": plain,
        "array of objects": plain.to_numpy(),
        "list": colours,
        "categorical": plain.astype(pd.CategoricalDtype(categories)),
        "string[pyarrow]": plain.astype("string[pyarrow]"),
        "string[python]": plain.astype("string[python]"),
        "large string": plain.astype(pd.ArrowDtype(pa.large_string())),
        "arrow": arrow,
        "arrow large": arrow.cast(pa.large_string()),
        "chunks": pa.chunked_array([arrow[:1], arrow[1:]]),
        "dictionary": arrow.dictionary_encode(),
        "dictionary with null": arrow.dictionary_encode("encode"),
        "dictionary of another order": pa.DictionaryArray.from_arrays(pa.array(indices, pa.uint8()), categories),
        "chunks of dictionaries": pa.chunked_array([arrow[:1].dictionary_encode(), arrow[1:].dictionary_encode()]),
    }
    for form, values in forms.items():
        np.testing.assert_array_equal(PAINT.encode({"size": sizes, "colour": values}), expected, form)


def test_tables_and_frames_are_rows_too() -> None:
    frame = paint([1.5, 2.5], ["blue", "red"])
    expected = np.array([[1.5, 2], [2.5, 0]], np.float32)
    np.testing.assert_array_equal(PAINT.encode(frame), expected)
    np.testing.assert_array_equal(PAINT.encode(pa.Table.from_pandas(frame)), expected)
    np.testing.assert_array_equal(PAINT.encode(frame.set_index(pd.Index([7, 3]))), expected)


@pytest.mark.parametrize(
    "sizes",
    [
        np.array([1, 0, 3]),
        np.array([1, 0, 3], np.float16),
        pd.Series([1, 0, 3], dtype="Int64"),
        pd.Series([1, 0, 3], dtype=pd.ArrowDtype(pa.int32())),
        pd.Series([1, 0, 3], dtype=object),
        pa.array([1, 0, 3], pa.uint8()),
        pa.chunked_array([[1.0], [0.0, 3.0]]),
        [1, 0, 3],
    ],
    ids=lambda sizes: f"{type(sizes).__name__} {getattr(sizes, 'dtype', getattr(sizes, 'type', ''))}",
)
def test_every_form_of_number_gives_the_same_column(sizes: Any) -> None:
    matrix = PAINT.encode({"size": sizes, "colour": ["red"] * 3})
    np.testing.assert_array_equal(matrix[:, 0], np.array([1, 0, 3], np.float32))


@pytest.mark.parametrize(
    "sizes",
    [
        np.array([NAN, 1]),
        pd.Series([None, 1], dtype="Int64"),
        pd.Series([None, True], dtype="boolean"),
        pd.Series([None, 1.0], dtype=pd.ArrowDtype(pa.float32())),
        pd.Series([None, True], dtype=object),
        pa.array([None, 1]),
        pa.array([None, True]),
        pa.chunked_array([[None, True]]),
    ],
    ids=lambda sizes: f"{type(sizes).__name__} {getattr(sizes, 'dtype', getattr(sizes, 'type', ''))}",
)
def test_missing_numbers_are_nan(sizes: Any) -> None:
    matrix = PAINT.encode({"size": sizes, "colour": ["red"] * 2})
    np.testing.assert_array_equal(matrix[:, 0], [NAN, 1])


UNKNOWN = {
    "objects": pd.Series(["red", "pink"], dtype=object),
    "array": np.array(["red", "pink"]),
    "string[pyarrow]": pd.Series(["red", "pink"], dtype="string[pyarrow]"),
    "categorical": pd.Series(["red", "pink"], dtype="category"),
    "arrow": pa.array(["red", "pink"]),
    "dictionary": pa.array(["red", "pink"]).dictionary_encode(),
}


@pytest.mark.parametrize("form", UNKNOWN)
def test_unknown_category_is_refused(form: Any) -> None:
    with pytest.raises(DataError, match="column 'colour': expected one of red, green, blue, got 'pink'"):
        PAINT.encode({"size": np.zeros(2), "colour": UNKNOWN[form]})


@pytest.mark.parametrize("form", UNKNOWN)
def test_unknown_category_is_nan_where_the_contract_says_so(form: Any) -> None:
    matrix = LENIENT.encode({"size": np.zeros(2), "colour": UNKNOWN[form]})
    np.testing.assert_array_equal(matrix[:, 1], [0, NAN])


@pytest.mark.parametrize(
    "values",
    [[3, 1], np.array([3, 1]), pd.Series([3, 1]), pd.Series([3, 1], dtype="category"), pa.array([3, 1])],
    ids=["list", "array", "series", "categorical", "arrow"],
)
def test_categories_may_be_written_as_numbers(values: Any) -> None:
    encoder = Encoder((Feature("family", ("1", "2", "3")),))
    np.testing.assert_array_equal(encoder.encode({"family": values})[:, 0], [2, 0])


def test_number_that_is_no_category_is_refused() -> None:
    with pytest.raises(DataError, match="expected one of 1, 2, got '7'"):
        Encoder((Feature("family", ("1", "2")),)).encode({"family": np.array([1, 7])})


def test_text_is_no_number() -> None:
    with pytest.raises(DataError, match=r"column 'size': expected numbers, but .*'tall'"):
        PAINT.encode(pd.DataFrame({"size": ["tall"], "colour": ["red"]}))


@pytest.mark.parametrize("rows", [pd.DataFrame({"size": [1.0]}), pa.table({"size": [1.0]}), {"size": np.ones(1)}])
def test_absent_column_is_refused(rows: Any) -> None:
    with pytest.raises(DataError, match="column 'colour' is missing; expected size, colour"):
        PAINT.encode(rows)


@pytest.mark.parametrize("n_rows", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 1])
@pytest.mark.parametrize("text", [object, "category", "string[pyarrow]"])
def test_blocks_and_threads_do_not_show(n_rows: Any, text: Any) -> None:
    places = np.arange(n_rows) % 3
    colours = pd.Series(np.array(COLOURS, dtype=object)[places]).astype(text)
    frame = pd.DataFrame({"size": np.arange(n_rows) / 8, "colour": colours})
    expected = np.column_stack([np.arange(n_rows) / 8, places]).astype(np.float32)
    for threads in (1, 2, 5):
        np.testing.assert_array_equal(PAINT.encode(frame, threads), expected)


def test_unknown_category_in_a_late_block_is_refused() -> None:
    colours = np.full(2 * BLOCK + 1, "red", dtype=object)
    colours[-1] = "pink"
    with pytest.raises(DataError, match="got 'pink'"):
        PAINT.encode(paint(np.zeros(len(colours)), colours))


@pytest.mark.parametrize("name", contracts.shipped())
def test_json_round_trip(name: Any) -> None:
    encoder = Encoder.of(contracts.load(name))
    assert Encoder.from_json(encoder.to_json()) == encoder


@pytest.mark.parametrize(
    "text",
    ["", "{", "3", "null", "[]", "{}", '{"features": 3}', '{"features": [{"name": "a"}]}', '{"features": ["a"]}'],
)
def test_foreign_json_is_refused(text: str) -> None:
    with pytest.raises(BundleError, match="the encoder is not one that this version writes"):
        Encoder.from_json(text)


def test_json_is_plain_and_small() -> None:
    assert json.loads(PAINT.to_json()) == {
        "features": [
            {"name": "size", "values": [], "unknown_is_missing": False},
            {"name": "colour", "values": ["red", "green", "blue"], "unknown_is_missing": False},
        ]
    }


def test_fingerprint_does_not_depend_on_how_rows_are_stored() -> None:
    frame = paint([1.5, NAN, 3.0], ["blue", None, "red"])
    labels = np.array([True, False, True])
    expected = fingerprint(PAINT.encode(frame), labels)
    assert fingerprint(PAINT.encode(pa.Table.from_pandas(frame)), labels.astype(np.int8)) == expected
    assert fingerprint(PAINT.encode(frame.astype({"colour": "category"})), labels.astype(np.int64)) == expected
    assert fingerprint(np.asfortranarray(PAINT.encode(frame)), labels) == expected


@pytest.mark.parametrize("row", [0, BLOCK - 1, BLOCK, BLOCK + 4])
def test_fingerprint_changes_with_one_value_or_label(row: Any) -> None:
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(BLOCK + 5, 2)).astype(np.float32)
    labels = generator.integers(0, 2, BLOCK + 5)
    other_matrix, other_labels = matrix.copy(), labels.copy()
    other_matrix[row, 1] = np.nextafter(other_matrix[row, 1], np.float32(9))
    other_labels[row] = 1 - other_labels[row]
    prints = {
        fingerprint(matrix, labels),
        fingerprint(other_matrix, labels),
        fingerprint(matrix, other_labels),
        fingerprint(matrix[:-1], labels[:-1]),
        fingerprint(matrix[::-1], labels[::-1]),
    }
    assert len(prints) == 5
    assert fingerprint(matrix.copy(), labels.copy()) == fingerprint(matrix, labels)
