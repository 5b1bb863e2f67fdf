"""A plan for a campaign: which customer gets which offer within every limit, with an upper bound on any plan."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from offers.batch.campaign import Constraints
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


def allocate(scores: np.ndarray, constraints: Constraints, exact: bool | None = None) -> Plan:
    """Choose the contacts that earn the most within the constraints.

    Parameters
    ----------
    scores : ndarray or memmap, shape (n_customers, n_offers), EUR; -inf where the customer can't get the offer
    exact : True solves the plan exactly by HiGHS, False rounds the prices' plan; by default exact up to `EXACT`
        customers

    Raises
    ------
    CampaignError
        the constraints can't all hold: names the minimums to relax, and by how much at least
    """
    _check_feasible(scores, constraints)
    pricing = price(scores, constraints)
    by_solver = len(scores) <= EXACT if exact is None else exact
    pairs = _solved(scores, constraints) if by_solver else _rounded(scores, constraints, pricing.prices)
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


def _check_feasible(scores: np.ndarray, constraints: Constraints) -> None:
    """Refuse minimums that can't be met, with the smallest relaxation, which HiGHS finds.

    Customers who may have the same offers count as one group, so the problem's size does not grow with their number.
    """
    minimums = np.flatnonzero(constraints.is_minimum)
    if not len(minimums):
        return
    groups: dict[bytes, int] = {}
    for block in blocks(scores):
        patterns, counts = np.unique(np.packbits(np.isfinite(block), axis=1), axis=0, return_counts=True)
        for pattern, count in zip(patterns, counts.tolist(), strict=True):
            groups[pattern.tobytes()] = groups.get(pattern.tobytes(), 0) + count
    n_offers, sizes = scores.shape[1], np.array(list(groups.values()), np.float64)
    bits = np.array([np.frombuffer(key, np.uint8) for key in groups])
    able = np.unpackbits(bits, axis=1, count=n_offers)
    n_cells, n_slacks = able.size, len(minimums)
    slack = sparse.coo_matrix((-np.ones(n_slacks), (minimums, np.arange(n_slacks))), (len(constraints.names), n_slacks))
    rows = sparse.bmat(
        [
            [sparse.csr_matrix(np.tile(constraints.usage, len(groups))), slack],
            [sparse.kron(sparse.eye(len(groups)), np.ones((1, n_offers))), None],
        ]
    )
    limits = np.append(constraints.limit, constraints.per_customer * sizes)
    bounds = [(0, float(cell)) for cell in (able * sizes[:, None]).ravel()] + [(0, None)] * n_slacks
    answer = linprog(np.append(np.zeros(n_cells), np.ones(n_slacks)), rows, limits, bounds=bounds, method="highs")
    short = np.ceil(answer.x[n_cells:] - 1e-6).astype(int)
    if short.any():
        relaxation = "; ".join(
            f"{constraints.names[place].removeprefix('contact of ')} by {missing}"
            for place, missing in zip(minimums, short, strict=True)
            if missing
        )
        raise CampaignError(
            f"the campaign's constraints can't all hold; the smallest relaxation lowers {relaxation}: lower it, or give"
            " more capacity or budget"
        )


def _solved(scores: np.ndarray, constraints: Constraints) -> np.ndarray:
    customer, offer = np.nonzero(np.isfinite(scores))
    if not len(customer):
        return np.empty((0, 2), np.intp)
    ones = np.ones(len(customer))
    each = sparse.csr_matrix((ones, (customer, np.arange(len(customer)))), (len(scores), len(customer)))
    rules = [LinearConstraint(each, ub=constraints.per_customer)]
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
    picked = answer.x > 0.5
    return np.column_stack([customer[picked], offer[picked]])


def _rounded(scores: np.ndarray, constraints: Constraints, prices: np.ndarray) -> np.ndarray:
    """Let customers take their best offers at these prices, drop contacts above a limit, then add what still fits."""
    parts = []
    for number, block in enumerate(blocks(scores)):
        choices, reduced = chosen(block, constraints, prices)
        customer, offer = np.nonzero(choices)
        parts.append((customer + number * BLOCK, offer.astype(np.int16), reduced[choices].astype(np.float32)))
    customer, offer, reduced = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    mask = np.ones(len(customer), bool)
    by_gain = np.argsort(reduced, kind="stable")
    for row, limit in zip(constraints.usage, constraints.limit, strict=True):
        if (row < 0).any():
            continue
        use = row[offer] * mask
        over = use.sum() - limit
        if over > 0:
            shed = use[by_gain].cumsum()
            last = int(np.searchsorted(shed, over))
            mask[by_gain[: last + 1][use[by_gain[: last + 1]] > 0]] = False
    return _filled(scores, constraints, prices, np.column_stack([customer[mask], offer[mask].astype(np.intp)]))


def _filled(scores: np.ndarray, constraints: Constraints, prices: np.ndarray, taken: np.ndarray) -> np.ndarray:
    contacts = np.zeros(scores.shape, bool)
    contacts[taken[:, 0], taken[:, 1]] = True
    count = contacts.sum(axis=1, dtype=np.int16)
    room = constraints.limit - constraints.usage @ contacts.sum(axis=0)
    _meet_minimums(scores, constraints, prices, contacts, count, room)
    for customer, offer in _candidates(scores, constraints, prices, contacts, room):
        use = constraints.usage[:, offer]
        if count[customer] < constraints.per_customer and not contacts[customer, offer] and (use <= room + 1e-9).all():
            contacts[customer, offer] = True
            count[customer] += 1
            room -= use
    return np.argwhere(contacts)


def _candidates(
    scores: np.ndarray, constraints: Constraints, prices: np.ndarray, held: np.ndarray, left: np.ndarray
) -> list[tuple[int, int]]:
    """List pairs that could still be added, the best at these prices first; a few more than there is room for."""
    fitting = (constraints.usage <= left[:, None] + 1e-9).all(axis=0)
    room = len(scores)
    for row, rest in zip(constraints.usage, left, strict=True):
        if row.min() > 0:
            room = min(room, int(rest / row.min()) + 1)
    n_candidates = 4 * min(room, 500_000) + 1_000
    gains, pairs = np.empty(0), np.empty((0, 2), np.intp)
    for number, block in enumerate(blocks(scores)):
        mine = held[number * BLOCK : number * BLOCK + len(block)]
        free = (mine.sum(axis=1) < constraints.per_customer)[:, None] & ~mine & (block > 0) & fitting
        customer, offer = np.nonzero(free)
        gain = (block - prices @ constraints.usage)[free]
        gains = np.append(gains, gain)
        pairs = np.concatenate([pairs, np.column_stack([customer + number * BLOCK, offer])])
        if len(gains) > 2 * n_candidates:
            best = np.argpartition(-gains, n_candidates)[:n_candidates]
            gains, pairs = gains[best], pairs[best]
    return [(customer, offer) for customer, offer in pairs[np.argsort(-gains, kind="stable")].tolist()]


def _meet_minimums(
    scores: np.ndarray,
    constraints: Constraints,
    prices: np.ndarray,
    held: np.ndarray,
    count: np.ndarray,
    left: np.ndarray,
) -> None:
    """Bring every minimum about: add a contact, or exchange one for another, where that costs least."""
    cost = prices @ constraints.usage
    for place in np.flatnonzero(constraints.is_minimum):
        members = np.flatnonzero(constraints.usage[place] < 0)
        if left[place] >= 0:
            continue
        # More candidates than are needed, because another limit may refuse some of the exchanges.
        n_candidates = int(4 * np.ceil(-left[place])) + 1_000
        cheapest = np.empty((0, 3))
        for number, block in enumerate(blocks(scores)):
            mine = held[number * BLOCK : number * BLOCK + len(block)]
            own = np.where(mine, block - cost, np.inf).min(axis=1)
            given_up = np.where(mine.sum(axis=1) < constraints.per_customer, 0.0, own)
            loss = given_up[:, None] - (block - cost)[:, members]
            customer, member = np.nonzero(np.isfinite(loss) & ~mine[:, members])
            more = np.column_stack([customer + number * BLOCK, members[member], loss[customer, member]])
            cheapest = np.concatenate([cheapest, more])
            if len(cheapest) > n_candidates:
                cheapest = cheapest[np.sort(np.argpartition(cheapest[:, 2], n_candidates)[:n_candidates])]
        for customer, offer in cheapest[np.argsort(cheapest[:, 2], kind="stable"), :2].astype(np.intp).tolist():
            if left[place] >= 0:
                break
            _exchange(scores, constraints, held, count, left, (customer, offer))


def _exchange(
    scores: np.ndarray,
    constraints: Constraints,
    held: np.ndarray,
    count: np.ndarray,
    left: np.ndarray,
    pair: tuple[int, int],
) -> None:
    customer, offer = pair
    use = constraints.usage[:, offer].copy()
    dropped = None
    if count[customer] >= constraints.per_customer:
        mine = np.flatnonzero(held[customer])
        dropped = int(mine[np.asarray(scores[customer])[mine].argmin()])
        use -= constraints.usage[:, dropped]
    # A constraint that was broken before may stay broken; the exchange must not break another one.
    if held[customer, offer] or ((left - use < -1e-9) & (use > 0)).any():
        return
    held[customer, offer] = True
    if dropped is None:
        count[customer] += 1
    else:
        held[customer, dropped] = False
    left -= use
