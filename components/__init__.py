"""Kubeflow components: each imports one function of offers, calls it, and logs what the UI shows."""
