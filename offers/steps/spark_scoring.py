"""The program that scores customers with Spark: `python -m offers.steps.spark_scoring ORDER [MASTER]`.

It runs in an environment that holds Spark, whose pieces this process starts.
"""

import sys

from offers.settings import Settings
from offers.steps import champion
from offers.wording import Say


def score(text: str, master: str, settings: Settings, say: Say = print) -> int:
    """Score the customers of an order with Spark.

    Parameters
    ----------
    text : the order, as JSON
    master : such as local[2]; empty for the one that spark-submit names

    Returns
    -------
    int
        the number of customers
    """
    from offers.batch import spark
    from offers.batch.order import Order

    order = champion.fetched(Order.model_validate_json(text), settings)
    engine = spark.session(master)
    try:
        customers, state = spark.read_customers(engine, order, settings)
        summary = spark.score(customers, order, state, settings, say)
    finally:
        engine.stop()
    people = f"{summary.customers} customers ({summary.earlier} of them by an earlier run)"
    say(f"{people}, {summary.parts} parts in {order.output}")
    return summary.customers


if __name__ == "__main__":
    from offers.steps.execution import execute
    from offers.steps.execution import say as step_say

    execute(score, sys.argv[1], "".join(sys.argv[2:]), Settings.from_env(), step_say)
