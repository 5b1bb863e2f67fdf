"""What users had viewed before each of a market's views, as the online store would have told."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class History:
    """The views of each user in the order of their moments.

    Attributes
    ----------
    product, user : of all views, which are in the order of their moments
    order : numbers of views, user by user
    before : for each view the place in `order` of the first view of that user and moment
    """

    product: NDArray[np.int32]
    user: NDArray[np.int32]
    order: NDArray[np.int32]
    before: NDArray[np.int32]

    def views(self, numbers: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Find the newest views of the same user before some views.

        Parameters
        ----------
        numbers : of views, shape (n,)

        Returns
        -------
        ndarray, shape (n, count), int64
            numbers of views, the newest first; -1 where there are not as many
        """
        places = self.before[numbers].astype(np.int64)[:, None] - np.arange(1, count + 1)
        found = self.order[np.maximum(places, 0)].astype(np.int64)
        own = (places >= 0) & (self.user[found] == self.user[numbers][:, None])
        return np.where(own, found, -1)


def history_of(product: NDArray[np.int32], user: NDArray[np.int32], moment: NDArray[np.int64]) -> History:
    """Sort views, which are in the order of their moments, by user.

    Examples
    --------
    User 0 views the products 5 and 6, user 1 views 7, then user 0 views 8 and 9 at the same moment.

    >>> product, user = np.array([5, 6, 7, 8, 9], np.int32), np.array([0, 0, 1, 0, 0], np.int32)
    >>> history = history_of(product, user, np.array([1, 2, 3, 4, 4]))
    >>> history.views(np.array([1, 2, 4]), 3).tolist()
    [[0, -1, -1], [-1, -1, -1], [1, 0, -1]]
    """
    order = np.argsort(user, kind="stable").astype(np.int32)
    of_user, at = np.asarray(user)[order], np.asarray(moment)[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (of_user[1:] != of_user[:-1]) | (at[1:] != at[:-1])
    before = np.empty(len(order), np.int32)
    before[order] = np.maximum.accumulate(np.where(begins, np.arange(len(order), dtype=np.int32), 0))
    return History(product, user, order, before)
