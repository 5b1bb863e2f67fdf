"""A plan for a campaign: which customer gets which offer within every limit, with an upper bound on any plan."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from offers.batch.campaign import Constraints
from offers.batch.contacts import Contacts
from offers.batch.prices import BLOCK, Pricing, blocks, chosen, price
from offers.errors import CampaignError

EXACT = 2_000
"""Up to so many customers HiGHS solves the campaign as it stands."""


@dataclass(frozen=True)
class Plan:
    """Which customer gets which offer.

    Attributes
    ----------
    customer, offer : ndarray of int, shape (n_contacts,)
    value : expected earnings of the plan, EUR
    pricing : shadow prices, and the upper bound on any plan
    contacts : ndarray of int, shape (n_offers,), the number of contacts for each offer
    """

    customer: np.ndarray
    offer: np.ndarray
    value: float
    pricing: Pricing
    contacts: np.ndarray

    def by_offer(self, n_offers: int) -> np.ndarray:
        """Count each offer's contacts over all segments of customers; see `offers.batch.exposure`."""
        return np.asarray(self.contacts.reshape(-1, n_offers).sum(axis=0))


def allocate(
    scores: np.ndarray, constraints: Constraints, exact: bool | None = None, most: np.ndarray | None = None
) -> Plan:
    """Choose the contacts that earn the most within the constraints.

    Parameters
    ----------
    scores : ndarray or memmap, shape (n_customers, n_offers), EUR; -inf where the customer can't get the offer
    exact : True solves the plan exactly by HiGHS, False rounds the prices' plan; by default exact up to `EXACT`
        customers
    most : ndarray of int, shape (n_customers,), the most contacts of each customer, at most `per_customer`, which is
        the default

    Raises
    ------
    CampaignError
        the constraints can't all hold: names the minimums to relax, and by how much at least
    """
    most = np.full(len(scores), constraints.per_customer, np.uint8) if most is None else most
    _check_feasible(scores, constraints, most)
    pricing = price(scores, constraints, most)
    by_solver = len(scores) <= EXACT if exact is None else exact
    pairs = _solved(scores, constraints, most) if by_solver else _rounded(scores, constraints, pricing.prices, most)
    contacts = np.bincount(pairs[:, 1], minlength=scores.shape[1])
    if not constraints.keeps(contacts):
        broken = [
            name
            for name, over in zip(constraints.names, constraints.usage @ contacts - constraints.limit, strict=True)
            if over > 1e-6
        ]
        raise CampaignError(f"no plan was found that keeps {', '.join(broken)} beside the rest: relax it a little")
    value = float(np.asarray(scores[pairs[:, 0], pairs[:, 1]], np.float64).sum())
    return Plan(pairs[:, 0], pairs[:, 1], value, pricing, contacts)


def _check_feasible(scores: np.ndarray, constraints: Constraints, most: np.ndarray) -> None:
    """Refuse minimums that can't be met, with the smallest relaxation, which HiGHS finds.

    Customers who may have the same offers, and as many, count as one group, so the problem's size does not grow with
    their number.
    """
    minimums = np.flatnonzero(constraints.is_minimum)
    if not len(minimums):
        return
    groups: dict[bytes, int] = {}
    for start, block in blocks(scores):
        bits = np.packbits(np.isfinite(block), axis=1)
        patterns, counts = np.unique(
            np.column_stack([bits, most[start : start + len(block)]]), axis=0, return_counts=True
        )
        for pattern, count in zip(patterns, counts.tolist(), strict=True):
            groups[pattern.tobytes()] = groups.get(pattern.tobytes(), 0) + count
    n_offers, sizes = scores.shape[1], np.array(list(groups.values()), np.float64)
    bits = np.array([np.frombuffer(key, np.uint8) for key in groups])
    able = np.unpackbits(bits[:, :-1], axis=1, count=n_offers)
    n_cells, n_slacks = able.size, len(minimums)
    slack = sparse.coo_matrix((-np.ones(n_slacks), (minimums, np.arange(n_slacks))), (len(constraints.names), n_slacks))
    rows = sparse.bmat(
        [
            [sparse.csr_matrix(np.tile(constraints.usage, len(groups))), slack],
            [sparse.kron(sparse.eye(len(groups)), np.ones((1, n_offers))), None],
        ]
    )
    limits = np.append(constraints.limit, bits[:, -1] * sizes)
    bounds = [(0, float(cell)) for cell in (able * sizes[:, None]).ravel()] + [(0, None)] * n_slacks
    answer = linprog(np.append(np.zeros(n_cells), np.ones(n_slacks)), rows, limits, bounds=bounds, method="highs")
    short = np.ceil(answer.x[n_cells:] - 1e-6).astype(int)
    if short.any():
        relaxation = "; ".join(
            f"{constraints.names[place]} by {constraints.amount(int(place), int(missing))}"
            for place, missing in zip(minimums, short, strict=True)
            if missing
        )
        raise CampaignError(
            f"the campaign's constraints can't all hold; the smallest relaxation lowers {relaxation}: lower it, or give"
            " more capacity or budget"
        )


