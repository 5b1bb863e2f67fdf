import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from offers.bundle import bundle as bundles
from offers.bundle.golden import golden as golden_rows
from offers.contract import contract as contracts
from offers.contract.column import Column
from offers.errors import RequestError, RequestTooLarge
from offers.model.encoder import Coded
from serving.protocol.rows import RequestSchema, Rows
from serving.protocol.tensor import NUMBERS, Tensor, datatype
from tests.support.shop import SHOP

CONTRACT = contracts.parse(SHOP)
SCHEMA = RequestSchema(CONTRACT.inputs, max_rows=50)
GOOD = {"spending": 12.5, "visits": 3, "channel": "web", "region": "south", "member": True, "rating": None}


def of(**values: object) -> dict[str, list[float | None]]:
    """Check one row, GOOD but for `values`, as V1 would send it; the columns as lists."""
    return {name: plain(column) for name, column in SCHEMA.from_instances([GOOD | values]).items()}


def plain(column: np.ndarray | Coded) -> list[float | None]:
    values = column.places if isinstance(column, Coded) else column
    return [None if math.isnan(value) else value for value in values.tolist()]


def framed(*words: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(word)) + word for word in words)


def tensors(n_rows: int = 2, **changed: Tensor | None) -> list[Tensor]:
    """GOOD as raw tensors, with some replaced or, where they are None, left out."""
    good = {
        "spending": Tensor("spending", "FP64", [n_rows], raw=struct.pack("<d", 12.5) * n_rows),
        "visits": Tensor("visits", "INT32", [n_rows, 1], raw=struct.pack("<i", 3) * n_rows),
        "channel": Tensor("channel", "BYTES", [n_rows], raw=framed(b"web") * n_rows),
        "region": Tensor("region", "BYTES", [n_rows], values=["south"] * n_rows),
        "member": Tensor("member", "BOOL", [n_rows], values=[True] * n_rows),
        "rating": Tensor("rating", "FP32", [n_rows], values=[None] * n_rows),
    }
    return [tensor for tensor in (good | changed).values() if tensor is not None]


def column(schema_tensors: list[Tensor], name: str) -> list[float | None]:
    return plain(SCHEMA.from_tensors(schema_tensors)[name])


def test_instances_become_typed_columns() -> None:
    assert of() == {
        "spending": [12.5],
        "visits": [3.0],
        "channel": [2.0],
        "region": [1.0],
        "member": [1.0],
        "rating": [None],
    }


def test_tensors_become_the_same_columns_in_any_order() -> None:
    got = SCHEMA.from_tensors(tensors(1)[::-1])
    assert {name: plain(values) for name, values in got.items()} == of()
    assert list(got) == [column.name for column in CONTRACT.inputs]


@pytest.mark.parametrize("value", [None, 99, 99.0, "?"])
def test_a_number_is_missing_where_the_contract_says_so(value: float | int | str | None) -> None:
    assert of(visits=value)["visits"] == [None]


@pytest.mark.parametrize("value", [None, "", "east"])
def test_an_unknown_word_is_missing_where_the_contract_says_so(value: str | None) -> None:
    assert of(region=value)["region"] == [None]


def test_an_empty_string_in_a_tensor_stands_for_null() -> None:
    empty = Tensor("region", "BYTES", [2], raw=framed(b"", b"north"))
    assert column(tensors(region=empty), "region") == [None, 0.0]


def test_not_a_number_in_a_tensor_stands_for_null() -> None:
    raw = struct.pack("<2f", math.nan, 4.5)
    assert column(tensors(rating=Tensor("rating", "FP32", [2], raw=raw)), "rating") == [None, 4.5]


def test_a_token_for_missing_is_no_category_even_where_it_is_listed() -> None:
    listed = Column(name="job", role="customer", type="category", values=["clerk", "?"], missing=["?"])
    assert plain(RequestSchema([listed]).from_instances([{"job": "?"}, {"job": "clerk"}])["job"]) == [None, 0.0]


@pytest.mark.parametrize(
    "kind", ["FP64", "FP32", "INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8"]
)
def test_numbers_come_in_every_width(kind: str) -> None:
    raw = np.array([1, 7], NUMBERS[kind]).tobytes()
    assert column(tensors(visits=Tensor("visits", kind, [2], raw=raw)), "visits") == [1.0, 7.0]
    assert column(tensors(visits=Tensor("visits", kind, [2], values=[1, 7])), "visits") == [1.0, 7.0]


