"""What commands have left below the home: decision logs, experiments, scored customers, campaigns, watches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from offers.batch import delta
from offers.batch.parts import Manifest
from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.errors import CatalogueError, OffersError
from offers.experiments import experiment as experiments
from offers.experiments.experiment import Experiment
from offers.policy import catalogue as catalogues
from offers.policy.catalogue import Catalogue
from offers.settings import Settings
from offers.store.delta import DeltaTables
from offers.store.store import open_store
from serving.app.place import ledger, release_at
from serving.local import ROUTING
from serving.ranker import routing
from serving.ranker.routing_source import FOLDER

CAMPAIGNS, MOST_TABLES = "campaigns", 10
"""The folder of a bucket for scored customers, and how many tables of it are shown."""


def newest(paths: Iterable[Path]) -> list[Path]:
    """Sort existing paths, the newest first."""
    return sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)


def logs(settings: Settings, served: str = "") -> list[str]:
    """List the decision logs: that of the services that run, then those below the home, the newest first.

    Parameters
    ----------
    served : where the services' log is, empty where none run
    """
    marks = newest(path for depth in ("", "*/") for path in settings.home.glob(f"{depth}tables/decisions/_delta_log"))
    found = [str(mark.parents[1].resolve()) for mark in marks]
    return list(dict.fromkeys([served, *found] if served.startswith("s3://") else found))


def experiments_beside(log: str) -> dict[str, Experiment]:
    """Find the experiments of a decision log by title: those in force, and the files beside the tables.

    A file that is no experiment is left out. Of a log in a bucket the routings in it tell them.
    """
    if log.startswith("s3://"):
        return _in_force(log.rstrip("/").rpartition("/")[0])
    home, found = Path(log).parent, dict[str, Experiment]()
    for file in newest(home.glob("*.yaml")):
        try:
            experiment = experiments.load(str(file))
        except OffersError:
            continue
        found[f"{experiment.name}, from {file.name}"] = experiment
    if (path := home / "serve" / ROUTING).exists():
        found = {f"{one.name}, in force": one for one in routing.read(path).experiments} | found
    return found


def _in_force(bucket: str) -> dict[str, Experiment]:
    store = open_store(bucket, Settings.from_env())
    keys = [key for key in store.keys(f"{FOLDER}/") if key.endswith(".json") and key.count("/") == 1]
    routings = [routing.parse(store.read_bytes(key), f"{bucket}/{key}") for key in keys]
    return {f"{one.name}, in force": one for each in routings for one in each.experiments}


def candidates_beside(log: str) -> list[Path]:
    """List the files beside a decision log that are named as candidates."""
    return [] if log.startswith("s3://") else newest(Path(log).parent.glob("candidate*.yaml"))


@dataclass(frozen=True)
class Scored:
    """Scored customers with a score for each offer, and the campaigns beside them, the newest first.

    Attributes
    ----------
    where : path or URI of the table
    catalogue : name and version of the catalogue that scored them
    campaigns : name and text of each file
    """

    where: str
    contract: str
    catalogue: str
    campaigns: tuple[tuple[str, str], ...]


def below_home(where: str) -> str:
    """Name a record by its place below the home of records; any other place by its whole address."""
    return where.removeprefix(f"{Settings.from_env().home}/")


def scored(settings: Settings) -> dict[str, Scored]:
    """Find the tables that 'offers score --pairs' left below the home by path, the newest first."""
    found = dict[str, Scored]()
    for file in newest([*settings.home.glob("*/scored/manifest.json"), *settings.home.glob("scored/manifest.json")]):
        try:
            manifest = Manifest.model_validate_json(file.read_bytes())
        except ValidationError:
            continue
        if manifest.pairs:
            place = file.parent.resolve()
            beside = [(path.name, path.read_text("utf-8", "replace")) for path in newest(place.parent.glob("*.yaml"))]
            campaigns = tuple(one for one in beside if _is_campaign(one[1]))
            found[str(place)] = Scored(str(place), manifest.contract, manifest.catalogue, campaigns)
    return found | (scored_in(settings.ledger, settings) if settings.ledger.startswith("s3://") else {})


def scored_in(bucket: str, settings: Settings) -> dict[str, Scored]:
    """Find the scored tables of a bucket; those with the last names stand first, as names end in dates."""
    store, folder = open_store(bucket, settings), f"{bucket.rstrip('/')}/{CAMPAIGNS}"
    keys = store.keys(f"{CAMPAIGNS}/")
    names = {key.split("/")[1] for key in keys if key.split("/")[2:3] == ["_delta_log"]}
    files = [key for key in keys if key.endswith(".yaml") and key.count("/") == 1]
    texts = [(key.rpartition("/")[2], store.read_bytes(key).decode("utf-8", "replace")) for key in files]
    campaigns = tuple(one for one in texts if _is_campaign(one[1]))
    found = dict[str, Scored]()
    for name in sorted(names, reverse=True)[:MOST_TABLES]:
        manifest = delta.manifest_of(DeltaTables.at(folder, settings), name)
        if manifest is not None and manifest.pairs:
            where = f"{folder}/{name}"
            found[where] = Scored(where, manifest.contract, manifest.catalogue, campaigns)
    return found


def catalogue_of(table: Scored, settings: Settings) -> tuple[Catalogue, Contract]:
    """Find the catalogue that scored a table: a shipped one, that of a release, or a file beside the table.

    Raises
    ------
    CatalogueError
        it is in none of these places
    """
    for text, contract in _catalogues(table, settings):
        try:
            catalogue = catalogues.parse(text, contract)
        except OffersError:
            continue
        if f"{catalogue.name}-{catalogue.version}" == table.catalogue:
            return catalogue, contract
    raise CatalogueError(f"{table.where}: catalogue {table.catalogue} has scored it; put its file beside the table")


def _catalogues(table: Scored, settings: Settings) -> Iterator[tuple[str, Contract]]:
    contract = contracts.load(table.contract) if table.contract in contracts.shipped() else None
    if contract is not None and table.contract in catalogues.shipped():
        yield catalogues.text(table.contract), contract
    made = ledger(settings).state().releases.values()
    governed = [one.name for one in made if one.act.catalogue == table.catalogue and one.act.contract == table.contract]
    for release in (*newest(settings.home.glob(f"releases/{table.contract}-*")), *_copies(governed[-1:], settings)):
        contract = contracts.load(str(release / "bundle" / "contract.yaml"))
        yield (release / "catalogue.yaml").read_text("utf-8"), contract
    if contract is not None and "://" not in table.where:
        for file in newest(Path(table.where).parent.glob("*.yaml")):
            yield file.read_text("utf-8"), contract


def _copies(releases: Iterable[str], settings: Settings) -> Iterator[Path]:
    return (release_at(settings, name) for name in releases)


def _is_campaign(text: str) -> bool:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    return isinstance(content, dict) and "capacity" in content
