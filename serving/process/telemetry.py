"""What a service counts: Prometheus metrics, and a log line for each request."""

import logging
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from serving.process.logs import caller, log, request_id

_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
REQUESTS = Counter("offers_requests", "Requests answered.", ["route", "status"])
CALLERS = Counter("offers_caller_requests", "Requests answered, by who sent them.", ["caller", "status"])
LATENCY = Histogram(
    "offers_request_seconds", "Time from a request's arrival to its answer.", ["route"], buckets=_BUCKETS
)
IN_FLIGHT = Gauge("offers_requests_in_flight", "Requests that are being answered.")
ROWS = Counter("offers_rows", "Rows that a model has answered.", ["model"])
PREDICTOR_FAILURES = Counter("offers_predictor_failures", "Calls that the predictor did not answer.", ["code"])
PREDICTOR_AWAY = Gauge("offers_predictor_away", "1 while the ranker asks in vain for the predictor.")
FALLBACKS = Counter("offers_fallback_rows", "Rows that were ranked by value, without the predictor.", ["model"])
FIRST_PLACES = Counter("offers_first_places", "Customers by the offer or family in first place.", ["arm", "offer"])
EXPECTED_VALUE = Counter(
    "offers_expected_value_eur", "Propensity × value of the offers in first place, EUR before costs.", ["arm"]
)
FEED_QUEUE = Gauge("offers_feed_queue_rows", "Scored rows that wait to be sent on.", ["feed"])
FEED_SENT = Counter("offers_feed_sent_rows", "Scored rows that were sent on.", ["feed"])
FEED_DROPPED = Counter(
    "offers_feed_dropped_rows", "Scored rows that were given up: queue full, or a batch not taken.", ["feed"]
)
FEED_FAILURES = Counter("offers_feed_failures", "Batches of scored rows that were not taken.", ["feed"])
LOGGED = Counter("offers_logged_decisions", "Decisions that are in the spool of the decision log.")
UNLOGGED = Counter("offers_unlogged_decisions", "Decisions that the decision log could not take.")
OUTCOMES = Counter("offers_logged_outcomes", "Outcomes that are in the spool of the decision log.")
LAYER_SHARE = Gauge("offers_layer_share", "The layer's part of a margin; absent where a model has none.", ["model"])
LAYER_LABELS = Gauge("offers_layer_labels", "Labels that the layer has learnt.", ["model"])
LAYER_LAG = Gauge("offers_layer_lag_rows", "Rows between the layer's newest label and the model's making.", ["model"])
VERSION = Gauge("offers_model_version_info", "Always 1; names what a model was made from.", ["model", "version"])
RELEASE = Gauge("offers_release_info", "Always 1; names the release of each arm.", ["arm", "release", "bundle"])
ARM_ROWS = Counter("offers_arm_rows", "Customers of each arm of an experiment.", ["experiment", "arm"])
ARM_AWAY = Counter(
    "offers_arm_away_rows", "Customers of an arm that what serves has answered in its place.", ["experiment", "arm"]
)
SHADOW_ROWS = Counter(
    "offers_shadow_rows",
    "Customers whom a shadow was asked about, by its first place: same, other, or away where it did not answer.",
    ["experiment", "arm", "first"],
)
ROUTING_REFUSED = Gauge("offers_routing_refused", "1 while the routing file asks for what can't be served.")

REQUEST_ID = "x-request-id"
_QUIET = {"/", "/metrics", "/v2/health/live", "/v2/health/ready"}
_PLAIN_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)


def touch(route: str) -> None:
    """Let a route's series be there before its first request: of what appears with a count, no rate can be told."""
    LATENCY.labels(route)
    for status in ("200", "500"):
        REQUESTS.labels(route, status)


@dataclass
class Seen:
    """What is known of a request when it has been answered."""

    route: str
    status: str = "cancelled"


@contextmanager
def observed(route: str, given_id: str = "") -> Iterator[Seen]:
    """Count, time and log one request; a caller's own id is kept where it is a plain one, and made otherwise."""
    caller.set("")
    request_id.set(given_id if _PLAIN_ID.fullmatch(given_id) else uuid.uuid4().hex)
    record, started = Seen(route), time.perf_counter()
    IN_FLIGHT.inc()
    try:
        yield record
    finally:
        seconds = time.perf_counter() - started
        IN_FLIGHT.dec()
        REQUESTS.labels(record.route, record.status).inc()
        if caller.get():
            CALLERS.labels(caller.get(), record.status).inc()
        LATENCY.labels(record.route).observe(seconds)
        level = logging.DEBUG if record.route in _QUIET else logging.INFO
        if log.isEnabledFor(level):
            fields = {"route": record.route, "status": record.status, "ms": round(seconds * 1e3, 3)}
            log.log(level, "request", extra={"fields": fields})