@pytest.mark.parametrize("values", [[True, False], [1, 0]])
def test_booleans_come_as_such_and_as_0_and_1(values: list[Any]) -> None:
    assert column(tensors(member=Tensor("member", "BOOL", [2], values=values)), "member") == [1.0, 0.0]
    assert column(tensors(member=Tensor("member", "INT8", [2], raw=bytes(values))), "member") == [1.0, 0.0]
    assert column(tensors(member=Tensor("member", "BOOL", [2], raw=bytes(values))), "member") == [1.0, 0.0]


def test_a_bound_is_compared_in_the_width_that_the_value_came_in() -> None:
    tenth = Column(name="rate", role="context", type="number", max=0.1)
    raw = np.array([0.1], np.float32).tobytes()
    (got,) = RequestSchema([tenth]).from_tensors([Tensor("rate", "FP32", [1], raw=raw)]).values()
    assert got.tolist() == [float(np.float32(0.1))]


def test_datatypes_that_are_declared() -> None:
    assert [datatype(CONTRACT[name]) for name in ("spending", "visits", "channel", "member", "rating")] == [
        "FP64",
        "FP64",
        "BYTES",
        "BOOL",
        "FP64",
    ]
    age = Column(name="age", role="customer", type="integer")
    maybe = Column(name="member", role="customer", type="boolean", nullable=True)
    assert (datatype(age), datatype(maybe)) == ("INT64", "FP64")


WRONG_VALUES = {
    "below the range": ("spending", -0.5, "at least 0, got -0.5"),
    "above the range": ("spending", 10000.5, "at most 10000, got 10000.5"),
    "null": ("spending", None, "a number, got null"),
    "NaN": ("spending", math.nan, "a number, got NaN"),
    "infinite": ("spending", -math.inf, "a number, got -Infinity"),
    "text for a number": ("spending", "12", "a number, got '12'"),
    "boolean for a number": ("spending", True, "a number, got true"),
    "list for a number": ("spending", [1], "a number, got a list"),
    "part of a whole number": ("visits", 1.5, "a whole number, got 1.5"),
    "text for a whole number": ("visits", "3", "a whole number, got '3'"),
    "beyond 32 bits": ("rating", 1e39, "at most 3.40282e+38, got 1e+39"),
    "beyond 64 bits": ("rating", 10**400, "-3.40282e+38 to 3.40282e+38, got 1000000"),
    "infinite where it may be missing": ("rating", math.inf, "a number, got Infinity"),
    "unknown category": ("channel", "fax", "one of mail, phone, web, got 'fax'"),
    "empty category": ("channel", "", "one of mail, phone, web, got ''"),
    "category in capitals": ("channel", "Web", "one of mail, phone, web, got 'Web'"),
    "null for a category": ("channel", None, "one of mail, phone, web, got null"),
    "number for a category": ("channel", 1, "one of mail, phone, web, got 1"),
    "object for a category": ("region", {"a": 1}, "one of north, south, got an object"),
    "long text": ("channel", "x" * 500, "one of mail, phone, web, got '" + "x" * 60 + "…'"),
    "text for a boolean": ("member", "maybe", "true, false, yes, no, 0 or 1, got 'maybe'"),
    "two for a boolean": ("member", 2, "0 or 1, got 2"),
    "null for a boolean": ("member", None, "true, false, yes, no, 0 or 1, got null"),
}


@pytest.mark.parametrize("case", WRONG_VALUES)
def test_a_wrong_value_is_named_with_its_row(case: Any) -> None:
    name, value, sentence = WRONG_VALUES[case]
    with pytest.raises(RequestError) as error:
        SCHEMA.from_instances([GOOD, GOOD | {name: value}])
    assert str(error.value).startswith(f"column '{name}', row 2: expected {sentence}")


WRONG_INSTANCES = {
    "no list": ({"age": 1}, "'instances': expected a list of objects, got an object"),
    "none": ([], "'instances': expected at least one row, got none"),
    "a row of numbers": ([[1, 2, 3]], "row 1: expected an object with a value per column, got a list"),
    "a missing column": ([GOOD, {**GOOD, "visits": 1}, {"spending": 1}], "column 'visits', row 3: expected a value"),
    "an unknown column": (
        [GOOD | {"minutes": 3}],
        "column 'minutes', row 1: not an input of this model; expected spend",
    ),
}


