"""The component that scores customers with Spark."""

from components.training import step


@step
def score(orders: list[str], master: str, namespace: str, image: str, seconds: int) -> list[int]:
    """Score the plan's order with Spark, and count its customers."""
    from deployment import spark_scoring
    from offers.settings import Settings
    from offers.steps.execution import execute, say

    return execute(spark_scoring.score_on_spark, orders, master, namespace, image, seconds, Settings.from_env(), say)
