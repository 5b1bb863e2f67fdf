"""KServe's names that the services use. It parses sys.argv when it is imported: only here, and with ours hidden."""

import sys

_arguments, sys.argv = sys.argv, sys.argv[:1]
try:
    from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelRepository
    from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady, ServerNotReady
    from kserve.model import InferenceVerb
    from kserve.predictor_config import PredictorConfig
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import (
        GRPCInferenceServiceStub,
        add_GRPCInferenceServiceServicer_to_server,
    )
    from kserve.protocol.grpc.servicer import InferenceServicer
    from kserve.protocol.infer_type import RequestedOutput, deserialize_bytes_tensor
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
finally:
    sys.argv = _arguments

MESSAGE_LIMIT = 8 * 2**20
"""Bytes in one request, by either protocol; KServe has the same limit for gRPC, and none for REST."""

__all__ = [
    "MESSAGE_LIMIT",
    "DataPlane",
    "GRPCInferenceServiceStub",
    "InferInput",
    "InferOutput",
    "InferRequest",
    "InferResponse",
    "InferenceServicer",
    "InferenceVerb",
    "InvalidInput",
    "Model",
    "ModelNotFound",
    "ModelNotReady",
    "ModelRepository",
    "ModelRepositoryExtension",
    "PredictorConfig",
    "RequestedOutput",
    "ServerNotReady",
    "add_GRPCInferenceServiceServicer_to_server",
    "deserialize_bytes_tensor",
    "messages",
]
