"""What may befall a process between any two calls: its store is away, or it is killed."""

from offers.errors import OffersError, StorageError


class Killed(BaseException):
    """The process ends here, by SIGKILL: no handler of errors sees it."""


class Fate:
    """Lets a number of moments pass, then strikes once."""

    def __init__(self) -> None:
        self._kind = ""
        self._passes = 0

    def arm(self, kind: str, passes: int) -> None:
        """Strike after so many moments; kind is "killed" or "away"."""
        self._kind, self._passes = kind, passes

    def spare(self) -> None:
        """Strike no more."""
        self._kind = ""

    def moment(self, error: type[OffersError] | None = StorageError) -> None:
        """A moment before or after a call; what is away is told by `error`, and by None not at all."""
        if not self._kind:
            return
        self._passes -= 1
        if self._passes >= 0:
            return
        kind, self._kind = self._kind, ""
        if kind == "killed":
            raise Killed
        if error is not None:
            raise error("it is away")


class FatefulStore:
    """A store in memory; fate may strike before and after each of its calls."""

    uri = "memory"

    def __init__(self, fate: Fate, objects: dict[str, bytes] | None = None) -> None:
        self.fate = fate
        self.objects: dict[str, bytes] = {} if objects is None else objects

    def keys(self, prefix: str = "") -> list[str]:
        self.fate.moment()
        return sorted(key for key in self.objects if key.startswith(prefix))

    def read_bytes(self, key: str) -> bytes:
        self.fate.moment()
        return self.objects[key]

    def create(self, key: str, content: bytes) -> bool:
        self.fate.moment()
        created = key not in self.objects
        self.objects.setdefault(key, content)
        # The answer may be lost although the object is there.
        self.fate.moment()
        return created

    def get_directory(self, key: str, local: object) -> None:
        raise StorageError(f"{key}: no directory was ever put here")
