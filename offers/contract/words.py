"""What the keys of a contract mean. docs/contract.md and the JSON Schema for editors are generated from these words."""

CONTRACT: dict[str, dict[str, str]] = {
    "Contract": {
        "name": "lower case with hyphens; bundles carry it",
        "title": "for people",
        "description": "for people",
        "source": "where the rows are",
        "columns": "each column of the data; `source.extra_columns` says what others do",
        "target": "the outcome",
        "weight": "the column of role `weight`, if rows count differently when trees are fitted",
        "time": "present if the rows are in time order",
        "segments": "columns by whose groups figures are shown",
        "evaluation": "how quality is estimated",
        "model": "the trees' learner and its parameters; a search starts from these",
        "calibration": "how scores become probabilities, where there is no layer",
        "gate": "rules that a first model has to pass",
        "challenge": "what a challenger has to show against the model that serves",
        "dynamics": "the layer that learns between trainings; `none` does without it",
        "approval": "who lets a release be promoted",
        "owner": "who answers for the model; the release's card prints it",
        "tier": "how much hangs on the model: `low`, `medium` or `high`; the release's card prints it",
        "simulation": "the simulated world",
        "watch": "when scored rows have drifted",
        "retraining": "when the layer is updated and the model is trained again",
    },
    "Source": {
        "uri": (
            "where the rows come from if that file is not there: a path, `http(s)://`, `s3://bucket/key`, an"
            " SQLAlchemy URL, or `simulated`; a secret in it stands as a reference, see below"
        ),
        "file": "the file's name; it is taken from the directory that `OFFERS_DATA_DIR` names, if it is there",
        "member": "the file's path inside a zip; a zip inside a zip is one more part of the path",
        "query": "the SQL text, for an SQLAlchemy URL",
        "extra_columns": (
            "what happens if the data has a column that the contract does not declare:"
            " `refuse` the data, or `ignore` the column"
        ),
        "key": (
            "columns that together name a row: in [the layers](layers.md) a row that comes again corrects the one"
            " before it, and its outcome may come later"
        ),
        "sha256": "of the innermost file; any other file is refused",
        "format": "how text is written",
        "licence": "shown in the model card",
        "citation": "shown in the report",
        "hint": "shown where the file can't be had",
    },
    "CsvFormat": {
        "separator": "between the cells of a CSV file",
        "decimal": "the decimal mark of numbers in text, `.` or `,`",
        "thousands": "the mark between groups of three digits in text, such as `.` in 1.234,5",
        "missing": "words that stand for an empty cell in every column of text, such as `[NA, n/a]`",
        "quote": "round cells of a CSV file that hold the separator",
        "encoding": "of a CSV file",
        "sheet": "of an Excel workbook; the first by default",
    },
    "Column": {
        "name": (
            "as in the file's header; `k`, `offers`, `as_of`, `customer_id`, `decision_id`, `scored_at` and "
            "`bundle` are words of requests, so no input may have such a name"
        ),
        "role": (
            "A model sees `customer`, `offer` (what the bank sets: product, channel, timing) and `context` "
            "(known at the time of the request: market rates). It does not see `leakage` (known only "
            "afterwards), `protected` (kept to compare groups), `identifier`, `time` and `weight`. Exactly one column "
            "is the `target`"
        ),
        "type": "`integer`, `number`, `category`, `boolean`, `date` or `text`",
        "description": "for people",
        "unit": "for people",
        "min": "lowest number; a value below is refused",
        "max": "highest number; a value above is refused",
        "values": "the values of a category",
        "unknown": (
            "what happens to a value outside `values`: `reject` (the default) refuses the row, `missing` treats "
            "the cell as empty"
        ),
        "missing": 'values that mean "not known", such as `[999]`',
        "nullable": "`true` if cells may be empty",
        "true_values": "words that stand for yes in a boolean column, besides those that all contracts take",
        "false_values": "words that stand for no",
        "format": "how text writes a date, such as `%d.%m.%Y`; by default as ISO 8601 does",
        "protected": "`true` if the model may see the column and reports compare its groups for fairness",
        "justification": (
            "why the model may use a protected column; reasons that are given to people name the column with it,"
            " and never without it"
        ),
        "bands": "where to cut a number into groups",
        "drift": (
            "`expected` if the column moves by nature (month, market rates); `watched`, the default, if it should not"
        ),
        "monotone": (
            "`up` if the trees' score must not fall where the column rises, `down` if it must not rise; for numbers "
            "and booleans"
        ),
        "typical": "used by the simulated world: the central range of a number, or the share of each value",
    },
    "Target": {
        "column": "the column of role `target`",
        "positive": "the value that means accepted",
        "negative": "the value that means refused",
        "matures_after_days": "days from a decision until its label is final",
    },
    "Timeline": {
        "column": "a `date`, or a `category` of month names (`jan` to `dec`) that wrap into the next year",
        "start": "the first month where `column` holds names of months, such as `2008-05`",
        "until": "the last month there, if it is known",
    },
    "EvaluationSettings": {
        "train_share": "share of the rows, the oldest, before the first out-of-time window",
        "windows": "number of successive windows in the remaining rows",
        "refit_every": "rows between two refits, each with its calibration, as in production",
        "folds": "folds of the random split, and of the evaluation without time order",
        "group": (
            "a column such as the customer's number: rows that share its value stay in one fold, so that no customer "
            "is scored by a model that knows them from other rows"
        ),
        "contact_share": (
            "share of customers that the bank can contact; lift, precision, recall, F1 and fairness are measured there"
        ),
        "bootstrap": "resamples for the 95 % intervals",
        "smallest_segment": "a group with fewer rows is left out",
    },
    "ModelSettings": {
        "learner": "`xgboost`, `lightgbm` or `catboost`",
        "alternatives": "other learners that a search tries too",
        "trees": "number of trees",
        "depth": "of a tree, at most",
        "learning_rate": "share of each tree's answer that counts",
        "row_share": "share of the rows that a tree sees",
        "column_share": "share of the columns that a tree sees",
        "min_child_weight": "least sum of Hessians in a leaf; CatBoost has no such limit",
        "l2": "penalty of the leaves' squared weights",
        "newest_rows": "limits training to the newest rows",
    },
    "Calibration": {
        "method": (
            "`platt` scaling (slope and intercept), `beta` calibration (Kull et al. 2017, a slope on either side), "
            "`isotonic` regression, `none`, or `auto`: the simplest whose log-loss on rows that it was not fitted on "
            "is within two standard errors of the lowest"
        ),
        "rows": "newest rows that the calibrator learns from",
        "prior": "weight, in rows, of the belief that nothing needs correcting",
    },
    "GateRule": {
        "metric": (
            "`auc`, `average_precision`, `log_loss`, `brier`, `ece`, `ks`, `lift`, `precision`, `recall` or `f1`"
        ),
        "on": "`pooled` over all windows or folds, `each_window`, or `within_period`, for `auc`",
        "at_least": "passes if the figure is not lower",
        "at_most": "passes if the figure is not higher",
        "ceiling": (
            "the figure is not above this value, which would be too good to be true; if it is, the gate names "
            "the columns to suspect of leakage"
        ),
        "better_than_chance": (
            "with `on: within_period`: the AUC is above that of 95 % of random scores on the same rows; only a first "
            "model is asked"
        ),
        "better_than_baseline": "the figure beats logistic regression on the same rows",
        "not_worse_than_champion_by": (
            "the challenger loses to the champion by no more than this margin, at the worse end of the paired "
            "95 % interval of their difference; without a champion the rule does not apply"
        ),
    },
    "ApprovalSettings": {
        "by": "`people`, who approve a release, or the `gate` alone",
        "people": "how many people have to approve",
        "days": "after which an approval is no longer good",
    },
    "Simulation": {
        "rows": "by default",
        "base_rate": "share of acceptances",
        "customer_spread": "standard deviation of the customers' logits",
        "period_spread": "the same, of the periods' logits",
        "periods": "number of periods",
    },
    "Watching": {
        "window": "rows of a window; a smaller one sees drift sooner, but a rare value later",
        "consecutive": "suspect windows in a row that raise an alarm",
        "p_value": "a window is suspect only below this p-value",
        "false_discovery_rate": "the highest rate of alarms without drift, per window",
        "ks": "Kolmogorov-Smirnov distance, of numbers and of the propensities",
        "cramers_v": "Cramér's V of categories",
        "psi": "population stability index; it also has to exceed what chance gives with that many rows",
        "share_ratio": (
            "needed beside `share_difference`: how many times as large, or as small, the share of one value is; "
            "missing cells and values never seen count as values"
        ),
        "share_difference": "needed beside `share_ratio`: by how much the share differs",
        "rate_ratio": (
            "factor between the mean propensity and the reference's, up or down; also used for the acceptance "
            "rate once labels have matured"
        ),
        "attribution": (
            "normalised discounted cumulative gain of the features' importance; below this value their order "
            "has changed"
        ),
    },
    "Retraining": {
        "cool_down": "fewest scored rows between two trainings, if labels show harm",
        "patience": "the same, if labels show none",
        "labels": "fewest matured labels to judge performance by; a training waits for so many new labels",
        "outcomes": "fewest of each kind among them",
        "newest": "performance is judged by at most this many of the newest labels",
        "surprise": "a breach is this many standard deviations away from what was promised",
    },
    "Challenge": {
        "rows": "the newest matured rows that are compared",
        "fewest": "with fewer rows the challenger is refused",
        "auc": "by how much its AUC within a month may be lower",
        "log_loss": "by how much its log-loss may be higher",
        "chance": "by how many standard errors of the paired difference its log-loss may be higher beyond that",
        "ece": "by how much its calibration error may be higher",
    },
    "Dynamics": {
        "fast": "the part of the layer's level that follows a change at once",
        "slow": "the part that stays",
        "columns": "the weights of columns",
        "offset": "what is added to the mean of trees and layer",
        "batch": "most rows that are learnt at a time",
        "share": (
            "the layer's part of a margin, at most; less where the layer has not helped, and where labels are late"
        ),
    },
    "Walk": {
        "spread": "how far a weight strays in the long run, in log-odds",
        "memory": "how many rows it remembers",
    },
}
