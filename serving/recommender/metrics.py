"""What the recommender counts beside what every service does."""

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter(
    "offers_market_events",
    "Events by treatment: taken, or left out of features as twice, covered by the load, from the future, or unknown.",
    ["treatment"],
)
SHOWN = Counter("offers_recommended_products", "Places in answers, by product.", ["product"])
PRODUCT_EVENTS = Counter("offers_product_events", "Events that were taken, by product.", ["event", "product"])
PLACE_SHOWN = Counter("offers_recommended_places", "Places in answers, by their number.", ["place"])
PLACE_EVENTS = Counter("offers_place_events", "Events that were taken and name a place, by it.", ["event", "place"])
ANSWERS = Counter(
    "offers_recommendations", "Answers by ground: ranked, unknown_user, store_away, or overloaded.", ["ground"]
)
REFUSED = Counter(
    "offers_refused_recommendations", "Requests that were refused, by ground, because nothing may stand in.", ["ground"]
)
STALE = Counter("offers_stale_rows", "Users' values beyond their time to live, by table or feature.", ["source"])
FOREIGN = Counter("offers_foreign_rows", "Users' rows of another contract, who count as unknown.")
STORE_AWAY = Gauge("offers_online_store_away", "1 while the online store does not answer.")
WAITING = Gauge("offers_waiting_events", "Events that wait to move their users' features.")
LAG = Histogram(
    "offers_event_lag_seconds",
    "Time from an event's arrival until it has moved its user's features.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300),
)

TREATMENTS = ("taken", "twice", "covered", "future", "unknown_user", "unknown_product", "unknown_event")
GROUNDS = ("ranked", "unknown_user", "store_away", "overloaded")

# Of what appears with a count no rate can be told.
for treatment in TREATMENTS:
    EVENTS.labels(treatment)
for ground in GROUNDS:
    ANSWERS.labels(ground)
for ground in ("store_away", "overloaded"):
    REFUSED.labels(ground)
