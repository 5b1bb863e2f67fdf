"""Where the ranker's routing stands: a file of this machine, or an object that all rankers of a cluster read.

The object of a service is `routing/NAME.json` of a store, so its address is `s3://bucket/prefix/routing/NAME.json`. The
paths in it are keys of the same store: `directory` is `releases/NAME`, and a `catalogue` is an object that never
changes. The ranker keeps copies of both below a directory of its own, and verifies a release before it is used.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Protocol

from offers.errors import ServiceError
from offers.experiments.experiment import Experiment, ExperimentArm
from offers.files import os_errors
from offers.governance import release as releases
from offers.governance.market_release import load_any
from offers.settings import Settings
from offers.store.store import Store, open_store
from serving.ranker import routing as routings
from serving.ranker.routing import Arm, Routing

FOLDER, CATALOGUES = "routing", "routing/catalogues"


class RoutingSource(Protocol):
    """Where a routing is read and changed.

    Attributes
    ----------
    where : its address for people
    seconds : between two looks
    """

    where: str
    seconds: float

    def read(self) -> Routing | None:
        """Read the routing as it is written; None where an object is not there yet.

        Raises
        ------
        ServiceError
            there is no file, or the content breaks its form
        StorageError
            the store does not answer
        """
        ...

    def local(self, routing: Routing) -> Routing:
        """The same routing with paths of this machine; raises BundleError or StorageError where a part can't be had."""
        ...

    def stored(self, experiment: Experiment) -> Experiment:
        """The same experiment as a routing here names it; what it needs is put where rankers find it."""
        ...

    def update(self, change: Callable[[Routing], Routing]) -> None:
        """Change the routing that is there; raises ServiceError where there is none."""
        ...


class RoutingFile:
    """A routing file, whose paths are those of this machine."""

    def __init__(self, path: Path, seconds: float = 0.2) -> None:
        self.path, self.where, self.seconds = path, str(path), seconds

    def read(self) -> Routing | None:
        return routings.read(self.path)

    def local(self, routing: Routing) -> Routing:
        return routing

    def stored(self, experiment: Experiment) -> Experiment:
        return experiment

    def update(self, change: Callable[[Routing], Routing]) -> None:
        routings.update(self.path, change)


class RoutingObject:
    """A routing as an object of a store.

    A store has no lock, so changes are numbered objects, `routing/NAME/000000001.json`, each created exclusively: where
    two writers change a routing at once, one wins, and the other changes what that one has written. Readers need the
    newest alone, of which `routing/NAME.json` is a copy.

    Parameters
    ----------
    key : of the object, as in routing/offers.json
    home : directory for copies of releases and catalogues
    """

    def __init__(self, store: Store, key: str, home: Path, seconds: float = 1.0) -> None:
        self.store, self.key, self.home, self.seconds = store, key, home, seconds
        self.where = f"{store.uri}/{key}"
        self._copied = 0

    def read(self) -> Routing | None:
        if not self.store.exists(self.key):
            return None
        return routings.parse(self.store.read_bytes(self.key), self.where)

    def replace(self, change: Callable[[Routing | None], Routing]) -> None:
        """Write the routing that follows on the present one, or on None; a reader sees the old one or the new one."""
        while True:
            number = self._newest()
            present = self._numbered(number) if number else self.read()
            routing = change(present)
            if routing == present or self.store.create(self._key_of(number + 1), routing.written().encode()):
                break
        # Whoever won before may have been killed before its copy, or be about to make it after ours.
        while (number := self._newest()) > self._copied:
            self.store.write_bytes(self.key, self.store.read_bytes(self._key_of(number)))
            self._copied = number

    def local(self, routing: Routing) -> Routing:
        return routing.model_copy(
            update={
                "arms": tuple(self._local(arm) for arm in routing.arms),
                "experiments": tuple(
                    one.model_copy(update={"arms": tuple(self._local_member(arm) for arm in one.arms)})
                    for one in routing.experiments
                ),
            }
        )

    def stored(self, experiment: Experiment) -> Experiment:
        arms = tuple(arm.model_copy(update=self._keys(arm)) for arm in experiment.arms)
        return experiment.model_copy(update={"arms": arms})

    def update(self, change: Callable[[Routing], Routing]) -> None:
        def changed(present: Routing | None) -> Routing:
            if present is None:
                raise ServiceError(f"{self.where}: there is no routing; a promotion writes it")
            return change(present)

        self.replace(changed)

    def _newest(self) -> int:
        numbers = self.store.keys(f"{self.key.removesuffix('.json')}/")
        return int(PurePosixPath(max(numbers)).stem) if numbers else 0

    def _numbered(self, number: int) -> Routing:
        key = self._key_of(number)
        return routings.parse(self.store.read_bytes(key), f"{self.store.uri}/{key}")

    def _key_of(self, number: int) -> str:
        return f"{self.key.removesuffix('.json')}/{number:09}.json"

    def _keys(self, arm: ExperimentArm) -> dict[str, Path]:
        keys = dict[str, Path]()
        if arm.catalogue is not None:
            with os_errors(arm.catalogue):
                content = arm.catalogue.read_bytes()
            key = f"{CATALOGUES}/{hashlib.sha256(content).hexdigest()[:16]}.yaml"
            self.store.create(key, content)
            keys["catalogue"] = Path(key)
        if arm.directory is not None:
            release = load_any(arm.directory)
            releases.store_release(self.store, release)
            keys["directory"] = Path(releases.key(release.name))
        return keys

    def _local(self, arm: Arm) -> Arm:
        catalogue = arm.catalogue and self._catalogue(arm.catalogue)
        return arm.model_copy(update={"directory": self._release(arm.directory), "catalogue": catalogue})

    def _local_member(self, arm: ExperimentArm) -> ExperimentArm:
        directory, catalogue = arm.directory, arm.catalogue
        own = {
            "directory": directory and self._release(directory),
            "catalogue": catalogue and self._catalogue(catalogue),
        }
        return arm.model_copy(update=own)

    def _release(self, directory: Path) -> Path:
        if directory.as_posix() != releases.key(directory.name):
            raise ServiceError(f"{self.where}: directory: expected releases/NAME of the same store, got {directory}")
        path = releases.local(self.store, directory.name, self.home)
        releases.verify(path)
        return path

    def _catalogue(self, key: Path) -> Path:
        content = self.store.read_bytes(key.as_posix())
        path = self.home / "catalogues" / f"{hashlib.sha256(content).hexdigest()}.yaml"
        with os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return path


def open_routing(address: str, settings: Settings, home: Path) -> RoutingSource:
    """Open the routing at the path of a file, or at the address of an object; nothing is read yet.

    Raises
    ------
    ServiceError
        an address that is not STORE/routing/NAME.json
    StorageError
        the store's address or endpoint is wrong
    """
    if "://" not in address:
        return RoutingFile(Path(address))
    store, folder, name = address.rpartition(f"/{FOLDER}/")
    if not folder or "/" in name or not name.endswith(".json"):
        raise ServiceError(f"{address}: expected a file, or an object such as s3://bucket/{FOLDER}/offers.json")
    return RoutingObject(open_store(store, settings), f"{FOLDER}/{name}", home)
