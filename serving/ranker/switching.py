"""The ranker's side of a roll-out: builds what a routing asks for beside the present, proves it, and switches."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np
import pandas as pd

from offers.bundle.golden import TOLERANCE, golden
from offers.contract.column import Column
from offers.contract.contract import Contract
from offers.errors import OffersError, ServiceError
from serving.process.telemetry import VERSION
from serving.protocol.dataplane import ServicePlane
from serving.protocol.kserve import ServerNotReady
from serving.ranker.arms import Arms
from serving.ranker.decision_log import Membership
from serving.ranker.feed import Feed
from serving.ranker.following import RoutingFollower
from serving.ranker.predictor_client import PredictorClient
from serving.ranker.ranker import Ranker
from serving.ranker.routing import Arm, Routing
from serving.ranker.routing_source import RoutingSource

LINGER_SECONDS = 40.0
"""What a ranker that was replaced keeps open: longer than any request may take."""


Build = Callable[[Arm], Ranker]
"""A ranker for an arm; raises OffersError where its catalogue or contract is wrong."""


class Switchboard(RoutingFollower):
    """Follows a routing for the ranker of a service.

    Parameters
    ----------
    build : makes a ranker
    """

    def __init__(
        self,
        source: RoutingSource,
        build: Build,
        serving: Routing | None,
        note_head: Callable[[str], None] = lambda head: None,
    ) -> None:
        super().__init__(source, serving, note_head)
        self._build = build
        self._plane: ServicePlane | None = None
        self._stack = AsyncExitStack()
        self._retired: list[tuple[float, AsyncExitStack]] = []

    @asynccontextmanager
    async def following(self, plane: ServicePlane) -> AsyncIterator[None]:
        """Look at the routing, again and again, while the block runs."""
        self._plane = plane
        try:
            async with self.looking():
                yield
        finally:
            await self._stack.aclose()
            await self._close_retired(float("inf"))

    async def tidy(self) -> None:
        await self._close_retired(asyncio.get_running_loop().time())

    async def switch(self, written: Routing) -> Routing:
        assert self._plane is not None
        routing = await self.local(written)
        ranker = await self._proved(routing.arms[0])
        try:
            ranker.arms = await self._arms(ranker, routing)
        except (OffersError, ServerNotReady):
            if self.keeps_its_arm(written):
                raise
            written = written.model_copy(update={"experiments": ()})
        await self._replace_feeds(ranker.feeds)
        registry = self._plane.model_registry
        former = registry.get_model(ranker.name)
        registry.update(ranker)
        if former is not None:
            VERSION.remove(former.name, former.version)
        VERSION.labels(ranker.name, ranker.version).set(1)
        return written

    async def _arms(self, ranker: Ranker, routing: Routing) -> Arms | None:
        """Build the arms of a routing's experiments beside what serves, and prove each."""
        if not routing.experiments:
            return None
        rankers = {
            Membership(experiment.name, one.name): await self._proved(routing.arms[0].beside(one))
            for experiment in routing.experiments
            for one in experiment.arms
        }
        return Arms(ranker, routing.experiments, rankers)

    async def _proved(self, arm: Arm) -> Ranker:
        ranker = await asyncio.to_thread(self._build, arm)
        await prove(ranker.predictor, ranker.contract, arm)
        return ranker

    async def _replace_feeds(self, feeds: Sequence[Feed]) -> None:
        """Open the feeds of a ranker; those of the one before are closed when its last request is over."""
        self._retired.append((asyncio.get_running_loop().time() + LINGER_SECONDS, self._stack))
        self._stack = AsyncExitStack()
        for feed in feeds:
            await self._stack.enter_async_context(feed)

    async def _close_retired(self, moment: float) -> None:
        over = [stack for deadline, stack in self._retired if deadline <= moment]
        self._retired = [(deadline, stack) for deadline, stack in self._retired if deadline > moment]
        for stack in over:
            await stack.aclose()


async def prove(predictor: PredictorClient, contract: Contract, arm: Arm) -> None:
    """Refuse a predictor that does not score the golden rows of an arm's bundle, under its name.

    Raises
    ------
    ServerNotReady
        it does not answer, or serves another contract
    ServiceError
        it serves another bundle, or scores differently
    """
    await predictor.check()
    rows, expected = await asyncio.to_thread(golden, arm.directory / "bundle")
    columns = {column.name: _values(rows[column.name], column) for column in contract.inputs}
    scores = await predictor.score(columns)
    if scores.version != arm.bundle:
        raise ServiceError(f"the predictor at {arm.predictor} serves {scores.version}, expected {arm.bundle}")
    if not np.allclose(scores.propensity, expected, rtol=0, atol=TOLERANCE):
        raise ServiceError(f"the predictor at {arm.predictor} scores the golden rows of {arm.bundle} differently")


def _values(plain: pd.Series, column: Column) -> np.ndarray:
    """What the predictor's client takes: words as object with None where missing, other types as float64 with NaN."""
    if column.type == "category":
        return np.array([value if isinstance(value, str) else None for value in plain], object)
    return plain.astype("float64").to_numpy()
