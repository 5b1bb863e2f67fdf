"""Everything about the InferenceService: bundles are rolled out on a cluster, checked and rolled back."""
