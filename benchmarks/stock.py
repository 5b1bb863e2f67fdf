"""The usual way to rank offers on KServe, as its documentation teaches it: what 500 customers are measured against.

A transformer in plain Python makes a row of JSON for each customer and offer, and posts the rows by the V1 protocol;
the predictor makes a DataFrame of them for a scikit-learn pipeline, which it has fitted when it started.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder
from xgboost import XGBClassifier

from benchmarks.kserve import Model, PredictorConfig, serve
from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.contract.sections import ModelSettings
from offers.policy import catalogue as catalogues
from offers.policy.catalogue import Offer


class Transformer(Model):
    """Joins customers with offers, and sorts each customer's offers by expected margin."""

    def __init__(self, offers: tuple[Offer, ...], k: int) -> None:
        super().__init__("offers")
        self.offers = offers
        self.k = k

    async def preprocess(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        instances = payload["instances"]
        return {
            "customer_ids": [instance["customer_id"] for instance in instances],
            "instances": [
                {**instance["customer"], **instance["context"], **offer.attributes}
                for instance in instances
                for offer in self.offers
            ],
        }

    async def predict(
        self, payload: dict[str, Any], headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> dict[str, Any]:
        answer = await super().predict({"instances": payload["instances"]}, headers, response_headers)
        return {"customer_ids": payload["customer_ids"], "predictions": answer["predictions"]}

    async def postprocess(
        self, result: dict[str, Any], headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> dict[str, Any]:
        predictions, n_offers = result["predictions"], len(self.offers)
        return {
            "predictions": [
                {"customer_id": customer_id, "offers": self._ranked(predictions[row * n_offers : (row + 1) * n_offers])}
                for row, customer_id in enumerate(result["customer_ids"])
            ]
        }

    def _ranked(self, propensities: list[float]) -> list[dict[str, Any]]:
        offers = [
            {"offer_id": offer.id, "propensity": propensity, "score": propensity * offer.weight * offer.value}
            for offer, propensity in zip(self.offers, propensities, strict=True)
        ]
        return sorted(offers, key=lambda offer: offer["score"], reverse=True)[: self.k]


class Predictor(Model):
    """A DataFrame of the instances, and the pipeline's probability of acceptance for each."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__("offers")
        self.pipeline = pipeline

    def predict(
        self, payload: dict[str, Any], headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> dict[str, Any]:
        frame = pd.DataFrame(payload["instances"])
        return {"predictions": self.pipeline.predict_proba(frame)[:, 1].tolist()}


def fit(contract: Contract, rows: pd.DataFrame, library: str) -> Pipeline:
    """Fit as many trees of the same depth, on the same rows, as the bundle's model has."""
    words = [column.name for column in contract.inputs if column.type == "category"]
    numbers = [column.name for column in contract.inputs if column.type != "category"]
    columns = ColumnTransformer(
        [
            ("words", OneHotEncoder(handle_unknown="ignore", sparse_output=False), words),
            ("numbers", "passthrough", numbers),
        ]
    )
    newest = rows.tail(contract.model.newest_rows or len(rows))
    pipeline = make_pipeline(columns, TREES[library](contract.model))
    return pipeline.fit(newest[words + numbers], newest[contract.target.column])


def _xgboost(model: ModelSettings) -> XGBClassifier:
    return XGBClassifier(
        n_estimators=model.trees,
        max_depth=model.depth,
        learning_rate=model.learning_rate,
        subsample=model.row_share,
        colsample_bytree=model.column_share,
    )


def _scikit_learn(model: ModelSettings) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=model.trees,
        max_depth=model.depth,
        learning_rate=model.learning_rate,
        max_features=model.column_share,
        early_stopping=False,
    )


TREES = {"xgboost": _xgboost, "scikit-learn": _scikit_learn}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.stock", description=__doc__)
    parser.add_argument("--contract", help="name of a shipped contract, which is that of its catalogue too")
    parser.add_argument("--rows", type=Path, help="Parquet file to fit on, for the predictor")
    parser.add_argument("--trees", choices=TREES, help="library that grows them, for the predictor")
    parser.add_argument("--predictor_host", help="host and port of the predictor's REST, for the transformer")
    arguments, _ = parser.parse_known_args()
    contract = contracts.load(arguments.contract)
    if arguments.rows is not None:
        serve(Predictor(fit(contract, pd.read_parquet(arguments.rows), arguments.trees)))
        return
    catalogue = catalogues.load(arguments.contract, contract)
    serve(Transformer(catalogue.offers, catalogue.policy.k), PredictorConfig(arguments.predictor_host))


if __name__ == "__main__":
    main()
