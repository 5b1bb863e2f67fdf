"""Reports of a training: the training and validation reports in HTML, the gate and the model card in Markdown."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from offers.contract.column import Role
from offers.contract.contract import Contract
from offers.data.validation import Violation
from offers.evaluation.figures import Evaluation
from offers.evaluation.gate import GateVerdict, RuleVerdict
from offers.reports import charts, tables
from offers.reports.charts import Chart
from offers.reports.learners import learners
from offers.reports.tables import Table
from offers.reports.update import changes
from offers.wording import counted

_PSI_BINS = 10


class _Markdown(str):
    """Text that is Markdown already; all other text is escaped before it goes into a Markdown template."""


def training_report(
    contract: Contract,
    evaluation: Evaluation,
    predictions: pd.DataFrame,
    verdict: GateVerdict | None,
    facts: Mapping[str, str] = {},
) -> str:
    """Write the report of a training run as one HTML page that loads nothing.

    Parameters
    ----------
    predictions : the table that `offers.evaluation.evaluate.evaluate` returns with the evaluation
    verdict : None where no gate was asked
    facts : further facts about the run (fingerprint of the data, parameters), shown unchanged at the end
    """
    from offers.reports import effects, plots

    smallest = contract.evaluation.smallest_segment
    return HTML.get_template("training.html").render(
        context(contract, evaluation, verdict, facts),
        windows=tables.windows(evaluation, _within(predictions, smallest)),
        curves=plots.curves(predictions, evaluation, contract.evaluation.contact_share),
        over_time=plots.over_time(predictions, smallest),
        months_left_out=plots.left_out(predictions, smallest),
        effects=effects.effects(evaluation.dependences),
        charts=charts.drawn(_charts(evaluation)),
    )


def _charts(evaluation: Evaluation) -> list[Chart]:
    if not evaluation.windows:
        return []
    whole = evaluation.model
    rates = f"{whole.mean_propensity:.1%} promised, {whole.positive_rate:.1%} observed"
    return [
        ("AUC of model and baseline by window, with intervals", partial(charts.windows, evaluation)),
        (f"Calibration by window and group; of all rows {rates}", partial(charts.calibration, evaluation)),
    ]


def validation_report(contract: Contract, origin: str, rows: int, violations: Sequence[Violation]) -> str:
    """Write the violations among `rows` rows from `origin` as one HTML page that loads nothing."""
    return HTML.get_template("validation.html").render(
        contract=contract, origin=origin, rows=rows, violations=violations, table=tables.violations(violations, rows)
    )


def markdown_gate(verdict: GateVerdict) -> str:
    """Write the gate's rules as a Markdown table."""
    return f"{_escaped(headline(verdict))}\n\n{_markdown_table(tables.gate(verdict))}\n"


def model_card(
    contract: Contract, evaluation: Evaluation, verdict: GateVerdict | None, facts: Mapping[str, str] = {}
) -> str:
    """Write the model card in Markdown; the same arguments give the same text."""
    return MARKDOWN.get_template("model_card.md").render(
        context(contract, evaluation, verdict, facts), windows=tables.windows(evaluation, {})
    )


def headline(verdict: GateVerdict | None) -> str:
    """Say the gate's verdict in one sentence."""
    if verdict is None:
        return "No gate was asked about this candidate."
    rules = [rule for rule in verdict.rules if rule.passed is not None]
    failures = [rule for rule in rules if not rule.passed]
    if not failures:
        return f"The gate passed this candidate: every rule that applies holds, {len(rules)} in all."
    broken = "; ".join(_broken(rule) for rule in failures)
    return f"The gate refused this candidate, which breaks {len(failures)} of {counted(len(rules), 'rule')}: {broken}."


def _broken(rule: RuleVerdict) -> str:
    if rule.measured is None:
        return f"{rule.rule} was not measured"
    return f"{rule.rule} is {tables.figure(rule.measured, 4)}, asked {rule.threshold}"


