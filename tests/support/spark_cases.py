"""Orders for Spark, one after the other in one session: prints for each what it said, or the mistake, as JSON lines.

It runs in the environment of Spark: `python tests/support/spark_cases.py ORDER ...`. A DIRECTORY in place of an order
loses its first part and its marks, as if its run had been killed.
"""

import json
import sys
from pathlib import Path

from offers.batch import spark
from offers.batch.order import Order
from offers.errors import OffersError
from offers.settings import Settings


def main() -> None:
    engine, settings = spark.session("local[2]"), Settings.from_env()
    for text in sys.argv[1:]:
        if text.startswith("/"):
            for path in (*Path(text).glob("complete-*"), min(Path(text).glob("part-*.parquet"))):
                path.unlink()
            continue
        order = Order.model_validate_json(text)
        try:
            customers, state = spark.read_customers(engine, order, settings)
            summary = spark.score(customers, order, state, settings, lambda _: None)
            print(json.dumps([summary.customers, summary.earlier, summary.parts]), flush=True)
        except OffersError as error:
            print(json.dumps(f"{type(error).__name__}: {error}"), flush=True)
    engine.stop()


if __name__ == "__main__":
    main()
