"""Follows the ledger: a service serves the release that the ledger names, and completes or reverts promotions."""

from collections.abc import Callable

from offers.errors import LedgerError, OffersError
from offers.governance.approval import finish, give_up
from offers.governance.entries import Entry, Promoting
from offers.governance.keys import Signer
from offers.governance.ledger import Ledger
from offers.governance.state import State

Switch = Callable[[str], None]
"""Serves the release of a name; raises OffersError where that does not come up, and then serves what it did before."""


class Follower:
    """Makes a service follow the ledger, step by step; any number of followers may share a ledger.

    Parameters
    ----------
    signer : the service's key, with the role operator
    switch : function that makes another release serve
    serving : the release that serves now
    """

    def __init__(self, ledger: Ledger, signer: Signer, contract: str, switch: Switch, serving: str) -> None:
        self.ledger = ledger
        self.signer = signer
        self.contract = contract
        self.serving = serving
        self._switch = switch

    def step(self) -> None:
        """Read the ledger once, and do what it asks for.

        Raises
        ------
        OffersError
            the ledger can't be read or written, or the champion does not start; the next step tries again
        """
        state = self.ledger.state()
        promoting, champion = state.line(self.contract).promoting, state.champion(self.contract)
        if promoting is not None:
            self._end(promoting)
        elif champion is not None:
            self._serve(champion.name)

    def _end(self, promoting: Entry) -> None:
        assert isinstance(promoting.act, Promoting)
        try:
            self._serve(promoting.act.release)
        except OffersError as error:
            self._write(give_up, promoting, str(error))
        else:
            self._write(finish, promoting)

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


def first_to_serve(state: State, contract: str) -> str | None:
    """Name the release that a service starts with: the champion, or else the release that is being promoted."""
    champion, promoting = state.champion(contract), state.line(contract).promoting
    if champion is not None:
        return champion.name
    return promoting.act.release if promoting is not None and isinstance(promoting.act, Promoting) else None