def context(
    contract: Contract, evaluation: Evaluation, verdict: GateVerdict | None, facts: Mapping[str, str]
) -> dict[str, Any]:
    """Gather an evaluation's content for the templates of a report or a card."""
    names = [window.name for window in evaluation.windows]
    watched = [column for column in evaluation.drift if not column.expected]
    expected = [column for column in evaluation.drift if column.expected]
    return {
        "contract": contract,
        "evaluation": evaluation,
        "verdict": verdict,
        "facts": facts,
        "headline": headline(verdict),
        "gate": tables.gate(verdict) if verdict else None,
        "quality": tables.quality(evaluation, contract),
        "segments": tables.segments(evaluation, contract),
        "fairness": [(fair, tables.fairness(fair, contract)) for fair in evaluation.fairness],
        "watched": tables.drift(watched, names),
        "expected": tables.drift(expected, names),
        "shifted": [column.column for column in watched if max(column.psi) >= tables.SHIFTED],
        "chance_psi": _chance_psi(evaluation),
        "changes": changes(evaluation.changes),
        "learners": learners(evaluation.candidates, evaluation.windows),
        "power": tables.power(evaluation.columns),
        "left_out": _left_out(evaluation, contract),
        "strongest": max(evaluation.columns, key=lambda column: column.auc or 0.0),
        "base_rates": [window.model.positive_rate for window in evaluation.windows],
        "leakage": [column.name for column in contract.columns if column.role == Role.LEAKAGE],
        "protected_inputs": [column.name for column in contract.protected if column.is_input],
        "top": f"{100 * contract.evaluation.contact_share:g}%",
    }


def _left_out(evaluation: Evaluation, contract: Contract) -> dict[str, str]:
    """Describe by segment what its table leaves out, and the groups without a computable figure."""
    notes = {}
    for name in contract.segments:
        segments = [segment for segment in evaluation.segments if segment.column == name]
        rows = evaluation.model.rows - sum(segment.scores.rows for segment in segments)
        one_sided = [segment.value for segment in segments if not segment.scores.figures]
        small = f"Left out, in smaller groups: {tables.count(rows)} of {tables.count(evaluation.model.rows)} rows."
        single = f"One outcome alone, so that nothing can be ranked: {', '.join(one_sided)}."
        notes[name] = " ".join([*([small] if rows else []), *([single] if one_sided else [])])
    return notes


def _within(predictions: pd.DataFrame, smallest: int) -> dict[str, float | None]:
    from offers.evaluation import metrics

    return {
        str(name): metrics.within_periods(
            part["label"].to_numpy(), part["propensity"].to_numpy(), part["period"].to_numpy(), smallest
        )
        for name, part in predictions.groupby("window")
    }


def _chance_psi(evaluation: Evaluation) -> float | None:
    """Compute the mean PSI by chance, (bins - 1) (1/n + 1/m) (Yurdakul 2018), for the smallest window."""
    if not evaluation.windows:
        return None
    before, window = evaluation.rows - evaluation.model.rows, min(w.model.rows for w in evaluation.windows)
    return (_PSI_BINS - 1) * (1 / before + 1 / window)


def _escaped(value: object) -> str:
    if isinstance(value, _Markdown):
        return value
    return re.sub(r"([\\`*<\[\]|])", r"\\\1", " ".join(str(value).split()))


def _markdown_table(table: Table) -> _Markdown:
    lines = [
        [_escaped(cell.text) + (f" ({_escaped(cell.note)})" if cell.note else "") for cell in row]
        for row in (table.head, *table.rows)
    ]
    left = [number == 0 or cell.mark == "words" for number, cell in enumerate(table.head)]
    lines.insert(1, ["---" if words else "---:" for words in left])
    return _Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _environment(**options: Any) -> Environment:
    environment = Environment(
        loader=PackageLoader("offers"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **options
    )
    environment.filters |= {"figure": tables.figure, "percent": tables.percent, "count": tables.count}
    return environment


HTML = _environment(autoescape=True)
MARKDOWN = _environment(autoescape=False, finalize=_escaped, keep_trailing_newline=True)
MARKDOWN.filters["table"] = _markdown_table
