"""Follows a routing: looks at it again and again, and has a service switch to what it asks for."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from offers.errors import OffersError, ServiceError
from serving.process.logs import log
from serving.process.telemetry import RELEASE, ROUTING_REFUSED
from serving.protocol.kserve import ServerNotReady
from serving.ranker.routing import Routing
from serving.ranker.routing_source import RoutingSource


class RoutingFollower(ABC):
    """Base of what follows a routing for a service.

    Parameters
    ----------
    source : where the routing stands
    serving : what is served when it begins, as `source` said; None where it is the bundle that the service began with
    note_head : called at each look with the end of the ledger that the routing names
    """

    def __init__(
        self,
        source: RoutingSource,
        serving: Routing | None,
        note_head: Callable[[str], None] = lambda head: None,
    ) -> None:
        self.source = source
        self.serving = serving
        self._note_head = note_head
        self._refused = ""
        if serving is not None:
            note_head(serving.head)
            tell(serving)

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Look at the routing, again and again, while the block runs."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def tidy(self) -> None:
        """Give up what is not needed any more; called before each look. Nothing by default."""
        return

    @abstractmethod
    async def switch(self, written: Routing) -> Routing:
        """Serve what a routing asks for.

        Returns
        -------
        Routing
            what is served now: without experiments where these can't be had, but its arm can

        Raises
        ------
        OffersError, ServerNotReady
            it can't be served, and what serves stays
        """

    async def local(self, written: Routing) -> Routing:
        """The same routing with paths of this machine."""
        return await asyncio.to_thread(self.source.local, written)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self.source.seconds)
            await self.tidy()
            try:
                await self._look()
            except (OffersError, ServerNotReady) as error:
                self._refuse(getattr(error, "error_msg", "") or str(error))
            else:
                self._refused = ""
                ROUTING_REFUSED.set(0)

    async def _look(self) -> None:
        # A store may take seconds to answer, and requests are answered meanwhile.
        routing = await asyncio.to_thread(self.source.read)
        if routing is None:
            if self.serving is not None:
                raise ServiceError(f"{self.source.where}: it is gone, and what serves stays")
            return
        self._note_head(routing.head)
        serving = self.serving
        if serving is None or (routing.arms, routing.experiments) != (serving.arms, serving.experiments):
            self.serving = await self.switch(routing)
            tell(self.serving)
            (arm,) = self.serving.arms
            names = [experiment.name for experiment in self.serving.experiments]
            log.info("switched", extra={"fields": {"release": arm.release, "bundle": arm.bundle, "experiments": names}})

    def keeps_its_arm(self, written: Routing) -> bool:
        """Whether a routing has the arm that serves. Then an experiment that can't be had is refused.

        A promotion or a rollback waits for no experiment; the next look tries that again, and tells why not.
        """
        return self.serving is not None and written.arms == self.serving.arms

    def _refuse(self, reason: str) -> None:
        ROUTING_REFUSED.set(1)
        if reason != self._refused:
            self._refused = reason
            log.warning("routing refused", extra={"fields": {"reason": reason}})


def tell(routing: Routing) -> None:
    """Name the release of each arm in the metrics."""
    RELEASE.clear()
    for arm in routing.arms:
        RELEASE.labels(arm.name, arm.release, arm.bundle).set(1)
        for experiment in routing.experiments:
            for one in map(arm.beside, experiment.arms):
                RELEASE.labels(f"{experiment.name}/{one.name}", one.release, one.bundle).set(1)
