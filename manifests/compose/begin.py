"""What `docker compose up` serves: a bucket, a key for pseudonyms, and the release that the ledger names, in a volume.

Where the ledger has no release yet, the training pipeline makes the first one. A promotion that somebody has begun on
page Model ends here, so `docker compose up --force-recreate` serves what the ledger says.
"""

import os
import shutil
import sys
import time
from pathlib import Path

from cli import pipeline
from offers.decisions.pseudonym import Pseudonyms
from offers.errors import LedgerError, OffersError, StorageError
from offers.governance.access import open_to_write
from offers.governance.approval import finish
from offers.governance.release import fetch
from offers.settings import Settings
from offers.store.s3 import make_bucket

MODELS = Path("/mnt/models")


def main() -> None:
    """Fill the volumes of the services."""
    settings, contract = Settings.from_env(), os.environ["CONTRACT"]
    begin_bucket(settings)
    Pseudonyms.at(MODELS / "pseudonym.key")
    ledger, signer = open_to_write(settings)
    if not any(release.act.contract == contract for release in ledger.state().releases.values()):
        pipeline.run(contract, os.environ["SOURCE"])
    if (promoting := ledger.state().line(contract).promoting) is not None:
        finish(ledger, signer, promoting)
    state = ledger.state()
    releases = [
        release
        for release in state.releases.values()
        if release.act.contract == contract and not (release.rejected or release.withdrawn)
    ]
    if not (state.champion(contract) or releases):
        raise LedgerError(f"every release of {contract} was rejected or withdrawn: train another, and promote it")
    serves = fetch(ledger.store, (state.champion(contract) or releases[-1]).name, settings.home)
    shutil.rmtree(MODELS / "release", ignore_errors=True)
    shutil.copytree(serves.path, MODELS / "release")
    print(f"{serves.name} is served")


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
