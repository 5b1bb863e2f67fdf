"""Trains a contract's trees by xgboost.spark on two workers: prints how they score beside trees of one process.

It runs in the environment of Spark: `python tests/support/spark_training.py CONTRACT GOLD`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from xgboost.spark import SparkXGBClassifier

from offers.batch import spark
from offers.contract import contract as contracts
from offers.model.propensity import margins
from offers.steps.data import read_gold
from offers.training.boosting import parameters
from offers.training.learners import BoostedTrees


def main() -> None:
    contract = contracts.load(Path(sys.argv[1]).read_text("utf-8"))
    dataset = read_gold(Path(sys.argv[2]), contract)
    matrix, settings = dataset.encode(contract), contract.model
    learner = BoostedTrees.of(contract, settings, 0)
    names = [f"c{place}" for place in range(matrix.shape[1])]
    engine = spark.session("local[2]")
    # XGBoost takes codes of categories as numbers here: Spark's columns have no categories.
    frame = pd.DataFrame(matrix.astype(np.float64), columns=names).assign(label=dataset.labels.astype(np.int64))
    params = parameters(settings, learner.monotone, 0)
    estimator = SparkXGBClassifier(
        features_col=names,
        label_col="label",
        num_workers=2,
        n_estimators=settings.trees,
        verbosity=0,
        **{name: value for name, value in params.items() if name not in ("objective", "nthread", "seed")},
    )
    booster = estimator.fit(engine.createDataFrame(frame).repartition(2)).get_booster()
    engine.stop()
    booster.feature_names = None
    booster.feature_types = None
    theirs, ours = margins(booster, matrix), margins(learner.booster(matrix, dataset.labels), matrix)
    areas = [float(roc_auc_score(dataset.labels, margin)) for margin in (theirs, ours)]
    print(json.dumps({"correlation": float(np.corrcoef(theirs, ours)[0, 1]), "areas": areas}), flush=True)


if __name__ == "__main__":
    main()
