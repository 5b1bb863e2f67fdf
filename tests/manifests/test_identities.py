"""What each pod may do with the object store: by prefix, as SeaweedFS enforces it and as policies for IAM say it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from offers.errors import StorageError
from offers.settings import S3Settings, Settings
from offers.store.s3 import make_bucket
from offers.store.store import Store, open_store
from tests.support.seaweedfs import seaweedfs

ROOT = Path(__file__).resolve().parents[2]
IDENTITIES = ROOT / "manifests" / "object-store" / "identities.json"
POLICIES = ROOT / "manifests" / "overlays" / "aws" / "policies"
WRITES = {
    "serving": {"tables"},
    "recommender": {"tables"},
    "pages": {"releases", "ledger"},
    "retraining-trigger": {"ledger"},
    "upkeep": {"tables"},
    "pipeline": {"bundles", "releases", "ledger", "monitoring", "routing", "campaigns", "layers"},
    "spark": {"campaigns"},
}
READS = {
    "serving": {"bundles", "releases", "routing"},
    "recommender": {"releases", "routing"},
    "pages": {"bundles", "routing", "monitoring", "tables", "campaigns"},
    "retraining-trigger": {"bundles", "releases"},
    "upkeep": set(),
    "pipeline": {"scored", "tables", "customers", "markets"},
    "spark": {"bundles", "releases", "customers"},
}
PREFIXES = sorted(set.union(*WRITES.values(), *READS.values()))


def identities() -> list[dict[str, Any]]:
    """Ours, each with keys made of its name."""
    described: list[dict[str, Any]] = json.loads(IDENTITIES.read_text("utf-8"))["identities"]
    return [one | {"credentials": [{"accessKey": one["name"], "secretKey": one["name"] * 4}]} for one in described]


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs"), identities=identities()) as settings:
        make_bucket("offers", settings)
        whole = open_store("s3://offers", Settings(s3=settings))
        for prefix in PREFIXES:
            whole.write_bytes(f"{prefix}/there", b"content")
        yield settings


@pytest.mark.parametrize("role", WRITES)
def test_a_role_reads_and_writes_its_prefixes_alone(role: str, owner: S3Settings) -> None:
    name = f"offers-{role}"
    keys = owner.model_copy(update={"access_key": name, "secret_key": SecretStr(name * 4), "region": "us-east-1"})
    store = open_store("s3://offers", Settings(s3=keys))
    written = {prefix for prefix in PREFIXES if _allowed(store, prefix, write=True)}
    assert written == WRITES[role]
    assert {prefix for prefix in PREFIXES if _allowed(store, prefix, write=False)} == WRITES[role] | READS[role]
    with pytest.raises(StorageError, match="access denied"):
        open_store("s3://elsewhere", Settings(s3=keys)).write_bytes("scored/x", b"")


def _allowed(store: Store, prefix: str, write: bool) -> bool:
    try:
        if write:
            store.write_bytes(f"{prefix}/new", b"content")
        else:
            store.read_bytes(f"{prefix}/there")
    except StorageError as error:
        if "access denied" not in str(error):
            raise
        return False
    return True


@pytest.mark.parametrize("role", WRITES)
def test_policies_for_iam_say_the_same(role: str) -> None:
    statements = {s["Sid"]: s for s in json.loads((POLICIES / f"{role}.json").read_text("utf-8"))["Statement"]}
    written = {resource.split("/")[1] for resource in statements["Write"]["Resource"]}
    # Only upkeep removes files.
    actions = ["s3:PutObject", "s3:DeleteObject"] if role == "upkeep" else "s3:PutObject"
    assert (statements["Write"]["Action"], written) == (actions, WRITES[role])
    read = {resource.split("/")[1] for resource in statements["Read"]["Resource"]}
    assert (statements["Read"]["Action"], read) == ("s3:GetObject", WRITES[role] | READS[role])
