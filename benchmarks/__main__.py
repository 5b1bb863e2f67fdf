"""Speed and memory beside their floors: `make bench`, or one part of it by `python -m benchmarks serving`."""

import argparse
import tempfile
from importlib import import_module
from pathlib import Path

from benchmarks.material import Material

PARTS = (
    "imports",
    "training",
    "layer",
    "calibration",
    "drift",
    "serving",
    "log",
    "looks",
    "away",
    "governance",
    "memory",
    "batch",
    "spark",
    "recommend",
    "market",
    "images",
)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("part", nargs="?", choices=PARTS, help="all parts by default")
    part = parser.parse_args().part
    with tempfile.TemporaryDirectory() as scratch:
        material = Material(Path(scratch))
        for name in [part] if part else PARTS:
            import_module(f"benchmarks.{name}").main(material)


if __name__ == "__main__":
    main()
