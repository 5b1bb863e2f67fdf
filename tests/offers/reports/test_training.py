"""The reports show the evaluation's own figures, load nothing, let no value become markup, and never vary."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.data.validation import Violation
from offers.evaluation import metrics
from offers.evaluation.figures import (
    ColumnDrift,
    ColumnPower,
    Comparison,
    Dependence,
    Evaluation,
    Fairness,
    Figure,
    Group,
    Scores,
    Segment,
    Window,
)
from offers.evaluation.gate import GateVerdict, RuleVerdict
from offers.reports import charts, effects, plots, tables
from offers.reports import training as report

HOSTILE = "<script>alert('x')</script>|`*"
CONTRACT = """\
name: kiosk
title: A kiosk & its <b>papers</b>
description: Rows made up for the reports.
source: {file: kiosk.csv, licence: CC BY 4.0, citation: "Doe (2020). https://doi.org/10.1/abc"}
target: {column: bought, positive: yes, negative: no, matures_after_days: 30}
time: {column: asked}
segments: [paper, age]
columns:
  - {name: asked, role: time, type: date}
  - {name: age, role: customer, type: integer, min: 0, max: 120, protected: true, bands: [25, 60]}
  - {name: paper, role: offer, type: category, values: [daily, "<script>alert('x')</script>|`*"]}
  - {name: rate, role: context, type: number, drift: expected}
  - {name: talk, role: leakage, type: integer}
  - {name: bought, role: target, type: category}
evaluation: {windows: 2, smallest_segment: 50}
gate: [{metric: auc, at_least: 0.6}]
"""
N_ROWS = 1200
DEPENDENCES = (
    Dependence(
        column="rate",
        words=(),
        numbers=(1.5, 2.5, 4.5),
        propensity=(0.4, 0.2, 0.1),
        share=(0.5, 0.3, 0.001),
        missing=0.25,
        missing_share=0.199,
    ),
    Dependence(
        column="paper",
        words=("daily", HOSTILE),
        numbers=(),
        propensity=(0.2, 0.3),
        share=(0.9, 0.1),
        missing=None,
        missing_share=0,
    ),
)


@pytest.fixture(scope="module", autouse=True)
def without_plotly() -> Iterator[None]:
    """As in the images of the steps: pages without a script; `test_interactive` looks at those with charts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, find_spec.__name__, lambda _: None)
        yield


@pytest.fixture(scope="module")
def kiosk() -> Contract:
    return contracts.parse(CONTRACT)