@pytest.mark.parametrize("case", WRONG_INSTANCES)
def test_wrong_instances_are_explained(case: Any) -> None:
    instances, sentence = WRONG_INSTANCES[case]
    with pytest.raises(RequestError) as error:
        SCHEMA.from_instances(instances)
    assert str(error.value).startswith(sentence)


WRONG_TENSORS = {
    "none": ([], "column 'spending': expected a value, but it is missing"),
    "a missing column": (tensors(channel=None), "column 'channel': expected a value, but it is missing"),
    "an unknown column": ([*tensors(), Tensor("minutes", "FP64", [2])], "column 'minutes': not an input"),
    "a column twice": ([*tensors(), *tensors()], "column 'spending': expected one tensor, got 2"),
    "a long column twice": ([*tensors(), *[Tensor("x" * 500, "FP64", [2])] * 3], f"column '{'x' * 60}…': expected one"),
    "more rows than fit a line": (tensors(visits=Tensor("visits", "INT8", [10**4000])), "column 'visits': expected 2"),
    "no rows": (tensors(0), "the tensors: expected at least one row, got none"),
    "other lengths": (
        tensors(visits=Tensor("visits", "INT8", [3], raw=b"\1\1\1")),
        "column 'visits': expected 2 rows as column 'spending' has, got 3",
    ),
    "too wide": (
        tensors(visits=Tensor("visits", "INT8", [2, 2], raw=b"\1\1\1\1")),
        "column 'visits': expected shape [n] or [n, 1], got [2, 2]",
    ),
    "no shape": (tensors(visits=Tensor("visits", "INT8", [])), "column 'visits': expected shape [n] or [n, 1], got []"),
    "a negative shape": (tensors(visits=Tensor("visits", "INT8", [-1])), "column 'visits': expected shape [n] or"),
    "a shape of text": (tensors(visits=Tensor("visits", "INT8", ["2"])), "column 'visits': expected shape [n] or"),
    "text for a number": (
        tensors(spending=Tensor("spending", "BYTES", [2], values=["1", "2"])),
        "column 'spending': expected datatype FP64, FP32, INT64, INT32, INT16, INT8, UINT64, UINT32, UINT16, UINT8",
    ),
    "a number for text": (
        tensors(channel=Tensor("channel", "INT64", [2], values=[1, 2])),
        "column 'channel': expected datatype BYTES, got 'INT64'",
    ),
    "boolean for a number": (
        tensors(spending=Tensor("spending", "BOOL", [2], values=[True, True])),
        "column 'spending': expected datatype FP64",
    ),
    "too few bytes": (
        tensors(spending=Tensor("spending", "FP64", [2], raw=b"\0" * 15)),
        "column 'spending': expected 16 bytes for 2 values of FP64, got 15",
    ),
    "too few values": (
        tensors(spending=Tensor("spending", "FP64", [2], values=[1.0])),
        "column 'spending': expected 2 values as shape [2] says, got 1",
    ),
    "no values": (tensors(spending=Tensor("spending", "FP64", [2])), "column 'spending': expected 2 values as shape"),
    "a part for a whole number": (
        tensors(visits=Tensor("visits", "INT64", [2], values=[1, 2.0])),
        "column 'visits', row 2: expected INT64, got 2.0",
    ),
    "beyond the datatype": (
        tensors(visits=Tensor("visits", "INT8", [2], values=[1, 300])),
        "column 'visits', row 2: expected -128 to 127, got 300",
    ),
    "out of range": (
        tensors(spending=Tensor("spending", "FP32", [2], raw=struct.pack("<2f", 1, 20000))),
        "column 'spending', row 2: expected at most 10000, got 20000",
    ),
    "NaN": (
        tensors(spending=Tensor("spending", "FP64", [2], raw=struct.pack("<2d", 1, math.nan))),
        "column 'spending', row 2: expected a number, got NaN",
    ),
    "an unknown word": (
        tensors(channel=Tensor("channel", "BYTES", [2], raw=framed(b"web", b"fax"))),
        "column 'channel', row 2: expected one of mail, phone, web, got 'fax'",
    ),
    "an empty word": (
        tensors(channel=Tensor("channel", "BYTES", [2], raw=framed(b"", b"web"))),
        "column 'channel', row 1: expected one of mail, phone, web, got ''",
    ),
    "bytes that are not UTF-8": (
        tensors(channel=Tensor("channel", "BYTES", [2], values=[b"web", b"\xff"])),
        "column 'channel', row 2: expected one of mail, phone, web, got '\\\\xff'",
    ),
    "a word that ends early": (
        tensors(channel=Tensor("channel", "BYTES", [2], raw=framed(b"web", b"web")[:-1])),
        "column 'channel': expected text with 4-byte lengths, got one that ends in mid-word",
    ),
    "words without lengths": (
        tensors(channel=Tensor("channel", "BYTES", [2], raw=b"webweb")),
        "column 'channel': expected text with 4-byte lengths",
    ),
    "too many words": (
        tensors(channel=Tensor("channel", "BYTES", [2], raw=framed(b"web", b"web", b"web"))),
        "column 'channel': expected 2 words as its shape says, got 3",
    ),
    "a boolean beyond 1": (
        tensors(member=Tensor("member", "BOOL", [2], raw=b"\1\2")),
        "column 'member', row 2: expected 0 or 1, got 2",
    ),
}


