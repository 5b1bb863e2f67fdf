"""Contract columns to the float32 matrix that the learners see, the same way in training and in serving."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from offers.contract import Contract
from offers.errors import BundleError, DataError

# Rows encoded at a time: the block of the matrix that is being written stays in the core's own cache.
BLOCK = 16_384


@dataclass(frozen=True)
class Feature:
    """One column of the matrix. A category is coded by its place in `values`, and NaN where it is missing."""

    name: str
    values: tuple[str, ...] = ()
    unknown_is_missing: bool = False


@dataclass(frozen=True)
class Encoder:
    """Encodes typed rows; it has nothing to learn, so it follows from the contract alone."""

    features: tuple[Feature, ...]

    @classmethod
    def of(cls, contract: Contract) -> "Encoder":
        return cls(tuple(Feature(c.name, c.values, c.unknown == "missing") for c in contract.inputs))

    @property
    def names(self) -> list[str]:
        return [feature.name for feature in self.features]

    @property
    def feature_types(self) -> list[str]:
        """XGBoost's types: c for a category, q for a quantity."""
        return ["c" if feature.values else "q" for feature in self.features]

    def encode(self, rows: pd.DataFrame | pa.Table | Mapping[str, Any], threads: int = 2) -> np.ndarray:
        """Encode rows.

        Parameters
        ----------
        rows : DataFrame, Arrow table or mapping from name to array; categories may be categorical,
            dictionary-encoded or plain text

        Returns
        -------
        ndarray, shape (n_rows, n_features), float32, C order

        Raises
        ------
        DataError
            a column is missing, or a category is unknown and the contract rejects unknown ones
        """
        columns = [self._column(rows, feature) for feature in self.features]
        n_rows = len(columns[0])
        matrix = np.empty((n_rows, len(columns)), np.float32)
        blocks = [slice(start, start + BLOCK) for start in range(0, n_rows, BLOCK)]

        def fill(block: slice) -> None:
            part = matrix[block]
            for j, column in enumerate(columns):
                column.write(part[:, j], block)

        if len(blocks) < 2 or threads < 2:
            for block in blocks:
                fill(block)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(fill, blocks))
        return matrix

    def to_json(self) -> str:
        return json.dumps({"features": [asdict(feature) for feature in self.features]}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Encoder":
        try:
            content = json.loads(text)["features"]
            return cls(tuple(Feature(f["name"], tuple(f["values"]), f["unknown_is_missing"]) for f in content))
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"the encoder is not one that this version writes: {error!r}") from None

    def _column(self, rows: Any, feature: Feature) -> "_Numbers | _Codes | _Words":
        try:
            values = rows[feature.name]
        except KeyError:
            raise DataError(f"column '{feature.name}' is missing; expected {', '.join(self.names)}") from None
        if not feature.values:
            return _Numbers(_as_numbers(values))
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if isinstance(values, pa.DictionaryArray):
            codes = values.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            return _Codes(codes, _codes_of(values.dictionary.to_pylist(), feature))
        if isinstance(values, pd.Series) and isinstance(values.dtype, pd.CategoricalDtype):
            return _Codes(values.cat.codes.to_numpy(), _codes_of(values.cat.categories.tolist(), feature))
        return _Words(values, feature)


class _Numbers:
    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def write(self, out: np.ndarray, block: slice) -> None:
        out[:] = self.values[block]


class _Codes:
    """Codes of other people's categories, looked up in a table of ours; code -1 finds its last entry, NaN."""

    def __init__(self, codes: np.ndarray, table: np.ndarray) -> None:
        self.codes, self.table = codes, table

    def __len__(self) -> int:
        return len(self.codes)

    def write(self, out: np.ndarray, block: slice) -> None:
        out[:] = self.table[self.codes[block]]


class _Words:
    """Plain text, looked up word by word."""

    def __init__(self, values: Any, feature: Feature) -> None:
        self.words = values.to_numpy() if isinstance(values, pd.Series) and values.dtype == object else values
        self.feature = feature
        self.index = pd.Index(feature.values, dtype=object)
        self.values = pa.array(feature.values)
        if not isinstance(self.words, np.ndarray):
            self.words = pa.array(self.words, pa.string())

    def __len__(self) -> int:
        return len(self.words)

    def write(self, out: np.ndarray, block: slice) -> None:
        words = self.words[block]
        if isinstance(words, np.ndarray):
            codes = self.index.get_indexer(words)
        else:
            codes = pc.index_in(words, self.values).fill_null(-1).to_numpy(zero_copy_only=False)
        out[:] = codes
        absent = codes < 0
        if absent.any():
            if not self.feature.unknown_is_missing:
                strange = [word for word in pd.Series(words)[absent].dropna().unique() if str(word) not in self.feature.values]
                if strange:
                    raise _unknown(strange, self.feature)
            out[absent] = np.nan


def _as_numbers(values: Any) -> np.ndarray:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return np.asarray(values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values.to_numpy())
    return np.asarray(values)


def _codes_of(categories: list[Any], feature: Feature) -> np.ndarray:
    places = {value: i for i, value in enumerate(feature.values)}
    strange = [category for category in categories if str(category) not in places]
    if strange and not feature.unknown_is_missing:
        raise _unknown(strange, feature)
    return np.array([*(places.get(str(category), np.nan) for category in categories), np.nan], np.float32)


def _unknown(strange: list[Any], feature: Feature) -> DataError:
    return DataError(
        f"column '{feature.name}': expected one of {', '.join(feature.values)}, got {str(strange[0])!r};"
        " 'unknown: missing' in the contract would accept it"
    )


def fingerprint(matrix: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 of encoded rows with their labels: the identity of training data, whatever file they came in."""
    digest = hashlib.sha256()
    for start in range(0, len(matrix), BLOCK):
        part = slice(start, start + BLOCK)
        digest.update(np.ascontiguousarray(matrix[part]).astype("<f4", copy=False).tobytes())
        digest.update(np.asarray(labels[part], dtype=np.uint8).tobytes())
    return digest.hexdigest()


def blocks(n_rows: int, size: int) -> Iterator[slice]:
    """Cut `n_rows` rows into slices of `size`."""
    return (slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size))
