"""The report as one page that loads nothing."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from offers.drift.examination import SCORE, SIGNALS
from serving.drift import drawing
from serving.drift.histograms import Histogram

LISTS = {
    "watched": ("Watched", "Drift of these is data drift and raises an alarm."),
    "expected": ("Expected to drift", "They move by nature, such as market rates; they raise no alarm."),
    "ours": ("Set by the bank", "They move because the policy moves; they raise no alarm."),
}


def page(report: Mapping[str, Any]) -> str:
    """Write what `Monitor.report` returns as HTML."""
    latest = report["latest"]
    return _HTML.get_template("drift.html").render(
        report,
        headline=_headline(report),
        lists=_lists(latest) if latest else [],
        trends=_trends(report) if latest else [],
        score_ends=[latest["histograms"][SCORE]["labels"][place] for place in (0, -1)] if latest else [],
        score_histogram=_drawn(latest, SCORE, latest["score_breached"]) if latest else "",
    )


def _headline(report: Mapping[str, Any]) -> str:
    signals = [name for name, alarm in report["signals"].items() if alarm]
    if signals:
        return f"Drift that lasts: {', '.join(signals)}"
    if not report["latest"]:
        return "Waiting for the first full window"
    suspects = len(report["streak"])
    return "No alarm" if not suspects else f"No alarm; {suspects} suspect in the last window"


def _lists(latest: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"title": title, "note": note, "columns": [_row(latest, c) for c in latest["columns"] if c["list"] == name]}
        for name, (title, note) in LISTS.items()
    ]


def _row(latest: Mapping[str, Any], column: Mapping[str, Any]) -> dict[str, Any]:
    labels = latest["histograms"][column["name"]]["labels"]
    drifted = column["breached"] and column["list"] == "watched"
    return {
        **column,
        "distance": column["ks"] if column["kind"] == "number" else column["cramers_v"],
        "picture": _drawn(latest, column["name"], drifted),
        "ends": (labels[0], labels[-1]) if labels and column["kind"] == "number" else (),
        "moved": [share for share in column["shares"] if share["suspect"]],
        "drifted": drifted,
        "verdict": _verdict(column, drifted),
    }


def _verdict(column: Mapping[str, Any], drifted: bool) -> str:
    if column["breached"]:
        return "drifted" if drifted else "moved"
    return "suspect" if column["suspect"] or any(share["suspect"] for share in column["shares"]) else "steady"


def _drawn(latest: Mapping[str, Any], name: str, drifted: bool) -> str:
    return drawing.bars(Histogram(**latest["histograms"][name]), drifted)


def _trends(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    history, watch, rate = report["history"], report["watch"], report["latest"]["score"]["rate"]
    n_breached = [len(line["breached"]) for line in history]
    series = {
        "data": ("Columns that have drifted", n_breached, 0, 0, max(4, *n_breached)),
        "score": (
            "Distance of the propensities (KS)",
            [line["score_ks"] for line in history],
            watch["ks"],
            0,
            3 * watch["ks"],
        ),
        "rate": ("Mean propensity", [line["rate"] for line in history], rate["reference"], 0, 2 * rate["reference"]),
        "attribution": (
            "Order of importance (NDCG)",
            [line["attribution"] for line in history],
            watch["attribution"],
            0.5,
            1,
        ),
    }
    return [
        {
            "signal": signal,
            "title": series[signal][0],
            "now": series[signal][1][-1],
            "rule": series[signal][2],
            "picture": drawing.line(*series[signal][1:], [line["signals"][signal] for line in history]),
        }
        for signal in SIGNALS
    ]


def _moment(seconds: float | None) -> str:
    return "–" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    if value < 1e-45:
        return "0"
    return f"{value:.0e}" if value < 0.001 else f"{value:.3f}"


_HTML = Environment(
    loader=ChoiceLoader([PackageLoader("serving.drift"), PackageLoader("offers")]),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
_HTML.filters |= {
    "moment": _moment,
    "figure": _figure,
    "percent": lambda share: f"{share:.1%}",
    "count": lambda n: f"{n:,}",
}
