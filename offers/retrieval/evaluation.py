"""Evaluates a market's models on later views than those that they were fitted on."""

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from offers.contract.market import Market
from offers.evaluation import metrics
from offers.evaluation.figures import Figure
from offers.retrieval import baselines
from offers.retrieval.baselines import ByTowers, Scorer
from offers.retrieval.figures import MarginResult, MethodResult, RankerResult
from offers.retrieval.fitting import mature
from offers.retrieval.measuring import FIRST, Ranks, UserSample, gains, hits, rank_views
from offers.retrieval.nearest import highest
from offers.retrieval.oracle import Oracle
from offers.retrieval.products import Products, values_of
from offers.retrieval.ranker import Ranker
from offers.retrieval.user_tower import Floats, Towers
from offers.retrieval.views import Views

MOST, SCORES = 100_000, 1_000_000_000
"""Views that are ranked, spread evenly over those after the training, and their scores; whichever are fewer."""

PAIRS, LEAST = 500_000, 100
"""Pairs that the booster scores for the figures that need all products of a user, and views, whichever are more."""

TOWERS, POPULARITY, CO_OCCURRENCE = "towers", "popularity", "co-occurrence"


@dataclass(frozen=True, eq=False)
class Contest:
    """Ways of finding products, fitted on the views before `edge` and judged by those from it on.

    Parameters
    ----------
    views : all views, in time order
    edge : place of the first view that is not trained on
    towers, ranker : fitted on the views before
    oracle : the truth of a simulated market
    """

    market: Market
    products: Products
    views: Views
    edge: int
    towers: Towers | None
    ranker: Ranker
    oracle: Oracle | None
    seed: int

    def methods(self) -> tuple[tuple[MethodResult, ...], dict[str, Figure]]:
        """Measure each way, and by how much the towers' recall exceeds that of the others."""
        ranks = {name: rank_views(scorer, self.later, self._launched) for name, scorer in self._scorers().items()}
        results = [self._result(name, one, self.later, self._sample) for name, one in ranks.items()]
        results.append(self._booster())
        towers = ranks.pop(TOWERS, None)
        if towers is None:
            return tuple(results), {}
        own = hits(towers, FIRST)
        return tuple(results), self._sample.means({name: own - hits(one, FIRST) for name, one in ranks.items()})

    def ranked(self) -> RankerResult:
        """Measure the ranker on the later views whose outcome is known."""
        views = mature(self.views, self.market)
        views = _spread(views[self.edge :] if len(views) > self.edge else views[-1:], MOST)
        labels = views.accepted.astype(np.float64)
        products = views.product.astype(np.int64)[:, None]
        propensity = self.ranker.propensity(views.full(self._history), products, self._affinity(views, products))[:, 0]
        rate = float(labels.mean())
        both = 0 < rate < 1
        return RankerResult(
            views=len(views),
            accepted=rate,
            mean_propensity=float(propensity.mean()),
            log_loss=_log_loss(labels, propensity),
            base_log_loss=_log_loss(labels, np.full(len(labels), np.clip(rate, 1e-9, 1 - 1e-9))),
            ece=metrics.expected_calibration_error(labels, propensity),
            auc=metrics.figures(labels, propensity, 0.1)["auc"] if both else None,
        )

    def margin(self) -> MarginResult | None:
        """Compare the first products by propensity times value among candidates with those among all products."""
        if self.towers is None:
            return None
        users, count = self._booster_views, self.market.retrieval.candidates
        rows, number = users.full(self._history), len(self.products.ids)
        start = time.process_time()
        candidates = highest(self.towers.worth(self.ranker.line.slope, self._value).affinity(rows), count)
        some = self.ranker.propensity(rows, candidates, self._affinity(users, candidates)) * self._value[candidates]
        middle = time.process_time()
        all_products = np.tile(np.arange(number), (len(users), 1))
        every = self.ranker.propensity(rows, all_products, self.towers.affinity(rows)) * self._value
        end = time.process_time()
        first, best = np.take_along_axis(candidates, highest(some, FIRST), axis=1), highest(every, FIRST)
        truth = None if self.oracle is None else self._ratio(self.oracle.propensity(users) * self._value, first, best)
        return MarginResult(
            users=len(users),
            candidates=candidates.shape[1],
            kept=self._ratio(every, first, best),
            kept_in_truth=truth,
            seconds=middle - start,
            seconds_of_all=end - middle,
        )

    @cached_property
    def before(self) -> Views:
        return self.views[: self.edge]

    @cached_property
    def later(self) -> Views:
        """The views that are ranked."""
        return _spread(self.views[self.edge :], min(MOST, SCORES // len(self.products.ids)))

    @cached_property
    def cold(self) -> NDArray[np.bool_]:
        """Mark the users without a view in the training, shape (users,)."""
        return np.asarray(np.bincount(self.before.user, minlength=len(self.views.users)) == 0)

    @cached_property
    def new(self) -> NDArray[np.bool_]:
        """Mark the products without a view in the training, shape (n_products,)."""
        return np.asarray(np.bincount(self.before.product, minlength=len(self.products.ids)) == 0)

    def _scorers(self) -> dict[str, Scorer]:
        number, counts = len(self.products.ids), baselines.counts_of(self.before, len(self.products.ids))
        scorers: dict[str, Scorer] = {} if self.towers is None else {TOWERS: ByTowers(self.towers, self._history)}
        scorers |= {
            POPULARITY: baselines.by_popularity(self.market, self.before, number),
            "popularity by segment": baselines.by_segment(self.market, self.before, number),
            CO_OCCURRENCE: baselines.by_co_occurrence(counts, self.edge),
            "matrix factorisation": baselines.by_factors(counts, self.edge, self.seed),
        }
        return scorers if self.oracle is None else scorers | {"oracle": self.oracle.utility}

    def _booster(self) -> MethodResult:
        views, number = self._booster_views, len(self.products.ids)

        def score(part: Views) -> Floats:
            users, products = part.full(self._history), np.tile(np.arange(number), (len(part), 1))
            affinity = None if self.towers is None else self.towers.affinity(users)
            return np.asarray(self.ranker.propensity(users, products, affinity), np.float32)

        return self._result("booster over all", rank_views(score, views, self._launched), views, self._sample_of(views))

    @cached_property
    def _booster_views(self) -> Views:
        return _spread(self.later, max(LEAST, PAIRS // len(self.products.ids)))

    def _result(self, name: str, ranks: Ranks, views: Views, sample: UserSample) -> MethodResult:
        recall = f"recall@{FIRST}"
        own = hits(ranks, FIRST)
        wide = self.market.retrieval.candidates
        values = {recall: own, f"recall@{wide}": hits(ranks, wide), f"ndcg@{FIRST}": gains(ranks)}
        groups = (self.cold[views.user], self.new[views.product])
        cold, new = (sample.means({recall: own}, among).get(recall) for among in groups)
        return MethodResult(
            name=name,
            views=len(views),
            figures=sample.means(values),
            coverage=float(ranks.shown.mean()),
            cold_users=cold,
            new_products=new,
        )

    @cached_property
    def _sample(self) -> UserSample:
        return self._sample_of(self.later)

    def _sample_of(self, views: Views) -> UserSample:
        return UserSample(np.asarray(views.user), baselines.looks_weights(self.market, views), self.seed)

    def _affinity(self, views: Views, products: NDArray[np.int64]) -> Floats | None:
        return None if self.towers is None else self.towers.affinity_of(views.full(self._history), products)

    @property
    def _history(self) -> int:
        return self.market.retrieval.viewed

    def _ratio(self, margins: NDArray[np.float64], ours: NDArray[np.int64], best: NDArray[np.int64]) -> Figure:
        """Divide the margin of our products by that of the best ones, with an interval over users."""
        part, whole = (np.take_along_axis(margins, places, axis=1).sum(axis=1) for places in (ours, best))
        weights = np.maximum(whole, 1e-12)
        sample = UserSample(np.asarray(self._booster_views.user), weights, self.seed)
        return sample.means({"kept": part / weights})["kept"]

    @cached_property
    def _launched(self) -> NDArray[np.int64]:
        return self.products.launched.astype(np.int64)

    @cached_property
    def _value(self) -> NDArray[np.float64]:
        return values_of(self.market, self.products)


def _spread(views: Views, number: int) -> Views:
    """Take up to `number` views, spread evenly."""
    if len(views) <= number:
        return views
    return views[np.unique(np.linspace(0, len(views) - 1, number).astype(np.int64))]


def _log_loss(labels: NDArray[np.float64], propensity: NDArray[np.float64]) -> float:
    return float(-np.mean(labels * np.log(propensity) + (1 - labels) * np.log1p(-propensity)))
