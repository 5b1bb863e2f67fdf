"""Encodes contract columns as the float32 matrix that learners see, the same way in training and in serving."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.api.extensions import ExtensionDtype

from offers.errors import BundleError, DataError

if TYPE_CHECKING:
    from offers.contract.contract import Contract

# Number of rows encoded at a time, small enough for the block to stay in the core's own cache.
BLOCK = 16_384


@dataclass(frozen=True)
class Feature:
    """One column of the matrix. A category is coded by its place in `values`, or NaN where it is missing."""

    name: str
    values: tuple[str, ...] = ()
    unknown_is_missing: bool = False


@dataclass(frozen=True)
class Coded:
    """A category column that is coded already: places in `Feature.values`, NaN where missing."""

    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class Encoder:
    """Encodes typed rows. It learns nothing from data, so the contract alone defines it."""

    features: tuple[Feature, ...]

    @classmethod
    def of(cls, contract: "Contract") -> "Encoder":
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
            dictionary-encoded, `Coded` or plain text

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
        if isinstance(values, Coded):
            return _Numbers(values.places)
        if not feature.values:
            return _Numbers(_as_numbers(values, feature.name))
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if isinstance(values, pa.DictionaryArray):
            indices = values.indices.cast(pa.int64()).fill_null(-1) if values.null_count else values.indices
            codes = indices.to_numpy(zero_copy_only=False)
            return _Codes(codes, _table(codes, values.dictionary.to_pylist(), feature))
        if isinstance(values, pd.Series) and isinstance(values.dtype, pd.CategoricalDtype):
            codes = values.cat.codes.to_numpy()
            return _Codes(codes, _table(codes, values.cat.categories.tolist(), feature))
        return _Words(values, feature)


class _Numbers:
    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def write(self, out: np.ndarray, block: slice) -> None:
        out[:] = self.values[block]


class _Codes:
    """Translates a caller's category codes by our table. Code -1 picks the table's last entry, NaN."""

    def __init__(self, codes: np.ndarray, table: np.ndarray) -> None:
        self.codes, self.table = codes, table

    def __len__(self) -> int:
        return len(self.codes)

    def write(self, out: np.ndarray, block: slice) -> None:
        out[:] = self.table[self.codes[block]]


class _Words:
    """Codes plain text by looking up each word."""

    def __init__(self, values: Any, feature: Feature) -> None:
        self.words = _as_words(values)
        self.feature = feature
        self.index = pd.Index(feature.values, dtype=object)
        self.values = pa.array(feature.values)

    def __len__(self) -> int:
        return len(self.words)

    def write(self, out: np.ndarray, block: slice) -> None:
        words = self.words[block]
        if isinstance(words, np.ndarray):
            codes = self.index.get_indexer(pd.Index(words, dtype=object))
        else:
            codes = pc.index_in(words, self.values).fill_null(-1).to_numpy(zero_copy_only=False)
        out[:] = codes
        absent = codes < 0
        if absent.any():
            others, categories = pd.factorize(pd.Series(words)[absent])
            out[absent] = _table(others, categories.tolist(), self.feature)[others]


def _as_words(values: Any) -> Any:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.cast(pa.string())
    if isinstance(values, pd.Series) and values.dtype != object and pd.api.types.is_string_dtype(values.dtype):
        return pa.array(values, pa.string())
    return np.asarray(values, dtype=object)


def _as_numbers(values: Any, name: str) -> np.ndarray:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        values = values.to_numpy(zero_copy_only=False)
    elif isinstance(values, pd.Series) and isinstance(values.dtype, ExtensionDtype):
        values = values.to_numpy(dtype=object, na_value=np.nan)
    numbers = np.asarray(values)
    if numbers.dtype.kind in "biuf":
        return numbers
    try:
        return numbers.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"column '{name}': expected numbers, but {error}") from None


def _table(codes: np.ndarray, categories: list[Any], feature: Feature) -> np.ndarray:
    """List our code of each category, then NaN for code -1; refuses unknown categories that occur in the rows."""
    places = {value: i for i, value in enumerate(feature.values)}
    for code, category in enumerate(categories if not feature.unknown_is_missing else ()):
        if category is not None and str(category) not in places and (codes == code).any():
            raise DataError(
                f"column '{feature.name}': expected one of {', '.join(feature.values)}, got {str(category)!r};"
                " 'unknown: missing' in the contract would accept it"
            )
    return np.array([*(places.get(str(category), np.nan) for category in categories), np.nan], np.float32)


def fingerprint(matrix: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> str:
    """Hash encoded rows with labels and weights by SHA-256, as the identity of training data in any file format."""
    digest = hashlib.sha256()
    for start in range(0, len(matrix), BLOCK):
        part = slice(start, start + BLOCK)
        digest.update(np.ascontiguousarray(matrix[part]).astype("<f4", copy=False).tobytes())
        digest.update(np.asarray(labels[part], dtype=np.uint8).tobytes())
        if weights is not None:
            digest.update(weights[part].astype("<f8", copy=False).tobytes())
    return digest.hexdigest()
