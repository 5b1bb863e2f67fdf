"""The results of a market's evaluation as records, which the gate, the report and the bundle read."""

from offers.data.rates import Rates
from offers.evaluation.figures import Figure
from offers.evaluation.gate import GateVerdict
from offers.record import Record


class MethodResult(Record):
    """How well one way of finding products foretells later views.

    Attributes
    ----------
    figures : `recall@10`, `recall@N` of the contract's number of candidates, and `ndcg@10`
    coverage : share of the products that are among the first 10 of any view
    cold_users : recall@10 for users without a view in the training; None where there are none
    new_products : recall@10 of products without a view in the training; None where there are none
    """

    name: str
    views: int
    figures: dict[str, Figure]
    coverage: float
    cold_users: Figure | None
    new_products: Figure | None


class RankerResult(Record):
    """How well the ranker foretells acceptance of later views whose outcome is known."""

    views: int
    accepted: float
    mean_propensity: float
    log_loss: float
    base_log_loss: float
    ece: float
    auc: float | None


class MarginResult(Record):
    """What candidates keep of the margin that the ranker finds among all products, and at which cost.

    Attributes
    ----------
    users : whose first 10 products by propensity times value are compared
    kept : share of the margin, as the ranker sees it
    kept_in_truth : the same by true propensities, which a simulated market knows
    seconds, seconds_of_all : CPU seconds for candidates and their scores, and for scores of all products
    """

    users: int
    candidates: int
    kept: Figure
    kept_in_truth: Figure | None
    seconds: float
    seconds_of_all: float


class MarketEvaluation(Record):
    """A market's evaluation: models that saw the views before `since` are judged by those from it on.

    `ahead` is by how much the recall@10 of the towers exceeds that of each other method, with paired intervals.
    `product_rates` and `place_rates` are of all views: of the most viewed products, and of the first places.
    """

    market: str
    products: int
    trained_views: int
    views: int
    users: int
    cold_users: float
    new_products: int
    since: str
    until: str
    methods: tuple[MethodResult, ...]
    ahead: dict[str, Figure]
    ranker: RankerResult
    margin: MarginResult | None
    verdict: GateVerdict
    product_rates: tuple[Rates, ...] = ()
    place_rates: tuple[Rates, ...] = ()
