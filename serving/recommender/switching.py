"""The recommender's side of a promotion: opens what a routing asks for beside the present, and switches."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from offers.data.online import OnlineUsers
from offers.decisions.pseudonym import Pseudonyms
from offers.errors import OffersError, ServiceError
from offers.governance.market_release import serving_bundle
from offers.retrieval.bundle import MarketBundle
from serving.process.telemetry import VERSION
from serving.ranker.decision_log import DecisionLog, Membership
from serving.ranker.following import RoutingFollower
from serving.ranker.routing import Arm, Routing
from serving.ranker.routing_source import RoutingSource
from serving.recommender.arms import Arms
from serving.recommender.products import ProductList
from serving.recommender.served import Served
from serving.recommender.service import Recommendations


def opened(arm: Arm) -> MarketBundle:
    """Load the bundle of an arm, with the rules that decide there; its golden rows are reproduced."""
    return serving_bundle(arm.directory / "bundle", arm.policy, arm.bundle)


class MarketSwitchboard(RoutingFollower):
    """Follows a routing for a recommender.

    The online store holds the rows of one contract, so each bundle must have the users of the first.

    Parameters
    ----------
    recommendations : that answer
    table : the market's table of products, for each bundle
    """

    def __init__(
        self,
        source: RoutingSource,
        recommendations: Recommendations,
        table: Path | None,
        serving: Routing | None,
        note_head: Callable[[str], None],
    ) -> None:
        super().__init__(source, serving, note_head)
        self._recommendations, self._table = recommendations, table
        self._users = OnlineUsers(recommendations.served.bundle.market)

    async def switch(self, written: Routing) -> Routing:
        routing = await self.local(written)
        served = await asyncio.to_thread(self._opened, routing.arms[0])
        try:
            arms = await self._arms(routing)
        except OffersError:
            if self.keeps_its_arm(written):
                raise
            arms, written = None, written.model_copy(update={"experiments": ()})
        former = self._recommendations.served.bundle
        VERSION.remove(former.market.name, former.name)
        self._recommendations.serve(served, arms)
        VERSION.labels(served.bundle.market.name, served.bundle.name).set(1)
        return written

    async def _arms(self, routing: Routing) -> Arms | None:
        if not routing.experiments:
            return None
        served = {
            Membership(experiment.name, one.name): await asyncio.to_thread(self._opened, routing.arms[0].beside(one))
            for experiment in routing.experiments
            for one in experiment.arms
        }
        return Arms(routing.experiments, served, self._pseudonyms())

    def _pseudonyms(self) -> Pseudonyms:
        if self._log is None:
            raise ServiceError("an experiment needs the decision log: start the recommender with --spool")
        return self._log.pseudonyms

    def _opened(self, arm: Arm) -> Served:
        bundle, first = opened(arm), self._recommendations.served.bundle
        if OnlineUsers(bundle.market).form != self._users.form:
            raise ServiceError(
                f"release {arm.release}: expected users as in the contract of {first.name}, whose rows the online store"
                " has; load a store anew, and start a recommender with that release"
            )
        return Served(ProductList(bundle, self._table), self._log)

    @property
    def _log(self) -> DecisionLog | None:
        return self._recommendations.decision_log