def _solved(scores: np.ndarray, constraints: Constraints, most: np.ndarray) -> np.ndarray:
    customer, offer = np.nonzero(np.isfinite(scores))
    if not len(customer):
        return np.empty((0, 2), np.intp)
    ones = np.ones(len(customer))
    each = sparse.csr_matrix((ones, (customer, np.arange(len(customer)))), (len(scores), len(customer)))
    rules = [LinearConstraint(each, ub=most)]
    if len(constraints.names):
        rules.append(LinearConstraint(constraints.usage[:, offer], ub=constraints.limit))
    options = {"mip_rel_gap": 1e-4, "time_limit": 300}
    answer = milp(
        -scores[customer, offer].astype(np.float64),
        constraints=rules,
        integrality=ones,
        bounds=Bounds(0, 1),
        options=options,
    )
    if answer.x is None:
        raise CampaignError(f"no plan was found: {answer.message}")
    mask = answer.x > 0.5
    return np.column_stack([customer[mask], offer[mask]])


def _rounded(scores: np.ndarray, constraints: Constraints, prices: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Let customers take their best offers at these prices, drop contacts above a limit, then add what still fits."""
    parts = []
    for start, block in blocks(scores):
        choices, gains = chosen(block, constraints, prices, most[start : start + len(block)])
        customer, offer = np.nonzero(choices)
        parts.append(((customer + start).astype(np.int32), offer.astype(np.int16), gains[choices].astype(np.float32)))
    customer, offer, gain = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    mask = np.ones(len(customer), bool)
    by_gain = np.argsort(gain, kind="stable")
    for row, limit in zip(constraints.usage, constraints.limit, strict=True):
        if (row < 0).any():
            continue
        use = (row[offer] * mask)[by_gain]
        over = use.sum() - limit
        if over > 0:
            last = int(np.searchsorted(use.cumsum(), over))
            mask[by_gain[: last + 1][use[: last + 1] > 0]] = False
    contacts = Contacts(scores.shape[1], most)
    contacts.add(customer[mask], offer[mask])
    room = constraints.limit - constraints.usage @ np.bincount(offer[mask], minlength=scores.shape[1])
    del customer, offer, gain, mask, by_gain
    return _filled(scores, constraints, prices, contacts, room)


def _filled(
    scores: np.ndarray, constraints: Constraints, prices: np.ndarray, contacts: Contacts, room: np.ndarray
) -> np.ndarray:
    """Meet the minimums, add what still fits, and list the pairs.

    Parameters
    ----------
    room : ndarray, shape (n_constraints,), what the contacts leave of each limit; below 0 for a minimum that is not met
    """
    _meet_minimums(scores, constraints, prices, contacts, room)
    for customer, offer in _candidates(scores, constraints, prices, contacts, room):
        use = constraints.usage[:, offer]
        if contacts.free[customer] and (customer, offer) not in contacts and (use <= room + 1e-9).all():
            contacts.add_one(customer, offer)
            room -= use
    return contacts.pairs()


def _candidates(
    scores: np.ndarray, constraints: Constraints, prices: np.ndarray, contacts: Contacts, room: np.ndarray
) -> Iterator[tuple[int, int]]:
    """List pairs that could still be added, the best at these prices first; a few more than there is room for."""
    fitting = (constraints.usage <= room[:, None] + 1e-9).all(axis=0)
    most = len(scores)
    for row, rest in zip(constraints.usage, room, strict=True):
        if row.min() > 0:
            most = min(most, int(rest / row.min()) + 1)
    candidates = _Best(4 * min(most, 500_000) + 1_000)
    for start, block in blocks(scores):
        own = contacts.block(start, len(block))
        mask = (contacts.free[start : start + len(block)] > 0)[:, None] & ~own & (block > 0) & fitting
        customer, offer = np.nonzero(mask)
        candidates.add((block - prices @ constraints.usage)[mask], customer + start, offer)
    return candidates.pairs()


def _meet_minimums(
    scores: np.ndarray, constraints: Constraints, prices: np.ndarray, contacts: Contacts, room: np.ndarray
) -> None:
    """Bring every minimum about: add a contact, or exchange one for another, where that costs least."""
    cost = prices @ constraints.usage
    for place in np.flatnonzero(constraints.is_minimum):
        members = np.flatnonzero(constraints.usage[place] < 0)
        if room[place] >= 0:
            continue
        # More candidates than are needed, because another limit may refuse some of the exchanges.
        candidates = _Best(int(4 * np.ceil(-room[place])) + 1_000)
        for start, block in blocks(scores):
            own = contacts.block(start, len(block))
            worst = np.where(own, block - cost, np.inf).min(axis=1)
            is_free = contacts.free[start : start + len(block)] > 0
            gain = (block - cost)[:, members] - np.where(is_free, 0.0, worst)[:, None]
            mask = np.isfinite(gain) & ~own[:, members]
            customer, member = np.nonzero(mask)
            candidates.add(gain[mask], customer + start, members[member])
        for pair in candidates.pairs():
            if room[place] >= 0:
                break
            _exchange(scores, constraints, contacts, room, pair)


def _exchange(
    scores: np.ndarray, constraints: Constraints, contacts: Contacts, room: np.ndarray, pair: tuple[int, int]
) -> None:
    customer, offer = pair
    use = constraints.usage[:, offer].copy()
    worst = None
    if not contacts.free[customer]:
        own = np.flatnonzero(contacts.block(customer, 1)[0])
        worst = int(own[np.asarray(scores[customer])[own].argmin()])
        use -= constraints.usage[:, worst]
    # A constraint that was broken before may stay broken; the exchange must not break another one.
    if pair in contacts or ((room - use < -1e-9) & (use > 0)).any():
        return
    if worst is not None:
        contacts.remove(customer, worst)
    contacts.add_one(customer, offer)
    room -= use


class _Best:
    """The pairs with the largest gains, at least `size` of them, of all that are added."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._gains, self._customers, self._offers = np.empty(0), np.empty(0, np.int32), np.empty(0, np.int16)

    def add(self, gains: np.ndarray, customers: np.ndarray, offers: np.ndarray) -> None:
        self._gains = np.append(self._gains, gains)
        self._customers = np.append(self._customers, customers.astype(np.int32))
        self._offers = np.append(self._offers, offers.astype(np.int16))
        if len(self._gains) > 2 * self._size:
            self._keep(np.sort(np.argpartition(-self._gains, self._size)[: self._size]))

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield the pairs, the largest gain first."""
        self._keep(np.argsort(-self._gains, kind="stable"))
        for start in range(0, len(self._gains), BLOCK):
            block = slice(start, start + BLOCK)
            yield from zip(self._customers[block].tolist(), self._offers[block].tolist(), strict=True)

    def _keep(self, places: np.ndarray) -> None:
        self._gains, self._customers, self._offers = (
            values[places] for values in (self._gains, self._customers, self._offers)
        )
