"""Finds products among very many by a graph of neighbours (HNSW), where comparing a user with all takes too long."""

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from offers.errors import BundleError

EXACT = 100_000
"""Products up to which a user is compared with all of them."""

FILE = "product_index.faiss"

_NEIGHBOURS, _BUILDING, _SEARCHING = 32, 200, 1024
"""Edges of a product, and how many products a step keeps in view while the graph is built, and while it is searched."""

Floats = NDArray[np.float32]
Places = NDArray[np.int64]


class ProductIndex:
    """A graph over the vectors of products, in which those of the highest product with a user's vector are found.

    Faiss builds graphs of distances, so vectors get one more component that gives all of them the same length (Bachrach
    et al. 2014). Their mean is taken off before. The last component of a user's vector is 1, so that a share of it that
    all products have changes no order, and neither does the rest of the mean.

    Parameters
    ----------
    content : what `content` gave

    Raises
    ------
    BundleError
        faiss is not installed, or can't read the content

    Examples
    --------
    >>> vectors = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    >>> index = ProductIndex.build(vectors)
    >>> found = index.search(vectors[:1], 1, np.ones(300, np.bool_))
    >>> int(found[0, 0]) == int((vectors @ vectors[0]).argmax())
    True
    """

    def __init__(self, content: bytes) -> None:
        try:
            self._index: Any = _faiss().deserialize_index(np.frombuffer(content, np.uint8))
        except RuntimeError:
            raise BundleError(f"faiss can't read {FILE}: train the bundle again") from None

    @classmethod
    def build(cls, vectors: Floats) -> Self:
        """Build the graph, on one thread, so that the same vectors give the same bytes.

        Parameters
        ----------
        vectors : shape (n_products, dimensions)
        """
        faiss = _faiss()
        centred = vectors - vectors.mean(axis=0)
        squares = np.square(centred).sum(axis=1)
        last = np.sqrt(np.maximum(squares.max() - squares, 0))
        index = faiss.IndexHNSWFlat(vectors.shape[1] + 1, _NEIGHBOURS, faiss.METRIC_L2)
        index.hnsw.efConstruction = _BUILDING
        faiss.omp_set_num_threads(1)
        index.add(np.ascontiguousarray(np.column_stack([centred, last]), np.float32))
        return cls(faiss.serialize_index(index).tobytes())

    @property
    def content(self) -> bytes:
        """The file."""
        return bytes(_faiss().serialize_index(self._index).tobytes())

    @property
    def shape(self) -> tuple[int, int]:
        """Number of products, and dimensions of their vectors."""
        return int(self._index.ntotal), int(self._index.d) - 1

    def search(self, users: Floats, count: int, available: NDArray[np.bool_]) -> Places:
        """Find places of products, first those of the highest product with a user's vector, as far as they are found.

        Parameters
        ----------
        users : vectors, shape (n, dimensions)
        available : shape (n_products,)

        Returns
        -------
        ndarray, shape (n, count), int64
            -1 where fewer were found
        """
        faiss = _faiss()
        bits = faiss.IDSelectorBitmap(np.packbits(available, bitorder="little"))
        options = faiss.SearchParametersHNSW(sel=bits, efSearch=max(_SEARCHING, count))
        # Callers have threads of their own. The number belongs to the thread that sets it.
        faiss.omp_set_num_threads(1)
        padded = np.pad(users, ((0, 0), (0, 1)))
        _, found = self._index.search(np.ascontiguousarray(padded, np.float32), count, params=options)
        return np.asarray(found, np.int64)


def load_index(path: Path, shape: tuple[int, ...]) -> ProductIndex | None:
    """Read the index of a bundle's directory; None where there is none.

    Raises
    ------
    BundleError
        it can't be read, or is of other products than those of `shape`, their number and the length of their vectors
    """
    if not (path / FILE).exists():
        return None
    index = ProductIndex((path / FILE).read_bytes())
    if index.shape != shape:
        raise BundleError(f"{path}: {FILE} is of {index.shape} products and components, expected {shape}: train again")
    return index


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise BundleError(
            f"more than {EXACT} products need faiss, which is not installed: run make setup, or pip install"
            " 'offers[market]'"
        ) from None
    return faiss