@pytest.mark.parametrize("case", WRONG_TENSORS)
def test_wrong_tensors_are_explained(case: Any) -> None:
    sent, sentence = WRONG_TENSORS[case]
    with pytest.raises(RequestError) as error:
        SCHEMA.from_tensors(sent)
    assert str(error.value).startswith(sentence)
    assert len(str(error.value)) < 300


class Name(str):
    """A name that counts how often any is compared with another."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)


def test_a_name_that_stands_twice_among_many_is_found_in_one_pass() -> None:
    n_names = 2000
    sent = [Tensor(Name(f"n{place % (n_names - 1)}"[::-1]), "FP64", [1]) for place in range(n_names)]
    with pytest.raises(RequestError, match="column '0n': expected one tensor, got 2"):
        SCHEMA.from_tensors(sent)
    assert Name.compared < 10 * n_names


def test_too_many_rows_are_told_apart() -> None:
    with pytest.raises(RequestTooLarge, match="expected at most 50 rows in a request, got 51"):
        SCHEMA.from_instances([GOOD] * 51)
    with pytest.raises(RequestTooLarge, match="expected at most 50 rows in a request, got 51"):
        SCHEMA.from_tensors(tensors(51))
    assert len(SCHEMA.from_instances([GOOD] * 50)["spending"]) == 50


WORDS = st.lists(st.sampled_from(["mail", "phone", "web"]), min_size=1, max_size=8)


@given(WORDS)
def test_framed_text_reads_as_its_words_do(words: Any) -> None:
    sent = Tensor("channel", "BYTES", [len(words)], raw=framed(*(word.encode() for word in words)))
    assert column(tensors(len(words), channel=sent), "channel") == [
        CONTRACT["channel"].values.index(word) for word in words
    ]


def test_words_that_hold_each_other_and_lengths_are_told_apart() -> None:
    awkward = ["a", "ab", "b", "\n", "a\x01", "(.*)", "\x01\x00\x00\x00a"]
    listed = Column(name="job", role="customer", type="category", values=awkward)
    words = [*awkward, *awkward[::-1]]
    sent = Tensor("job", "BYTES", [len(words)], raw=framed(*(word.encode() for word in words)))
    assert plain(RequestSchema([listed]).from_tensors([sent])["job"]) == [awkward.index(word) for word in words]


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["web", "north", "?", "99", 99, 0, 1, 50, 10000, math.nan]),
)
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=2), SCALARS, max_size=2)
NAMES = st.sampled_from([*GOOD, "minutes", "", "\ud800"])


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=7) | VALUES, max_size=4) | VALUES)
@example([GOOD | {"channel": "\ud800"}])
@example([GOOD | {"spending": 10**400}])
def test_any_instances_are_typed_or_refused_in_a_sentence(instances: Any) -> None:
    answered(lambda: SCHEMA.from_instances(instances))


@given(st.lists(st.fixed_dictionaries({name: VALUES | st.just(value) for name, value in GOOD.items()}), max_size=3))
def test_any_values_are_typed_or_refused_in_a_sentence(instances: Any) -> None:
    answered(lambda: SCHEMA.from_instances(instances))


KINDS = st.sampled_from([*NUMBERS, "BOOL", "BYTES", "FP16", "", "STRING"])
SHAPES = st.lists(st.sampled_from([0, 1, 2, 51, -1, 10**30, True, None, "2", 2.0]), max_size=3)
DATA = st.none() | st.lists(VALUES | st.binary(max_size=4), max_size=3)


@st.composite
def any_tensors(draw: st.DrawFn) -> list[Tensor]:
    changed = draw(st.sets(st.sampled_from(list(GOOD)), max_size=2))
    sent = {}
    for name in changed:
        shape = draw(SHAPES | st.just([2]) | st.just([2, 1]))
        kind = draw(KINDS)
        raw = draw(st.none() | st.binary(max_size=20) | st.binary(min_size=16, max_size=16))
        sent[name] = Tensor(name, kind, shape, draw(DATA), raw)
    return tensors(**sent)


@given(any_tensors())
@example(tensors(channel=Tensor("channel", "BYTES", [2], values=["web", "\ud800"])))
@example(tensors(spending=Tensor("spending", "FP32", [2], values=[1e300, 1])))
@example(tensors(spending=Tensor("spending", "FP64", [2], values=[10**400, 1])))
@example(tensors(visits=Tensor("visits", "UINT64", [2], values=[-1, 1])))
def test_any_tensors_are_typed_or_refused_in_a_sentence(sent: Any) -> None:
    answered(lambda: SCHEMA.from_tensors(sent))


def answered(check: Callable[[], Rows]) -> None:
    """Whatever comes, there are rows within the contract's limits, or one sentence."""
    try:
        rows = check()
        sentence = ""
    except RequestError as error:
        sentence = str(error)
    if sentence:
        assert 10 < len(sentence.encode("utf-8")) < 500
        assert len(sentence.splitlines()) == 1
        return
    lengths = {len(values) for values in rows.values()}
    assert len(lengths) == 1
    assert list(rows) == list(GOOD)
    spending, visits, channel = rows["spending"], rows["visits"], rows["channel"].places
    assert ((spending >= 0) & (spending <= 10000)).all()
    assert (np.isnan(visits) | ((visits >= 0) & (visits <= 50) & (visits == np.rint(visits)))).all()
    assert np.isin(channel, [0, 1, 2]).all()
    assert np.isin(rows["member"], [0, 1]).all()
    assert not np.isinf(rows["rating"]).any()


