"""The training pipeline of a market: from its tables to a bundle of towers and ranker, and to users online."""

from kfp import dsl

from components import market as steps
from pipelines.placement import CONFIG, placed, registering, with_source_secrets


@dsl.pipeline(
    name="offers-market-training",
    description="From a market's tables to a bundle that recommends.",
    pipeline_config=CONFIG,
)
def market_training(market: str, source: str, seed: int = 0, publish: str = "", online: str = "") -> str:
    """Join features, fit towers and ranker, judge them, package them, and put the users online where a store is named.

    Where the gate refuses the towers, the ranker scores all products. The bundle becomes a release where the cluster
    has a key for the ledger, unless its ranker foretells less than the mean rate does.

    Parameters
    ----------
    market : name of a shipped market, or the text of one
    source : directory or s3:// URI of the tables; simulated, or simulated:SEED, of which the truth is shown, too
    seed : of everything random
    publish : directory or s3:// URI below which the bundle is stored under its name
    online : of the online store that gets the users; a password stands as ${file:/run/secrets/offers/KEY}

    Returns
    -------
    str
        the bundle's name
    """
    tables = placed(steps.ingest(market=market, source=source)).outputs["tables"]
    views = placed(steps.features(market=market, tables=tables), memory="4Gi").outputs["views"]
    towers = placed(steps.towers(market=market, views=views, seed=seed), minutes=120).outputs["model"]
    ranker = placed(steps.ranker(market=market, views=views, candidates=towers, seed=seed), memory="4Gi")
    evaluation = placed(
        steps.evaluate(
            market=market,
            tables=tables,
            views=views,
            candidates=towers,
            model=ranker.outputs["model"],
            seed=seed,
        ),
        memory="4Gi",
    ).outputs["evaluation"]
    verdict = placed(steps.gate(market=market, evaluation=evaluation)).outputs["verdict"]
    bundle = registering(
        placed(
            steps.package(
                market=market, views=views, evaluation=evaluation, verdict=verdict, publish=publish, seed=seed
            ),
            memory="4Gi",
            minutes=180,
        )
    )
    with dsl.If(online != "", name="online"):
        with_source_secrets(placed(steps.load(market=market, tables=tables, online=online), memory="4Gi"))
    return bundle.outputs["Output"]
