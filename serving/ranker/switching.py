"""The ranker's side of a roll-out: builds what a routing asks for beside the present, proves it, and switches."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np
import pandas as pd

from offers.bundle.golden import TOLERANCE, golden
from offers.contract.column import Column
from offers.contract.contract import Contract
from offers.errors import OffersError, ServiceError
from serving.process.logs import log
from serving.process.telemetry import RELEASE, ROUTING_REFUSED, VERSION
from serving.protocol.dataplane import ServicePlane
from serving.protocol.kserve import ServerNotReady
from serving.ranker.arms import Arms
from serving.ranker.decision_log import Membership
from serving.ranker.feed import Feed
from serving.ranker.predictor_client import PredictorClient
from serving.ranker.ranker import Ranker
from serving.ranker.routing import Arm, Routing
from serving.ranker.routing_source import RoutingSource

LINGER_SECONDS = 40.0
"""What a ranker that was replaced keeps open: longer than any request may take."""


Build = Callable[[Arm], Ranker]
"""A ranker for an arm; raises OffersError where its catalogue or contract is wrong."""


class Switchboard:
    """Follows a routing for the ranker of a service.

    Parameters
    ----------
    source : where the routing stands
    build : makes a ranker
    serving : what is served when it begins, as `source` said; None where it is the bundle that the ranker began with
    note_head : called at each look with the end of the ledger that the routing names
    """

    def __init__(
        self,
        source: RoutingSource,
        build: Build,
        serving: Routing | None,
        note_head: Callable[[str], None] = lambda head: None,
    ) -> None:
        self.source = source
        self.serving = serving
        self._build = build
        self._note_head = note_head
        self._refused = ""
        self._stack = AsyncExitStack()
        self._retired: list[tuple[float, AsyncExitStack]] = []
        if serving is not None:
            note_head(serving.head)
            _tell(serving)

    @asynccontextmanager
    async def following(self, plane: ServicePlane) -> AsyncIterator[None]:
        """Look at the routing, again and again, while the block runs."""
        task = asyncio.create_task(self._follow(plane))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self._stack.aclose()
            await self._close_retired(float("inf"))

    async def _follow(self, plane: ServicePlane) -> None:
        while True:
            await asyncio.sleep(self.source.seconds)
            await self._close_retired(asyncio.get_running_loop().time())
            try:
                await self._look(plane)
            except (OffersError, ServerNotReady) as error:
                self._refuse(getattr(error, "error_msg", "") or str(error))
            else:
                self._refused = ""
                ROUTING_REFUSED.set(0)

    async def _look(self, plane: ServicePlane) -> None:
        # A store may take seconds to answer, and requests are answered meanwhile.
        routing = await asyncio.to_thread(self.source.read)
        if routing is None:
            if self.serving is not None:
                raise ServiceError(f"{self.source.where}: it is gone, and what serves stays")
            return
        self._note_head(routing.head)
        serving = self.serving
        if serving is None or (routing.arms, routing.experiments) != (serving.arms, serving.experiments):
            await self._switch(plane, routing)

    async def _switch(self, plane: ServicePlane, written: Routing) -> None:
        routing = await asyncio.to_thread(self.source.local, written)
        (arm,) = routing.arms
        ranker = await self._proved(arm)
        try:
            ranker.arms = await self._arms(ranker, routing)
        except (OffersError, ServerNotReady):
            if self.serving is not None and written.arms == self.serving.arms:
                raise
            # A promotion or a rollback waits for no experiment; the next look tries that again, and tells why not.
            routing, written = (one.model_copy(update={"experiments": ()}) for one in (routing, written))
        await self._replace_feeds(ranker.feeds)
        former = plane.model_registry.get_model(ranker.name)
        plane.model_registry.update(ranker)
        if former is not None:
            VERSION.remove(former.name, former.version)
        VERSION.labels(ranker.name, ranker.version).set(1)
        self.serving = written
        _tell(routing)
        names = [experiment.name for experiment in routing.experiments]
        log.info("switched", extra={"fields": {"release": arm.release, "bundle": arm.bundle, "experiments": names}})

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

    def _refuse(self, reason: str) -> None:
        ROUTING_REFUSED.set(1)
        if reason != self._refused:
            self._refused = reason
            log.warning("routing refused", extra={"fields": {"reason": reason}})


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


def _tell(routing: Routing) -> None:
    RELEASE.clear()
    for arm in routing.arms:
        RELEASE.labels(arm.name, arm.release, arm.bundle).set(1)
        for experiment in routing.experiments:
            for one in map(arm.beside, experiment.arms):
                RELEASE.labels(f"{experiment.name}/{one.name}", one.release, one.bundle).set(1)
