"""A campaign's shadow prices put into a catalogue, so that the ranker weighs what a contact takes from others."""

from pathlib import Path

import numpy as np
import yaml

from offers.batch.campaign import Constraints
from offers.files import os_errors, settle
from offers.policy.catalogue import Catalogue


def priced(catalogue: Catalogue, constraints: Constraints, prices: np.ndarray) -> Catalogue:
    """Add the price of each limit to the costs of the offers that use it.

    A price is in EUR per contact, so a cost expresses it exactly, as the factor `lever` could not. A minimum lowers the
    costs of its family, but not below 0.

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
    """Write a catalogue as YAML, whole or not at all; raises `StorageError` where the file can't be written."""
    content = catalogue.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    with os_errors(path):
        settle(path, lambda unfinished: unfinished.write_text(text, "utf-8"))
