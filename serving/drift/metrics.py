"""The ledger as Prometheus metrics, so that what is scraped and what is reported can't differ."""

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.drift.monitor import Monitor

_LABELS = ["column", "list"]


class Figures(Collector):
    """Reads a monitor at each scrape."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def collect(self) -> Iterator[Metric]:
        yield from self._counts()
        yield from self._watch()
        if self.monitor.ledger.latest:
            yield from _columns(self.monitor.ledger.latest["columns"])
            yield from _scores(self.monitor.ledger.latest)

    def describe(self) -> list[Metric]:
        return []

    def _counts(self) -> Iterator[Metric]:
        ledger = self.monitor.ledger
        yield _counter("windows", "Windows judged.", ledger.windows)
        yield _counter("rows", "Rows judged.", ledger.rows)
        yield _counter("alarms", "Alarms raised.", ledger.raised)
        yield _counter("alarms_lost", "Alarms that no sink had taken when there were too many.", ledger.lost_alarms)
        yield _counter("sink_failures", "Tries at which the sink did not take an alarm.", ledger.sink_failures)
        yield _counter("faults", "Windows that could not be judged, by a fault of the sidecar.", ledger.faults)
        yield _counter("state_failures", "Tries at which the state could not be saved.", self.monitor.save_failures)
        yield _counters("events", "Events, by what became of them.", "outcome", ledger.events)
        yield _counters("rows_dropped", "Rows that were not watched, by who left them out.", "by", ledger.dropped)

    def _watch(self) -> Iterator[Metric]:
        monitor, ledger = self.monitor, self.monitor.ledger
        yield _gauge("info", "Always 1; names the bundle that is watched.", {monitor.bundle: 1}, "bundle")
        yield _gauge("waiting_rows", "Rows that wait for their window to be full or judged.", len(monitor.rows))
        yield _gauge("window_rows", "Rows of a full window.", monitor.watch.window)
        # Before the first window it tells since when one is waited for: either way, its age is how long it was silent.
        last_seen = ledger.last_window or ledger.since
        yield _gauge("last_window_timestamp_seconds", "When a window was judged, or the watch began.", last_seen)
        yield _gauge(
            "last_event_timestamp_seconds", "When rows arrived, or the watch began.", ledger.last_event or ledger.since
        )
        waiting = sum(alarm.delivered is None for alarm in ledger.alarms) if monitor.sink else 0
        yield _gauge("alarms_undelivered", "Alarms that the sink has not taken yet.", waiting)
        signals = {name: float(value) for name, value in monitor.streak.signals.items()}
        yield _gauge("signal", "1 while the signal is an alarm.", signals, "signal")


def _columns(columns: list[dict[str, Any]]) -> Iterator[Metric]:
    """Effect, p-value and shares of each column in the last window."""
    figures: dict[str, tuple[str, Callable[[dict[str, Any]], float | None]]] = {
        "p_value": ("Alibi Detect's p-value.", lambda column: column["p_value"]),
        "distance": ("KS distance of numbers, Cramer's V of categories.", _distance),
        "psi": ("Population stability index.", lambda column: column["psi"]),
        "missing_share": ("Share of missing cells.", lambda column: column["missing"]),
        "unseen_share": ("Share of categories that the reference never held.", lambda column: column["unseen"]),
        "breached": ("1 where the last window alone has drifted.", lambda column: float(column["breached"])),
    }
    for name, (text, pick) in figures.items():
        family = GaugeMetricFamily(f"offers_drift_column_{name}", f"{text} Last window.", labels=_LABELS)
        for column in columns:
            if (value := pick(column)) is not None:
                family.add_metric([column["name"], column["list"]], value)
        yield family


def _distance(column: dict[str, Any]) -> float | None:
    distance: float | None = column["ks"] if column["kind"] == "number" else column["cramers_v"]
    return distance


def _scores(latest: dict[str, Any]) -> Iterator[Metric]:
    score, rate = latest["score"], latest["score"]["rate"]
    figures = {
        "score_distance": ("KS distance of the propensities.", score["ks"]),
        "score_p_value": ("p-value of the propensities' distance.", score["p_value"]),
        "score_psi": ("Population stability index of the propensities.", score["psi"]),
        "score_mean": ("Mean propensity at the reference's offers.", rate["rate"]),
        "score_reference_mean": ("Mean propensity of the reference.", rate["reference"]),
        "attribution": ("NDCG of the features' importance against the reference's.", latest["attribution"]),
        "served_otherwise_share": ("Rows served with another propensity than the model's.", latest["served_otherwise"]),
    }
    for name, (text, value) in figures.items():
        if value is not None:
            yield _gauge(name, f"{text} Last window.", value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"offers_drift_{name}", text, value=value)


def _counters(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(f"offers_drift_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _gauge(name: str, text: str, value: float | dict[str, float], label: str = "") -> Metric:
    if not isinstance(value, dict):
        return GaugeMetricFamily(f"offers_drift_{name}", text, value=value)
    family = GaugeMetricFamily(f"offers_drift_{name}", text, labels=[label])
    for key, number in value.items():
        family.add_metric([key], number)
    return family
