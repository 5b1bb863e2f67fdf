"""Towers in service: ONNX files, run by onnxruntime on one thread."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offers.errors import BundleError

Floats = NDArray[np.float32]
_NO_VALUE = 1e-9


class Tower:
    """Turns rows of users, or of products, into vectors.

    Parameters
    ----------
    content : the ONNX file, with its weights

    Raises
    ------
    BundleError
        onnxruntime is not installed, or can't read the file
    """

    def __init__(self, content: bytes) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise BundleError(
                "a market's towers need onnxruntime, which is not installed: run make setup, or pip install"
                " 'offers[market]'"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # onnxruntime's exceptions have no base of their own.
            raise BundleError(f"onnxruntime can't read the tower: {str(error).splitlines()[0]}") from None
        self.content = content
        self.width = int(self._session.get_inputs()[0].shape[1])

    def __call__(self, rows: Floats) -> Floats:
        """Compute the vectors of rows.

        Parameters
        ----------
        rows : shape (n, columns), NaN where missing

        Returns
        -------
        ndarray, shape (n, dimensions), float32
        """
        return np.asarray(self._session.run(None, {"rows": np.ascontiguousarray(rows, np.float32)})[0])


@dataclass(frozen=True, eq=False)
class Towers:
    """The towers, and the vectors of all products.

    Attributes
    ----------
    user, product : towers; that of products knows their columns, and serves those that were launched after the training
    products : ndarray, shape (n_products, dimensions), float32
    """

    user: Tower
    product: Tower
    products: Floats

    def with_products(self, rows: Floats) -> "Towers":
        """Add products by their encoded rows, shape (n, columns)."""
        # The tower's last component is the 1 that a user's vector needs.
        return replace(self, products=np.concatenate([self.products, self.product(rows)[:, :-1]]))

    def affinity(self, users: Floats) -> Floats:
        """Compute the affinity of users and all products, shape (n, n_products)."""
        return np.asarray(self.user(users) @ self.products.T)

    def worth(self, slope: float, value: NDArray[np.float64]) -> "Towers":
        """Build towers whose affinity orders products by expected value, as far as affinity tells of acceptance.

        Parameters
        ----------
        slope : of the log-odds of acceptance over affinity
        value : shape (n_products,), the margin of an acceptance; a product without one comes last
        """
        products = slope * self.products
        products[:, -1] += np.log(np.maximum(value, _NO_VALUE))
        return replace(self, products=products.astype(np.float32))

    def affinity_of(self, users: Floats, products: NDArray[np.int64]) -> Floats:
        """Compute the affinity of users and the products at some places, both of shape (n, m)."""
        return np.asarray(np.einsum("nd,nmd->nm", self.user(users), self.products[products]))
