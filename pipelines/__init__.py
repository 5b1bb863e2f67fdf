"""Kubeflow pipelines: their definitions, and how they are compiled, run and followed."""
