"""The scoring pipeline with Spark as its engine: every customer of a table, and a report on the result."""

import os

from kfp import dsl

from components import scoring as steps
from components import spark
from components.training import IMAGE
from pipelines.placement import CONFIG, placed, with_source_secrets

SPARK_IMAGE = os.environ.get("OFFERS_SPARK_IMAGE", IMAGE.replace("offers-pipeline-python", "offers-spark"))
MINUTES = 240


@dsl.pipeline(
    name="offers-score-spark",
    description="Scores every customer of a table with one bundle and one catalogue, on Spark.",
    pipeline_config=CONFIG,
)
def score_spark(
    bundle: str,
    customers: str,
    output: str,
    catalogue: str = "",
    options: str = "",
    master: str = "",
    namespace: str = "offers-spark",
    image: str = SPARK_IMAGE,
) -> None:
    """Plan, score with Spark, and summarise the table.

    A run that was lost goes on where it was if it is started again with the same arguments.

    Parameters
    ----------
    bundle, customers, output, catalogue, options : as the pipeline `score` takes them; customers are a Delta table, or
        Parquet files that Spark reaches
    master : Spark's master, such as local[2], where the step itself starts Spark; by default Kubeflow's Spark operator
        runs a SparkApplication
    namespace : of that SparkApplication
    image : of its driver and executors
    """
    orders = with_source_secrets(
        placed(
            steps.plan(
                bundle=bundle, customers=customers, output=output, catalogue=catalogue, shards=1, options=options
            )
        )
    )
    done = placed(
        spark.score(orders=orders.output, master=master, namespace=namespace, image=image, seconds=(MINUTES - 5) * 60),
        minutes=MINUTES,
    )
    placed(steps.summarise(orders=orders.output, customers=done.output))
