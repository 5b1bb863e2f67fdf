"""offers campaign: who gets which offer, within capacity and budget."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offers.wording import counted

if TYPE_CHECKING:
    from offers.batch.allocation import Plan
    from offers.batch.campaign import Constraints
    from offers.policy.catalogue import Offer


ScoredArgument = Annotated[str, typer.Argument(help="Directory or Delta table that 'offers score --pairs' wrote.")]
EarlierOption = Annotated[
    list[Path], typer.Option(help="An earlier plan, whose contacts count by the campaign's period; may be repeated.")
]
LeversOption = Annotated[
    Path | None, typer.Option(help="YAML file for the catalogue with the prices in its costs, for the ranker.")
]


def campaign(
    scored: ScoredArgument,
    campaign: Annotated[str, typer.Argument(help="YAML file with capacity, budget and minimum.")],
    output: Annotated[Path, typer.Argument(help="Parquet file for the plan.")],
    catalogue: Annotated[str, typer.Option(help="The catalogue that scored: a shipped one, or a YAML file.")],
    contract: Annotated[str, typer.Option("--contract", "-c", help="A shipped contract, or a YAML file.")] = "",
    page: Annotated[Path | None, typer.Option(help="HTML file for people: limits, exposure, who is left out.")] = None,
    earlier: EarlierOption = [],  # noqa: B006 - typer reads it, and makes a new one
    levers: LeversOption = None,
) -> None:
    """Plan a campaign: the contacts that earn the most within its limits, beside a bound on any plan."""
    from cli.policy import _contract_of
    from offers.batch.allocation import allocate
    from offers.batch.campaign import load
    from offers.batch.customers import CustomerSchema
    from offers.batch.earlier import most_contacts
    from offers.batch.exposure import Segments
    from offers.batch.left_out import left_out
    from offers.batch.levers import priced, write_catalogue
    from offers.batch.pairs import read_scored, write_plan
    from offers.contract import contract as contracts
    from offers.files import os_errors, settle
    from offers.policy import catalogue as catalogues
    from offers.reports.campaign import campaign_page
    from offers.settings import Settings

    data_contract = contracts.load(contract or _contract_of(catalogue))
    offer_catalogue = catalogues.load(catalogue, data_contract)
    schema = CustomerSchema(data_contract, "customer")
    limits, base = load(campaign, offer_catalogue.offers, [column.name for column in schema.protected])
    segments = Segments(limits.exposure)
    with read_scored(scored, offer_catalogue, segments, Settings.from_env(), output.absolute().parent) as pairs:
        constraints = segments.constraints(base, pairs.sizes)
        most = most_contacts(pairs.customers, limits, earlier)
        plan = allocate(pairs.scores, constraints, most=most)
        write_plan(plan, pairs, offer_catalogue, limits.date, output)
        if page:
            groups, at_limit = left_out(pairs.scores, constraints, plan, most), int((most == 0).sum())
            content = campaign_page(limits, offer_catalogue, constraints, plan, len(most), at_limit, groups)
            with os_errors(page):
                settle(page, lambda unfinished: unfinished.write_text(content, "utf-8"))
        if levers:
            write_catalogue(priced(offer_catalogue, base, plan.pricing.prices[: len(base.names)]), levers)
    _show(plan, constraints, offer_catalogue.offers)
    contacts = counted(len(plan.customer), "contact")
    typer.echo(f"{contacts} of {counted(len(pairs.scores), 'customer')}: {output}")
    for file in filter(None, (page, levers)):
        typer.echo(file)


def _show(plan: "Plan", constraints: "Constraints", offers: "tuple[Offer, ...]") -> None:
    from cli.screen import console, plain_table

    table = plain_table("offer", "contacts")
    for offer, contacts in zip(offers, plan.by_offer(len(offers)), strict=True):
        table.add_row(offer.id, str(contacts))
    console.print(table)
    usage = constraints.usage @ plan.contacts
    for place, (use, limit, price) in enumerate(zip(usage, constraints.limit, plan.pricing.prices, strict=True)):
        amount, unit = constraints.amount(place, abs(limit)), constraints.units[place]
        of, worth = f"of {amount} used", f"one more {unit} is worth {price:.2f} EUR"
        if limit < 0:
            of, worth = f"of at least {amount}", f"the last one costs {price:.2f} EUR"
        typer.echo(f"{constraints.names[place]}: {abs(use):,.10g} {of}; {worth}")
    short = 1 - plan.value / plan.pricing.bound if plan.pricing.bound else 0.0
    typer.echo(
        f"the plan is expected to earn {plan.value:.2f} EUR; no plan can earn more than {plan.pricing.bound:.2f} EUR,"
        f" and it is within {max(short, 0):.3%} of that"
    )
