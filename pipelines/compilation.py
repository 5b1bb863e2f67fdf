"""Compile a pipeline to the YAML that Kubeflow and the local runner read."""

from pathlib import Path

from kfp.compiler import Compiler

from pipelines.monitoring import monitoring
from pipelines.recalibration import recalibration
from pipelines.training import training

PIPELINES = {"training": training, "recalibration": recalibration, "monitoring": monitoring}


def compile_pipeline(name: str, path: Path) -> Path:
    """Write the compiled pipeline `name` to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(PIPELINES[name], str(path))
    return path
