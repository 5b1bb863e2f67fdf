"""A service of this machine that follows a routing file, as its supervisor has it."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

from offers.errors import ServiceError
from offers.experiments.experiment import CANARY, Experiment, conflict
from offers.http_client import peer
from serving.local import ROUTING, Running
from serving.ranker import routing
from serving.ranker.routing import Arm, Routing

CHAMPION = "champion"
LAST = "routing.last.json"
SWITCH_SECONDS = 15.0
"""How long a service may take until it has switched."""


class RoutedService(ABC):
    """Base of a supervisor.

    Attributes
    ----------
    service : what follows the file; None before it is started
    noun : names it in messages, and its log
    logs : directory of the routing file
    head : gives the end of the ledger, for the routing file
    experiments : those of an earlier start, for the first routing file
    """

    noun: str
    logs: Path
    head: Callable[[], str]
    clock: Callable[[], float]
    experiments: tuple[Experiment, ...]

    @property
    @abstractmethod
    def service(self) -> Running | None:
        """What follows the file; None before it is started."""

    def put(self, arm: Arm) -> None:
        """Have an arm serve; raises `ServiceError` where the service does not take it, and what served goes on."""
        file, head = self.logs / ROUTING, self.head()
        former = routing.read(file) if file.exists() else None
        if former is None:
            routing.write(file, Routing(head=head, arms=(arm,), experiments=self.experiments))
        else:
            routing.update(file, lambda present: present.model_copy(update={"head": head, "arms": (arm,)}))
        if self.service is not None:
            try:
                self.await_switch(CHAMPION, arm.release)
            except ServiceError:
                if former is not None:
                    routing.update(file, lambda present: present.model_copy(update={"arms": former.arms}))
                raise

    def note_head(self) -> None:
        """Tell the service the end of the ledger, where that has grown: each decision names it."""
        file, head = self.logs / ROUTING, self.head()
        if routing.read(file).head != head:
            routing.update(file, lambda present: present.model_copy(update={"head": head}))

    def route_canary(self, canary: Experiment | None) -> None:
        """Have a canary in the routing file, or none; raises `ServiceError` where an experiment has its customers."""
        own = (canary,) if canary else ()

        def change(present: Routing) -> Routing:
            experiments = *(one for one in present.experiments if not one.name.startswith(CANARY)), *own
            if reason := conflict(experiments):
                raise ServiceError(f"{reason}, and a canary takes part in all: stop the experiment first")
            return present.model_copy(update={"experiments": experiments})

        routing.update(self.logs / ROUTING, change)

    def await_switch(self, arm: str, release: str) -> None:
        """Wait until the service says that an arm is a release's; raises `ServiceError` where it does not."""
        deadline = self.clock() + SWITCH_SECONDS
        while self.clock() < deadline:
            if self._serves(arm, release):
                return
            time.sleep(0.05)
        log = self.logs / f"{self.noun}.log"
        raise ServiceError(f"the {self.noun} did not switch to {release} in {SWITCH_SECONDS:g} s; {log} tells why")

    def _serves(self, arm: str, release: str) -> bool:
        assert self.service is not None
        try:
            metrics = peer(f"the {self.noun}", f"{self.service.url}/metrics", 5.0).ask().text
        except httpx.HTTPError:
            return False
        lines = (line for line in metrics.splitlines() if line.startswith("offers_release_info{"))
        return any(f'arm="{arm}"' in line and f'release="{release}"' in line for line in lines)


def kept_experiments(logs: Path) -> tuple[Experiment, ...]:
    """Read the experiments of the service that ran here last; a killed one has left its routing file in its place."""
    for file in (logs / ROUTING, logs / LAST):
        with suppress(ServiceError):
            # What a canary needs has ended with the service; the ledger says whether it begins anew.
            return tuple(one for one in routing.read(file).experiments if not one.name.startswith(CANARY))
    return ()


def put_away(logs: Path) -> None:
    """Keep the routing file of a service that has ended, for its experiments."""
    if (logs / ROUTING).exists():
        (logs / ROUTING).replace(logs / LAST)
