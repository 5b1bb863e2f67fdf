"""Kubeflow pipelines, and how they are compiled and run."""
