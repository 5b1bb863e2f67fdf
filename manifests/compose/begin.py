"""What `docker compose up` serves: a bucket, a key for pseudonyms, and the release that the ledger names, in a volume.

Where the ledger has no release yet, the training pipeline makes the first one. Nobody has a key yet who could approve
it, so the gate alone does, and it is promoted; later ones are the contract's affair. A promotion that somebody has
begun on page Model ends here, so `docker compose up --force-recreate` serves what the ledger says.
"""

import os
import shutil
import sys
import time
from pathlib import Path

from cli import pipeline
from cli.mirror import mirrored
from cli.submission import approved_by_gate
from offers.decisions.pseudonym import Pseudonyms
from offers.errors import LedgerError, OffersError, StorageError
from offers.governance.access import open_ledger, open_to_write
from offers.governance.approval import begin, finish
from offers.governance.release import fetch
from offers.settings import Settings
from offers.store.s3 import make_bucket

MODELS = Path("/mnt/models")


def main() -> None:
    """Fill the volumes of the services."""
    settings, contract = Settings.from_env(), os.environ["CONTRACT"]
    begin_bucket(settings)
    Pseudonyms.at(MODELS / "pseudonym.key")
    name = champion(contract, settings)
    serves = fetch(open_ledger(settings).store, name, settings.home)
    shutil.rmtree(MODELS / "release", ignore_errors=True)
    shutil.copytree(serves.path, MODELS / "release")
    print(f"{name} is served")


def champion(contract: str, settings: Settings) -> str:
    """Name the release that the ledger says to serve; the first one is made, and promoted.

    Raises
    ------
    LedgerError
        there are releases, and nobody has promoted one
    """
    ledger, signer = open_to_write(settings)
    if not any(release.act.contract == contract for release in ledger.state().releases.values()):
        bundle = Path(pipeline.run(approved_by_gate(contract), os.environ["SOURCE"])).name
        (first,) = (one.name for one in ledger.state().releases.values() if one.act.bundle == bundle)
        begin(ledger, signer, first)
    if (promoting := ledger.state().line(contract).promoting) is not None:
        with mirrored(settings):
            finish(ledger, signer, promoting)
    serves = ledger.state().champion(contract)
    if serves is None:
        advice = "'docker compose run --rm begin offers model list' names them, and 'offers model promote' promotes"
        raise LedgerError(f"nobody has promoted a release of {contract} yet: {advice}")
    return serves.name


def begin_bucket(settings: Settings) -> None:
    """Make the bucket, as soon as the store answers, which starts at the same time."""
    deadline = time.monotonic() + settings.patience
    while True:
        try:
            return make_bucket("offers", settings.s3)
        except StorageError as error:
            if not error.passes or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    try:
        main()
    except OffersError as error:
        sys.exit(f"offers: {error}")
