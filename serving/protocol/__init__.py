"""KServe's protocols over REST and gRPC."""
