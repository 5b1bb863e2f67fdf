"""Follows the ledger: a service serves the release that the ledger names, and completes or reverts promotions."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from offers.errors import LedgerError, OffersError
from offers.governance.approval import finish, give_up, step
from offers.governance.canary import Canary, Judgement, canary_of
from offers.governance.entries import Entry, Promoting
from offers.governance.keys import Signer
from offers.governance.ledger import Ledger
from offers.governance.state import State

Switch = Callable[[str], None]
"""Serves the release of a name; raises OffersError where that does not come up, and then serves what it did before."""


@dataclass(frozen=True)
class Steps:
    """What services need for a canary.

    Attributes
    ----------
    answer : lets a canary's release answer its share of the customers; raises OffersError where that does not come up,
        or has ended. It is called again and again.
    clear : ends every canary: what serves answers all customers again
    judge : returns what the decision log says of a canary, by the name of its bundle; None where it was not looked at
    """

    answer: Callable[[Canary], None]
    clear: Callable[[], None]
    judge: Callable[[Canary, str, datetime], Judgement | None]


class Follower:
    """Makes a service follow the ledger, step by step; any number of followers may share a ledger.

    Parameters
    ----------
    signer : the service's key, with the role operator
    switch : function that makes another release serve
    serving : the release that serves now
    steps : for canaries; without it a promotion by steps is returned
    """

    def __init__(
        self,
        ledger: Ledger,
        signer: Signer,
        contract: str,
        switch: Switch,
        serving: str,
        steps: Steps | None = None,
    ) -> None:
        self.ledger = ledger
        self.signer = signer
        self.contract = contract
        self.serving = serving
        self._switch = switch
        self._steps = steps
        self._climbs = False
        self._doom: tuple[int, str] | None = None

    def step(self) -> None:
        """Read the ledger once, and do what it asks for.

        Raises
        ------
        OffersError
            the ledger can't be read or written, or the champion does not start; the next step tries again
        """
        state = self.ledger.state()
        line, champion = state.line(self.contract), state.champion(self.contract)
        canary = canary_of(line)
        if self._climbs and canary is None:
            self._clear()
        if line.promoting is not None and canary is not None and canary.share < 1:
            self._climb(line.promoting, canary, state.releases[canary.release].act.bundle)
        elif line.promoting is not None:
            self._end(line.promoting)
        elif champion is not None:
            self._serve(champion.name)

    def _climb(self, promoting: Entry, canary: Canary, bundle: str) -> None:
        """Begin a canary, hold it at its step, let it go on, or return it."""
        if self._steps is None:
            self._write(give_up, promoting, "what serves here has no canaries: promote it without steps")
        elif not canary.steps:
            self._write(step, canary.release, canary.next_share, "the first step")
        else:
            self._watch(self._steps, promoting, canary, bundle)

    def _watch(self, steps: Steps, promoting: Entry, canary: Canary, bundle: str) -> None:
        if self._doom is not None and self._doom[0] == promoting.number:
            self._return(promoting, self._doom[1])
            return
        self._climbs = True
        try:
            steps.answer(canary)
        except OffersError as error:
            self._return(promoting, str(error))
            return
        moment = self.ledger.clock()
        judgement = steps.judge(canary, bundle, moment)
        if judgement is None:
            return
        if judgement.harm:
            self._return(promoting, f"{judgement.harm}. {judgement.evidence}")
        elif judgement.enough and not canary.rests(moment):
            self._write(step, canary.release, canary.next_share, judgement.evidence)

    def _return(self, promoting: Entry, reason: str) -> None:
        # If the ledger is away, no later step may let the canary answer again.
        self._doom = promoting.number, reason
        self._clear()
        self._write(give_up, promoting, reason)

    def _clear(self) -> None:
        if self._steps is not None:
            self._steps.clear()
        self._climbs = False

    def _end(self, promoting: Entry) -> None:
        assert isinstance(promoting.act, Promoting)
        failure: OffersError | None = None
        try:
            self._serve(promoting.act.release)
        except OffersError as error:
            failure = error
        if self._climbs:
            self._clear()
        if failure is None:
            self._write(finish, promoting)
        else:
            self._write(give_up, promoting, str(failure))

    def _write(self, end: Callable[..., Entry], *given: object) -> None:
        try:
            end(self.ledger, self.signer, *given)
        except LedgerError:
            # Another follower may have ended the promotion; then the next step serves its result.
            if self.ledger.state().line(self.contract).promoting is not None:
                raise

    def _serve(self, release: str) -> None:
        if release != self.serving:
            self._switch(release)
            self.serving = release


def contract_to_follow(ledger: Ledger, of_market: bool = False) -> str | None:
    """Find the contract whose release was promoted last, or is being promoted; None before the first promotion.

    Parameters
    ----------
    of_market : whether to look among the markets, rather than among the others
    """
    state = ledger.state()
    releases = [state.releases[entry.act.release] for entry in ledger.entries() if isinstance(entry.act, Promoting)]
    names = [release.act.contract for release in releases if release.of_market == of_market]
    return names[-1] if names else None


def first_to_serve(state: State, contract: str) -> str | None:
    """Name the release that a service starts with: the champion, or else the release that is being promoted."""
    champion, promoting = state.champion(contract), state.line(contract).promoting
    if champion is not None:
        return champion.name
    return promoting.act.release if promoting is not None and isinstance(promoting.act, Promoting) else None
