"""Between the protocols and the models: which model is meant, whether it is ready, what it is."""

from importlib.metadata import version
from typing import Any

from offers.wording import shown
from serving.process.edge import BODY_SECONDS, Bodies
from serving.protocol.kserve import MESSAGE_LIMIT, DataPlane, Model, ModelNotFound, ModelNotReady, ModelRepository


class ServicePlane(DataPlane):
    """KServe's data plane, with versions, and a readiness that follows the models'.

    KServe's own says ready whatever the models say, loads a model that is not ready when it is asked for,
    and knows no versions.

    Parameters
    ----------
    models : those that are served
    body_seconds : for the whole body of a request to arrive
    """

    def __init__(self, models: list[Model], body_seconds: float = BODY_SECONDS) -> None:
        registry = ModelRepository()
        for model in models:
            registry.update(model)
        super().__init__(registry)
        self.bodies = Bodies(MESSAGE_LIMIT, body_seconds)
        self.draining = False

    def drain(self) -> None:
        """Turn unready, and wait no longer for bodies that do not arrive."""
        self.draining = True
        self.bodies.hurry()

    def metadata(self) -> dict[str, Any]:
        return {"name": "offers", "version": version("offers"), "extensions": ["binary_tensor_data"]}

    async def ready(self) -> bool:
        """Whether every model is ready, and the service is not shutting down."""
        models = self.model_registry.get_models().values()
        return not self.draining and all([await model.healthy() for model in models])

    @property
    def degraded(self) -> str:
        """Why a ready model answers otherwise than it should; empty where all is well."""
        return "; ".join(filter(None, (getattr(m, "degraded", "") for m in self.model_registry.get_models().values())))

    async def model_ready(self, model_name: str, disable_predictor_health_check: bool = False) -> bool:
        return bool(await self.get_model_from_registry(model_name).healthy())

    def get_model_from_registry(self, name: str) -> Model:
        model = self.model_registry.get_model(name)
        if model is None:
            raise ModelNotFound(shown(name))
        return model

    async def get_model(self, name: str) -> Model:
        model = self.get_model_from_registry(name)
        if not model.ready:
            raise ModelNotReady(name)
        return model

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        model = self.get_model_from_registry(model_name)
        described: dict[str, Any] = await super().model_metadata(model_name)
        return described | {"versions": [model.version], "platform": model.platform}

    def check_version(self, model_name: str, version: str) -> None:
        """Refuse a request for a version that is not the one served; an empty one means whichever is."""
        current_version = self.get_model_from_registry(model_name).version
        if version not in ("", current_version):
            raise ModelNotFound(f"{shown(model_name)}, version {shown(version)} (here is version {current_version!r}),")
