"""The contacts that customers had by earlier plans, and how many more they may have."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from offers.batch.campaign import Campaign
from offers.errors import CampaignError, DataError
from offers.files import os_errors


def most_contacts(customers: pa.ChunkedArray, campaign: Campaign, plans: Sequence[Path]) -> np.ndarray:
    """Find the most contacts that each customer may have in a campaign.

    Parameters
    ----------
    plans : files that `offers campaign` wrote for campaigns with a date

    Returns
    -------
    ndarray of int, shape (n_customers,)
        `per_customer`, or what the campaign's period leaves of it

    Raises
    ------
    CampaignError
        there are plans, but the campaign has no period
    DataError
        a file is no plan with a date
    """
    most = np.full(len(customers), campaign.per_customer, np.int64)
    if campaign.period is None or campaign.date is None:
        if plans:
            raise CampaignError(
                f"campaign {campaign.name}: expected key period, by which earlier plans count, got none"
            )
        return most.astype(np.uint8)
    first = campaign.date - dt.timedelta(days=campaign.period.days - 1)
    had = np.zeros(len(customers), np.int64)
    for plan in plans:
        counts = pc.value_counts(_contacts(plan, first, campaign.date))
        places = pc.index_in(customers, counts.field("values"))
        has_contacts = places.is_valid().to_numpy()
        numbers = counts.field("counts").to_numpy()
        had[has_contacts] += numbers[places.drop_null().to_numpy()]
    return np.clip(np.minimum(most, campaign.period.contacts - had), 0, None).astype(np.uint8)


def _contacts(plan: Path, first: dt.date, last: dt.date) -> pa.ChunkedArray:
    """Read the customers of a plan whose contacts are of these days, each as often as they have contacts."""
    try:
        with os_errors(plan), plan.open("rb") as file:
            table = parquet.read_table(file, columns=["customer", "date"])
        days = table["date"].cast(pa.date32())
        customers = table["customer"].cast(pa.string())
    except (pa.ArrowException, KeyError, ValueError):
        raise DataError(
            f"{plan}: expected a plan with columns customer and date, which 'offers campaign' writes where the campaign"
            " has a date, got another file; leave it out"
        ) from None
    return customers.filter(pc.and_(pc.greater_equal(days, first), pc.less_equal(days, last)))
