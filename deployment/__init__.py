"""What knows an InferenceService: how a bundle is put on a cluster, proved there and taken back."""
