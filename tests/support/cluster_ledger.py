"""A bucket with a ledger and releases, as a cluster has them, and the keys of those who write into it."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from offers.governance.approval import approve
from offers.governance.entries import Entry, KeyAdded, Role
from offers.governance.keys import Signer, new_key
from offers.governance.ledger import Ledger, enrol
from offers.governance.registration import register
from offers.governance.release import make
from offers.settings import Settings
from offers.store.s3 import S3Store, connect
from tests.support.s3_double import S3Double
from tests.support.warranties import WARRANTIES

PEOPLE = {"root": "admin", "trainer": "trainer", "ann": "approver", "bob": "approver", "olga": "operator"}


class ClusterLedger:
    """The ledger of a bucket; `directory` holds keys by owner, such as `olga.pem`, and copies of releases."""

    def __init__(self, s3: S3Double, bucket: str, directory: Path) -> None:
        self.store = S3Store(connect(s3.settings), bucket, "")
        self.ledger, self.directory = Ledger(self.store), directory
        self.keys = {name: new_key(directory / f"{name}.pem") for name in PEOPLE}
        enrol(self.ledger, self.keys["root"], ("admin",))
        for name, role in PEOPLE.items():
            if name != "root":
                self._add(self.keys[name], cast(Role, role))
        self.settings = Settings(
            home=directory / "home", ledger=f"s3://{bucket}", key=directory / "olga.pem", s3=s3.settings
        )

    def release(self, bundle: Path, value: int = 30, approvers: Sequence[str] = ("ann", "bob")) -> str:
        """A release of a bundle with the warranties of some value, registered and approved."""
        text = WARRANTIES.replace("value: 30", f"value: {value}", 1)
        name = register(self.ledger, self.keys["trainer"], make(self.directory / "made", bundle, text))
        for approver in approvers:
            approve(self.ledger, self.keys[approver], name, {})
        return name

    def uri(self, release: str) -> str:
        return f"{self.store.uri}/releases/{release}"

    def kinds(self, number: int) -> list[str]:
        """The kinds of the newest entries."""
        return [entry.act.kind for entry in self.entries()[-number:]]

    def entries(self) -> list[Entry]:
        return Ledger(self.store).entries()

    def _add(self, signer: Signer, role: Role) -> None:
        public = signer.public
        act = KeyAdded(key=public.id, public=public.text, name=signer.name, roles=(role,))
        self.ledger.write(self.keys["root"], lambda state: act)