VALID = st.fixed_dictionaries(
    {
        "spending": st.floats(0, 10000) | st.integers(0, 10000),
        "visits": st.integers(0, 50) | st.sampled_from([99, None, "?"]),
        "channel": st.sampled_from(["mail", "phone", "web"]),
        "region": st.none() | st.text(max_size=5) | st.sampled_from(["north", "south"]),
        "member": st.booleans() | st.sampled_from([0, 1]),
        "rating": st.none() | st.floats(-1e6, 1e6),
    }
)


@given(st.lists(VALID, min_size=1, max_size=5))
def test_valid_rows_pass_with_their_values(instances: Any) -> None:
    rows = SCHEMA.from_instances(instances)
    assert rows["spending"].tolist() == [float(row["spending"]) for row in instances]
    assert rows["channel"].places.tolist() == [("mail", "phone", "web").index(row["channel"]) for row in instances]
    assert rows["member"].tolist() == [float(row["member"]) for row in instances]
    assert np.isnan(rows["visits"]).tolist() == [row["visits"] in (99, None, "?") for row in instances]


def test_a_request_scores_as_the_same_rows_of_a_frame(shop_bundle: Path) -> None:
    bundle = bundles.load(shop_bundle)
    golden, expected = golden_rows(shop_bundle)
    rows = json.loads(golden.to_json(orient="records", double_precision=15))
    got = bundle.model.propensity(SCHEMA.from_instances(rows))
    assert got.tobytes() == expected.tobytes()
    assert got.tobytes() == bundle.model.propensity(bundles.typed(golden, bundle.model.encoder)).tobytes()
