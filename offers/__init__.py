"""Which offer a bank should make to which customer, kept right while the world changes.

This is the face of the library: everything that a program of yours needs by name. The loaders are here; the other names
are imported when they are first asked for, so that `import offers` alone loads nothing.

Examples
--------
`path` is the directory of a bundle that was trained on the contract `store-card`.

>>> import offers
>>> bundle = offers.load_bundle(path)
>>> customers = offers.World(bundle.contract, seed=5).sample(4).frame
>>> bundle.model.propensity(customers).round(2).tolist()
[0.23, 0.37, 0.37, 0.43]
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offers.bundle.bundle import Bundle
    from offers.contract.contract import Contract
    from offers.data.dataset import Dataset
    from offers.drift.examination import examine
    from offers.drift.reference import Reference
    from offers.evaluation.evaluate import evaluate
    from offers.policy.arbitration import Policy
    from offers.policy.catalogue import Catalogue
    from offers.simulation.world import World

__all__ = (
    "Bundle",
    "Catalogue",
    "Contract",
    "Dataset",
    "Policy",
    "Reference",
    "World",
    "__version__",
    "evaluate",
    "examine",
    "load_bundle",
    "load_catalogue",
    "load_contract",
)

__version__ = "0.1.0"

_MODULES = {
    "Bundle": "offers.bundle.bundle",
    "Catalogue": "offers.policy.catalogue",
    "Contract": "offers.contract.contract",
    "Dataset": "offers.data.dataset",
    "Policy": "offers.policy.arbitration",
    "Reference": "offers.drift.reference",
    "World": "offers.simulation.world",
    "evaluate": "offers.evaluation.evaluate",
    "examine": "offers.drift.examination",
}


def load_contract(where: str | Path) -> "Contract":
    """Load a contract.

    Parameters
    ----------
    where : the name of a shipped contract, the path of a YAML file, or YAML text

    Raises
    ------
    ContractError
        there is no such contract, or a key is unknown, missing or has a wrong value: names line and key

    Examples
    --------
    >>> contract = load_contract("bank-marketing")
    >>> contract.target.positive
    'yes'
    >>> [column.name for column in contract.columns if column.role == "leakage"]
    ['duration']
    """
    from offers.contract import contract

    return contract.load(str(where))


def load_catalogue(where: str | Path, contract: "Contract") -> "Catalogue":
    """Load a catalogue, checked against the contract whose columns its rules use.

    Parameters
    ----------
    where : the name of a shipped catalogue, the path of a YAML file, or YAML text

    Raises
    ------
    CatalogueError
        there is no such catalogue, a key is unknown, missing or has a wrong value, or it does not fit the contract

    Examples
    --------
    >>> catalogue = load_catalogue("personal-loan", load_contract("personal-loan"))
    >>> catalogue.policy.k
    2
    """
    from offers.policy import catalogue

    return catalogue.load(str(where), contract)


def load_bundle(where: str | Path) -> "Bundle":
    """Load a bundle, after checking every hash and reproducing its golden rows.

    Parameters
    ----------
    where : the bundle's directory, its name if it is in the local store, or its s3:// URI
        store and credentials come from the environment, as they do for the commands

    Raises
    ------
    BundleError
        says what is missing, changed, or scores differently

    Examples
    --------
    >>> bundle = load_bundle(path)
    >>> bundle.contract.name, bundle.manifest.data.rows, bundle.verdict.passed
    ('store-card', 600, True)
    """
    from offers.bundle.location import open_bundle
    from offers.settings import Settings

    return open_bundle(str(where), Settings.from_env())


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'offers' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
