"""Floors of exposure: the least number of contacts that protected groups get.

A constraint counts contacts by offer, not by group. Therefore each segment of customers gets its own copy of the
offers: scores have `n_segments * n_offers` columns, and a customer can get only the copies of their own segment.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from offers.batch.campaign import CONTACT, Constraints, Exposure
from offers.errors import CampaignError

MOST_SEGMENTS = 16


class Segments:
    """Segments of customers: one for each combination of the groups that floors name; `None` is any other group."""

    def __init__(self, exposures: Sequence[Exposure]) -> None:
        self.exposures = tuple(exposures)
        self.columns = list(dict.fromkeys(exposure.column for exposure in exposures))
        self._groups = [[*dict.fromkeys(e.group for e in exposures if e.column == c), None] for c in self.columns]
        self.combinations = list(product(*self._groups))
        if len(self.combinations) > MOST_SEGMENTS:
            raise CampaignError(
                f"exposure: expected groups that cut customers into {MOST_SEGMENTS} segments at most, got"
                f" {len(self.combinations)}: name fewer"
            )

    def __len__(self) -> int:
        return len(self.combinations)

    def of(self, groups: Sequence[np.ndarray]) -> np.ndarray:
        """Number each customer's segment, given their group in each column."""
        place = np.zeros(len(groups[0]) if groups else 0, np.intp)
        for column, names in zip(groups, self._groups, strict=True):
            own = np.full(len(column), len(names) - 1)
            for number, name in enumerate(names[:-1]):
                own[column == name] = number
            place = place * len(names) + own
        return place

    def constraints(self, base: Constraints, customers: np.ndarray) -> Constraints:
        """Spread the limits over the offers of all segments, and add a floor for each exposure.

        Parameters
        ----------
        customers : ndarray of int, shape (n_segments,), the number of customers in each segment

        Raises
        ------
        CampaignError
            nobody is in a group that a floor names
        """
        n_offers = base.usage.shape[1]
        rows, limits, names = [np.tile(base.usage, len(self))], [base.limit], list(base.names)
        units = base.units + (CONTACT,) * len(self.exposures)
        for exposure in self.exposures:
            place = self.columns.index(exposure.column)
            inside = np.array([combination[place] == exposure.group for combination in self.combinations])
            size = int(customers[inside].sum())
            if not size:
                raise CampaignError(
                    f"exposure: expected customers in group {exposure.group!r} of {exposure.column}, got none;"
                    " check its name"
                )
            names.append(f"exposure of {exposure.column} {exposure.group}")
            rows.append(-np.repeat(inside, n_offers)[None].astype(np.float64))
            limits.append(np.array([-np.ceil(exposure.share * size - 1e-9)]))
        return replace(base, names=tuple(names), units=units, usage=np.vstack(rows), limit=np.concatenate(limits))
