"""What each key of a market's contract means, for its docs page and its JSON Schema."""

MARKET: dict[str, dict[str, str]] = {
    "Market": {
        "name": "lower case with hyphens",
        "title": "for people",
        "description": "for people",
        "users": "the table of users",
        "products": "the table of products: the catalogue",
        "interactions": "the table of what users did",
        "columns": (
            "as in [a contract](contract.md#columns), of role `customer` (a user's), `offer` (a product's) or"
            " `protected` (a user's that no model sees); no `date` and no `text`"
        ),
        "pairs": "how a user and a product compare",
        "events": "what a user can do, in the order in which one follows the other",
        "features": "what the events before a moment say of a user, a product or a pair",
        "accepted": "what counts as accepted; by default the last event",
        "value": "the product's column with the margin of one acceptance; by default each counts 1",
        "segments": (
            "categories or booleans of role `customer`; an unknown user is shown what is popular among those who share"
            " all of them"
        ),
        "retrieval": "how candidates are found, before the ranker scores them",
        "recommendation": "how an answer is put together from scored products",
        "model": "the ranker's trees, as in [a contract](contract.md#model)",
        "calibration": "the ranker's calibrator, as in [a contract](contract.md#calibration)",
        "approval": "who lets a release be promoted, as in [a contract](contract.md#approval)",
        "simulation": "the simulated market",
    },
    "Acceptance": {
        "event": "one of the events after the first",
        "matures_after_days": "days after a view until it has led to the event, or never will",
    },
    "Retrieval": {
        "method": "`towers`, or `none`: the ranker scores all products",
        "candidates": "how many products the ranker scores for a user",
        "history": "how many of a user's newest views the user's tower takes",
        "dimensions": "length of the vectors of users and products",
        "epochs": "how often the training sees each view",
        "learning_rate": "of the first step; it falls to 0 by the last",
    },
    "Recommendation": {
        "k": "places of an answer, where the caller names no number",
        "required": "pairs that must hold; a product for which one does not is withheld, unless a value is missing",
        "family": "the product's category of which an answer has only so many",
        "most_per_family": "how many",
        "explore": "the probability that the first place is drawn among the eligible candidates",
    },
    "Table": {
        "file": "a `.parquet` or `.csv` file in the directory of the market",
        "key": "the column of ids",
        "time": "the column of the moment since when a row holds: a user joined, a product was launched",
        "time_to_live": "days that a row holds, where there is no newer one; then its values are missing, and counted",
    },
    "Interactions": {
        "file": "the same; beside the columns below it has the keys of users and of products",
        "event": "the column that names the event",
        "time": "the column of its moment",
        "position": "the column of the place, from 1 on, that the product had in the list",
        "position_bias": (
            "a user looks at a position with a probability proportional to position^-`position_bias`, so that what"
            " stands first is viewed more often than it is liked; 0 where that is not known"
        ),
    },
    "Event": {
        "name": "small letters, digits and `_`",
        "weight": "how much it counts beside the others",
        "typical": "in the simulated market: the share of the events before it that it follows; the first has none",
        "delay_hours": "in the simulated market: the mean time after the event before",
    },
    "Pair": {
        "name": "small letters, digits and `_`",
        "user": "a column of role `customer`",
        "product": "a column of role `offer`",
        "measure": (
            "`difference` and `ratio` (the user's value minus, and over, the product's), `at_least` (whether the"
            " user's reaches the product's) or `equal` (whether two categories are the same word)"
        ),
    },
    "Feature": {
        "name": "small letters, digits and `_`; a window of 7 days makes it `NAME_7d`",
        "by": "`user`, `product` or `pair`: whose events they are",
        "events": "which events",
        "aggregate": "`count`, `weight` (the sum of the events' weights) or `recency` (days since the newest)",
        "windows": "days before the moment, one column each; all time by default",
        "time_to_live": (
            "days after which the newest event says nothing any more, so that the value is missing, as it is where"
            " there is no event; without it a count of nothing is 0"
        ),
    },
    "MarketSimulation": {
        "users": "by default",
        "products": "by default",
        "start": "the first month",
        "days": "length of the history",
        "views": "mean number of views of a user, as far as the user is there all along",
        "taste": "how much taste counts in the utility of a pair: the standard deviation of its part",
        "popularity": "the same, of what a product is to everybody",
        "private": "share of the variance of tastes that no column tells",
        "new_users": "share of the users who join after the start",
        "new_products": "share of the products that are launched after the start",
        "season": "by how much a kind of products is viewed less, at most, out of its season",
        "position_bias": "a user looks at a position with the probability position^-`position_bias`",
    },
}