@pytest.fixture(scope="module")
def timeless() -> Contract:
    return contracts.parse(CONTRACT.replace("time: {column: asked}\n", ""))


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    """Make rows of six months in two windows; acceptance follows the propensity, and half the rows the baseline."""
    generator = np.random.default_rng(7)
    propensity = generator.beta(1, 3, N_ROWS)
    return pd.DataFrame(
        {
            "row": np.arange(N_ROWS),
            "period": np.repeat([f"2024-0{month}" for month in range(1, 7)], N_ROWS // 6),
            "window": np.repeat(["w1", "w2"], N_ROWS // 2),
            "label": (generator.random(N_ROWS) < propensity).astype(np.int8),
            "propensity": propensity,
            "baseline": np.where(generator.random(N_ROWS) < 0.5, propensity, 0.25),
        }
    )


@pytest.fixture(scope="module")
def evaluation(predictions: pd.DataFrame) -> Evaluation:
    return Evaluation(
        contract="kiosk",
        scheme="rolling origin: 2 out-of-time windows",
        rows=3000,
        model=scores(predictions, "propensity", bootstrap=50),
        baseline=scores(predictions, "baseline"),
        windows=tuple(window(name, part) for name, part in predictions.groupby("window")),
        within_period_auc=0.61234,
        random_split=scores(predictions.iloc[:900], "propensity"),
        random_baseline=scores(predictions.iloc[:900], "baseline"),
        segments=tuple(
            Segment(column=column, value=value, scores=scores(predictions.iloc[:100], "propensity"))
            for column, value in (("age", "25 to <60"), ("age", "<25"), ("paper", HOSTILE))
        ),
        fairness=(
            Fairness(
                column="age",
                groups=(group("25 to <60", 0.2), group("<25", 0.05)),
                left_out=(">=60",),
                selection_ratio=0.25,
                recall_difference=0.3,
            ),
        ),
        drift=(
            ColumnDrift(column="age", expected=False, psi=(0.02, 0.31)),
            ColumnDrift(column="paper", expected=False, psi=(0.01, 0.12)),
            ColumnDrift(column="rate", expected=True, psi=(6.5, 7.25)),
        ),
        columns=(
            ColumnPower(column="age", gain_share=0.3, auc=0.58),
            ColumnPower(column="paper", gain_share=0.1, auc=0.77),
            ColumnPower(column="rate", gain_share=0.6, auc=0.5),
        ),
        dependences=DEPENDENCES,
        champion=None,
    )


@pytest.fixture(scope="module")
def out_of_fold(evaluation: Evaluation) -> Evaluation:
    return evaluation.model_copy(
        update={"windows": (), "drift": (), "within_period_auc": None, "random_split": evaluation.model}
    )


@pytest.fixture(scope="module")
def verdict() -> GateVerdict:
    return GateVerdict(
        contract="kiosk",
        passed=False,
        rules=(
            RuleVerdict(rule="auc, out of time", threshold=">= 0.9", measured=0.74567, passed=False),
            RuleVerdict(rule="ece, out of time", threshold="<= 0.05", measured=0.0123, passed=True, note=HOSTILE),
            RuleVerdict(rule="ks, out of time", threshold=">= 0.2", measured=None, passed=False),
            RuleVerdict(rule="auc, challenger minus champion", threshold=">= -0.01", measured=None, passed=None),
        ),
    )


@pytest.fixture(scope="module")
def page(kiosk: Contract, evaluation: Evaluation, predictions: pd.DataFrame, verdict: GateVerdict) -> "Page":
    return Page(report.training_report(kiosk, evaluation, predictions, verdict, {"Seed": "0", "Origin": HOSTILE}))


class Page(HTMLParser):
    """A page as a browser would see it: its tables by the heading above, its text, tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.text, self.tags = html, "", Counter[str]()
        self.attributes: list[tuple[str, str, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._open: list[str] = []
        self._heading = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._open.append(tag)
        if tag in ("h2", "h3"):
            self._heading = ""
        if tag == "tr":
            self.tables.setdefault(self._heading, []).append([])
        if tag in ("th", "td"):
            self.tables[self._heading][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if self._open[-1:] in (["h2"], ["h3"]):
            self._heading += data
        if {"th", "td"} & set(self._open):
            self.tables[self._heading][-1][-1] += data

    def row(self, heading: str, name: str) -> list[str]:
        return next(row for row in self.tables[heading] if row[0].split("\n")[0].startswith(name))

    def says(self, words: str) -> bool:
        return words in " ".join(self.text.split())


def scores(part: pd.DataFrame, name: str, bootstrap: int = 0) -> Scores:
    return metrics.score(part["label"].to_numpy(), part[name].to_numpy(), 0.1, bootstrap)


def window(name: str, part: pd.DataFrame) -> Window:
    return Window(
        name=name,
        first_period=part["period"].iloc[0],
        last_period=part["period"].iloc[-1],
        model=scores(part, "propensity"),
        baseline=scores(part, "baseline"),
    )


def group(value: str, selected: float) -> Group:
    return Group(
        value=value,
        rows=400,
        positive_rate=0.25,
        mean_propensity=0.24,
        selection_rate=selected,
        precision=0.5,
        recall=0.4,
    )


def shown(found: Figure) -> str:
    if found.low is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} {found.low:.3f} to {found.high:.3f}"


def test_quality_shows_each_figure_with_its_interval_and_the_random_split_beside_it(
    page: Page, evaluation: Evaluation
) -> None:
    heading = "How good is it, honestly?"
    head, *rows = page.tables[heading]
    optimistic = [f"{name} optimistic: random split" for name in ("Model", "Logistic baseline")]
    assert head == ["Figure", "Model out of time", "Logistic baseline out of time", *optimistic]
    assert page.row(heading, "Rows")[1:] == ["1,200", "1,200", "900", "900"]
    labels = [
        "AUC",
        "Average precision",
        "Log-loss",
        "Brier",
        "Calibration error",
        "KS",
        "Lift",
        "Precision",
        "Recall",
        "F1",
    ]
    assert len(rows) == 3 + len(labels)
    for label, (name, found) in zip(labels, evaluation.model.figures.items(), strict=True):
        _, model, baseline, split, baselines_split = page.row(heading, label)
        assert model == shown(found)
        assert baseline == f"{evaluation.baseline[name].value:.3f}"
        assert split == f"{evaluation.random_split[name].value:.3f}"
        assert evaluation.random_baseline is not None
        assert baselines_split == f"{evaluation.random_baseline[name].value:.3f}"


def test_what_can_not_be_computed_is_a_dash_and_what_is_left_out_is_counted(
    kiosk: Contract, evaluation: Evaluation, predictions: pd.DataFrame, verdict: GateVerdict
) -> None:
    refused = predictions.assign(label=0)
    segments = tuple(
        Segment(column="age", value=value, scores=scores(refused.iloc[:rows], "propensity"))
        for value, rows in (("25 to <60", 100), ("<25", 1), (">=60", 1000))
    )
    columns = tuple(column.model_copy(update={"auc": None}) for column in evaluation.columns)
    update = {
        "model": scores(refused, "propensity", bootstrap=50),
        "baseline": scores(refused, "baseline"),
        "windows": tuple(window(name, part) for name, part in refused.groupby("window")),
        "within_period_auc": None,
        "segments": segments,
        "columns": columns,
    }
    degenerate = Page(report.training_report(kiosk, evaluation.model_copy(update=update), refused, verdict))
    assert degenerate.row("How good is it, honestly?", "AUC")[1:3] == ["–", "–"]
    assert degenerate.row("Window by window", "w1")[3:] == ["–"] * 7
    assert degenerate.row("age", "<25")[1:] == ["1", "0.0%", f"{refused['propensity'].iloc[0]:.1%}", *"––––", "10.00"]
    assert "Left out, in smaller groups: 99 of 1,200 rows." in degenerate.text
    assert "One outcome alone, so that nothing can be ranked: 25 to <60, <25, >=60." in degenerate.text
    said = " ".join(degenerate.text.split())
    assert "No month has enough rows of both outcomes to measure a column alone." in said
    assert "nan" not in degenerate.text.lower().replace("finance", "")


def test_windows_show_periods_base_rate_and_lift_with_its_ceiling(page: Page, evaluation: Evaluation) -> None:
    for found in evaluation.windows:
        row = page.row("Window by window", found.name)
        assert row[0] == f"{found.name} {found.first_period} to {found.last_period}"
        assert row[1:4] == ["600", f"{found.model.positive_rate:.1%}", f"{found.model['auc'].value:.3f}"]
        assert row[5] == f"{found.baseline['auc'].value:.3f}"
        assert row[-1] == f"{found.model['lift'].value:.2f} of {found.model.lift_ceiling:.2f}"
    assert page.row("Window by window", "all")[3:5] == [shown(evaluation.model["auc"]), "0.612"]


def test_auc_within_a_month_of_a_window_is_the_mean_over_its_months(page: Page, predictions: pd.DataFrame) -> None:
    months = predictions[predictions["window"] == "w1"].groupby("period")
    values = [scores(part, "propensity")["auc"].value for _, part in months]
    assert page.row("Window by window", "w1")[4] == f"{np.mean(values):.3f}"


def test_gate_table_and_headline_name_what_is_broken(page: Page, verdict: GateVerdict) -> None:
    assert [row[3] for row in page.tables["The gate"][1:]] == ["✗ FAILED", "✓ passed", "✗ FAILED", "○ n/a"]
    assert page.row("The gate", "auc, out of time")[1:3] == ["0.7457", ">= 0.9"]
    assert report.headline(verdict) == (
        "The gate refused this candidate, which breaks 2 of 3 rules: auc, out of time is 0.7457, asked >= 0.9; "
        "ks, out of time was not measured."
    )
    assert page.says(report.headline(verdict))


def test_headline_of_a_passed_gate_counts_the_rules_that_apply(verdict: GateVerdict) -> None:
    passed = GateVerdict(contract="kiosk", passed=True, rules=(verdict.rules[1], verdict.rules[3]))
    assert report.headline(passed) == "The gate passed this candidate: every rule that applies holds, 1 in all."


def test_without_a_gate_the_report_says_so(kiosk: Contract, evaluation: Evaluation, predictions: pd.DataFrame) -> None:
    ungated = Page(report.training_report(kiosk, evaluation, predictions, None))
    assert ungated.says("No gate was asked")
    assert "The gate" not in ungated.tables


def test_segments_follow_the_order_of_bands(page: Page) -> None:
    assert [row[0] for row in page.tables["age"][1:]][:2] == ["<25", "25 to <60"]


def test_fairness_shows_groups_ratio_and_who_was_left_out(page: Page) -> None:
    assert page.tables["age"][-2:] == [
        ["<25", "400", "25.0%", "24.0%", "5.0%", "50.0%", "40.0%"],
        ["25 to <60", "400", "25.0%", "24.0%", "20.0%", "50.0%", "40.0%"],
    ]
    assert page.says("Lowest selection rate over highest: 0.25, below the 0.80")
    assert page.says("Left out, with fewer than 50 rows: >=60.")


def test_a_fair_selection_is_not_flagged(kiosk: Contract, evaluation: Evaluation, predictions: pd.DataFrame) -> None:
    fair = evaluation.fairness[0].model_copy(update={"selection_ratio": 0.85})
    even = evaluation.model_copy(update={"fairness": (fair,)})
    assert not Page(report.training_report(kiosk, even, predictions, None)).says("four-fifths")


def test_drift_lists_expected_columns_apart_and_the_most_moved_first(page: Page) -> None:
    assert page.tables["Watched columns"] == [
        ["Column", "w1", "w2", "Reading"],
        ["age", "0.02", "0.31", "shifted"],
        ["paper", "0.01", "0.12", "moved"],
    ]
    assert page.tables["Columns that the contract expects to drift"][1:] == [["rate", "6.50", "7.25", "shifted"]]
    assert page.says("Shifted: age.")


def test_columns_are_ranked_by_gain_and_leakage_is_named(page: Page) -> None:
    assert page.tables["Columns and leakage"][1:] == [
        ["rate", "60.0%", "0.500"],
        ["age", "30.0%", "0.580"],
        ["paper", "10.0%", "0.770"],
    ]
    assert page.says("Strongest alone is paper with 0.770")
    assert page.says("never shown to the model: talk")


def test_a_ceiling_is_suggested_where_a_column_nearly_decides_alone(
    kiosk: Contract, evaluation: Evaluation, predictions: pd.DataFrame, page: Page
) -> None:
    *others, rate = evaluation.columns
    revealing = evaluation.model_copy(update={"columns": (*others, rate.model_copy(update={"auc": 0.96}))})
    suggested = Page(report.training_report(kiosk, revealing, predictions, None))
    assert suggested.says("such as {metric: auc, ceiling: 0.95}")
    assert not page.says("ceiling: 0.95")


def test_directions_stand_beside_how_many_rows_they_rest_on(
    page: Page, kiosk: Contract, evaluation: Evaluation, predictions: pd.DataFrame
) -> None:
    assert page.says("Lowest at 4.5 (10.0%), highest at 1.5 (40.0%). Without a value, in 19.9% of the rows: 25.0%.")
    labels = [value for _, name, value in page.attributes if name == "aria-label"]
    assert [label for label in labels if label.startswith("Mean propensity by")] == [
        "Mean propensity by rate: 1.5 40.0%, 2.5 20.0%, 4.5 10.0%.",
        f"Mean propensity by paper: daily 20.0%, {HOSTILE} 30.0%.",
    ]
    older = evaluation.model_copy(update={"dependences": ()})
    assert not Page(report.training_report(kiosk, older, predictions, None)).says("Direction of effects")


def test_a_hollow_mark_stands_for_few_rows(evaluation: Evaluation) -> None:
    rate, paper = effects.effects(evaluation.dependences)
    assert [plot.svg.count("fill-opacity: 0;") for plot in (rate, paper)] == [1, 0]


def test_the_page_has_its_sections_in_order(page: Page) -> None:
    headings = re.findall(r'<h2 id="[a-z-]+">(.*?)</h2>', page.html)
    assert re.findall(r'<li><a href="#[a-z-]+">(.*?)</a>', page.html) == headings
    assert headings == [
        "The gate",
        "How good is it, honestly?",
        "Window by window",
        "Curves",
        "Quality over time",
        "Segments",
        "Fairness of the score",
        "Drift between windows",
        "Columns and leakage",
        "Direction of effects",
        "Facts",
    ]


def test_values_never_become_markup(page: Page, kiosk: Contract) -> None:
    assert page.tags["script"] == page.tags["b"] == 0
    assert [row[0] for row in page.tables["paper"][1:]] == [HOSTILE]
    assert page.row("The gate", "ece")[4] == HOSTILE
    assert page.says(f"Origin{HOSTILE}")
    assert page.says(kiosk.title)


def test_the_page_loads_nothing(page: Page) -> None:
    loading = {"link", "img", "iframe", "object", "embed", "script", "base", "form", "video", "audio", "image"}
    assert not loading & set(page.tags)
    links = [(tag, value) for tag, name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset")]
    outside = {(tag, value) for tag, value in links if not value.startswith("#")}
    assert outside == {("a", "https://doi.org/10.1/abc")}
    ids = {value for _, name, value in page.attributes if name == "id"}
    assert {value.removeprefix("#") for tag, value in links if tag == "a" and value.startswith("#")} <= ids
    assert "@import" not in page.html
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", page.html))
    assert ("meta", "http-equiv", "Content-Security-Policy") in page.attributes


def test_no_id_stands_twice(page: Page) -> None:
    ids = Counter(value for _, name, value in page.attributes if name == "id")
    assert ids
    assert max(ids.values()) == 1


def test_same_input_gives_the_same_bytes(
    kiosk: Contract, evaluation: Evaluation, predictions: pd.DataFrame, verdict: GateVerdict, page: Page
) -> None:
    again = report.training_report(kiosk, evaluation, predictions, verdict, {"Seed": "0", "Origin": HOSTILE})
    assert again == page.html
    assert report.model_card(kiosk, evaluation, verdict) == report.model_card(kiosk, evaluation, verdict)


def test_the_page_is_small(page: Page) -> None:
    assert len(page.html.encode()) < 500_000


def test_champion_stands_on_the_same_rows_with_differences(
    kiosk: Contract, evaluation: Evaluation, predictions: pd.DataFrame
) -> None:
    rival = predictions.assign(champion=predictions["baseline"])
    comparison = Comparison(
        champion="kiosk-0123",
        scores=scores(rival, "champion"),
        differences={"auc": Figure(value=0.0512, low=-0.0104, high=0.09)},
    )
    challenged = evaluation.model_copy(update={"champion": comparison})
    compared = Page(report.training_report(kiosk, challenged, rival, None))
    heading = "How good is it, honestly?"
    assert compared.tables[heading][0][3:5] == ["Champion out of time", "Model minus champion"]
    row = compared.row(heading, "AUC")
    assert row[3:5] == [f"{comparison.scores['auc'].value:.3f}", "+0.051 -0.010 to +0.090"]
    assert compared.says("The champion is kiosk-0123")
    assert f"champion {comparison.scores['auc'].value:.3f}" in compared.html


def test_without_time_order_the_report_says_what_that_means(
    timeless: Contract, out_of_fold: Evaluation, predictions: pd.DataFrame
) -> None:
    folded = Page(report.training_report(timeless, out_of_fold, predictions.assign(window="", period="all"), None))
    assert folded.says("No time order is declared.")
    assert folded.tables["How good is it, honestly?"][0][1] == "Model optimistic: random split"
    assert len(folded.tables["How good is it, honestly?"][0]) == 3
    assert not {"Window by window", "Watched columns"} & set(folded.tables)
    assert folded.says("no before and after to compare")
    assert folded.tags["svg"] == 6


def test_a_window_with_one_outcome_is_shown_without_figures(
    kiosk: Contract, evaluation: Evaluation, predictions: pd.DataFrame
) -> None:
    quiet = predictions.assign(label=np.where(predictions["window"] == "w2", 0, predictions["label"]))
    parts = tuple(window(name, part) for name, part in quiet.groupby("window"))
    found = Page(report.training_report(kiosk, evaluation.model_copy(update={"windows": parts}), quiet, None))
    assert found.row("Window by window", "w2")[3:] == ["–"] * 7


def test_one_outcome_only_leaves_out_the_curves(
    kiosk: Contract, evaluation: Evaluation, predictions: pd.DataFrame
) -> None:
    silent = predictions.assign(label=0)
    nothing = scores(silent, "propensity")
    empty = evaluation.model_copy(update={"model": nothing, "baseline": nothing, "windows": ()})
    found = Page(report.training_report(kiosk, empty, silent, None))
    assert not {"Ranking (ROC)", "Calibration (reliability)"} & set(found.text.split("\n"))
    assert found.tags["svg"] == len(empty.dependences)
    assert found.row("How good is it, honestly?", "AUC")[1] == "–"


def test_quality_over_time_needs_two_months_with_enough_rows(predictions: pd.DataFrame) -> None:
    assert len(plots.over_time(predictions, smallest=200)) == 2
    assert plots.over_time(predictions, smallest=201) == []
    assert plots.over_time(predictions.assign(period="2024-01"), smallest=50) == []


def test_plots_are_well_formed_and_their_words_hold_the_figures(
    predictions: pd.DataFrame, evaluation: Evaluation
) -> None:
    drawn = plots.curves(predictions, evaluation, share=0.1) + plots.over_time(predictions, smallest=50)
    assert [ElementTree.fromstring(plot.svg).tag for plot in drawn] == ["{http://www.w3.org/2000/svg}svg"] * 6
    roc, reliability, gains, _, ranking, _ = drawn
    assert f"model {evaluation.model['auc'].value:.3f}" in roc.alt
    assert f"w2 {evaluation.windows[1].model['auc'].value:.3f}" in roc.alt
    assert reliability.alt.count(" rows") == len(
        metrics.reliability(predictions["label"].to_numpy(), predictions["propensity"].to_numpy())
    )
    assert f"lift {evaluation.model['lift'].value:.2f}" in gains.caption
    assert f"a lift of {evaluation.model.lift_ceiling:.2f}" in gains.caption
    assert ranking.alt.count("2024-0") == 6


def test_many_windows_are_told_apart_below_the_axes(predictions: pd.DataFrame, evaluation: Evaluation) -> None:
    cut = predictions.assign(window=[f"w{1 + row * 12 // N_ROWS}" for row in range(N_ROWS)])
    parts = tuple(window(str(name), part) for name, part in cut.groupby("window", sort=False))
    roc, _, _, by_window = plots.curves(cut, evaluation.model_copy(update={"windows": parts}), share=0.1)
    for number in range(1, 13):
        assert f">w{number} 0." in roc.svg
        assert f">w{number}<" in by_window.svg


def test_validation_report_lists_every_violation(kiosk: Contract) -> None:
    found = (
        Violation("age", "at least 0", 2, ((3, "-1"), (9, "-7"))),
        Violation("paper", f"one of daily, {HOSTILE}", 1, ((1200, HOSTILE),)),
        Violation("bought", "both outcomes, 'yes' and 'no'; 'no' never occurs", 1200),
    )
    listed = Page(report.validation_report(kiosk, "s3://bucket/kiosk.csv", 1200, found))
    assert listed.says("3 rules are broken")
    assert listed.says("1,200 rows from s3://bucket/kiosk.csv")
    assert listed.tables["What is wrong"][1:] == [
        ["age", "at least 0", "2 of 1,200", "row 3: -1; row 9: -7"],
        ["paper", f"one of daily, {HOSTILE}", "1 of 1,200", f"row 1200: {HOSTILE}"],
        ["bought", "both outcomes, 'yes' and 'no'; 'no' never occurs", "1,200 of 1,200", "–"],
    ]
    assert listed.tags["script"] == 0


def test_validation_report_says_when_nothing_is_wrong(kiosk: Contract) -> None:
    clean = Page(report.validation_report(kiosk, "kiosk.csv", 1200, ()))
    assert clean.says("Nothing is wrong: all 1,200 rows keep every rule of the contract.")
    assert clean.tables == {}


def test_markdown_gate_has_a_line_per_rule_and_escapes_values(verdict: GateVerdict) -> None:
    sentence, _, head, rule, *lines = report.markdown_gate(verdict).splitlines()
    assert sentence.startswith("The gate refused this candidate")
    assert head == "| Rule | Measured | Asked | Verdict | Note |"
    assert rule == "| --- | ---: | --- | --- | --- |"
    assert len(lines) == len(verdict.rules)
    assert lines[1] == r"| ece, out of time | 0.0123 | \<= 0.05 | ✓ passed | \<script>alert('x')\</script>\|\`\* |"


def test_model_card_names_source_figures_and_limits(
    kiosk: Contract, evaluation: Evaluation, verdict: GateVerdict
) -> None:
    card = report.model_card(kiosk, evaluation, verdict, {"Seed": "0"})
    assert card.startswith("# Model card: A kiosk & its \\<b>papers\\</b>\n")
    for words in ("CC BY 4.0", "https://doi.org/10.1/abc", "- Seed: 0", "talk", "✗ FAILED", "after 30 days"):
        assert words in card
    found = evaluation.model["auc"]
    assert f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f}) | {evaluation.baseline['auc'].value:.3f}" in card
    assert "(PSI of 0.25 or more, beyond those expected to): age." in card
    assert "Within a month the AUC is 0.612" in card
    assert not re.search(r"(?<!\\)<", card)
    assert "\n\n\n" not in card


def test_model_card_without_time_order_claims_no_foresight(timeless: Contract, out_of_fold: Evaluation) -> None:
    card = report.model_card(timeless, out_of_fold, None)
    assert "No time order is declared" in card
    assert "out of time" not in card
    assert "Window by window" not in card
    assert "\n\n\n" not in card


@pytest.mark.parametrize("render", [tables.figure, tables.percent])
def test_what_was_not_measured_is_a_dash(render: Callable[[float | None], str]) -> None:
    assert render(None) == render(float("nan")) == "–"


def test_a_page_needs_no_library_of_models() -> None:
    script = (
        "import sys, offers.reports.training\n"
        "print({'xgboost', 'lightgbm', 'catboost', 'sklearn', 'scipy'} & sys.modules.keys())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
