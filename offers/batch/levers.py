"""Shadow prices as levers of a catalogue: the ranker then counts what a contact takes from others."""

from pathlib import Path

import numpy as np
import yaml

from offers.batch.campaign import Constraints
from offers.files import os_errors, settle
from offers.policy.catalogue import Catalogue


def priced(catalogue: Catalogue, constraints: Constraints, prices: np.ndarray) -> Catalogue:
    """The catalogue with the price of each limit in the costs of the offers that use it.

    A price is EUR a contact, so a cost says it exactly, where the factor `lever` could not. A minimum lowers the costs
    of its family, to 0 at least.

    Parameters
    ----------
    prices : ndarray, shape (n_constraints,), EUR for a unit of each constraint
    """
    costs = np.array([offer.cost for offer in catalogue.offers]) + prices @ constraints.usage
    offers = tuple(
        offer.model_copy(update={"cost": round(max(0.0, cost), 4)})
        for offer, cost in zip(catalogue.offers, costs.tolist(), strict=True)
    )
    return Catalogue(**{name: getattr(catalogue, name) for name in type(catalogue).model_fields} | {"offers": offers})


def write_catalogue(catalogue: Catalogue, path: Path) -> None:
    """Write a catalogue as YAML, whole or not at all; raises `StorageError` where that can't be done."""
    content = catalogue.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    with os_errors(path):
        settle(path, lambda unfinished: unfinished.write_text(text, "utf-8"))
