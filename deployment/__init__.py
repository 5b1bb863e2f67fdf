"""Everything about the InferenceService: how a bundle is rolled out on a cluster, checked and taken back."""
