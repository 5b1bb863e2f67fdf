"""An MLflow in memory, as far as the mirror asks it; fate may strike before and after each write."""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from offers.errors import ServiceError
from tests.support.fate import Fate


class _Page(list[Any]):
    token = None


class MlflowDouble:
    """Runs, versions and aliases of one experiment and its model."""

    def __init__(self, fate: Fate) -> None:
        self.fate = fate
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, str]] = {}
        self.statuses: dict[str, str] = {}
        self.models: dict[str, dict[str, str]] = {}
        self.aliases: dict[str, str] = {}
        self.versions: dict[str, dict[str, str]] = {}

    def _write(self, change: Callable[[], Any]) -> Any:
        self.fate.moment(ServiceError)
        result = change()
        self.fate.moment(ServiceError)
        return result

    def search_experiments(self) -> list[Any]:
        self.fate.moment(ServiceError)
        return [SimpleNamespace(experiment_id=name) for name in self.experiments]

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=name) if name in self.experiments else None

    def create_experiment(self, name: str, artifact_location: str | None) -> str:
        return str(self._write(lambda: self.experiments.setdefault(name, name)))

    def search_runs(self, experiments: Sequence[str], query: str, max_results: int, page_token: str | None) -> _Page:
        return _Page(self.get_run(name) for name in self.runs)

    def get_run(self, name: str) -> Any:
        info = SimpleNamespace(run_id=name, artifact_uri=f"memory/{name}")
        return SimpleNamespace(info=info, data=SimpleNamespace(tags=dict(self.runs[name])))

    def create_run(self, experiment: str, start_time: int, tags: Mapping[str, str], run_name: str) -> Any:
        name = f"run-{len(self.runs)}"

        def create() -> None:
            self.runs[name], self.statuses[name] = dict(tags), "RUNNING"

        self._write(create)
        return self.get_run(name)

    def set_terminated(self, run: str, status: str, at: int) -> None:
        self._write(lambda: self.statuses.update({run: status}))

    def log_batch(self, run: str, metrics: object, parameters: object, tags: Sequence[Any]) -> None:
        self._write(lambda: self.runs[run].update({tag.key: tag.value for tag in tags}))

    def search_registered_models(self, query: str) -> list[str]:
        return [name for name in self.models if query == f"name = '{name}'"]

    def create_registered_model(self, name: str) -> None:
        self._write(lambda: self.models.setdefault(name, {}))

    def get_registered_model(self, name: str) -> Any:
        return SimpleNamespace(aliases=dict(self.aliases), tags=dict(self.models[name]))

    def set_registered_model_tag(self, name: str, tag: str, value: str) -> None:
        self._write(lambda: self.models[name].update({tag: value}))

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self._write(lambda: self.aliases.update({alias: version}))

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        self._write(lambda: self.aliases.pop(alias))

    def search_model_versions(self, query: str, max_results: int, page_token: str | None) -> _Page:
        return _Page(self._version(number) for number in self.versions)

    def create_model_version(self, name: str, source: str, run: str, tags: Mapping[str, str]) -> Any:
        number = str(len(self.versions) + 1)
        self._write(lambda: self.versions.update({number: dict(tags)}))
        return self._version(number)

    def set_model_version_tag(self, name: str, number: str, tag: str, value: str) -> None:
        self._write(lambda: self.versions[number].update({tag: value}))

    def _version(self, number: str) -> Any:
        return SimpleNamespace(name="shop", version=number, tags=dict(self.versions[number]))
