"""One training as MLflow gets it: parameters, figures with intervals, and the origin of its rows and code."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from offers.bundle.manifest import Manifest
from offers.evaluation.figures import Evaluation, Figure
from offers.retrieval.figures import MarketEvaluation
from offers.retrieval.manifest import MarketManifest

PAGES = ("model-card.md", "metrics.json", "gate.json")


@dataclass(frozen=True)
class Measure:
    """One value of a series; `step` is the number of the window, 0 for a value over all windows."""

    name: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class Training:
    """A run as MLflow shows it."""

    parameters: dict[str, str]
    measures: tuple[Measure, ...]
    tags: dict[str, str]
    pages: tuple[Path, ...]


def read(bundle: Path) -> Training:
    """Read a bundle's records of its training; the model itself is not read."""
    if (bundle / "market.yaml").exists():
        return _of_market(bundle)
    manifest = Manifest.model_validate_json((bundle / "manifest.json").read_bytes())
    evaluation = Evaluation.model_validate_json((bundle / "metrics.json").read_bytes())
    parameters = manifest.parameters.model.model_dump() | {
        "seed": manifest.parameters.seed,
        "trials": manifest.parameters.trials,
    }
    data = manifest.data
    tags = {
        "mlflow.source.git.commit": manifest.git_commit,
        "offers.data.fingerprint": data.fingerprint,
        "offers.data.origin": data.origin,
        "offers.data.rows": str(data.rows),
        "offers.data.period": f"{data.first_period} to {data.last_period}",
    }
    # Kubeflow's own run has the pipeline's parameters under their plain names, and MLflow lets no parameter change.
    entries = {f"training.{name}": str(value) for name, value in parameters.items()}
    return Training(entries, tuple(_measures(evaluation)), tags, tuple(bundle / page for page in PAGES))


def _of_market(bundle: Path) -> Training:
    manifest = MarketManifest.model_validate_json((bundle / "manifest.json").read_bytes())
    evaluation = MarketEvaluation.model_validate_json((bundle / "evaluation.json").read_bytes())
    data, ranker = manifest.data, evaluation.ranker
    tags = {
        "mlflow.source.git.commit": manifest.git_commit,
        "offers.data.fingerprint": data.fingerprint,
        "offers.data.origin": data.origin,
        "offers.data.rows": str(data.rows),
        "offers.data.period": f"{data.first} to {data.last}",
    }
    measures = [Measure("ranker/log_loss", ranker.log_loss), Measure("ranker/ece", ranker.ece)]
    for method in evaluation.methods:
        for metric, figure in method.figures.items():
            # MLflow takes no @ in a name.
            measures += _with_interval(f"{method.name}/{metric.replace('@', ' at ')}", figure, 0)
    entries = {"training.seed": str(manifest.seed), "training.retrieval": manifest.retrieval}
    return Training(entries, tuple(measures), tags, (bundle / "evaluation.json", bundle / "market.yaml"))


def _measures(evaluation: Evaluation) -> Iterator[Measure]:
    for metric, figure in evaluation.model.figures.items():
        yield from _with_interval(metric, figure, 0)
    for step, window in enumerate(evaluation.windows):
        for metric, figure in window.model.figures.items():
            yield from _with_interval(f"window/{metric}", figure, step)


def _with_interval(name: str, figure: Figure, step: int) -> Iterator[Measure]:
    yield Measure(name, figure.value, step)
    if figure.low is not None and figure.high is not None:
        yield Measure(f"{name}.low", figure.low, step)
        yield Measure(f"{name}.high", figure.high, step)
