"""The images part of `make bench`: how large they are, and how long a pod takes until it answers."""

import statistics
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.material import Material, console, table
from offers.bundle import bundle as bundles
from offers.governance.release import make
from offers.policy import catalogue as catalogues
from tests.support.containers import MOST_MEGABYTES, built, described, engine_answers, pod
from tests.support.sidecar import until

ROUNDS = 5


def main(material: Material) -> None:
    if not engine_answers():
        console.print("[bold yellow]NO CONTAINER ENGINE ANSWERS: images are not measured[/bold yellow]\n")
        return
    images = built()
    figures = table("The images, uncompressed", "image", "MB", "to reach, MB")
    for name, image in images.items():
        figures.add_row(name, f"{described(image)['Size'] / 1e6:.0f}", f"<= {MOST_MEGABYTES[name]}")
    console.print(figures)
    seconds = [_until_ready(images, material.bundle) for _ in range(ROUNDS)]
    spread = f"median of {ROUNDS}, {min(seconds):.1f} to {max(seconds):.1f}"
    console.print(
        "Predictor, drift sidecar, shipper and ranker, started one after another from images that are there: the pod "
        f"is ready after {statistics.median(seconds):.1f} s ({spread}); to reach: <= 20 s\n"
    )


def _until_ready(images: dict[str, str], bundle: Path) -> float:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        release = make(Path(directory, "releases"), bundle, catalogues.text(bundles.load(bundle).contract.name))
        started = time.perf_counter()
        with pod(images, release.path, Path(directory)) as running:
            ready = f"{running.url(8080)}/v2/health/ready"
            until(lambda: httpx.get(ready).status_code, lambda status: status == 200)
            return time.perf_counter() - started
