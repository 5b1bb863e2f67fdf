"""The evaluation of a market's models, as tables for a terminal and as one HTML page."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure as Drawing

from offers.contract.market import Market
from offers.data.rates import Rates
from offers.evaluation.figures import Figure
from offers.reports import tables
from offers.reports.drawing import CEILING, Plot, svg
from offers.reports.tables import Cell, Row, Table, count, figure, percent
from offers.reports.training import HTML
from offers.retrieval.figures import MarginResult, MarketEvaluation, MethodResult
from offers.retrieval.measuring import FIRST

RECALL = f"recall@{FIRST}"


def headline(evaluation: MarketEvaluation) -> str:
    """Say in one sentence how candidates are found, and why."""
    verdict = evaluation.verdict
    if verdict.passed:
        return "Towers find the candidates: the gate's rules hold."
    if all(rule.passed is None for rule in verdict.rules):
        return "The contract does without towers: the ranker scores all products."
    broken = "; ".join(
        f"{rule.rule} {figure(rule.measured, 3)}, asked {rule.threshold}" for rule in verdict.rules if not rule.passed
    )
    if evaluation.margin is None:
        return f"Retrieval does not pay with {evaluation.products} products: the ranker scores all of them."
    return f"The gate refused the towers, so the ranker scores all products: {broken}."


def method_table(evaluation: MarketEvaluation) -> Table:
    """Tabulate the ways of finding products, the one with the highest recall first."""
    names = list(evaluation.methods[0].figures)
    head = ("Way", *names, f"Coverage@{FIRST}", f"Cold users, {RECALL}", f"New products, {RECALL}", "Towers ahead by")
    order = sorted(evaluation.methods, key=lambda method: -method.figures[RECALL].value)
    return Table(tuple(map(Cell, head)), tuple(_method(one, evaluation) for one in order))


def ranker_table(evaluation: MarketEvaluation) -> Table:
    """Tabulate how well the ranker foretells acceptance."""
    ranker = evaluation.ranker
    head = ("Ranker", "Views", "Accepted", "Mean propensity", "Log-loss", "ECE", "AUC")
    row = (
        Cell("later views", "outcome known"),
        Cell(count(ranker.views)),
        Cell(percent(ranker.accepted)),
        Cell(percent(ranker.mean_propensity)),
        Cell(figure(ranker.log_loss, 4), f"the mean rate has {figure(ranker.base_log_loss, 4)}"),
        Cell(figure(ranker.ece, 4)),
        Cell(figure(ranker.auc)),
    )
    return Table(tuple(map(Cell, head)), (row,))


def margin_table(margin: MarginResult) -> Table:
    """Tabulate what candidates keep of the margin of all products."""
    head = ("Scored by the ranker", "Users", "Margin kept", "Margin kept, in truth", "CPU seconds")
    some = (
        Cell(f"{margin.candidates} candidates"),
        Cell(count(margin.users)),
        _interval(margin.kept),
        _interval(margin.kept_in_truth),
        Cell(figure(margin.seconds, 2)),
    )
    return Table(
        tuple(map(Cell, head)),
        (
            some,
            (
                Cell("all products"),
                Cell(count(margin.users)),
                Cell("1"),
                Cell("1" if margin.kept_in_truth else tables.figure(None)),
                Cell(figure(margin.seconds_of_all, 2)),
            ),
        ),
    )


def rates_table(market: Market, head: str, rates: Sequence[Rates]) -> Table:
    """Tabulate how many views lead to each later event: of a click the click-through rate, of the last the conversion.

    Parameters
    ----------
    head : what has the rates: a product, or a place
    """
    first, *later = (event.name for event in market.events)
    rows = (
        (Cell(one.name), Cell(count(one.views)), *(Cell(f"{one.rates[event]:.2%}") for event in later)) for one in rates
    )
    return Table(tuple(map(Cell, (head, f"{first}s", *later))), tuple(rows))


def market_report(market: Market, evaluation: MarketEvaluation, bundle: str = "") -> str:
    """Write the report of a market's training as one HTML page that loads nothing.

    Parameters
    ----------
    bundle : its name; empty while there is none
    """
    return HTML.get_template("market.html").render(
        market=market,
        evaluation=evaluation,
        bundle=bundle,
        headline=headline(evaluation),
        good=evaluation.verdict.passed or evaluation.margin is None,
        methods=method_table(evaluation),
        plots=[_recalls(evaluation)],
        ranker=ranker_table(evaluation),
        margin=margin_table(evaluation.margin) if evaluation.margin else None,
        gate=tables.gate(evaluation.verdict),
        rates=[
            rates_table(market, head, rates)
            for head, rates in (("Product", evaluation.product_rates), ("Place", evaluation.place_rates))
            if rates
        ],
        first=FIRST,
    )


def _method(method: MethodResult, evaluation: MarketEvaluation) -> Row:
    return (
        Cell(method.name, f"{count(method.views)} views"),
        *(_interval(one) for one in method.figures.values()),
        Cell(percent(method.coverage)),
        _interval(method.cold_users),
        _interval(method.new_products),
        _interval(evaluation.ahead.get(method.name), "+"),
    )


def _interval(value: Figure | None, sign: str = "-") -> Cell:
    if value is None:
        return Cell(figure(None))
    note = "" if value.low is None or value.high is None else f"{value.low:{sign}.3f} to {value.high:{sign}.3f}"
    return Cell(f"{value.value:{sign}.3f}", note)


def _recalls(evaluation: MarketEvaluation) -> Plot:
    methods = sorted(evaluation.methods, key=lambda method: method.figures[RECALL].value)
    values = [method.figures[RECALL] for method in methods]

    def draw(drawing: Drawing) -> None:
        axes: Any = drawing.add_subplot()
        colours = ["#1f77c9" if method.name == "towers" else "#7d8590" for method in methods]
        axes.barh([method.name for method in methods], [one.value for one in values], color=colours, height=0.6)
        for place, one in enumerate(values):
            axes.plot([one.low, one.high], [place, place], **{**CEILING, "linestyle": "-"})
        axes.set(xlabel=RECALL, xlim=(0, 1))
        axes.grid(visible=False, axis="y")

    texts = ", ".join(f"{method.name} {one.value:.3f}" for method, one in zip(methods, values, strict=True))
    caption = f"Share of later views whose product is among the first {FIRST}; a line is the 95 % interval over users."
    return Plot("Recall by way", f"Bars of {RECALL}: {texts}", caption, svg("recall", draw))
