"""The demo's part on governance: approvals, promotion and rollback while requests run, and tests of the ledger."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offers.contract.contract import Contract
    from offers.governance.keys import Signer
    from offers.governance.ledger import Ledger
    from offers.settings import Settings
    from serving.local import SidecarOptions

PEOPLE = ("ann", "bob")


@dataclass
class Traffic:
    """Sends requests to a ranker, one after another, while the block runs."""

    url: str
    question: dict[str, object]
    answered: int = 0
    failed: int = 0
    _stop: Event = field(default_factory=Event)

    @contextmanager
    def running(self) -> Iterator["Traffic"]:
        thread = Thread(target=self._send)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _send(self) -> None:
        import json

        import httpx

        from offers.http_client import peer

        ranker = peer("the ranker", f"{self.url}/v1/models/offers:predict", 30.0)
        question, headers = json.dumps(self.question).encode(), {"content-type": "application/json"}
        while not self._stop.wait(0.01):
            try:
                status = ranker.ask(question, headers).status_code
            except httpx.HTTPError:
                status = 0
            self.answered += 1
            self.failed += status != 200


def govern(
    contract: "Contract", settings: "Settings", bundles: tuple[Path, Path], directory: Path, watch: "SidecarOptions"
) -> None:
    """Let people approve two bundles, promote one after the other, go back, and show that the ledger reveals tampering.

    Parameters
    ----------
    bundles : the former bundle, and the one that was trained since
    directory : directory of this demo's ledger, keys and releases
    """
    from cli.release import register_bundle
    from cli.screen import console
    from offers.governance.access import open_to_write
    from offers.governance.approval import approve, begin, finish

    own = settings.model_copy(update={"home": directory, "ledger": "", "key": None})
    ledger, trainer = open_to_write(own)
    people = [_person(ledger, trainer, directory, name) for name in PEOPLE]
    console.print("\nWho decides: the trainer does not, two others do", style="bold")
    first, second = (register_bundle(ledger, trainer, str(bundle), contract.name, own) for bundle in bundles)
    _refused(ledger, trainer, second)
    for release in dict.fromkeys((first, second)):
        for person in people:
            entry = approve(ledger, person, release, ledger.state().releases[release].act.evidence)
            console.print(f"entry {entry.number}: {person.name} approves {release}", soft_wrap=True)
    finish(ledger, trainer, begin(ledger, trainer, first))
    if first != second:
        _switch_under_load(contract, own, ledger, trainer, (first, second), watch)
    _show(ledger, second, directory)
    _tamper(ledger, directory)


def _person(ledger: "Ledger", admin: "Signer", directory: Path, name: str) -> "Signer":
    from offers.governance.entries import KeyAdded
    from offers.governance.keys import new_key

    person = new_key(directory / "keys" / f"{name}.pem")
    public = person.public
    act = KeyAdded(key=public.id, public=public.text, name=name, roles=("approver",))
    ledger.write(admin, lambda state: act)
    return person


def _refused(ledger: "Ledger", trainer: "Signer", release: str) -> None:
    from cli.screen import console
    from offers.errors import LedgerError
    from offers.governance.approval import approve

    try:
        approve(ledger, trainer, release, {})
    except LedgerError as error:
        console.print(f"refused: {error}", style="yellow", soft_wrap=True)


def _switch_under_load(
    contract: "Contract",
    settings: "Settings",
    ledger: "Ledger",
    signer: "Signer",
    releases: tuple[str, str],
    watch: "SidecarOptions",
) -> None:
    from cli.screen import console
    from offers.governance.approval import begin, begin_back
    from offers.governance.follower import Follower
    from serving.ranker.question import example
    from serving.supervisor import supervised

    first, second = releases
    console.print("\nPromotion and rollback while requests run", style="bold")
    place = (ledger.store, settings.home, settings.home / "governed")
    with supervised(*place, watch, first, lambda: str(ledger.head)) as supervisor:
        follower = Follower(ledger, signer, contract.name, supervisor.switch, first)
        traffic = Traffic(supervisor.services.ranker.url, example(contract))
        with traffic.running():
            for verb in ("promotes", "rolls back to"):
                began = time.monotonic()
                if verb == "promotes":
                    begin(ledger, signer, second)
                else:
                    begin_back(ledger, signer, contract.name, "the demo shows the way back")
                follower.step()
                seconds = time.monotonic() - began
                console.print(f"{signer.name} {verb} {follower.serving}: {seconds:.1f} s", soft_wrap=True)
        console.print(f"{traffic.answered} requests meanwhile, {traffic.failed} of them failed")


def _show(ledger: "Ledger", release: str, directory: Path) -> None:
    from cli.card import written_card
    from cli.model import releases_table
    from cli.screen import console
    from offers.governance.release import fetch
    from offers.reports.card import html
    from offers.settings import Settings

    state = ledger.state()
    releases_table(state, ledger.clock())
    page = directory / f"{release}.html"
    open_release = fetch(ledger.store, release, directory)
    tables = str(Settings.from_env().home / "tables")
    page.write_text(html(written_card(open_release, state, ledger, tables)), "utf-8")
    console.print(f"card  {page}", soft_wrap=True)


def _tamper(ledger: "Ledger", directory: Path) -> None:
    """Verify the ledger, then copies of it with one byte changed, and with the end cut off."""
    from cli.screen import console
    from offers.governance.audit import verify
    from offers.store.directory import DirectoryStore

    head = ledger.head
    assert head is not None
    console.print("\nNobody rewrites the story", style="bold")
    console.print(f"as it is: {len(verify(ledger.store, [head]).problems)} problems in {head.number + 1} entries")
    for deed in ("one byte changed", "the end cut off"):
        copy = directory / "tampered"
        shutil.copytree(directory / "ledger", copy / "ledger")
        entries = sorted((copy / "ledger").iterdir())
        if deed == "the end cut off":
            entries[-1].unlink()
        else:
            changed = next(path for path in entries[1:] if b"approver" in path.read_bytes())
            changed.write_bytes(changed.read_bytes().replace(b"approver", b"operator", 1))
        problem = verify(DirectoryStore(copy), [head]).problems[0]
        console.print(f"{deed}: {problem}", soft_wrap=True)
        shutil.rmtree(copy)
    console.print(f".venv/bin/offers audit verify --head {head}   # with OFFERS_HOME={directory}", soft_wrap=True)
