"""The contacts of a plan while it is being made: which customer gets which offer, one bit a pair."""

import numpy as np


class Contacts:
    """A set of pairs of a customer and an offer.

    Parameters
    ----------
    n_offers : number of offers
    most : ndarray of int, shape (n_customers,), the most contacts of each customer

    Attributes
    ----------
    free : ndarray of int, shape (n_customers,), how many more contacts each customer may have
    """

    def __init__(self, n_offers: int, most: np.ndarray) -> None:
        self._n_offers = n_offers
        self._bits = np.zeros((len(most), -(-n_offers // 8)), np.uint8)
        self.free = most.astype(np.uint8)

    def __contains__(self, pair: tuple[int, int]) -> bool:
        customer, offer = pair
        return bool(self._bits[customer, offer // 8] >> offer % 8 & 1)

    def add(self, customers: np.ndarray, offers: np.ndarray) -> None:
        """Add pairs; none of them may be there already."""
        np.bitwise_or.at(self._bits, (customers, offers // 8), (1 << offers % 8).astype(np.uint8))
        np.subtract.at(self.free, customers, 1)

    def add_one(self, customer: int, offer: int) -> None:
        """Add a pair that is not there yet."""
        self._bits[customer, offer // 8] |= 1 << offer % 8
        self.free[customer] -= 1

    def remove(self, customer: int, offer: int) -> None:
        self._bits[customer, offer // 8] &= 255 ^ 1 << offer % 8
        self.free[customer] += 1

    def block(self, start: int, length: int) -> np.ndarray:
        """Give the pairs of some customers as a mask of shape (length, n_offers)."""
        bits = self._bits[start : start + length]
        return np.unpackbits(bits, axis=1, count=self._n_offers, bitorder="little").view(bool)

    def pairs(self) -> np.ndarray:
        """List the pairs by customer, then by offer: an array of int, shape (n_pairs, 2)."""
        step = 65_536
        parts = [
            np.argwhere(self.block(start, step)) + np.array([start, 0]) for start in range(0, len(self.free), step)
        ]
        return np.concatenate(parts)
