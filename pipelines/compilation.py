"""Compiles a pipeline to the YAML that Kubeflow and the local runner read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp.compiler import Compiler

from components.training import IMAGE
from offers.errors import ServiceError
from pipelines.market import market_training
from pipelines.monitoring import monitoring
from pipelines.scoring import score
from pipelines.spark_scoring import score_spark
from pipelines.training import training
from pipelines.update import update

PIPELINES = {
    "training": training,
    "update": update,
    "monitoring": monitoring,
    "score": score,
    "market-training": market_training,
    "score-spark": score_spark,
}


def compile_pipeline(name: str, path: Path, image: str = "") -> Path:
    """Write the compiled pipeline `name` to `path`.

    Parameters
    ----------
    image : image of the steps, where it is not that of OFFERS_PIPELINE_IMAGE
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(PIPELINES[name], str(path))
    if image:
        path.write_text(path.read_text("utf-8").replace(f"image: {IMAGE}\n", f"image: {image}\n"), "utf-8")
    return path


def arguments_of(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Choose a pipeline's arguments among options; an empty option is left to the pipeline's default.

    Raises
    ------
    ServiceError
        there is no such pipeline, it has no argument of an option's name, or a required argument is missing
    """
    if name not in PIPELINES:
        raise ServiceError(f"pipeline {name!r}: expected one of {', '.join(PIPELINES)}")
    inputs = PIPELINES[name].component_spec.inputs
    arguments = {key: value for key, value in options.items() if value not in ("", 0, None)}
    if strange := sorted(arguments.keys() - inputs.keys()):
        raise ServiceError(f"pipeline {name!r} takes no {', '.join(strange)}: it takes {', '.join(inputs)}")
    if missing := [key for key, spec in inputs.items() if not spec.optional and key not in arguments]:
        raise ServiceError(f"pipeline {name!r} needs {', '.join(missing)}: it takes {', '.join(inputs)}")
    return {key: _typed(name, key, inputs[key].type, value) for key, value in arguments.items()}


def _typed(pipeline: str, key: str, kind: str, value: Any) -> Any:
    """Convert an argument to the type of its input, since Kubeflow refuses a wrong type only when the run begins."""
    if not isinstance(value, str) or kind == "String":
        return value
    if kind == "Boolean" and value in ("true", "false"):
        return value == "true"
    if kind == "Integer" and value.isdecimal():
        return int(value)
    raise ServiceError(f"argument {key} of pipeline {pipeline!r}: expected {kind}, got {value!r}")
