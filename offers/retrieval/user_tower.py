"""The user tower in service: an ONNX file, run by onnxruntime on one thread."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offers.errors import BundleError

Floats = NDArray[np.float32]


class UserTower:
    """Turns users' rows into vectors.

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
            raise BundleError(f"onnxruntime can't read the user tower: {str(error).splitlines()[0]}") from None
        self.content = content
        self.width = int(self._session.get_inputs()[0].shape[1])

    def __call__(self, users: Floats) -> Floats:
        """Compute the vectors of users.

        Parameters
        ----------
        users : shape (n, columns), NaN where missing

        Returns
        -------
        ndarray, shape (n, dimensions), float32
        """
        return np.asarray(self._session.run(None, {"users": np.ascontiguousarray(users, np.float32)})[0])


@dataclass(frozen=True, eq=False)
class Towers:
    """The user tower, and the vectors of all products, shape (n_products, dimensions)."""

    user: UserTower
    products: Floats

    def affinity(self, users: Floats) -> Floats:
        """Compute the affinity of users and all products, shape (n, n_products)."""
        return np.asarray(self.user(users) @ self.products.T)

    def affinity_of(self, users: Floats, products: NDArray[np.int64]) -> Floats:
        """Compute the affinity of users and the products at some places, both of shape (n, m)."""
        return np.asarray(np.einsum("nd,nmd->nm", self.user(users), self.products[products]))
