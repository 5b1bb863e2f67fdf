"""The challenger of a canary on this machine: its predictor, and its arm in the routing file."""

from dataclasses import dataclass

from offers.errors import ServiceError
from offers.experiments.experiment import Experiment, ExperimentArm
from offers.governance.canary import CHALLENGER, Canary
from offers.governance.release import fetch
from serving.supervisor import Pair, Supervisor


@dataclass
class Challenger:
    """Lets the release of a canary answer its share of the customers, beside what a supervisor serves.

    Attributes
    ----------
    canary : name and share that the routing file has; empty and 0 where there is none
    """

    supervisor: Supervisor
    canary: tuple[str, float] = ("", 0.0)
    bundle: str = ""
    _pair: Pair | None = None

    def answer(self, canary: Canary) -> None:
        """Bring the routing file to a canary's share, and its predictor up before that.

        Raises
        ------
        OffersError
            the release does not hold, its predictor does not start or has ended, the ranker does not take it, or an
            experiment has these customers
        """
        if self._pair is not None and (code := self._pair.predictor.process.poll()) is not None:
            raise ServiceError(f"the predictor of {canary.release} has ended with exit code {code}; its log tells why")
        if self.canary == (canary.name, canary.share):
            return
        release = fetch(self.supervisor.store, canary.release, self.supervisor.home)
        self._pair, self.bundle = self.supervisor.pair(release), release.bundle.name
        self._pair.idle_since = None
        arm = ExperimentArm(
            name=CHALLENGER,
            share=canary.share,
            predictor=f"127.0.0.1:{self._pair.predictor.bound['grpc_port']}",
            bundle=self.bundle,
            directory=release.path.resolve(),
        )
        self.supervisor.route_canary(Experiment(name=canary.name, arms=(arm,)))
        self.canary = canary.name, canary.share
        self.supervisor.await_switch(f"{canary.name}/{CHALLENGER}", release.name)

    def clear(self) -> None:
        """Have what serves answer everybody; the challenger's predictor stays for a while, as a former one does."""
        self.supervisor.route_canary(None)
        if self._pair is not None and self.bundle != self.supervisor.bundle:
            self._pair.idle_since = self.supervisor.clock()
        self.canary, self.bundle, self._pair = ("", 0.0), "", None
