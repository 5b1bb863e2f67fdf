"""The page of a campaign: earnings and their bound, capacities and prices, exposure, and customers left out."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from offers.batch.allocation import Plan
from offers.batch.campaign import Campaign, Constraints
from offers.batch.left_out import LeftOut
from offers.policy.catalogue import Catalogue, Offer
from offers.reports import charts
from offers.reports.charts import drawn
from offers.reports.tables import Cell, Table, count, percent
from offers.reports.training import HTML

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def campaign_page(
    campaign: Campaign,
    catalogue: Catalogue,
    constraints: Constraints,
    plan: Plan,
    customers: int,
    at_limit: int,
    left: Sequence[LeftOut],
) -> str:
    """Write a plan as one HTML page that loads nothing.

    Parameters
    ----------
    customers : number of customers who could get an offer
    at_limit : number of those who had all contacts of the campaign's period by earlier plans
    left : from `offers.batch.left_out.left_out`
    """
    return HTML.get_template("campaign.html").render(
        campaign=campaign,
        catalogue=catalogue,
        customers=customers,
        at_limit=at_limit,
        contacted=len(np.unique(plan.customer)),
        contacts=len(plan.customer),
        value=plan.value,
        bound=plan.pricing.bound,
        gap=max(0.0, 1 - plan.value / plan.pricing.bound) if plan.pricing.bound else 0.0,
        limits=limits_table(constraints, plan),
        exposures=exposure_tables(catalogue.offers, plan),
        left=left_out_table(constraints, left, customers),
        charts=drawn([(spoken_prices(constraints, plan), partial(price_chart, constraints, plan))])
        if constraints.names
        else [],
    )


def price_chart(constraints: Constraints, plan: Plan) -> "Figure":
    """Draw the price of each limit."""
    return charts.prices(
        constraints.names, constraints.units, plan.pricing.prices.tolist(), constraints.limit.tolist()
    )  # fmt: skip


def spoken_prices(constraints: Constraints, plan: Plan) -> str:
    """Say the price of each limit."""
    pairs = zip(constraints.names, plan.pricing.prices.tolist(), strict=True)
    return f"Price of each limit: {'; '.join(f'{name} {price:.2f} EUR' for name, price in pairs)}"


def limits_table(constraints: Constraints, plan: Plan) -> Table:
    """Tabulate what the plan uses of each limit, and what one more unit of it would be worth."""
    uses = constraints.usage @ plan.contacts
    rows = []
    for place, (use, limit, price) in enumerate(zip(uses, constraints.limit, plan.pricing.prices, strict=True)):
        name, unit = constraints.names[place], constraints.units[place]
        worth = f"one more {unit} is worth {price:.2f} EUR" if limit >= 0 else f"the last one costs {price:.2f} EUR"
        share = abs(use / limit) if limit else 0.0
        amount = f"{'at least ' if limit < 0 else ''}{constraints.amount(place, abs(limit))}"
        cells = f"{abs(use):,.10g}", amount, percent(share), f"{price:.2f}"
        shades = 0.0, 0.0, min(1.0, share), 0.0
        rows.append(
            (Cell(name, note=worth), *(Cell(text, shade=shade) for text, shade in zip(cells, shades, strict=True)))
        )
    head = Cell("Limit"), Cell("Used"), Cell("Of"), Cell("Share", mark="bar"), Cell("Price", note="EUR a unit")
    return Table(head, tuple(rows))


def exposure_tables(offers: Sequence[Offer], plan: Plan) -> list[tuple[str, Table]]:
    """Count contacts by offer, by family, and by each attribute that offers set."""
    keys = {"offer": [offer.id for offer in offers], "family": [offer.family for offer in offers]}
    for column in dict.fromkeys(name for offer in offers for name in offer.attributes):
        keys[column] = [str(offer.attributes.get(column, "–")) for offer in offers]
    contacts = plan.by_offer(len(offers))
    return [(name, _exposure(name, values, contacts)) for name, values in keys.items() if len(set(values)) > 1]


def _exposure(name: str, values: Sequence[str], contacts: np.ndarray) -> Table:
    total = max(1, int(contacts.sum()))
    sums = dict.fromkeys(values, 0)
    for value, number in zip(values, contacts.tolist(), strict=True):
        sums[value] += number
    head = Cell(name.capitalize()), Cell("Contacts"), Cell("Share", mark="bar")
    rows = sorted(sums.items(), key=lambda item: -item[1])
    return Table(
        head,
        tuple((Cell(value), Cell(count(n)), Cell(percent(n / total), shade=n / total)) for value, n in rows),
    )


def left_out_table(constraints: Constraints, left: Sequence[LeftOut], customers: int) -> Table:
    """Tabulate the customers without a contact by the limit that keeps them out."""
    head = Cell("Why"), Cell("Customers"), Cell("Share", mark="bar"), Cell("Mean of their best offer", note="EUR")
    rows = []
    for group in left:
        why = (
            "No room was left"
            if group.limit is None
            else f"Others earn more by each {constraints.units[group.limit]} of {constraints.names[group.limit]}"
        )
        share = group.customers / customers
        cells = Cell(count(group.customers)), Cell(percent(share), shade=share), Cell(f"{group.earning:.2f}")
        rows.append((Cell(why), *cells))
    return Table(head, tuple(rows))
